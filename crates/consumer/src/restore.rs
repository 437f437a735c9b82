//! Channels whose journal is lost, old, or a copy of one that somebody else
//! may go on with.
//!
//! What was signed on such a channel is not known here, so nothing is signed
//! on it until the provider's receipts are all booked and the chain proves
//! them: what was claimed there was signed by us. Until then a new channel is
//! used. So a lost journal costs no more than what its vouchers had allowed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use market::{ChannelConfig, ChannelId, Domain, Purse, PurseError, PurseEvent};
use store::{AppendError, LoadError, Store};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::payer::PayerNumber;
use crate::payment::{Channel, PaymentError, entry};
use crate::reconcile::{ReconcileError, complete};
use crate::router::Candidate;
use crate::session::{CHANNELS, Opened, PURSES, SessionError, journal_name};
use crate::shell::Inner;

/// Between two tries to bring a channel back.
const TRY_EVERY: Duration = Duration::from_secs(5);

/// A channel that was found on chain.
#[derive(Debug, Clone, Copy)]
pub struct Found {
    /// What it is.
    pub config: ChannelConfig,
    /// The number of the account that pays; the wallet has 0.
    pub payer: u32,
}

/// A channel that signs nothing now.
#[derive(Debug, Clone)]
pub struct RestoredChannel {
    /// Its id.
    pub id: ChannelId,
    /// What it is.
    pub config: ChannelConfig,
    /// The number of the account that pays.
    pub payer: u32,
    /// It was not in the journal.
    pub is_new: bool,
    /// What the journal knows to have been charged.
    pub charged: market::Amount,
    /// What the journal knows to have been signed.
    pub ceiling: market::Amount,
}

