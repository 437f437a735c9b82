//! A backend that costs next to nothing: every token is the same event, and
//! each goes out in a write of its own, as from a server that streams.
//!
//! The last message of a request says what to do: `TOKENS PER_SECOND`, and a
//! pace of 0 is as fast as the reader takes it. With `TOKENS PER_SECOND numbered`
//! each token is its number, so that it shows if one is missing; such an answer
//! is gone on with where the request begins it. Anything else is answered with
//! a few numbers.

use std::io;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::http;

const STREAM_HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

pub(crate) async fn serve(listener: TcpListener) -> io::Result<()> {
    let mut connections = JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await?;
        // One that breaks is the peer's affair.
        connections.spawn(async move { drop(converse(socket).await) });
        while connections.try_join_next().is_some() {}
    }
}

async fn converse(socket: TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let (read, mut write) = socket.into_split();
    let mut read = BufReader::new(read);
    while let Some(request) = http::read(&mut read).await? {
        if request.first_line.starts_with("GET ") {
            say_models(&mut write).await?;
        } else {
            say_tokens(&mut write, &request.body).await?;
        }
    }
    Ok(())
}

async fn say_models(write: &mut OwnedWriteHalf) -> io::Result<()> {
    let body = json!({ "object": "list", "data": [{ "id": "scripted" }] }).to_string();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    write.write_all((head + &body).as_bytes()).await
}

async fn say_tokens(write: &mut OwnedWriteHalf, body: &[u8]) -> io::Result<()> {
    let wanted = Wanted::read(body).ok_or_else(|| io::Error::other("no messages"))?;
    write.write_all(STREAM_HEAD.as_bytes()).await?;
    let said = |text: &str| {
        let text = choices(json!({ "content": text }), Value::Null);
        event(&text, Value::Null)
    };
    let river = said(" river");
    let mut pace = (wanted.per_second > 0).then(|| {
        let mut pace = interval(Duration::from_secs(1) / wanted.per_second);
        pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
        pace
    });
    let mut skip = wanted.begun_bytes;
    let mut tokens = 0;
    for number in 0..wanted.tokens {
        let word = word(number);
        if wanted.numbered && skip >= word.len() {
            skip -= word.len();
            continue;
        }
        if let Some(pace) = &mut pace {
            pace.tick().await;
        }
        match wanted.numbered {
            true => write.write_all(&said(&word[skip..])).await?,
            false => write.write_all(&river).await?,
        }
        skip = 0;
        tokens += 1;
    }
    let usage =
        json!({ "prompt_tokens": 9, "completion_tokens": tokens, "total_tokens": 9 + tokens });
    let mut end = event(&choices(json!({}), json!("stop")), Value::Null);
    end.extend(event(&json!([]), usage));
    end.extend(http_chunk("data: [DONE]\n\n"));
    end.extend(b"0\r\n\r\n");
    write.write_all(&end).await
}

/// The text of a numbered token.
pub(crate) fn word(number: u32) -> String {
    format!(" {number}")
}

/// What a request asks for.
struct Wanted {
    tokens: u32,
    per_second: u32,
    numbered: bool,
    /// So much of it stands in the request.
    begun_bytes: usize,
}

impl Wanted {
    fn read(body: &[u8]) -> Option<Self> {
        const SOME: u32 = 12;
        let body: Value = serde_json::from_slice(body).ok()?;
        let mut messages = body["messages"].as_array()?.iter().rev();
        let begun = match body["continue_final_message"] == true {
            true => messages.next()?["content"].as_str()?,
            false => "",
        };
        let mut words = messages.next()?["content"].as_str()?.split(' ');
        let mut number = || words.next().and_then(|word| word.parse().ok());
        let (tokens, per_second) = (number(), number());
        let understood = tokens.is_some() && per_second.is_some();
        Some(Self {
            tokens: tokens.filter(|_| understood).unwrap_or(SOME),
            per_second: per_second.filter(|_| understood).unwrap_or(0),
            numbered: !understood || words.next() == Some("numbered"),
            begun_bytes: begun.len(),
        })
    }
}

fn choices(delta: Value, finish_reason: Value) -> Value {
    json!([{ "index": 0, "delta": delta, "logprobs": null, "finish_reason": finish_reason }])
}

/// An event as servers write it, within one chunk of HTTP's.
fn event(choices: &Value, usage: Value) -> Vec<u8> {
    let chunk = json!({
        "id": "chatcmpl-0123456789abcdef0123456789abcdef",
        "object": "chat.completion.chunk",
        "created": 1_790_000_000,
        "model": "scripted",
        "choices": choices,
        "usage": usage,
    });
    http_chunk(&format!("data: {chunk}\n\n"))
}

fn http_chunk(data: &str) -> Vec<u8> {
    format!("{:x}\r\n{data}\r\n", data.len()).into_bytes()
}
