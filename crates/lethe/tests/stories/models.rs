//! A model's file is brought from a server that does what servers do: breaks
//! off, forgets where it was, sends elsewhere, or says something wrong.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, ETAG, LOCATION, RANGE};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::process::lethe;

const MODEL: &str = "hf:org/repo:tiny.gguf";
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const BYTES: usize = 300_000;
/// What is sent of it before it breaks off.
const PIECE: usize = 10_000;

/// How a server is.
#[derive(Debug, Clone, Default)]
struct Manner {
    /// So many answers break off after [`PIECE`] bytes.
    breaks: usize,
    /// It begins at the beginning whatever is asked.
    ignores_ranges: bool,
    /// All that it says.
    status: Option<StatusCode>,
    /// The SHA-256 that it says; the right one if nothing is said here.
    says: Option<String>,
    says_nothing: bool,
    /// The size that it says.
    size: Option<u64>,
    /// Where the file lies: this is sent there.
    elsewhere: Option<String>,
}

struct Server {
    url: String,
    seen: Arc<Seen>,
    _task: JoinSet<()>,
}

#[derive(Default)]
struct Seen {
    manner: Mutex<Manner>,
    broken: AtomicUsize,
    asked: Mutex<Vec<Asked>>,
}

/// A request, as far as it matters.
#[derive(Debug, Clone)]
struct Asked {
    method: Method,
    path: String,
    range: Option<String>,
    token: Option<String>,
}

impl Server {
    async fn start(manner: Manner) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = TcpListener::bind(any).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Seen::default());
        *seen.manner.lock().unwrap() = manner;
        let routes = Router::new()
            .route("/org/repo/resolve/{revision}/{*file}", get(serve))
            .with_state(Arc::clone(&seen));
        let mut task = JoinSet::new();
        task.spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self {
            url,
            seen,
            _task: task,
        }
    }

    /// Is otherwise from now on.
    fn becomes(&self, manner: Manner) {
        *self.seen.manner.lock().unwrap() = manner;
        self.seen.broken.store(0, Ordering::SeqCst);
        self.seen.asked.lock().unwrap().clear();
    }

    /// The ranges that files were asked for with.
    fn ranges(&self) -> Vec<Option<String>> {
        let asked = self.seen.asked.lock().unwrap();
        let gets = asked.iter().filter(|asked| asked.method == Method::GET);
        gets.map(|asked| asked.range.clone()).collect()
    }
}

