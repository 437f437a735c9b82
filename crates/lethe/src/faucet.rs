//! The demonstration's faucet: coins, MOR and dollars for an account of one's own, out
//! of the treasury. It is there where the chain is thrown away and nowhere
//! else: its money is worth nothing, and so is the treasury's published key.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use chain::{Endpoints, Network};
use market::{Address, Amount, LedgerError, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tracing::warn;

use crate::cli;
use crate::client::{Client, ClientError, json};
use crate::clock;
use crate::doorkeeper::{guarded, refuse};
use crate::keystore::write_private;
use crate::output;
use crate::place::{Place, PlaceError, Treasury};
use crate::policies::MOR_DECIMALS;

const ONE: u128 = 1_000_000_000_000_000_000;
/// Coins of one gift: enough gas for thousands of transactions.
const COINS: Amount = Amount::new(ONE);
/// MOR of one gift: what the demonstration's own consumer begins with.
const MOR: Amount = Amount::new(100 * ONE);
/// Development dollars of one gift.
const USD: Amount = Amount::new(100 * 1_000_000);
/// An account gets one gift in this time.
const EVERY: Duration = Duration::from_secs(3600);
/// Gifts to all accounts in that time.
const GIFTS_MAX: usize = 50;
/// Who had one, beside the chain's own files: where the chain is begun anew it is gone, too.
const FILE: &str = "chain/faucet.json";

/// Why nothing is given.
#[derive(Debug, thiserror::Error)]
enum FaucetError {
    #[error("address: {0:?} is none (allowed: 0x and 40 hexadecimal digits, not all of them 0)")]
    Address(String),
    #[error("{address} had its demo money; it gets more in {} min", minutes(.wait))]
    Again { address: Address, wait: Duration },
    #[error("{GIFTS_MAX} gifts were given within an hour; the next one can be had in {} min", minutes(.wait))]
    Empty { wait: Duration },
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error("the chain did not take the gift")]
    Ledger(#[from] LedgerError),
}

/// What a gift is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Gift {
    /// In wei.
    coins: Amount,
    /// In base units.
    mor: Amount,
    /// Of the chain's dollar, in base units.
    usd: Amount,
    /// An account gets one in so many seconds.
    every_s: u64,
}

impl Gift {
    /// What is given now.
    pub(crate) fn usual() -> Self {
        Self {
            coins: COINS,
            mor: MOR,
            usd: USD,
            every_s: EVERY.as_secs(),
        }
    }
}

/// Who got something when, as far as it matters.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Given(VecDeque<(Timestamp, Address)>);

impl Given {
    /// What an earlier start left there. A file that is not to be read gives away no secret
    /// and no money that is worth something: it counts as none.
    fn read(path: &Path) -> Self {
        let text = std::fs::read(path).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// For the next start.
    fn write(&self, path: &Path) {
        let text = serde_json::to_vec(self).expect("it has no keys at all");
        if let Err(error) = write_private(path, &text) {
            warn!(%error, "who had demo money is not kept: a restart forgets it");
        }
    }

    /// Notes a gift, if there may be one.
    fn note(&mut self, address: Address, now: Timestamp) -> Result<(), FaucetError> {
        let age = |at: Timestamp| Duration::from_secs(now.since_s(at));
        while self.0.front().is_some_and(|(at, _)| age(*at) >= EVERY) {
            self.0.pop_front();
        }
        if let Some((at, _)) = self.0.iter().find(|(_, to)| *to == address) {
            let wait = EVERY.saturating_sub(age(*at));
            return Err(FaucetError::Again { address, wait });
        }
        if let Some((oldest, _)) = self.0.front().filter(|_| self.0.len() >= GIFTS_MAX) {
            let wait = EVERY.saturating_sub(age(*oldest));
            return Err(FaucetError::Empty { wait });
        }
        self.0.push_back((now, address));
        Ok(())
    }

    /// It came to nothing.
    fn forget(&mut self, address: Address) {
        self.0.retain(|(_, to)| *to != address);
    }
}

fn minutes(wait: &Duration) -> u64 {
    wait.as_secs().div_ceil(60).max(1)
}

/// See the module's text.
pub(crate) struct Faucet {
    endpoints: Endpoints,
    network: Network,
    path: PathBuf,
    /// Held while money is on its way: the treasury's transactions go one after the other.
    given: Mutex<Given>,
}

impl Faucet {
    /// None where money may be worth something.
    pub(crate) fn of(place: &Place) -> Option<Arc<Self>> {
        place.network.is_local().then(|| {
            let path = place.folder.join(FILE);
            Arc::new(Self {
                endpoints: place.endpoints.clone(),
                network: place.network.clone(),
                given: Mutex::new(Given::read(&path)),
                path,
            })
        })
    }

    /// Its route.
    pub(crate) fn routes(self: &Arc<Self>, key: &str) -> Router {
        guarded([("/api/faucet", post(asked))], key).with_state(Arc::clone(self))
    }

