//! Each provider is paid by an account of its own, and none of the money that
//! passes through is lost, whenever the consumer dies.

use std::collections::BTreeSet;
use std::time::Duration;

use market::{Address, Amount, Ledger};

use crate::accounts::{Opened, journal, wallet};
use crate::process::{Client, Running, ended};
use crate::town::{MODEL, Town};

/// Sells only to who cannot have it cheaper.
const DEAR: &str = "0.000000000004";
/// How long the consumer lives after it was asked; the first answer needs about
/// this long for three transactions and a deposit.
const LIVES_MS: [u64; 10] = [5, 15, 25, 40, 60, 80, 110, 150, 200, 260];

async fn opened(town: &Town) -> Vec<Opened> {
    journal(&town.consumer_journal(), "consumer/channels").await
}

fn payer(consumer: &Running) -> Address {
    consumer.said("payer").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_provider_is_paid_by_an_account_of_its_own() {
    let town = Town::start().await;
    let cheap = town.provider();
    let _dear = town.provider_of("dear", &town.backend, DEAR);
    let consumer = town.consumer();
    let client = Client::of(&consumer);
    let wallet = payer(&consumer);
    client.answered(MODEL, "1").await;
    cheap.stop();
    client.answered(MODEL, "1").await;
    consumer.stop();

    let channels = opened(&town).await;
    assert_eq!(channels.len(), 2);
    let mut accounts: BTreeSet<Address> = channels.iter().map(|c| c.config.payer).collect();
    accounts.extend(channels.iter().map(|c| c.config.payer_authorizer));
    accounts.insert(wallet);
    assert_eq!(accounts.len(), 5, "an account or signer serves twice");
    // What providers keep says nothing of the wallet, nor of each other's payer.
    let needle = |address: Address| hex::encode(address);
    for (folder, config) in ["provider", "dear"].iter().zip(&channels) {
        let file = town.folder().join(folder).join("provider.sqlite");
        let kept = [file.clone(), file.with_extension("sqlite-wal")]
            .iter()
            .filter_map(|file| std::fs::read(file).ok())
            .flatten()
            .collect::<Vec<u8>>();
        let kept = String::from_utf8_lossy(&kept).to_ascii_lowercase();
        assert!(kept.contains(&needle(config.config.payer)), "{folder}");
        assert!(!kept.contains(&needle(wallet)), "{folder}");
        for other in channels.iter().filter(|c| c.config != config.config) {
            assert!(!kept.contains(&needle(other.config.payer)), "{folder}");
        }
    }

    // The same accounts go on after a restart.
    let _cheap = town.provider();
    let consumer = town.consumer();
    Client::of(&consumer).answered(MODEL, "1").await;
    consumer.stop();
    assert_eq!(opened(&town).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_killed_while_it_funds_an_account_loses_nothing() {
    let town = Town::start().await;
    let _provider = town.provider();
    let consumer = town.consumer();
    let payer = payer(&consumer);
    let before = wallet(&town, payer).await;
    consumer.stop();
    for lives in LIVES_MS {
        let consumer = town.consumer();
        let client = Client::of(&consumer);
        let asking = client.ask(MODEL, "1");
        let _ = tokio::time::timeout(Duration::from_millis(lives), asking).await;
        consumer.kill();
    }
    let consumer = town.consumer();
    Client::of(&consumer).answered(MODEL, "1").await;
    consumer.stop();

    let channels = opened(&town).await;
    assert_eq!(channels.len(), 1, "a second account for the same provider");
    let ledger = town.ledger().await;
    let config = &channels[0].config;
    let channel = ledger.channel(config.id(&ledger.domain())).await.unwrap();
    let parts = [
        wallet(&town, payer).await,
        wallet(&town, config.payer).await,
        channel.balance,
    ];
    assert_eq!(Amount::sum(parts), Ok(before), "{parts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_without_the_keys_of_its_accounts_does_not_start() {
    let town = Town::start().await;
    let _provider = town.provider();
    let consumer = town.consumer();
    Client::of(&consumer).answered(MODEL, "1").await;
    consumer.stop();

    let folder = town.folder().join("consumer");
    let words = folder.join("keys/mnemonic");
    std::fs::remove_file(&words).unwrap();
    let rpc = town.rpc_url();
    let args = [
        "consume",
        "--direct",
        "--rpc-url",
        &rpc,
        "--http",
        "127.0.0.1:0",
    ];
    let said = || {
        let refused = ended(&folder, &args);
        assert!(!refused.status.success());
        String::from_utf8_lossy(&refused.stderr).into_owned()
    };
    let text = said();
    assert!(text.contains("restore the keys"), "{text}");
    assert!(!words.exists(), "keys were made up for books of others");
    // With the keys of somebody else it does not start either.
    std::fs::remove_file(folder.join("keys/derived")).unwrap();
    let others = "legal winner thank year wave sausage worth useful legal winner thank yellow";
    std::fs::write(&words, others).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&words, mode).unwrap();
    let text = said();
    assert!(text.contains("restore the keys"), "{text}");
}
