//! What becomes of a task whose model fails?

use serde_json::{Value, json};
use sess_tests::harness::{Daemon, Plan, Wire, asked, said, stub};
use sess_tests::stub::Stub;

async fn scripted(steps: Value) -> (Stub, Daemon, Wire, String) {
    let stub = stub().await;
    stub.script("stub", steps).await.unwrap();
    let daemon = Daemon::with_stub(&stub).await;
    let mut wire = daemon.wire().await;
    let session = wire.session().await;
    (stub, daemon, wire, session)
}

async fn fails_with(steps: Value, reason: &str) {
    let (_stub, _daemon, mut wire, session) = scripted(steps).await;
    let done = wire.turn(&session, "hello").await;
    assert_eq!(done["task"]["status"], "failed", "{done}");
    assert_eq!(done["task"]["reason"], "model");
    assert_eq!(done["task"]["error"]["reason"], reason, "{done}");
    assert!(done["task"]["error"]["message"].as_str().is_some_and(|it| !it.is_empty()));
}

#[tokio::test]
async fn a_refused_key_is_auth() {
    fails_with(json!([{"status": 401, "body": {"error": {"message": "bad key"}}}]), "auth").await;
}

#[tokio::test]
async fn a_prompt_too_long_is_said_to_be() {
    let body =
        json!({"error": {"message": "maximum context length", "code": "context_length_exceeded"}});
    fails_with(json!([{"status": 400, "body": body}]), "context_too_long").await;
}

#[tokio::test]
async fn a_request_that_the_server_does_not_take_is_refused() {
    fails_with(json!([{"status": 400, "body": {"error": {"message": "no"}}}]), "refused").await;
}

#[tokio::test]
async fn a_server_that_goes_on_failing_is_unavailable() {
    fails_with(json!([{"status": 503, "headers": {"retry-after": "0"}}]), "unavailable").await;
}

#[tokio::test]
async fn too_many_requests_for_good_is_a_rate_limit() {
    fails_with(json!([{"status": 429, "headers": {"retry-after": "0"}}]), "rate_limit").await;
}

#[tokio::test]
async fn an_answer_that_is_no_stream_is_a_bad_answer() {
    fails_with(json!([{"raw": "data: {not json\n\n"}, {"finish": null}]), "bad_answer").await;
}

#[tokio::test]
async fn a_model_that_says_nothing_is_timed_out() {
    let stub = stub().await;
    stub.script("stub", json!([{"head": true}, {"stall": true}])).await.unwrap();
    let times = json!({"connect_ms": 500, "first_byte_ms": 200, "idle_ms": 200, "total_ms": 900});
    let daemon = Plan::new().stub_with(&stub, times).start().await;
    let mut wire = daemon.wire().await;
    let session = wire.session().await;
    let done = wire.turn(&session, "hello").await;
    assert_eq!(done["task"]["status"], "failed");
    assert_eq!(done["task"]["error"]["reason"], "timeout");
}

#[tokio::test]
async fn a_model_of_no_provider_is_not_found_and_nothing_is_sent() {
    let daemon = Daemon::start().await;
    let mut wire = daemon.wire().await;
    let session = wire.session().await;
    let send = json!({"session": session, "content": "x", "model": "nobody/nothing"});
    let data = wire.refused("not_found", "chat/send", send).await;
    assert_eq!((&data["what"], &data["id"]), (&json!("model"), &json!("nobody/nothing")));
    let create = json!({"model": "nobody/nothing"});
    wire.refused("not_found", "session/create", create).await;
    assert_eq!(wire.get(&session).await["tasks"], 0);
}

#[tokio::test]
async fn one_failure_is_tried_again_and_the_text_is_not_doubled() {
    let (stub, _daemon, mut wire, session) = scripted(json!([{"text": "whole"}])).await;
    stub.reset().await.unwrap();
    let soon = json!({"retry-after": "0"});
    let scripts = json!([[{"status": 503, "headers": soon}], [{"status": 429, "headers": soon}], [{"text": "whole"}]]);
    stub.install(json!({"model": "stub", "scripts": scripts})).await.unwrap();
    wire.follow(&session).await;
    let done = wire.turn(&session, "hello").await;
    assert_eq!(done["task"]["status"], "completed");
    assert_eq!(said(&done["answer"]), "whole");
    assert_eq!(done["answer"]["attempt"], 3);
    assert_eq!(asked(&stub).await.len(), 3);
}

#[tokio::test]
async fn a_failed_task_puts_the_session_in_error_and_the_next_send_out_of_it() {
    let (stub, _daemon, mut wire, session) = scripted(json!([{"echo": true}])).await;
    stub.reset().await.unwrap();
    stub.script_once("stub", json!([{"status": 401}])).await.unwrap();
    wire.turn(&session, "one").await;
    assert_eq!(wire.get(&session).await["status"], "error");
    let done = wire.turn(&session, "two").await;
    assert_eq!(done["task"]["status"], "completed");
    assert_eq!(wire.get(&session).await["status"], "active");
    assert_eq!(wire.texts(&session).await, ["one", "two", "two"]);
}

#[tokio::test]
async fn a_failure_stops_nothing_that_waits() {
    let (stub, _daemon, mut wire, session) = scripted(json!([{"echo": true}])).await;
    stub.reset().await.unwrap();
    stub.script_once(
        "stub",
        json!([{"head": true}, {"hold": "h"}, {"error": {"message": "boom"}}]),
    )
    .await
    .unwrap();
    let first = wire.say(&session, "one").await;
    let second = wire.say(&session, "two").await;
    stub.release("h").await.unwrap();
    assert_eq!(wire.wait(&second).await["task"]["status"], "completed");
    assert!(
        ["failed", "completed"]
            .contains(&wire.wait(&first).await["task"]["status"].as_str().unwrap())
    );
}

#[tokio::test]
async fn what_was_said_before_an_answer_broke_off_is_kept_or_said_again_whole() {
    let (_stub, _daemon, mut wire, session) = scripted(json!([{"pieces": 3}, {"cut": true}])).await;
    let done = wire.turn(&session, "hello").await;
    assert_eq!(done["task"]["status"], "failed");
    assert_eq!(done["task"]["error"]["reason"], "unavailable");
    assert_eq!(wire.texts(&session).await, ["hello", "w0 w1 w2 "]);
    assert_eq!(done["answer"]["status"], "partial");
}
