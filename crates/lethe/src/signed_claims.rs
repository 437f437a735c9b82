//! The file of signed claims: what a provider leaves with a tower.
//!
//! It holds no key. Whoever has it can bring the claims to the chain, to the
//! provider's good and nobody else's; it shows who pays the provider over
//! which channel, as the chain will. Each row comes with its line of `cast`.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chain::{Call, Network};
use market::{Address, Amount, ChannelId, SignedClaim};
use provider::Provider;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::keystore::write_private;

/// What is earned comes into the file within this time.
const WRITE_PAUSE: Duration = Duration::from_secs(1);
/// The largest file that is read: about 100,000 claims.
const BYTES_MAX: u64 = 256 * 1024 * 1024;
/// The form of the file.
const VERSION: u32 = 1;

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClaimsFileError {
    #[error("the file of signed claims {path:?} cannot be read or written")]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "there is no file of signed claims {path:?}; a provider writes one with `--tower-file FILE`: bring it here"
    )]
    None { path: PathBuf },
    #[error("the file of signed claims {path:?} has {bytes} bytes (at most {BYTES_MAX} are read)")]
    TooLarge { path: PathBuf, bytes: u64 },
    #[error(
        "the file of signed claims {path:?} is not understood; delete it, the provider's `--tower-file` writes it anew"
    )]
    Malformed {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error(
        "the file of signed claims {path:?} has version {version}, this program reads version {VERSION}"
    )]
    Version { path: PathBuf, version: u32 },
    #[error(
        "the file of signed claims {path:?} is for chain {chain_id} and contract {settlement}, not for network {network:?}; \
         give the network of the provider"
    )]
    OtherNetwork {
        path: PathBuf,
        chain_id: u64,
        settlement: Address,
        network: String,
    },
}

#[derive(Debug, Serialize, Deserialize)]
struct Contents {
    version: u32,
    chain_id: u64,
    settlement: Address,
    claims: Vec<Row>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Row {
    #[serde(flatten)]
    signed: SignedClaim,
    /// The same for anybody with a key for gas.
    cast: String,
}

/// Reads it. Rows that do not hold are left out, and said.
pub(crate) fn read(path: &Path, network: &Network) -> Result<Vec<SignedClaim>, ClaimsFileError> {
    let at = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => ClaimsFileError::None {
            path: path.to_owned(),
        },
        _ => ClaimsFileError::File {
            path: path.to_owned(),
            source,
        },
    };
    let bytes = std::fs::metadata(path).map_err(at)?.len();
    if bytes > BYTES_MAX {
        let path = path.to_owned();
        return Err(ClaimsFileError::TooLarge { path, bytes });
    }
    let text = std::fs::read(path).map_err(at)?;
    let contents: Contents =
        serde_json::from_slice(&text).map_err(|source| ClaimsFileError::Malformed {
            path: path.to_owned(),
            source,
        })?;
    let domain = network.domain();
    if contents.version != VERSION {
        let (path, version) = (path.to_owned(), contents.version);
        return Err(ClaimsFileError::Version { path, version });
    }
    if (contents.chain_id, contents.settlement) != (domain.chain_id, domain.settlement) {
        return Err(ClaimsFileError::OtherNetwork {
            path: path.to_owned(),
            chain_id: contents.chain_id,
            settlement: contents.settlement,
            network: network.name.clone(),
        });
    }
    let rows = contents.claims.into_iter().map(|row| row.signed);
    let holds = |signed: &SignedClaim| match signed.verify(&domain) {
        Ok(()) => true,
        Err(error) => {
            let channel = signed.claim.config.id(&domain);
            warn!(%channel, %error, "passed over a claim of the file");
            false
        }
    };
    Ok(rows.filter(holds).collect())
}

/// Keeps the file abreast of what the provider earns.
pub(crate) struct Keeper {
    provider: Arc<Provider>,
    network: Network,
    path: PathBuf,
    rows: BTreeMap<ChannelId, (Amount, Row)>,
}

impl Keeper {
    pub(crate) fn new(provider: Arc<Provider>, network: Network, path: PathBuf) -> Self {
        Self {
            provider,
            network,
            path,
            rows: BTreeMap::new(),
        }
    }

    /// Until `stop`, and once more then.
    pub(crate) async fn keep(mut self, stop: CancellationToken) {
        let mut earnings = self.provider.earnings();
        loop {
            if let Err(error) = self.write() {
                warn!(%error, "the tower's file is not up to date");
            }
            let pause = tokio::time::sleep(WRITE_PAUSE);
            tokio::select! {
                () = stop.cancelled() => break,
                () = pause => {}
            }
            tokio::select! {
                () = stop.cancelled() => break,
                changed = earnings.changed() => if changed.is_err() { break },
            }
        }
        if let Err(error) = self.write() {
            warn!(%error, "the tower's file is not up to date");
        }
    }

    /// Writes it, if something changed.
    fn write(&mut self) -> Result<(), ClaimsFileError> {
        let (mut changed, mut seen) = (!self.path.exists(), Vec::new());
        for till in self.provider.tills() {
            let Some(claim) = till.claim() else { continue };
            seen.push(till.id);
            if self
                .rows
                .get(&till.id)
                .is_some_and(|(total, _)| *total == claim.total)
            {
                continue;
            }
            let Some(signed) = self.provider.sign_claim(&till) else {
                continue;
            };
            let cast = Call::claim_signed(&self.network, &signed).cast();
            self.rows
                .insert(till.id, (claim.total, Row { signed, cast }));
            changed = true;
        }
        let before = self.rows.len();
        self.rows.retain(|id, _| seen.contains(id));
        if !changed && before == self.rows.len() {
            return Ok(());
        }
        let domain = self.network.domain();
        let contents = Contents {
            version: VERSION,
            chain_id: domain.chain_id,
            settlement: domain.settlement,
            claims: self.rows.values().map(|(_, row)| row.clone()).collect(),
        };
        let text = serde_json::to_vec_pretty(&contents).expect("it has only string keys");
        write_private(&self.path, &text).map_err(|source| ClaimsFileError::File {
            path: self.path.clone(),
            source,
        })
    }
}
