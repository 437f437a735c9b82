//! `lethe chat`: a chat on the terminal that shows who answered, how fast, and
//! for how much. Nothing of it is kept, unless `--keep` says so; see `history`.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::time::Duration;

use market::{Address, Amount, Labels};
use openai::sse::Decoder;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::client::{Client, ClientError, json as parsed};
use crate::history::{self, Chats, Conversation, HistoryError, Id, Kept, Key, Message, Role};
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
}

/// What marks it.
const TAIL: &str = ": lethe ";

impl Tail {
    /// Tokens a second, as the node saw them come in.
    fn speed(&self) -> Option<f64> {
        let each = Duration::from_micros(self.token_us.filter(|us| *us > 0)?);
        Some(each.as_secs_f64().recip())
    }

    /// In words: how soon, how fast, how much.
    fn figures(&self) -> String {
        let speed = self.speed();
        let speed = speed.map(|speed| format!("{speed:.0} tokens/s · "));
        format!(
            "first token {} ms · {}{} in, {} out",
            self.ttft_ms,
            speed.unwrap_or_default(),
            self.input_tokens,
            self.output_tokens,
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

/// How much of a conversation goes with a question: as much as the model takes.
#[derive(Debug, Default)]
struct Window {
    shown: Shown,
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

/// Chats until the input ends, or answers the one question.
pub(crate) async fn chat(args: cli::Chat) -> Result<(), ChatError> {
    let client = Client::of(args.data.folder.clone())?;
    let (mut conversation, mut keeping) = conversation(&client, &args).await?;
    let mut window = Window::default();
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
    output::line(format!(
        "{}. An empty line or Ctrl-D ends.",
        conversation.model
    ));
    for message in &conversation.messages {
        output::line(said(message));
    }
    while let Some(question) = ask().await {
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
            ended => ended?,
        }
    }
    Ok(())
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

/// One question, its answer, and both kept if that is wanted.
async fn turn(
    client: &Client,
    conversation: &mut Conversation,
    keeping: &mut Option<Keeping>,
    question: String,
    window: &mut Window,
) -> Result<(), ChatError> {
    conversation.messages.push(Message {
        role: Role::User,
        content: question,
    });
    let shown = window.shown;
    let content = loop {
        let sent = window.of(&conversation.messages);
        match answer(client, &conversation.model, sent, shown).await {
            Ok(content) => break content,
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
    Ok(())
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

/// The next line that the user types.
async fn ask() -> Option<String> {
    loop {
        output::text("> ");
        let line = tokio::task::spawn_blocking(|| std::io::stdin().lock().lines().next()).await;
        let line = line.ok()??.ok()?;
        match Line::of(&line) {
            Line::Question(question) => return Some(question.to_owned()),
            Line::End => return None,
            Line::Help(words) => output::line(format!("  [{}]", output::plain(&words))),
        }
    }
}

/// Prints one answer as it comes, and what it was.
async fn answer(
    client: &Client,
    model: &str,
    messages: &[Message],
    shown: Shown,
) -> Result<String, ClientError> {
    let body = json!({ "model": model, "stream": true, "messages": messages });
    let started = Instant::now();
    let mut response = client.chat(&body).await?;
    let (mut decoder, mut raw, mut text, mut ttft) =
        (Decoder::new(), String::new(), String::new(), None);
    while let Some(piece) = response.chunk().await.map_err(|_| ClientError::Cut)? {
        raw.push_str(&String::from_utf8_lossy(&piece));
        let keep = raw.rfind(TAIL).or_else(|| raw.rfind('\n')).unwrap_or(0);
        raw.drain(..keep);
        let broken = |message: String| ClientError::Failed { message };
        decoder.push(&piece);
        while let Some(event) = decoder.next().map_err(|error| broken(error.to_string()))? {
            let Ok(chunk) = serde_json::from_slice::<Value>(&event.data) else {
                continue;
            };
            if let Some(message) = chunk["error"]["message"].as_str() {
                if shown == Shown::Text {
                    output::line("");
                }
                return Err(broken(message.to_owned()));
            }
            if let Some(delta) = chunk["choices"][0]["delta"]["content"].as_str() {
                ttft.get_or_insert_with(|| started.elapsed());
                if shown == Shown::Text {
                    output::text(output::plain(delta));
                }
                text.push_str(delta);
            }
        }
    }
    match shown {
        Shown::Text => {
            output::line("");
            report(client, &raw).await;
        }
        Shown::Json => output::json(&figures(&text, &raw, started, ttft)),
    }
    Ok(text)
}

/// The answer and its figures, for programs. Without a receipt its fields are null.
fn figures(text: &str, raw: &str, started: Instant, ttft: Option<std::time::Duration>) -> Value {
    let tail = raw.lines().find_map(|line| line.strip_prefix(TAIL));
    let tail = tail.and_then(|tail| serde_json::from_str::<Value>(tail).ok());
    json!({
        "answer": text,
        "first_token_ms": ttft.map(|ttft| u64::try_from(ttft.as_millis()).unwrap_or(u64::MAX)),
        "duration_ms": u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        "receipt": tail,
    })
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

/// Of which model an answer was.
#[derive(Deserialize)]
struct Answered {
    model: String,
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
}

async fn report(client: &Client, raw: &str) {
    let tail = raw.lines().find_map(|line| line.strip_prefix(TAIL));
    let Some(tail) = tail.and_then(|tail| serde_json::from_str::<Tail>(tail).ok()) else {
        return;
    };
    let told = told(client).await.unwrap_or_default();
    let token = told.tokens.get(tail.token);
    let provider = match told.name_of(&tail.provider) {
        Some(name) => format!("{name} {}", tail.provider),
        None => tail.provider.clone(),
    };
    output::line(format!(
        "  [{provider} · {} · {}{} · {}]",
        tail.figures(),
        token.shown(tail.cost),
        token.worth(tail.cost),
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
        assert_eq!(figures(None), "first token 50 ms · 43 in, 12 out");
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
