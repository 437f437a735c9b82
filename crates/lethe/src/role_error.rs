//! Why a role does not run, whether it is one of a network or the whole market of `lethe up`.

use std::path::PathBuf;

use chain::NetworkError;
use market::LedgerError;
use provider::{BACKENDS_MAX, OpenAiConfigError};

use crate::api_keys::ApiKeysError;
use crate::backends::BackendsError;
use crate::buying::BuyError;
use crate::card::CardFileError;
use crate::config::without_secrets;
use crate::doorkeeper::DoorError;
use crate::folder::FolderError;
use crate::hosts::HostsFileError;
use crate::keystore::KeystoreError;
use crate::listen::ListenError;
use crate::local::LocalError;
use crate::model::ModelError;
use crate::place::PlaceError;
use crate::policies::PolicyError;
use crate::rate_sources::RatesError;
use crate::rates;
use crate::relaying::RelayError;
use crate::reset::ResetError;
use crate::secret::SecretError;
use crate::selling::SellError;
use crate::tokens::TokenError;
use crate::when::WhenError;

/// Why a role does not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RoleError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Door(#[from] DoorError),
    #[error(transparent)]
    Keystore(#[from] KeystoreError),
    #[error(transparent)]
    Chain(#[from] LocalError),
    #[error("the chain does not answer")]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Card(#[from] CardFileError),
    #[error(transparent)]
    Hosts(#[from] HostsFileError),
    #[error(transparent)]
    Sell(#[from] SellError),
    #[error(transparent)]
    Buy(#[from] BuyError),
    #[error(transparent)]
    Relay(#[from] RelayError),
    #[error(transparent)]
    Reset(#[from] Box<ResetError>),
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Rates(#[from] RatesError),
    #[error(transparent)]
    Kept(#[from] rates::RatesError),
    #[error(transparent)]
    ApiKeys(#[from] ApiKeysError),
    #[error(transparent)]
    When(#[from] WhenError),
    #[error(transparent)]
    Backend(#[from] BackendFlagError),
    #[error(transparent)]
    Backends(#[from] BackendsError),
    #[error("the key in {path:?} cannot be used as an API key; remove the file to get a new one")]
    ApiKey {
        path: PathBuf,
        #[source]
        source: gateway::ApiKeyError,
    },
}

impl RoleError {
    /// Whether a flag is why, and the same command will be refused for ever.
    pub(crate) fn is_usage(&self) -> bool {
        match self {
            Self::Policy(_) => true,
            Self::Token(error) => error.is_usage(),
            Self::Rates(RatesError::Token(error)) => error.is_usage(),
            Self::Rates(error) => !matches!(error, RatesError::Source { .. }),
            Self::Backend(error) => !matches!(error, BackendFlagError::Key(_)),
            _ => false,
        }
    }
}

/// Why there is no backend.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackendFlagError {
    #[error("--backend {0:?} cannot be used", without_secrets(url))]
    One {
        url: String,
        #[source]
        source: OpenAiConfigError,
    },
    #[error("--backend-key-file cannot be used")]
    Key(#[from] SecretError),
    #[error("--backend is given {given} times, allowed is {BACKENDS_MAX} times at most")]
    Many { given: usize },
}
