//! Clients that read streams to their end, and count.
//!
//! They start evenly over one token's time, so that a paced run has its tokens
//! spread as from backends that do not know of each other.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::http;

const READ_BYTES: usize = 64 * 1024;

#[derive(Clone)]
pub(crate) struct Asked {
    pub(crate) target: SocketAddr,
    pub(crate) key: String,
    pub(crate) model: String,
    pub(crate) streams: u32,
    /// Of each stream.
    pub(crate) tokens: u32,
    /// Of each stream; 0 is flat out.
    pub(crate) per_second: u32,
}

/// What came, as JSON. An answer that is not whole is an error.
pub(crate) async fn run(asked: Asked) -> io::Result<Value> {
    let began = Instant::now();
    let mut streams = JoinSet::new();
    for turn in 0..asked.streams {
        streams.spawn(stream(asked.clone(), turn));
    }
    let mut gaps = Vec::new();
    let mut tokens = 0;
    while let Some(ended) = streams.join_next().await {
        let came = ended.map_err(io::Error::other)??;
        tokens += came.tokens;
        gaps.extend(came.gaps_ms);
    }
    gaps.sort_unstable_by(f64::total_cmp);
    let gap = |share: usize| gaps.get(gaps.len() * share / 1000);
    Ok(json!({
        "tokens": tokens,
        "wall_s": began.elapsed().as_secs_f64(),
        "gap_p50_ms": gap(500),
        "gap_p99_ms": gap(990),
        "gap_max_ms": gaps.last(),
    }))
}

/// What came of one stream.
struct Came {
    tokens: u32,
    /// Between a token and the next.
    gaps_ms: Vec<f64>,
}

async fn stream(asked: Asked, turn: u32) -> io::Result<Came> {
    if let Some(period) = Duration::from_secs(1).checked_div(asked.per_second) {
        sleep(period * turn / asked.streams).await;
    }
    let socket = TcpStream::connect(asked.target).await?;
    socket.set_nodelay(true)?;
    let (read, mut write) = socket.into_split();
    let question = format!("{} {}", asked.tokens, asked.per_second);
    write.write_all(&request(&asked, &question)).await?;

    let mut read = BufReader::with_capacity(READ_BYTES, read);
    let head = http::read(&mut read).await?;
    let status = head.map(|head| head.first_line).unwrap_or_default();
    if !status.contains(" 200 ") {
        return Err(io::Error::other(format!("the answer is {status:?}")));
    }
    let (mut tokens, mut line, mut last) = (0, Vec::new(), Vec::new());
    let (mut gaps_ms, mut token_at) = (Vec::new(), None::<Instant>);
    loop {
        if line.starts_with(b"data: ") {
            last.clone_from(&line);
        }
        line.clear();
        if read.read_until(b'\n', &mut line).await? == 0 {
            let last = String::from_utf8_lossy(&last);
            let problem = format!("cut off after {tokens} tokens; the last event: {last}");
            return Err(io::Error::other(problem));
        }
        if line.starts_with(b"data: {") && contains(&line, b"\"content\":\"") {
            tokens += 1;
            let now = Instant::now();
            if let Some(before) = token_at.replace(now) {
                gaps_ms.push(1e3 * (now - before).as_secs_f64());
            }
        }
        if line.starts_with(b"data: [DONE]") {
            break;
        }
    }
    if tokens != asked.tokens {
        return Err(io::Error::other(format!(
            "{tokens} tokens, {} asked",
            asked.tokens
        )));
    }
    Ok(Came { tokens, gaps_ms })
}

pub(crate) fn request(asked: &Asked, question: &str) -> Vec<u8> {
    let body = json!({
        "model": asked.model,
        "stream": true,
        "messages": [{ "role": "user", "content": question }],
    })
    .to_string();
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        asked.target,
        asked.key,
        body.len()
    )
    .into_bytes()
}

fn contains(line: &[u8], part: &[u8]) -> bool {
    line.windows(part.len()).any(|window| window == part)
}
