//! `lethe chat` that is stopped: what was read of the answer is paid, and told.

use std::io::Read;
use std::process::{Command, Stdio};

use crate::process::{ended, lethe};
use crate::town::{LONG, MODEL, Town};

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_stopped_says_what_was_paid_for_it() {
    let town = Town::start().await;
    let _provider = town.provider();
    let _consumer = town.consumer();
    let data = town.folder().join("consumer");
    let chat = ["chat", "--model", MODEL];
    let mut asked = lethe(&data, &[&chat[..], &[LONG]].concat())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = asked.stdout.take().unwrap();
    let mut first = [0; 1];
    out.read_exact(&mut first).unwrap();
    let command = format!("kill -INT {}", asked.id());
    assert!(
        Command::new("sh")
            .args(["-c", &command])
            .status()
            .unwrap()
            .success()
    );
    let mut said = String::new();
    out.read_to_string(&mut said).unwrap();
    assert_eq!(asked.wait().unwrap().code(), Some(130), "{said}");
    let last = said.lines().last().unwrap();
    assert!(
        last.starts_with("  [stopped · 0x") && last.contains(" out · 0."),
        "{said}"
    );
    assert!(said.contains(&format!("\n{last}")), "{said}");

    let nothing = ended(&data, &["route", "explain", "nothing"]);
    let said = String::from_utf8_lossy(&nothing.stderr);
    assert_eq!(nothing.status.code(), Some(1), "{said}");
    assert!(
        said.contains(&format!(
            "no provider offers model \"nothing\"; on offer: {MODEL}"
        )),
        "{said}"
    );
    let unsold = ["key", "add", "typo", "--budget", "countign=1"];
    let made = ended(&data, &unsold);
    let said = String::from_utf8_lossy(&made.stderr);
    assert!(
        made.status.success() && said.contains("nobody sells \"countign\" now"),
        "{said}"
    );
    let listed = ended(&data, &["key", "list"]);
    let said = String::from_utf8_lossy(&listed.stdout);
    assert!(
        said.contains("countign: 1 MOR a day (0 spent today; NOBODY SELLS IT NOW)"),
        "{said}"
    );
}
