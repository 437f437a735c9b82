//! What cannot work is refused with a text that says what to do.

use std::net::TcpListener;

use serde_json::json;

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
