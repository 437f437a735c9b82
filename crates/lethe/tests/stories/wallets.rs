//! Keys that come from elsewhere: what they take the place of stays in the accounts.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chain::{DEVELOPMENT_ACCOUNTS, EvmLedger};
use market::{Amount, Ledger};
use serde_json::Value;

use crate::exits::{account, folder, held, told};
use crate::process::{Client, ended, lethe};
use crate::town::{MODEL, Town};

const MOR: u128 = 1_000_000_000_000_000_000;

/// The file of a key that is none of the folder's own.
fn foreign(town: &Town, number: usize) -> PathBuf {
    let file = town.folder().join(format!("foreign-{number}"));
    let secret = DEVELOPMENT_ACCOUNTS[number].secret;
    private(&file, &alloy_primitives::hex::encode(secret));
    file
}

/// Writes a file that nobody else may read.
fn private(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// Who has all MOR.
async fn treasury(town: &Town) -> EvmLedger {
    let key = Arc::new(DEVELOPMENT_ACCOUNTS[0].wallet());
    let journal = Arc::new(chain::MemoryJournal::default());
    let network = chain::Network::local();
    let ledger = EvmLedger::connect(&town.rpc_url(), network, key, journal).await;
    ledger.unwrap()
}

/// Whether a command on a folder succeeds, and what it says.
fn said(data: &Path, args: &[&str]) -> (bool, String) {
    let output = ended(data, args);
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

fn public(shown: &Value, name: &str) -> String {
    let keys = shown["keys"].as_array().unwrap();
    let key = keys.iter().find(|key| key["name"] == name).unwrap();
    key["public"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_that_another_key_takes_the_place_of_stays_in_the_accounts() {
    let town = Town::start_embedded().await;
    let data = folder(&town, "buyer");
    let (owner, home) = (DEVELOPMENT_ACCOUNTS[2].address, DEVELOPMENT_ACCOUNTS[3]);
    let rpc = town.rpc_url();
    let at = ["--rpc-url", &rpc];
    assert!(said(&data, &["wallet", "new"]).0);
    let (shown, _) = told(&ended(&data, &["wallet", "show", "--json"]));
    let former = public(&shown, "payer");
    assert_eq!(shown["back_up"]["files"], Value::Array(vec![]), "{shown}");
    let giver = treasury(&town).await;
    let given = Amount::new(7 * MOR);
    let account = former.parse().unwrap();
    giver.transfer(giver.mor(), account, given).await.unwrap();
    giver
        .transfer_coins(account, Amount::new(MOR))
        .await
        .unwrap();

    // Not by the way: both are named.
    let file = foreign(&town, 2);
    let import = ["wallet", "import", file.to_str().unwrap()];
    let (done, text) = said(&data, &import);
    assert!(!done, "{text}");
    for word in [
        former.as_str(),
        &owner.to_string(),
        "--replace",
        "--data DIR",
    ] {
        assert!(text.contains(word), "no {word:?} in {text}");
    }
    let (done, text) = said(&data, &[&import[..], &["--replace"]].concat());
    assert!(
        done && text.contains("No words bring this key back"),
        "{text}"
    );
    assert!(text.contains("former-payer"), "{text}");
    let (done, text) = said(&data, &import);
    assert!(done && text.contains("already"), "{text}");

    // What has to be kept, and where each key comes from.
    let (shown, _) = told(&ended(&data, &["wallet", "show", "--json"]));
    assert_eq!(public(&shown, "former-payer"), former);
    assert_eq!(public(&shown, "payer"), owner.to_string());
    let files = shown["back_up"]["files"].as_array().unwrap();
    assert!(
        files.len() == 1 && files[0].as_str().unwrap().ends_with("keys/payer.key"),
        "{shown}"
    );
    let (_, text) = said(&data, &["wallet", "show"]);
    assert!(text.contains("Two things to keep elsewhere"), "{text}");

    // Nobody has started anything here, and all of it is told.
    let (money, _) = told(&ended(&data, &[&["where", "--json"], &at[..]].concat()));
    assert_eq!(held(&money, "account former-payer"), 7 * MOR, "{money}");
    let (left, code) = told(&ended(&data, &[&["exit", "--json"], &at[..]].concat()));
    assert_eq!((code, &left["done"]), (0, &Value::Bool(true)), "{left}");
    assert!(left["returned"].to_string().contains(&former), "{left}");
    let to = home.address.to_string();
    let before = giver.balance(giver.mor(), home.address).await.unwrap();
    let (left, code) = told(&ended(
        &data,
        &[&["exit", "--json", "--to", &to], &at[..]].concat(),
    ));
    assert_eq!(code, 0, "{left}");
    let after = giver.balance(giver.mor(), home.address).await.unwrap();
    assert_eq!(after.less(before), given, "{left}");
    // Now there are books, which hang on the wallet.
    let other = foreign(&town, 4);
    let import = ["wallet", "import", other.to_str().unwrap(), "--replace"];
    let (done, text) = said(&data, &import);
    assert!(!done && text.contains("the books in"), "{text}");
}

/// A folder whose books speak of another account than its keys: while a node runs, and without.
#[tokio::test(flavor = "multi_thread")]
async fn a_running_node_tells_of_accounts_that_it_does_not_use() {
    let town = Town::start().await;
    let data = folder(&town, "consumer");
    let file = foreign(&town, 2);
    assert!(said(&data, &["wallet", "new"]).0);
    let (shown, _) = told(&ended(&data, &["wallet", "show", "--json"]));
    let former = public(&shown, "payer").parse().unwrap();
    let import = ["wallet", "import", file.to_str().unwrap(), "--replace"];
    assert!(said(&data, &import).0);
    let giver = treasury(&town).await;
    let given = Amount::new(3 * MOR);
    giver.transfer(giver.mor(), former, given).await.unwrap();
    let _selling = town.provider();
    let buying = town.consumer();
    assert_eq!(account(&buying, "payer"), DEVELOPMENT_ACCOUNTS[2].address);
    let client = Client::of(&buying);
    client.answered(MODEL, "3").await;
    let state = client.api("GET", "/api/state").await;
    assert_eq!(state["kept"]["words"], true, "{state}");
    assert!(
        state["kept"]["file"]
            .as_str()
            .unwrap()
            .ends_with("payer.key")
    );
    let (money, _) = told(&ended(&data, &["where", "--json"]));
    assert_eq!(held(&money, "account former-payer"), 3 * MOR, "{money}");
    buying.stop();
    let (money, _) = told(&ended(&data, &["where", "--json"]));
    assert_eq!(held(&money, "account former-payer"), 3 * MOR, "{money}");
    // Books that are lost leave no money out without a word.
    for file in std::fs::read_dir(&data).unwrap() {
        let path = file.unwrap().path();
        if path
            .file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with("consumer.sqlite")
        {
            std::fs::remove_file(path).unwrap();
        }
    }
    let (money, _) = told(&ended(&data, &["where", "--json"]));
    assert!(held(&money, "your wallet") > 0, "{money}");
    assert!(
        money["warnings"]
            .to_string()
            .contains("lethe wallet restore"),
        "{money}"
    );
}

/// A file's name alone is one in the folder where one is.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_goes_into_a_file_here_and_is_not_noted_as_used() {
    let here = tempfile::tempdir().unwrap();
    let data = here.path().join("data");
    assert!(said(&data, &["wallet", "new"]).0);
    private(&here.path().join("pass"), "a passphrase of some length\n");
    let args = [
        "wallet",
        "export",
        "payer-7",
        "--passphrase-file",
        "pass",
        "--out",
        "key.json",
    ];
    let mut command = lethe(&data, &args);
    let output = command.current_dir(here.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{output:?}");
    assert!(text.contains("has not been used here"), "{text}");
    assert!(here.path().join("key.json").exists());
    let (shown, _) = told(&ended(&data, &["wallet", "show", "--json"]));
    assert!(!shown["keys"].to_string().contains("payer-7"), "{shown}");
}
