//! Does an answer say how the window of its call was spent, in few bytes?

use serde_json::{Value, json};
use sess_tests::harness::table::text;
use sess_tests::harness::{Plan, Wire, stub};
use sess_tests::stub::Stub;

/// The most bytes that this may add to a plain answer: a turn's bytes on disk are counted.
const ADDED_BYTES_MAX: usize = 60;

async fn daemon(stub: &Stub) -> (sess_tests::harness::Daemon, Wire) {
    let at =
        |windows: Value| json!({"kind": "openai", "base_url": stub.base_url(), "windows": windows});
    let daemon = Plan::new()
        .document("providers", &json!({"stub": at(json!({})), "known": at(json!({"*": 9_000}))}))
        .document("settings", &json!({"model": "stub/stub"}))
        .start()
        .await;
    let wire = daemon.wire().await;
    (daemon, wire)
}

#[tokio::test]
async fn the_parts_sum_up_to_what_the_provider_counted_and_cost_few_bytes() {
    let stub = stub().await;
    let usage = json!({"prompt_tokens": 4711, "completion_tokens": 5, "total_tokens": 4716});
    stub.script("stub", json!([{"text": "x"}, {"usage": usage}])).await.unwrap();
    let (_daemon, mut wire) = daemon(&stub).await;
    let system = json!({"system": "say little, and that in words which a child can understand"});
    let session = text(&wire.ok("session/create", system).await["id"]).to_owned();
    let done = wire.turn(&session, "hello").await;
    let prompt = &done["answer"]["prompt"];
    let part = |name: &str| prompt[name].as_u64().unwrap_or(0);
    assert_eq!(prompt["used"], done["answer"]["usage"]["input_tokens"]);
    assert_eq!((part("used"), part("system") + part("messages")), (4_711, 4_711));
    assert!(part("system") > part("messages"), "five bytes were said: {prompt}");
    let names: Vec<&String> = prompt.as_object().unwrap().keys().collect();
    assert_eq!(names, ["messages", "system", "used"], "what is nothing is left out");
    let bytes = format!(",\"prompt\":{prompt}").len();
    assert!(bytes < ADDED_BYTES_MAX, "{bytes} bytes");
    // It is kept: the same is read from disk.
    let list = wire.ok("message/list", json!({"session": session})).await;
    assert_eq!(list["messages"][1]["prompt"], *prompt);
}

#[tokio::test]
async fn a_window_that_is_known_is_said_and_a_longer_talk_fills_it() {
    let stub = stub().await;
    let (_daemon, mut wire) = daemon(&stub).await;
    let made = wire.ok("session/create", json!({"model": "known/stub"})).await;
    let session = made["id"].as_str().unwrap().to_owned();
    let mut said = 0;
    for content in ["one", &"word ".repeat(500)] {
        let prompt = wire.turn(&session, content).await["answer"]["prompt"].clone();
        assert_eq!(prompt["budget"], 9_000);
        let messages = prompt["messages"].as_u64().unwrap();
        assert!(messages > said, "{prompt}");
        said = messages;
    }
    let echo = json!({"session": session, "content": "hello", "model": "echo/echo"});
    let sent = wire.ok("chat/send", echo).await;
    assert_eq!(wire.wait(&sent).await["answer"].get("prompt"), None, "the echo has no window");
}
