//! A relay's part in the gossip of load digests, without sockets: the protocol of
//! `iroh-gossip` (HyParView and PlumTree) as a state that turns what is heard
//! into what is to be said.
//!
//! Only relays are in it. Each keeps a few neighbours, knows some more, and
//! passes on what is new; who is lost is replaced by one of those. What may be
//! passed on at all is decided before ([`crate::gossip`]): a digest that is not
//! believed goes no further than one hop. No data travels beside the ids of
//! peers: where a relay is says its descriptor alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use iroh_gossip::proto::state::MessageKind;
use iroh_gossip::proto::topic::{Command, Config, Event, InEvent, Message, OutEvent, State, Timer};
use iroh_gossip::proto::{PlumtreeConfig, Scope};
use market::NodeId;
use rand_0_10::rngs::StdRng;
use rand_0_10::{Rng as _, SeedableRng as _};
use tokio::time::Instant;
use transport::message::MAX_GOSSIP_BYTES;

/// Of a frame, what is not the message: its length as a byte string.
const FRAME_OVERHEAD: usize = 8;

/// A message is offered to those who missed it for so long; the next digest
/// comes sooner.
const OFFERED_FOR: Duration = Duration::from_secs(10);

/// What was heard is known again for so long; longer than a digest is good.
const KNOWN_FOR: Duration = Duration::from_secs(60);

/// What a neighbour announces and another one does not bring within this is
/// asked for; and of the next one who announced it after the second time.
const ASK_AFTER: [Duration; 2] = [Duration::from_millis(80), Duration::from_millis(40)];

/// Timers that may run. Beyond it what is announced is not asked for: another
/// digest follows.
const TIMERS_MAX: usize = 8192;

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Say this to that relay.
    Say(NodeId, Bytes),
    /// Say nothing more to it.
    HangUp(NodeId),
}

/// A message between relays, read and not yet acted on.
#[derive(Debug)]
pub(crate) struct Word {
    message: Message<NodeId>,
    /// The load digest in it, if it brings one.
    pub(crate) digest: Option<Bytes>,
}

/// Not a message of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoWord;

impl Word {
    /// From a frame.
    pub(crate) fn read(frame: &Bytes) -> Result<Self, NoWord> {
        let message: Message<NodeId> = match postcard::take_from_bytes(frame) {
            Ok((message, [])) => message,
            _ => return Err(NoWord),
        };
        let digest = match message.kind() {
            MessageKind::Data => Some(content(frame).ok_or(NoWord)?),
            MessageKind::Control => None,
        };
        Ok(Self { message, digest })
    }

    /// Whether it is about who is whose neighbour; that comes from anybody.
    fn is_membership(&self) -> bool {
        matches!(self.message, Message::Swarm(_))
    }
}

/// What a data message brings. The protocol's crate does not let one look into
/// its messages before they are acted on, so that its form is known here: two
/// variants, the 32 bytes of the id, then the content behind its length.
fn content(frame: &Bytes) -> Option<Bytes> {
    const ID_BYTES: usize = 2 + 32;
    let (content, _): (&[u8], _) = postcard::take_from_bytes(frame.get(ID_BYTES..)?).ok()?;
    Some(frame.slice_ref(content))
}

/// The protocol's state, its timers, its neighbours.
pub(crate) struct Mesh {
    me: NodeId,
    state: State<NodeId, StdRng>,
    timers: BTreeMap<(Instant, u64), Timer<NodeId>>,
    timers_set: u64,
    neighbours: BTreeSet<NodeId>,
    chance: StdRng,
}

impl Mesh {
    /// Neighbours that are asked to take one in, at the start or where all are lost.
    const ASKED: usize = 3;

