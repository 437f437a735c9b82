//! A client that says exactly what a test wants said, and shows exactly what comes.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::scripted::PATIENCE;

pub(crate) struct Wire {
    pub(crate) socket: TcpStream,
    ahead: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
}

impl Head {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("{what} did not come"))
}

impl Wire {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self {
            socket: TcpStream::connect(address).await.unwrap(),
            ahead: Vec::new(),
        }
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.socket.write_all(text.as_bytes()).await.unwrap();
    }

    pub(crate) async fn post(&mut self, body: &str) {
        self.send(&request(body)).await;
    }

    /// The same with more headers, each with its line's end.
    pub(crate) async fn post_with(&mut self, body: &str, headers: &str) {
        let plain = request(body);
        let (first, rest) = plain.split_once("\r\n").unwrap();
        self.send(&format!("{first}\r\n{headers}{rest}")).await;
    }

    /// More input; false at its end.
    async fn read(&mut self) -> bool {
        soon("input", self.socket.read_buf(&mut self.ahead))
            .await
            .is_ok_and(|read| read > 0)
    }

    async fn until(&mut self, end: &[u8]) -> Option<String> {
        loop {
            if let Some(at) = self
                .ahead
                .windows(end.len())
                .position(|window| window == end)
            {
                let text = self.ahead.drain(..at + end.len()).take(at).collect();
                return Some(String::from_utf8(text).unwrap());
            }
            if !self.read().await {
                return None;
            }
        }
    }

    async fn exactly(&mut self, bytes: usize) -> Option<String> {
        while self.ahead.len() < bytes {
            if !self.read().await {
                return None;
            }
        }
        Some(String::from_utf8(self.ahead.drain(..bytes).collect()).unwrap())
    }

    pub(crate) async fn head(&mut self) -> Head {
        self.try_head().await.expect("a head")
    }

    pub(crate) async fn try_head(&mut self) -> Option<Head> {
        let text = self.until(b"\r\n\r\n").await?;
        let mut lines = text.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers = lines.filter_map(|line| line.split_once(": "));
        let headers = headers
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        Some(Head { status, headers })
    }

    /// The next chunk of a chunked body as it was written; none at its end,
    /// an error if the connection ends first.
    pub(crate) async fn chunk(&mut self) -> Result<Option<String>, &'static str> {
        let size = self.until(b"\r\n").await.ok_or("cut off")?;
        let size = usize::from_str_radix(&size, 16).unwrap();
        let chunk = self.exactly(size + 2).await.ok_or("cut off")?;
        Ok((size > 0).then(|| chunk[..size].to_owned()))
    }

    /// The body, all of it.
    pub(crate) async fn body(&mut self, head: &Head) -> String {
        if let Ok(length) = head.header("content-length").parse() {
            return self.exactly(length).await.expect("a whole body");
        }
        let mut body = String::new();
        while let Some(chunk) = self.chunk().await.expect("a whole body") {
            body.push_str(&chunk);
        }
        body
    }

    /// Status and body of an answer.
    pub(crate) async fn answer(&mut self) -> (u16, String) {
        let head = self.head().await;
        let body = self.body(&head).await;
        (head.status, body)
    }

    /// Waits until the other side has closed.
    pub(crate) async fn closed(&mut self) {
        while self.read().await {}
    }
}

pub(crate) fn request(body: &str) -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The `code` of an error body.
pub(crate) fn code(body: &str) -> String {
    let body: openai::ErrorBody =
        serde_json::from_str(body).unwrap_or_else(|_| panic!("no error body: {body}"));
    assert!(!body.error.message.is_empty());
    body.error.code.unwrap_or_default()
}

impl Wire {
    /// The status of `/healthz`; none if the connection does not last that long.
    pub(crate) async fn try_healthz(&mut self) -> Option<u16> {
        let text = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
        self.socket.write_all(text).await.ok()?;
        Some(self.try_head().await?.status)
    }
}
