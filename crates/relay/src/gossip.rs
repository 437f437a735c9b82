//! Load digests in a relay: those that providers bring, those that other relays
//! pass on, and who is told of them.
//!
//! What is not believed is not passed on. One task owns the [`Mesh`] and says
//! what it wants said; each relay that speaks to us has a task that reads, looks at
//! what it brings, and hands it on. Both directions have a stream of their own.

use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use market::{Domain, Heard, LoadBook, LoadDigest, LoadError, NodeId, Timestamp};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;
use transport::message::{Hello, MAX_GOSSIP_BYTES};
use transport::{Node, NodeAddr, ReceiveError, ReceiveHalf};

use crate::mesh::{Effect, Mesh, Word};
use crate::shell::{Inner, spawn};

/// What was heard and not acted on yet. Behind it wait those who speak.
const HEARD_QUEUE: usize = 256;

/// Frames that wait for one relay to read them; one that reads no faster is left.
const SAID_QUEUE: usize = 256;

/// Time for one frame to be taken.
const SAY_WITHIN: Duration = Duration::from_secs(5);

/// Relays that we speak to, and that speak to us, at a time.
const RELAYS_MAX: usize = 64;

/// Between two looks at whom we know.
const ROUND: Duration = Duration::from_secs(5);

/// Every so many rounds one more relay is asked to take us in.
const MEET_EVERY: u32 = 12;

/// The protocol is begun anew so often: what it does not forget by itself goes then.
const AFRESH: Duration = Duration::from_secs(600);

/// A relay that brings what nobody passes on who looks at it is not heard for so long.
const SHUN: Duration = Duration::from_secs(60);

/// Bytes a second that one relay is heard: digests, and all else. Twice as much
/// as some two thousand providers come to.
const DIGESTS_PER_SECOND: u32 = 256 * 1024;
const CONTROL_PER_SECOND: u32 = 32 * 1024;

/// The same at once after a quiet time, in seconds' worth.
const AT_ONCE: u32 = 4;

/// What happened, for the task that owns the mesh.
#[derive(Debug)]
pub(crate) enum Event {
    /// A relay said something that may be acted on.
    Word(NodeId, Word),
    /// A provider told its load.
    Told(Bytes),
    /// A relay left, or is not to be heard. `turn`: the stream to it that is
    /// meant; none: whatever there is.
    Lost { relay: NodeId, turn: Option<u64> },
}

/// What all who bring or ask for digests share.
pub(crate) struct Gossip {
    book: Mutex<LoadBook>,
    ears: Mutex<HashMap<NodeId, Ear>>,
    events: mpsc::Sender<Event>,
}

/// One relay as it is heard.
#[derive(Debug)]
struct Ear {
    digests: Allowance,
    control: Allowance,
    shunned_until: Option<Instant>,
    /// Ends the stream that is listened to.
    cut: CancellationToken,
}

/// Bytes, or descriptions, that are still heard.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowance {
    per_second: u32,
    left: f64,
    since: Instant,
}

impl Allowance {
    pub(crate) fn new(per_second: u32, now: Instant) -> Self {
        Self {
            per_second,
            left: f64::from(per_second * AT_ONCE),
            since: now,
        }
    }

    /// Whether so many more are within it. If so, they are taken from it.
    pub(crate) fn take(&mut self, bytes: usize, now: Instant) -> bool {
        let per_second = f64::from(self.per_second);
        let earned = now.saturating_duration_since(self.since).as_secs_f64() * per_second;
        self.left = (self.left + earned).min(per_second * f64::from(AT_ONCE));
        self.since = now;
        let bytes = f64::from(u32::try_from(bytes).unwrap_or(u32::MAX));
        let is_within = bytes <= self.left;
        if is_within {
            self.left -= bytes;
        }
        is_within
    }
}

impl Ear {
    fn new(now: Instant) -> Self {
        Self {
            digests: Allowance::new(DIGESTS_PER_SECOND, now),
            control: Allowance::new(CONTROL_PER_SECOND, now),
            shunned_until: None,
            cut: CancellationToken::new(),
        }
    }

