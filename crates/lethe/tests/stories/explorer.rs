//! The demonstration's chain to look at, and its faucet.

use serde_json::{Value, json};

use crate::process::{Client, Running, ended};

const UP: [&str; 5] = ["up", "--http", "127.0.0.1:0", "--rpc", "127.0.0.1:0"];
/// An account that nobody has.
const STRANGER: &str = "0x00000000000000000000000000000000000b0b0b";

async fn find(client: &Client, name: &str) -> Value {
    client
        .api("GET", &format!("/api/chain/find?for={name}"))
        .await
}

/// The values of a call or an event by their names.
fn argument<'a>(decoded: &'a Value, name: &str) -> &'a Value {
    let all = decoded["arguments"].as_array().unwrap();
    let found = all.iter().find(|argument| argument["name"] == name);
    &found.unwrap_or_else(|| panic!("no {name} in {decoded}"))["value"]
}

#[tokio::test]
async fn what_the_chain_did_can_be_looked_up_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let up = Running::start(folder.path(), &UP);
    let client = Client::of(&up);
    client.answered("lethe-demo", "What is a glacier?").await;
    client.api("POST", "/api/claim").await;

    let blocks = client.api("GET", "/api/chain/blocks").await;
    let newest = blocks[0]["number"].as_u64().unwrap();
    assert_eq!(blocks.as_array().unwrap().len(), 20);
    let older = client
        .api("GET", &format!("/api/chain/blocks?before={newest}"))
        .await;
    assert_eq!(older[0]["number"], newest - 1);
    let first = client.api("GET", "/api/chain/blocks?before=1").await;
    assert_eq!(
        (first.as_array().unwrap().len(), &first[0]["number"]),
        (1, &json!(0))
    );

    // The claim, by its block, its hash and its arguments.
    let all = blocks.as_array().unwrap().iter();
    let mut all = all.flat_map(|block| block["transactions"].as_array().unwrap());
    let claim = all
        .find(|tx| tx["call"] == "BatchSettlement.claim")
        .unwrap();
    let found = find(&client, claim["hash"].as_str().unwrap()).await;
    let tx = &found["transaction"];
    assert_eq!(tx["succeeded"], true, "{found}");
    let claimed = &tx["events"][0]["decoded"];
    assert_eq!(claimed["name"], "Claimed");
    let rows = argument(&tx["decoded"], "voucherClaims")
        .as_array()
        .unwrap();
    assert_eq!(rows[0][2]["value"], *argument(claimed, "newTotalClaimed"));
    let block = find(&client, &tx["block"].to_string()).await;
    let by_hash = find(&client, block["block"]["hash"].as_str().unwrap()).await;
    assert_eq!(by_hash, block);

    // The channel that was claimed of, with all that happened to it.
    let id = argument(claimed, "channelId").as_str().unwrap();
    let channels = client.api("GET", "/api/chain/channels").await;
    assert!(channels.to_string().contains(id), "{channels}");
    let found = find(&client, id).await;
    let events = found["channel"]["events"].as_array().unwrap();
    let names: Vec<_> = events
        .iter()
        .map(|event| &event["decoded"]["name"])
        .collect();
    assert_eq!(names, ["Claimed", "Deposited", "ChannelCreated"]);
    assert_eq!(
        found["channel"]["state"]["total_claimed"],
        *argument(claimed, "newTotalClaimed")
    );

    let registered = client.api("GET", "/api/chain/registrations").await;
    assert_eq!(registered["providers"].as_array().unwrap().len(), 5);
    assert_eq!(registered["models"][0]["name"], "lethe-demo");

    for (name, status) in [("0xzz", 404), ("99999999", 404), (&"7".repeat(200), 400)] {
        let path = up.said("base_url").replace("/v1", "/api/chain/find?for=") + name;
        let key = up.said("api_key");
        let asked = reqwest::Client::new()
            .get(path)
            .bearer_auth(key)
            .send()
            .await;
        assert_eq!(asked.unwrap().status(), status, "{name}");
    }
}

#[tokio::test]
async fn the_faucet_gives_once_and_every_unit_stays_accounted_for() {
    let folder = tempfile::tempdir().unwrap();
    let up = Running::start(folder.path(), &UP);
    let client = Client::of(&up);
    let gave = ended(folder.path(), &["faucet", STRANGER]);
    let said = String::from_utf8(gave.stdout).unwrap();
    assert!(
        said.contains("1 ETH, 100 MOR and 100 USDdev more"),
        "{said}"
    );
    assert!(said.contains("worth nothing"), "{said}");

    let account = find(&client, STRANGER).await;
    assert_eq!(
        account["account"]["coins"], "0xde0b6b3a7640000",
        "{account}"
    );
    let held = account["account"]["tokens"].as_array().unwrap().iter();
    let held: Vec<_> = held
        .map(|one| (&one["token"]["symbol"], &one["amount"]))
        .collect();
    let (mor, dollars) = (json!("100000000000000000000"), json!("100000000"));
    assert_eq!(
        held,
        [(&json!("MOR"), &mor), (&json!("USDdev"), &dollars)],
        "{account}"
    );
    assert_eq!(account["account"]["latest"].as_array().unwrap().len(), 1);
    // Both gifts came by a call of their token, which the account is no side of.
    let gifts = account["account"]["transfers"].as_array().unwrap();
    let told: Vec<_> = gifts
        .iter()
        .map(|gift| (&gift["token"]["symbol"], &gift["amount"], &gift["to"]))
        .collect();
    let to = &account["account"]["address"];
    assert_eq!(
        told,
        [(&json!("USDdev"), &dollars, to), (&json!("MOR"), &mor, to)],
        "{account}"
    );
    let tx = find(&client, gifts[1]["transaction"].as_str().unwrap()).await;
    let asked = &tx["transaction"];
    assert_eq!(
        (
            &asked["call"],
            &asked["transfer"]["amount"],
            &asked["transfer"]["to"]
        ),
        (&json!("MorToken.transfer"), &mor, to),
        "{tx}"
    );
    let money = client.api("GET", "/api/money").await;
    assert_eq!(money["complete"], true, "{money}");

    let again = ended(folder.path(), &["faucet", STRANGER]);
    let said = String::from_utf8(again.stderr).unwrap();
    assert!(
        !again.status.success() && said.contains("gets more in 60 min"),
        "{said}"
    );
}
