//! Whether a provider goes on with answers that others began: said at its start,
//! as soon as it was tried.

use std::collections::BTreeMap;

use market::ModelId;
use provider::{Continues, Tried};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::output;

/// Says it in a line for each offer, and again when it changed, until it is told to stop.
pub(crate) async fn say(
    mut tried: watch::Receiver<BTreeMap<ModelId, Tried>>,
    stop: CancellationToken,
) {
    let mut said = BTreeMap::new();
    loop {
        let now = tried.borrow_and_update().clone();
        for (model, tried) in &now {
            if said.get(model) != Some(tried) {
                output::line(output::plain(&words(tried)));
            }
        }
        said = now;
        tokio::select! {
            () = stop.cancelled() => return,
            changed = tried.changed() => if changed.is_err() { return },
        }
    }
}

/// For people: whether, and if not why and what to do.
fn words(tried: &Tried) -> String {
    match (&tried.continues, &tried.card) {
        (Continues::Yes, Some(card)) => format!(
            "Goes on with begun answers of whoever sells the same card ({}) for the same token.",
            card.prefix()
        ),
        (Continues::Yes, None) => {
            "Goes on with begun answers of those only who have no card either; \
            --card FILE says exactly what is sold."
                .to_owned()
        }
        (Continues::No, _) => {
            "Does not go on with begun answers: asked to (continue_final_message), the server \
            began anew; another server may do it, or --gguf FILE."
                .to_owned()
        }
        (Continues::Unknown(why), _) => {
            format!("Does not go on with begun answers so far: that could not be tried ({why}).")
        }
        (Continues::Untried, _) => {
            "Does not go on with begun answers: --no-probe; start it without that.".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use market::{B256, CardId};

    use super::*;

    #[test]
    fn it_is_said_whether_and_what_it_takes() {
        let of = |continues, card| {
            let name = "m".to_owned();
            words(&Tried {
                name,
                card,
                continues,
            })
        };
        let card = Some(CardId(B256::repeat_byte(0xab)));
        assert!(of(Continues::Yes, card).contains("the same card (abababababab)"));
        assert!(of(Continues::Yes, None).contains("--card FILE"));
        assert!(of(Continues::No, card).contains("began anew"));
        let why = Continues::Unknown("it is away".to_owned());
        assert!(of(why, card).contains("(it is away)"));
        assert!(of(Continues::Untried, None).contains("--no-probe"));
    }
}
