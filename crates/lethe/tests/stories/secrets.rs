//! What a node logs at its finest level, keeps and serves holds no key and no word of its phrase.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::process::{Client, Running};
use crate::town::{MODEL, Town};

/// Of a key in a file.
const WALLET: &str = "0707070707070707070707070707070707070707070707070707070707070707";
/// What follows from these words, by other programs.
const WORDS: &str = "test test test test test test test test test test test junk";
const PAYER_1: &str = "c5d77ad82630e49fea7be22c4d58f937ae794991889584b35644b8a9efb0244d";
const HOT_1: &str = "6012d8733804ef2818e4cba7ca35feff5824c989989fd977e6594c8515d874f3";

fn private(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Whether a secret is in there, as bytes, as digits or as a list of numbers.
fn holds(bytes: &[u8], secret: &str) -> bool {
    let raw = hex::decode(secret).unwrap();
    let text = String::from_utf8_lossy(bytes).to_lowercase();
    let listed = raw.iter().map(u8::to_string).collect::<Vec<_>>();
    bytes.windows(raw.len()).any(|window| window == raw)
        || text.contains(secret)
        || [", ", ","]
            .iter()
            .any(|comma| text.contains(&listed.join(comma)))
}

fn files(folder: &Path, but: &str) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.ends_with(but) {
            continue;
        }
        match path.is_dir() {
            true => found.extend(files(&path, but)),
            false => found.push((path.display().to_string(), fs::read(&path).unwrap())),
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn no_key_and_no_word_is_logged_kept_or_served() {
    let town = Town::start().await;
    let _provider = town.provider();
    let folder = town.folder().join("consumer");
    let keys = folder.join("keys");
    fs::create_dir_all(&keys).unwrap();
    private(&keys.join("mnemonic"), WORDS);
    private(&keys.join("payer.key"), WALLET);

    let log = town.folder().join("log");
    let rpc = town.rpc_url();
    let args = [
        "consume",
        "--direct",
        "--rpc-url",
        &rpc,
        "--http",
        "127.0.0.1:0",
    ];
    let consumer = Running::start_logged(&folder, &args, "trace,lethe=trace", &log);
    let client = Client::of(&consumer);
    let answer = client.answered(MODEL, "3").await;
    let served = client.get("/models").await.bytes().await.unwrap();
    let ready = consumer.ready.to_string();
    consumer.stop();

    let derived = fs::read_to_string(keys.join("derived")).unwrap();
    assert!(derived.contains("payer-1 m/27764'/1'/0'/1'"), "{derived}");
    let mut seen = files(&folder, "keys");
    let logged = fs::read(&log).unwrap();
    assert!(logged.len() > 10_000, "nothing was logged");
    seen.push(("the log".into(), logged));
    seen.push(("the list of keys".into(), derived.into_bytes()));
    seen.push(("what was served".into(), served.to_vec()));
    seen.push(("the answer".into(), answer.raw.into_bytes()));
    seen.push(("the first line".into(), ready.into_bytes()));
    for (place, bytes) in &seen {
        for secret in [WALLET, PAYER_1, HOT_1] {
            assert!(!holds(bytes, secret), "{place} holds {}…", &secret[..8]);
        }
        let text = String::from_utf8_lossy(bytes);
        assert!(!text.contains("test test test"), "{place} holds the words");
    }
}

#[test]
fn the_search_finds_what_it_looks_for() {
    let raw = hex::decode(PAYER_1).unwrap();
    assert!(holds(&[b"x", &raw[..], b"y"].concat(), PAYER_1));
    assert!(holds(PAYER_1.to_uppercase().as_bytes(), PAYER_1));
    assert!(holds(format!("{raw:?}").as_bytes(), PAYER_1));
    assert!(!holds(&raw[1..], PAYER_1));
}
