//! Several servers of one model behind one offer: each request goes to the one
//! with the least work, a conversation back to where it was answered before,
//! whose cache still holds it.
//!
//! A server that is gone, busy or failing is passed over before anything of
//! its answer went out, so that none is lost when one of them is started anew.
//! One that fails within an answer ends that: the consumer sees to the rest.
//! One that is drained gets nothing new; what it answers comes to its end.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::{Stream, StreamExt as _, stream};
use openai::EmbeddingsRequest;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::{
    Backend, BackendChunk, BackendError, BackendFailure, BackendHandle, ChunkStream, Work,
};

/// Servers behind one offer.
pub const BACKENDS_MAX: usize = 64;

/// A server that failed comes last for so long.
const PASSED_OVER: Duration = Duration::from_secs(5);

/// Conversations whose server is remembered.
const CONVERSATIONS_KEPT: usize = 4096;

/// A conversation goes elsewhere when its server has so many answers more to
/// give than the one with the least work: reading it anew is then sooner done.
const BEHIND_MAX: usize = 2;

/// Several backends as one.
pub struct Pool {
    members: Vec<Member>,
    conversations: Mutex<Conversations>,
    /// Of this run: nobody who reads memory learns what was asked from the keys.
    key: RandomState,
}

struct Member {
    backend: BackendHandle,
    running: Arc<AtomicUsize>,
    failed_at: Mutex<Option<Instant>>,
    drained: AtomicBool,
}

/// How one of several backends stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Nothing new goes to it.
    pub drained: bool,
    /// Answers that it gives.
    pub running: usize,
    /// It did not answer a moment ago, and comes last.
    pub failing: bool,
}

/// Where conversations were answered, the latest at the back.
#[derive(Default)]
struct Conversations {
    member: HashMap<u64, usize>,
    order: VecDeque<u64>,
}

/// Names a conversation: its messages up to the first of the user.
#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, default)]
    messages: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    role: Option<std::borrow::Cow<'a, str>>,
}

impl Pool {
    /// None if there are none, or more than [`BACKENDS_MAX`].
    pub fn new(backends: Vec<BackendHandle>) -> Option<Self> {
        if backends.is_empty() || backends.len() > BACKENDS_MAX {
            return None;
        }
        let member = |backend| Member {
            backend,
            running: Arc::default(),
            failed_at: Mutex::default(),
            drained: AtomicBool::new(false),
        };
        Some(Self {
            members: backends.into_iter().map(member).collect(),
            conversations: Mutex::default(),
            key: RandomState::new(),
        })
    }

    /// From now on sends nothing new to the backend at this place, or sends to
    /// it again. Answers that run go on. Out of range: nothing happens.
    pub fn drain(&self, at: usize, drained: bool) {
        if let Some(member) = self.members.get(at) {
            member.drained.store(drained, Ordering::Relaxed);
        }
    }

    /// How each stands, in the order in which they were given.
    pub fn standings(&self) -> Vec<Standing> {
        let now = Instant::now();
        let standing = |member: &Member| Standing {
            drained: member.is_drained(),
            running: member.running.load(Ordering::Relaxed),
            failing: member.is_passed_over(now),
        };
        self.members.iter().map(standing).collect()
    }

    fn conversation(&self, body: &[u8]) -> Option<u64> {
        let body: Body<'_> = serde_json::from_slice(body).ok()?;
        let is_users = |text: &&RawValue| {
            let message: Result<Message<'_>, _> = serde_json::from_str(text.get());
            message.is_ok_and(|message| message.role.as_deref() == Some("user"))
        };
        let first = body.messages.iter().position(is_users)?;
        let opening: Vec<&str> = body.messages[..=first].iter().map(|m| m.get()).collect();
        Some(self.key.hash_one(opening))
    }

