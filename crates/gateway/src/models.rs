//! What is on offer, and whether the gateway is of use: `/v1/models`,
//! `/healthz`, `/readyz`, `/metrics`.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use consumer::{ModelView, OfferView};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use market::{Kind, UsdRates};
use openai::{ModelCard, ModelList};
use serde_json::{Value, json};

use crate::behind::Market;
use crate::dialects;
use crate::fault::{AMBIGUOUS, Fault};
use crate::gate::Shop;

/// The most problems that `/readyz` tells.
const MAX_PROBLEMS: usize = 5;

/// Characters of a name that nobody sells that are said back.
const MAX_NAME: usize = 100;

/// The most names that are told where one means several.
const MAX_CHOICES: usize = 20;

/// `GET /v1/models`
pub(crate) async fn list<M: Market>(State(shop): State<Shop<M>>, headers: HeaderMap) -> Response {
    let models = shop.market.models();
    if dialects::is_anthropic(&headers) {
        return Json(openai::dialect::anthropic::models(
            models.iter().map(|model| (&*model.name, model.seen_at.0)),
        ))
        .into_response();
    }
    let usd = shop.front.settings.usd_rates();
    let cards = models.iter().map(|model| card(model, &usd));
    Json(ModelList::new(cards.collect())).into_response()
}

/// `GET /v1/models/{name}`; names may hold slashes, and a card behind an `@`.
pub(crate) async fn one<M: Market>(
    State(shop): State<Shop<M>>,
    Path(name): Path<String>,
) -> Result<Json<ModelCard>, Fault> {
    let model = meant(&shop.market.models(), &name)?;
    Ok(Json(card(&model, &shop.front.settings.usd_rates())))
}

/// The one model that a name means.
pub(crate) fn meant(models: &[ModelView], name: &str) -> Result<ModelView, Fault> {
    if let Some(model) = models.iter().find(|model| model.name == name) {
        return Ok(model.clone());
    }
    let meant = models.iter().filter(|model| model.is_meant_by(name));
    let meant: Vec<_> = meant.collect();
    let name: String = name.chars().take(MAX_NAME).collect();
    match meant.as_slice() {
        [] => {
            let message = format!("no model {name:?}; GET /v1/models lists the names");
            Err(Fault::new(
                StatusCode::NOT_FOUND,
                "model_not_found",
                message,
            ))
        }
        [model] => Ok(ModelView::clone(model)),
        several => {
            let names = several.iter().take(MAX_CHOICES);
            let names: Vec<_> = names.map(|model| model.name.as_str()).collect();
            let names = names.join(", ");
            let message = format!("model {name:?} has several cards; ask for one of: {names}");
            Err(Fault::new(StatusCode::BAD_REQUEST, AMBIGUOUS, message))
        }
    }
}

/// The standard fields, and what a buyer wants to know of the model and of the
/// cheapest offer.
fn card(model: &ModelView, usd: &UsdRates) -> ModelCard {
    let (with_card, rest): (Vec<_>, Vec<_>) = model
        .offers
        .iter()
        .partition(|offer| offer.card.is_some() == model.card.is_some());
    let live = |offers: &[&OfferView]| offers.iter().filter(|offer| offer.live).count();
    let mut card = ModelCard::new(model.name.as_str(), model.seen_at.0, "lethe")
        .with("kind", json!(Kind::of_card(model.card.as_ref())))
        .with("live", model.is_live())
        .with("providers", live(&with_card));
    if let Some(of_model) = &model.card {
        card = card
            .with("card_id", of_model.id().to_string())
            .with("card", json!(of_model))
            .with("quantization", of_model.quantization.clone())
            .with("providers_without_card", live(&rest));
        if let Some(modality) = &of_model.modality {
            card = card.with("architecture", architecture(modality));
        }
    }
    if !model.look_alike_of.is_empty() {
        card = card.with("look_alike_of", model.look_alike_of.clone());
    }
    // Offers with the card come first, the live and cheap ones before others.
    let Some(best) = model.offers.first() else {
        return card;
    };
    let mut pricing = json!({
        "token": best.token.to_string(),
        "input_per_million": best.rates.input_per_million,
        "output_per_million": best.rates.output_per_million,
    });
    if let Some(rate) = usd.rate(best.token) {
        let micro_usd = |price| rate.micro_usd_of(price).to_string();
        pricing["micro_usd"] = json!({
            "input_per_million": micro_usd(best.rates.input_per_million),
            "output_per_million": micro_usd(best.rates.output_per_million),
            "source": rate.source,
        });
        if let Some(at) = rate.at {
            pricing["micro_usd"]["at"] = at.0.into();
        }
    }
    if !best.parameters.is_empty() {
        card = card.with("supported_parameters", best.parameters.clone());
    }
    card.with("pricing", pricing)
        .with("labels", json!(best.labels))
        .with("context_length", best.context_length)
        .with(
            "max_output_tokens",
            longest_answer(&model.offers, best.live),
        )
}

