//! The machine: clock, ports, sockets, open files.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::{Duration, UNIX_EPOCH};

use rustix::process::{Resource, getrlimit};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Check;
use crate::clock;
use crate::folder::{Folder, Running};

/// What listens where if nobody says otherwise, and of which commands it is.
const PORTS: [(&str, u16, &str, &[&str]); 4] = [
    ("gateway and dashboard", 8082, "--http", &["up", "consume"]),
    ("embedded chain", 8545, "--rpc", &["up", "chain"]),
    ("provider's descriptor", 3333, "--endpoint", &["provide"]),
    ("relay's description", 3334, "--endpoint", &["relay"]),
];
const PORT: &str = "port";
/// How long one of this machine's own addresses may take to answer.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// A stream and its descriptors, times the requests of a busy hour.
const OPEN_FILES_FEW: u64 = 4096;
/// With fewer a node does not come up.
const OPEN_FILES_MIN: u64 = 256;
/// What Linux gives a socket if nobody changed it; below it QUIC loses packets in bursts.
const SOCKET_BYTES_FEW: u64 = 212_992;
/// How long the clock is watched.
const WATCH: Duration = Duration::from_millis(1200);
/// Whole seconds of the wall clock may differ so much from what passed.
const JUMP_MAX_S: u64 = 2;

pub(super) async fn look(folder: &Folder) -> Vec<Check> {
    let mut checks = vec![clock().await];
    match (folder.is_taken(), folder.running()) {
        (Ok(true), Ok(running)) => {
            for (what, address) in addresses(&folder.roles(), &running) {
                checks.push(answers(what, &address).await);
            }
        }
        // It does not tell where it listens: `lethe chain`, or a node that starts.
        (Ok(true), Err(_)) => {}
        _ => checks.extend(usual(&folder.roles())),
    }
    let gateway = folder.running().ok().filter(Running::is_gateway);
    checks.extend(gateway.map(|running| names(&running.hosts)));
    checks.push(datagrams());
    checks.push(open_files());
    checks
}

/// By which names a gateway that runs may be called.
fn names(hosts: &[String]) -> Check {
    const NAME: &str = "names";
    if hosts.iter().any(|host| host == "*") {
        return Check::warn(
            NAME,
            "the gateway may be called by any name: nothing but the key keeps web pages elsewhere from it",
            "name those that are used: --allow-host NAME, or --allow-admin-host NAME with the dashboard",
        );
    }
    let allowed = match hosts.is_empty() {
        true => "no other; --allow-host NAME allows one".to_owned(),
        false => hosts.join(", "),
    };
    Check::ok(
        NAME,
        format!("called by localhost, by its addresses, and by {allowed}"),
    )
}

/// Against itself; [`super::reach`] has it against the chain.
async fn clock() -> Check {
    const NAME: &str = "clock";
    const SET: &str = "set it: timedatectl set-ntp true";
    let before = clock::now();
    tokio::time::sleep(WATCH).await;
    let after = clock::now();
    if after.0 < before.0 || after.since_s(before) > WATCH.as_secs() + JUMP_MAX_S {
        let found = format!("it went from {} to {} within a second", before.0, after.0);
        return Check::fail(NAME, found, SET);
    }
    // Who runs today was built before today.
    let built = std::env::current_exe()
        .and_then(std::fs::metadata)
        .and_then(|file| file.modified())
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    match built {
        Some(built) if after.0 + 86_400 < built.as_secs() => Check::fail(
            NAME,
            format!(
                "it says {} (Unix time), which is before this program was made",
                after.0
            ),
            SET,
        ),
        _ => Check::ok(NAME, format!("it goes steadily; Unix time {}", after.0)),
    }
}

/// The ports that these roles take if nobody says otherwise.
fn usual(roles: &[&str]) -> Vec<Check> {
    let wanted = |of: &[&str]| roles.is_empty() || of.iter().any(|role| roles.contains(role));
    let ports = PORTS.iter().filter(|(.., of)| wanted(of));
    let ports = ports.map(|(what, port, flag, _)| {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, *port));
        listens(what, address, flag)
    });
    ports.collect()
}

/// Whether a node that does not run could listen there.
fn listens(what: &str, address: SocketAddr, flag: &str) -> Check {
    match TcpListener::bind(address) {
        Ok(_) => Check::ok(PORT, format!("{address} is free ({what})")),
        Err(_) => Check::warn(
            PORT,
            format!("{address} is in use by another program ({what})"),
            format!(
                "stop that one (`ss -ltnp sport = :{}` names it), or choose another with {flag} ADDR",
                address.port()
            ),
        ),
    }
}

/// Where a node of these roles that runs listens, by its own word.
fn addresses(roles: &[&str], running: &Running) -> Vec<(&'static str, String)> {
    let mut all = Vec::new();
    let mut add = |what, url: &str| all.extend(authority(url).map(|it| (what, it.to_owned())));
    if running.is_gateway() {
        add("gateway and dashboard", &running.base_url);
    }
    if roles.contains(&"up") {
        add("embedded chain", &running.rpc_url);
    }
    if let Some(endpoint) = &running.endpoint {
        let what = match roles.contains(&"relay") {
            true => "relay's description",
            false => "provider's descriptor",
        };
        add(what, endpoint);
    }
    all
}

/// Host and port of a URL or an address.
fn authority(place: &str) -> Option<&str> {
    let behind = place.split("://").last()?;
    behind.split('/').next().filter(|host| !host.is_empty())
}

/// Whether a node that runs is found where it listens.
async fn answers(what: &str, address: &str) -> Check {
    match timeout(CONNECT_WITHIN, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Check::ok(
            PORT,
            format!("{address} is held by this folder's own node ({what})"),
        ),
        _ => Check::warn(
            PORT,
            format!(
                "{address}, where this folder's own node listens ({what}), takes no connection"
            ),
            "look at the firewall of this machine; if the node hangs, stop it and start it as before",
        ),
    }
}

