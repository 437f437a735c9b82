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