    fn is_shunned(&self, now: Instant) -> bool {
        self.shunned_until.is_some_and(|until| now < until)
    }
}

impl Gossip {
    /// And what [`run`] is to have.
    pub(crate) fn new(domain: Domain) -> (Self, mpsc::Receiver<Event>) {
        let (events, heard) = mpsc::channel(HEARD_QUEUE);
        let gossip = Self {
            book: Mutex::new(LoadBook::new(domain)),
            ears: Mutex::default(),
            events,
        };
        (gossip, heard)
    }

    /// The newest digests.
    pub(crate) fn told(&self, now: Timestamp) -> Vec<Bytes> {
        let book = held(&self.book);
        book.told(now).map(Bytes::copy_from_slice).collect()
    }

    /// Digests that are good, and relays that are listened to.
    pub(crate) fn sizes(&self, now: Timestamp) -> (usize, usize) {
        let digests = held(&self.book).told(now).count();
        (digests, held(&self.ears).len())
    }

    /// Listens to a relay from now on, and to no other stream of it.
    fn listen(&self, relay: NodeId, now: Instant) -> Option<CancellationToken> {
        let mut ears = held(&self.ears);
        if ears.len() >= RELAYS_MAX && !ears.contains_key(&relay) {
            ears.retain(|_, ear| ear.is_shunned(now) || !ear.cut.is_cancelled());
            if ears.len() >= RELAYS_MAX {
                return None;
            }
        }
        let ear = ears.entry(relay).or_insert_with(|| Ear::new(now));
        if ear.is_shunned(now) {
            return None;
        }
        ear.cut.cancel();
        ear.cut = CancellationToken::new();
        Some(ear.cut.clone())
    }

    /// Whether a relay is still heard that says so many bytes more.
    fn takes(&self, relay: NodeId, word: &Word, bytes: usize, now: Instant) -> bool {
        let mut ears = held(&self.ears);
        let Some(ear) = ears.get_mut(&relay) else {
            return false;
        };
        let allowance = match word.digest {
            Some(_) => &mut ear.digests,
            None => &mut ear.control,
        };
        allowance.take(bytes, now)
    }

    fn shun(&self, relay: NodeId, now: Instant) {
        if let Some(ear) = held(&self.ears).get_mut(&relay) {
            ear.shunned_until = Some(now + SHUN);
            ear.cut.cancel();
        }
    }

    fn is_shunned(&self, relay: NodeId, now: Instant) -> bool {
        let ears = held(&self.ears);
        ears.get(&relay).is_some_and(|ear| ear.is_shunned(now))
    }

    /// Listens no longer to those who are no relays any more.
    fn keep(&self, is_relay: impl Fn(NodeId) -> bool) {
        held(&self.ears).retain(|relay, ear| {
            let stays = is_relay(*relay);
            if !stays {
                ear.cut.cancel();
            }
            stays
        });
    }

    fn hear(&self, inner: &Inner, digest: &[u8]) -> Result<Heard, LoadError> {
        let directory = Arc::clone(&inner.directory.borrow());
        let node_of = |account| directory.node_of(account);
        let heard = held(&self.book).hear(digest, node_of, inner.now());
        match heard {
            Ok(Heard::New) => inner.counters.load_heard(),
            Ok(Heard::Again) => {}
            Err(_) => inner.counters.load_refused(),
        }
        heard
    }
}

/// A provider tells its load.
pub(crate) async fn told(inner: &Inner, peer: NodeId, digest: Bytes) {
    let provider = LoadDigest::read(&digest).map(|read| read.provider);
    let own = provider.map(|provider| inner.directory.borrow().node_of(provider));
    // Of itself only: what others tell is passed on by relays.
    if own != Ok(Some(peer)) {
        inner.counters.load_refused();
        return;
    }
    match inner.gossip.hear(inner, &digest) {
        Ok(Heard::New) => drop(inner.gossip.events.send(Event::Told(digest)).await),
        Ok(Heard::Again) => {}
        Err(error) => debug!(%error, "not passed on"),
    }
}

