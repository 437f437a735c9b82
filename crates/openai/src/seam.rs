//! An answer that somebody else goes on with after the first broke off.
//!
//! What the client was told so far is kept as it came and read only when it is
//! needed ([`Partial`]). It is put behind the request as the beginning of the
//! assistant's message ([`ChatRequest::resumed`]), the way vLLM, SGLang and
//! llama.cpp take it, and what comes then is made to fit ([`Seam`]): the same
//! id, no text twice, one usage.
//!
//! Not everything can be gone on with: calls of tools are not text, and what a
//! model thought is not given back to it. Such parts are said anew, and the
//! client must not have been told of them.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::chat::ChatRequest;
use crate::{Aggregate, ScanError, scan};

/// The most JSON of an answer that is kept for going on with it. About 20,000
/// tokens; what is longer breaks off where it breaks off.
pub const PARTIAL_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Text that is said again is left out if it is at least so long; shorter
/// pieces may be meant.
pub const OVERLAP_BYTES_MIN: usize = 48;

/// What a client was told of an answer, chunk by chunk.
#[derive(Debug, Clone, Default)]
pub struct Partial {
    chunks: Vec<Bytes>,
    bytes: usize,
}

/// Why an answer cannot be gone on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnresumableError {
    /// More than is kept.
    #[error("it was longer than {PARTIAL_BYTES_MAX} bytes, of which no more is kept")]
    TooLong,
    /// A call of a tool was under way, and the client has a part of it.
    #[error("a part of a tool call was passed on, which cannot be gone on with")]
    Calls,
    /// The output follows a grammar from its first character on.
    #[error("its response_format is followed from the first character on")]
    Format,
    /// The request ends with words of the assistant that are complete.
    #[error("the request itself ends with a message of the assistant")]
    LastMessage,
    /// It is not made of chunks.
    #[error("what came of it cannot be read")]
    Unreadable,
}

/// How it goes on.
#[derive(Debug, Clone)]
pub enum Resumed {
    /// By this request.
    Ask(Box<ChatRequest>, Seam),
    /// All of it has come. If nobody said so yet, this chunk does.
    Over(Option<Bytes>),
}

/// What was told, read.
#[derive(Debug, Default)]
struct Told {
    id: String,
    model: String,
    created: Value,
    text: String,
    calls: bool,
    finished: bool,
}

impl Partial {
    /// A chunk is passed on to the client.
    pub fn push(&mut self, json: &Bytes) {
        self.bytes = self.bytes.saturating_add(json.len());
        match self.bytes <= PARTIAL_BYTES_MAX {
            true => self.chunks.push(json.clone()),
            // Nothing of it will be needed.
            false => self.chunks = Vec::new(),
        }
    }

    fn read(&self) -> Result<Told, UnresumableError> {
        if self.bytes > PARTIAL_BYTES_MAX {
            return Err(UnresumableError::TooLong);
        }
        if self.chunks.is_empty() {
            return Ok(Told::default());
        }
        let unreadable = |_| UnresumableError::Unreadable;
        let mut whole = Aggregate::new();
        let mut finished = false;
        for chunk in &self.chunks {
            whole
                .push(chunk)
                .map_err(|_| UnresumableError::Unreadable)?;
            finished |= scan(chunk).map_err(unreadable)?.finished;
        }
        let mut whole = whole.finish().map_err(|_| UnresumableError::Unreadable)?;
        let mut word = |name: &str| match whole.remove(name) {
            Some(Value::String(text)) => text,
            _ => String::new(),
        };
        let (id, model) = (word("id"), word("model"));
        let created = whole.remove("created").unwrap_or(Value::Null);
        let message = &whole["choices"][0]["message"];
        let said = |name: &str| !message.get(name).is_none_or(Value::is_null);
        let text = match &message["content"] {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            _ => return Err(UnresumableError::Unreadable),
        };
        if said("refusal") || said("audio") {
            return Err(UnresumableError::Unreadable);
        }
        Ok(Told {
            id,
            model,
            created,
            text,
            calls: said("tool_calls") || said("function_call"),
            finished,
        })
    }
}

