//! Starting the binary, and talking to what it serves.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

/// The longest that anything here is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// The binary with these arguments on this data folder.
pub(crate) fn lethe(data: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lethe"));
    command
        .arg(args[0])
        .arg("--data")
        .arg(data)
        .args(&args[1..]);
    command.env("LETHE_LOG", "error").stdin(Stdio::null());
    // The user's own config file is none of a story's.
    command.env("XDG_CONFIG_HOME", data).env("TZ", "UTC");
    command
}

/// Runs a command to its end.
pub(crate) fn ended(data: &Path, args: &[&str]) -> Output {
    lethe(data, args).output().unwrap()
}

/// A running role, killed when dropped.
pub(crate) struct Running {
    child: Child,
    /// What it said when it was ready.
    pub(crate) ready: Value,
}

impl Running {
    /// Starts it and waits for its line of JSON.
    pub(crate) fn start(data: &Path, args: &[&str]) -> Self {
        let mut command = lethe(data, args);
        command.stderr(Stdio::piped());
        Self::started(command, args)
    }

    /// The same; what it logs at this level goes into a file.
    pub(crate) fn start_logged(data: &Path, args: &[&str], level: &str, log: &Path) -> Self {
        let mut command = lethe(data, args);
        let log = std::fs::File::create(log).unwrap();
        command.env("LETHE_LOG", level).stderr(log);
        Self::started(command, args)
    }

    fn started(mut command: Command, args: &[&str]) -> Self {
        let mut child = command
            .arg("--json")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let Ok(ready) = serde_json::from_str(&line) else {
            let mut said = String::new();
            if let Some(mut errors) = child.stderr.take() {
                errors.read_to_string(&mut said).unwrap();
            }
            panic!("{args:?} did not start: {said}");
        };
        Self { child, ready }
    }

    /// One that was started elsewhere and said this.
    pub(crate) fn ready(child: Child, ready: Value) -> Self {
        Self { child, ready }
    }

    /// The process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// A field of what it said.
    pub(crate) fn said(&self, field: &str) -> String {
        self.ready[field]
            .as_str()
            .unwrap_or_else(|| panic!("no {field} in {}", self.ready))
            .to_owned()
    }

    /// Whether it has not ended.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and waits for its end.
    pub(crate) fn stop(mut self) {
        self.terminate();
        assert!(self.child.wait().unwrap().success(), "it did not end well");
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        // The shell's own `kill`: the program of that name is not everywhere.
        let command = format!("kill -TERM {}", self.child.id());
        assert!(
            Command::new("sh")
                .args(["-c", &command])
                .status()
                .unwrap()
                .success()
        );
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An OpenAI client of a gateway, no more than the stories need.
pub(crate) struct Client {
    http: reqwest::Client,
    base_url: String,
    key: String,
}

impl Client {
    pub(crate) fn of(running: &Running) -> Self {
        // Whoever comes second finds it installed.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(PATIENCE)
            .build()
            .unwrap();
        Self {
            http,
            base_url: running.said("base_url"),
            key: running.said("api_key"),
        }
    }

    /// The same gateway, with another of its keys.
    pub(crate) fn with_key(&self, key: &str) -> Self {
        Self {
            http: self.http.clone(),
            base_url: self.base_url.clone(),
            key: key.to_owned(),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> reqwest::Response {
        let url = format!("{}{path}", self.base_url);
        self.http
            .get(url)
            .bearer_auth(&self.key)
            .send()
            .await
            .unwrap()
    }

    /// Something of the dashboard's API.
    /// Until so many of the consumer's channels have money left.
    pub(crate) async fn funded(&self, channels: usize) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let money = self.api("GET", "/api/money").await;
            let mut places = money["places"].as_array().unwrap().clone();
            places.retain(|place| {
                let label = place["label"].as_str().unwrap();
                label.starts_with("channel to ") && label.ends_with(": free")
            });
            places.retain(|place| place["amount"] != "0");
            if places.len() == channels {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{money}");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn api(&self, method: &str, path: &str) -> Value {
        let url = format!("{}{path}", self.base_url.trim_end_matches("/v1"));
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let response = self
            .http
            .request(method, url)
            .bearer_auth(&self.key)
            .send()
            .await
            .unwrap();
        response.json().await.unwrap()
    }

    /// Posts to a path of the gateway: the status and the JSON that comes.
    pub(crate) async fn post_at(&self, path: &str, body: &Value) -> (u16, Value) {
        let url = format!("{}{path}", self.base_url.trim_end_matches("/v1"));
        let request = self.http.post(url).bearer_auth(&self.key).json(body);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    /// Asks, streamed.
    pub(crate) async fn ask(&self, model: &str, question: &str) -> reqwest::Response {
        self.try_ask(model, question).await.unwrap()
    }

    /// Asks somebody who may not be there.
    pub(crate) async fn try_ask(
        &self,
        model: &str,
        question: &str,
    ) -> reqwest::Result<reqwest::Response> {
        let body = serde_json::json!({
            "model": model, "stream": true, "temperature": 0,
            "messages": [{ "role": "user", "content": question }],
        });
        let url = format!("{}/chat/completions", self.base_url);
        self.http
            .post(url)
            .bearer_auth(&self.key)
            .json(&body)
            .send()
            .await
    }

    /// Asks with headers.
    pub(crate) async fn ask_with(
        &self,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> reqwest::Response {
        let url = format!("{}/chat/completions", self.base_url);
        let request = self.http.post(url).bearer_auth(&self.key).json(body);
        let request = headers.iter().fold(request, |request, (name, value)| {
            request.header(*name, *value)
        });
        request.send().await.unwrap()
    }

    /// Asks until somebody answers to the end: a provider that was just
    /// started has to be found first.
    pub(crate) async fn answered(&self, model: &str, question: &str) -> Answer {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let response = self.ask(model, question).await;
            let status = response.status();
            let answer = Answer::read(response).await;
            if status.is_success() && answer.done {
                return answer;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "{status}: {}",
                answer.raw
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// A streamed answer, read to its end.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) chunks: usize,
    /// `[DONE]` came.
    pub(crate) done: bool,
    /// The receipt's figures, from the stream's last comment.
    pub(crate) tail: Value,
    pub(crate) raw: String,
}

impl Answer {
    pub(crate) async fn read(mut response: reqwest::Response) -> Self {
        let mut raw = Vec::new();
        // A connection that breaks ends the answer; `done` says that it was cut.
        while let Ok(Some(piece)) = response.chunk().await {
            raw.extend_from_slice(&piece);
        }
        Self::of(String::from_utf8_lossy(&raw).into_owned())
    }

    pub(crate) fn of(raw: String) -> Self {
        let mut answer = Self::default();
        for line in raw.lines() {
            if let Some(tail) = line.strip_prefix(": lethe ") {
                answer.tail = serde_json::from_str(tail).unwrap();
            }
            match line.strip_prefix("data: ") {
                Some("[DONE]") => answer.done = true,
                Some(json) => {
                    let chunk: Value = serde_json::from_str(json).unwrap();
                    answer.text.push_str(
                        chunk["choices"][0]["delta"]["content"]
                            .as_str()
                            .unwrap_or_default(),
                    );
                    answer.chunks += 1;
                }
                None => {}
            }
        }
        answer.raw = raw;
        answer
    }
}
