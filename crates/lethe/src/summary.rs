//! What `lethe up` says when it is up: at most one screen, or one line of JSON.

use std::path::Path;

use serde_json::json;

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

/// How to sell the answers of a server that is running here.
fn offer(found: &provider::Found, rpc_url: &str) -> String {
    let provider::Found { name, url, models } = found;
    let model = models.first().map_or("NAME", String::as_str);
    format!(
        "Found {name}: sell its answers here with `lethe provide --data DIR --rpc-url {rpc_url} --model {model} --backend {url}`"
    )
}
