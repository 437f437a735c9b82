//! What may stand behind a flag. Whatever can be seen to be wrong without
//! looking at anything else is refused here, before anything is done, and with
//! what is allowed; the commands get what they can work with.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use consumer::{Defaults, Failover};
use market::{Demand, Model, PARAMETER_BYTES_MAX};
use reqwest::Url;

use crate::history::Id;
use crate::keystore::is_former;

/// The longest name of a host, in bytes.
const HOST_BYTES_MAX: usize = 253;

/// The text, if it can be read as a `T`.
fn read<T: FromStr<Err: Display>>(text: &str) -> Result<String, String> {
    match text.parse::<T>() {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Where something listens. A port alone is one of this machine alone, as `localhost` is.
pub(super) fn listener(text: &str) -> Result<SocketAddr, String> {
    let here = |port: &str| {
        port.parse::<u16>()
            .ok()
            .map(|port| (Ipv4Addr::LOCALHOST, port))
    };
    let port = text.strip_prefix("localhost:").unwrap_or(text);
    if let Some(address) = here(port) {
        return Ok(address.into());
    }
    text.parse::<SocketAddr>().map_err(|error| {
        let hint = match (text.parse::<IpAddr>(), text.strip_prefix(':').and_then(here)) {
            (Ok(ip), _) => format!("; say the port, too: {}", SocketAddr::new(ip, 8082)),
            (_, Some((_, port))) => format!(
                "; 127.0.0.1:{port} is for this machine alone, 0.0.0.0:{port} for whoever reaches it"
            ),
            _ => String::new(),
        };
        format!("{error} (allowed: an IP address and a port, such as 127.0.0.1:8082; a port alone is of 127.0.0.1, and so is localhost:PORT{hint})")
    })
}

/// A network by its name.
pub(super) fn network(text: &str) -> Result<String, String> {
    match chain::Network::by_name(text, true) {
        Ok(network) => Ok(network.name),
        Err(error) => Err(error.to_string()),
    }
}

/// A server that is spoken to over HTTP.
pub(super) fn server(text: &str) -> Result<String, String> {
    match server_fault(text) {
        None => Ok(text.to_owned()),
        Some(fault) => Err(fault),
    }
}

/// Why a text is no such server; repeats nothing of it but its scheme.
pub(super) fn server_fault(text: &str) -> Option<String> {
    const ALLOWED: &str = "http://HOST:PORT or https://HOST, with a path if it has one";
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => None,
        Ok(url) => Some(format!(
            "{:?} is not spoken (allowed: {ALLOWED})",
            url.scheme()
        )),
        Err(error) => Some(format!("{error} (allowed: {ALLOWED})")),
    }
}

/// A model's name in the market.
pub(super) fn model(text: &str) -> Result<String, String> {
    match Model::name_fault(text) {
        None => Ok(text.to_owned()),
        Some(fault) => Err(format!(
            "{fault} (allowed: a name that people can read and type)"
        )),
    }
}

/// A host's name, as a client's header `Host` has it without the port.
pub(super) fn host(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let is_name = (1..=HOST_BYTES_MAX).contains(&text.len()) && text.chars().all(plain);
    match text == "*" || is_name {
        true => Ok(text.to_owned()),
        false => Err(
            "allowed: a host's name without scheme and port, such as host.docker.internal, or * for any"
                .to_owned(),
        ),
    }
}

/// A field of a request.
pub(super) fn field(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    match (1..=PARAMETER_BYTES_MAX).contains(&text.len()) && text.chars().all(plain) {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "allowed: up to {PARAMETER_BYTES_MAX} letters, digits and underscores"
        )),
    }
}

/// Labels that are demanded.
pub(super) fn labels(text: &str) -> Result<String, String> {
    read::<Demand>(text)
}

/// What happens when a provider is lost within an answer.
pub(super) fn failover(text: &str) -> Result<String, String> {
    read::<Failover>(text)
}

/// Preferences, as in a request's `provider`.
pub(super) fn preferences(text: &str) -> Result<String, String> {
    let json = serde_json::from_str(text).map_err(|error| format!("no JSON: {error}"))?;
    match Defaults::read(&json) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Something to ask.
pub(super) fn question(text: &str) -> Result<String, String> {
    match text.trim().is_empty() {
        false => Ok(text.to_owned()),
        true => Err("there is nothing to ask in it; nothing was sent".to_owned()),
    }
}

/// A kept conversation's id.
pub(super) fn conversation(text: &str) -> Result<String, String> {
    read::<Id>(text)
}

/// How many words a phrase has.
pub(super) fn words(text: &str) -> Result<u8, String> {
    match text {
        "12" => Ok(12),
        "24" => Ok(24),
        _ => Err("allowed: 12, 24".to_owned()),
    }
}

/// What a key is called.
pub(super) fn key_name(text: &str) -> Result<String, String> {
    let named = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
    match !text.is_empty() && text.chars().all(named) {
        true if is_former(text) => Err(
            "names that begin with `former` are of keys that others took the place of".to_owned(),
        ),
        true => Ok(text.to_owned()),
        false => Err("allowed: letters, digits and `-`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_and_localhost_are_of_this_machine() {
        let at = |text: &str| listener(text).map(|address| address.to_string());
        for (text, meant) in [
            ("8083", "127.0.0.1:8083"),
            ("0", "127.0.0.1:0"),
            ("localhost:8083", "127.0.0.1:8083"),
            ("0.0.0.0:8083", "0.0.0.0:8083"),
            ("[::1]:8083", "[::1]:8083"),
        ] {
            assert_eq!(at(text), Ok(meant.to_owned()), "{text}");
        }
        for (text, hint) in [
            (":8083", "0.0.0.0:8083 for whoever reaches it"),
            ("127.0.0.1", "say the port, too: 127.0.0.1:8082"),
            ("::1", "say the port, too: [::1]:8082"),
            ("here:8083", "such as 127.0.0.1:8082"),
            ("localhost", "and so is localhost:PORT"),
            ("65536", "a port alone"),
            ("-1", "a port alone"),
            ("", "a port alone"),
        ] {
            let said = at(text).unwrap_err();
            assert!(
                said.contains(hint) && said.contains("allowed: an IP"),
                "{said}"
            );
        }
    }
}
