//! What `lethe up` says when it is up: at most one screen, or one line of JSON.

use std::path::Path;

use chain::{DEVELOPMENT_ACCOUNTS, LOCAL_CHAIN_ID, Network};
use market::Address;
use serde_json::{Value, json};

use crate::folder::Running;
use crate::output;

/// What there is to say.
pub(crate) struct Ready<'a> {
    pub(crate) running: &'a Running,
    pub(crate) key: &'a str,
    pub(crate) key_path: &'a Path,
    /// The flag that names the data folder; empty for the usual one.
    pub(crate) data: &'a str,
    /// Servers on this machine whose answers could be sold.
    pub(crate) found: &'a [provider::Found],
    pub(crate) json: bool,
}

/// Says it. The key is shown on a terminal and in JSON; otherwise only where it is.
pub(crate) fn print(ready: &Ready<'_>) {
    if ready.json {
        let Running {
            base_url,
            rpc_url,
            dashboard_url,
            ..
        } = ready.running;
        return output::json(&json!({
            "base_url": base_url,
            "api_key": ready.key,
            "rpc_url": rpc_url,
            "dashboard_url": format!("{dashboard_url}#key={}", ready.key),
        }));
    }
    let terminal = output::is_terminal();
    let path = ready.key_path.display().to_string();
    let (key, shown, link) = match terminal {
        true => (
            ready.key.to_owned(),
            ready.key.to_owned(),
            format!("#key={}", ready.key),
        ),
        false => (
            format!("$(cat {path})"),
            format!("in {path}"),
            String::new(),
        ),
    };
    let Running {
        base_url,
        rpc_url,
        dashboard_url,
        ..
    } = ready.running;
    output::line(format!(
        "\
The market is up: a demonstration by one operator, on a chain that only this machine knows.

  base URL    {base_url}
  key         {shown}
  dashboard   {dashboard_url}{link}
  chain       {rpc_url}

Ask the demonstration model (it knows the definitions of about 3,000 nouns):

  curl -N {base_url}/chat/completions -H \"Authorization: Bearer {key}\" -H 'Content-Type: application/json' \\
    -d '{{\"model\":\"lethe-demo\",\"stream\":true,\"messages\":[{{\"role\":\"user\",\"content\":\"What is a glacier?\"}}]}}'

`lethe chat{data}` asks from the terminal, `lethe where{data}` says where the money is. Ctrl-C stops.",
        data = ready.data,
    ));
    for found in ready.found {
        output::line(offer(found, rpc_url));
    }
}

/// What `lethe consume` says; the key only on a terminal, as [`print`].
pub(crate) fn consumer(running: &Running, key: &str, key_path: &Path) -> String {
    let link = match output::is_terminal() {
        true => format!("#key={key}"),
        false => String::new(),
    };
    format!(
        "Gateway at {}; key in {}\nIts page: {}{link}",
        running.base_url,
        key_path.display(),
        running.dashboard_url,
    )
}

/// The words of the accounts that have money on every embedded chain.
const PUBLIC_WORDS: &str = "test test test test test test test test test test test junk";

/// What `lethe chain` says for programs.
pub(crate) fn chain_json(rpc_url: &str) -> Value {
    let network = Network::local();
    let accounts = DEVELOPMENT_ACCOUNTS.map(|account| account.address);
    json!({
        "rpc_url": rpc_url,
        "chain_id": LOCAL_CHAIN_ID,
        "mor": network.mor,
        "usddev": usd_dev(&network),
        "registry": network.registry,
        "settlement": network.settlement,
        "public_words": PUBLIC_WORDS,
        "accounts": accounts,
    })
}

/// The local chain's dollar.
fn usd_dev(network: &Network) -> Address {
    let others = network.tokens.iter().map(|token| token.address);
    let mut others = others.filter(|address| *address != network.mor);
    others.next().unwrap_or(network.mor)
}

/// What `lethe chain` says for people: all that `cast` and wallets ask for.
pub(crate) fn chain(rpc_url: &str) -> String {
    let network = Network::local();
    let usddev = usd_dev(&network);
    let Network {
        mor,
        registry,
        settlement,
        ..
    } = network;
    let first = &DEVELOPMENT_ACCOUNTS[0];
    format!(
        "\
The embedded chain is at {rpc_url}, with the market's contracts on it. A demonstration: its money is worth nothing.

  RPC URL     {rpc_url}
  chain id    {LOCAL_CHAIN_ID}
  currency    ETH
  MOR         {mor}
  USDdev      {usddev}
  registry    {registry}
  settlement  {settlement}

Demo keys, which everybody has; never use them on another chain:

  words       {PUBLIC_WORDS}
  accounts    the first ten of m/44'/60'/0'/0/N: 10,000 ETH each; the first has the treasury's MOR and USDdev
  first       {address}
  its key     {secret}

In MetaMask: add a network with this RPC URL and chain id, then import that key. With cast:

  cast balance {address} --rpc-url {rpc_url}
  cast send {mor} 'transfer(address,uint256)' YOUR_ADDRESS 1000000000000000000 --rpc-url {rpc_url} \\
    --private-key {secret}

Ctrl-C stops.",
        address = first.address,
        secret = first.secret,
    )
}

/// How to sell the answers of a server that is running here.
fn offer(found: &provider::Found, rpc_url: &str) -> String {
    let provider::Found { name, url, models } = found;
    let model = models.first().map_or("NAME", String::as_str);
    if name == "Ollama" {
        return format!(
            "Found {name}: sell its answers here with `lethe sell ollama:{model} --price 1 --data DIR --rpc-url {rpc_url}`"
        );
    }
    format!(
        "Found {name}: sell its answers here with `lethe provide --data DIR --rpc-url {rpc_url} --model {model} --backend {url}`"
    )
}