    fn conversations(&self) -> MutexGuard<'_, Conversations> {
        let known = self.conversations.lock();
        known.unwrap_or_else(PoisonError::into_inner)
    }

    /// Who is asked, one after the other.
    fn order(&self, conversation: Option<u64>) -> Vec<usize> {
        let now = Instant::now();
        let work = |at: usize| self.members[at].running.load(Ordering::Relaxed);
        let mut order: Vec<usize> = (0..self.members.len()).collect();
        order.retain(|at| !self.members[*at].is_drained());
        order.sort_by_key(|at| (self.members[*at].is_passed_over(now), work(*at)));
        let known = conversation.and_then(|known| self.conversations().find(known));
        if let Some(known) = known
            && order.contains(&known)
            && !self.members[known].is_passed_over(now)
            && work(known) <= work(order[0]) + BEHIND_MAX
        {
            order.retain(|at| *at != known);
            order.insert(0, known);
        }
        order
    }

    /// The answer of the first in order that gives one.
    async fn answer(
        &self,
        work: Work,
        conversation: Option<u64>,
    ) -> Result<ChunkStream, BackendError> {
        if let [only] = &self.members[..] {
            // With nobody to go to else, it is asked as if it stood alone.
            return only.answer_alone(work).await;
        }
        let mut last = None;
        for at in self.order(conversation) {
            let member = &self.members[at];
            // While another one was tried, this may have been drained.
            if member.is_drained() {
                continue;
            }
            match member.answer(work.clone()).await {
                Ok(answer) => {
                    member.is_well(true);
                    if let Some(conversation) = conversation {
                        self.conversations().keep(conversation, at);
                    }
                    return Ok(answer.boxed());
                }
                // Another one would say the same.
                Err(error @ BackendError::Request { .. }) => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, backend = at, "passed over");
                    member.is_well(false);
                    last = nearer(last, error);
                }
            }
        }
        Err(last.unwrap_or(BackendError::Busy { retry_after: None }))
    }
}

impl Conversations {
    fn find(&self, conversation: u64) -> Option<usize> {
        self.member.get(&conversation).copied()
    }

    fn keep(&mut self, conversation: u64, member: usize) {
        if self.member.insert(conversation, member).is_none() {
            self.order.push_back(conversation);
        }
        if self.order.len() > CONVERSATIONS_KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.member.remove(&oldest);
        }
    }
}

impl Member {
    fn failed_at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.failed_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn is_passed_over(&self, now: Instant) -> bool {
        self.failed_at().is_some_and(|at| now < at + PASSED_OVER)
    }

    fn is_drained(&self) -> bool {
        self.drained.load(Ordering::Relaxed)
    }

    fn is_well(&self, well: bool) {
        *self.failed_at() = (!well).then(Instant::now);
    }

    /// Its answer, unless it is drained.
    async fn answer_alone(&self, work: Work) -> Result<ChunkStream, BackendError> {
        if self.is_drained() {
            return Err(BackendError::Busy { retry_after: None });
        }
        let running = Running::new(&self.running);
        let asked = self.backend.answer(work).await;
        let is_at_fault = |error: &BackendError| !matches!(error, BackendError::Request { .. });
        self.is_well(!asked.as_ref().err().is_some_and(is_at_fault));
        let answer = Answer {
            chunks: asked?,
            _running: running,
        };
        Ok(answer.boxed())
    }

    /// Its answer, once the first chunk is there.
    async fn answer(&self, work: Work) -> Result<Answer, BackendError> {
        let running = Running::new(&self.running);
        let mut chunks = self.backend.answer(work).await?;
        let first = match chunks.next().await {
            Some(Ok(chunk)) => Some(Ok(chunk)),
            Some(Err(BackendFailure::Late(error))) => return Err(error),
            Some(Err(failure)) => return Err(BackendError::Unreachable(failure.into())),
            None => None,
        };
        Ok(Answer {
            chunks: stream::iter(first).chain(chunks).boxed(),
            _running: running,
        })
    }
}

/// One of a member's answers, as long as somebody listens.
struct Running(Arc<AtomicUsize>);

