//! Makes small GGUF files with random weights: real in format, nonsense in speech.

use std::io::Cursor;
use std::sync::Arc;

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use engine::{Answer, ChatError, Engine, Event, Finish, Options, TokenLogprobs};
use futures_util::StreamExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

/// What a test may want to change about a model.
#[derive(Clone)]
pub(crate) struct Recipe {
    pub(crate) family: &'static str,
    pub(crate) kind: GgmlDType,
    pub(crate) width: usize,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) key_value_heads: usize,
    pub(crate) head_width: usize,
    pub(crate) feed_width: usize,
    pub(crate) context: u32,
    pub(crate) window: u32,
    pub(crate) template: &'static str,
    pub(crate) seed: u64,
}

/// The template of most tests: what the user says and nothing else.
pub(crate) const BARE: &str = "{% for m in messages %}{{ m.content }}{% endfor %}";
/// A template with turns, as real models have.
pub(crate) const TURNS: &str = "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content + '<|end|>' }}{% endfor %}{{ '<|assistant|>' }}";

pub(crate) fn recipe(family: &'static str) -> Recipe {
    Recipe {
        family,
        kind: GgmlDType::F32,
        width: 64,
        layers: 2,
        heads: 4,
        key_value_heads: 2,
        head_width: 16,
        feed_width: 96,
        context: 256,
        window: 512,
        template: BARE,
        seed: 1,
    }
}

/// Which kind of tokenizer a family's files have.
pub(crate) fn is_scored(family: &str) -> bool {
    matches!(family, "gemma3" | "phi3")
}

const CONTROLS: [&str; 5] = [
    "<|endoftext|>",
    "<|end|>",
    "<|user|>",
    "<|assistant|>",
    "<|system|>",
];
const FIRST_MERGED: usize = CONTROLS.len() + 256;

/// The vocabulary: control tokens, bytes, two words, so that ids are the same
/// for both kinds of tokenizer.
pub(crate) fn token_of_byte(byte: u8) -> u32 {
    u32::try_from(CONTROLS.len()).unwrap() + u32::from(byte)
}

fn vocabulary(scored: bool) -> (Vec<String>, Vec<String>) {
    let mut tokens: Vec<String> = CONTROLS.iter().map(|&token| token.to_owned()).collect();
    for byte in 0..=u8::MAX {
        tokens.push(if scored {
            format!("<0x{byte:02X}>")
        } else {
            byte_letter(byte).to_string()
        });
    }
    let words = ["ab", "abab", "cd"];
    tokens.extend(words.map(str::to_owned));
    if scored {
        tokens.extend(["a", "b", "c", "d", "\u{2581}"].map(str::to_owned));
    } else {
        tokens.extend(["xy", "xyx", "xyxy", "zz", "zzz"].map(str::to_owned));
    }
    assert_eq!(tokens.len(), FIRST_MERGED + 8);
    let merges = ["a b", "ab ab", "c d", "x y", "xy x", "xy xy", "z z", "zz z"];
    (tokens, merges.map(str::to_owned).to_vec())
}

fn byte_letter(byte: u8) -> char {
    let visible = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if visible(byte) {
        return char::from(byte);
    }
    let hidden_before = (0..byte).filter(|&other| !visible(other)).count();
    char::from_u32(256 + u32::try_from(hidden_before).unwrap()).unwrap()
}

struct Maker {
    random: StdRng,
    kind: GgmlDType,
    tensors: Vec<(String, QTensor)>,
}

impl Maker {
    fn numbers(&mut self, count: usize, middle: f32, spread: f32) -> Vec<f32> {
        (0..count)
            .map(|_| middle + self.random.random_range(-spread..spread))
            .collect()
    }

    fn add(&mut self, name: String, numbers: Vec<f32>, shape: &[usize], kind: GgmlDType) {
        let tensor = Tensor::from_vec(numbers, shape, &Device::Cpu).unwrap();
        self.tensors
            .push((name, QTensor::quantize(&tensor, kind).unwrap()));
    }

    fn matrix(&mut self, name: &str, rows: usize, width: usize) {
        let spread = 1.7 / (width as f32).sqrt();
        let numbers = self.numbers(rows * width, 0.0, spread);
        self.add(format!("{name}.weight"), numbers, &[rows, width], self.kind);
    }