/// Why channels could not be restored. What was written until then stays, and
/// the same can be tried again.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The journal cannot be read.
    #[error("the consumer's journal cannot be read")]
    Load(#[from] LoadError),
    /// It cannot be written.
    #[error("the consumer's journal cannot be written")]
    Append(#[from] AppendError),
    /// An entry is not what this version writes.
    #[error("journal {journal} holds an entry that is not understood")]
    Entry {
        /// Which journal.
        journal: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The entries do not add up.
    #[error("journal {journal} does not add up")]
    Purse {
        /// Which journal.
        journal: String,
        /// What is wrong.
        #[source]
        source: PurseError,
    },
}

/// Writes the channels that were found into the journal, beside those that
/// are there, and marks every one as restored. All of them, as they are then.
pub async fn restore(
    store: &Store,
    domain: &Domain,
    found: &[Found],
) -> Result<Vec<RestoredChannel>, RestoreError> {
    let journal = store.journal(CHANNELS);
    let mut known = BTreeMap::new();
    for line in journal.load().await? {
        let opened: Opened = parsed(CHANNELS, &line.payload)?;
        known.insert(opened.config.id(domain), (opened, false));
    }
    for Found { config, payer } in found {
        let id = config.id(domain);
        if known.contains_key(&id) {
            continue;
        }
        let opened = Opened {
            config: *config,
            payer: PayerNumber(*payer),
        };
        // First that nothing may be signed on it, then that it is there.
        mark(store, &journal_name(&id)).await?;
        let payload = serde_json::to_vec(&opened).expect("a config has only string keys");
        let line = entry("opened", Some(id.to_string()), payload);
        journal.append(vec![line]).await?;
        known.insert(id, (opened, true));
    }
    let mut channels = Vec::with_capacity(known.len());
    for (id, (opened, is_new)) in known {
        let purse = mark(store, &journal_name(&id)).await?;
        channels.push(RestoredChannel {
            id,
            config: opened.config,
            payer: opened.payer.0,
            is_new,
            charged: purse.charged(),
            ceiling: purse.ceiling(),
        });
    }
    Ok(channels)
}

/// Marks every channel in the journal as restored. Which ones they are.
pub async fn restore_known(store: &Store) -> Result<Vec<ChannelId>, RestoreError> {
    let mut names: BTreeSet<_> = store.journals(PURSES).await?.into_iter().collect();
    // A channel that was never asked on has no journal of its own yet.
    let listed = store.journal(CHANNELS).load().await?;
    names.extend(
        listed
            .into_iter()
            .filter_map(|line| Some(format!("{PURSES}{}", line.key?))),
    );
    let mut ids = Vec::with_capacity(names.len());
    for name in names {
        mark(store, &name).await?;
        ids.extend(
            name.strip_prefix(PURSES)
                .and_then(|id| id.parse::<ChannelId>().ok()),
        );
    }
    Ok(ids)
}

/// Sees that nothing is signed on the channel of this journal.
async fn mark(store: &Store, name: &str) -> Result<Purse, RestoreError> {
    let journal = store.journal(name);
    let mut events = Vec::new();
    for line in journal.load().await? {
        events.push(parsed::<PurseEvent>(name, &line.payload)?);
    }
    let mut purse = Purse::replay(&events).map_err(|source| RestoreError::Purse {
        journal: name.to_owned(),
        source,
    })?;
    if let Some(event) = purse.restore() {
        let payload = serde_json::to_vec(&event).expect("an event has only string keys");
        journal
            .append(vec![entry("restored", None, payload)])
            .await?;
    }
    Ok(purse)
}

fn parsed<T: serde::de::DeserializeOwned>(
    journal: &str,
    payload: &[u8],
) -> Result<T, RestoreError> {
    serde_json::from_slice(payload).map_err(|source| RestoreError::Entry {
        journal: journal.to_owned(),
        source,
    })
}

/// Why a restored channel still signs nothing.
#[derive(Debug, thiserror::Error)]
enum ReviveError {
    #[error(transparent)]
    Reconcile(#[from] ReconcileError),
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    Payment(#[from] PaymentError),
}

/// Tries to bring the restored channels to a provider back, with its receipts
/// and the chain's proof of them.
pub(crate) async fn revive(inner: &Inner, candidate: &Candidate) {
    for channel in inner.sessions.restored(&candidate.terms()) {
        {
            let mut upkeep = channel.upkeep.lock().await;
            if upkeep.tried_at.is_some_and(|at| at.elapsed() < TRY_EVERY) {
                continue;
            }
            upkeep.tried_at = Some(Instant::now());
        }
        match revive_one(inner, candidate, &channel).await {
            Ok(()) => info!(channel = %channel.id, "the restored channel is used again"),
            Err(error) => warn!(
                channel = %channel.id,
                error = &error as &dyn std::error::Error,
                "the restored channel is not used yet"
            ),
        }
    }
}

async fn revive_one(
    inner: &Inner,
    candidate: &Candidate,
    channel: &Channel,
) -> Result<(), ReviveError> {
    let seller = &candidate.seller;
    complete(&inner.paths, seller, channel, inner.now()).await?;
    inner.sessions.read_escrow(channel).await?;
    let rates = candidate.offer.quote.rates;
    let step = rates.step().map_err(PurseError::from);
    channel.resume(step.map_err(PaymentError::from)?).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use market::{Address, Amount, B256};
    use proptest::prelude::*;
    use store::Entry;

    use super::*;

    const DOMAIN: Domain = Domain {
        chain_id: 1,
        settlement: Address::repeat_byte(9),
    };

    fn found(payer: u32) -> Found {
        let config = ChannelConfig {
            payer: Address::repeat_byte(1),
            payer_authorizer: Address::repeat_byte(2),
            receiver: Address::repeat_byte(3),
            receiver_authorizer: Address::repeat_byte(3),
            token: Address::repeat_byte(4),
            withdraw_delay_s: 900,
            salt: B256::with_last_byte(u8::try_from(payer).unwrap()),
        };
        Found { config, payer }
    }

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("consumer.sqlite")).unwrap();
        (folder, store)
    }

    async fn events(store: &Store, id: &ChannelId) -> Vec<PurseEvent> {
        let lines = store.journal(&journal_name(id)).load().await.unwrap();
        let parse = |line: &Entry| serde_json::from_slice(&line.payload).unwrap();
        lines.iter().map(parse).collect()
    }

    #[tokio::test]
    async fn what_is_found_is_written_once_beside_what_is_known() {
        let (_folder, store) = store();
        let known = restore(&store, &DOMAIN, &[found(1)]).await.unwrap();
        assert!(known[0].is_new);
        let id = known[0].id;
        let ceiling = Amount::new(42);
        let payload = serde_json::to_vec(&PurseEvent::Resumed { ceiling }).unwrap();
        let line = entry("resumed", None, payload);
        store
            .journal(&journal_name(&id))
            .append(vec![line])
            .await
            .unwrap();

        let both = restore(&store, &DOMAIN, &[found(2), found(1)])
            .await
            .unwrap();
        let new: Vec<_> = both.iter().filter(|c| c.is_new).map(|c| c.payer).collect();
        assert_eq!((both.len(), new), (2, vec![2]));
        let resumed = PurseEvent::Resumed { ceiling };
        let expected = [PurseEvent::Restored, resumed, PurseEvent::Restored];
        assert_eq!(events(&store, &id).await, expected);
        // Again changes nothing.
        assert_eq!(restore_known(&store).await.unwrap().len(), 2);
        assert_eq!(events(&store, &id).await, expected);
        assert_eq!(store.journal(CHANNELS).load().await.unwrap().len(), 2);
    }

    /// Everything in the store.
    async fn all(store: &Store) -> Vec<(String, Vec<Entry>)> {
        let mut all = Vec::new();
        for name in store.journals("").await.unwrap() {
            let entries = store.journal(&name).load().await.unwrap();
            all.push((name, entries));
        }
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn journals_of_any_bytes_are_told_by_name_and_stay(
            in_list: bool,
            payload in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..200),
                "[{]\"event\":\"(asked|ceiling|receipted|resumed)\".{0,40}[}]".prop_map(String::into_bytes),
            ],
        ) {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                let (_folder, store) = store();
                restore(&store, &DOMAIN, &[found(1)]).await.unwrap();
                let id = found(1).config.id(&DOMAIN);
                let name = match in_list {
                    true => CHANNELS.to_owned(),
                    false => journal_name(&id),
                };
                let line = entry("odd", None, payload);
                store.journal(&name).append(vec![line]).await.unwrap();
                let before = all(&store).await;
                let text = match restore(&store, &DOMAIN, &[]).await {
                    Err(error) => error.to_string(),
                    Ok(channels) => panic!("{channels:?}"),
                };
                assert!(text.contains(&name), "{text}");
                assert_eq!(all(&store).await, before, "something was written over it");
                store.close().await;
            });
        }
    }
}
