//! The embedded chain with the market's contracts on it. A demonstration: its
//! development keys are published.

use std::net::SocketAddr;
use std::path::Path;

use chain::{DEVELOPMENT_ACCOUNTS, Grant, LOCAL_CHAIN_ID, LocalMarket};
use devchain::{Devchain, Genesis};
use market::{Amount, U256};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock;
use crate::listen::{ListenError, listen};

const ONE: u128 = 1_000_000_000_000_000_000;
/// What each development account has for gas, as on anvil: 10,000 coins.
const COINS: u128 = 10_000 * ONE;
/// MOR that the demonstration's treasury starts with.
const TREASURY: Amount = Amount::new(1_000_000 * ONE);

/// Development dollars that it starts with.
const TREASURY_USD: Amount = Amount::new(1_000_000 * 1_000_000);

/// Why the embedded chain does not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LocalError {
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("the embedded chain cannot be opened")]
    Open(#[from] devchain::OpenError),
    #[error("the embedded chain was interrupted while it was opened")]
    Interrupted,
    #[error("the market's contracts are not on the chain")]
    Deploy(#[from] chain::DeployError),
}

/// Opens the chain in `folder`, serves it, and sees that the contracts are
/// there. Where it is reached. With `cheats` anybody may move its time.
pub(crate) async fn start(
    folder: &Path,
    rpc: SocketAddr,
    cheats: bool,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<String, LocalError> {
    let (listener, bound) = listen(rpc, "--rpc").await?;
    let rpc_url = format!("http://{bound}");
    let data = folder.join("chain");
    let opened = tokio::task::spawn_blocking(move || open(&data, cheats)).await;
    let devchain = opened.map_err(|_| LocalError::Interrupted)??;
    tasks.spawn(devchain::serve(devchain, listener, stop.clone()));
    chain::deploy(&rpc_url, &market()).await?;
    Ok(rpc_url)
}

fn market() -> LocalMarket {
    let account = DEVELOPMENT_ACCOUNTS[0].address;
    let treasury = Grant {
        account,
        mor: TREASURY,
        usd: TREASURY_USD,
    };
    LocalMarket {
        stakes: LocalMarket::STAKES,
        grants: vec![treasury],
    }
}

fn open(data: &Path, cheats: bool) -> Result<Devchain, devchain::OpenError> {
    let bare = Genesis::new(LOCAL_CHAIN_ID);
    let funded = DEVELOPMENT_ACCOUNTS.iter().fold(bare, |genesis, account| {
        genesis.with_balance(account.address, U256::from(COINS))
    });
    let genesis = chain::genesis_code()
        .into_iter()
        .fold(funded, |genesis, (address, code)| {
            genesis.with_code(address, code)
        });
    let data = Some(data.to_owned());
    let options = devchain::Options {
        data,
        block_time: None,
        cheats,
    };
    Devchain::open(&genesis, options, || clock::now().0)
}