/// Sends itself a packet, and looks at what the system allows.
fn datagrams() -> Check {
    const NAME: &str = "UDP";
    let trial = || -> std::io::Result<()> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        socket.send_to(b"lethe", socket.local_addr()?)?;
        socket.recv_from(&mut [0; 16]).map(drop)
    };
    if let Err(error) = trial() {
        return Check::fail(
            NAME,
            format!("a packet to this machine itself does not arrive: {error}"),
            "let UDP pass in the firewall of this machine: nodes speak QUIC",
        );
    }
    let limit = |name: &str| {
        let text = std::fs::read_to_string(format!("/proc/sys/net/core/{name}")).ok()?;
        text.trim().parse::<u64>().ok()
    };
    buffers(limit("rmem_max"), limit("wmem_max"))
}

/// What so many bytes at most, to read and to write, mean for sockets.
fn buffers(read: Option<u64>, write: Option<u64>) -> Check {
    const NAME: &str = "UDP";
    match (read, write) {
        (Some(read), Some(write)) if read.min(write) < SOCKET_BYTES_FEW => Check::warn(
            NAME,
            format!("packets pass; buffers of {read} and {write} bytes at most"),
            "sysctl -w net.core.rmem_max=7340032 net.core.wmem_max=7340032",
        ),
        (Some(read), Some(write)) => Check::ok(
            NAME,
            format!("packets pass; buffers of up to {read} and {write} bytes"),
        ),
        _ => Check::ok(
            NAME,
            "packets pass; what buffers may hold is not known here",
        ),
    }
}

fn open_files() -> Check {
    const NAME: &str = "open files";
    let limits = getrlimit(Resource::Nofile);
    // None is as many as one likes.
    match limits.current {
        Some(now) => at_a_time(now, limits.maximum),
        None => Check::ok(NAME, "as many as it likes"),
    }
}

/// What so many open files at a time mean; more than `most` only root allows.
fn at_a_time(now: u64, most: Option<u64>) -> Check {
    const NAME: &str = "open files";
    let found = format!("{now} at a time");
    let advice = format!(
        "ulimit -n 65536 before the start (at most {} without being root), or LimitNOFILE= of its service",
        most.map_or("any number".to_owned(), |most| most.to_string())
    );
    match now {
        now if now < OPEN_FILES_MIN => Check::fail(NAME, found, advice),
        now if now < OPEN_FILES_FEW => {
            Check::warn(NAME, format!("{found}: few for a busy node"), advice)
        }
        _ => Check::ok(NAME, found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{Verdict, tests::warned};

    #[test]
    fn what_the_machine_has_little_of_is_warned_of() {
        let few = SOCKET_BYTES_FEW - 1;
        warned(&buffers(Some(few), Some(1 << 23)), "at most", "sysctl -w");
        warned(&buffers(Some(1 << 23), Some(few)), "at most", "sysctl -w");
        assert_eq!(buffers(Some(1 << 23), Some(1 << 23)).verdict, Verdict::Ok);
        assert_eq!(buffers(None, Some(few)).verdict, Verdict::Ok);
        warned(
            &at_a_time(OPEN_FILES_MIN, Some(9)),
            "few for a busy",
            "(at most 9 ",
        );
        assert_eq!(at_a_time(OPEN_FILES_MIN - 1, None).verdict, Verdict::Fail);
        assert_eq!(at_a_time(OPEN_FILES_FEW, None).verdict, Verdict::Ok);
    }

    #[test]
    fn a_port_of_another_program_is_warned_of_with_the_flag_to_change() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = taken.local_addr().unwrap();
        let told = listens("a gateway", address, "--http");
        warned(&told, "in use by another program", "--http ADDR");
        assert!(told.found.starts_with(&address.to_string()), "{told:?}");
    }

    #[tokio::test]
    async fn a_node_that_runs_is_looked_for_where_it_is_and_nowhere_else() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let http = taken.local_addr().unwrap();
        let mor = chain::Network::local().mor;
        let running = Running::gateway(http, "http://127.0.0.1:1", vec![], vec![mor]);
        let gateway = ("gateway and dashboard", http.to_string());
        assert_eq!(addresses(&["consume"], &running).first(), Some(&gateway));
        let chain = ("embedded chain", "127.0.0.1:1".to_owned());
        assert_eq!(addresses(&["up"], &running), [gateway, chain]);
        let relay = Running {
            endpoint: Some("192.0.2.1:3334".into()),
            pays_with: vec![],
            ..running
        };
        let described = ("relay's description", "192.0.2.1:3334".to_owned());
        assert_eq!(addresses(&["relay"], &relay), [described]);
        let held = answers("x", &http.to_string()).await;
        assert!(held.found.contains("this folder's own node"), "{held:?}");
        drop(taken);
        warned(
            &answers("x", &http.to_string()).await,
            "takes no connection",
            "firewall",
        );
    }

    #[test]
    fn names_are_told_and_any_name_is_warned_of() {
        let told =
            |hosts: &[&str]| names(&hosts.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>());
        assert!(told(&[]).found.contains("--allow-host"));
        assert!(told(&["a.lan", "b"]).found.ends_with("a.lan, b"));
        warned(&told(&["a.lan", "*"]), "by any name", "--allow-host NAME");
    }

    #[test]
    fn an_address_is_found_in_urls() {
        assert_eq!(
            authority("http://127.0.0.1:8082/v1"),
            Some("127.0.0.1:8082")
        );
        assert_eq!(authority("[::1]:3333"), Some("[::1]:3333"));
        assert_eq!(authority(""), None);
    }
}