impl Running {
    fn new(running: &Arc<AtomicUsize>) -> Self {
        running.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(running))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Answer {
    chunks: ChunkStream,
    _running: Running,
}

impl Stream for Answer {
    type Item = Result<BackendChunk, BackendFailure>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.chunks.poll_next_unpin(cx)
    }
}

impl Backend for Pool {
    async fn chat(&self, body: Bytes) -> Result<ChunkStream, BackendError> {
        let is_alone = self.members.len() == 1;
        let conversation = (!is_alone).then(|| self.conversation(&body)).flatten();
        self.answer(Work::Chat(body), conversation).await
    }

    async fn embed(&self, request: EmbeddingsRequest) -> Result<ChunkStream, BackendError> {
        self.answer(Work::Embed(request), None).await
    }

    async fn check(&self) -> Result<(), BackendError> {
        let live = self.members.iter().filter(|member| !member.is_drained());
        let checks = live.map(|member| async move {
            let checked = member.backend.check().await;
            if checked.is_err() {
                member.is_well(false);
            }
            checked
        });
        let checked = join_all(checks).await;
        if checked.iter().any(Result::is_ok) {
            return Ok(());
        }
        let none_is_live = Err(BackendError::Busy { retry_after: None });
        checked.into_iter().next().unwrap_or(none_is_live)
    }

    fn is_drained(&self) -> bool {
        self.members.iter().all(Member::is_drained)
    }
}

