//! The binary's own life: config, checks, exit codes, completions, manual
//! pages, how it stops, how a demonstration begins anew.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::accounts::until;
use crate::failover::{counted, read};
use crate::process::{Client, PATIENCE, Running, ended, lethe};
use crate::town::{LONG, MODEL, Town, read_tokens};

const UP: [&str; 5] = ["up", "--http", "127.0.0.1:0", "--rpc", "127.0.0.1:0"];
/// As `codes.rs` has them.
const FAILED: i32 = 1;
const USAGE: i32 = 2;
const UNWELL: i32 = 5;
const ENDED_AT_ONCE: i32 = 130;

/// Without a data folder.
fn bare(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lethe"))
        .args(args)
        .output()
        .unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn config(path: &Path, args: &[&str]) -> Output {
    let path = path.to_str().unwrap();
    bare(&[args, &["--config", path]].concat())
}

#[test]
fn a_config_file_is_written_once_and_holds_for_a_role() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made/config.toml");
    let written = config(&path, &["config", "init"]);
    assert!(written.status.success(), "{}", err(&written));
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(
        text.contains("[consume]") && text.contains("#http = \"127.0.0.1:8082\""),
        "{text}"
    );
    let again = config(&path, &["config", "init"]);
    assert_eq!(again.status.code(), Some(USAGE));
    assert!(err(&again).contains("not overwritten"), "{}", err(&again));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);

    let secret = "https://rpc.example.org/v2/0123456789abcdef0123";
    let text = text.replace(
        "[consume]",
        &format!("[consume]\nrpc-url = [\"{secret}\"]\ndeposit = 2"),
    );
    std::fs::write(&path, text).unwrap();
    let shown = config(&path, &["config", "show", "consume", "--json"]);
    let shown: Value = serde_json::from_str(&out(&shown)).unwrap();
    let row = |key: &str| {
        let rows = shown["values"].as_array().unwrap();
        rows.iter().find(|row| row["key"] == key).unwrap().clone()
    };
    assert_eq!(
        (&row("deposit")["value"], &row("deposit")["origin"]),
        (&"2".into(), &"file".into())
    );
    assert_eq!(row("http")["origin"], "default");
    assert_eq!(row("rpc-url")["value"], "https://rpc.example.org/v2/***");
    let table = out(&config(&path, &["config", "show", "consume"]));
    assert!(
        table.contains("config.toml:") && !table.contains("0123456789abcdef"),
        "{table}"
    );

    // The chain of the file is where a node looks.
    std::fs::write(&path, "[consume]\nrpc-url = \"http://127.0.0.1:9\"\n").unwrap();
    let data = folder.path().join("data");
    let refused = config(
        &path,
        &[
            "consume",
            "--data",
            data.to_str().unwrap(),
            "--http",
            "127.0.0.1:0",
        ],
    );
    assert_eq!(refused.status.code(), Some(FAILED));
    let said = err(&refused);
    // What to do, and one cause: that nobody is there.
    for told in [
        "the chain at http://127.0.0.1:9 does not answer",
        "start `lethe up` or `lethe chain`",
        "--rpc-url URL: ",
    ] {
        assert!(said.contains(told), "{said}");
    }
    assert!(
        !said.contains("tcp connect") && !said.contains("eth_chainId"),
        "{said}"
    );
    std::fs::write(&path, "[consume]\nrcp-url = \"x\"\n").unwrap();
    let refused = config(&path, &["consume"]);
    assert_eq!(refused.status.code(), Some(USAGE));
    assert!(
        err(&refused).contains("line 2") && err(&refused).contains("`rpc-url`"),
        "{}",
        err(&refused)
    );
}