/// Listens to another relay until it leaves or is not to be heard any more.
pub(crate) async fn listen(inner: &Inner, peer: NodeId, receive: ReceiveHalf) {
    let gossip = &inner.gossip;
    if !inner.directory.borrow().is_relay(peer) {
        return inner.counters.malformed();
    }
    let Some(cut) = gossip.listen(peer, Instant::now()) else {
        return;
    };
    let ended = cut.run_until_cancelled(read(inner, peer, receive)).await;
    cut.cancel();
    match ended {
        // Another stream of it took this one's place.
        None => return,
        // Who has us for a neighbour goes on saying something.
        Some(Ended::Left) => {}
        Some(Ended::Foul) => {
            debug!(relay = %peer, "not heard for a while: it passes on what nobody may");
            gossip.shun(peer, Instant::now());
        }
    }
    let (relay, turn) = (peer, None);
    let _ = gossip.events.send(Event::Lost { relay, turn }).await;
}

/// Why a relay is listened to no longer.
enum Ended {
    Left,
    Foul,
}

async fn read(inner: &Inner, peer: NodeId, mut receive: ReceiveHalf) -> Ended {
    receive.limit(MAX_GOSSIP_BYTES);
    loop {
        // As long as the connection: who is gone is noticed there.
        let frame: Bytes = match receive.receive().await {
            Ok(Some(frame)) => frame,
            Ok(None) | Err(ReceiveError::Left | ReceiveError::Lost { .. }) => return Ended::Left,
            Err(_) => return Ended::Foul,
        };
        let Ok(word) = Word::read(&frame) else {
            return Ended::Foul;
        };
        if !inner.gossip.takes(peer, &word, frame.len(), Instant::now()) {
            inner.counters.load_refused();
            continue;
        }
        if let Some(digest) = &word.digest {
            match inner.gossip.hear(inner, digest) {
                Ok(_) => {}
                Err(error) if error.is_foul() => return Ended::Foul,
                Err(_) => continue,
            }
        }
        let event = Event::Word(peer, word);
        if inner.gossip.events.send(event).await.is_err() {
            return Ended::Left;
        }
    }
}

/// A relay that we speak to.
struct Mouth {
    say: mpsc::Sender<Bytes>,
    turn: u64,
    said_at: Instant,
}

/// The task that owns the mesh.
struct Speaker {
    inner: Arc<Inner>,
    mesh: Mesh,
    since: Instant,
    mouths: HashMap<NodeId, Mouth>,
    turns: u64,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// Takes part until it is stopped.
pub(crate) async fn run(
    inner: Arc<Inner>,
    mut heard: mpsc::Receiver<Event>,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let mut directory = inner.directory.subscribe();
    let mut speaker = Speaker {
        mesh: fresh(&inner),
        inner,
        since: Instant::now(),
        mouths: HashMap::new(),
        turns: 0,
        tasks,
        stop,
    };
    let mut rounds = tokio::time::interval(ROUND);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut round: u32 = 0;
    loop {
        let due = speaker.mesh.due();
        let due_at = due.unwrap_or_else(|| Instant::now() + ROUND);
        tokio::select! {
            Some(event) = heard.recv() => speaker.on(event),
            () = sleep_until(due_at), if due.is_some() => {
                let effects = speaker.mesh.tick(Instant::now());
                speaker.perform(effects);
            }
            _ = rounds.tick() => {
                round = round.wrapping_add(1);
                speaker.round(round.is_multiple_of(MEET_EVERY));
            }
            // Somebody may have come.
            Ok(()) = directory.changed() => speaker.round(false),
        }
    }
}

fn fresh(inner: &Inner) -> Mesh {
    Mesh::new(inner.node.id(), rand_0_10::random())
}

impl Speaker {
    fn on(&mut self, event: Event) {
        let now = Instant::now();
        let effects = match event {
            Event::Word(from, word) => self.mesh.hear(from, word, now),
            Event::Told(digest) => self.mesh.publish(digest, now),
            Event::Lost { relay, turn } => {
                let mouth = self.mouths.get(&relay);
                let is_meant = turn.is_none_or(|turn| mouth.is_some_and(|it| it.turn == turn));
                if !is_meant {
                    return;
                }
                self.mouths.remove(&relay);
                self.mesh.lost(relay, now)
            }
        };
        self.perform(effects);
    }

