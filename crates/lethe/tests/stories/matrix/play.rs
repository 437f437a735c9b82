//! One case: a town in which one process fails at its point, is started again,
//! and goes on.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use failpoint::disk::{FOLDER_VARIABLE, Fault};
use failpoint::{Action, Plan};
use market::{Amount, ChannelState, Ledger};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use super::case::{Act, Case, Side};
use super::check;
use crate::accounts::Opening;
use crate::backend::REFUSED;
use crate::process::{Answer, Client, PATIENCE, Running, ended, lethe};
use crate::town::{LONG, MODEL, Town};

/// MOR for 10^6 tokens: a deposit lasts for some 250.
const PRICE: &str = "4000";
/// Tokens of an answer of several steps and deposits.
const LONG_TOKENS: &str = "300";
/// Between two looks whether the process has failed.
const LOOK_EVERY: Duration = Duration::from_millis(3);
/// A process on a full disk is left at work for so long, and asked.
const FULL_FOR: Duration = Duration::from_millis(700);
/// A start that takes longer has hung.
const START_WITHIN: Duration = Duration::from_secs(30);
const SIGKILL: i32 = 9;
/// Longer than the channels' withdrawals take.
const DELAY_S: u64 = 1_000;
/// What a process still does after the chain, or its client, has seen the last
/// act: it reads the inclusion, brings the money home. Nobody else sees that.
const ENDS_WITHIN: Duration = Duration::from_secs(10);
/// The shortest time after which a policy empties a channel.
const IDLE_S: &str = "60";
/// Who is killed closes its sockets before it is gone; by then it is.
const DYING: Duration = Duration::from_secs(5);

/// Of what a life said, when its case failed.
const SAID_LINES: usize = 6;

/// How a case went.
pub(crate) struct Played {
    /// From the start of the process that failed to its line that it is ready.
    pub(crate) back: Duration,
    /// What is signed and not charged in the end.
    pub(crate) signed_ahead_tokens: u128,
}

/// Plays it, and checks the books. Panics with what is wrong.
pub(crate) async fn play(case: Case, library: &Path) -> Played {
    let mut stage = Stage::new(case, library).await;
    if case.from_start {
        stage.plans.extend(case.before);
        stage.plans.push_back(case.plan);
    }
    stage.start_all().await;
    for act in case.script {
        if !stage.has_failed {
            stage.act(*act).await;
            stage.look().await;
        }
    }
    stage.end().await;
    assert!(stage.has_failed, "the point was never hit");
    stage.go_on().await;
    let opening = stage.opening.take().unwrap();
    stage.stop_all().await;
    let story = check::story(PRICE);
    let earned = check::journals_agree(&stage.town, &opening, story).await;
    // The provider claims what is left, and nothing else happens.
    stage.start(Side::Provider).await;
    opening.settled(&stage.town, earned).await;
    stage.stop_all().await;
    let signed_ahead_tokens = check::chain_agrees(&stage.town, &opening, story, earned).await;
    Played {
        back: stage.back,
        signed_ahead_tokens,
    }
}

/// A town and its two processes, one of which is to fail.
struct Stage {
    case: Case,
    library: PathBuf,
    town: Town,
    provider: Option<Running>,
    consumer: Option<Running>,
    /// Of the consumer as it runs.
    client: Option<Arc<Client>>,
    opening: Option<Opening>,
    /// Where it is to fail, one after the other.
    plans: VecDeque<Plan>,
    has_failed: bool,
    back: Duration,
    lives: u32,
}

impl Stage {
    async fn new(case: Case, library: &Path) -> Self {
        let town = match case.waits() {
            true => Town::start_movable().await,
            false => Town::start_embedded().await,
        };
        Self {
            case,
            library: library.to_owned(),
            town,
            provider: None,
            consumer: None,
            client: None,
            opening: None,
            plans: VecDeque::new(),
            has_failed: false,
            back: Duration::ZERO,
            lives: 0,
        }
    }

    /// What the side that fails is started with.
    fn armed(&self) -> Option<Plan> {
        self.plans.front().copied()
    }

    async fn start_all(&mut self) {
        for side in [Side::Provider, Side::Consumer] {
            if self.running(side).is_none() {
                self.start(side).await;
            }
        }
        if self.opening.is_none() {
            let (provider, consumer) = (self.provider.as_ref(), self.consumer.as_ref());
            let opening = Opening::of(&self.town, provider.unwrap(), consumer.unwrap());
            self.opening = Some(opening.await);
        }
    }

