//! Several machines under one provider's registration: `lethe host`, and the file
//! of the wallet's certificate that each of them sells with.
//!
//! The wallet is needed for the certificate alone, and may be offline otherwise: what
//! a host holds is a key of its own. The file is read again when it changes, so
//! that a host more, or another month, needs no restart of the others.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chain::NetworkError;
use market::{Address, Certificate, CertificateError, SignedCertificate};
use provider::Provider;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::cli;
use crate::clock;
use crate::folder::{Folder, FolderError};
use crate::keystore::{Keystore, KeystoreError};
use crate::output;
use crate::roles::PROVIDER;

/// The longest file: a certificate, its signature, and what JSON adds.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Between two looks at the file.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Who has not longer than this is told, day by day.
const ENDS_SOON_S: u64 = 7 * 24 * 3600;
/// Between two such words.
const TOLD_EVERY_S: u64 = 24 * 3600;

/// Why there is no account, or no certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Keystore(#[from] KeystoreError),
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error(
        "the provider's wallet is not in data folder {path:?}: give the folder that it sold from, or was imported into, with --data DIR"
    )]
    NoWallet {
        path: PathBuf,
        #[source]
        source: KeystoreError,
    },
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

/// Why a file of hosts is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostsFileError {
    #[error("--hosts {path:?} cannot be read")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("--hosts {path:?} is not what `lethe host certify` prints")]
    Malformed {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
}

/// `lethe host`.
pub(crate) fn host(args: cli::host::Host) -> Result<(), HostError> {
    match args.act {
        cli::host::Act::Account { json } => {
            let account = account(args.data)?;
            match json {
                true => output::json(&json!({ "account": account })),
                false => output::line(account.to_string()),
            }
        }
        cli::host::Act::Certify(certify) => {
            output::json(&certified(args.data, certify)?);
        }
    }
    Ok(())
}

/// The account of a folder; made, if there is none.
fn account(data: cli::Data) -> Result<Address, HostError> {
    let look = Folder::look(data.folder.clone())?;
    // A node may run on it.
    if let Ok(known) = Keystore::look(look.join("keys")).address(PROVIDER) {
        return Ok(known);
    }
    let folder = Folder::take(data.folder)?;
    let keys = Keystore::open(folder.join("keys"), folder.has_books()?)?;
    Ok(keys.wallet(PROVIDER)?.address())
}

fn certified(data: cli::Data, certify: cli::host::Certify) -> Result<SignedCertificate, HostError> {
    let look = Folder::look(data.folder)?;
    let keys = Keystore::look(look.join("keys"));
    let wallet = keys.wallet(PROVIDER);
    let wallet = wallet.map_err(|source| HostError::NoWallet {
        path: look.path().to_owned(),
        source,
    })?;
    // Nothing is sent, and no money moves.
    let network = chain::Network::by_name(&certify.network, true)?;
    let certificate = Certificate::new(
        wallet.address(),
        &network.domain(),
        certify.hosts,
        (clock::now(), certify.days),
    );
    Ok(certificate.sign(&wallet)?)
}

/// Reads what `lethe host certify` printed.
pub(crate) fn read(path: &Path) -> Result<SignedCertificate, HostsFileError> {
    let unread = |source| HostsFileError::Read {
        path: path.to_owned(),
        source,
    };
    let file = std::fs::File::open(path).map_err(unread)?;
    let mut text = Vec::new();
    file.take(FILE_BYTES_MAX)
        .read_to_end(&mut text)
        .map_err(unread)?;
    serde_json::from_slice(&text).map_err(|source| HostsFileError::Malformed {
        path: path.to_owned(),
        source,
    })
}

/// Serves another certificate as soon as the file has it.
pub(crate) struct Keeper {
    provider: Arc<Provider>,
    path: PathBuf,
    /// What is served.
    now: SignedCertificate,
    /// What the file had last, served or not.
    seen: Option<SignedCertificate>,
    told_at_s: u64,
}

impl Keeper {
    pub(crate) fn new(provider: Arc<Provider>, path: PathBuf, now: SignedCertificate) -> Self {
        Self {
            provider,
            path,
            seen: Some(now.clone()),
            now,
            told_at_s: 0,
        }
    }

    /// Until `stop`.
    pub(crate) async fn keep(mut self, stop: CancellationToken) {
        let turns = async {
            loop {
                self.look();
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        stop.run_until_cancelled(turns).await;
    }

    fn look(&mut self) {
        let path = &self.path;
        match read(path) {
            Ok(found) if self.seen.as_ref() == Some(&found) => {}
            Ok(found) => {
                match self.provider.set_hosts(found.clone()) {
                    Ok(()) => {
                        info!(?path, "another certificate of hosts is served");
                        self.now = found.clone();
                    }
                    Err(error) => warn!(?path, %error, "the one before is served on"),
                }
                self.seen = Some(found);
            }
            Err(error) if self.seen.is_some() => {
                warn!(%error, "the certificate before is served on");
                self.seen = None;
            }
            Err(_) => {}
        }
        self.warn_of_its_end();
    }

    fn warn_of_its_end(&mut self) {
        let Ok(certificate) = self.now.read() else {
            return;
        };
        let now = clock::now();
        let left_s = certificate.expires_at.since_s(now);
        if left_s > ENDS_SOON_S || now.0 < self.told_at_s.saturating_add(TOLD_EVERY_S) {
            return;
        }
        self.told_at_s = now.0;
        warn!(
            left_s,
            "the certificate of hosts ends soon: nobody asks this host after that; \
             `lethe host certify` makes a new one"
        );
    }
}
