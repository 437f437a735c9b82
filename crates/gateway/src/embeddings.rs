//! `POST /v1/embeddings`, and Ollama's `/api/embed` and `/api/embeddings`.
//!
//! Vectors come in pieces and go out as one body: no dialect has another form
//! for them. They are kept as they came until then, and written in the form
//! that the client asked for.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use consumer::{Piece, Summary};
use futures_util::StreamExt;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use openai::dialect::ollama::{self, Embed};
use openai::embeddings::{Gathered, RowsError};
use openai::{BadRequest, EmbeddingsRequest, VectorFormat};

use crate::behind::{Market, Running};
use crate::chat::{self, Begun, Delivery, Received, ending, parse, receive, silent, unusable};
use crate::fault::Fault;
use crate::gate::Shop;
use crate::metrics::Ending;
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
    let Begun {
        answer,
        first,
        delivery,
        headers,
    } = begun;
    let on = answer.route();
    let (gathered, summary) = tokio::select! {
        gathered = gather(answer, first, delivery) => gathered.map_err(|fault| fault.on(on))?,
        () = shop.front.cut.cancelled() => return Err(Fault::stopping().on(on)),
    };
    // Numbers in decimals take their time: off the runtime.
    let written = move || write(&gathered, &summary, &model, &form);
    let written = tokio::task::spawn_blocking(written).await;
    let body = written.map_err(|_| Fault::stopping().on(on))?;
    let body = body.map_err(|error| unusable(&error).on(on))?;
    Ok((headers, json(body)).into_response())
}

/// All pieces, and what they cost.
async fn gather<A: Running>(
    mut answer: A,
    first: Piece,
    mut delivery: Delivery,
) -> Result<(Gathered, Summary), Fault> {
    let mut gathered = Gathered::default();
    let mut piece = first;
    loop {
        match piece {
            Piece::End(summary) => {
                drop(answer);
                delivery.complete(&summary);
                return Ok((gathered, summary));
            }
            Piece::Chunk(json) => {
                delivery.chunk();
                if let Err(error) = gathered.push(json) {
                    delivery.ended(Ending::Broken);
                    return Err(unusable(&error));
                }
            }
        }
        piece = match answer.next().await.unwrap_or_else(|| Err(silent())) {
            Ok(piece) => piece,
            Err(broken) => {
                delivery.ended(Ending::Broken);
                return Err(Fault::from(&broken));
            }
        };
    }
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

fn json(body: Vec<u8>) -> Response {
    let json = [(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    (json, body).into_response()
}
