//! `lethe chat`: a chat on the terminal that shows who answered, how fast, and
//! for how much. Nothing of it is kept.

use std::io::BufRead;

use market::Amount;
use openai::sse::Decoder;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::cli;
use crate::client::{Client, ClientError, json as parsed};
use crate::output;

/// What the gateway says at the end of a stream, in a comment.
#[derive(Debug, Deserialize)]
struct Tail {
    provider: String,
    cost: Amount,
    output_tokens: u32,
}

/// What marks it.
const TAIL: &str = ": lethe ";

/// Chats until the input ends, or answers the one question.
pub(crate) async fn chat(args: cli::Chat) -> Result<(), ClientError> {
    let client = Client::of(args.data.folder)?;
    let model = match args.model {
        Some(model) => model,
        None => first_model(&client).await?,
    };
    if let Some(question) = args.question {
        answer(&client, &model, &mut vec![user(&question)]).await?;
        return Ok(());
    }
    output::line(format!("{model}. An empty line or Ctrl-D ends."));
    let mut messages = Vec::new();
    while let Some(question) = ask().await {
        messages.push(user(&question));
        answer(&client, &model, &mut messages).await?;
    }
    Ok(())
}

fn user(question: &str) -> Value {
    json!({ "role": "user", "content": question })
}

async fn first_model(client: &Client) -> Result<String, ClientError> {
    let list: Value = parsed(client.get("/v1/models").await?).await?;
    let first = list["data"][0]["id"].as_str().map(str::to_owned);
    first.ok_or(ClientError::Refused {
        status: 503,
        message: "nothing is on offer yet".into(),
    })
}

/// The next line that the user types.
async fn ask() -> Option<String> {
    output::text("> ");
    let line = tokio::task::spawn_blocking(|| std::io::stdin().lock().lines().next()).await;
    let line = line.ok()??.ok()?.trim().to_owned();
    (!line.is_empty()).then_some(line)
}

/// Prints one answer as it comes, and what it was.
async fn answer(
    client: &Client,
    model: &str,
    messages: &mut Vec<Value>,
) -> Result<(), ClientError> {
    let body = json!({ "model": model, "stream": true, "messages": messages });
    let started = Instant::now();
    let mut response = client.chat(&body).await?;
    let (mut decoder, mut raw, mut text, mut ttft) =
        (Decoder::new(), String::new(), String::new(), None);
    while let Some(piece) = response.chunk().await.map_err(ClientError::Broken)? {
        raw.push_str(&String::from_utf8_lossy(&piece));
        let keep = raw.rfind(TAIL).or_else(|| raw.rfind('\n')).unwrap_or(0);
        raw.drain(..keep);
        let broken = |problem: String| ClientError::Refused {
            status: 200,
            message: problem,
        };
        decoder.push(&piece);
        while let Some(event) = decoder.next().map_err(|error| broken(error.to_string()))? {
            let Ok(chunk) = serde_json::from_slice::<Value>(&event.data) else {
                continue;
            };
            if let Some(message) = chunk["error"]["message"].as_str() {
                output::line("");
                return Err(broken(message.to_owned()));
            }
            if let Some(delta) = chunk["choices"][0]["delta"]["content"].as_str() {
                ttft.get_or_insert_with(|| started.elapsed());
                output::text(delta);
                text.push_str(delta);
            }
        }
    }
    output::line("");
    messages.push(json!({ "role": "assistant", "content": text }));
    report(&raw, started, ttft);
    Ok(())
}

fn report(raw: &str, started: Instant, ttft: Option<std::time::Duration>) {
    let tail = raw.lines().find_map(|line| line.strip_prefix(TAIL));
    let Some(tail) = tail.and_then(|tail| serde_json::from_str::<Tail>(tail).ok()) else {
        return;
    };
    let ttft = ttft.unwrap_or_default();
    let seconds = started.elapsed().saturating_sub(ttft).as_secs_f64();
    let speed = f64::from(tail.output_tokens.saturating_sub(1)) / seconds.max(1e-6);
    output::line(format!(
        "  [{} · first token {} ms · {speed:.0} tokens/s · {} tokens · {} MOR]",
        tail.provider,
        ttft.as_millis(),
        tail.output_tokens,
        tail.cost.to_decimal(18),
    ));
}