    fn running(&mut self, side: Side) -> &mut Option<Running> {
        match side {
            Side::Provider => &mut self.provider,
            Side::Consumer => &mut self.consumer,
        }
    }

    /// Where a life's errors and warnings go.
    fn said(&self, life: u32) -> PathBuf {
        self.town.folder().join(format!("said-{life}"))
    }

    fn client(&self) -> Arc<Client> {
        Arc::clone(self.client.as_ref().unwrap())
    }

    fn folder(&self, side: Side) -> PathBuf {
        self.town.folder().join(match side {
            Side::Provider => "provider",
            Side::Consumer => "consumer",
        })
    }

    /// Starts a side. If it is to fail and does so before it is ready, it is
    /// started once more.
    async fn start(&mut self, side: Side) {
        let is_to_fail = side == self.case.side;
        let running = loop {
            let (begun, was_armed) = (Instant::now(), is_to_fail && self.armed().is_some());
            let launched = self.launch(side).await;
            match launched {
                Ok(running) => {
                    if is_to_fail && self.has_failed {
                        self.back = self.back.max(begun.elapsed());
                    }
                    break running;
                }
                Err(dead) if was_armed => self.failed(dead.how),
                Err(dead) => panic!("{side:?} does not start ({:?}): {}", dead.how, dead.said),
            }
        };
        if side == Side::Consumer {
            self.client = Some(Arc::new(Client::of(&running)));
        }
        *self.running(side) = Some(running);
        if is_to_fail && self.armed().is_some() && self.is_full() {
            Box::pin(self.look()).await;
        }
    }