    fn norm(&mut self, name: &str, width: usize) {
        let numbers = self.numbers(width, 1.0, 0.2);
        self.add(format!("{name}.weight"), numbers, &[width], GgmlDType::F32);
    }

    fn bias(&mut self, name: &str, width: usize) {
        let numbers = self.numbers(width, 0.0, 0.3);
        self.add(format!("{name}.bias"), numbers, &[width], GgmlDType::F32);
    }
}

/// The bytes of a model.
pub(crate) fn file(recipe: &Recipe) -> Vec<u8> {
    let mut maker = Maker {
        random: StdRng::seed_from_u64(recipe.seed),
        kind: recipe.kind,
        tensors: Vec::new(),
    };
    tensors(recipe, &mut maker);
    let metadata = metadata(recipe);
    let metadata: Vec<(&str, &Value)> = metadata
        .iter()
        .map(|(key, value)| (key.as_str(), value))
        .collect();
    let tensors: Vec<(&str, &QTensor)> = maker
        .tensors
        .iter()
        .map(|(name, tensor)| (name.as_str(), tensor))
        .collect();
    let mut bytes = Cursor::new(Vec::new());
    gguf_file::write(&mut bytes, &metadata, &tensors).unwrap();
    bytes.into_inner()
}

fn tensors(recipe: &Recipe, maker: &mut Maker) {
    let Recipe {
        width,
        feed_width,
        head_width,
        ..
    } = *recipe;
    let queries = recipe.heads * head_width;
    let keys = recipe.key_value_heads * head_width;
    let vocabulary = FIRST_MERGED + 8;
    // Gemma's embedding is scaled up, and is the output too: large numbers
    // would make it say what it has just heard.
    let spread = if recipe.family == "gemma3" { 0.1 } else { 1.0 };
    let numbers = maker.numbers(vocabulary * width, 0.0, spread);
    maker.add(
        "token_embd.weight".to_owned(),
        numbers,
        &[vocabulary, width],
        maker.kind,
    );
    if recipe.family != "gemma3" {
        maker.matrix("output", vocabulary, width);
    }
    maker.norm("output_norm", width);
    for layer in 0..recipe.layers {
        let name = |part: &str| format!("blk.{layer}.{part}");
        maker.norm(&name("attn_norm"), width);
        maker.norm(&name("ffn_norm"), width);
        if recipe.family == "phi3" {
            maker.matrix(&name("attn_qkv"), queries + 2 * keys, width);
            maker.matrix(&name("ffn_up"), 2 * feed_width, width);
        } else {
            maker.matrix(&name("attn_q"), queries, width);
            maker.matrix(&name("attn_k"), keys, width);
            maker.matrix(&name("attn_v"), keys, width);
            maker.matrix(&name("ffn_gate"), feed_width, width);
            maker.matrix(&name("ffn_up"), feed_width, width);
        }
        maker.matrix(&name("attn_output"), width, queries);
        maker.matrix(&name("ffn_down"), width, feed_width);
        if recipe.family == "qwen2" {
            maker.bias(&name("attn_q"), queries);
            maker.bias(&name("attn_k"), keys);
            maker.bias(&name("attn_v"), keys);
        }
        if matches!(recipe.family, "qwen3" | "gemma3") {
            maker.norm(&name("attn_q_norm"), head_width);
            maker.norm(&name("attn_k_norm"), head_width);
        }
        if recipe.family == "gemma3" {
            maker.norm(&name("post_attention_norm"), width);
            maker.norm(&name("post_ffw_norm"), width);
        }
    }
}

