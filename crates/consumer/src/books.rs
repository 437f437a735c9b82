//! What a consumer's journal knows of its channels, read without a running
//! consumer: for people who ask where their money is, and for the way out.

use market::{Amount, ChannelConfig, Domain, Purse, PurseEvent};
use store::Store;

use crate::StartError;
use crate::session::{CHANNELS, Opened, entries, journal_name};

/// One channel, by the journal alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PurseView {
    /// Its configuration.
    pub config: ChannelConfig,
    /// Which account pays: 0 is the wallet, others are pseudonyms.
    pub payer: u32,
    /// Signed away at most.
    pub ceiling: Amount,
    /// Of it, billed.
    pub charged: Amount,
}

/// The channels of a consumer, in the order in which they were opened.
pub async fn read_books(store: &Store, domain: &Domain) -> Result<Vec<PurseView>, StartError> {
    let mut views = Vec::new();
    for opened in entries::<Opened>(store, CHANNELS).await? {
        let name = journal_name(&opened.config.id(domain));
        let events = entries::<PurseEvent>(store, &name).await?;
        let purse = Purse::replay(&events).map_err(|error| StartError::Entry {
            journal: name,
            source: error.into(),
        })?;
        views.push(PurseView {
            config: opened.config,
            payer: opened.payer.0,
            ceiling: purse.ceiling(),
            charged: purse.charged(),
        });
    }
    Ok(views)
}
