//! The model that ships with a node.

use engine::{Engine, Finish, Options, demo_model};
use serde_json::json;

use super::made::{hear, options};

/// The shipped model, as a node opens it.
pub(crate) fn demo() -> Engine {
    let options = Options {
        slots: 4,
        ..options()
    };
    Engine::from_static(demo_model(), options).unwrap()
}

#[tokio::test]
async fn the_demo_model_does_not_say_that_it_knows_tools() {
    let heeded = demo().parameters();
    let has = |field: &str| heeded.iter().any(|heeded| heeded == field);
    assert!(has("temperature") && !has("tools") && !has("tool_choice"));
}

#[tokio::test]
async fn the_demo_model_knows_what_a_glacier_is() {
    let body = json!({
        "messages": [{"role": "user", "content": "What is a glacier?"}],
        "temperature": 0,
        "max_tokens": 64,
    });
    let heard = hear(&demo(), &body).await.unwrap();
    assert_eq!(heard.finish, Finish::Stop);
    assert!(heard.text.contains("mass of ice"), "{:?}", heard.text);
}

#[tokio::test]
async fn an_answer_is_gone_on_with_from_wherever_it_broke_off() {
    let engine = demo();
    let ask = |begun: Option<&str>| {
        let mut messages = vec![json!({"role": "user", "content": "What is a glacier?"})];
        messages.extend(begun.map(|text| json!({"role": "assistant", "content": text})));
        json!({
            "messages": messages,
            "continue_final_message": begun.is_some(),
            "add_generation_prompt": begun.is_none(),
            "temperature": 0,
            "max_tokens": 64,
        })
    };
    let whole = hear(&engine, &ask(None)).await.unwrap().text;
    let words: Vec<usize> = whole.match_indices(' ').map(|(at, _)| at).collect();
    assert!(words.len() > 5, "{whole:?}");
    for at in words {
        let (begun, rest) = whole.split_at(at);
        let heard = hear(&engine, &ask(Some(begun))).await.unwrap();
        assert_eq!(heard.text, rest, "after {begun:?}");
    }
}
