//! Clients that check what they read: every token is its number, so nothing can
//! be missing or come twice unseen.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::backend::word;
use crate::client::{Asked, request};
use crate::http;

/// No stream takes longer; one that does hangs.
const STREAM_WITHIN: Duration = Duration::from_secs(180);
/// Said of so many that were not whole.
const PROBLEMS_SHOWN: usize = 20;

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Ending {
    Whole,
    /// Before its first token, with an error.
    Refused,
    /// Within it, with an error.
    Broken,
    /// Without `[DONE]` and without an error.
    Silent,
    /// With `[DONE]`, and a token missing or twice.
    Wrong,
    Hung,
}

struct Came {
    ending: Ending,
    tokens: u32,
    problem: String,
    ttft_ms: f64,
    /// The longest pause between two tokens.
    pause_ms: f64,
    /// Providers that it took.
    parts: usize,
    /// Tokens that the receipts bill, as far as they are there.
    billed: u64,
}

pub(crate) async fn run(asked: Asked, at_once: u32) -> io::Result<Value> {
    let began = Instant::now();
    let places = Arc::new(Semaphore::new(at_once as usize));
    let mut streams = JoinSet::new();
    let mut all = Vec::new();
    for turn in 0..asked.streams {
        if turn < at_once {
            // Not all at the same moment.
            sleep(Duration::from_secs(3) / at_once).await;
        }
        let place = Arc::clone(&places).acquire_owned().await;
        let (asked, place) = (asked.clone(), place.map_err(io::Error::other)?);
        streams.spawn(async move {
            let _place = place;
            stream(asked, turn).await
        });
        while let Some(ended) = streams.try_join_next() {
            all.push(ended.map_err(io::Error::other)?);
        }
    }
    while let Some(ended) = streams.join_next().await {
        all.push(ended.map_err(io::Error::other)?);
    }
    Ok(told(&all, began.elapsed()))
}

fn told(all: &[Came], took: Duration) -> Value {
    let mut endings = BTreeMap::new();
    for came in all {
        *endings.entry(came.ending).or_insert(0) += 1;
    }
    let count = |ending| endings.get(&ending).copied().unwrap_or(0);
    let whole = || all.iter().filter(|came| came.ending == Ending::Whole);
    let problems = all.iter().filter(|came| came.ending != Ending::Whole);
    let problems =
        problems.map(|came| format!("{:?} after {}: {}", came.ending, came.tokens, came.problem));
    let spread = |values: Vec<f64>| {
        let mut values = values;
        values.sort_unstable_by(f64::total_cmp);
        let at = |share: usize| {
            values.get((values.len() * share / 1000).min(values.len().saturating_sub(1)))
        };
        json!({ "count": values.len(), "p50_ms": at(500), "p99_ms": at(990), "max_ms": values.last() })
    };
    let (one, several): (Vec<&Came>, Vec<&Came>) = whole().partition(|came| came.parts < 2);
    json!({
        "streams": all.len(),
        "whole": count(Ending::Whole),
        "refused": count(Ending::Refused),
        "broken": count(Ending::Broken),
        "silent": count(Ending::Silent),
        "wrong": count(Ending::Wrong),
        "hung": count(Ending::Hung),
        "billed_beyond_delivered": all.iter().filter(|came| came.billed > u64::from(came.tokens)).count(),
        "tokens": all.iter().map(|came| u64::from(came.tokens)).sum::<u64>(),
        "seconds": took.as_secs_f64(),
        "ttft": spread(whole().map(|came| came.ttft_ms).collect()),
        "pause_of_one_provider": spread(one.iter().map(|came| came.pause_ms).collect()),
        "pause_of_several": spread(several.iter().map(|came| came.pause_ms).collect()),
        "problems": problems.take(PROBLEMS_SHOWN).collect::<Vec<_>>(),
    })
}

async fn stream(asked: Asked, turn: u32) -> Came {
    let mut came = Came {
        ending: Ending::Hung,
        tokens: 0,
        problem: String::new(),
        ttft_ms: 0.0,
        pause_ms: 0.0,
        parts: 1,
        billed: 0,
    };
    match timeout(STREAM_WITHIN, read(&asked, turn, &mut came)).await {
        Err(_) => came.problem = "nothing more came".into(),
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            came.ending = Ending::Silent;
            came.problem = error.to_string();
        }
    }
    came
}

async fn read(asked: &Asked, turn: u32, came: &mut Came) -> io::Result<()> {
    let began = Instant::now();
    let socket = TcpStream::connect(asked.target).await?;
    socket.set_nodelay(true)?;
    let (read, mut write) = socket.into_split();
    // Each is a conversation of its own.
    let question = format!("{} {} numbered {turn}", asked.tokens, asked.per_second);
    write.write_all(&request(asked, &question)).await?;
    let mut read = BufReader::new(read);
    let head = http::read(&mut read).await?;
    let head = head.ok_or_else(|| io::Error::other("no answer"))?;
    if !head.first_line.contains(" 200 ") {
        came.ending = Ending::Refused;
        came.problem = format!(
            "{} {}",
            head.first_line.trim(),
            String::from_utf8_lossy(&head.body)
        );
        return Ok(());
    }
    let (mut line, mut text, mut last) = (Vec::new(), String::new(), began);
    loop {
        line.clear();
        if read.read_until(b'\n', &mut line).await? == 0 {
            return Err(io::Error::other("the connection ended"));
        }
        if let Some(tail) = line.strip_prefix(b": lethe ") {
            let tail: Value = serde_json::from_slice(tail).unwrap_or_default();
            let parts = tail["parts"].as_array().cloned().unwrap_or_default();
            came.parts = parts.len().max(1);
            let receipted = parts.iter().filter(|part| part["cost"].is_string());
            let receipted: u64 = receipted
                .filter_map(|part| part["output_tokens"].as_u64())
                .sum();
            came.billed = match parts.is_empty() {
                true => tail["output_tokens"].as_u64().unwrap_or(0),
                false => receipted,
            };
        }
        if line.starts_with(b"data: [DONE]") {
            let right: String = (0..asked.tokens).map(word).collect();
            came.ending = if text == right {
                Ending::Whole
            } else {
                Ending::Wrong
            };
            if came.ending == Ending::Wrong {
                came.problem = format!("{text:?}");
            }
            return Ok(());
        }
        let Some(json) = line.strip_prefix(b"data: ") else {
            continue;
        };
        let chunk: Value = serde_json::from_slice(json).map_err(io::Error::other)?;
        if let Some(message) = chunk["error"]["message"].as_str() {
            came.ending = match came.tokens {
                0 => Ending::Refused,
                _ => Ending::Broken,
            };
            came.problem = message.to_owned();
            return Ok(());
        }
        let Some(said) = chunk["choices"][0]["delta"]["content"].as_str() else {
            continue;
        };
        let pause_ms = 1e3 * last.elapsed().as_secs_f64();
        last = Instant::now();
        match came.tokens {
            0 => came.ttft_ms = pause_ms,
            _ => came.pause_ms = came.pause_ms.max(pause_ms),
        }
        text.push_str(said);
        came.tokens += 1;
    }
}
