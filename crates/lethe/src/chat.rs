//! `lethe chat`: a chat on the terminal that shows who answered, how fast, and
//! for how much. Nothing of it is kept, unless `--keep` says so; see `history`.

use std::collections::BTreeMap;
use std::io::{BufRead, IsTerminal};
use std::time::Duration;

use market::{Address, Amount, Labels};
use openai::sse::Decoder;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use crate::client::{Client, ClientError, json as parsed};
use crate::history::{self, Chats, Conversation, HistoryError, Id, Kept, Key, Message, Role};
use crate::signals::Signals;
use crate::tokens::TokenViews;
use crate::{cli, clock, output};

/// What the gateway says at the end of a stream, in a comment.
#[derive(Debug, Deserialize)]
struct Tail {
    provider: String,
    token: Address,
    cost: Amount,
    input_tokens: u32,
    output_tokens: u32,
    ttft_ms: u64,
    token_us: Option<u64>,
    labels: Labels,
    /// Who had a part in it, where several had.
    #[serde(default)]
    parts: Vec<Part>,
}

/// What one of several providers had in an answer.
#[derive(Debug, Deserialize)]
struct Part {
    provider: String,
    /// None while its receipt is missing.
    cost: Option<Amount>,
}

/// What marks it.
const TAIL: &str = ": lethe ";
/// Which header of an answer says which request it is of.
const REQUEST: &str = "x-lethe-request";
/// Between two looks whether the receipt of an answer that was stopped is there.
const RECEIPT_LOOK: Duration = Duration::from_millis(100);
/// The most of them.
const RECEIPT_LOOKS: usize = 30;

impl Tail {
    /// Tokens a second, as the node saw them come in.
    fn speed(&self) -> Option<f64> {
        let each = Duration::from_micros(self.token_us.filter(|us| *us > 0)?);
        Some(each.as_secs_f64().recip())
    }

    /// Who answered, one after the other.
    fn providers(&self) -> impl Iterator<Item = &str> {
        let one = self.parts.is_empty().then_some(self.provider.as_str());
        let parts = self.parts.iter().map(|part| part.provider.as_str());
        one.into_iter().chain(parts)
    }

    /// Behind what it cost: that more may come.
    fn missing(&self) -> &'static str {
        match self.parts.iter().any(|part| part.cost.is_none()) {
            true => " and what the part costs whose receipt is still missing",
            false => "",
        }
    }

    /// In words: how soon, how fast, how much.
    fn figures(&self) -> String {
        let speed = self.speed();
        let speed = speed.map_or("–".to_owned(), |speed| format!("{speed:.0}"));
        format!(
            "first token {} ms · {speed} tokens/s · {} in, {} out",
            self.ttft_ms, self.input_tokens, self.output_tokens,
        )
    }
}

/// What a line of a chat on the terminal is.
#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    /// To be asked.
    Question(&'a str),
    /// It ends the chat.
    End,
    /// Something to say about it; nothing is sent.
    Help(String),
}

impl<'a> Line<'a> {
    fn of(text: &'a str) -> Self {
        const HELP: &str =
            "an empty line, /bye or Ctrl-D ends; begin with // to ask something that begins with /";
        let text = text.trim();
        if text.is_empty() {
            return Self::End;
        }
        if let Some(asked) = text.strip_prefix("//") {
            let slash = text.len() - asked.len() - 1;
            return Self::Question(&text[slash..]);
        }
        let word = text.split_whitespace().next().unwrap_or_default();
        match word.strip_prefix('/') {
            Some("bye" | "exit" | "quit" | "q") => Self::End,
            Some("help" | "?" | "h") => Self::Help(HELP.to_owned()),
            // A path is none: it has another slash.
            Some(name) if !name.contains('/') => {
                Self::Help(format!("no command {word}, and nothing was sent; {HELP}"))
            }
            _ => Self::Question(text),
        }
    }
}

/// Why a chat ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChatError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    History(#[from] HistoryError),
    #[error("{flag} encrypts what is kept, and nothing is kept here; add --keep or --continue ID")]
    NothingKept { flag: &'static str },
}

/// How an answer is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Shown {
    /// As it comes, with a line of figures.
    #[default]
    Text,
    /// One line when it is there.
    Json,
}

