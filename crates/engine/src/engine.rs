//! The handle that the rest of the program holds.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc as channel};
use std::thread::JoinHandle;

use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, mpsc};

use crate::answer::Answer;
use crate::card::{self, Card};
use crate::gguf::{Contents, FormatError, Value};
use crate::guard::Guards;
use crate::kernel::Level;
use crate::model::{Config, ConfigError, File, Model, WeightError};
use crate::request::{PARAMETERS, Problem, Request, TOOLS};
use crate::sampler::Sampler;
use crate::template::{Clock, Prompt, Template, TemplateError};
use crate::text::TextStream;
use crate::tokenizer::{Tokenizer, TokenizerError};
use crate::worker::{self, Job, Pool, Worker};

/// More than this at a time is no sensible wish.
const SLOTS_MAX: usize = 256;
const THREADS_MAX: usize = 512;
const QUEUE_MAX: usize = 65_536;
/// Text of a request beyond this many bytes per position cannot fit.
const BYTES_PER_TOKEN_MAX: usize = 64;

/// Where a file says at which temperature it wants to be sampled.
const TEMPERATURE: &str = "general.sampling.temp";

/// How an engine runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// Requests that are computed at a time; at least 1.
    pub slots: usize,
    /// Threads that large products are split over; at least 1.
    pub threads: usize,
    /// Requests that may wait beyond the slots.
    pub queue: usize,
    /// Longest context to grant; the file's own length if that is shorter.
    pub context_max: usize,
    /// Tells the date to templates that ask; without one they get none.
    pub clock: Option<Clock>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            slots: 4,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            queue: 16,
            context_max: 8192,
            clock: None,
        }
    }
}

/// Why a file could not be opened as a model.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file could not be read.
    #[error("model file could not be read")]
    Read {
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The bytes are not a sound GGUF file.
    #[error("model file is damaged or of another format")]
    Format {
        /// What is wrong.
        #[source]
        source: FormatError,
    },
    /// The network is not one that can be run.
    #[error("model cannot be run")]
    Config {
        /// What is wrong.
        #[source]
        source: ConfigError,
    },
    /// The tokenizer is not one that can be used.
    #[error("model's tokenizer cannot be used")]
    Tokenizer {
        /// What is wrong.
        #[source]
        source: TokenizerError,
    },
    /// The weights do not fit the network.
    #[error("model's weights do not fit")]
    Weights {
        /// What is wrong.
        #[source]
        source: WeightError,
    },
    /// The chat template is missing or broken.
    #[error("model's chat template cannot be used")]
    Template {
        /// What is wrong.
        #[source]
        source: TemplateError,
    },
    /// The worker threads could not be started.
    #[error("engine threads could not be started")]
    Threads {
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// An option is out of range.
    #[error("option {option} is {value}, allowed is {min} to {max}")]
    Option {
        /// Its name.
        option: &'static str,
        /// What was given.
        value: usize,
        /// Least.
        min: usize,
        /// Most.
        max: usize,
    },
}

/// Why a request gets no answer.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// A field that cannot be honoured.
    #[error("{field} {problem}")]
    BadRequest {
        /// Where, as in `messages[0].role`.
        field: String,
        /// What is wrong with it and what is allowed.
        problem: String,
    },
    /// All slots and the queue are taken.
    #[error("all {slots} slots and {queue} places in the queue are taken; try again shortly")]
    Busy {
        /// How many are computed at a time.
        slots: usize,
        /// How many may wait.
        queue: usize,
    },
    /// The messages alone fill the context.
    #[error(
        "the messages have {tokens} tokens or more, which leaves no room in a context of {context}; shorten them"
    )]
    TooLong {
        /// How many they have, or at least have.
        tokens: usize,
        /// How many there are.
        context: usize,
    },
    /// The template broke on these messages.
    #[error("the messages could not be rendered")]
    Template {
        /// What it said.
        #[source]
        source: TemplateError,
    },
    /// The engine is closing.
    #[error("the engine is closed")]
    Closed,
}

impl From<Problem> for ChatError {
    fn from(Problem { field, problem }: Problem) -> Self {
        Self::BadRequest { field, problem }
    }
}

/// A loaded model with the threads that run it. Clones share both; the last
/// one to go stops the threads and waits for them.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("card", &self.inner.front.card)
            .finish_non_exhaustive()
    }
}

struct Inner {
    front: Arc<Front>,
    slots: usize,
    queue: usize,
    places: Arc<Semaphore>,
    /// `None` only while closing.
    jobs: Option<channel::SyncSender<Job>>,
    worker: Mutex<Option<JoinHandle<()>>>,
    is_closing: Arc<AtomicBool>,
}

/// What turns a request into a job; needs no thread of its own.
struct Front {
    card: Card,
    context: usize,
    tokenizer: Arc<Tokenizer>,
    template: Template,
    guards: Guards,
    /// For requests that say none: what the file recommends, else 1.
    temperature: f32,
}

