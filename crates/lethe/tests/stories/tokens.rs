//! Paid in dollars: bought, told and brought back like MOR, and never added to it.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use market::{Address, Amount, Ledger};
use serde_json::Value;

use crate::exits::{NOT_ALL, OVER_S, account, exit, folder, told};
use crate::process::{Client, Running, ended};
use crate::town::{MODEL, Town};

/// Dollars per 10^6 tokens: a thousand base units a token.
const PRICE: &str = "1000";
/// Dollars that a demonstration's payer starts with, in base units.
const FIRST: u128 = 100_000_000;
/// The rates of the story: a dollar is half a MOR.
const RATES: [&str; 4] = [
    "--usd-rate",
    "mor=2:a story",
    "--usd-rate",
    "usdc=1:a story",
];

/// A provider that sells for a token and claims only when it must.
fn provider(town: &Town, name: &str, token: &str, price: &str) -> Running {
    let rpc = town.rpc_url();
    let args = [
        "provide",
        "--rpc-url",
        &rpc,
        "--model",
        MODEL,
        "--backend",
        &town.backend.url,
        "--endpoint",
        "127.0.0.1:0",
        "--token",
        token,
        "--input-price",
        price,
        "--output-price",
        price,
        "--claim-every",
        "86400",
        "--claim-at",
        "1000",
        "--no-probe",
    ];
    Running::start(&folder(town, name), &args)
}

/// The chain's dollar.
fn dollar() -> Address {
    chain::Network::local().tokens[1].address
}

async fn dollars(town: &Town, owner: Address) -> u128 {
    let ledger = town.ledger().await;
    let held = ledger.balance(dollar(), owner).await;
    held.unwrap().base_units()
}

/// A command on one of the folders, in words.
fn said(town: &Town, name: &str, command: &str) -> String {
    let rpc = town.rpc_url();
    let mut args: Vec<_> = command.split(' ').collect();
    if command != "key list" {
        args.extend(["--rpc-url", &rpc]);
    }
    let output = ended(&folder(town, name), &args);
    String::from_utf8(output.stdout).unwrap()
}

fn whereabouts(town: &Town, name: &str) -> Value {
    let rpc = town.rpc_url();
    told(&ended(
        &folder(town, name),
        &["where", "--json", "--rpc-url", &rpc],
    ))
    .0
}

/// The dollars that a folder holds in places with this word.
fn held(money: &Value, word: &str) -> u128 {
    let others = money["others"].as_array().unwrap();
    let of_dollar = others
        .iter()
        .filter(|other| other["token"]["symbol"] == "USDdev");
    let places = of_dollar.flat_map(|other| other["places"].as_array().unwrap());
    places
        .filter(|place| place["label"].as_str().unwrap().contains(word))
        .map(|place| place["amount"].as_str().unwrap().parse::<u128>().unwrap())
        .sum()
}

fn sum(money: &Value) -> u128 {
    let sum = &money["others"][0]["sum"];
    sum.as_str().unwrap().parse().unwrap()
}

/// Who was started for MOR first is given its first dollars when it starts for dollars, and once.
#[tokio::test(flavor = "multi_thread")]
async fn who_pays_with_another_token_than_before_is_given_its_first_of_that_once() {
    let town = Town::start().await;
    let first = town.consumer();
    let payer = account(&first, "payer");
    assert_eq!(dollars(&town, payer).await, 0);
    first.stop();
    let flags = ["--pay-with", "usdc", "--no-standby", "--payer", "wallet"];
    let all = ["--deposit", "100usdc", "--channel-max", "100usdc"];
    let flags = [&flags[..], &all].concat();
    town.consumer_with("consumer", &flags).stop();
    assert_eq!(dollars(&town, payer).await, FIRST);
    // What is in a channel was had.
    let _selling = provider(&town, "provider", "usdc", PRICE);
    let buying = town.consumer_with("consumer", &flags);
    assert_eq!(dollars(&town, payer).await, FIRST);
    Client::of(&buying).answered(MODEL, "3").await;
    buying.stop();
    assert_eq!(dollars(&town, payer).await, 0);
    town.consumer_with("consumer", &flags).stop();
    assert_eq!(dollars(&town, payer).await, 0);
}