    /// One that knows nobody. `seed` is random.
    pub(crate) fn new(me: NodeId, seed: [u8; 32]) -> Self {
        let mut chance = StdRng::from_seed(seed);
        let config = Config {
            broadcast: PlumtreeConfig {
                graft_timeout_1: ASK_AFTER[0],
                graft_timeout_2: ASK_AFTER[1],
                message_cache_retention: OFFERED_FOR,
                message_id_retention: KNOWN_FOR,
                ..PlumtreeConfig::default()
            },
            max_message_size: MAX_GOSSIP_BYTES - FRAME_OVERHEAD,
            ..Config::default()
        };
        let own = StdRng::from_rng(&mut chance);
        Self {
            me,
            state: State::with_rng(me, None, config, own),
            timers: BTreeMap::new(),
            timers_set: 0,
            neighbours: BTreeSet::new(),
            chance,
        }
    }

    /// Who passes on to us and we to them.
    pub(crate) fn neighbours(&self) -> &BTreeSet<NodeId> {
        &self.neighbours
    }

    /// Asks some of these to take us in, if we have no neighbour. `anyway`: one
    /// more even so, that parts of the market which lost each other meet again.
    pub(crate) fn join(&mut self, relays: &[NodeId], anyway: bool, now: Instant) -> Vec<Effect> {
        let count = match (self.neighbours.is_empty(), anyway) {
            (true, _) => Self::ASKED,
            (false, true) => 1,
            (false, false) => return vec![],
        };
        let is_new = |relay: &&NodeId| **relay != self.me && !self.neighbours.contains(*relay);
        let mut relays: Vec<_> = relays.iter().filter(is_new).copied().collect();
        relays.sort_by_cached_key(|_| self.chance.next_u64());
        relays.truncate(count);
        if relays.is_empty() {
            return vec![];
        }
        self.handle(InEvent::Command(Command::Join(relays)), now)
    }

    /// A relay says something. Only neighbours are heard beyond who is whose neighbour.
    pub(crate) fn hear(&mut self, from: NodeId, word: Word, now: Instant) -> Vec<Effect> {
        if !word.is_membership() && !self.neighbours.contains(&from) {
            return vec![];
        }
        self.handle(InEvent::RecvMessage(from, word.message), now)
    }

    /// Passes on a digest that came from its provider itself.
    pub(crate) fn publish(&mut self, digest: Bytes, now: Instant) -> Vec<Effect> {
        let command = Command::Broadcast(digest, Scope::Swarm);
        self.handle(InEvent::Command(command), now)
    }

    /// A relay cannot be reached, or left without a word.
    pub(crate) fn lost(&mut self, relay: NodeId, now: Instant) -> Vec<Effect> {
        self.handle(InEvent::PeerDisconnected(relay), now)
    }

    /// Says goodbye to all.
    pub(crate) fn leave(&mut self, now: Instant) -> Vec<Effect> {
        self.handle(InEvent::Command(Command::Quit), now)
    }

