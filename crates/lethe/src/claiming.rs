//! `lethe claim`: what a running provider has earned, claimed and paid out now, whatever its
//! flags say of when.
//!
//! The provider does it itself, asked at its local door: one owner of its account's nonces.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use market::{Address, Amount};
use provider::{MoneyStatus, Provider};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tracing::info;

use crate::cli::claim::Claim;
use crate::client::{self, Client, ClientError};
use crate::doorkeeper::{guarded, refuse};
use crate::output;
use crate::pricing::of_a_seller;
use crate::tokens::TokenViews;

/// Where a running provider takes the wish; a gateway has no such path.
const DOOR: &str = "/api/claim-now";

/// A provider's claims, made when somebody asks for it.
pub(crate) struct Claiming {
    pub(crate) provider: Arc<Provider>,
    /// The tokens that it deals in.
    pub(crate) tokens: TokenViews,
}

/// What was claimed of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Brought {
    token: Address,
    /// In base units.
    amount: Amount,
    /// The same in words.
    shown: String,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    /// Who has it now: the provider, also where a host of it earned it.
    provider: Address,
    /// Channels that were claimed on, and those on which the contract refused it.
    channels: usize,
    refused: usize,
    claimed: Vec<Brought>,
}

impl Claiming {
    /// Its door, behind the node's key.
    pub(crate) fn routes(self, key: &str) -> Router {
        guarded([(DOOR, post(take))], key).with_state(Arc::new(self))
    }

    /// Claims and settles all there is.
    async fn claim(&self) -> Result<Told, market::LedgerError> {
        let before = self.provider.status().money;
        let done = self.provider.claim_now().await?;
        let status = self.provider.status();
        info!(channels = done.channels, "claimed because it was asked for");
        Ok(Told {
            provider: status.provider,
            channels: done.channels,
            refused: done.refused,
            claimed: brought(&before, &status.money, &self.tokens),
        })
    }
}

/// What was claimed between two looks, by token.
fn brought(before: &[MoneyStatus], after: &[MoneyStatus], tokens: &TokenViews) -> Vec<Brought> {
    let had = |token: Address| {
        let of = before.iter().find(|money| money.token == token);
        of.map_or(Amount::ZERO, |money| money.claimed)
    };
    let more = after.iter().map(|now| {
        let amount = now.claimed.less(had(now.token));
        Brought {
            token: now.token,
            amount,
            shown: tokens.get(now.token).shown(amount),
        }
    });
    more.filter(|brought| !brought.amount.is_zero()).collect()
}

async fn take(State(claiming): State<Arc<Claiming>>) -> Response {
    match claiming.claim().await {
        Ok(told) => Json(told).into_response(),
        Err(error) => {
            let why = output::with_causes(&error);
            let message =
                format!("not everything was claimed: {why}; what is left stays claimable");
            refuse(StatusCode::SERVICE_UNAVAILABLE, &message)
        }
    }
}

/// Asks the running provider.
pub(crate) async fn claim(args: Claim) -> Result<(), ClientError> {
    let client = Client::of(args.data.folder).map_err(of_a_seller)?;
    let answer = client.post(DOOR, &json!({})).await;
    let answer = answer.map_err(of_a_seller)?;
    let told: Told = client::json(answer).await?;
    match args.json {
        true => output::json(&told),
        false => output::line(output::plain(&words(&told))),
    }
    Ok(())
}

/// For people.
fn words(told: &Told) -> String {
    let Told {
        provider,
        channels,
        refused,
        claimed,
    } = told;
    let count = |number: usize| match number {
        1 => "1 channel".to_owned(),
        more => format!("{more} channels"),
    };
    let amounts: Vec<_> = claimed.iter().map(|it| it.shown.as_str()).collect();
    let mut text = match claimed.is_empty() {
        true => format!("Nothing is left to claim; what was claimed before is with {provider}."),
        false => format!(
            "Claimed {} on {}, paid out to {provider}.",
            amounts.join(" and "),
            count(*channels)
        ),
    };
    if *refused > 0 {
        text.push_str(&format!(
            " The contract refused it on {}; the log says why.",
            count(*refused)
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use chain::Network;
    use market::UsdRates;

    use super::*;
    use crate::tokens::TokenView;

    fn money(token: Address, claimed: u128) -> MoneyStatus {
        MoneyStatus {
            token,
            earned: Amount::new(9),
            claimable: Amount::ZERO,
            claimed: Amount::new(claimed),
        }
    }

    #[test]
    fn only_what_was_claimed_just_now_is_told() {
        let network = Network::local();
        let view = TokenView::new(&network.tokens[0], &UsdRates::default());
        let tokens: TokenViews = serde_json::from_value(json!([view])).unwrap();
        let (mor, usd) = (network.mor, network.tokens[1].address);
        let half = 500_000_000_000_000_000;
        let before = [money(mor, half), money(usd, 7)];
        let after = [money(mor, 3 * half), money(usd, 7)];
        let claimed = brought(&before, &after, &tokens);
        assert_eq!(claimed.len(), 1, "{claimed:?}");
        let mut told = Told {
            provider: Address::repeat_byte(1),
            channels: 1,
            refused: 0,
            claimed,
        };
        let said = words(&told);
        assert!(
            said.starts_with("Claimed 1 MOR on 1 channel, paid"),
            "{said}"
        );
        (told.claimed, told.refused) = (brought(&after, &after, &tokens), 2);
        let said = words(&told);
        assert!(said.starts_with("Nothing is left to claim"), "{said}");
        assert!(said.contains("refused it on 2 channels"), "{said}");
    }
}
