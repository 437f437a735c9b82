//! What only the real form has: sockets, dials, connections, processes that die.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use market::NodeKey;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::accept::{WIDE, crowded_out};
use super::{
    ACCEPTED_CONNECTIONS, CROWDED_STREAMS, CROWDED_WINDOW, DIAL_WITHIN, Endpoint, IDLE_TIMEOUT,
    STREAMS_BACK, STREAMS_PER_CONNECTION,
};
use crate::{NodeAddr, OpenError, Patience, ReceiveError, STREAM_WITHIN, Stream};

fn key(seed: u8) -> NodeKey {
    NodeKey::from_bytes(&[seed; 32])
}

async fn node(seed: u8) -> Endpoint {
    let any_port = "127.0.0.1:0".parse().unwrap();
    Endpoint::bind(&key(seed), any_port, None).await.unwrap()
}

fn address(of: &Endpoint) -> NodeAddr {
    NodeAddr {
        id: of.id(),
        addresses: of.addresses(),
    }
}

async fn stream(near: &Endpoint, far: &Endpoint) -> (Stream, Stream) {
    let mut here = near.open(&address(far)).await.unwrap();
    here.send.send(&1u8).await.unwrap();
    let mut there = far.accept().await.unwrap().stream;
    assert_eq!(there.receive.receive::<u8>().await.unwrap(), Some(1));
    (here, there)
}

/// The one connection from `near` to `far`.
async fn connection(near: &Endpoint, far: &Endpoint) -> iroh::endpoint::Connection {
    near.peers.link(&address(far)).await.unwrap().connection
}

#[tokio::test]
async fn a_node_listens_where_it_was_told_and_nowhere_else() {
    let node = node(1).await;
    let [address] = node.addresses()[..] else {
        panic!("one socket, not {:?}", node.addresses());
    };
    assert_eq!(address.ip().to_string(), "127.0.0.1");
    assert_ne!(address.port(), 0);
    assert_eq!(node.id(), key(1).id());
    assert_eq!(node.inner.id().as_bytes(), key(1).id().0.as_slice());
}

