//! One command puts a model on the market, and nothing is sold by accident.

use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;

use crate::backend::Counting;
use crate::process::{Client, PATIENCE, Running, ended};
use crate::town::{MODEL, PRICE, Town};

/// The demonstration's model, as a file that somebody has.
const GGUF: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../engine/model/demo.gguf");

fn seller(town: &Town, model: &str, flags: &[&str]) -> Running {
    let rpc = town.rpc_url();
    let usual = [
        "sell",
        model,
        "--price",
        PRICE,
        "--rpc-url",
        &rpc,
        "--endpoint",
        "127.0.0.1:0",
    ];
    Running::start(&town.folder().join("provider"), &[&usual, flags].concat())
}

async fn models(client: &Client) -> Value {
    client.get("/models").await.json().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_of_ollama_is_sold_in_one_command() {
    let town = Town::start().await;
    let ollama = town.backend.url.trim_end_matches("/v1");
    let selling = seller(&town, "ollama:counting", &["--ollama", ollama]);
    assert_eq!(selling.said("model"), MODEL);
    let consumer = town.consumer();
    let client = Client::of(&consumer);
    assert_eq!(client.answered(MODEL, "3").await.text, "0 1 2 ");
    let model = models(&client).await["data"][0].take();
    assert_eq!(model["card"]["repo"], "ollama/counting", "{model}");
    assert_eq!(model["card"]["revision"], "ab12");
    assert_eq!(model["quantization"], "Q4_K_M");
    // Either of them, at a glance; there is no terminal here.
    let glance = |folder: &str| {
        let output = ended(&town.folder().join(folder), &["top"]);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    let sold = glance("provider");
    assert!(
        sold.contains("0 requests running") && sold.contains("3 output tokens"),
        "{sold}"
    );
    assert!(sold.contains("0 of 2 running  0 waiting"), "{sold}");
    let bought = glance("consumer");
    assert!(
        bought.contains("channel to") && bought.contains("3 output tokens"),
        "{bought}"
    );
    assert!(
        bought.contains("live") && !bought.contains('\x1b'),
        "{bought}"
    );

    let data = town.folder().join("other");
    let said = String::from_utf8(ended(&data, &["top"]).stderr).unwrap();
    assert!(said.contains("nothing runs on data folder"), "{said}");
    let args = ["sell", "ollama:other", "--price", "1", "--ollama", ollama];
    let said = String::from_utf8(ended(&data, &args).stderr).unwrap();
    assert!(said.contains("there are counting:latest"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pulled_model_is_sold_in_one_command_unless_it_was_changed() {
    let town = Town::start().await;
    let data = town.folder().join("provider");
    let pulled = data.join("models/org/repo");
    std::fs::create_dir_all(&pulled).unwrap();
    let bytes = std::fs::read(GGUF).unwrap();
    std::fs::write(pulled.join("tiny.gguf"), &bytes).unwrap();
    let note = |sha256: &str| {
        let note =
            serde_json::json!({ "sha256": sha256, "bytes": bytes.len(), "revision": "c0ffee" });
        std::fs::write(pulled.join("tiny.gguf.json"), note.to_string()).unwrap();
    };
    note(&"ab".repeat(32));
    let args = [
        "sell",
        "tiny",
        "--price",
        "1",
        "--rpc-url",
        "http://127.0.0.1:9",
    ];
    let said = String::from_utf8(ended(&data, &args).stderr).unwrap();
    assert!(
        said.contains("weights") && said.contains(&"ab".repeat(32)),
        "{said}"
    );

    let digest = Sha256::digest(&bytes);
    note(
        &digest
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>(),
    );
    let selling = seller(&town, "tiny", &["--name", "nouns"]);
    assert_eq!(selling.said("model"), "nouns");
    let consumer = town.consumer();
    let client = Client::of(&consumer);
    let answer = client.answered("nouns", "What is a glacier?").await;
    assert!(
        answer.text.to_lowercase().contains("ice"),
        "{}",
        answer.text
    );
    let card = models(&client).await["data"][0]["card"].take();
    assert_eq!(
        (&card["repo"], &card["revision"]),
        (&"org/repo".into(), &"c0ffee".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_asks_for_a_key_is_shown_it() {
    use std::os::unix::fs::PermissionsExt;
    let town = Town::start().await;
    let guarded = Counting::guarded("sk-guarded").await;
    let file = town.folder().join("backend-key");
    let path = file.to_str().unwrap();
    std::fs::write(&file, "sk-guarded\n").unwrap();
    let mode = |mode| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode));
    mode(0o644).unwrap();
    let data = town.folder().join("provider");
    let args = town.provider_args(&guarded, PRICE);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let args = [&args[..], &["--backend-key-file", path]].concat();
    let refused = ended(&data, &args);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(
        !refused.status.success() && said.contains("of the API key can be read by others"),
        "{said}"
    );
    mode(0o600).unwrap();

    let doctor = ["doctor", "--json", "--backend", &guarded.url];
    let backend = |flags: &[&str]| {
        let told = ended(&data, &[&doctor[..], flags].concat());
        let told: Value = serde_json::from_slice(&told.stdout).unwrap();
        let mut checks = told["checks"].as_array().unwrap().iter();
        checks
            .find(|check| check["name"] == "backend")
            .unwrap()
            .clone()
    };
    let without = backend(&[]);
    let advice = without["do"].as_str().unwrap();
    assert!(advice.contains("--backend-key-file FILE"), "{without}");
    let with = backend(&["--backend-key-file", path]);
    assert_eq!(with["verdict"], "ok", "{with}");

    let selling = Running::start(&data, &args);
    assert_eq!(selling.ready["problem"], Value::Null);
    let consumer = town.consumer();
    let answer = Client::of(&consumer).answered(MODEL, "3").await;
    assert_eq!(answer.text, "0 1 2 ");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_backend_nothing_is_sold_and_with_a_dead_one_not_until_it_answers() {
    let town = Town::start().await;
    let nothing = ["provide", "--model", MODEL, "--rpc-url", &town.rpc_url()];
    let output = ended(&town.folder().join("nothing"), &nothing);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("--backend <URL>|--gguf <FILE>"), "{said}");

    // A place where nobody is yet.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut args = town.provider_args(&town.backend, PRICE);
    let at = args
        .iter()
        .position(|arg| *arg == town.backend.url)
        .unwrap();
    args[at] = format!("http://{address}/v1");
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let log = town.folder().join("provider.log");
    let data = town.folder().join("provider");
    let selling = Running::start_logged(&data, &args, "error", &log);
    assert_eq!(selling.ready["offered"], false);
    let said = std::fs::read_to_string(&log).unwrap();
    assert!(
        said.contains("WARNING") && said.contains("not on offer"),
        "{said}"
    );
    assert!(
        said.contains(&format!("lethe doctor --backend http://{address}/v1")),
        "{said}"
    );
    let consumer = town.consumer();
    let client = Client::of(&consumer);
    assert!(models(&client).await["data"].as_array().unwrap().is_empty());

    // Who asks the doctor hears it, too: of the node, and of its server.
    let looked = ended(&data, &["doctor", "--json"]);
    let told: Value = serde_json::from_slice(&looked.stdout).unwrap();
    assert_eq!(looked.status.code(), Some(5), "{told}");
    for of in ["offer", "backend"] {
        let checks = told["checks"].as_array().unwrap();
        let is_told = |check: &&Value| check["name"] == of && check["verdict"] == "fail";
        assert!(checks.iter().any(|check| is_told(&check)), "{of}: {told}");
    }

    let _backend = Counting::start_at(address).await;
    let answered = client.answered(MODEL, "3");
    let answer = tokio::time::timeout(PATIENCE, answered).await.unwrap();
    assert_eq!(answer.text, "0 1 2 ");
}
