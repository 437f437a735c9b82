//! What stands around the measured processes, and what they are held against.
//!
//! * `load backend`: an OpenAI-compatible server that says as many tokens as it
//!   is asked for, one event and one write each, at a pace or flat out;
//! * `load relay TARGET`: the least that can stand between two TCP peers;
//! * `load client`: reads streams to their end and says how many tokens came;
//! * `load checked`: reads many streams of numbered tokens, so many at a time,
//!   whatever becomes of them, and says which were whole and how long they paused.
//!
//! Servers listen on a free port of the loopback and print their address.

mod backend;
mod checked;
mod client;
mod http;
mod relay;

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

/// As the node's own runtime: as many threads as there are cores.
#[tokio::main]
async fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["backend"] => backend::serve(listen().await?).await,
        ["relay", target] => relay::serve(listen().await?, address(target)?).await,
        ["client", target, key, model, streams, tokens, per_second] => {
            let asked = client::Asked {
                target: address(target)?,
                key: key.to_owned(),
                model: model.to_owned(),
                streams: number(streams)?,
                tokens: number(tokens)?,
                per_second: number(per_second)?,
            };
            println!("{}", client::run(asked).await?);
            Ok(())
        }
        [
            "checked",
            target,
            key,
            model,
            streams,
            at_once,
            tokens,
            per_second,
        ] => {
            let asked = client::Asked {
                target: address(target)?,
                key: key.to_owned(),
                model: model.to_owned(),
                streams: number(streams)?,
                tokens: number(tokens)?,
                per_second: number(per_second)?,
            };
            println!("{}", checked::run(asked, number(at_once)?).await?);
            Ok(())
        }
        _ => Err(io::Error::other(
            "usage: load backend | relay TARGET | client TARGET KEY MODEL STREAMS TOKENS PER_SECOND | \
             checked TARGET KEY MODEL STREAMS AT_ONCE TOKENS PER_SECOND",
        )),
    }
}

async fn listen() -> io::Result<TcpListener> {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    println!("{}", listener.local_addr()?);
    Ok(listener)
}

fn address(text: &str) -> io::Result<SocketAddr> {
    text.parse().map_err(io::Error::other)
}

fn number(text: &str) -> io::Result<u32> {
    text.parse().map_err(io::Error::other)
}