/// As behind a router that passes a port on: here every address of the machine leads to the socket.
#[tokio::test]
async fn a_node_whose_port_is_passed_on_tells_the_address_that_others_reach() {
    let public = "127.0.0.2".parse().unwrap();
    let anywhere = "0.0.0.0:0".parse().unwrap();
    let far = Endpoint::bind(&key(2), anywhere, Some(public)).await;
    let far = far.unwrap();
    let told = far.addresses();
    assert!(told.iter().all(|told| told.ip() == public), "{told:?}");
    stream(&node(1).await, &far).await;
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = Endpoint::bind(&key(1), address, None).await.unwrap_err();
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

#[tokio::test]
async fn all_who_ask_at_once_share_one_dial() {
    let (near, far) = (node(1).await, node(2).await);
    let to = address(&far);
    let links = join_all((0..50).map(|_| near.peers.link(&to))).await;
    let ids: Vec<_> = links
        .into_iter()
        .map(|link| link.unwrap().connection.stable_id())
        .collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[tokio::test]
async fn a_broken_connection_is_replaced() {
    let (near, far) = (node(1).await, node(2).await);
    let (mut here, _there) = stream(&near, &far).await;
    let first = connection(&near, &far).await;
    first.close(0u32.into(), b"");
    assert!(matches!(
        here.receive.receive::<u8>().await,
        Err(ReceiveError::Lost { .. })
    ));
    stream(&near, &far).await;
    assert_ne!(connection(&near, &far).await.stable_id(), first.stable_id());
}

#[tokio::test]
async fn nobody_opens_streams_on_a_connection_that_it_did_not_dial_unless_let_in() {
    let (near, far) = (node(1).await, node(2).await);
    let (_here, _there) = stream(&near, &far).await;
    let mut here = near.open(&address(&far)).await.unwrap();
    here.send.send(&1u8).await.unwrap();
    let back = far.accept().await.unwrap().back;
    let refused = back.open().await.unwrap_err();
    assert!(matches!(refused, OpenError::NoStream { .. }), "{refused}");

    let mut waiting = near.open_and_let_in(&address(&far)).await.unwrap();
    waiting.send.send(&1u8).await.unwrap();
    let mut streams = Vec::new();
    for _ in 0..STREAMS_BACK {
        streams.push(back.open().await.unwrap());
    }
    let one_more = back.open().await.unwrap_err();
    assert!(matches!(one_more, OpenError::NoStream { .. }), "{one_more}");
}

#[tokio::test]
async fn the_counters_are_those_of_the_socket() {
    const SAID: usize = 500_000;
    let (near, far) = (node(1).await, node(2).await);
    let (mut here, mut there) = stream(&near, &far).await;
    let (before, far_before) = (near.counters(), far.counters());
    let datagrams_before = connection(&near, &far).await.stats().udp_tx.bytes;

    let said = Bytes::from(vec![7; SAID]);
    let (sent, _) = tokio::join!(here.send.send(&said), there.receive.receive::<Bytes>());
    sent.unwrap();

    let crossed = near.counters().bytes_sent - before.bytes_sent;
    let arrived = far.counters().bytes_received - far_before.bytes_received;
    let said = u64::try_from(SAID).unwrap();
    assert!(crossed > said, "{crossed} sent");
    assert!(arrived > said, "{arrived} received");
    // QUIC's own count of its datagrams, which is kept elsewhere, agrees.
    let datagrams = connection(&near, &far).await.stats().udp_tx.bytes - datagrams_before;
    assert!(
        crossed.abs_diff(datagrams) < said / 10,
        "{crossed} and {datagrams}"
    );
}

#[tokio::test]
async fn an_impostor_at_the_address_is_not_spoken_to() {
    let (near, far) = (node(1).await, node(2).await);
    let to = NodeAddr {
        id: key(3).id(),
        addresses: far.addresses(),
    };
    let error = near.open(&to).await.unwrap_err();
    assert!(
        matches!(
            error,
            OpenError::Unreachable { .. } | OpenError::TimedOut { .. }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn what_cannot_be_dialled_is_said_at_once() {
    let near = node(1).await;
    let nowhere = NodeAddr {
        id: key(2).id(),
        addresses: vec![],
    };
    let error = near.open(&nowhere).await.unwrap_err();
    assert!(matches!(error, OpenError::NoAddress { .. }), "{error}");
    let no_key = NodeAddr {
        id: market::NodeId([2; 32].into()),
        addresses: vec!["127.0.0.1:9".parse().unwrap()],
    };
    let error = near.open(&no_key).await.unwrap_err();
    assert!(matches!(error, OpenError::NotAKey { .. }), "{error}");
}

#[tokio::test]
async fn a_silent_address_costs_all_who_wait_one_dial() {
    let near = node(1).await;
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = NodeAddr {
        id: key(2).id(),
        addresses: vec![silent.local_addr().unwrap()],
    };
    let asked = Instant::now();
    for opened in join_all((0..10).map(|_| near.open(&to))).await {
        let error = opened.unwrap_err();
        assert!(matches!(error, OpenError::TimedOut { .. }), "{error}");
    }
    assert!(asked.elapsed() < DIAL_WITHIN * 2, "{:?}", asked.elapsed());
}

/// More than may come without a proof: who is asked for one gives it.
#[tokio::test]
async fn a_crowd_of_new_peers_gets_in() {
    const PEERS: u8 = 100;
    let far = node(1).await;
    let dialled = join_all((2..2 + PEERS).map(|seed| {
        let far = &far;
        async move {
            let near = node(seed).await;
            let mut here = near.open(&address(far)).await.unwrap();
            here.send.send(&seed).await.unwrap();
            (near, here)
        }
    }));
    let heard = async {
        let mut heard = Vec::new();
        for _ in 0..PEERS {
            let mut there = far.accept().await.unwrap().stream;
            heard.push(there.receive.receive::<u8>().await.unwrap().unwrap());
        }
        heard.sort_unstable();
        heard
    };
    let (_open, heard) = tokio::join!(dialled, heard);
    assert_eq!(heard, (2..2 + PEERS).collect::<Vec<_>>());
}

#[tokio::test]
async fn streams_on_a_connection_are_limited() {
    let (near, far) = (node(1).await, node(2).await);
    let to = address(&far);
    let mut open = Vec::new();
    for _ in 0..STREAMS_PER_CONNECTION {
        open.push(near.open(&to).await.unwrap());
    }
    let asked = Instant::now();
    let error = near.open(&to).await.unwrap_err();
    assert!(matches!(error, OpenError::NoStream { .. }), "{error}");
    assert!(error.to_string().contains("256"), "{error}");
    assert!(asked.elapsed() >= STREAM_WITHIN);

    // Both sides have to let go: what nobody accepted is still there.
    drop(open);
    let accept_all = async {
        while let Some(mut incoming) = far.accept().await {
            let left = incoming.stream.receive.receive::<u8>().await;
            assert!(matches!(left, Err(ReceiveError::Left)), "{left:?}");
        }
    };
    tokio::select! {
        opened = near.open(&to) => drop(opened.expect("a place is free again")),
        () = accept_all => panic!("the node was closed"),
    }
}

/// Streams that `near` can have open at `far` who takes and keeps them all, and
/// does with each what `then` says.
async fn room(near: &Endpoint, far: &Endpoint, then: fn(&Patience)) -> u32 {
    let mut kept = Vec::new();
    let (to, soon) = (address(far), Duration::from_millis(300));
    while let Ok(Ok(mut here)) = timeout(soon, near.open(&to)).await {
        here.send.send(&1u8).await.unwrap();
        let incoming = far.accept().await.unwrap();
        then(&incoming.patience);
        kept.push((here, incoming));
    }
    u32::try_from(kept.len()).unwrap()
}

#[tokio::test]
async fn in_a_crowd_a_peer_begins_with_fewer_streams_and_may_have_more_with_use() {
    let far = node(1).await;
    let mut crowd = Vec::new();
    for seed in 3..3 + u8::try_from(WIDE).unwrap() {
        let one = node(seed).await;
        let carried = stream(&one, &far).await;
        crowd.push((one, carried));
    }
    let (late, later) = (node(0xfe).await, node(0xff).await);
    assert_eq!(room(&late, &far, |_| ()).await, CROWDED_STREAMS);
    // The endpoint tells of more only when it is an eighth more.
    let most = room(&later, &far, Patience::grow).await;
    let all = STREAMS_PER_CONNECTION;
    assert!((all * 7 / 8..=all).contains(&most), "{most}");
}

#[tokio::test]
async fn who_is_made_to_wait_cannot_send_on() {
    const WAIT: Duration = Duration::from_millis(600);
    let (near, far) = (node(1).await, node(2).await);
    let to = address(&far);
    // What was allowed before is still there, and is taken one at a time.
    let (mut first, incoming) = {
        let mut here = near.open(&to).await.unwrap();
        here.send.send(&1u8).await.unwrap();
        (here, far.accept().await.unwrap())
    };
    let began = Instant::now();
    incoming.patience.lose(WAIT);
    let mut sent = Vec::new();
    for _ in 1..STREAMS_PER_CONNECTION {
        let mut here = near.open(&to).await.unwrap();
        here.send.send(&2u8).await.unwrap();
        sent.push(here);
    }
    assert!(timeout(WAIT / 4, near.open(&to)).await.is_err());
    // One may have been asked for already when the wait began.
    let mut taken = vec![far.accept().await.unwrap()];
    taken.push(far.accept().await.unwrap());
    assert!(began.elapsed() >= WAIT);

    // What ends makes no room beyond what is open, until patience grows again.
    taken.clear();
    sent.drain(..2);
    assert!(timeout(WAIT / 4, near.open(&to)).await.is_err());
    first.send.send(&3u8).await.unwrap();
    drop(sent);
    let drained = async {
        while let Some(late) = far.accept().await {
            late.patience.grow();
        }
    };
    tokio::select! {
        opened = near.open(&to) => drop(opened.unwrap()),
        () = drained => panic!("the node was closed"),
    }
}

/// Bytes of several streams' first message that the far side takes unread.
async fn taken_unread(near: &Endpoint, far: &Endpoint) -> usize {
    const PIECE: usize = 32 * 1024;
    let mut taken = 0;
    let mut streams = Vec::new();
    for _ in 0..8 {
        let mut stream = near.open(&address(far)).await.unwrap();
        for _ in 0..7 {
            let written = stream.send.write(Bytes::from(vec![0; PIECE]));
            if timeout(Duration::from_millis(300), written).await.is_err() {
                return taken;
            }
            taken += PIECE;
        }
        streams.push(stream);
    }
    taken
}

#[tokio::test]
async fn in_a_crowd_a_connection_has_less_on_the_way() {
    let (far, quiet) = (node(1).await, node(0xfe).await);
    let near = node(2).await;
    assert_eq!(taken_unread(&near, &quiet).await, 8 * 7 * 32 * 1024);

    let mut crowd = Vec::new();
    for seed in 3..3 + u8::try_from(WIDE).unwrap() {
        let one = node(seed).await;
        let carried = stream(&one, &far).await;
        crowd.push((one, carried));
    }
    let late = node(0xff).await;
    let taken = taken_unread(&late, &far).await;
    let window = usize::try_from(CROWDED_WINDOW).unwrap();
    assert!((window / 2..=window).contains(&taken), "{taken}");
}

#[tokio::test]
async fn a_connection_is_kept_while_it_carries_a_stream() {
    const SHORT: Duration = Duration::from_millis(40);
    let (near, far) = (node(1).await, node(2).await);
    let link = near.peers.link(&address(&far)).await.unwrap();
    let (here, there) = stream(&near, &far).await;
    assert!(timeout(SHORT * 4, link.unused_for(SHORT)).await.is_err());
    drop((here, there));
    timeout(SHORT * 50, link.unused_for(SHORT)).await.unwrap();
}

#[tokio::test]
async fn an_unused_connection_gives_way_in_a_crowd_only() {
    const SHORT: Duration = Duration::from_millis(40);
    let (near, far) = (node(1).await, node(2).await);
    let link = near.peers.link(&address(&far)).await.unwrap();
    let (crowd, room) = (Semaphore::new(1), Semaphore::new(ACCEPTED_CONNECTIONS));
    timeout(SHORT * 50, crowded_out(&link, &crowd, SHORT))
        .await
        .unwrap();
    assert!(
        timeout(SHORT * 4, crowded_out(&link, &room, SHORT))
            .await
            .is_err()
    );
}

/// The other process of the test below, which is the same program.
const CHILD: &str = "LETHE_TEST_LISTENER";

#[tokio::test]
async fn a_process_that_is_killed_is_noticed_within_seconds() {
    if std::env::var_os(CHILD).is_some() {
        return listen_until_killed().await;
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg("quic::tests::a_process_that_is_killed_is_noticed_within_seconds")
        .env(CHILD, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let address: SocketAddr = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .find_map(|line| {
            line.unwrap()
                .split_once("listening ")
                .map(|(_, at)| at.to_owned())
        })
        .expect("the child says where it listens")
        .parse()
        .unwrap();

    let near = node(1).await;
    let to = NodeAddr {
        id: key(2).id(),
        addresses: vec![address],
    };
    let mut stream = near.open(&to).await.unwrap();
    stream.send.send(&5u8).await.unwrap();
    assert_eq!(stream.receive.receive::<u8>().await.unwrap(), Some(5));

    child.kill().unwrap();
    child.wait().unwrap();
    let killed = Instant::now();
    let (lost, ()) = tokio::join!(stream.receive.receive::<u8>(), stream.send.stopped());
    assert!(matches!(lost, Err(ReceiveError::Lost { .. })), "{lost:?}");
    assert!(
        killed.elapsed() < IDLE_TIMEOUT * 2,
        "{:?}",
        killed.elapsed()
    );
}

async fn listen_until_killed() {
    let far = node(2).await;
    println!("listening {}", far.addresses()[0]);
    let mut stream = far.accept().await.unwrap().stream;
    let asked: u8 = stream.receive.receive().await.unwrap().unwrap();
    stream.send.send(&asked).await.unwrap();
    // Ends when the parent kills this process, or goes itself.
    let _ = stream.receive.receive::<u8>().await;
}