    fn round(&mut self, meet: bool) {
        let now = Instant::now();
        let directory = Arc::clone(&self.inner.directory.borrow());
        self.inner.gossip.keep(|relay| directory.is_relay(relay));
        if now.saturating_duration_since(self.since) >= AFRESH {
            let effects = self.mesh.leave(now);
            self.perform(effects);
            self.mouths.clear();
            self.mesh = fresh(&self.inner);
            self.since = now;
        }
        // Who is no neighbour is spoken to now and then only.
        let neighbours = self.mesh.neighbours();
        let is_used = |relay: &NodeId, mouth: &Mouth| {
            neighbours.contains(relay) || now.saturating_duration_since(mouth.said_at) < 2 * ROUND
        };
        self.mouths.retain(|relay, mouth| is_used(relay, mouth));
        let mut relays = directory.relays();
        relays.retain(|relay| !self.inner.gossip.is_shunned(*relay, now));
        let effects = self.mesh.join(&relays, meet, now);
        self.perform(effects);
    }

    /// Does what the mesh wants, and what follows where somebody is not there.
    fn perform(&mut self, effects: Vec<Effect>) {
        let mut effects = VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::HangUp(relay) => drop(self.mouths.remove(&relay)),
                Effect::Say(relay, frame) => {
                    if !self.say(relay, frame) {
                        self.mouths.remove(&relay);
                        effects.extend(self.mesh.lost(relay, Instant::now()));
                    }
                }
            }
        }
    }

    /// Whether it was taken.
    fn say(&mut self, relay: NodeId, frame: Bytes) -> bool {
        if !self.mouths.contains_key(&relay) && !self.open(relay) {
            return false;
        }
        let Some(mouth) = self.mouths.get_mut(&relay) else {
            return false;
        };
        mouth.said_at = Instant::now();
        mouth.say.try_send(frame).is_ok()
    }

    /// Begins to speak to a relay, if it is one.
    fn open(&mut self, relay: NodeId) -> bool {
        let now = Instant::now();
        let directory = Arc::clone(&self.inner.directory.borrow());
        let is_shunned = self.inner.gossip.is_shunned(relay, now);
        if !directory.is_relay(relay) || is_shunned || self.mouths.len() >= RELAYS_MAX {
            return false;
        }
        let Some(addr) = directory.find(relay).cloned() else {
            return false;
        };
        let (say, said) = mpsc::channel(SAID_QUEUE);
        self.turns += 1;
        let turn = self.turns;
        let said_at = now;
        self.mouths.insert(relay, Mouth { say, turn, said_at });
        let inner = Arc::clone(&self.inner);
        spawn(&self.tasks, &self.stop, async move {
            if let Err(error) = speak(&inner.node, &addr, said).await {
                debug!(%relay, %error, "a relay takes no gossip");
                let turn = Some(turn);
                let _ = inner.gossip.events.send(Event::Lost { relay, turn }).await;
            }
        });
        true
    }
}

/// Why a relay is spoken to no longer.
#[derive(Debug, thiserror::Error)]
enum SpeakError {
    #[error(transparent)]
    Open(#[from] transport::OpenError),
    #[error(transparent)]
    Send(#[from] transport::SendError),
    #[error("it took nothing within {SAY_WITHIN:?}")]
    Late,
    #[error("it listens no longer")]
    Left,
}

/// Says what there is to say until there is nothing more.
async fn speak(
    node: &Node,
    addr: &NodeAddr,
    mut said: mpsc::Receiver<Bytes>,
) -> Result<(), SpeakError> {
    let mut stream = node.open(addr).await?;
    stream.send.send(&Hello::Gossip).await?;
    let mut left = pin!(stream.send.stopped());
    loop {
        let frame = tokio::select! {
            frame = said.recv() => frame,
            () = &mut left => return Err(SpeakError::Left),
        };
        let Some(frame) = frame else {
            return Ok(stream.send.finish().await?);
        };
        let sent = timeout(SAY_WITHIN, stream.send.send(&frame)).await;
        sent.map_err(|_| SpeakError::Late)??;
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