fn content() -> Vec<u8> {
    (0..BYTES)
        .map(|at| u8::try_from(at * 31 % 251).unwrap())
        .collect()
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

async fn serve(State(seen): State<Arc<Seen>>, request: Request) -> Response {
    let text = |name| {
        let value = request.headers().get(name)?;
        Some(value.to_str().unwrap().to_owned())
    };
    let (range, token) = (text(RANGE), text(AUTHORIZATION));
    seen.asked.lock().unwrap().push(Asked {
        method: request.method().clone(),
        path: request.uri().path().to_owned(),
        range: range.clone(),
        token,
    });
    let manner = seen.manner.lock().unwrap().clone();
    if let Some(status) = manner.status {
        return status.into_response();
    }
    let content = content();
    let mut headers = HeaderMap::new();
    let said = manner.says.unwrap_or_else(|| digest(&content));
    if !manner.says_nothing {
        headers.insert("x-linked-etag", format!("\"{said}\"").parse().unwrap());
        headers.insert("x-repo-commit", COMMIT.parse().unwrap());
        let size = manner.size.unwrap_or(u64::try_from(BYTES).unwrap());
        headers.insert("x-linked-size", size.into());
    }
    if let Some(elsewhere) = manner.elsewhere {
        let to = format!("{elsewhere}/org/repo/resolve/signed/tiny.gguf?key=secret");
        headers.insert(LOCATION, to.parse().unwrap());
        return (StatusCode::FOUND, headers).into_response();
    }
    headers.insert(ETAG, "\"of no use\"".parse().unwrap());
    let from = range.filter(|_| !manner.ignores_ranges).map_or(0, |range| {
        let from = range.strip_prefix("bytes=").unwrap().trim_end_matches('-');
        from.parse::<usize>().unwrap()
    });
    let rest = content[from..].to_vec();
    headers.insert(CONTENT_LENGTH, rest.len().into());
    let mut status = StatusCode::OK;
    if from > 0 {
        status = StatusCode::PARTIAL_CONTENT;
        let range = format!("bytes {from}-{}/{BYTES}", BYTES - 1);
        headers.insert(CONTENT_RANGE, range.parse().unwrap());
    }
    let breaks = *request.method() == Method::GET
        && seen.broken.fetch_add(1, Ordering::SeqCst) < manner.breaks;
    let body = match breaks {
        true => {
            let piece = Bytes::from(rest[..PIECE.min(rest.len())].to_vec());
            let gone = async {
                // What was said is written meanwhile.
                tokio::task::yield_now().await;
                Err(std::io::Error::other("broken off"))
            };
            let said = futures_util::stream::iter([Ok(piece)]);
            Body::from_stream(said.chain(futures_util::stream::once(gone)))
        }
        false => Body::from(rest),
    };
    (status, headers, body).into_response()
}

/// Runs `lethe model`.
fn model(data: &Path, server: &str, args: &[&str]) -> Output {
    let mut command = lethe(data, &[&["model"], args].concat());
    command.env("HF_ENDPOINT", server).env("HF_TOKEN", "mine");
    command.output().unwrap()
}

fn pull(data: &Path, server: &Server, flags: &[&str]) -> Output {
    let args = [&["pull", MODEL], flags].concat();
    model(data, &server.url, &args)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn refused(output: &Output, words: &[&str]) {
    let said = said(output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for word in words {
        assert!(said.contains(word), "no {word:?} in: {said}");
    }
}

fn told(output: &Output) -> Value {
    assert!(output.status.success(), "{}", said(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn file(data: &Path, ending: &str) -> PathBuf {
    data.join(format!("models/org/repo/tiny.gguf{ending}"))
}

fn is_whole(data: &Path) {
    assert!(std::fs::read(file(data, "")).unwrap() == content());
    for ending in [".part", ".part.json", ".wrong"] {
        assert!(!file(data, ending).exists(), "{ending} stays");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_comes_from_where_it_lies_and_is_listed_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let store = Server::start(Manner {
        says_nothing: true,
        ..Manner::default()
    })
    .await;
    let hub = Server::start(Manner {
        elsewhere: Some(store.url.clone()),
        ..Manner::default()
    })
    .await;
    let first = told(&pull(data, &hub, &["--json"]));
    assert_eq!(first["name"], "tiny");
    assert_eq!(first["was_there"], false);
    assert_eq!(first["sha256"], digest(&content()));
    assert_eq!(first["revision"], COMMIT);
    is_whole(data);
    // The token is for the hub alone.
    let asked = hub.seen.asked.lock().unwrap().clone();
    assert!(
        asked
            .iter()
            .all(|asked| asked.token.as_deref() == Some("Bearer mine"))
    );
    // What comes is what was looked at, whatever `main` is by now.
    let paths: Vec<_> = asked.iter().map(|asked| asked.path.as_str()).collect();
    let pinned = format!("/org/repo/resolve/{COMMIT}/tiny.gguf");
    assert_eq!(paths, ["/org/repo/resolve/main/tiny.gguf", &pinned]);
    let asked = store.seen.asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert!(asked.iter().all(|asked| asked.token.is_none()));

    let again = told(&pull(data, &hub, &["--json"]));
    assert_eq!(again["was_there"], true);
    assert_eq!(store.ranges().len(), 1, "it was brought again");

    let list = ["list", "--ollama", &store.url, "--json"];
    let listed = told(&model(data, &hub.url, &list));
    assert_eq!(listed["pulled"][0]["model"], MODEL);
    assert_eq!(listed["pulled"][0]["bytes"], BYTES);
    assert_eq!(listed["pulled"][0]["sha256"], digest(&content()));
    assert_eq!(listed["ollama"], Value::Null);
    let removed = told(&model(data, &hub.url, &["remove", "tiny", "--json"]));
    assert_eq!(
        removed,
        json!({ "model": MODEL, "bytes": removed["bytes"] })
    );
    assert!(!file(data, "").exists() && !data.join("models/org").exists());
    let output = model(data, &hub.url, &["remove", "tiny"]);
    refused(&output, &["tiny", "lethe model pull"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_off_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let server = Server::start(Manner {
        breaks: 2,
        ..Manner::default()
    })
    .await;
    told(&pull(data, &server, &["--json"]));
    let from = |at: usize| Some(format!("bytes={at}-"));
    assert_eq!(server.ranges(), [None, from(PIECE), from(2 * PIECE)]);
    is_whole(data);

    // Also in the next command: a part that is there is not brought again.
    std::fs::rename(file(data, ""), file(data, ".part")).unwrap();
    let part = std::fs::File::options()
        .write(true)
        .open(file(data, ".part"))
        .unwrap();
    part.set_len(12_345).unwrap();
    std::fs::rename(file(data, ".json"), file(data, ".part.json")).unwrap();
    server.becomes(Manner::default());
    told(&pull(data, &server, &["--json"]));
    assert_eq!(server.ranges(), [from(12_345)]);
    is_whole(data);

    // A part of another file is of no use.
    std::fs::remove_file(file(data, "")).unwrap();
    std::fs::remove_file(file(data, ".json")).unwrap();
    std::fs::write(file(data, ".part"), "of another file").unwrap();
    server.becomes(Manner::default());
    told(&pull(data, &server, &["--json"]));
    assert_eq!(server.ranges(), [None]);
    is_whole(data);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ignores_ranges_is_read_from_the_beginning() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(Manner {
        breaks: 1,
        ignores_ranges: true,
        ..Manner::default()
    })
    .await;
    told(&pull(folder.path(), &server, &["--json"]));
    assert_eq!(server.ranges().len(), 2);
    is_whole(folder.path());

    // One that never comes further is given up, and what there is is listed.
    let never = tempfile::tempdir().unwrap();
    server.becomes(Manner {
        breaks: usize::MAX,
        ignores_ranges: true,
        ..Manner::default()
    });
    let output = pull(never.path(), &server, &[]);
    refused(&output, &["broke off", "goes on from there"]);
    assert!(file(never.path(), ".part").exists() && !file(never.path(), "").exists());
    let list = ["list", "--ollama", "http://127.0.0.1:9", "--json"];
    let listed = told(&model(never.path(), &server.url, &list));
    assert_eq!(listed["pulled"][0]["whole"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_checksum_is_refused_and_the_file_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let server = Server::start(Manner {
        says: Some("ab".repeat(32)),
        ..Manner::default()
    })
    .await;
    let output = pull(data, &server, &[]);
    refused(&output, &["wrong checksum", "tiny.gguf.wrong", "--mirror"]);
    assert!(file(data, ".wrong").exists());
    assert!(!file(data, "").exists() && !file(data, ".part").exists());

    // What the user says goes before what the server says.
    let right = digest(&content());
    told(&pull(data, &server, &["--sha256", &right, "--json"]));
    assert!(file(data, "").exists() && !file(data, ".wrong").exists());
    let output = pull(data, &server, &["--sha256", &"cd".repeat(32)]);
    refused(&output, &["wrong checksum", "--sha256"]);
    assert_eq!(
        std::fs::read(file(data, "")).unwrap(),
        content(),
        "the right one is gone"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_had_is_refused_before_anything_is_brought() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let server = Server::start(Manner::default()).await;
    let is = |manner: Manner| server.becomes(manner);
    let status = |status| Manner {
        status: Some(status),
        ..Manner::default()
    };
    is(status(StatusCode::NOT_FOUND));
    refused(&pull(data, &server, &[]), &["no such file", "/org/repo"]);
    is(status(StatusCode::UNAUTHORIZED));
    refused(&pull(data, &server, &[]), &["HF_TOKEN", "/org/repo"]);
    is(Manner {
        says_nothing: true,
        ..Manner::default()
    });
    refused(&pull(data, &server, &[]), &["--sha256 HEX"]);
    let sized = |size| Manner {
        size: Some(size),
        ..Manner::default()
    };
    is(sized(65 << 30));
    refused(&pull(data, &server, &[]), &["65.00 GiB", "--size-max"]);
    is(sized(900 << 40));
    let large = ["--size-max", "1048576"];
    refused(
        &pull(data, &server, &large),
        &["the disk of", "free", "--data DIR"],
    );
    is(Manner {
        elsewhere: Some(server.url.clone()),
        says_nothing: true,
        ..Manner::default()
    });
    refused(&pull(data, &server, &[]), &["more than 5 times"]);
    assert!(server.ranges().is_empty(), "a file was asked for");
    assert!(!file(data, ".part").exists() && !file(data, "").exists());
    // Nobody on the way may say what the checksum is.
    let plain = model(data, "http://mirror.example", &["pull", MODEL]);
    refused(&plain, &["without TLS", "--sha256 HEX"]);
    let odd = model(
        data,
        &server.url,
        &["pull", MODEL, "--mirror", "file:///etc"],
    );
    refused(&odd, &["allowed: https://HOST"]);

    for wrong in [
        "hf:../repo:tiny.gguf",
        "hf:org/..:tiny.gguf",
        "hf:org/repo:../../../tiny.gguf",
        "hf:org/repo:/etc/tiny.gguf",
        "hf:org/repo:tiny.txt",
        "tiny.gguf",
    ] {
        let output = model(data, &server.url, &["pull", wrong]);
        assert_eq!(output.status.code(), Some(2), "{wrong}");
        assert!(said(&output).contains("allowed: "), "{}", said(&output));
    }
}
