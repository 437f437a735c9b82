//! The model that ships with a node, against what llama.cpp made of it.
//!
//! `tools/demo-model/expected` holds llama.cpp's token ids for a hundred
//! prompts at temperature 0. Two engines that add in another order may part
//! ways where two tokens are almost equally likely, so a few may differ.

use engine::Finish;
use serde::Deserialize;
use serde_json::json;

use super::demo::demo;
use super::made::hear;

/// Prompts whose answers must be the same, token by token.
const SAME_MIN: usize = 95;

#[derive(Deserialize)]
struct Recorded {
    model_sha256: String,
    most_tokens: u32,
    prompts: Vec<Prompt>,
}

#[derive(Deserialize)]
struct Prompt {
    messages: serde_json::Value,
    prompt_tokens: Vec<u32>,
    generated_tokens: Vec<u32>,
}

fn recorded() -> Recorded {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tools/demo-model/expected/llama-cpp-tokens.json"
    );
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[tokio::test]
async fn the_demo_model_says_what_it_says_in_llama_cpp() {
    let recorded = recorded();
    let engine = demo();
    let sha256: String = engine
        .card()
        .sha256
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(
        sha256, recorded.model_sha256,
        "the recording is of another file"
    );
    assert!(recorded.prompts.len() >= 100);

    let mut same = 0;
    let mut different = Vec::new();
    for prompt in &recorded.prompts {
        let body = json!({
            "messages": prompt.messages,
            "temperature": 0,
            "max_tokens": recorded.most_tokens,
            "logprobs": true,
        });
        let heard = hear(&engine, &body).await.unwrap();
        assert_eq!(
            heard.prompt_tokens as usize,
            prompt.prompt_tokens.len(),
            "{}",
            prompt.messages
        );
        let ids: Vec<u32> = heard.logprobs.iter().map(|step| step.chosen.id).collect();
        // llama.cpp lists the token that ends the turn, this engine does not.
        let ended =
            usize::from(heard.finish == Finish::Stop && prompt.generated_tokens.len() > ids.len());
        let expected = &prompt.generated_tokens[..prompt.generated_tokens.len() - ended];
        if ids == expected {
            same += 1;
        } else {
            different.push(&prompt.messages);
        }
    }
    let wanted = recorded.prompts.len() * SAME_MIN / 100;
    assert!(
        same >= wanted,
        "{same} of {} are the same; not {different:?}",
        recorded.prompts.len()
    );
}