/// How much of a conversation goes with a question: as much as the model takes; and how the answer is to be.
#[derive(Debug, Default)]
struct Window {
    shown: Shown,
    /// The longest answer, in tokens, if somebody says so.
    answer_max: Option<u32>,
    /// Messages at the beginning that are sent no more.
    left_out: usize,
}

impl Window {
    /// A question and its answer.
    const TURN: usize = 2;

    fn of<'a>(&self, messages: &'a [Message]) -> &'a [Message] {
        &messages[self.left_out.min(messages.len())..]
    }

    /// Leaves the oldest turn out, and says so the first time. Whether one is
    /// left beside the question.
    fn narrows(&mut self, messages: &[Message]) -> bool {
        if self.left_out + Self::TURN >= messages.len() {
            return false;
        }
        if self.left_out == 0 && self.shown == Shown::Text {
            output::line(
                "  [the conversation is longer than the model takes: from here on its oldest turns are not sent]",
            );
        }
        self.left_out += Self::TURN;
        true
    }
}

/// Whether a request did not fit into the model's context.
fn is_too_long(error: &ClientError) -> bool {
    matches!(
        error,
        ClientError::Refused { code: Some(code), message, .. }
            if code == "model_refused" && message.contains("context")
    )
}

/// Where a conversation is kept.
struct Keeping {
    chats: Chats,
    kept: Kept,
    key: Key,
}

/// Chats until the input ends, or answers the one question. Whether that came to its end.
pub(crate) async fn chat(args: cli::Chat) -> Result<bool, ChatError> {
    let client = Client::of(args.data.folder.clone())?;
    let (mut conversation, mut keeping) = conversation(&client, &args).await?;
    let mut window = Window {
        answer_max: args.max_tokens,
        ..Window::default()
    };
    if let Some(question) = args.question {
        window.shown = match args.json {
            true => Shown::Json,
            false => Shown::Text,
        };
        return turn(
            &client,
            &mut conversation,
            &mut keeping,
            question,
            &mut window,
        )
        .await;
    }
    let prompts = std::io::stdin().is_terminal() && output::is_terminal();
    if prompts {
        output::line(format!(
            "{}. An empty line or Ctrl-D ends.",
            conversation.model
        ));
        for message in &conversation.messages {
            output::line(said(message));
        }
    }
    while let Some(question) = ask(prompts).await {
        let asked = turn(
            &client,
            &mut conversation,
            &mut keeping,
            question,
            &mut window,
        )
        .await;
        match asked {
            // The conversation is as it was before the question: it can be asked again.
            Err(ChatError::Client(error)) => {
                output::line(format!("  [{}]", output::with_causes(&error)));
            }
            // Ctrl-C within an answer stops that one; at the next question it ends the chat.
            Ok(true) => {}
            Ok(false) if prompts => {}
            ended => return ended,
        }
    }
    Ok(true)
}

/// The one to go on with, or a new one; and where it is kept, if it is.
async fn conversation(
    client: &Client,
    args: &cli::Chat,
) -> Result<(Conversation, Option<Keeping>), ChatError> {
    let chats = Chats::in_folder(client.chats.clone());
    if let Some(id) = &args.resume {
        let id = id.parse::<Id>().map_err(HistoryError::from)?;
        let key = history::unlocked(&chats, &args.unlock)?;
        let (mut conversation, kept) = chats.open(&id, &key)?;
        if let Some(model) = &args.model {
            conversation.model.clone_from(model);
        }
        return Ok((conversation, Some(Keeping { chats, kept, key })));
    }
    let keeping = match args.keep {
        true => {
            let key = history::unlocked_or_new(&chats, &args.unlock)?;
            let kept = chats.begin();
            Some(Keeping { chats, kept, key })
        }
        false => None,
    };
    if keeping.is_none()
        && let Some(flag) = args.unlock.flag()
    {
        return Err(ChatError::NothingKept { flag });
    }
    let model = match &args.model {
        Some(model) => model.clone(),
        None => usual_model(client).await?,
    };
    Ok((Conversation::begin(model, clock::now()), keeping))
}

