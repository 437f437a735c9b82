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

/// Warnings to standard error, and each action with money as a line of `cast`;
/// `LETHE_LOG` says more or less. The demonstration's own actions are many and
/// its money is play money; `lethe exit` tells its lines itself.
pub(crate) fn start(command: &Command) {
    let said = std::env::var_os("LETHE_LOG").is_some();
    let mut filter = EnvFilter::builder()
        .with_env_var("LETHE_LOG")
        .with_default_directive(tracing::level_filters::LevelFilter::WARN.into())
        .from_env_lossy();
    let silent = matches!(
        command,
        Command::Up(_) | Command::Exit(_) | Command::Where(_)
    );
    if !said && !silent {
        let cast = format!("{}=info", chain::CAST);
        filter = filter.add_directive(cast.parse().expect("a target and a level"));
    }
    let discreet = matches!(command, Command::Relay(_));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_writer(std::io::stderr)
        .finish()
        .with(filter_fn(move |what| !discreet || is_ours(what.target())))
        .init();
}

fn is_ours(target: &str) -> bool {
    let name = target.split("::").next().unwrap_or_default();
    OUR_CRATES.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

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
