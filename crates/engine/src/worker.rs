//! The thread that computes.
//!
//! One thread owns all conversations. Each step it takes the next token of
//! every answer that is being written and a piece of every prompt that is
//! being read, and runs them through the network as one batch: the weights
//! are read once for all. Larger products are split over a pool of threads
//! that belongs to this worker. Nothing here waits for a reader: an answer
//! whose reader is slow sits out until there is room, one whose reader is
//! gone is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::answer::{EngineError, Event, Finish, TokenLogprob, TokenLogprobs};
use crate::model::{Cache, Model, Row, Scratch};
use crate::sampler::{self, Sampler};
use crate::text::{Progress, TextStream};
use crate::tokenizer::Tokenizer;

/// Events an answer may be ahead of its reader.
pub(crate) const EVENTS_AHEAD: usize = 64;
/// How soon a reader that fell behind is looked at again.
const RECHECK: Duration = Duration::from_millis(2);
/// What a step may cost, in multiplications: about ten milliseconds.
const STEP_WORK: usize = 200_000_000;
/// Tokens of prompts per step, whatever they cost: fewer waste the weights.
const PROMPT_ROWS_MIN: usize = 16;
const PROMPT_ROWS_MAX: usize = 256;
/// A step with less work than this is not worth waking the pool for.
const POOL_WORK_MIN: usize = 8_000_000;

/// An answer to be written.
pub(crate) struct Job {
    pub(crate) prompt: Vec<u32>,
    /// At least 1; prompt and answer together fit the context.
    pub(crate) tokens_max: u32,
    pub(crate) sampler: Sampler,
    pub(crate) text: TextStream,
    pub(crate) logprobs: Option<usize>,
    pub(crate) events: mpsc::Sender<Result<Event, EngineError>>,
    /// The place in the engine that this job takes up until it is over.
    #[expect(dead_code, reason = "held, not read: dropping it frees the place")]
    pub(crate) place: OwnedSemaphorePermit,
}

/// What the worker computes with.
pub(crate) struct Worker {
    pub(crate) model: Arc<Model>,
    pub(crate) tokenizer: Arc<Tokenizer>,
    /// `None` for one thread: the worker itself.
    pub(crate) pool: Option<Pool>,
    pub(crate) slots: usize,
    pub(crate) jobs: Receiver<Job>,
    pub(crate) is_closing: Arc<AtomicBool>,
}

/// Threads that help with large products; joined on drop.
pub(crate) struct Pool {
    threads: usize,
    pool: Option<rayon::ThreadPool>,
    handles: Vec<JoinHandle<()>>,
}

impl Pool {
    pub(crate) fn new(threads: usize) -> Result<Self, rayon::ThreadPoolBuildError> {
        let mut handles = Vec::with_capacity(threads);
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .spawn_handler(|thread| {
                let name = format!("engine-{}", thread.index());
                let handle = std::thread::Builder::new()
                    .name(name)
                    .spawn(|| thread.run())?;
                handles.push(handle);
                Ok(())
            })
            .build()?;
        Ok(Self {
            threads,
            pool: Some(pool),
            handles,
        })
    }
}

/// Runs a step in the pool, or here if it is not worth that.
fn run_in<R: Send>(pool: Option<&Pool>, step: impl FnOnce() -> R + Send) -> R {
    match pool.and_then(|pool| pool.pool.as_ref()) {
        Some(pool) => pool.install(step),
        None => step(),
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // Dropping the pool tells its threads to end, it does not wait.
        self.pool = None;
        for handle in self.handles.drain(..) {
            // A panic there has already surfaced in the step that caused it.
            let _ = handle.join();
        }
    }
}

/// A conversation in a slot.
struct Active {
    job: Job,
    cache: Cache,
    /// Tokens that the cache holds.
    cached: usize,
    /// The token to feed next, once the prompt is read.
    last: u32,
    written: u32,
}

impl Active {
    fn new(job: Job, model: &Model) -> Self {
        Self {
            job,
            cache: model.cache(),
            cached: 0,
            last: 0,
            written: 0,
        }
    }

    fn is_reading(&self) -> bool {
        self.cached < self.job.prompt.len()
    }

    fn is_abandoned(&self) -> bool {
        self.job.events.is_closed()
    }

    /// Whether the reader has room for what a step can send.
    fn has_room(&self) -> bool {
        // A token and the end.
        self.job.events.capacity() >= 2
    }
}

impl Worker {
    /// Runs until the engine closes.
    pub(crate) fn run(self) {
        let mut active: Vec<Active> = Vec::new();
        let mut scratch = Scratch::default();
        while self.admit(&mut active) {
            self.step(&mut active, &mut scratch);
        }
        for conversation in active {
            // The reader may be gone or far behind; either way it sees an end.
            let _ = conversation.job.events.try_send(Err(EngineError::Closed));
        }
    }

    /// Fills free slots, waiting if there is nothing to do; false to close.
    fn admit(&self, active: &mut Vec<Active>) -> bool {
        loop {
            active.retain(|conversation| !conversation.is_abandoned());
            if self.is_closing.load(Ordering::Relaxed) {
                return false;
            }
            while active.len() < self.slots {
                match self.jobs.try_recv() {
                    Ok(job) => active.push(Active::new(job, &self.model)),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return false,
                }
            }
            if active.iter().any(Active::has_room) {
                return true;
            }
            if active.is_empty() {
                match self.jobs.recv() {
                    Ok(job) => active.push(Active::new(job, &self.model)),
                    Err(_) => return false,
                }
            } else if active.len() < self.slots {
                match self.jobs.recv_timeout(RECHECK) {
                    Ok(job) => active.push(Active::new(job, &self.model)),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return false,
                }
            } else {
                std::thread::sleep(RECHECK);
            }
        }
    }

