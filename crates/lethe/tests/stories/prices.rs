//! A running provider asks another price.

use serde_json::Value;

use crate::process::{Client, PATIENCE, ended};
use crate::town::{MODEL, Town};

/// What the estimated tokens of a request cost, as the consumer's choice has it.
async fn asked(client: &Client) -> u128 {
    let route = client
        .api("GET", &format!("/api/route?model={MODEL}"))
        .await;
    let price = &route["choices"][0]["ranked"][0]["terms"]["price"];
    price.as_str().unwrap().parse().unwrap()
}

fn price(town: &Town, flags: &[&str]) -> Result<Value, String> {
    let args = [&["price", "--json"], flags].concat();
    let output = ended(&town.folder().join("provider"), &args);
    match output.status.success() {
        true => Ok(serde_json::from_slice(&output.stdout).unwrap()),
        false => Err(String::from_utf8(output.stderr).unwrap()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_price_is_heard_and_paid_and_nobody_is_refused_meanwhile() {
    let town = Town::start().await;
    let selling = town.provider();
    let _relays = ["one", "two"].map(|folder| town.relay(folder, &[]));
    let consumer = town.oblivious_consumer();
    let client = Client::of(&consumer);
    client.answered(MODEL, "3").await;
    let before = asked(&client).await;

    let told = price(&town, &[]).unwrap();
    let flags = ["--input-price", "3", "--output-price", "3"];
    let set = price(&town, &flags).unwrap();
    assert_eq!(set["offers"][0]["model"], told["offers"][0]["model"]);
    for field in ["inputPrice", "outputPrice"] {
        assert_eq!(set["offers"][0][field], "3", "{set}");
        assert_ne!(told["offers"][0][field], "3", "{told}");
    }

    // Answers go on, at either price, until the new one is known.
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while asked(&client).await == before {
        assert!(tokio::time::Instant::now() < deadline, "it is never heard");
        assert_eq!(client.answered(MODEL, "2").await.text, "0 1 ");
    }
    assert!(asked(&client).await > before);
    assert_eq!(client.answered(MODEL, "2").await.text, "0 1 ");

    // What is no price is refused by name, and changes nothing.
    let refused = price(&town, &["--output-price", "x"]).unwrap_err();
    assert!(refused.contains("--output-price"), "{refused}");
    let absurd = "9".repeat(20);
    price(&town, &["--output-price", &absurd]).unwrap_err();
    assert_eq!(price(&town, &[]).unwrap(), set);
    selling.stop();
    let refused = price(&town, &[]).unwrap_err();
    assert!(refused.contains("nothing runs"), "{refused}");
}