    /// One life of a side.
    async fn launch(&mut self, side: Side) -> Result<Running, Dead> {
        self.lives += 1;
        let args = match side {
            Side::Provider => self.town.provider_args(&self.town.backend, PRICE),
            Side::Consumer => {
                let idle = ["--withdraw-idle", IDLE_S].map(str::to_owned);
                let mut args = self.town.consumer_args();
                args.extend(
                    idle.into_iter()
                        .filter(|_| self.case.script.contains(&Act::Idle)),
                );
                args
            }
        };
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        let folder = self.folder(side);
        let said = self.said(self.lives);
        let mut command = lethe(&folder, &args);
        command.arg("--json").env_remove("LETHE_FAILPOINT");
        command.env("LETHE_LOG", "warn");
        if let (true, Some(plan)) = (side == self.case.side, self.armed()) {
            command.env("LETHE_FAILPOINT", plan.to_string());
            if plan.action != Action::Kill {
                fs::create_dir_all(&folder).unwrap();
                command
                    .env("LD_PRELOAD", &self.library)
                    .env(FOLDER_VARIABLE, &folder);
            }
        }
        let errors = File::create(&said).unwrap();
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let ready = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            lines.read_line(&mut line).map(|_| line)
        });
        let line = timeout(START_WITHIN, ready).await;
        let line = line.map_or_else(|_| String::new(), |read| read.unwrap().unwrap_or_default());
        if let Ok(ready) = serde_json::from_str(&line) {
            return Ok(Running::ready(child, ready));
        }
        let hung = child.try_wait().unwrap().is_none() && sleep_until_ended(&mut child).await;
        let how = (!hung).then(|| child.wait().unwrap());
        if hung {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let said = fs::read_to_string(said).unwrap_or_default();
        Err(Dead { how, said })
    }

    fn is_full(&self) -> bool {
        let note = self.folder(self.case.side).join(Fault::Full.file_name());
        note.exists()
    }

    /// It failed as it should; from now on it is started as it is.
    fn failed(&mut self, how: Option<ExitStatus>) {
        let plan = self.plans.pop_front().unwrap();
        let folder = self.folder(self.case.side);
        match plan.action {
            Action::Kill => {
                assert_eq!(how.and_then(|how| how.signal()), Some(SIGKILL), "{how:?}");
            }
            Action::Cut => {
                let note = fs::read_to_string(folder.join(Fault::Cut.file_name()));
                assert!(note.is_ok(), "the power was not cut: {how:?}");
            }
            Action::Full => {
                let note = folder.join(Fault::Full.file_name());
                fs::remove_file(note).expect("a full disk leaves a note");
            }
        }
        self.has_failed = self.plans.is_empty();
    }

    /// Whether the side that is to fail has failed; if so it is started again.
    async fn look(&mut self) {
        let Some(plan) = self.armed() else { return };
        let side = self.case.side;
        let Some(running) = self.running(side) else {
            return;
        };
        let mut ended = running.ended();
        // A process that dies is seen to before it can be waited for.
        while ended.is_none() && !is_alive(running.id()) {
            sleep(LOOK_EVERY).await;
            ended = running.ended();
        }
        let is_full = plan.action == Action::Full && self.is_full();
        if ended.is_none() && !is_full {
            return;
        }
        if ended.is_none() {
            self.work_on_a_full_disk().await;
        }
        if let Some(running) = self.running(side).take() {
            running.kill();
        }
        self.failed(ended);
        self.start(side).await;
    }

    /// Nothing has to succeed now, and nothing may be lost by it.
    async fn work_on_a_full_disk(&mut self) {
        if let Some(client) = &self.client {
            let asked = async {
                let response = client.try_ask(MODEL, "40").await?;
                response.bytes().await
            };
            let _ = timeout(FULL_FOR, asked).await;
        }
    }

    /// Does something, unless the process fails meanwhile.
    async fn act(&mut self, act: Act) {
        match act {
            Act::Answer => self.answered("3").await,
            Act::Long => self.answered(LONG_TOKENS).await,
            Act::Refused => self.refused().await,
            Act::Left => self.left().await,
            Act::Claim => self.claimed().await,
            Act::ConsumerCrash => self.crash(Side::Consumer).await,
            Act::ProviderCrash => self.crash(Side::Provider).await,
            Act::Stop => self.stop(self.case.side).await,
            Act::Idle => self.idle().await,
            Act::Return => self.returned().await,
        }
    }

    /// Asks until somebody answers to the end, or the process has failed.
    async fn answered(&mut self, question: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.is_over() {
            let client = self.client();
            let asking = async {
                let response = client.try_ask(MODEL, question).await?;
                let status = response.status();
                reqwest::Result::Ok((status, Answer::read(response).await))
            };
            match self.unless_over(asking).await {
                Some(Ok((status, answer))) if status.is_success() && answer.done => return,
                Some(other) => {
                    assert!(Instant::now() < deadline, "no answer: {other:?}");
                    sleep(Duration::from_millis(100)).await;
                }
                None => return,
            }
        }
    }

    async fn refused(&mut self) {
        let client = self.client();
        let asking = async {
            match client.try_ask(MODEL, REFUSED).await {
                Ok(response) => assert!(!response.status().is_success(), "{response:?}"),
                Err(_) => sleep(DYING).await,
            }
        };
        self.unless_over(asking).await;
    }

    async fn left(&mut self) {
        let client = self.client();
        let leaving = async {
            begun(&client, 70).await;
        };
        self.unless_over(leaving).await;
        let resting = async { self.town.backend_rests().await };
        self.unless_over(resting).await;
    }

    async fn claimed(&mut self) {
        let opening = self.opening.as_ref().unwrap();
        let claiming = async {
            opening.claimed_beyond(&self.town, Amount::ZERO).await;
            let claimed = opening.claimed(&self.town).await;
            opening.settled(&self.town, claimed).await;
        };
        self.unless_over(claiming).await;
    }

    async fn crash(&mut self, side: Side) {
        let client = self.client();
        // Kept open: who crashes does so within an answer.
        let Some(_response) = self.unless_over(begun(&client, 40)).await else {
            return;
        };
        if let Some(running) = self.running(side).take() {
            running.kill();
        }
        if self.plans.is_empty() && !self.has_failed && side == self.case.side {
            self.plans.push_back(self.case.plan);
        }
        if side == Side::Consumer {
            // Its receipt is there once the provider has noticed.
            let resting = async { self.town.backend_rests().await };
            match self.case.side {
                Side::Provider => {
                    self.unless_over(resting).await;
                }
                Side::Consumer => resting.await,
            }
        }
        self.start(side).await;
        self.answered("3").await;
        self.answered("3").await;
    }

    async fn stop(&mut self, side: Side) {
        let Some(mut running) = self.running(side).take() else {
            return;
        };
        running.terminate();
        let deadline = Instant::now() + PATIENCE;
        let how = loop {
            if let Some(how) = running.ended() {
                break how;
            }
            assert!(Instant::now() < deadline, "it does not end");
            sleep(LOOK_EVERY).await;
        };
        if side == self.case.side && self.armed().is_some() && (!how.success() || self.is_full()) {
            self.failed(Some(how));
        } else {
            assert!(how.success(), "{side:?} did not end well: {how}");
        }
        self.start(side).await;
    }

    /// Nobody asks for longer than the policy's time.
    async fn idle(&mut self) {
        let withdrawing =
            async { channel_until(&self.town, |state| state.withdrawal.is_some()).await };
        self.unless_over(withdrawing).await;
    }

    /// The money of the channel is asked for from outside, and time passes.
    async fn returned(&mut self) {
        if let Some(running) = self.running(Side::Consumer).take() {
            running.stop();
        }
        let rpc = self.town.rpc_url();
        let args = ["exit", "--rpc-url", &rpc, "--json"];
        let left = ended(&self.folder(Side::Consumer), &args);
        let report: Value = serde_json::from_slice(&left.stdout).unwrap();
        assert_eq!(
            report["waiting"].as_array().map(Vec::len),
            Some(1),
            "{report}"
        );
        self.town.pass(DELAY_S).await;
        self.start(Side::Consumer).await;
        let taken = async { channel_until(&self.town, |state| state.withdrawal.is_none()).await };
        self.unless_over(taken).await;
    }

    /// All that the script asks for is done; what follows from it may not be.
    async fn end(&mut self) {
        if !self.has_failed {
            self.unless_over(sleep(ENDS_WITHIN)).await;
            self.look().await;
        }
    }

    /// No withdrawal is left half done.
    async fn nothing_waits(&mut self) {
        if !self.case.waits() {
            return;
        }
        self.town.pass(DELAY_S).await;
        channel_until(&self.town, |state| state.withdrawal.is_none()).await;
    }

    /// Whether there is nothing more to wait for.
    fn is_over(&mut self) -> bool {
        let Some(plan) = self.armed() else {
            return false;
        };
        let is_full = plan.action == Action::Full && self.is_full();
        let side = self.case.side;
        let running = self.running(side).as_mut();
        is_full || running.is_none_or(|running| running.ended().is_some())
    }

    /// None: the process has failed meanwhile.
    async fn unless_over<T>(&self, doing: impl Future<Output = T>) -> Option<T> {
        let Some(plan) = self.armed() else {
            return Some(doing.await);
        };
        let note = self.folder(self.case.side).join(Fault::Full.file_name());
        let pid = match self.case.side {
            Side::Provider => self.provider.as_ref(),
            Side::Consumer => self.consumer.as_ref(),
        };
        let pid = pid.map(Running::id)?;
        let over = async {
            while is_alive(pid) && !(plan.action == Action::Full && note.exists()) {
                sleep(LOOK_EVERY).await;
            }
        };
        tokio::select! {
            biased;
            () = over => None,
            done = doing => Some(done),
        }
    }

    /// What failed runs again, and all is well.
    async fn go_on(&mut self) {
        self.start_all().await;
        self.answered("3").await;
        self.town.backend_rests().await;
        self.nothing_waits().await;
        self.answered("3").await;
    }

    async fn stop_all(&mut self) {
        for side in [Side::Consumer, Side::Provider] {
            if let Some(running) = self.running(side).take() {
                running.stop();
            }
        }
    }
}