impl ChatRequest {
    /// The request with what was told of its answer, `tokens` by the count of
    /// those who said it.
    pub fn resumed(&self, partial: &Partial, tokens: u32) -> Result<Resumed, UnresumableError> {
        let told = partial.read()?;
        if told.finished {
            return Ok(Resumed::Over(None));
        }
        if told.calls {
            return Err(UnresumableError::Calls);
        }
        if !told.text.is_empty() && self.is_constrained() {
            return Err(UnresumableError::Format);
        }
        let left = self
            .max_output_tokens()
            .map(|most| most.saturating_sub(tokens));
        if left == Some(0) {
            return Ok(Resumed::Over(Some(told.last_word())));
        }
        let request = match told.text.is_empty() {
            true => self.clone(),
            false => {
                let begun = self.begun(&told.text, left);
                begun.ok_or(UnresumableError::LastMessage)?
            }
        };
        let seam = Seam {
            id: told.id,
            model: told.model,
            created: told.created,
            told: told.text,
            held: Some(String::new()),
            tokens,
        };
        Ok(Resumed::Ask(Box::new(request), seam))
    }
}

impl Told {
    /// As many tokens as were asked for have come.
    fn last_word(&self) -> Bytes {
        let chunk = json!({
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "choices": [{ "index": 0, "delta": {}, "finish_reason": "length" }],
        });
        chunk.to_string().into()
    }
}

/// Where one answer becomes the other.
#[derive(Debug, Clone)]
pub struct Seam {
    id: String,
    model: String,
    created: Value,
    told: String,
    /// The first words behind the seam, as long as they may be the last ones
    /// before it.
    held: Option<String>,
    tokens: u32,
}

impl Seam {
    /// Whether the client has text that the new answer goes on from.
    pub fn is_within(&self) -> bool {
        !self.told.is_empty()
    }

    /// A chunk of the new answer, as the client is to get it; none if it has
    /// nothing for it.
    pub fn join(&mut self, json: &[u8]) -> Result<Option<Bytes>, ScanError> {
        let mut chunk: Map<String, Value> = crate::scan::parse_object(json)?;
        if !self.id.is_empty() {
            chunk.insert("id".into(), self.id.as_str().into());
            chunk.insert("model".into(), self.model.as_str().into());
            chunk.insert("created".into(), self.created.clone());
        }
        let mut says = false;
        if let Some(usage) = chunk.get_mut("usage").and_then(Value::as_object_mut) {
            self.count(usage);
            says = true;
        }
        let choices = chunk.get_mut("choices").and_then(Value::as_array_mut);
        for choice in choices.into_iter().flatten() {
            let over = !choice.get("finish_reason").is_none_or(Value::is_null);
            let delta = choice.get_mut("delta").and_then(Value::as_object_mut);
            let Some(delta) = delta else { continue };
            // The client has them, or has those of the first.
            for name in ["role", "reasoning_content", "reasoning"] {
                delta.remove(name);
            }
            self.fit(delta, over);
            says |= over || !delta.is_empty();
        }
        Ok(says.then(|| Value::Object(chunk).to_string().into()))
    }

    fn fit(&mut self, delta: &mut Map<String, Value>, over: bool) {
        let said = match delta.get("content") {
            Some(Value::String(text)) => text.clone(),
            _ => String::new(),
        };
        let calls = ["tool_calls", "function_call"]
            .iter()
            .any(|name| delta.contains_key(*name));
        let fresh = self.fresh(&said, over || calls);
        match fresh.is_empty() {
            true => delta.remove("content"),
            false => delta.insert("content".into(), fresh.into()),
        };
    }

