//! What is wrong around a node is named: its clock, and the chain's server.

use serde_json::Value;

use crate::accounts::until;
use crate::process::{Client, Running, ended};
use crate::town::{MODEL, Town};

async fn readiness(client: &Client) -> Value {
    client.get("/../readyz").await.json().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_that_was_begun_anew_is_named_by_who_runs_and_refused_by_who_starts() {
    let mut town = Town::start_embedded().await;
    let selling = town.provider();
    let buying = town.consumer();
    let client = Client::of(&buying);
    client.answered(MODEL, "10").await;
    assert_eq!(readiness(&client).await["ready"], true);

    let rpc_url = town.chain_dies();
    let address = rpc_url.trim_start_matches("http://").to_owned();
    let data = town.folder().join("another chain");
    let _other = Running::start(&data, &["chain", "--rpc", &address]);
    until("named", async || {
        let told = readiness(&client).await;
        told["ready"] == false && told["reason"].as_str().unwrap().contains("begun anew")
    })
    .await;
    selling.kill();
    buying.kill();

    let args = town.consumer_args();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let refused = ended(&town.folder().join("consumer"), &args);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success(), "{said}");
    assert!(
        said.contains("its first block is") && said.contains("--data DIR"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_off_is_named() {
    let town = Town::start_movable().await;
    let buying = town.consumer();
    let told = || {
        let money = ended(&town.folder().join("consumer"), &["where"]).stdout;
        String::from_utf8_lossy(&money).into_owned()
    };
    assert!(!told().contains("clock"), "{}", told());
    town.pass(4_000).await;
    let late = told();
    assert!(late.contains("WARNING: this machine's clock is"), "{late}");
    assert!(late.contains("behind the chain's time"), "{late}");
    buying.kill();
}
