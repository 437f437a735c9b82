//! `lethe price`: what a running provider asks, and another price from now on.
//!
//! The provider has it at its local door. Until its next start; then its flags count.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use market::{Amount, Rates};
use provider::{OfferStatus, Provider};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tracing::info;

use crate::cli::price::Price;
use crate::client::{self, Client, ClientError};
use crate::doorkeeper::{guarded, refuse};
use crate::folder::{FolderError, flag_of};
use crate::output;
use crate::policies::amount;

/// Where a running provider tells and takes it.
const DOOR: &str = "/api/price";

/// The price of a provider's offer.
pub(crate) struct Pricing {
    pub(crate) provider: Arc<Provider>,
    /// What it is paid in.
    pub(crate) token: chain::Token,
}

/// As the door tells it, for a million tokens, in whole tokens of `token`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    model: String,
    token: String,
    input_price: String,
    output_price: String,
}

/// As the door takes it; what is missing stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wanted {
    input_price: Option<String>,
    output_price: Option<String>,
}

impl Pricing {
    /// Its door, behind the node's key.
    pub(crate) fn routes(self, key: &str) -> Router {
        guarded([(DOOR, get(tell).post(take))], key).with_state(Arc::new(self))
    }

    fn told(&self, offer: &OfferStatus) -> Told {
        let shown = |rate: Amount| rate.to_decimal(self.token.decimals);
        Told {
            model: offer.name.clone(),
            token: self.token.symbol.clone(),
            input_price: shown(offer.rates.input_per_million),
            output_price: shown(offer.rates.output_per_million),
        }
    }

    fn all(&self) -> Vec<Told> {
        let status = self.provider.status();
        status.offers.iter().map(|offer| self.told(offer)).collect()
    }

    /// Sets the price of all that it offers. An error: in words.
    fn set(&self, wanted: &Wanted) -> Result<(), String> {
        let read = |field: &'static str, text: &Option<String>, now: Amount| match text {
            Some(text) => {
                amount(field, text, &self.token).map_err(|error| output::with_causes(&error))
            }
            None => Ok(now),
        };
        for offer in self.provider.status().offers {
            let Rates {
                input_per_million,
                output_per_million,
            } = offer.rates;
            let rates = Rates {
                input_per_million: read("inputPrice", &wanted.input_price, input_per_million)?,
                output_per_million: read("outputPrice", &wanted.output_price, output_per_million)?,
            };
            let set = self.provider.set_rates(offer.model, rates);
            set.map_err(|error| output::with_causes(&error))?;
            info!(model = offer.name, ?rates, "another price");
        }
        Ok(())
    }
}

async fn tell(State(pricing): State<Arc<Pricing>>) -> Json<Vec<Told>> {
    Json(pricing.all())
}

async fn take(State(pricing): State<Arc<Pricing>>, Json(wanted): Json<Wanted>) -> Response {
    match pricing.set(&wanted) {
        Ok(()) => Json(pricing.all()).into_response(),
        Err(message) => refuse(StatusCode::BAD_REQUEST, &message),
    }
}

/// Tells or changes the price.
pub(crate) async fn price(args: Price) -> Result<(), ClientError> {
    let client = Client::of(args.data.folder).map_err(of_a_seller)?;
    let wanted = Wanted {
        input_price: args.input_price,
        output_price: args.output_price,
    };
    let is_changed = wanted.input_price.is_some() || wanted.output_price.is_some();
    let answer = match is_changed {
        true => client.post(DOOR, &json!(wanted)).await,
        false => client.get(DOOR).await,
    };
    let answer = answer.map_err(of_a_seller)?;
    let told: Vec<Told> = client::json(answer).await?;
    if args.json {
        output::json(&json!({ "offers": told }));
        return Ok(());
    }
    for Told {
        model,
        token,
        input_price,
        output_price,
    } in told
    {
        output::line(output::plain(&format!(
            "{model}: {input_price} {token} for a million tokens of a request, {output_price} {token} of an answer"
        )));
    }
    if is_changed {
        output::line(
            "Consumers hear of it within seconds; who holds an older quote is served at that until it expires. \
             From the provider's next start on its flags count.",
        );
    }
    Ok(())
}

/// Where nothing runs: what has a price is no consumer.
pub(crate) fn of_a_seller(error: ClientError) -> ClientError {
    match error {
        ClientError::Folder(FolderError::NothingRuns { path }) => {
            let data = flag_of(&path);
            ClientError::Failed {
                message: format!(
                    "nothing runs on data folder {path:?}; only a running provider is asked this: `lethe provide{data} --model …` \
                     or `lethe sell{data} MODEL …`, as before"
                ),
            }
        }
        ClientError::Refused { status: 404, .. } => ClientError::Failed {
            message: "what runs on this data folder is no `lethe provide` or `lethe sell`; name the folder of one with --data".into(),
        },
        error => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_nothing_runs_a_provider_is_named_and_no_consumer() {
        let path = "/srv/shop".into();
        let told = of_a_seller(FolderError::NothingRuns { path }.into()).to_string();
        assert!(
            told.contains("`lethe sell --data /srv/shop MODEL …`"),
            "{told}"
        );
        assert!(!told.contains("consume"), "{told}");
    }
}