impl Engine {
    /// Opens a model file.
    pub fn open(path: &Path, options: Options) -> Result<Self, LoadError> {
        let bytes = read_file(path).map_err(|source| LoadError::Read { source })?;
        Self::load(File::Owned(Arc::new(bytes)), &options)
    }

    /// Opens a model that is already in memory.
    pub fn from_bytes(bytes: Arc<[u8]>, options: Options) -> Result<Self, LoadError> {
        Self::load(File::Shared(bytes), &options)
    }

    /// Opens a model that is part of the program, without copying it.
    pub fn from_static(bytes: &'static [u8], options: Options) -> Result<Self, LoadError> {
        Self::load(File::Static(bytes), &options)
    }

    fn load(file: File, options: &Options) -> Result<Self, LoadError> {
        options.check()?;
        let contents = Contents::read(&file).map_err(|source| LoadError::Format { source })?;
        let config = Config::read(&contents).map_err(|source| LoadError::Config { source })?;
        let tokenizer = Tokenizer::load(&contents, config.architecture.name())
            .map_err(|source| LoadError::Tokenizer { source })?;
        let context = config.context.min(options.context_max);
        let source = card::template(&contents);
        let chatml = tokenizer.has_control("<|im_start|>") && tokenizer.has_control("<|im_end|>");
        let edges = (tokenizer.bos_text(), tokenizer.eos_text());
        let template = Template::new(source, chatml, edges, options.clock)
            .map_err(|source| LoadError::Template { source })?;
        let vocabulary = tokenizer.vocabulary_size();
        let model = Model::load(
            &file,
            &contents,
            config,
            vocabulary,
            context,
            Level::detect(),
        )
        .map_err(|source| LoadError::Weights { source })?;
        let recommended = contents.metadata.get(TEMPERATURE).and_then(Value::as_f32);
        let temperature = recommended
            .filter(|t| (0.0..=2.0).contains(t))
            .unwrap_or(1.0);
        let card = Card::new(&contents, &model, context, Sha256::digest(&*file).into());
        let guards = Guards::new(tokenizer.control_texts());
        let front = Front {
            card,
            context,
            tokenizer: Arc::new(tokenizer),
            template,
            guards,
            temperature,
        };
        Self::start(front, model, options)
    }

    fn start(front: Front, model: Model, options: &Options) -> Result<Self, LoadError> {
        let threads = |source: std::io::Error| LoadError::Threads { source };
        let pool = match options.threads {
            1 => None,
            count => Some(Pool::new(count).map_err(|error| threads(std::io::Error::other(error)))?),
        };
        let places = options.slots + options.queue;
        let (sender, jobs) = channel::sync_channel(places);
        let is_closing = Arc::new(AtomicBool::new(false));
        let worker = Worker {
            model: Arc::new(model),
            tokenizer: Arc::clone(&front.tokenizer),
            pool,
            slots: options.slots,
            jobs,
            is_closing: Arc::clone(&is_closing),
        };
        let handle = std::thread::Builder::new()
            .name("engine".to_owned())
            .spawn(|| worker.run())
            .map_err(threads)?;
        Ok(Self {
            inner: Arc::new(Inner {
                front: Arc::new(front),
                slots: options.slots,
                queue: options.queue,
                places: Arc::new(Semaphore::new(places)),
                jobs: Some(sender),
                worker: Mutex::new(Some(handle)),
                is_closing,
            }),
        })
    }

    /// What the model is.
    pub fn card(&self) -> &Card {
        &self.inner.front.card
    }

    /// Fields of a request that it heeds; tools only if the model's template knows any.
    pub fn parameters(&self) -> Vec<String> {
        let takes_tools = self.inner.front.template.takes_tools();
        let heeds = |field: &&str| takes_tools || !TOOLS.contains(field);
        let fields = PARAMETERS.iter().copied().filter(heeds);
        fields.map(str::to_owned).collect()
    }

    /// Starts an answer to an OpenAI chat body, or says at once why not.
    ///
    /// Fields that this engine does not know are ignored. Dropping the answer
    /// stops the work.
    pub async fn chat(&self, request: &serde_json::Value) -> Result<Answer, ChatError> {
        let inner = &self.inner;
        let place = Arc::clone(&inner.places)
            .try_acquire_owned()
            .map_err(|_| ChatError::Busy {
                slots: inner.slots,
                queue: inner.queue,
            })?;
        let front = Arc::clone(&inner.front);
        let says_none = request
            .get("temperature")
            .is_none_or(serde_json::Value::is_null);
        let mut request = Request::read(request)?;
        if says_none {
            request.sampling.temperature = front.temperature;
        }
        // Long messages take a while to render and cut into tokens.
        let prepared = tokio::task::spawn_blocking(move || front.prepare(request)).await;
        let prepared = prepared.map_err(|_| ChatError::Closed)??;

        let (sender, events) = mpsc::channel(worker::EVENTS_AHEAD);
        let Prepared {
            prompt,
            tokens_max,
            request,
        } = prepared;
        let prompt_tokens = u32::try_from(prompt.len()).unwrap_or(u32::MAX);
        let job = Job {
            prompt,
            tokens_max,
            sampler: Sampler::new(request.sampling),
            text: TextStream::new(request.stops),
            logprobs: request.logprobs,
            events: sender,
            place,
        };
        let jobs = inner.jobs.as_ref().ok_or(ChatError::Closed)?;
        // There is room for as many jobs as there are places.
        jobs.try_send(job).map_err(|_| ChatError::Closed)?;
        Ok(Answer {
            prompt_tokens,
            events,
            is_over: false,
        })
    }
}