    /// What of the text is new.
    fn fresh(&mut self, said: &str, over: bool) -> String {
        let Some(held) = &mut self.held else {
            return said.to_owned();
        };
        held.push_str(said);
        match repeated(&self.told, held) {
            Repeated::Perhaps if !over => String::new(),
            Repeated::Perhaps | Repeated::No => self.held.take().unwrap_or_default(),
            Repeated::Yes { bytes } => {
                let mut held = self.held.take().unwrap_or_default();
                held.drain(..bytes);
                held
            }
        }
    }

    /// The beginning was a part of the request here, and was an answer to the client.
    fn count(&self, usage: &mut Map<String, Value>) {
        let count = |usage: &Map<String, Value>, name| usage.get(name).and_then(Value::as_u64);
        let before = u64::from(self.tokens);
        if let Some(prompt) = count(usage, "prompt_tokens")
            && let Some(completion) = count(usage, "completion_tokens")
        {
            let prompt = match self.told.is_empty() {
                true => prompt,
                false => prompt.saturating_sub(before),
            };
            let completion = completion.saturating_add(before);
            usage.insert("prompt_tokens".into(), prompt.into());
            usage.insert("completion_tokens".into(), completion.into());
            usage.insert(
                "total_tokens".into(),
                prompt.saturating_add(completion).into(),
            );
        }
    }
}

enum Repeated {
    No,
    /// It cannot be told yet.
    Perhaps,
    Yes {
        bytes: usize,
    },
}

/// Whether `said` begins with the end of what was `told`. Only a piece that
/// stands there once counts: what a model repeats by itself is meant.
fn repeated(told: &str, said: &str) -> Repeated {
    let head = floor(said, OVERLAP_BYTES_MIN);
    let find = |from: usize| {
        let rest = told.as_bytes().get(from..)?;
        Some(from + memchr::memmem::find(rest, head.as_bytes())?)
    };
    let first = find(0);
    if head.len() < OVERLAP_BYTES_MIN && said.len() == head.len() {
        // Short of what counts; may it come to that?
        let room = |at: usize| told.len() - at >= OVERLAP_BYTES_MIN;
        return match first.is_some_and(room) {
            true => Repeated::Perhaps,
            false => Repeated::No,
        };
    }
    let Some(at) = first.filter(|at| find(at + 1).is_none()) else {
        return Repeated::No;
    };
    let tail = &told[at..];
    match (said.strip_prefix(tail), tail.starts_with(said)) {
        (Some(_), _) => Repeated::Yes { bytes: tail.len() },
        (None, true) => Repeated::Perhaps,
        (None, false) => Repeated::No,
    }
}