/// One question, its answer, and both kept if that is wanted. Whether the
/// answer came to its end: one that was stopped is not kept, nor its question.
async fn turn(
    client: &Client,
    conversation: &mut Conversation,
    keeping: &mut Option<Keeping>,
    question: String,
    window: &mut Window,
) -> Result<bool, ChatError> {
    conversation.messages.push(Message {
        role: Role::User,
        content: question,
    });
    let shown = window.shown;
    let content = loop {
        let sent = window.of(&conversation.messages);
        match answer(client, &conversation.model, sent, window).await {
            Ok(Some(content)) => break content,
            Ok(None) => {
                conversation.messages.pop();
                return Ok(false);
            }
            Err(error) if is_too_long(&error) && window.narrows(&conversation.messages) => {}
            Err(error) => {
                conversation.messages.pop();
                return Err(error.into());
            }
        }
    };
    conversation.messages.push(Message {
        role: Role::Assistant,
        content,
    });
    conversation.changed = clock::now();
    if let Some(Keeping { chats, kept, key }) = keeping {
        let first = kept.is_new();
        chats.save(conversation, kept, key)?;
        if first && shown == Shown::Text {
            let id = &conversation.id;
            output::line(format!(
                "  [kept as {id}; `lethe chat{} --continue {id}` goes on]",
                client.data
            ));
        }
    }
    Ok(true)
}

/// A message as the terminal shows it.
pub(crate) fn said(message: &Message) -> String {
    let text = output::plain(&message.content);
    match message.role {
        Role::User => format!("> {text}"),
        Role::Assistant => text,
    }
}

async fn usual_model(client: &Client) -> Result<String, ClientError> {
    let list: Value = parsed(client.get("/v1/models").await?).await?;
    let mut models = list["data"].as_array().cloned().unwrap_or_default();
    models.retain(|model| model["kind"] != "embeddings");
    // What was asked last stays, whatever else comes on offer; what nobody sells at the moment comes last.
    let asked = told(client).await.unwrap_or_default().answers;
    let lives = |id: &str| {
        models
            .iter()
            .find(|one| one["id"] == id && one["live"] == true)
    };
    let last = asked.iter().find_map(|answer| lives(&answer.model));
    let live = last.or_else(|| models.iter().find(|model| model["live"] == true));
    let first = live.or(models.first());
    if let Some(id) = first.and_then(|model| model["id"].as_str()) {
        return Ok(id.to_owned());
    }
    // Says why there is nothing.
    client.get("/readyz").await?;
    Err(ClientError::Failed {
        message: "nothing is on offer yet; try again shortly".into(),
    })
}

/// The next line that is typed, or comes through a pipe: there nobody is prompted.
async fn ask(prompts: bool) -> Option<String> {
    loop {
        if prompts {
            output::text("> ");
        }
        let Some(line) = line().await else {
            // Ctrl-D leaves the cursor behind the prompt, and so does Ctrl-C.
            if prompts {
                output::line("");
            }
            return None;
        };
        match Line::of(&line) {
            Line::Question(question) => return Some(question.to_owned()),
            Line::End => return None,
            Line::Help(words) => output::line(format!("  [{}]", output::plain(&words))),
        }
    }
}

/// A line of standard input; none at its end, and where somebody wants to leave.
async fn line() -> Option<String> {
    let (told, read) = oneshot::channel();
    // It cannot be stopped at reading: it ends with a line, or with the program.
    std::thread::spawn(move || {
        let line = std::io::stdin().lock().lines().next();
        // Who left does not listen.
        let _ = told.send(line.and_then(Result::ok));
    });
    let mut signals = Signals::listen();
    tokio::select! {
        line = read => line.ok()?,
        () = signals.next() => None,
    }
}

/// Prints one answer as it comes, and what it was. None: somebody stopped it.
async fn answer(
    client: &Client,
    model: &str,
    messages: &[Message],
    window: &Window,
) -> Result<Option<String>, ClientError> {
    let mut body = json!({ "model": model, "stream": true, "messages": messages });
    if let Some(most) = window.answer_max {
        body["max_tokens"] = most.into();
    }
    let shown = window.shown;
    let mut reading = Reading::begin(shown);
    let mut signals = Signals::listen();
    let read = tokio::select! {
        read = reading.all(client, &body) => read,
        // The connection ends with it, and the work behind the answer.
        () = signals.next() => {
            reading.stopped(client).await;
            return Ok(None);
        }
    };
    read?;
    match shown {
        Shown::Text => {
            output::line("");
            report(client, &reading.raw).await;
        }
        Shown::Json => output::json(&reading.figures()),
    }
    Ok(Some(reading.text))
}

/// An answer as far as it came.
struct Reading {
    shown: Shown,
    started: Instant,
    /// The name of its request.
    request: Option<String>,
    /// What may be the node's word on it.
    raw: String,
    text: String,
    ttft: Option<Duration>,
}