impl Drop for Stage {
    /// Whoever looks for the reason of a failure wants to know what was said.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for life in 1..=self.lives {
            let said = fs::read_to_string(self.said(life)).unwrap_or_default();
            let last: Vec<_> = said.lines().rev().take(SAID_LINES).collect();
            for line in last.iter().rev() {
                super::say(&format!("  life {life}: {line}"));
            }
        }
    }
}

/// Until the consumer's channel on chain is like that.
async fn channel_until(town: &Town, is_so: impl Fn(&ChannelState) -> bool) {
    let ledger = town.ledger().await;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let channel = town.channel().await;
        if is_so(&ledger.channel(channel).await.unwrap()) {
            return;
        }
        assert!(Instant::now() < deadline, "the channel stays as it is");
        sleep(Duration::from_millis(200)).await;
    }
}

/// A long answer, read up to so many tokens. None: it ended before, as it does
/// when somebody fails.
async fn begun(client: &Client, tokens: usize) -> Option<reqwest::Response> {
    let mut response = client.try_ask(MODEL, LONG).await.ok()?;
    let mut came = 0;
    while came < tokens {
        let piece = response.chunk().await.ok()??;
        came += String::from_utf8_lossy(&piece)
            .matches("\"content\"")
            .count();
    }
    Some(response)
}

/// A life that ended before it was ready. None: it hung.
struct Dead {
    how: Option<ExitStatus>,
    said: String,
}

/// Whether it still runs when it should have ended.
async fn sleep_until_ended(child: &mut std::process::Child) -> bool {
    let deadline = Instant::now() + START_WITHIN;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            return true;
        }
        sleep(LOOK_EVERY).await;
    }
    false
}

/// A process that was not waited for yet is a zombie, and dead all the same.
fn is_alive(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = status.rsplit(')').next().unwrap_or_default();
    !matches!(state.trim().chars().next(), None | Some('Z' | 'X'))
}