fn metadata(recipe: &Recipe) -> Vec<(String, Value)> {
    let size = |number: usize| Value::U32(u32::try_from(number).unwrap());
    let shape = [
        ("context_length", Value::U32(recipe.context)),
        ("embedding_length", size(recipe.width)),
        ("block_count", size(recipe.layers)),
        ("feed_forward_length", size(recipe.feed_width)),
        ("attention.head_count", size(recipe.heads)),
        ("attention.head_count_kv", size(recipe.key_value_heads)),
        ("attention.key_length", size(recipe.head_width)),
        ("attention.value_length", size(recipe.head_width)),
        ("attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ("attention.sliding_window", Value::U32(recipe.window)),
        ("rope.dimension_count", size(recipe.head_width)),
        ("rope.freq_base", Value::F32(10_000.0)),
    ];
    let named = |key: &str, text: &str| (key.to_owned(), Value::String(text.to_owned()));
    let mut metadata = vec![
        named("general.architecture", recipe.family),
        named("general.name", &format!("made {}", recipe.family)),
        named("tokenizer.chat_template", recipe.template),
        // candle computes as this says; 0 is f32.
        ("general.dtype".to_owned(), Value::U32(0)),
    ];
    metadata.extend(shape.map(|(key, value)| (format!("{}.{key}", recipe.family), value)));
    metadata.extend(tokenizer(is_scored(recipe.family)));
    metadata
}

fn tokenizer(scored: bool) -> Vec<(String, Value)> {
    let texts = |texts: Vec<String>| Value::Array(texts.into_iter().map(Value::String).collect());
    let (tokens, merges) = vocabulary(scored);
    let types = (0..tokens.len()).map(|id| {
        Value::I32(match id {
            0..5 => 3,
            5..FIRST_MERGED if scored => 6,
            _ => 1,
        })
    });
    // Longer tokens score higher, as in real files of this kind.
    let scores = tokens
        .iter()
        .map(|token| Value::F32(if token.len() == 4 { -1.0 } else { -2.0 }));
    let mut keys = vec![
        ("token_type", Value::Array(types.collect())),
        ("bos_token_id", Value::U32(0)),
        ("eos_token_id", Value::U32(1)),
        ("add_bos_token", Value::Bool(false)),
    ];
    if scored {
        keys.push(("model", Value::String("llama".to_owned())));
        keys.push(("scores", Value::Array(scores.collect())));
        keys.push(("add_space_prefix", Value::Bool(false)));
    } else {
        keys.push(("model", Value::String("gpt2".to_owned())));
        keys.push(("pre", Value::String("gpt-2".to_owned())));
        keys.push(("merges", texts(merges)));
    }
    keys.push(("tokens", texts(tokens)));
    keys.into_iter()
        .map(|(key, value)| (format!("tokenizer.ggml.{key}"), value))
        .collect()
}

pub(crate) fn options() -> Options {
    Options {
        slots: 2,
        threads: 1,
        queue: 1,
        context_max: 4096,
        clock: None,
    }
}

pub(crate) fn open(recipe: &Recipe, options: Options) -> Engine {
    Engine::from_bytes(Arc::from(file(recipe)), options).unwrap()
}

/// A body that asks for one thing, deterministically.
pub(crate) fn ask(content: &str, tokens: u32) -> serde_json::Value {
    json!({
        "messages": [{"role": "user", "content": content}],
        "temperature": 0,
        "max_tokens": tokens,
    })
}

/// A finished answer.
#[derive(Debug, PartialEq)]
pub(crate) struct Heard {
    pub(crate) text: String,
    pub(crate) logprobs: Vec<TokenLogprobs>,
    pub(crate) finish: Finish,
    pub(crate) prompt_tokens: u32,
    pub(crate) completion_tokens: u32,
}

pub(crate) async fn listen(mut answer: Answer) -> Heard {
    let mut text = String::new();
    let mut heard_logprobs = Vec::new();
    loop {
        match answer.next().await.unwrap().unwrap() {
            Event::Token {
                text: piece,
                logprobs,
            } => {
                text.push_str(&piece);
                heard_logprobs.extend(logprobs);
            }
            Event::Done {
                finish,
                completion_tokens,
            } => {
                assert!(answer.next().await.is_none(), "nothing follows the end");
                return Heard {
                    text,
                    logprobs: heard_logprobs,
                    finish,
                    prompt_tokens: answer.prompt_tokens,
                    completion_tokens,
                };
            }
        }
    }
}

pub(crate) async fn hear(engine: &Engine, body: &serde_json::Value) -> Result<Heard, ChatError> {
    Ok(listen(engine.chat(body).await?).await)
}