impl Reading {
    fn begin(shown: Shown) -> Self {
        Self {
            shown,
            started: Instant::now(),
            request: None,
            raw: String::new(),
            text: String::new(),
            ttft: None,
        }
    }

    async fn all(&mut self, client: &Client, body: &Value) -> Result<(), ClientError> {
        let mut response = client.chat(body).await?;
        let request = response.headers().get(REQUEST);
        self.request = request.and_then(|it| Some(it.to_str().ok()?.to_owned()));
        let mut decoder = Decoder::new();
        while let Some(piece) = response.chunk().await.map_err(|_| ClientError::Cut)? {
            self.raw.push_str(&String::from_utf8_lossy(&piece));
            let keep = self.raw.rfind(TAIL).or_else(|| self.raw.rfind('\n'));
            self.raw.drain(..keep.unwrap_or(0));
            let broken = |message: String| ClientError::Failed { message };
            decoder.push(&piece);
            while let Some(event) = decoder.next().map_err(|error| broken(error.to_string()))? {
                if let Ok(chunk) = serde_json::from_slice::<Value>(&event.data) {
                    self.take(&chunk)?;
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, chunk: &Value) -> Result<(), ClientError> {
        if let Some(message) = chunk["error"]["message"].as_str() {
            if self.shown == Shown::Text {
                output::line("");
            }
            let message = message.to_owned();
            return Err(ClientError::Failed { message });
        }
        if let Some(delta) = chunk["choices"][0]["delta"]["content"].as_str() {
            self.ttft.get_or_insert_with(|| self.started.elapsed());
            if self.shown == Shown::Text {
                output::text(output::plain(delta));
            }
            self.text.push_str(delta);
        }
        Ok(())
    }

    /// Somebody stopped it: what is paid for it, once that is known.
    async fn stopped(&self, client: &Client) {
        if self.shown == Shown::Json {
            return;
        }
        output::line("");
        let Some(request) = &self.request else {
            output::line("  [stopped before it was taken]");
            return;
        };
        for _ in 0..RECEIPT_LOOKS {
            let told = told(client).await.unwrap_or_default();
            let found = told.answers.iter().find(|it| it.request == *request);
            if let Some(answered) = found {
                output::line(format!("  [stopped · {}]", told.paid(answered)));
                return;
            }
            sleep(RECEIPT_LOOK).await;
        }
        output::line(format!(
            "  [stopped; the provider's receipt is not here yet, `lethe top{}` shows whether it is paid]",
            client.data
        ));
    }

    /// The answer and its figures, for programs. Without a receipt its fields are null.
    fn figures(&self) -> Value {
        let tail = self.raw.lines().find_map(|line| line.strip_prefix(TAIL));
        let tail = tail.and_then(|tail| serde_json::from_str::<Value>(tail).ok());
        json!({
            "answer": self.text,
            "first_token_ms": self.ttft.map(|ttft| u64::try_from(ttft.as_millis()).unwrap_or(u64::MAX)),
            "duration_ms": u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            "receipt": tail,
        })
    }
}

/// What the node says of itself, as far as an answer's line needs it.
#[derive(Default, Deserialize)]
struct Told {
    /// Only a demonstration has names.
    #[serde(default)]
    names: BTreeMap<String, String>,
    #[serde(default)]
    tokens: TokenViews,
    /// The last ones, latest first.
    #[serde(default)]
    answers: Vec<Answered>,
}

/// What an answer was, and what it cost.
#[derive(Deserialize)]
struct Answered {
    request: String,
    model: String,
    provider: String,
    token: Address,
    cost: Amount,
    input_tokens: u32,
    output_tokens: u32,
}

async fn told(client: &Client) -> Option<Told> {
    parsed(client.get("/api/state").await.ok()?).await.ok()
}

impl Told {
    /// What the node calls a provider.
    fn name_of(&self, provider: &str) -> Option<String> {
        let mut all = self.names.iter();
        let (_, name) = all.find(|(address, _)| address.eq_ignore_ascii_case(provider))?;
        Some(output::plain(name))
    }

    /// A provider, with its name if it has one.
    fn provider(&self, provider: &str) -> String {
        let account = output::account(provider);
        match self.name_of(provider) {
            Some(name) => format!("{name} {account}"),
            None => account,
        }
    }

    /// In words: to whom, for what, how much.
    fn paid(&self, answered: &Answered) -> String {
        let token = self.tokens.get(answered.token);
        format!(
            "{} · {} in, {} out · {}{}",
            self.provider(&answered.provider),
            answered.input_tokens,
            answered.output_tokens,
            token.shown(answered.cost),
            token.worth(answered.cost),
        )
    }
}

async fn report(client: &Client, raw: &str) {
    let tail = raw.lines().find_map(|line| line.strip_prefix(TAIL));
    let Some(tail) = tail.and_then(|tail| serde_json::from_str::<Tail>(tail).ok()) else {
        return;
    };
    let told = told(client).await.unwrap_or_default();
    let token = told.tokens.get(tail.token);
    let providers: Vec<_> = tail
        .providers()
        .map(|provider| told.provider(provider))
        .collect();
    output::line(format!(
        "  [{} · {} · {}{}{} · {}]",
        providers.join(", then "),
        tail.figures(),
        token.shown(tail.cost),
        token.worth(tail.cost),
        tail.missing(),
        tail.labels,
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_no_question_is_not_asked() {
        for (text, question) in [
            (" What is a cat? ", "What is a cat?"),
            ("/etc/hosts is what?", "/etc/hosts is what?"),
            ("//help me", "/help me"),
        ] {
            assert_eq!(Line::of(text), Line::Question(question));
        }
        for text in ["", "  ", "/bye", "/quit"] {
            assert_eq!(Line::of(text), Line::End, "{text}");
        }
        for text in ["/help", "/", "/modle tiny"] {
            assert!(matches!(Line::of(text), Line::Help(_)), "{text}");
        }
    }

    #[test]
    fn the_speed_is_what_the_node_measured_if_it_did() {
        let figures = |token_us: Option<u64>| {
            let tail = json!({
                "provider": "0xaa", "token": Address::ZERO, "cost": "1", "input_tokens": 43, "output_tokens": 12,
                "ttft_ms": 50, "token_us": token_us,
                "labels": { "network": "direct", "payer": "wallet", "upstream": "own-engine" },
            });
            serde_json::from_value::<Tail>(tail).unwrap().figures()
        };
        assert_eq!(
            figures(Some(3636)),
            "first token 50 ms · 275 tokens/s · 43 in, 12 out"
        );
        assert_eq!(
            figures(None),
            "first token 50 ms · – tokens/s · 43 in, 12 out"
        );
    }

    #[test]
    fn an_answer_of_several_names_them_all_and_says_what_is_missing() {
        let tail = |parts: Value| {
            let tail = json!({
                "provider": "0xbb", "token": Address::ZERO, "cost": "103", "input_tokens": 56, "output_tokens": 300,
                "ttft_ms": 50, "parts": parts,
                "labels": { "network": "direct", "payer": "wallet", "upstream": "own-engine" },
            });
            serde_json::from_value::<Tail>(tail).unwrap()
        };
        let part = |provider: &str, cost: Value| json!({ "provider": provider, "cost": cost });
        let one = tail(json!([]));
        assert_eq!(one.providers().collect::<Vec<_>>(), ["0xbb"]);
        let known = tail(json!([
            part("0xaa", "17".into()),
            part("0xbb", "86".into())
        ]));
        assert_eq!(known.providers().collect::<Vec<_>>(), ["0xaa", "0xbb"]);
        assert_eq!((one.missing(), known.missing()), ("", ""));
        let lost = tail(json!([
            part("0xaa", Value::Null),
            part("0xbb", "86".into())
        ]));
        assert!(lost.missing().contains("missing"));
    }

    #[test]
    fn the_oldest_turns_go_first_and_the_question_never() {
        let message = |n: usize| Message {
            role: match n % 2 {
                0 => Role::User,
                _ => Role::Assistant,
            },
            content: n.to_string(),
        };
        // Two turns, and a question.
        let messages: Vec<_> = (0..5).map(message).collect();
        let mut window = Window::default();
        let firsts = |window: &Window| window.of(&messages)[0].content.clone();
        assert_eq!(firsts(&window), "0");
        assert!(window.narrows(&messages));
        assert_eq!(firsts(&window), "2");
        assert!(window.narrows(&messages));
        assert_eq!(firsts(&window), "4");
        assert!(!window.narrows(&messages));
        assert_eq!(firsts(&window), "4");
    }
}
