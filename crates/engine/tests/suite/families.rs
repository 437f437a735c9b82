//! Every family against candle's own model of it, and against itself.

use std::io::Cursor;
use std::sync::Arc;

use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::Content;
use candle_core::{Device, Tensor};
use candle_transformers::models::{
    quantized_llama, quantized_phi3, quantized_qwen2, quantized_qwen3,
};
use engine::Engine;
use serde_json::json;

use super::made::{self, Recipe, ask, hear, open, options, recipe, token_of_byte};

const FAMILIES: [&str; 5] = ["llama", "qwen2", "qwen3", "gemma3", "phi3"];
const PROMPT: &str = "what is a glacier?";

/// candle's scores for the token after `tokens`.
fn candle_scores(recipe: &Recipe, file: &[u8], tokens: &[u32]) -> Vec<f32> {
    let mut file = Cursor::new(file);
    let content = Content::read(&mut file).unwrap();
    let input = Tensor::new(tokens, &Device::Cpu)
        .unwrap()
        .unsqueeze(0)
        .unwrap();
    let device = &Device::Cpu;
    let scores = match recipe.family {
        "llama" => quantized_llama::ModelWeights::from_gguf(content, &mut file, device)
            .unwrap()
            .forward(&input, 0),
        "qwen2" => quantized_qwen2::ModelWeights::from_gguf(content, &mut file, device)
            .unwrap()
            .forward(&input, 0),
        "qwen3" => quantized_qwen3::ModelWeights::from_gguf(content, &mut file, device)
            .unwrap()
            .forward(&input, 0),
        "phi3" => quantized_phi3::ModelWeights::from_gguf(false, content, &mut file, device)
            .unwrap()
            .forward(&input, 0),
        other => panic!("candle's {other} is not a reference: it lacks the family's activation"),
    };
    scores.unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn logprobs(scores: &[f32]) -> Vec<f32> {
    let top = scores.iter().copied().fold(f32::MIN, f32::max);
    let sum: f32 = scores.iter().map(|score| (score - top).exp()).sum();
    scores.iter().map(|score| score - top - sum.ln()).collect()
}

/// Asks for a few tokens and holds each step's likeliest against candle.
async fn agrees_with_candle(recipe: Recipe, steps: u32, tolerance: f32) {
    let file = made::file(&recipe);
    let engine = Engine::from_bytes(Arc::from(file.as_slice()), options()).unwrap();
    let mut body = ask(PROMPT, steps);
    body["logprobs"] = json!(true);
    body["top_logprobs"] = json!(20);
    let heard = hear(&engine, &body).await.unwrap();
    let mut tokens: Vec<u32> = PROMPT.bytes().map(token_of_byte).collect();
    if made::is_scored(recipe.family) {
        // "a" and "c" are tokens of their own there, and so is a space.
        tokens = spelled(PROMPT);
    }
    assert_eq!(heard.prompt_tokens as usize, tokens.len());
    assert!(!heard.logprobs.is_empty());
    for step in &heard.logprobs {
        let expected = logprobs(&candle_scores(&recipe, &file, &tokens));
        assert_eq!(step.top.len(), 20);
        for scored in &step.top {
            let expected = expected[scored.id as usize];
            assert!(
                (scored.logprob - expected).abs() < tolerance,
                "{}: token {} has {} here and {expected} there",
                recipe.family,
                scored.id,
                scored.logprob
            );
        }
        tokens.push(step.chosen.id);
    }
}

fn spelled(text: &str) -> Vec<u32> {
    text.bytes()
        .map(|byte| match byte {
            b'a' => 264,
            b'b' => 265,
            b'c' => 266,
            b'd' => 267,
            b' ' => 268,
            other => token_of_byte(other),
        })
        .collect()
}

#[tokio::test]
async fn llama_scores_as_candle_does() {
    agrees_with_candle(recipe("llama"), 6, 1e-3).await;
}

#[tokio::test]
async fn qwen2_scores_as_candle_does() {
    agrees_with_candle(recipe("qwen2"), 6, 1e-3).await;
}

#[tokio::test]
async fn qwen3_scores_as_candle_does() {
    agrees_with_candle(recipe("qwen3"), 6, 1e-3).await;
}

#[tokio::test]
async fn phi3_scores_as_candle_does() {
    agrees_with_candle(recipe("phi3"), 6, 1e-3).await;
}

#[tokio::test]
async fn quantised_files_score_as_candle_does() {
    for kind in [
        GgmlDType::Q8_0,
        GgmlDType::Q4_0,
        GgmlDType::Q5_0,
        GgmlDType::Q4_1,
        GgmlDType::Q5_1,
        GgmlDType::Q4K,
        GgmlDType::Q6K,
        GgmlDType::F16,
        GgmlDType::BF16,
    ] {
        let wide = Recipe {
            kind,
            width: 256,
            head_width: 64,
            feed_width: 256,
            ..recipe("llama")
        };
        // Both round activations, to slightly different bytes.
        agrees_with_candle(wide, 2, 0.15).await;
    }
}

#[tokio::test]
async fn every_family_answers_and_answers_the_same_again() {
    for family in FAMILIES {
        let engine = open(&recipe(family), options());
        assert_eq!(engine.card().architecture, family);
        let body = ask(PROMPT, 24);
        let first = hear(&engine, &body).await.unwrap();
        assert!(
            first.completion_tokens > 0 && !first.text.is_empty(),
            "{family}"
        );
        assert_eq!(hear(&engine, &body).await.unwrap(), first, "{family}");

        let mut drawn = ask(PROMPT, 24);
        drawn["temperature"] = json!(1.0);
        drawn["seed"] = json!(42);
        let drawn_first = hear(&engine, &drawn).await.unwrap();
        assert_eq!(
            hear(&engine, &drawn).await.unwrap(),
            drawn_first,
            "{family}"
        );
        assert_ne!(drawn_first.text, first.text, "{family}");
    }
}

#[tokio::test]
async fn company_and_threads_do_not_change_an_answer() {
    for family in FAMILIES {
        let long = "ab cd ".repeat(20);
        let bodies = [
            ask(PROMPT, 30),
            ask(&long, 20),
            ask("x", 40),
            ask("zz zz", 10),
        ];
        let alone = open(&recipe(family), options());
        let mut expected = Vec::new();
        for body in &bodies {
            expected.push(hear(&alone, body).await.unwrap());
        }
        let crowd = open(
            &recipe(family),
            engine::Options {
                slots: 4,
                threads: 2,
                ..options()
            },
        );
        let heard =
            futures_util::future::join_all(bodies.iter().map(|body| hear(&crowd, body))).await;
        let heard: Vec<_> = heard.into_iter().map(Result::unwrap).collect();
        assert_eq!(heard, expected, "{family}");
    }
}

#[tokio::test]
async fn gemma_forgets_what_its_window_has_left() {
    // One layer, sliding: after a window's length the beginning is gone.
    let small = |window| Recipe {
        layers: 1,
        window,
        ..recipe("gemma3")
    };
    let first = |window: u32, beginning: &str| {
        let engine = open(&small(window), options());
        let mut body = ask(&format!("{beginning}{}", "efgh".repeat(6)), 1);
        body["logprobs"] = json!(true);
        body["top_logprobs"] = json!(5);
        async move { hear(&engine, &body).await.unwrap().logprobs }
    };
    assert_eq!(first(8, "xyz").await, first(8, "zyx").await);
    assert_ne!(first(64, "xyz").await, first(64, "zyx").await);
}
