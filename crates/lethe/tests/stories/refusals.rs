//! What cannot work is refused with a text that says what to do.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::path::Path;

use serde_json::{Value, json};

use crate::process::{Running, ended};
use crate::town::{MODEL, Town};

const UP: [&str; 5] = ["up", "--http", "127.0.0.1:0", "--rpc", "127.0.0.1:0"];

fn complaint(data: &std::path::Path, args: &[&str]) -> String {
    let output = ended(data, args);
    assert!(!output.status.success(), "{args:?} was taken");
    assert!(
        output.stdout.is_empty(),
        "an error belongs on standard error"
    );
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_second_one_on_the_same_data_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let _first = Running::start(folder.path(), &UP);
    let said = complaint(folder.path(), &UP);
    assert!(
        said.contains("in use by another lethe") && said.contains("--data"),
        "{said}"
    );
}

#[test]
fn a_port_that_is_taken_is_named_with_the_flag_to_change() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let said = complaint(
        folder.path(),
        &["up", "--rpc", "127.0.0.1:0", "--http", &address],
    );
    assert!(said.contains(&address) && said.contains("--http"), "{said}");
    let said = complaint(
        folder.path(),
        &["up", "--http", "127.0.0.1:0", "--rpc", &address],
    );
    assert!(said.contains(&address) && said.contains("--rpc"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_port_is_given_no_money() {
    let town = Town::start().await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let busy = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let datagrams = busy.local_addr().unwrap().to_string();
    let rpc = town.rpc_url();
    let relay = ["relay", "--rpc-url", &rpc];
    let provide = [
        "provide",
        "--rpc-url",
        &rpc,
        "--model",
        MODEL,
        "--backend",
        &town.backend.url,
    ];
    let before = town.rpc("eth_blockNumber", json!([])).await;
    for args in [&relay[..], &provide[..]] {
        let endpoint = [args, &["--endpoint", &address]].concat();
        let said = complaint(&town.folder().join("one"), &endpoint);
        assert!(
            said.contains(&address) && said.contains("--endpoint"),
            "{said}"
        );
        let listen = ["--endpoint", "127.0.0.1:0", "--listen", &datagrams];
        let said = complaint(&town.folder().join("one"), &[args, &listen].concat());
        assert!(
            said.contains(&datagrams) && said.contains("--listen"),
            "{said}"
        );
    }
    assert_eq!(town.rpc("eth_blockNumber", json!([])).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_start_ends_with_its_reason() {
    let town = Town::start().await;
    let (rpc, backend) = (town.rpc_url(), &town.backend.url);
    let ends_with = |data: &str, args: &[&str], reason: &str| {
        let said = complaint(&town.folder().join(data), args);
        let last = said.lines().last().unwrap_or_default();
        assert!(
            last.starts_with("lethe: ") && last.contains(reason),
            "{said}"
        );
        assert!(!said.contains("iroh"), "{said}");
    };
    let provide = ["provide", "--rpc-url", &rpc, "--endpoint", "127.0.0.1:0"];
    let sells = ["--model", MODEL, "--backend", backend];
    let behind = ["--behind", "127.0.0.1:9"];
    let args = [&provide[..], &sells[..], &behind[..]].concat();
    ends_with("behind", &args, "no relay is registered with endpoint");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let args = [&provide[..], &sells[..], &["--metrics", &address]].concat();
    ends_with("metrics", &args, "is in use by another program");
    // Of `lethe up`, whose providers and relays would listen by then.
    let token = "0x0000000000000000000000000000000000000001";
    let args = [&UP[..], &["--pay-with", token]].concat();
    ends_with("up", &args, "--pay-with");
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let said = complaint("/dev/null/lethe".as_ref(), &UP);
    assert!(
        said.contains("/dev/null/lethe") && said.contains("--data"),
        "{said}"
    );
}

#[test]
fn a_file_that_is_no_model_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("foreign.gguf");
    std::fs::write(&model, b"GGUF but not really").unwrap();
    let mut args = UP.to_vec();
    args.extend(["--model", model.to_str().unwrap()]);
    let said = complaint(&folder.path().join("data"), &args);
    assert!(said.contains("foreign.gguf"), "{said}");
}

#[test]
fn commands_that_need_a_running_node_say_how_to_start_one() {
    let folder = tempfile::tempdir().unwrap();
    for command in ["where", "chat"] {
        let said = complaint(folder.path(), &[command]);
        assert!(said.contains("lethe up"), "{said}");
    }
}

#[test]
fn chains_with_real_money_need_an_explicit_word() {
    let folder = tempfile::tempdir().unwrap();
    let args = [
        "consume",
        "--network",
        "arbitrum-one",
        "--rpc-url",
        "http://127.0.0.1:9",
    ];
    let said = complaint(folder.path(), &args);
    assert!(said.contains("--unaudited"), "{said}");
    let said = complaint(folder.path(), &["consume", "--network", "nowhere"]);
    assert!(said.contains("arbitrum-one"), "{said}");
}

#[test]
fn a_chain_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let args = [
        "consume",
        "--http",
        "127.0.0.1:0",
        "--rpc-url",
        "http://127.0.0.1:9",
    ];
    let said = complaint(folder.path(), &args);
    assert!(said.contains("127.0.0.1:9"), "{said}");
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.collect()
}

fn copied(from: &Path, to: &Path) {
    if !from.is_dir() {
        fs::copy(from, to).unwrap();
        return;
    }
    fs::create_dir_all(to).unwrap();
    for name in names(from) {
        copied(&from.join(&name), &to.join(&name));
    }
}

/// Neither does a demonstration begin among a buyer's books, nor a role among a demonstration's;
/// where an older lethe let it, the money comes back all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_for_one_chain_and_nothing_is_written_or_sent_for_another() {
    let town = Town::start().await;
    let rpc = town.rpc_url();
    let buyer = town.folder().join("consumer");
    town.consumer().stop();
    let before = names(&buyer);
    let said = complaint(&buyer, &UP);
    assert!(
        said.contains("is of `lethe consume`") && said.contains("--data DIR"),
        "{said}"
    );
    assert_eq!(names(&buyer), before);

    let demo = town.folder().join("demo");
    Running::start(&demo, &UP).stop();
    let before = names(&demo);
    let block = town.rpc("eth_blockNumber", json!([])).await;
    let relay = ["relay", "--endpoint", "127.0.0.1:0", "--rpc-url", &rpc];
    let consume = ["consume", "--http", "127.0.0.1:0", "--rpc-url", &rpc];
    for args in [&relay[..], &consume[..]] {
        let said = complaint(&demo, args);
        assert!(said.contains("is of `lethe up`"), "{said}");
    }
    assert_eq!(names(&demo), before);
    assert_eq!(town.rpc("eth_blockNumber", json!([])).await, block);

    // A role of the buyer's folder on another chain is given no money there.
    let other = Running::start(
        &town.folder().join("other"),
        &["chain", "--rpc", "127.0.0.1:0"],
    );
    let there = other.said("rpc_url");
    let relay = ["relay", "--endpoint", "127.0.0.1:0", "--rpc-url", &there];
    let said = complaint(&buyer, &relay);
    assert!(
        said.contains("is not the one that this data folder was used with"),
        "{said}"
    );
    assert!(!buyer.join("relay.sqlite").exists());
    // The doctor says the same, and not that the wallet there is empty.
    let looked = ended(&buyer, &["doctor", "--json", "--rpc-url", &there]);
    let told = String::from_utf8_lossy(&looked.stdout);
    assert_eq!(looked.status.code(), Some(5), "{told}");
    assert!(told.contains("`lethe reset --data"), "{told}");
    assert!(!told.contains("lethe faucet"), "{told}");
    // Neither is its money looked for there, nor a seller's, and no key is made by looking.
    let said = complaint(&buyer, &["where", "--rpc-url", &there]);
    assert!(
        said.contains("is not the one that this data folder was used with"),
        "{said}"
    );
    town.relay("relay", &[]).stop();
    let relay = town.folder().join("relay");
    let keys = names(&relay.join("keys"));
    let said = complaint(&relay, &["where", "--rpc-url", &there]);
    assert!(said.contains("--rpc-url"), "{said}");
    let found = ended(&relay, &["where", "--json", "--rpc-url", &rpc]);
    assert!(found.status.success(), "{found:?}");
    assert_eq!(names(&relay.join("keys")), keys);

    for name in names(&demo) {
        if name == "chain" || name.starts_with("amber.sqlite") {
            copied(&demo.join(&name), &buyer.join(&name));
        }
    }
    let left = ended(&buyer, &["exit", "--json", "--rpc-url", &rpc]);
    let said = String::from_utf8_lossy(&left.stderr);
    assert!(left.status.success(), "{said}");
    assert!(
        said.contains("of another chain in this folder: amber"),
        "{said}"
    );
    let report: Value = serde_json::from_slice(&left.stdout).unwrap();
    assert_eq!(
        report["returned"][0][1], "100000000000000000000",
        "{report}"
    );
    // Without the flag the chain in the folder is taken, and what is elsewhere is named.
    let here = ended(&buyer, &["where", "--json"]);
    let said = String::from_utf8_lossy(&here.stderr);
    assert!(
        said.contains("of another chain in this folder: consumer"),
        "{said}"
    );
}
