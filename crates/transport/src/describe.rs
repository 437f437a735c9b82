//! What a registered node says of itself, and how it is fetched.
//!
//! The endpoint in the registry answers `GET /.well-known/lethe` with one JSON
//! text: the record that its wallet signed, and, if it takes requests, the
//! epoch record that its node key signed. The same text is what relays pass on.

use std::sync::Arc;

use market::{Domain, NodeId, Record, SignedRecord, Timestamp};
use seal::{EpochKey, SignedEpoch};
use serde::{Deserialize, Serialize};

use crate::door::DESCRIPTOR_PATH;
use crate::message::MAX_DESCRIPTION_BYTES;

/// Time for one node to answer for its description.
const WITHIN: std::time::Duration = std::time::Duration::from_secs(3);

/// A node's description as it is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Described {
    /// Who it is, where, and what it offers.
    #[serde(flatten)]
    pub descriptor: SignedRecord,
    /// The key that requests are sealed to; none if it takes none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<SignedEpoch>,
}

/// A description that was checked.
#[derive(Debug)]
pub struct Opened {
    /// Who it is, where, and what it offers.
    pub record: Record,
    /// What requests are sealed to; none, or why it is not believed.
    pub epoch: Option<Result<Arc<EpochKey>, seal::EpochError>>,
}

/// Why a node's description is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum DescribeError {
    /// Not an address.
    #[error("its endpoint {endpoint:?} is not host:port")]
    Endpoint {
        /// What the registry says.
        endpoint: String,
    },
    /// Nobody there.
    #[error("its endpoint does not answer")]
    Fetch(#[source] reqwest::Error),
    /// Somebody else there.
    #[error("its endpoint answers with status {status}")]
    Status {
        /// Its status.
        status: u16,
    },
    /// More than anybody needs.
    #[error("its description is longer than {MAX_DESCRIPTION_BYTES} bytes")]
    TooLong,
    /// Not a description.
    #[error("its description is not JSON of the right form")]
    Malformed(#[source] serde_json::Error),
    /// Forged, stale, or of another chain.
    #[error("its description is not believed")]
    Disbelieved(#[source] market::DescriptorError),
}

impl Described {
    /// From the text that was served.
    pub fn parse(text: &[u8]) -> Result<Self, DescribeError> {
        if text.len() > MAX_DESCRIPTION_BYTES {
            return Err(DescribeError::TooLong);
        }
        serde_json::from_slice(text).map_err(DescribeError::Malformed)
    }

    /// The text to serve.
    pub fn to_text(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a description has only string keys")
    }

    /// What it says, if `account` says it for this chain and it is good now.
    pub fn open(
        &self,
        account: market::Address,
        domain: &Domain,
        now: Timestamp,
    ) -> Result<Opened, DescribeError> {
        let record = self
            .descriptor
            .open(account, domain, now)
            .map_err(DescribeError::Disbelieved)?;
        let node: NodeId = record.node;
        let epoch = self.epoch.as_ref();
        let epoch = epoch.map(|epoch| epoch.open(node, account, domain, now).map(Arc::new));
        Ok(Opened { record, epoch })
    }
}

/// Fetches the text that the node at `endpoint` serves.
pub async fn fetch(http: &reqwest::Client, endpoint: &str) -> Result<Vec<u8>, DescribeError> {
    let plain = !endpoint.contains(['/', '@', '?', '#', ' ']) && endpoint.contains(':');
    if !plain {
        return Err(DescribeError::Endpoint {
            endpoint: endpoint.to_owned(),
        });
    }
    let url = format!("http://{endpoint}{DESCRIPTOR_PATH}");
    let response = http.get(url).timeout(WITHIN).send().await;
    let mut response = response.map_err(|error| DescribeError::Fetch(error.without_url()))?;
    if !response.status().is_success() {
        return Err(DescribeError::Status {
            status: response.status().as_u16(),
        });
    }
    let mut text = Vec::new();
    while let Some(piece) = response
        .chunk()
        .await
        .map_err(|error| DescribeError::Fetch(error.without_url()))?
    {
        if text.len() + piece.len() > MAX_DESCRIPTION_BYTES {
            return Err(DescribeError::TooLong);
        }
        text.extend_from_slice(&piece);
    }
    Ok(text)
}

/// A client for [`fetch`]: it follows no redirect and uses no proxy.
pub fn http_client() -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .tcp_nodelay(true)
        .build()
}