/// The longest answer that there can be: the longest that is sold and that a
/// context holds, of those who are there if somebody is; none where somebody
/// sets no limit.
fn longest_answer(offers: &[OfferView], live: bool) -> Option<u32> {
    let limit = |offer: &OfferView| {
        let limits = [offer.output_tokens_max, offer.context_length];
        limits.into_iter().flatten().min()
    };
    let offers = offers.iter().filter(|offer| offer.live == live);
    let limits: Option<Vec<u32>> = offers.map(limit).collect();
    limits?.into_iter().max()
}

/// A modality as OpenRouter's clients read it.
fn architecture(modality: &str) -> Value {
    let (input, output) = modality.split_once("->").unwrap_or((modality, modality));
    let each = |side: &str| side.split('+').map(str::to_owned).collect::<Vec<_>>();
    json!({
        "modality": format!("{input}->{output}"),
        "input_modalities": each(input),
        "output_modalities": each(output),
    })
}

/// `GET /healthz`: the process answers.
pub(crate) async fn alive() -> Json<Value> {
    Json(json!({ "alive": true }))
}

/// `GET /readyz`: somebody would answer a request.
pub(crate) async fn ready<M: Market>(State(shop): State<Shop<M>>) -> Response {
    if shop.front.cut.is_cancelled() {
        return not_ready("the node is stopping", &[]);
    }
    let notices = shop.front.notices.get();
    let notices = notices.map_or_else(Vec::new, |told| told.borrow().clone());
    let warnings: Vec<String> = notices.iter().map(|notice| notice.text.clone()).collect();
    if let Some(stops) = notices.iter().find(|notice| notice.stops) {
        return not_ready(&stops.text, &warnings);
    }
    let models = shop.market.models();
    let live = models.iter().filter(|model| model.is_live()).count();
    if live > 0 {
        let mut body = json!({ "ready": true, "models": live });
        let mut warnings = warnings;
        match shop.market.shortage() {
            Some(none) if none.reached == 0 => return not_ready(&none.to_string(), &warnings),
            // One relay carries as long as what the other one confirmed is fresh.
            Some(one) => warnings.push(format!("requests go out, but not for long: {one}")),
            None => {}
        }
        if !warnings.is_empty() {
            body["warnings"] = warnings.into();
        }
        return Json(body).into_response();
    }
    // What is wrong around the node is the likelier cause.
    if let Some(first) = warnings.first() {
        return not_ready(first, &warnings);
    }
    if let Some(shortage) = shop.market.shortage() {
        return not_ready(&shortage.to_string(), &[]);
    }
    if models.is_empty() {
        return not_ready("no model is on offer", &[]);
    }
    let offers = models.iter().flat_map(|model| &model.offers);
    let problem = |offer: &consumer::OfferView| {
        let problem = offer.problem.as_deref().unwrap_or("not live");
        format!("provider {}: {problem}", offer.provider)
    };
    let problems: Vec<String> = offers.map(problem).take(MAX_PROBLEMS).collect();
    not_ready("no provider can be reached", &problems)
}

fn not_ready(reason: &str, problems: &[String]) -> Response {
    let body = json!({ "ready": false, "reason": reason, "problems": problems });
    (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
}

/// `GET /metrics`
pub(crate) async fn metrics<M: Market>(State(shop): State<Shop<M>>) -> Response {
    const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
    ([(CONTENT_TYPE, PROMETHEUS)], shop.front.metrics.render()).into_response()
}
