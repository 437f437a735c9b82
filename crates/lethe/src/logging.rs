//! What is written to standard error, and what a relay never writes there.
//!
//! The libraries under a node name its peers, some at the finer levels and
//! some when a packet cannot be sent. Who asks whom is all that a relay could
//! give away, so in a relay only our own crates speak; they name no peers.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::cli::Command;

/// Crates that are heard in a relay.
const OUR_CRATES: [&str; 8] = [
    chain::CAST,
    "chain",
    "lethe",
    "market",
    "relay",
    "seal",
    "store",
    "transport",
];
/// Ours as well, in the other roles.
const OTHER_CRATES: [&str; 7] = [
    "consumer", "devchain", "engine", "gateway", "openai", "provider", "routing",
];
/// Levels that, said alone, are meant for our crates: of the libraries they are a flood.
const FINE_LEVELS: [&str; 3] = ["info", "debug", "trace"];
/// Says what is heard.
const VARIABLE: &str = "LETHE_LOG";

/// Warnings to standard error; `LETHE_LOG` says more or less. At `debug` each
/// action with money is there as a line of `cast`.
pub(crate) fn start(command: &Command) {
    let said = std::env::var_os(VARIABLE).map(|said| said.to_string_lossy().into_owned());
    let filter = EnvFilter::builder()
        .with_default_directive(tracing::level_filters::LevelFilter::WARN.into())
        .parse_lossy(directives(said.as_deref()));
    let discreet = matches!(command, Command::Relay(_));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_writer(std::io::stderr)
        .finish()
        .with(filter_fn(move |what| !discreet || is_ours(what.target())))
        .init();
}

/// What is heard, as the filter reads it. A fine level alone is for our own
/// crates; with a target beside it (`debug,lethe=debug`) it is taken as it stands.
fn directives(said: Option<&str>) -> String {
    let Some(said) = said else {
        return String::new();
    };
    let level = said.trim().to_ascii_lowercase();
    if !FINE_LEVELS.contains(&level.as_str()) {
        return said.to_owned();
    }
    let ours = OUR_CRATES.iter().chain(&OTHER_CRATES);
    let ours: Vec<_> = ours.map(|name| format!("{name}={level}")).collect();
    ours.join(",")
}

fn is_ours(target: &str) -> bool {
    let name = target.split("::").next().unwrap_or_default();
    OUR_CRATES.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_alone_is_for_our_crates() {
        let debug = directives(Some("debug"));
        assert!(
            ["lethe", "gateway", "cast"]
                .iter()
                .all(|name| debug.contains(&format!("{name}=debug"))),
            "{debug}"
        );
        assert!(!debug.split(',').any(|one| one == "debug"), "{debug}");
        for said in ["error", "off", "hyper=debug", "debug,lethe=debug"] {
            assert_eq!(directives(Some(said)), said);
        }
        assert_eq!(directives(None), "");
    }

    #[test]
    fn our_crates_are_heard_and_those_below_are_not() {
        assert!(is_ours("relay::shell") && is_ours("transport::quic::accept") && is_ours("lethe"));
        for target in [
            "iroh::socket",
            "noq_udp",
            "hyper_util::client",
            "relays::x",
            "",
        ] {
            assert!(!is_ours(target), "{target}");
        }
    }
}