/// A wallet that has given everything away is told at the start, in the refusal and in `where`.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_wallet_is_told_in_whole_tokens_and_counts_against_no_provider() {
    let town = Town::start_embedded().await;
    let owner = chain::DEVELOPMENT_ACCOUNTS[2];
    let data = folder(&town, "consumer");
    let file = town.folder().join("key");
    std::fs::write(&file, alloy_primitives::hex::encode(owner.secret)).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let imported = ended(&data, &["wallet", "import", file.to_str().unwrap()]);
    assert!(imported.status.success(), "{imported:?}");
    // Before a node was ever started: its account is told.
    let text = said(&town, "consumer", "where");
    assert!(text.starts_with("your wallet  0 MOR "), "{text}");
    assert!(
        text.contains("no node was started on this folder yet"),
        "{text}"
    );
    town.consumer().stop();
    let key = Arc::new(owner.wallet());
    let journal = Arc::new(chain::MemoryJournal::default());
    let network = chain::Network::local();
    let wallet = chain::EvmLedger::connect(&town.rpc_url(), network, key, journal).await;
    let wallet = wallet.unwrap();
    let (mor, all) = (wallet.mor(), Amount::new(100 * 10_u128.pow(18)));
    let away = town.ledger().await;
    wallet.transfer(mor, away.account(), all).await.unwrap();

    let _selling = town.provider();
    let log = town.folder().join("log");
    let args = town.consumer_args();
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let buying = Running::start_logged(&data, &args, "error", &log);
    let told = std::fs::read_to_string(&log).unwrap();
    let first = format!(
        "The wallet {} on local has to be funded first:",
        owner.address
    );
    assert!(told.contains(&first), "{told}");
    assert!(told.contains("\n  1 MOR for the first channel"), "{told}");
    assert!(!told.contains("ETH for gas"), "{told}");
    let client = Client::of(&buying);
    for _ in 0..3 {
        let (code, message) = refused(&client, 402).await;
        assert_eq!(code, "payment_failed");
        let needed = format!(
            "account {} has 0 MOR, 1 MOR is needed: send 1 MOR to it; ",
            owner.address
        );
        assert!(message.contains(&needed), "{message}");
    }
    let state = client.api("GET", "/api/state").await;
    assert_eq!(state["models"][0]["offers"][0]["live"], true, "{state}");
    let text = said(&town, "consumer", "where");
    let row = text.lines().find(|line| line.starts_with("your wallet"));
    assert!(row.unwrap().contains(" 0 MOR "), "{text}");
    // It goes on at once when there is some.
    away.transfer(mor, owner.address, all).await.unwrap();
    client.answered(MODEL, "3").await;
    buying.stop();
    let text = said(&town, "consumer", "where --cast");
    let signs = "# key: lethe wallet export payer-1";
    assert!(text.contains(signs), "{text}");
    let sends = format!("cast send --rpc-url {} 0x", town.rpc_url());
    assert!(text.contains(&sends), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_paid_in_dollars_and_every_one_comes_back() {
    let town = Town::start_movable().await;
    let selling = provider(&town, "provider", "usdc", PRICE);
    let flags = [&["--pay-with", "usdc"], &RATES[2..]].concat();
    let buying = town.consumer_with("consumer", &flags);
    let (seller, payer) = (account(&selling, "provider"), account(&buying, "payer"));
    assert_eq!(dollars(&town, payer).await, FIRST);
    let client = Client::of(&buying);
    for _ in 0..3 {
        let answer = client.answered(MODEL, "40").await;
        assert_eq!(answer.tail["token"].as_str().unwrap().parse(), Ok(dollar()));
    }
    let models = client.api("GET", "/v1/models").await;
    let pricing = &models["data"][0]["pricing"];
    assert_eq!(pricing["output_per_million"], "1000000000", "{pricing}");
    assert_eq!(pricing["micro_usd"]["output_per_million"], "1000000000");
    assert_eq!(pricing["micro_usd"]["source"], "a story");

    // Every dollar is in a place, no MOR is: a running node and a folder say the same.
    let beside = whereabouts(&town, "consumer");
    assert_eq!(beside["complete"], true, "{beside}");
    assert_eq!(beside["sum"], "0", "{beside}");
    assert_eq!(sum(&beside), FIRST, "{beside}");
    let charged = held(&beside, ": owed");
    assert!(charged > 0, "{beside}");
    let text = said(&town, "consumer", "where");
    assert!(text.contains("a channel gets 1 USDdev at a time"), "{text}");
    assert!(
        text.contains("100 USDdev ($100.00)  of this data folder"),
        "{text}"
    );
    assert!(
        text.contains("dollars at $1.00 for one USDdev (a story)"),
        "{text}"
    );
    let earned = whereabouts(&town, "provider");
    assert_eq!(held(&earned, "earned on channel"), charged, "{earned}");
    buying.stop();
    selling.stop();
    let alone = whereabouts(&town, "consumer");
    assert_eq!((sum(&alone), held(&alone, ": owed")), (FIRST, charged));

    let home = Address::repeat_byte(0x71).to_string();
    let (left, code) = exit(&town, "provider", &["--to", &home]);
    assert_eq!((code, &left["done"]), (0, &true.into()), "{left}");
    let (first, code) = exit(&town, "consumer", &[]);
    assert_eq!(code, NOT_ALL, "{first}");
    assert_eq!(
        first["waiting"][0]["token"].as_str().unwrap().parse(),
        Ok(dollar())
    );
    town.pass(OVER_S).await;
    let cold = Address::repeat_byte(0x72).to_string();
    let (done, code) = exit(&town, "consumer", &["--to", &cold]);
    assert_eq!((code, &done["done"]), (0, &true.into()), "{done}");
    let back = &done["returned_others"][0];
    assert_eq!(back["symbol"], "USDdev", "{done}");
    assert_eq!(back["amount"], (FIRST - charged).to_string(), "{done}");
    let ends = [home, cold].map(|end| end.parse().unwrap());
    assert_eq!(dollars(&town, ends[0]).await, charged);
    assert_eq!(dollars(&town, ends[1]).await, FIRST - charged);
    for empty in [payer, seller, chain::SETTLEMENT] {
        assert_eq!(dollars(&town, empty).await, 0, "{empty}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_pays_in_mor_knows_of_an_offer_in_dollars_and_does_not_take_it() {
    let town = Town::start().await;
    let _selling = provider(&town, "provider", "usdc", PRICE);
    let buying = town.consumer();
    let client = Client::of(&buying);
    let refused = client.ask(MODEL, "1").await;
    assert!(!refused.status().is_success());
    let words = refused.text().await.unwrap();
    assert!(words.contains("--pay-with"), "{words}");
    let money = whereabouts(&town, "consumer");
    assert!(money["others"].is_null(), "{money}");
}

#[tokio::test(flavor = "multi_thread")]
async fn both_tokens_are_paid_with_and_neither_is_added_to_the_other() {
    let town = Town::start_movable().await;
    // 1 MOR is 2 dollars: the second asks less, the first more, by whatever figure.
    let for_mor = provider(&town, "dear", "mor", "0.002");
    let for_dollars = provider(&town, "cheap", "usdc", "0.003");
    let flags = [&["--pay-with", "both"][..], &RATES].concat();
    let buying = town.consumer_with("consumer", &flags);
    let payer = account(&buying, "payer");
    let client = Client::of(&buying);
    client.answered(MODEL, "5").await;
    let named = async |provider: &Running| {
        let only = serde_json::json!({ "only": [provider.said("provider")] });
        let body = serde_json::json!({
            "model": MODEL, "stream": true, "provider": only,
            "messages": [{ "role": "user", "content": "20" }],
        });
        let answer = crate::process::Answer::read(client.ask_with(&[], &body).await).await;
        assert!(answer.done, "{}", answer.raw);
        answer.tail["token"]
            .as_str()
            .unwrap()
            .parse::<Address>()
            .unwrap()
    };
    let mor = town.ledger().await.mor();
    assert_eq!(named(&for_mor).await, mor);
    assert_eq!(named(&for_dollars).await, dollar());
    // Compared by what they are worth: 0.002 MOR are 0.004 dollars.
    let told = client
        .api("GET", &format!("/api/route?model={MODEL}"))
        .await;
    let price = |provider: &Running| {
        let account = account(provider, "provider");
        let ranked = told["choices"][0]["ranked"].as_array().unwrap();
        let one = ranked
            .iter()
            .find(|one| one["provider"].as_str().unwrap().parse() == Ok(account));
        one.unwrap()["terms"]["price"]
            .as_str()
            .unwrap()
            .parse::<u128>()
            .unwrap()
    };
    assert_eq!(told["unit"]["symbol"], "MOR", "{told}");
    let (dear, cheap) = (price(&for_mor), price(&for_dollars));
    assert!(dear.abs_diff(cheap * 4 / 3) <= 2, "{dear} and {cheap}");

    let before = whereabouts(&town, "consumer");
    assert_eq!(before["complete"], true, "{before}");
    assert_eq!(
        before["sum"],
        Amount::new(100 * 10_u128.pow(18)).to_string()
    );
    assert_eq!(sum(&before), FIRST);
    assert!(held(&before, ": free") > 0, "{before}");
    let text = said(&town, "consumer", "where");
    assert!(
        text.contains("100 MOR ($200.00)") && text.contains("100 USDdev ($100.00)"),
        "{text}"
    );
    assert!(!text.contains("$300"), "{text}");
    drop((for_mor, for_dollars));
    buying.stop();
    let (_, code) = exit(&town, "consumer", &[]);
    assert_eq!(code, NOT_ALL);
    town.pass(OVER_S).await;
    let (done, code) = exit(&town, "consumer", &[]);
    assert_eq!((code, &done["done"]), (0, &true.into()), "{done}");
    assert_eq!(dollars(&town, payer).await, FIRST);
}

#[test]
fn two_tokens_without_a_rate_are_refused_with_the_flag_that_helps() {
    let folder = tempfile::tempdir().unwrap();
    let town = Running::start(
        &folder.path().join("chain"),
        &["chain", "--rpc", "127.0.0.1:0"],
    );
    let rpc = town.said("rpc_url");
    let consumer = folder.path().join("consumer");
    let args = [
        "consume",
        "--rpc-url",
        &rpc,
        "--http",
        "127.0.0.1:0",
        "--pay-with",
        "mor,usdc",
    ];
    let refused = ended(&consumer, &args);
    assert!(!refused.status.success());
    let words = String::from_utf8(refused.stderr).unwrap();
    assert!(words.contains("--usd-rate"), "{words}");
    let args = [
        "consume",
        "--rpc-url",
        &rpc,
        "--http",
        "127.0.0.1:0",
        "--pay-with",
        "dai",
    ];
    let refused = ended(&consumer, &args);
    let words = String::from_utf8(refused.stderr).unwrap();
    assert!(words.contains("allowed: MOR, USDdev"), "{words}");
}

/// A question whose answer has three tokens, and may cost less than half a dollar.
fn question(most: Option<&str>) -> Value {
    serde_json::json!({
        "model": MODEL, "max_tokens": 3, "provider": { "max_price": { "completion": most } },
        "messages": [{ "role": "user", "content": "3" }],
    })
}

/// A refusal: its code and its words.
async fn refused(client: &Client, status: u16) -> (String, String) {
    let answer = client.ask_with(&[], &question(None)).await;
    assert_eq!(answer.status(), status);
    let told: Value = answer.json().await.unwrap();
    let text = |field: &str| told["error"][field].as_str().unwrap().to_owned();
    (text("code"), text("message"))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_pays_in_dollars_has_budgets_and_caps_in_dollars_and_deposits_by_the_token() {
    let town = Town::start().await;
    let _selling = provider(&town, "provider", "usdc", PRICE);
    let data = folder(&town, "consumer");
    let flags = [
        &["--pay-with", "both", "--deposit", "3,2usdc"][..],
        &RATES[..],
    ];
    // The chain's treasury gives money at the first start: of both.
    town.consumer_with("consumer", &flags.concat()).stop();
    let key = |name: &str, budget: &str| {
        let args = ["key", "add", name, "--json", "--budget-per-day", budget];
        let (made, code) = told(&ended(&data, &args));
        assert_eq!(code, 0, "{made}");
        made["api_key"].as_str().unwrap().to_owned()
    };
    let names = [
        ("mor", "1"),
        ("poor", "0.000001 USDC"),
        ("rich", "1usdc"),
        ("worth", "1 USD, 0.9 usdc"),
    ];
    let keys = names.map(|(name, budget)| key(name, budget));
    let buying = town.consumer_with("consumer", &flags.concat());
    let own = Client::of(&buying);
    let [mor, poor, rich, worth] = keys.map(|key| own.with_key(&key));

    // A budget in MOR allows no dollar, however large it is.
    let (code, words) = refused(&mor, 402).await;
    assert_eq!(code, "budget_token", "{words}");
    let (code, words) = refused(&poor, 402).await;
    assert_eq!(code, "budget_spent", "{words}");
    assert!(words.contains("0.000001 USDdev a day"), "{words}");
    for client in [&rich, &worth] {
        let answer = client.ask_with(&[], &question(None)).await;
        assert_eq!(answer.status(), 200);
    }
    let text = said(&town, "consumer", "key list");
    assert!(text.contains("rich  budget: 1 USDdev a day (0.0"), "{text}");
    assert!(text.contains("worth  budget: 1 USD a day (0.0"), "{text}");
    assert!(
        text.contains("mor  budget: 1 MOR a day (0 spent today)"),
        "{text}"
    );

    // A cap on the price counts in what it is in: 1000 dollars are 500 MOR.
    for (cap, status) in [
        ("1000 usdc", 200),
        ("1000 USD", 200),
        ("500", 200),
        ("499 mor", 412),
        ("999 USD", 412),
        ("1 dai", 400),
    ] {
        let answer = own.ask_with(&[], &question(Some(cap))).await;
        assert_eq!(answer.status(), status, "{cap}");
    }
    let text = said(&town, "consumer", "where");
    assert!(text.contains("a channel gets 2 USDdev at a time"), "{text}");
    assert!(text.contains("a channel gets 3 MOR at a time"), "{text}");
    let state = own.api("GET", "/api/state").await;
    assert_eq!(
        state["budget"]["others"][0]["deposit"], "2000000",
        "{}",
        state["budget"]
    );
    buying.stop();
    // A folder that nobody runs knows the same.
    let text = said(&town, "consumer", "key list");
    assert!(text.contains("rich  budget: 1 USDdev a day (0.0"), "{text}");
}

/// A contract that answers each function with eight words out of its storage: those from 256 times
/// the function's selector on. Real code on a real chain, and as good as a feed or a pool to whoever reads it.
fn teller() -> String {
    // Where they begin: PUSH1 0, CALLDATALOAD, PUSH1 224, SHR, PUSH1 8, SHL.
    let mut code = "60003560e01c60081b".to_owned();
    for n in 0..8 {
        // DUP1, PUSH1 n, ADD, SLOAD, PUSH1 32 n, MSTORE.
        code += &format!("8060{n:02x}015460{:02x}52", 32 * n);
    }
    // PUSH2 256, PUSH1 0, RETURN.
    format!("0x{code}6101006000f3")
}

/// From now on this contract answers the function so.
async fn tells(town: &Town, contract: Address, selector: u32, words: &[i128]) {
    town.rpc("anvil_setCode", serde_json::json!([contract, teller()]))
        .await;
    for (n, word) in (0_u64..).zip(words) {
        let slot = format!("0x{:064x}", u64::from(selector) * 256 + n);
        let sign = if *word < 0 { "f" } else { "0" };
        let word = format!("0x{}{word:032x}", sign.repeat(32));
        town.rpc(
            "anvil_setStorageAt",
            serde_json::json!([contract, slot, word]),
        )
        .await;
    }
}

const FEED: Address = Address::repeat_byte(0xfe);
const POOL: Address = Address::repeat_byte(0xb0);

/// Dollars by a feed, said so many seconds ago; and MOR by a pool with them.
async fn sources(town: &Town, answer: i128, age_s: u64) {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let at = i128::from(now - age_s);
    tells(town, FEED, 0xfeaf_968c, &[7, answer, at, at, 7]).await;
    tells(town, FEED, 0x313c_e567, &[8]).await;
    let (mor, dollar) = (town.ledger().await.mor(), dollar());
    // The mean tick of 600 s is -267,161, at which one MOR is 2.499915 dollars.
    tells(
        town,
        POOL,
        0x883b_dbfd,
        &[64, 160, 2, 5, 5 - 600 * 267_161, 2, 0, 0],
    )
    .await;
    for (selector, token) in [(0x0dfe_1681_u64, mor), (0xd212_20a7, dollar)] {
        let slot = format!("0x{:064x}", selector * 256);
        let params = serde_json::json!([POOL, slot, token.into_word()]);
        town.rpc("anvil_setStorageAt", params).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_tokens_are_worth_is_read_from_a_feed_and_a_pool() {
    let town = Town::start_movable().await;
    sources(&town, 100_000_000, 40).await;
    let selling = provider(&town, "provider", "usdc", PRICE);
    let by_feed = format!("usdc=feed:{FEED}@3600");
    let by_pool = format!("mor=pool:{POOL}@600");
    let flags = [
        "--pay-with",
        "both",
        "--usd-rate",
        &by_pool,
        "--usd-rate",
        &by_feed,
    ];
    let buying = town.consumer_with("consumer", &flags);
    let client = Client::of(&buying);
    client.answered(MODEL, "3").await;
    let state = client.api("GET", "/api/state").await;
    let tokens = state["tokens"].as_array().unwrap();
    let worth = |symbol: &str| {
        let token = tokens.iter().find(|token| token["symbol"] == symbol);
        token.unwrap()["usd"].clone()
    };
    assert_eq!(worth("USDdev")["micro_usd"], 1_000_000, "{state}");
    assert_eq!(worth("MOR")["micro_usd"], 2_499_915, "{state}");
    assert_eq!(
        worth("MOR")["at"],
        worth("USDdev")["at"],
        "as old as the older of both"
    );
    let models = client.api("GET", "/v1/models").await;
    let told = &models["data"][0]["pricing"]["micro_usd"];
    assert_eq!(told["output_per_million"], "1000000000", "{told}");
    assert!(told["at"].is_u64(), "{told}");
    let text = said(&town, "consumer", "where");
    let words = format!(
        "dollars at $2.499915 for one MOR (pool {POOL}, mean of 600 s, times price feed {FEED}, "
    );
    assert!(text.contains(&words) && text.contains(" ago)"), "{text}");
    buying.stop();

    // What is too old, or makes no sense, is not shown; and the token is not paid with beside another.
    for (answer, age_s) in [(100_000_000, 3_700), (0, 40), (-1, 40)] {
        sources(&town, answer, age_s).await;
        let buying = town.consumer_with("consumer", &flags);
        let client = Client::of(&buying);
        let state = client.api("GET", "/api/state").await;
        for token in state["tokens"].as_array().unwrap() {
            assert!(token["usd"].is_null(), "{token}");
        }
        let refused = client.ask(MODEL, "3").await;
        assert!(!refused.status().is_success());
        let words = refused.text().await.unwrap();
        assert!(words.contains("--usd-rate"), "{words}");
        buying.stop();
    }
    drop(selling);

    // What is neither feed nor pool ends the start.
    let nobody = Address::repeat_byte(0x0b);
    for (rate, words) in [
        (format!("usdc=feed:{nobody}"), "is no price feed"),
        (format!("mor=pool:{nobody}"), "is no pool of token"),
        (format!("mor=pool:{POOL}"), "nobody says what that is worth"),
    ] {
        let rpc = town.rpc_url();
        let args = [
            "consume",
            "--rpc-url",
            &rpc,
            "--http",
            "127.0.0.1:0",
            "--usd-rate",
            &rate,
        ];
        let refused = ended(&folder(&town, "other"), &args);
        assert!(!refused.status.success());
        let told = String::from_utf8(refused.stderr).unwrap();
        assert!(told.contains(words), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_node_still_tells_dollars_and_each_way_out_once() {
    let town = Town::start_movable().await;
    let _selling = town.provider();
    let buying = town.consumer_with("rated", &RATES);
    Client::of(&buying).answered(MODEL, "3").await;
    buying.stop();
    let rpc = town.rpc_url();
    let ran = ended(
        &folder(&town, "rated"),
        &["where", "--cast", "--rpc-url", &rpc],
    );
    let table = String::from_utf8(ran.stdout).unwrap();
    assert!(table.contains("($"), "{table}");
    assert!(
        table.contains("dollars at $2.00 for one MOR (a story)"),
        "{table}"
    );
    assert!(
        table.contains("\nto bring it back:\n    lethe exit"),
        "{table}"
    );
    assert_eq!(table.matches("lethe exit").count(), 1, "{table}");
    let casts: Vec<_> = table
        .lines()
        .filter(|line| line.contains("cast send"))
        .collect();
    let known: std::collections::BTreeSet<_> = casts.iter().collect();
    assert!(!casts.is_empty() && known.len() == casts.len(), "{table}");
}