/// The bytes of a regular file; a pipe or a device might never end.
fn read_file(path: &Path) -> std::io::Result<Vec<u8>> {
    if std::fs::metadata(path)?.is_file() {
        std::fs::read(path)
    } else {
        Err(std::io::Error::new(
            std::io::ErrorKind::InvalidInput,
            "not a regular file",
        ))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.is_closing.store(true, Ordering::Relaxed);
        self.jobs = None;
        let handle = self.worker.get_mut().ok().and_then(Option::take);
        if let Some(handle) = handle
            && handle.join().is_err()
        {
            tracing::error!("the engine's thread had panicked");
        }
    }
}

impl Options {
    fn check(&self) -> Result<(), LoadError> {
        let limits = [
            ("slots", self.slots, 1, SLOTS_MAX),
            ("threads", self.threads, 1, THREADS_MAX),
            ("queue", self.queue, 0, QUEUE_MAX),
            ("context_max", self.context_max, 2, usize::MAX),
        ];
        for (option, value, min, max) in limits {
            if !(min..=max).contains(&value) {
                return Err(LoadError::Option {
                    option,
                    value,
                    min,
                    max,
                });
            }
        }
        Ok(())
    }
}

/// A request that is ready to be computed.
struct Prepared {
    prompt: Vec<u32>,
    tokens_max: u32,
    request: Request,
}

impl Front {
    fn prepare(&self, mut request: Request) -> Result<Prepared, ChatError> {
        if request.tools.is_some() && !self.template.takes_tools() {
            return Err(ChatError::BadRequest {
                field: "tools".to_owned(),
                problem:
                    "cannot be passed on: this model's chat template knows no tools; leave the field out, or choose a model that knows them"
                        .to_owned(),
            });
        }
        let text = self.render(&mut request)?;
        let begun = request.begun.take().unwrap_or_default();
        // Before tokens are counted, so that a huge text costs nothing.
        let bytes = text.0.len() + begun.len();
        if bytes / BYTES_PER_TOKEN_MAX > self.context {
            return Err(ChatError::TooLong {
                tokens: bytes / BYTES_PER_TOKEN_MAX,
                context: self.context,
            });
        }
        let mut prompt = self.tokenizer.encode_rendered(&text.0, &text.1);
        self.tokenizer.encode_begun(&begun, &mut prompt);
        if prompt.len() >= self.context {
            return Err(ChatError::TooLong {
                tokens: prompt.len(),
                context: self.context,
            });
        }
        if prompt.is_empty() {
            return Err(ChatError::BadRequest {
                field: "messages".to_owned(),
                problem: "render to no tokens; say something".to_owned(),
            });
        }
        let left = u32::try_from(self.context - prompt.len()).unwrap_or(u32::MAX);
        Ok(Prepared {
            tokens_max: request.tokens_max.unwrap_or(u32::MAX).min(left),
            prompt,
            request,
        })
    }

    /// The text of the conversation, with a user's words under guard.
    fn render(&self, request: &mut Request) -> Result<(String, crate::guard::Guard), ChatError> {
        let extra = request
            .template_variables
            .take()
            .map(serde_json::Value::Object);
        let outside = request.messages.iter().chain(&request.tools).chain(&extra);
        let guard = self.guards.choose(outside).ok_or_else(|| ChatError::BadRequest {
            field: "messages".to_owned(),
            problem: "use every code point from U+FDD0 to U+FDEF, which are not characters; leave one out".to_owned(),
        })?;
        let mut extra = extra;
        let armed = request
            .messages
            .iter_mut()
            .chain(&mut request.tools)
            .chain(&mut extra);
        for value in armed {
            self.guards.arm(value, guard);
        }
        let prompt = Prompt {
            messages: &request.messages,
            tools: request.tools.as_ref(),
            extra: extra.as_ref().and_then(serde_json::Value::as_object),
        };
        let text = self.template.render(&prompt).map_err(|error| match error {
            TemplateError::Refused { message } => ChatError::BadRequest {
                field: "messages".to_owned(),
                problem: format!(
                    "are refused by the model's chat template: {}",
                    guard.lift(&message)
                ),
            },
            source => ChatError::Template { source },
        })?;
        Ok((text, guard))
    }
}