    /// Takes every conversation that can go on one step further.
    fn step(&self, active: &mut Vec<Active>, scratch: &mut Scratch) {
        let rows = self.plan(active);
        let work = rows.len() * self.model.multiplications();
        let pool = self.pool.as_ref().filter(|_| work >= POOL_WORK_MIN);
        let scores = {
            let (mut caches, senders): (Vec<&mut Cache>, Vec<_>) = active
                .iter_mut()
                .map(|conversation| (&mut conversation.cache, conversation.job.events.clone()))
                .unzip();
            let is_closing = &self.is_closing;
            let is_for_nobody = || {
                is_closing.load(Ordering::Relaxed)
                    || rows.iter().all(|row| senders[row.cache].is_closed())
            };
            let model = &self.model;
            let lanes = model.lanes(pool.map_or(1, |pool| pool.threads));
            let (rows, caches) = (&rows, &mut caches);
            run_in(pool, || {
                model.forward(rows, caches, lanes, scratch, is_for_nobody)
            })
        };
        let Some(scores) = scores else {
            return;
        };

        let mut over = vec![false; active.len()];
        let mut scores = scores.chunks_exact_mut(self.tokenizer.vocabulary_size());
        for row in &rows {
            let conversation = &mut active[row.cache];
            conversation.cached = row.position + 1;
            if row.is_scored
                && let Some(scores) = scores.next()
            {
                over[row.cache] = self.write(conversation, scores);
            }
        }
        let mut over = over.into_iter();
        active.retain(|_| !over.next().unwrap_or(false));
    }

    /// The next batch: one token of each answer, and pieces of prompts.
    fn plan(&self, active: &[Active]) -> Vec<Row> {
        let affordable = STEP_WORK / self.model.multiplications().max(1);
        let mut prompt_rows = affordable.clamp(PROMPT_ROWS_MIN, PROMPT_ROWS_MAX);
        let mut rows = Vec::new();
        for (cache, conversation) in active.iter().enumerate() {
            if !conversation.has_room() {
                continue;
            }
            let from = conversation.cached;
            if !conversation.is_reading() {
                rows.push(Row {
                    token: conversation.last,
                    position: from,
                    cache,
                    is_scored: true,
                });
                continue;
            }
            let prompt = &conversation.job.prompt;
            let piece = &prompt[from..prompt.len().min(from + prompt_rows)];
            prompt_rows -= piece.len();
            rows.extend(piece.iter().enumerate().map(|(at, &token)| Row {
                token,
                position: from + at,
                cache,
                is_scored: from + at + 1 == prompt.len(),
            }));
        }
        rows
    }

    /// Chooses and sends the next token; true if the answer is over.
    fn write(&self, conversation: &mut Active, scores: &mut [f32]) -> bool {
        let job = &mut conversation.job;
        // The room for these sends was seen before the step.
        let send = |events: &mpsc::Sender<_>, event| events.try_send(event).is_err();
        if scores.iter().any(|score| score.is_nan()) {
            send(&job.events, Err(EngineError::Scores));
            return true;
        }
        let untouched = job.logprobs.map(|_| scores.to_vec());
        let token = job.sampler.choose(scores);
        let done = |finish, written| {
            Ok(Event::Done {
                finish,
                completion_tokens: written,
            })
        };
        if self.tokenizer.is_end(token) {
            let text = job.text.finish();
            if !text.is_empty() {
                send(
                    &job.events,
                    Ok(Event::Token {
                        text,
                        logprobs: None,
                    }),
                );
            }
            send(&job.events, done(Finish::Stop, conversation.written));
            return true;
        }

        conversation.last = token;
        conversation.written += 1;
        let is_last = conversation.written >= job.tokens_max;
        let logprobs = match (job.logprobs, untouched) {
            (Some(top), Some(scores)) => Some(self.logprobs(&scores, token, top)),
            _ => None,
        };
        let (mut text, is_stopped) = match job.text.push(self.tokenizer.bytes(token)) {
            Progress::Text(text) => (text, false),
            Progress::Stopped(text) => (text, true),
        };
        if is_last && !is_stopped {
            text.push_str(&job.text.finish());
        }
        let mut is_gone = false;
        if !text.is_empty() || logprobs.is_some() {
            is_gone = send(&job.events, Ok(Event::Token { text, logprobs }));
        }
        if is_stopped || is_last {
            let finish = if is_stopped {
                Finish::Stop
            } else {
                Finish::Length
            };
            send(&job.events, done(finish, conversation.written));
            return true;
        }
        is_gone
    }

    fn logprobs(&self, scores: &[f32], token: u32, top: usize) -> TokenLogprobs {
        let (chosen, top) = sampler::logprobs(scores, token, top);
        let token_logprob = |id: u32, logprob: f32| TokenLogprob {
            id,
            bytes: self.tokenizer.bytes(id).to_vec(),
            logprob,
        };
        TokenLogprobs {
            chosen: token_logprob(token, chosen),
            top: top
                .iter()
                .map(|scored| token_logprob(scored.token, scored.logprob))
                .collect(),
        }
    }
}