/// The longest beginning of so many bytes at most, in whole characters, and
/// no shorter than that where the text goes on.
fn floor(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end += 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(more: Value) -> ChatRequest {
        let mut body = json!({
            "model": "m",
            "messages": [{ "role": "user", "content": "Say it." }],
        });
        let more = more.as_object().unwrap().clone();
        body.as_object_mut().unwrap().extend(more);
        ChatRequest::parse(body.to_string().into()).unwrap()
    }

    fn chunk(id: &str, delta: Value, finish: Option<&str>) -> Bytes {
        let chunk = json!({
            "id": id,
            "model": id,
            "created": 7,
            "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }],
        });
        chunk.to_string().into()
    }

    fn say(id: &str, text: &str) -> Bytes {
        chunk(id, json!({ "content": text }), None)
    }

    fn told(pieces: &[&str]) -> Partial {
        let mut partial = Partial::default();
        partial.push(&chunk(
            "one",
            json!({ "role": "assistant", "content": "" }),
            None,
        ));
        pieces
            .iter()
            .for_each(|piece| partial.push(&say("one", piece)));
        partial
    }

    fn seam(resumed: Result<Resumed, UnresumableError>) -> (Value, Seam) {
        let Ok(Resumed::Ask(request, seam)) = resumed else {
            panic!("{resumed:?}");
        };
        (serde_json::from_slice(request.body()).unwrap(), seam)
    }

    /// What a client reads behind the seam.
    fn joined(seam: &mut Seam, chunks: &[Bytes]) -> String {
        let mut text = String::new();
        for json in chunks {
            let Some(json) = seam.join(json).unwrap() else {
                continue;
            };
            let value: Value = serde_json::from_slice(&json).unwrap();
            assert_eq!(
                (&value["id"], &value["model"]),
                (&"one".into(), &"one".into())
            );
            let delta = &value["choices"][0]["delta"];
            assert!(delta.get("role").is_none(), "{value}");
            text.push_str(delta["content"].as_str().unwrap_or_default());
        }
        text
    }

    #[test]
    fn the_next_one_gets_what_was_told_as_the_beginning_of_its_answer() {
        let asked = request(json!({ "max_tokens": 50, "temperature": 0, "seed": 3 }));
        let (body, _) = seam(asked.resumed(&told(&["A glacier", " is"]), 4));
        assert_eq!(
            body["messages"],
            json!([
                { "role": "user", "content": "Say it." },
                { "role": "assistant", "content": "A glacier is" },
            ])
        );
        assert_eq!(body["continue_final_message"], true);
        assert_eq!(body["add_generation_prompt"], false);
        assert_eq!(body["max_tokens"], 46);
        assert_eq!(
            (&body["temperature"], &body["seed"]),
            (&0.into(), &3.into())
        );
    }

    #[test]
    fn a_begun_message_grows() {
        let begun = |goes_on: bool| {
            request(json!({
                "messages": [
                    { "role": "user", "content": "Say it." },
                    { "role": "assistant", "content": "A gla" },
                ],
                "continue_final_message": goes_on,
            }))
        };
        let (body, _) = seam(begun(true).resumed(&told(&["cier"]), 1));
        assert_eq!(body["messages"][1]["content"], "A glacier");
        assert_eq!(body["messages"].as_array().unwrap().len(), 2);
        let refused = begun(false).resumed(&told(&["cier"]), 1);
        assert_eq!(refused.unwrap_err(), UnresumableError::LastMessage);
    }

    #[test]
    fn who_was_told_nothing_is_told_it_anew() {
        let asked = request(json!({ "max_tokens": 50 }));
        let mut partial = told(&[]);
        partial.push(&chunk("one", json!({ "reasoning_content": "Hm." }), None));
        let (body, mut seam) = seam(asked.resumed(&partial, 9));
        assert_eq!(body["messages"].as_array().unwrap().len(), 1);
        let thought = chunk(
            "two",
            json!({ "role": "assistant", "reasoning_content": "Hm!" }),
            None,
        );
        assert!(seam.join(&thought).unwrap().is_none());
        assert_eq!(joined(&mut seam, &[say("two", "Hi")]), "Hi");
    }

    #[test]
    fn what_has_come_whole_is_over() {
        let asked = request(json!({ "max_tokens": 2 }));
        let mut partial = told(&["A", " b"]);
        let Ok(Resumed::Over(Some(last))) = asked.resumed(&partial, 2) else {
            panic!("two tokens were asked for");
        };
        assert!(scan(&last).unwrap().finished);
        partial.push(&chunk("one", json!({}), Some("stop")));
        assert!(matches!(
            asked.resumed(&partial, 2),
            Ok(Resumed::Over(None))
        ));
    }

    #[test]
    fn what_cannot_be_gone_on_with_is_named() {
        let refused = |more: Value, delta: Value| {
            let mut partial = told(&["A"]);
            partial.push(&chunk("one", delta, None));
            request(more).resumed(&partial, 1).unwrap_err()
        };
        let call = json!({ "tool_calls": [{ "index": 0, "function": { "name": "f" } }] });
        assert_eq!(refused(json!({}), call), UnresumableError::Calls);
        let format = json!({ "response_format": { "type": "json_object" } });
        assert_eq!(refused(format, json!({})), UnresumableError::Format);
        assert_eq!(
            refused(json!({ "grammar": "x" }), json!({})),
            UnresumableError::Format
        );
        let picture = json!({ "content": [{ "type": "image_url", "image_url": { "url": "x" } }] });
        assert_eq!(refused(json!({}), picture), UnresumableError::Unreadable);
        let plain = json!({ "response_format": { "type": "text" } });
        assert!(request(plain).resumed(&told(&["A"]), 1).is_ok());
        let mut partial = told(&["A"]);
        partial.push(&say("one", &"x".repeat(PARTIAL_BYTES_MAX)));
        let too_long = request(json!({})).resumed(&partial, 1);
        assert_eq!(too_long.unwrap_err(), UnresumableError::TooLong);
    }

    #[test]
    fn the_usage_is_that_of_one_answer() {
        let (_, mut seam) = seam(request(json!({})).resumed(&told(&["A b c"]), 3));
        let usage = json!({ "prompt_tokens": 13, "completion_tokens": 5, "total_tokens": 18 });
        let chunk = json!({ "choices": [], "usage": usage }).to_string();
        let chunk = seam.join(chunk.as_bytes()).unwrap().unwrap();
        let chunk: Value = serde_json::from_slice(&chunk).unwrap();
        let whole = json!({ "prompt_tokens": 10, "completion_tokens": 8, "total_tokens": 18 });
        assert_eq!(chunk["usage"], whole);
    }

    #[test]
    fn what_a_model_repeats_by_itself_stays() {
        let song = "la la la la la la la la la la la la la la la la la la la la la la ";
        let (_, mut seam) = seam(request(json!({})).resumed(&told(&[song]), 22));
        assert_eq!(
            joined(&mut seam, &[say("two", song), say("two", "end")]),
            format!("{song}end")
        );
    }

    #[test]
    fn held_words_come_out_at_the_end() {
        let text = "Water that fell as snow and stayed for many years becomes ice.";
        let (_, mut seam) = seam(request(json!({})).resumed(&told(&[text]), 12));
        let end = chunk("two", json!({}), Some("stop"));
        assert_eq!(joined(&mut seam, &[say("two", "Water"), end]), "Water");
    }

    proptest! {
        #[test]
        fn wherever_it_broke_the_client_reads_it_once(
            words in proptest::collection::vec("[a-zé]{2,9}", 30..60),
            cut in any::<proptest::sample::Index>(),
            again in 0usize..400,
            pieces in 1usize..20,
        ) {
            let text = words.join(" ");
            let places: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
            let cut = *cut.get(&places);
            // Servers repeat nothing, all of it, or so much that it cannot be chance.
            let from = match cut.checked_sub(again) {
                _ if again < OVERLAP_BYTES_MIN => cut,
                Some(from) => (from..=cut).find(|at| text.is_char_boundary(*at)).unwrap_or(cut),
                None => 0,
            };
            prop_assume!(from == cut || cut - from >= OVERLAP_BYTES_MIN + 4);
            let (_, mut seam) = seam(request(json!({})).resumed(&told(&[&text[..cut]]), 9));
            let rest: Vec<char> = text[from..].chars().collect();
            let mut chunks: Vec<Bytes> = rest
                .chunks(pieces)
                .map(|piece| say("two", &piece.iter().collect::<String>()))
                .collect();
            chunks.push(chunk("two", json!({}), Some("stop")));
            prop_assert_eq!(joined(&mut seam, &chunks), &text[cut..]);
        }

        #[test]
        fn no_chunk_breaks_a_seam(json in any::<Vec<u8>>(), told_text in ".{0,80}") {
            let resumed = request(json!({})).resumed(&told(&[&told_text]), 9);
            if let Ok(Resumed::Ask(_, mut seam)) = resumed {
                let _ = seam.join(&json);
            }
        }
    }
}
