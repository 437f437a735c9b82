//! What tokens are worth in dollars, as the folder's node was last told: kept
//! in the folder, so that `lethe where` tells it also when no node runs.

use std::path::{Path, PathBuf};

use market::{DECIMALS_MAX, UsdRates};

use crate::folder::Folder;
use crate::keystore::{KeystoreError, is_there, private_text, write_private};

/// The file in the data folder.
const FILE: &str = "usd-rates.json";

/// Why rates are not kept, or not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RatesError {
    #[error(transparent)]
    File(#[from] KeystoreError),
    #[error("{path:?} has no rates in it; remove it, the next start of the node writes it anew")]
    Json {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("{path:?} names a token with {decimals} decimals (allowed: {DECIMALS_MAX} at most)")]
    Decimals { path: PathBuf, decimals: u8 },
    #[error("{path:?} cannot be written")]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// Keeps these in place of what was kept.
pub(crate) fn keep(folder: &Folder, rates: &UsdRates) -> Result<(), RatesError> {
    let path = folder.join(FILE);
    if rates.rates().is_empty() && !is_there(&path)? {
        return Ok(());
    }
    let text = serde_json::to_string_pretty(rates).expect("it has only string keys");
    write_private(&path, text.as_bytes()).map_err(|source| RatesError::Write { path, source })
}

/// What was kept; nothing, if nothing was.
pub(crate) fn kept(folder: &Folder) -> Result<UsdRates, RatesError> {
    read(&folder.join(FILE))
}

fn read(path: &Path) -> Result<UsdRates, RatesError> {
    if !is_there(path)? {
        return Ok(UsdRates::default());
    }
    let text = private_text(path)?;
    let rates: UsdRates = serde_json::from_str(&text).map_err(|source| RatesError::Json {
        path: path.to_owned(),
        source,
    })?;
    let decimals = rates.rates().iter().map(|rate| rate.decimals).max();
    match decimals {
        Some(decimals) if decimals > DECIMALS_MAX => Err(RatesError::Decimals {
            path: path.to_owned(),
            decimals,
        }),
        _ => Ok(rates),
    }
}

#[cfg(test)]
mod tests {
    use market::{Address, UsdRate};

    use super::*;

    fn rates(decimals: u8) -> UsdRates {
        UsdRates::new(vec![UsdRate {
            token: Address::repeat_byte(1),
            decimals,
            micro_usd: 2_500_000,
            source: "a test".into(),
            at: None,
        }])
    }

    #[test]
    fn what_was_told_last_is_kept_and_nonsense_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::look(Some(dir.path().to_owned())).unwrap();
        keep(&folder, &UsdRates::default()).unwrap();
        assert!(!folder.join(FILE).exists());
        keep(&folder, &rates(18)).unwrap();
        assert_eq!(kept(&folder).unwrap(), rates(18));
        keep(&folder, &UsdRates::default()).unwrap();
        assert_eq!(kept(&folder).unwrap(), UsdRates::default());
        keep(&folder, &rates(DECIMALS_MAX + 1)).unwrap();
        assert!(matches!(kept(&folder), Err(RatesError::Decimals { .. })));
        write_private(&folder.join(FILE), b"{").unwrap();
        let told = kept(&folder).unwrap_err().to_string();
        assert!(told.contains(FILE) && told.contains("remove it"), "{told}");
    }
}
