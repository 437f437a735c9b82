//! Receipts for a consumer that has lost some: what was signed for its
//! channel after the last one that it knows, and how much still runs.

use market::{Durable, Receipt};
use tracing::warn;
use transport::SendHalf;
use transport::message::{FromProvider, Reason, ReceiptsAsk};

use crate::admit::refusal;
use crate::exchange::{say_last, say_no};
use crate::shell::Inner;

pub(crate) async fn receipts(inner: &Inner, ask: &ReceiptsAsk, mut send: SendHalf) {
    let Some(channel) = inner.sessions.find(ask.channel) else {
        // A channel that was never used has no receipts.
        let receipts = vec![];
        return say_last(
            &mut send,
            &FromProvider::Receipts {
                receipts,
                running: 0,
            },
        )
        .await;
    };
    if !ask.is_by(channel.config.payer_authorizer) {
        let message = "receipts are for who may sign the channel's vouchers";
        return say_no(inner, send, refusal(Reason::Payment, message)).await;
    }
    channel.earning(|earning| earning.shown(ask.after));
    // What ended just now is on its way to the journal.
    if let Err(error) = channel.caught_up().await {
        warn!(channel = %ask.channel, %error, "receipts not written yet");
    }
    failpoint::hit("provider.receipts.asked");
    // Counted first: what ends meanwhile is then in both, not in neither.
    let running = channel.earning(|earning| earning.open());
    let running = u32::try_from(running).unwrap_or(u32::MAX);
    failpoint::hit("provider.receipts.counted");
    let last = match inner.sessions.receipts(&channel, ask.after).await {
        Ok(receipts) => {
            let sign = |receipt: Durable<Receipt>| receipt.sign(&inner.node_key);
            let receipts = receipts.into_iter().map(sign).collect();
            FromProvider::Receipts { receipts, running }
        }
        Err(error) => {
            warn!(channel = %ask.channel, %error, "receipts not read");
            let message = "the provider's journal cannot be read";
            FromProvider::Refused(refusal(Reason::Unavailable, message))
        }
    };
    say_last(&mut send, &last).await;
    failpoint::hit("provider.receipts.sent");
}