/// That one is busy says more than that another one is gone.
fn nearer(before: Option<BackendError>, now: BackendError) -> Option<BackendError> {
    match before {
        Some(busy @ BackendError::Busy { .. }) => Some(busy),
        _ => Some(now),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{Line, Script, ScriptedBackend};
    use super::*;

    fn says(text: &str) -> Script {
        Script {
            lines: vec![Line::Say(text.to_owned())],
            ..Script::default()
        }
    }

    fn broken() -> Script {
        Script {
            lines: vec![Line::Break],
            ..Script::default()
        }
    }

    fn pool(scripts: impl IntoIterator<Item = Script>) -> (Pool, Vec<Arc<ScriptedBackend>>) {
        let backends = scripts.into_iter().map(ScriptedBackend::new).map(Arc::new);
        let backends: Vec<_> = backends.collect();
        let handles = backends.iter().cloned().map(BackendHandle::shared);
        (Pool::new(handles.collect()).unwrap(), backends)
    }

    fn body(messages: &[(&str, &str)]) -> Bytes {
        let message = |(role, content): &(&str, &str)| json!({ "role": role, "content": content });
        let messages: Vec<_> = messages.iter().map(message).collect();
        json!({ "model": "m", "messages": messages })
            .to_string()
            .into()
    }

    fn ask(question: &str) -> Bytes {
        body(&[("system", "Be brief."), ("user", question)])
    }

    fn started(backends: &[Arc<ScriptedBackend>]) -> Vec<usize> {
        backends.iter().map(|backend| backend.started()).collect()
    }

    #[tokio::test]
    async fn the_least_work_is_asked_and_what_is_dropped_no_longer_counts() {
        let (pool, backends) = pool([says("a"), says("b"), says("c")]);
        let mut held = Vec::new();
        for question in ["1", "2", "3", "4", "5", "6"] {
            held.push(pool.chat(ask(question)).await.unwrap());
        }
        assert_eq!(started(&backends), [2, 2, 2]);
        drop(held);
        assert!(
            pool.members
                .iter()
                .all(|member| member.running.load(Ordering::Relaxed) == 0)
        );
    }

    #[tokio::test]
    async fn a_conversation_goes_back_to_where_it_was_unless_that_is_far_behind() {
        let (pool, backends) = pool([says("a"), says("b")]);
        let other = pool.chat(ask("other")).await.unwrap();
        drop(pool.chat(ask("first")).await.unwrap());
        drop(other);
        let further = body(&[
            ("system", "Be brief."),
            ("user", "first"),
            ("assistant", "b"),
            ("user", "and then?"),
        ]);
        let mut held = Vec::new();
        for _ in 0..=BEHIND_MAX {
            held.push(pool.chat(further.clone()).await.unwrap());
        }
        assert_eq!(started(&backends), [1, 2 + BEHIND_MAX]);
        held.push(pool.chat(further).await.unwrap());
        assert_eq!(started(&backends), [2, 2 + BEHIND_MAX]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_gone_is_passed_over_and_asked_again_later() {
        let (pool, backends) = pool([broken(), says("b")]);
        for question in ["1", "2"] {
            let mut answer = pool.chat(ask(question)).await.unwrap();
            let chunk = answer.next().await.unwrap().unwrap();
            assert_eq!(chunk.facts.text_bytes, 1);
        }
        assert_eq!(started(&backends), [1, 2], "not asked again so soon");
        tokio::time::advance(PASSED_OVER).await;
        let _held = pool.chat(ask("3")).await.unwrap();
        assert_eq!(started(&backends), [2, 3]);
    }

    #[tokio::test]
    async fn who_is_drained_gets_nothing_new_and_ends_what_it_gives() {
        let (pool, backends) = pool([says("a"), says("b")]);
        let mut first = pool.chat(ask("1")).await.unwrap();
        assert_eq!(started(&backends), [1, 0]);
        pool.drain(0, true);
        // Neither by least work nor as the conversation's own.
        let mut held = Vec::new();
        for question in ["1", "2", "3", "4"] {
            held.push(pool.chat(ask(question)).await.unwrap());
        }
        assert_eq!(started(&backends), [1, 4]);
        let standing = pool.standings()[0];
        assert_eq!((standing.drained, standing.running), (true, 1));
        assert!(first.next().await.unwrap().is_ok());
        drop(first);
        assert_eq!(pool.standings()[0].running, 0);

        assert!(!Backend::is_drained(&pool));
        pool.drain(1, true);
        assert!(Backend::is_drained(&pool));
        let refused = pool.chat(ask("5")).await.err();
        assert!(matches!(refused, Some(BackendError::Busy { .. })));
        let checked = pool.check().await;
        assert!(matches!(checked, Err(BackendError::Busy { .. })));
        assert_eq!(started(&backends), [1, 4]);

        pool.drain(0, false);
        held.push(pool.chat(ask("6")).await.unwrap());
        assert_eq!(started(&backends), [2, 4]);
        assert!(pool.check().await.is_ok());
    }

    #[tokio::test]
    async fn one_alone_can_be_drained_too() {
        let (pool, backends) = pool([says("a")]);
        let _held = pool.chat(ask("1")).await.unwrap();
        assert_eq!(pool.standings()[0].running, 1);
        pool.drain(0, true);
        let refused = pool.chat(ask("2")).await.err();
        assert!(matches!(refused, Some(BackendError::Busy { .. })));
        assert_eq!(started(&backends), [1]);
    }

    #[tokio::test]
    async fn all_gone_is_an_error_and_so_are_too_many() {
        let (pool, backends) = pool([broken(), broken()]);
        assert!(pool.chat(ask("1")).await.is_err());
        assert_eq!(started(&backends), [1, 1]);
        assert!(Pool::new(vec![]).is_none());
        let one = BackendHandle::new(ScriptedBackend::new(says("a")));
        assert!(Pool::new(vec![one; BACKENDS_MAX + 1]).is_none());
    }

    #[tokio::test]
    async fn no_more_conversations_are_remembered_than_that() {
        let (pool, _) = pool([says("a"), says("b")]);
        for number in 0..CONVERSATIONS_KEPT + 10 {
            drop(pool.chat(ask(&number.to_string())).await.unwrap());
        }
        let known = pool.conversations();
        assert_eq!(
            (known.member.len(), known.order.len()),
            (CONVERSATIONS_KEPT, CONVERSATIONS_KEPT)
        );
    }
}