    async fn give(&self, to: Address, now: Timestamp) -> Result<(), FaucetError> {
        let mut given = self.given.lock().await;
        given.note(to, now)?;
        given.write(&self.path);
        let gave = async {
            let treasury = Treasury::of(&self.endpoints, &self.network).await?;
            let tokens = gifts(&self.network);
            let given = treasury.give(to, COINS, &tokens).await;
            given.map_err(FaucetError::from)
        };
        let gave = gave.await;
        if gave.is_err() {
            given.forget(to);
            given.write(&self.path);
        }
        gave
    }
}

/// MOR, and the dollar of a local chain.
fn gifts(network: &Network) -> Vec<(Address, Amount)> {
    let amount = |address| if address == network.mor { MOR } else { USD };
    let tokens = network.tokens.iter();
    tokens
        .map(|token| (token.address, amount(token.address)))
        .collect()
}

#[derive(Debug, Deserialize)]
struct Asked {
    address: String,
}

/// What was given to whom.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    address: Address,
    gift: Gift,
}

async fn asked(State(faucet): State<Arc<Faucet>>, body: Bytes) -> Response {
    let asked: Asked = match serde_json::from_slice(&body) {
        Ok(asked) => asked,
        Err(error) => {
            let message = format!("the body is to be {{\"address\": \"0x…\"}}: {error}");
            return refuse(StatusCode::BAD_REQUEST, &message);
        }
    };
    let gave = match address(&asked.address) {
        Ok(to) => faucet.give(to, clock::now()).await.map(|()| to),
        Err(error) => Err(error),
    };
    match gave {
        Ok(address) => {
            let gift = Gift::usual();
            Json(Told { address, gift }).into_response()
        }
        Err(error) => {
            let status = match error {
                FaucetError::Address(_) => StatusCode::BAD_REQUEST,
                FaucetError::Again { .. } | FaucetError::Empty { .. } => {
                    StatusCode::TOO_MANY_REQUESTS
                }
                FaucetError::Place(_) | FaucetError::Ledger(_) => StatusCode::SERVICE_UNAVAILABLE,
            };
            refuse(status, &error.to_string())
        }
    }
}

fn address(text: &str) -> Result<Address, FaucetError> {
    let parsed = text.trim().parse().ok();
    parsed
        .filter(|address: &Address| !address.is_zero())
        .ok_or_else(|| FaucetError::Address(text.chars().take(64).collect()))
}

/// `lethe faucet`: asks the running demonstration.
pub(crate) async fn faucet(args: cli::Faucet) -> Result<(), ClientError> {
    let client = Client::of(args.data.folder)?;
    let body = serde_json::json!({ "address": args.address });
    let answer = client.post("/api/faucet", &body).await;
    let answer = answer.map_err(|error| match error {
        ClientError::Refused { status: 404, .. } => ClientError::Failed {
            message: "what runs on this data folder has no faucet; `lethe up` has one: name its folder with --data".into(),
        },
        error => error,
    });
    let told: Told = json(answer?).await?;
    match args.json {
        true => output::json(&told),
        false => {
            let Gift {
                coins, mor, usd, ..
            } = told.gift;
            let local = Network::local();
            let each = local
                .tokens
                .iter()
                .map(|token| match token.address == local.mor {
                    true => token.shown(mor),
                    false => token.shown(usd),
                });
            let coins = coins.to_decimal(MOR_DECIMALS);
            let mut given = vec![format!("{coins} ETH")];
            given.extend(each);
            let last = given.pop().unwrap_or_default();
            output::text(format!(
                "{} has {} and {last} more. Demo money of this chain: it is worth nothing.\n",
                told.address,
                given.join(", ")
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(number: usize) -> Address {
        Address::left_padding_from(&(number + 1).to_be_bytes())
    }

    #[test]
    fn an_account_gets_one_gift_an_hour() {
        let mut given = Given::default();
        let at = |seconds: u64| Timestamp(1_700_000_000 + seconds);
        given.note(account(0), at(0)).unwrap();
        given.note(account(1), at(1)).unwrap();
        let refused = given.note(account(0), at(3541)).unwrap_err();
        assert!(refused.to_string().ends_with("more in 1 min"), "{refused}");
        given.note(account(0), at(3600)).unwrap();
        assert!(given.note(account(1), at(3600)).is_err());
        given.forget(account(0));
        given.note(account(0), at(3600)).unwrap();
    }

    #[test]
    fn a_restart_forgets_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("faucet.json");
        let mut given = Given::read(&path);
        given.note(account(0), Timestamp(5)).unwrap();
        given.write(&path);
        let mut after = Given::read(&path);
        assert!(after.note(account(0), Timestamp(6)).is_err());
        after.note(account(1), Timestamp(6)).unwrap();
        std::fs::write(&path, "{").unwrap();
        Given::read(&path).note(account(0), Timestamp(6)).unwrap();
    }

    #[test]
    fn all_accounts_together_get_so_many_an_hour() {
        let (mut given, start) = (Given::default(), Timestamp(1_700_000_000));
        for number in 0..GIFTS_MAX {
            given.note(account(number), start).unwrap();
        }
        let refused = given.note(account(GIFTS_MAX), start).unwrap_err();
        assert!(refused.to_string().ends_with("in 60 min"), "{refused}");
        let later = Timestamp(start.0 + EVERY.as_secs());
        given.note(account(GIFTS_MAX), later).unwrap();
        assert_eq!(given.0.len(), 1);
    }

    #[test]
    fn what_is_no_address_is_told() {
        for text in [
            "",
            "0x12",
            "0x0000000000000000000000000000000000000000",
            "<b>",
        ] {
            let error = address(text).unwrap_err().to_string();
            assert!(error.contains("40 hexadecimal digits"), "{error}");
        }
        assert_eq!(address(&format!(" {} ", account(7))).unwrap(), account(7));
    }
}