#[test]
fn completions_and_manual_pages_name_every_command() {
    let help = out(&bare(&["--help"]));
    let commands = help.split("Commands:").nth(1).unwrap();
    let commands = commands.split("Options:").next().unwrap();
    let commands: Vec<&str> = commands
        .lines()
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(commands.len() > 15, "{commands:?}");
    for shell in ["bash", "zsh", "fish"] {
        let script = out(&bare(&["completions", shell]));
        for command in &commands {
            assert!(script.contains(command), "{shell} does not know {command}");
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let made = bare(&["man", folder.path().to_str().unwrap()]);
    assert!(made.status.success(), "{}", err(&made));
    for command in commands.iter().filter(|command| **command != "help") {
        let page = folder.path().join(format!("lethe-{command}.1"));
        let text = std::fs::read_to_string(&page).unwrap();
        assert!(text.contains(".TH"), "{command}");
    }
    // With a working bash the script can be read.
    let script = folder.path().join("lethe.bash");
    std::fs::write(&script, bare(&["completions", "bash"]).stdout).unwrap();
    assert!(
        Command::new("bash")
            .arg("-n")
            .arg(&script)
            .status()
            .unwrap()
            .success()
    );
}

fn checks(output: &Output) -> Vec<Value> {
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    told["checks"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_finds_what_is_well_and_what_is_not() {
    let town = Town::start_embedded().await;
    let consumer = town.consumer();
    let folder = town.folder().join("consumer");
    let rpc = town.rpc_url();
    let args = [
        "doctor",
        "--json",
        "--rpc-url",
        &rpc,
        "--backend",
        &town.backend.url,
    ];
    // Whoever runs is asked: nobody sells yet.
    let unready = ended(&folder, &args);
    assert_eq!(unready.status.code(), Some(UNWELL));
    let told = out(&unready);
    assert!(told.contains("not ready: no model is on offer"), "{told}");
    let _provider = town.provider();
    let client = Client::of(&consumer);
    until("ready", async || {
        client.get("/../readyz").await.status().is_success()
    })
    .await;
    let well = ended(&folder, &args);
    assert!(well.status.success(), "{}", out(&well));
    let told = out(&well);
    for found in [
        "a node runs on it",
        "ready: 1 model can be asked for",
        "it has 100 MOR",
        "left alone",
        "the contracts are there",
        "agrees with the chain's time",
        MODEL,
    ] {
        assert!(told.contains(found), "no {found}: {told}");
    }
    consumer.stop();
    let told = out(&ended(&folder, &args));
    assert!(told.contains("can be read and are whole"), "{told}");
    // Of a consumer's folder the ports of others are not looked at.
    assert!(
        told.contains("of `lethe consume`") && !told.contains("descriptor"),
        "{told}"
    );

    // A key that others can read, a book that is none, nobody at two addresses.
    let mnemonic = folder.join("keys/mnemonic");
    let mut modes = std::fs::metadata(&mnemonic).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut modes, 0o644);
    std::fs::set_permissions(&mnemonic, modes).unwrap();
    std::fs::write(folder.join("other.sqlite"), b"no such thing").unwrap();
    let nowhere = "http://127.0.0.1:9";
    let args = [
        "doctor",
        "--json",
        "--rpc-url",
        nowhere,
        "--backend",
        "http://127.0.0.1:9/v1",
    ];
    let unwell = ended(&folder, &args);
    assert_eq!(unwell.status.code(), Some(UNWELL));
    let failed = checks(&unwell);
    let failed = failed.iter().filter(|check| check["verdict"] == "fail");
    let mut failed: Vec<_> = failed
        .map(|check| {
            assert!(check["do"].is_string(), "{check}");
            check["name"].as_str().unwrap().to_owned()
        })
        .collect();
    failed.sort();
    assert_eq!(failed, ["backend", "chain", "journals", "keys"]);
    assert!(
        out(&unwell).contains("start the chain's server"),
        "{}",
        out(&unwell)
    );
    // Looking changed nothing.
    assert_eq!(
        std::fs::read(folder.join("other.sqlite")).unwrap(),
        b"no such thing"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_servers_the_one_that_is_away_is_named_before_anything_is_sent() {
    let town = Town::start_embedded().await;
    let rpc = town.rpc_url();
    let data = town.folder().join("fresh");
    let both = ["consume", "--http", "127.0.0.1:0", "--rpc-url", &rpc];
    let both = [&both[..], &["--rpc-url", "http://127.0.0.1:9"]].concat();
    let refused = ended(&data, &both);
    assert_eq!(refused.status.code(), Some(FAILED));
    let said = err(&refused);
    for told in [
        "both must agree, and http://127.0.0.1:9 does not answer",
        "name a third with --rpc-url, or leave that one out",
    ] {
        assert!(said.contains(told), "{said}");
    }
    assert!(!data.join("consumer.sqlite").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_that_went_away_is_named_by_who_runs() {
    let mut town = Town::start_embedded().await;
    let _consumer = town.consumer();
    let folder = town.folder().join("consumer");
    let rpc = town.chain_dies();
    let told = ended(&folder, &["where"]);
    let said = err(&told);
    assert_eq!(told.status.code(), Some(FAILED), "{said}");
    assert!(said.contains(&rpc), "{said}");
    assert!(
        said.contains("is its server running (`lethe chain`"),
        "{said}"
    );
    // The doctor looks where the folder's node does.
    let told = ended(&folder, &["doctor", "--json"]);
    assert_eq!(told.status.code(), Some(UNWELL));
    let checks = checks(&told);
    let chain = checks.iter().find(|check| check["name"] == "chain");
    let chain = chain.unwrap().to_string();
    assert!(
        chain.contains("nobody listens at") && chain.contains("fail"),
        "{chain}"
    );
    assert!(chain.contains("`lethe chain`"), "{chain}");
}

#[test]
fn the_usual_folder_is_named_in_full() {
    let home = tempfile::tempdir().unwrap();
    let left = Command::new(env!("CARGO_BIN_EXE_lethe"))
        .arg("exit")
        .env("HOME", home.path())
        .env_remove("XDG_DATA_HOME")
        .output()
        .unwrap();
    assert_eq!(left.status.code(), Some(FAILED));
    let folder = home.path().join(".local/share/lethe");
    let named = format!("in data folder {folder:?}");
    assert!(err(&left).contains(&named), "{}", err(&left));
}

/// A command that can make no file longer than a few kilobytes, as on a full disk.
fn without_room(data: &Path, args: &[&str]) -> Output {
    let command = lethe(data, args);
    let script = "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\"";
    let mut limited = Command::new("sh");
    limited.args(["-c", script]).arg(command.get_program());
    limited.args(command.get_args()).stdin(Stdio::null());
    for (name, value) in command.get_envs() {
        limited.env(name, value.unwrap());
    }
    limited.output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_room_is_asked_for_and_nothing_is_to_be_restored() {
    let town = Town::start_embedded().await;
    town.consumer().stop();
    let folder = town.folder().join("consumer");
    let rpc = town.rpc_url();
    let look = ["doctor", "--json", "--rpc-url", &rpc];
    let told = without_room(&folder, &look);
    assert_eq!(told.status.code(), Some(UNWELL), "{}", out(&told));
    let checks = checks(&told);
    let journals = checks.iter().find(|check| check["name"] == "journals");
    let journals = journals.unwrap().to_string();
    assert!(journals.contains("while its disk is full"), "{journals}");
    assert!(journals.contains("free some space"), "{journals}");
    assert!(!journals.contains("backup"), "{journals}");

    let start = town.consumer_args();
    let start: Vec<&str> = start.iter().map(String::as_str).collect();
    for args in [&start[..], &["where", "--rpc-url", &rpc]] {
        let refused = without_room(&folder, args);
        let said = err(&refused);
        assert_eq!(refused.status.code(), Some(FAILED), "{said}");
        assert!(said.contains("no room left on the disk of"), "{said}");
        assert!(said.contains("free some space"), "{said}");
    }
    // With room again all is as it was.
    let told = out(&ended(&folder, &look));
    assert!(told.contains("can be read and are whole"), "{told}");
}

#[test]
fn the_doctor_looks_at_a_folder_that_is_not_there_and_makes_none() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let told = ended(&data, &["doctor"]);
    assert!(told.status.success(), "{}", out(&told));
    assert!(
        out(&told).contains("the first start makes it"),
        "{}",
        out(&told)
    );
    assert!(!data.exists());
}

#[test]
fn a_demonstration_begins_anew_and_nothing_else_is_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let refused = |args: &[&str]| {
        let output = ended(data, args);
        assert_eq!(output.status.code(), Some(FAILED), "{args:?}");
        err(&output)
    };
    assert!(refused(&["reset", "--yes"]).contains("no demonstration's"));
    let up = Running::start(data, &UP);
    let key = up.said("api_key");
    assert!(refused(&["reset", "--yes"]).contains("in use by another lethe"));
    up.stop();
    assert!(refused(&["reset"]).contains("--yes"));
    std::fs::write(data.join("keys/shop.key"), "07".repeat(32)).unwrap();
    assert!(refused(&["reset", "--yes"]).contains("shop.key"));
    std::fs::remove_file(data.join("keys/shop.key")).unwrap();

    let words = std::fs::read(data.join("keys/mnemonic")).unwrap();
    let reset = ended(data, &["reset", "--yes", "--json"]);
    assert!(reset.status.success(), "{}", err(&reset));
    assert!(!data.join("chain").exists() && !data.join("consumer.sqlite").exists());
    assert_eq!(std::fs::read(data.join("keys/mnemonic")).unwrap(), words);
    let up = Running::start(data, &UP);
    assert_eq!(up.said("api_key"), key);
    up.stop();

    // The same in one go, also where nothing is yet; and never with books of another chain.
    let chain = data.join("chain");
    let marked = chain.join("marked");
    std::fs::write(&marked, "").unwrap();
    let again = [&UP[..], &["--reset"]].concat();
    let up = Running::start(data, &again);
    assert_eq!(up.said("api_key"), key);
    assert!(chain.is_dir() && !marked.exists());
    up.stop();
    Running::start(&data.join("new"), &again).stop();
    std::fs::remove_dir_all(&chain).unwrap();
    std::fs::write(data.join("keys/shop.key"), "07".repeat(32)).unwrap();
    assert!(refused(&again).contains("shop.key"));
    assert!(data.join("consumer.sqlite").exists());
}

#[test]
fn a_unit_for_the_background_is_printed_if_the_command_is_right() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let printed = ended(data, &["service", "consume", "--", "--direct"]);
    let unit = out(&printed);
    let line = format!("consume --data {} --direct", data.display());
    assert!(unit.contains(&line) && unit.contains("[Install]"), "{unit}");
    // A file that the flags name is the one of the folder where they were said.
    assert!(unit.contains("WorkingDirectory=/"), "{unit}");
    let sell = ["service", "sell", "--", "ollama:some", "--price", "1"];
    let printed = ended(data, &sell);
    let unit = out(&printed);
    let line = format!("sell --data {} ollama:some --price 1", data.display());
    assert!(unit.contains(&line), "{unit}");
    for wrong in [
        &["service", "consume", "--", "--nothing"][..],
        &["service", "provide"],
    ] {
        let refused = ended(data, wrong);
        assert_eq!(refused.status.code(), Some(USAGE), "{wrong:?}");
        assert!(out(&refused).is_empty());
    }
}

#[test]
fn a_chain_tells_wallets_what_they_ask_for() {
    let folder = tempfile::tempdir().unwrap();
    let chain = Running::start(folder.path(), &["chain", "--rpc", "127.0.0.1:0"]);
    assert_eq!(chain.ready["chain_id"], 31337);
    assert_eq!(chain.ready["accounts"].as_array().unwrap().len(), 10);
    assert!(chain.said("public_words").ends_with(" junk"));
    assert!(chain.said("mor").starts_with("0x"));
}

#[test]
fn an_open_gateway_is_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let args = [
        "consume",
        "--http",
        "0.0.0.0:0",
        "--rpc-url",
        "http://127.0.0.1:9",
    ];
    let said = err(&ended(folder.path(), &args));
    assert!(
        said.contains("open to the network") && said.contains("without TLS"),
        "{said}"
    );
    let missing = err(&ended(folder.path(), &["consume", "--http", "0.0.0.0"]));
    assert!(missing.contains("an IP address and a port"), "{missing}");
}

/// Waits for a file that is whole when it is there.
fn file(path: &Path) -> String {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        match std::fs::read_to_string(path) {
            Ok(text) if !text.is_empty() => return text,
            _ => assert!(tokio::time::Instant::now() < deadline, "no {path:?}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stops_says_what_it_waits_for_and_ends_at_once_when_told_again() {
    let town = Town::start().await;
    let _provider = town.provider();
    let args = town.consumer_args();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let folder = town.folder().join("consumer");
    let mut command = lethe(&folder, &args);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let running: Value = serde_json::from_str(&file(&folder.join("running.json"))).unwrap();
    let key = file(&folder.join("api-key"));
    let ready = serde_json::json!({ "base_url": running["base_url"], "api_key": key.trim() });
    let mut errors = child.stderr.take().unwrap();
    let running = Running::ready(child, ready);
    let client = crate::process::Client::of(&running);
    client.answered(MODEL, "1").await;
    let mut response = client.ask(MODEL, LONG).await;
    read_tokens(&mut response, 3).await;

    running.terminate();
    let mut said = String::new();
    while !said.contains("complete either way") {
        let mut piece = [0; 256];
        let read = errors.read(&mut piece).unwrap();
        assert!(read > 0, "it ended without a word: {said}");
        said.push_str(&String::from_utf8_lossy(&piece[..read]));
    }
    assert!(
        said.contains("waiting for 1 answer to end, up to 120 s"),
        "{said}"
    );
    let given = "got 100 MOR and 10 ETH of this chain's demo money";
    assert!(said.contains(given), "{said}");
    let mut running = running;
    assert!(running.runs(), "it did not wait");
    running.terminate();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let status = loop {
        match running.ended() {
            Some(status) => break status,
            None => assert!(tokio::time::Instant::now() < deadline, "it goes on"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(status.code(), Some(ENDED_AT_ONCE));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_told_to_stop_lets_its_answer_end() {
    /// It takes some eight seconds to count to there.
    const FAR: u32 = 2_000;
    let town = Town::start().await;
    let provider = town.provider();
    let consumer = town.consumer();
    let client = crate::process::Client::of(&consumer);
    client.answered(MODEL, "1").await;
    let response = client.ask(MODEL, &FAR.to_string()).await;
    let answer = read(response, 10, || provider.terminate()).await;
    assert!(answer.done, "{}", answer.raw);
    assert_eq!(answer.text, counted(FAR));
    // The folder is free once it has ended.
    let mut provider = provider;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while provider.runs() {
        assert!(tokio::time::Instant::now() < deadline, "it goes on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(provider.ended().unwrap().success());
}

/// The rows of the table in docs/operate/exit-codes.md.
fn documented() -> Vec<i32> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let text = std::fs::read_to_string(root.join("docs/operate/exit-codes.md")).unwrap();
    let rows = text
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" |").next()?.parse().ok());
    rows.collect()
}

#[test]
fn every_exit_code_is_documented_and_is_what_comes() {
    let codes = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/codes.rs"))
        .unwrap();
    let codes = codes.lines().filter_map(|line| {
        let value = line
            .strip_prefix("pub(crate) const ")?
            .split("u8 = ")
            .nth(1)?;
        value.trim_end_matches(';').parse::<i32>().ok()
    });
    let mut expected: Vec<i32> = [0].into_iter().chain(codes).collect();
    expected.sort_unstable();
    assert_eq!(documented(), expected);

    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().to_str().unwrap();
    for (args, code) in [
        (&["--version"][..], 0),
        (&["--help"], 0),
        (&["consume", "--help"], 0),
        (&["where", "--data", empty], FAILED),
        (&["chat", "--data", empty, "q"], FAILED),
        (&["chats", "--data", empty, "--json"], 0),
        (&[], USAGE),
        (&["consume", "--nothing"], USAGE),
        (&["provide"], USAGE),
        (&["consume", "--config", "/nowhere/config.toml"], USAGE),
        (&["consume", "--data", empty, "--network", "nowhere"], USAGE),
        (&["consume", "--data", empty, "--network", "base"], USAGE),
        (&["where", "--data", empty, "--network", "base"], USAGE),
        (&["consume", "--data", empty, "--rpc-url", "ws://h"], USAGE),
        (&["chat", "--data", empty, "--continue", "x"], USAGE),
        (&["chats", "--data", empty, "--forget", "x"], USAGE),
        (&["wallet", "new", "--data", empty, "--words", "13"], USAGE),
        (
            &["key", "add", "k", "--data", empty, "--demand", "x"],
            USAGE,
        ),
        (
            &["key", "add", "k", "--data", empty, "--prefer", "{"],
            USAGE,
        ),
        (
            &["key", "add", "k", "--data", empty, "--failover", "x"],
            USAGE,
        ),
        (&["key", "add", "a b", "--data", empty], USAGE),
        (
            &[
                "key",
                "add",
                "k",
                "--data",
                empty,
                "--budget-per-day",
                "5eur",
            ],
            USAGE,
        ),
        (
            &["key", "add", "k", "--data", empty, "--budget-per-day", "-3"],
            USAGE,
        ),
        (&["route", "explain", "m", "--demand", "x"], USAGE),
        (&["provide", "--model", "m", "--backend", "ftp://h"], USAGE),
        (&["provide", "--model", "", "--gguf", "f"], USAGE),
        (&["sell", "m", "--price", "1", "--answer-max", "0"], USAGE),
        (&["relay", "--streams-per-second", "0"], USAGE),
        (
            &["doctor", "--data", empty, "--rpc-url", "http://127.0.0.1:9"],
            UNWELL,
        ),
    ] {
        let output = bare(args);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{args:?}: {}",
            err(&output)
        );
    }
}
