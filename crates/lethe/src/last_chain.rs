//! Which chain a folder was last used with, so that `lethe where`, `lethe
//! exit` and `lethe wallet restore` find it when no node runs and nobody says it. The URL of a chain's
//! server may have a key in it: the file is its owner's alone, and what is
//! shown of it goes without.

use chain::Network;
use serde::{Deserialize, Serialize};

use crate::config::without_secrets;
use crate::folder::{Folder, FolderError};
use crate::keystore::{private_text, write_private};
use crate::output;

/// The file in the data folder.
pub(crate) const FILE: &str = "last-chain.json";

/// A network and its servers, in the order in which they were given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LastChain {
    network: String,
    rpc_urls: Vec<String>,
}

impl LastChain {
    /// This one.
    pub(crate) fn new(network: &Network, rpc_urls: &[String]) -> Self {
        Self {
            network: network.name.to_string(),
            rpc_urls: rpc_urls.to_vec(),
        }
    }

    /// Of this folder; none if it remembers none. A file that is wrong is as good as
    /// none: the chain can be named.
    pub(crate) fn read(folder: &Folder) -> Option<Self> {
        let text = private_text(&folder.join(FILE)).ok()?;
        let read: Self = serde_json::from_str(&text).ok()?;
        Some(read).filter(|read| !read.rpc_urls.is_empty())
    }

    /// Remembers it, if it is not what the folder remembers.
    pub(crate) fn keep(&self, folder: &Folder) -> Result<(), FolderError> {
        if Self::read(folder).as_ref() == Some(self) {
            return Ok(());
        }
        let json = serde_json::to_vec(self).expect("it has only string keys");
        write_private(&folder.join(FILE), &json).map_err(|source| FolderError::Unusable {
            path: folder.path().to_owned(),
            source,
        })
    }

    /// The network's name.
    pub(crate) fn network(&self) -> &str {
        &self.network
    }

    /// Its servers.
    pub(crate) fn rpc_urls(&self) -> &[String] {
        &self.rpc_urls
    }

    /// Says that it is asked, since nobody named another.
    pub(crate) fn tell(&self) {
        output::aside(format!(
            "The chain is asked at {}, which this folder was last used with; --rpc-url URL names another.",
            self.shown()
        ));
    }

    /// For people.
    pub(crate) fn shown(&self) -> String {
        let urls = self.rpc_urls.iter().map(|url| without_secrets(url));
        urls.collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_folder_remembers_the_last_chain_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::look(Some(dir.path().to_owned())).unwrap();
        assert_eq!(LastChain::read(&folder), None);
        let network = Network::local();
        for url in [
            "http://x:SECRET@h:1",
            "http://h:2/SECRETSECRETSECRETSECRETSECRET",
        ] {
            let chain = LastChain::new(&network, &[url.to_owned()]);
            chain.keep(&folder).unwrap();
            assert_eq!(LastChain::read(&folder), Some(chain.clone()));
            assert!(!chain.shown().contains("SECRET"), "{}", chain.shown());
        }
        let path = folder.join(FILE);
        let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        // What others may have written is not believed.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert_eq!(LastChain::read(&folder), None);
    }
}
