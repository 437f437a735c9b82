//! Why offers that there are fit no request: in words, for whom they were wished.

use std::sync::Arc;

use market::{Address, Offer, Tender};
use routing::{Choice, Misfit};

use crate::catalog::Seller;

/// Why an offer in a token is not asked. `symbol`: what that is called here, if it is one that is paid with.
pub(crate) fn other_token(token: Address, symbol: Option<&str>) -> String {
    match symbol {
        Some(symbol) => {
            format!("it is paid in {symbol}, whose worth nobody says now (--usd-rate)")
        }
        None => {
            format!("it is paid in token {token}, which this node does not pay with (--pay-with)")
        }
    }
}

/// The label that falls short, if one does.
pub(crate) fn unmet(choice: &Choice) -> Option<(&'static str, &'static str)> {
    choice.unfit.iter().find_map(|unfit| match unfit.misfit {
        Misfit::Label { demanded, offered } => Some((demanded, offered)),
        _ => None,
    })
}

/// The longest answer asked for and the longest that is sold: by those who
/// would be asked if it were for a shorter one.
pub(crate) fn too_long(choice: &Choice) -> Option<(u32, u32)> {
    let limits = choice.unfit.iter().filter_map(|unfit| match unfit.misfit {
        Misfit::AnswerTooLong { asked, limit } => Some((asked, limit)),
        _ => None,
    });
    limits.max()
}

/// Why offers that could be asked are not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unfit {
    /// What is the same for several is said once.
    pub(crate) reasons: String,
    /// Somebody would be asked if less were wished.
    pub(crate) is_wished: bool,
}

/// Wishes that nobody meets, in words.
pub(crate) fn unfit(
    choice: &Choice,
    offers: &[(Arc<Seller>, Offer)],
    tender: &Tender,
) -> Option<Unfit> {
    let words = |unfit: &routing::Unfit| match &unfit.misfit {
        Misfit::OtherToken => {
            let mut own = offers
                .iter()
                .filter(|(seller, _)| seller.address == unfit.provider);
            let paid_in = own.find(|(_, offer)| !tender.takes(offer.quote.token));
            paid_in.map_or_else(
                || Misfit::OtherToken.to_string(),
                |(_, offer)| other_token(offer.quote.token, tender.symbol(offer.quote.token)),
            )
        }
        Misfit::Price { price, cap } => {
            let (price, cap) = (tender.shown(*price), tender.shown(*cap));
            format!("its price of {price} is above the cap of {cap}")
        }
        other => other.to_string(),
    };
    let unwished = |misfit: &Misfit| !matches!(misfit, Misfit::Unreachable | Misfit::QuoteExpired);
    let mut reasons: Vec<(String, Vec<Address>)> = Vec::new();
    let mut is_wished = false;
    for unfit in choice.unfit.iter().filter(|it| unwished(&it.misfit)) {
        is_wished |= is_wish(&unfit.misfit);
        let reason = words(unfit);
        match reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, providers)) => providers.push(unfit.provider),
            None => reasons.push((reason, vec![unfit.provider])),
        }
    }
    if reasons.is_empty() {
        return None;
    }
    const TOLD: usize = 5;
    let untold = reasons.iter().skip(TOLD);
    let more = untold.map(|(_, providers)| providers.len()).sum::<usize>() + choice.more_unfit;
    let told = reasons.iter().take(TOLD);
    let mut told: Vec<_> = told
        .map(|(reason, providers)| match providers.as_slice() {
            [provider] => format!("{provider}: {reason}"),
            several => format!("{} providers: {reason}", several.len()),
        })
        .collect();
    if more > 0 {
        told.push(format!("{more} more"));
    }
    Some(Unfit {
        reasons: told.join("; "),
        is_wished,
    })
}

/// Whether a request's or its key's preferences are why, and not what this node
/// pays with or what the request is.
fn is_wish(misfit: &Misfit) -> bool {
    matches!(
        misfit,
        Misfit::Ignored
            | Misfit::NotAmongOnly
            | Misfit::Price { .. }
            | Misfit::Quantization { .. }
            | Misfit::Parameter { .. }
    )
}
