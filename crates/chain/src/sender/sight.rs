//! Looking at the chain for what became of transactions.

use std::collections::BTreeMap;

use alloy::consensus::{Transaction, TxEnvelope};
use alloy::eips::Decodable2718;
use alloy::primitives::Address;
use futures_util::{StreamExt, stream};
use market::{LedgerError, TxHash};

use super::Finality;
use super::machine::{Inclusion, Look, Sight};
use super::price::{asked_at, tip};
use crate::journal::SignedTx;
use crate::refusal;
use crate::rpc::{At, Message, Receipt, Rpc, RpcError};

/// Nonces looked at at the same time.
const AT_ONCE: usize = 8;

/// The head, then the counts, then the receipts: in this order, so that what
/// is seen later is at least as new.
pub(super) async fn look(
    rpc: &Rpc,
    account: Address,
    finality: Finality,
    wanted: BTreeMap<u64, Vec<TxHash>>,
) -> Result<(Look, Vec<Receipt>), LedgerError> {
    let (seen, tip, tagged) = tokio::join!(
        rpc.decided("the account's transactions", move |endpoint, at| {
            Box::pin(async move {
                let head = endpoint.head(at).await?;
                let latest = endpoint.transactions_of(account, at).await?;
                Ok((head, latest))
            })
        }),
        tip(rpc),
        finalized(rpc, finality)
    );
    let (head, latest) = seen?;
    let pending = rpc.pending_of(account).await?;
    let asked = asked_at(&head, tip)?;
    let head: u64 = head.number.to();
    let final_block = tagged.unwrap_or_else(|| finality.at(head));
    let final_latest = match final_block == head {
        true => Some(latest),
        false => latest_at(rpc, account, final_block).await,
    };
    let used_up = wanted.into_iter().filter(|(nonce, _)| *nonce < latest);
    let seen = used_up.map(|(nonce, hashes)| async move { (nonce, sight(rpc, hashes).await) });
    let seen: Vec<_> = stream::iter(seen).buffered(AT_ONCE).collect().await;
    let (mut sights, mut receipts) = (BTreeMap::new(), Vec::new());
    for (nonce, sight) in seen {
        let Some(sight) = sight else { continue };
        let ours = sight.map_or(Sight::NotOurs, |receipt| {
            let inclusion = inclusion(&receipt);
            receipts.push(receipt);
            Sight::Ours(inclusion)
        });
        sights.insert(nonce, ours);
    }
    let look = Look {
        head,
        final_block,
        final_latest,
        asked,
        latest,
        pending,
        sights,
    };
    Ok((look, receipts))
}

/// The latest block that the chain itself calls final, where that is wanted and served.
async fn finalized(rpc: &Rpc, finality: Finality) -> Option<u64> {
    match finality {
        Finality::Depth(_) => None,
        Finality::TagOrDepth(_) => rpc.finalized().await.ok(),
    }
}

/// The account's transactions at a block of the past; nodes forget its state some time.
async fn latest_at(rpc: &Rpc, account: Address, block: u64) -> Option<u64> {
    let count = rpc.decided("the account's final transactions", move |endpoint, _| {
        Box::pin(async move { endpoint.transactions_of(account, At::Number(block)).await })
    });
    count.await.ok()
}

/// The receipt of whichever is included; inside, none if none is. None: nothing sure is known.
async fn sight(rpc: &Rpc, hashes: Vec<TxHash>) -> Option<Option<Receipt>> {
    for hash in hashes {
        match rpc.receipt(hash).await {
            Ok(None) => {}
            Ok(found) => return Some(found),
            Err(error) => {
                tracing::debug!(%hash, %error, "no word of a transaction");
                return None;
            }
        }
    }
    Some(None)
}

fn inclusion(receipt: &Receipt) -> Inclusion {
    Inclusion {
        hash: receipt.transaction_hash,
        block: receipt.block_number.to(),
        succeeded: receipt.status.to::<u64>() == 1,
    }
}

/// Receipts have no reason; the call is tried again where it failed.
pub(super) async fn revert_reason(rpc: &Rpc, tx: &SignedTx, block: u64) -> String {
    const UNKNOWN: &str = "reverted without a reason that could be found";
    let Ok(envelope) = TxEnvelope::decode_2718(&mut tx.raw.as_ref()) else {
        return UNKNOWN.to_owned();
    };
    let message = Message {
        from: Some(tx.account),
        to: envelope.to(),
        data: envelope.input(),
        value: envelope.value(),
    };
    match rpc.call(message, At::Number(block)).await {
        Err(RpcError::Reverted { data }) => refusal::reason(&data),
        _ => UNKNOWN.to_owned(),
    }
}