    /// When [`Mesh::tick`] has something to do.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.timers.first_key_value().map(|((at, _), _)| *at)
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self, now: Instant) -> Vec<Effect> {
        let later = self.timers.split_off(&(now, u64::MAX));
        let due = std::mem::replace(&mut self.timers, later);
        let mut effects = Vec::new();
        for timer in due.into_values() {
            effects.extend(self.handle(InEvent::TimerExpired(timer), now));
        }
        effects
    }

    fn set(&mut self, now: Instant, wait: Duration, timer: Timer<NodeId>) {
        if ASK_AFTER.contains(&wait) && self.timers.len() >= TIMERS_MAX {
            return;
        }
        self.timers_set += 1;
        self.timers.insert((now + wait, self.timers_set), timer);
    }

    fn handle(&mut self, event: InEvent<NodeId>, now: Instant) -> Vec<Effect> {
        let mut effects = Vec::new();
        let events: Vec<_> = self.state.handle(event, now).collect();
        for event in events {
            match event {
                OutEvent::SendMessage(to, message) => {
                    let bytes = postcard::to_stdvec(&message);
                    let bytes = bytes.expect("ids, numbers and bytes have a form");
                    effects.push(Effect::Say(to, bytes.into()));
                }
                OutEvent::ScheduleTimer(wait, timer) => self.set(now, wait, timer),
                OutEvent::DisconnectPeer(peer) => effects.push(Effect::HangUp(peer)),
                OutEvent::EmitEvent(Event::NeighborUp(peer)) => {
                    self.neighbours.insert(peer);
                }
                OutEvent::EmitEvent(Event::NeighborDown(peer)) => {
                    self.neighbours.remove(&peer);
                }
                // What was received was kept before it came here; nobody says
                // where it is but its descriptor.
                OutEvent::EmitEvent(Event::Received(_)) | OutEvent::PeerData(..) => {}
            }
        }
        effects
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, VecDeque};

    use market::B256;

    use super::*;

    fn id(n: u8) -> NodeId {
        NodeId(B256::repeat_byte(n))
    }

    /// Relays that hear each other at once.
    struct Swarm {
        meshes: HashMap<NodeId, Mesh>,
        now: Instant,
        /// Digests that each was brought.
        brought: HashMap<NodeId, Vec<Bytes>>,
        said: usize,
    }

    impl Swarm {
        fn of(count: u8) -> Self {
            let mesh = |n| (id(n), Mesh::new(id(n), [n; 32]));
            let mut swarm = Self {
                meshes: (0..count).map(mesh).collect(),
                now: Instant::now(),
                brought: HashMap::new(),
                said: 0,
            };
            let all: Vec<_> = (0..count).map(id).collect();
            for n in 0..count {
                let now = swarm.now;
                let effects = swarm.at(id(n)).join(&all, false, now);
                swarm.perform(id(n), effects);
            }
            swarm.pass(Duration::from_secs(5));
            swarm
        }

        fn at(&mut self, relay: NodeId) -> &mut Mesh {
            self.meshes.get_mut(&relay).unwrap()
        }

        fn perform(&mut self, of: NodeId, effects: Vec<Effect>) {
            let mut queue: VecDeque<_> = effects.into_iter().map(|effect| (of, effect)).collect();
            while let Some((from, effect)) = queue.pop_front() {
                let Effect::Say(to, frame) = effect else {
                    continue;
                };
                assert!(frame.len() <= MAX_GOSSIP_BYTES - FRAME_OVERHEAD);
                self.said += 1;
                let now = self.now;
                let effects = match self.meshes.get_mut(&to) {
                    Some(mesh) => {
                        let word = Word::read(&frame).unwrap();
                        if let Some(digest) = &word.digest {
                            self.brought.entry(to).or_default().push(digest.clone());
                        }
                        let effects = mesh.hear(from, word, now);
                        queue.extend(effects.into_iter().map(|effect| (to, effect)));
                        continue;
                    }
                    None => self.at(from).lost(to, now),
                };
                queue.extend(effects.into_iter().map(|effect| (from, effect)));
            }
        }

        fn pass(&mut self, time: Duration) {
            let end = self.now + time;
            loop {
                let due = self
                    .meshes
                    .iter()
                    .filter_map(|(id, mesh)| Some((mesh.due()?, *id)));
                let Some((at, relay)) = due.min().filter(|(at, _)| *at <= end) else {
                    break;
                };
                self.now = at;
                let effects = self.at(relay).tick(at);
                self.perform(relay, effects);
            }
            self.now = end;
        }

        fn publish(&mut self, from: NodeId, digest: &'static [u8]) {
            let now = self.now;
            let effects = self.at(from).publish(Bytes::from_static(digest), now);
            self.perform(from, effects);
            self.pass(Duration::from_secs(1));
        }

        fn have(&self, digest: &'static [u8]) -> usize {
            let has = |brought: &&Vec<Bytes>| brought.iter().any(|one| one == digest);
            self.brought.values().filter(has).count()
        }
    }

    #[test]
    fn what_one_is_told_reaches_all_and_each_about_once() {
        let mut swarm = Swarm::of(30);
        for n in 0..30 {
            let count = swarm.meshes[&id(n)].neighbours().len();
            assert!((1..=6).contains(&count), "{n} has {count}");
        }
        swarm.publish(id(0), b"first");
        assert_eq!(swarm.have(b"first"), 29);
        // The tree is found by then: few hear it twice.
        for digest in [&b"1"[..], b"2", b"3", b"4", b"5"] {
            swarm.publish(id(0), digest);
        }
        swarm.brought.clear();
        swarm.publish(id(0), b"later");
        assert_eq!(swarm.have(b"later"), 29);
        let copies: usize = swarm.brought.values().map(Vec::len).sum();
        assert!(copies <= 2 * 29, "{copies} copies for 29 relays");
    }

    #[test]
    fn when_a_third_is_gone_the_others_still_hear_it() {
        let mut swarm = Swarm::of(30);
        for n in 0..10 {
            swarm.meshes.remove(&id(n));
        }
        // Who is lost is noticed by saying something to it.
        swarm.publish(id(20), b"noticed");
        swarm.pass(Duration::from_secs(60));
        swarm.publish(id(20), b"heard");
        assert_eq!(swarm.have(b"heard"), 19);
    }

    #[test]
    fn a_strangers_digests_go_no_further() {
        let mut swarm = Swarm::of(5);
        let stranger = id(99);
        let mut outside = Mesh::new(stranger, [9; 32]);
        let now = swarm.now;
        // It holds itself for a neighbour of one who knows nothing of that.
        outside.neighbours.insert(id(0));
        let joined = InEvent::RecvMessage(id(0), neighbour_of(id(0), now));
        outside.handle(joined, now);
        let said = outside.publish(Bytes::from_static(b"forced"), now);
        let said: Vec<_> = said
            .into_iter()
            .filter_map(|effect| match effect {
                Effect::Say(_, frame) => Word::read(&frame).ok(),
                Effect::HangUp(_) => None,
            })
            .filter(|word| word.digest.is_some())
            .collect();
        assert_eq!(said.len(), 1);
        for word in said {
            assert_eq!(swarm.at(id(0)).hear(stranger, word, now), vec![]);
        }
    }

    /// What `relay` says to make another one its neighbour.
    fn neighbour_of(relay: NodeId, now: Instant) -> Message<NodeId> {
        let mut mesh = Mesh::new(relay, [1; 32]);
        let mut asks = Mesh::new(id(99), [2; 32]);
        let asked = asks.join(&[relay], false, now);
        let Some(Effect::Say(_, join)) = asked.into_iter().next() else {
            panic!("nothing is asked");
        };
        let answer = mesh.hear(id(99), Word::read(&join).unwrap(), now);
        let Some(Effect::Say(_, frame)) = answer.into_iter().next() else {
            panic!("nothing is answered");
        };
        Word::read(&frame).unwrap().message
    }

    #[test]
    fn the_digest_in_a_message_is_found_and_what_is_no_message_is_none() {
        let mut swarm = Swarm::of(2);
        let now = swarm.now;
        let digest = Bytes::from(vec![7; market::LOAD_BYTES_MAX]);
        let effects = swarm.at(id(0)).publish(digest.clone(), now);
        let Some(Effect::Say(_, frame)) = effects.into_iter().next() else {
            panic!("nothing is said");
        };
        assert_eq!(Word::read(&frame).unwrap().digest, Some(digest));
        let longer = Bytes::from([&frame[..], &[0]].concat());
        for bad in [longer, frame.slice(..frame.len() - 1), Bytes::new()] {
            assert_eq!(Word::read(&bad).err(), Some(NoWord));
        }
    }

    #[test]
    fn announcements_without_end_set_so_many_timers() {
        let mut swarm = Swarm::of(2);
        let now = swarm.now;
        for batch in 0..TIMERS_MAX as u64 {
            // A list of ids that are nowhere to be had: variants 1 and 3, one id, its round.
            let mut frame = vec![1, 3, 1];
            frame.extend_from_slice(&[0; 24]);
            frame.extend_from_slice(&batch.to_be_bytes());
            frame.push(0);
            let word = Word::read(&frame.into()).unwrap();
            swarm.at(id(0)).hear(id(1), word, now);
        }
        assert_eq!(swarm.meshes[&id(0)].timers.len(), TIMERS_MAX);
        // What it does by itself goes on.
        swarm.pass(Duration::from_secs(120));
        swarm.publish(id(1), b"after");
        assert_eq!(swarm.have(b"after"), 1);
    }
}
