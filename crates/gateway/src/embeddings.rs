//! `POST /v1/embeddings`, and Ollama's `/api/embed` and `/api/embeddings`.
//!
//! Vectors come in pieces and go out as one body: no dialect has another form
//! for them. They are kept as they came until then, and written in the form
//! that the client asked for.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use consumer::Summary;
use openai::dialect::ollama::{self, Embed};
use openai::embeddings::{Gathered, RowsError};
use openai::{BadRequest, EmbeddingsRequest, VectorFormat};

use crate::behind::{Market, Running};
use crate::chat::{self, Received, ending, json, parse, receive, unusable};
use crate::fault::Fault;
use crate::gate::Shop;
use crate::models;

/// What a client expects for an answer.
enum Form {
    OpenAi(VectorFormat),
    Ollama,
    /// The vector of one text.
    OllamaOne,
}

/// `POST /v1/embeddings`
pub(crate) async fn embeddings<M: Market>(
    State(shop): State<Shop<M>>,
    request: Request,
) -> Result<Response, Fault> {
    let received = receive(&shop.front, request).await?;
    let asked = parse(received.body.clone(), EmbeddingsRequest::parse).await?;
    let form = Form::OpenAi(asked.format());
    answer(shop, received, asked, form).await
}

/// `POST /api/embed`
pub(crate) async fn ollama_embed<M: Market>(
    State(shop): State<Shop<M>>,
    request: Request,
) -> Result<Response, Fault> {
    of_ollama(shop, request, ollama::embed, Form::Ollama).await
}

/// `POST /api/embeddings`
pub(crate) async fn ollama_embeddings<M: Market>(
    State(shop): State<Shop<M>>,
    request: Request,
) -> Result<Response, Fault> {
    of_ollama(shop, request, ollama::embeddings, Form::OllamaOne).await
}

async fn of_ollama<M: Market>(
    shop: Shop<M>,
    request: Request,
    read: fn(&Bytes) -> Result<Embed, BadRequest>,
    form: Form,
) -> Result<Response, Fault> {
    let received = receive(&shop.front, request).await?;
    match parse(received.body.clone(), move |body| read(&body)).await? {
        Embed::Answer(asked) => answer(shop, received, *asked, form).await,
        Embed::Load { model } => {
            models::meant(&shop.market.models(), &model)?;
            let none = match form {
                Form::OllamaOne => ollama::no_embedding(),
                _ => ollama::no_embeddings(&model),
            };
            Ok(json(none.to_string().into_bytes()))
        }
    }
}

async fn answer<M: Market>(
    shop: Shop<M>,
    received: Received,
    asked: EmbeddingsRequest,
    form: Form,
) -> Result<Response, Fault> {
    let model = asked.model().to_owned();
    let market = &shop.market;
    let ask = async |conditions| market.embed(asked, conditions).await;
    let begun = chat::begin(&shop.front, received, &model, ask).await?;
    let on = begun.answer.route();
    let mut gathered = Gathered::default();
    let push = |json| gathered.push(json).map_err(|error| unusable(&error));
    let (headers, summary) = begun.whole(push).await?;
    // Numbers in decimals take their time: off the runtime.
    let written = move || write(&gathered, &summary, &model, &form);
    let written = tokio::task::spawn_blocking(written).await;
    let body = written.map_err(|_| Fault::stopping().on(on))?;
    let body = body.map_err(|error| unusable(&error).on(on))?;
    Ok((headers, json(body)).into_response())
}

fn write(
    gathered: &Gathered,
    summary: &Summary,
    model: &str,
    form: &Form,
) -> Result<Vec<u8>, RowsError> {
    let ending = ending(summary);
    match form {
        Form::OpenAi(format) => gathered.openai(model, *format, &ending),
        Form::Ollama => gathered.ollama(model, &ending),
        Form::OllamaOne => gathered.ollama_one(&ending),
    }
}
