//! Times a model: tokens of the prompt and of the answer per second.
//!
//! `cargo run --release -p engine --example bench -- FILE --threads 1`
//!
//! Options: `--threads N`, `--tokens N`, `--prompt TEXT` (may be repeated),
//! `--rounds N`, `--ids` to print the ids of answers at temperature 0 as JSON
//! lines instead of timings. `bench/llama_cpp.py` does the same with llama.cpp.

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use engine::{Engine, Event, Options};
use futures_util::StreamExt;
use serde_json::json;
use tokio::time::Instant;

/// What the command line asks for.
struct Wish {
    path: String,
    threads: usize,
    tokens: u32,
    rounds: usize,
    prompts: Vec<String>,
    ids: bool,
}

impl Wish {
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let mut wish = Self {
            path: String::new(),
            threads: 1,
            tokens: 100,
            rounds: 3,
            prompts: Vec::new(),
            ids: false,
        };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--threads" => wish.threads = value()?.parse()?,
                "--tokens" => wish.tokens = value()?.parse()?,
                "--rounds" => wish.rounds = value()?.parse()?,
                "--prompt" => wish.prompts.push(value()?),
                "--ids" => wish.ids = true,
                _ => wish.path = argument,
            }
        }
        if wish.prompts.is_empty() {
            wish.prompts.push("What is a glacier?".to_owned());
        }
        Ok(wish)
    }
}

/// What one answer took.
#[derive(Default)]
struct Timing {
    prompt_tokens: u32,
    first: Duration,
    rest: Duration,
    tokens: u32,
    ids: Vec<u32>,
    /// The likeliest first tokens and their log-probabilities.
    top: Vec<(u32, f32)>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let wish = Wish::read(std::env::args().skip(1))?;
    let mut out = std::io::stdout().lock();
    let begun = Instant::now();
    let options = Options {
        threads: wish.threads,
        ..Options::default()
    };
    let engine = Engine::open(Path::new(&wish.path), options)?;
    if !wish.ids {
        writeln!(
            out,
            "{:?}, opened in {:?}",
            engine.card().name,
            begun.elapsed()
        )?;
    }
    for prompt in &wish.prompts {
        for _ in 0..if wish.ids { 1 } else { wish.rounds } {
            let timing = time(&engine, prompt, &wish).await?;
            if wish.ids {
                let line = json!({"prompt": prompt, "ids": timing.ids, "prompt_tokens": timing.prompt_tokens, "top": timing.top});
                writeln!(out, "{line}")?;
                continue;
            }
            writeln!(
                out,
                "prompt {} tokens, {:.1}/s; answer {} tokens, {:.1}/s",
                timing.prompt_tokens,
                f64::from(timing.prompt_tokens) / timing.first.as_secs_f64(),
                timing.tokens,
                f64::from(timing.tokens - 1) / timing.rest.as_secs_f64(),
            )?;
        }
    }
    Ok(())
}

async fn time(engine: &Engine, prompt: &str, wish: &Wish) -> Result<Timing, Box<dyn Error>> {
    let mut body = json!({
        "messages": [{"role": "user", "content": prompt}],
        "temperature": 0,
        "max_tokens": wish.tokens,
        "logprobs": wish.ids,
        "top_logprobs": if wish.ids { 5 } else { 0 },
    });
    if !wish.ids {
        // The answer must not end early.
        body["logit_bias"] = (0..64).map(|id| (id.to_string(), json!(-100))).collect();
    }
    let begun = Instant::now();
    let mut answer = engine.chat(&body).await?;
    let mut timing = Timing {
        prompt_tokens: answer.prompt_tokens,
        ..Timing::default()
    };
    while let Some(event) = answer.next().await {
        match event? {
            Event::Token { logprobs, .. } => {
                if timing.first.is_zero() {
                    timing.first = begun.elapsed();
                }
                let Some(step) = logprobs else { continue };
                timing.ids.push(step.chosen.id);
                if timing.top.is_empty() {
                    timing.top = step
                        .top
                        .iter()
                        .map(|other| (other.id, other.logprob))
                        .collect();
                }
            }
            Event::Done {
                completion_tokens, ..
            } => timing.tokens = completion_tokens,
        }
    }
    timing.rest = begun.elapsed() - timing.first;
    Ok(timing)
}
