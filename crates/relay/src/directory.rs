//! Who is registered, and what each says of itself: read by the relay from
//! registry and endpoints, and told on word for word. Whoever asks checks the
//! signatures; the relay checks them too, so that it dials nobody's victim.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use market::{Address, B256, Domain, Ledger, LedgerError, NodeId, Provider, Timestamp};
use sha2::{Digest, Sha256};
use tracing::debug;
use transport::NodeAddr;
use transport::describe::{DescribeError, Described, fetch};
use transport::message::Description;

/// Descriptions fetched at a time.
const FETCHES: usize = 16;

/// Nodes that are known at a time.
const NODES_MAX: usize = 16_384;

/// All that is known at one moment.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    texts: BTreeMap<Address, Bytes>,
    nodes: HashMap<NodeId, NodeAddr>,
    digest: B256,
}

impl Directory {
    /// Where a registered node is.
    pub(crate) fn find(&self, node: NodeId) -> Option<&NodeAddr> {
        self.nodes.get(&node)
    }

    /// Names this state of things.
    pub(crate) fn digest(&self) -> B256 {
        self.digest
    }

    /// Everything that is told, in parts of at most `bytes` or one description.
    pub(crate) fn parts(&self, count: usize, bytes: usize) -> Vec<Vec<Description>> {
        let mut parts = Vec::new();
        let (mut part, mut size) = (Vec::new(), 0);
        for (&account, text) in &self.texts {
            if !part.is_empty() && (part.len() == count || size + text.len() > bytes) {
                parts.push(std::mem::take(&mut part));
                size = 0;
            }
            size += text.len();
            let text = text.clone();
            part.push(Description { account, text });
        }
        if !part.is_empty() {
            parts.push(part);
        }
        parts
    }

    fn of(found: BTreeMap<Address, (Bytes, NodeAddr)>) -> Self {
        let mut hash = Sha256::new();
        let mut directory = Self::default();
        for (account, (text, addr)) in found {
            hash.update(account);
            hash.update(Sha256::digest(&text));
            directory.nodes.insert(addr.id, addr);
            directory.texts.insert(account, text);
        }
        directory.digest = B256::from_slice(&hash.finalize());
        directory
    }
}

/// Reads registry and descriptions anew. What could not be fetched stays as
/// it was, as long as it is good.
pub(crate) async fn look(
    ledger: &dyn Ledger,
    http: &reqwest::Client,
    before: &Directory,
    now: Timestamp,
) -> Result<Directory, LedgerError> {
    let domain = ledger.domain();
    let providers = ledger.providers().await?;
    let looked: BTreeMap<_, _> = stream::iter(providers.into_iter().take(NODES_MAX))
        .map(|provider| one(http, before, provider, domain, now))
        .buffer_unordered(FETCHES)
        .filter_map(|found| async { found })
        .collect()
        .await;
    Ok(Directory::of(looked))
}

async fn one(
    http: &reqwest::Client,
    before: &Directory,
    provider: Provider,
    domain: Domain,
    now: Timestamp,
) -> Option<(Address, (Bytes, NodeAddr))> {
    let account = provider.address;
    let fetched = fetch(http, &provider.endpoint).await;
    let checked = fetched.and_then(|text| checked(text.into(), account, &domain, now));
    match checked {
        Ok(found) => Some((account, found)),
        Err(error) => {
            debug!(%account, %error, "no description");
            let last = before.texts.get(&account)?.clone();
            let last = self::checked(last, account, &domain, now).ok()?;
            Some((account, last))
        }
    }
}

fn checked(
    text: Bytes,
    account: Address,
    domain: &Domain,
    now: Timestamp,
) -> Result<(Bytes, NodeAddr), DescribeError> {
    let opened = Described::parse(&text)?.open(account, domain, now)?;
    let addresses = opened.record.addresses.iter();
    let addr = NodeAddr {
        id: opened.record.node,
        addresses: addresses.filter_map(|text| text.parse().ok()).collect(),
    };
    Ok((text, addr))
}
