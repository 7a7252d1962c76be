//! What happens between a request and its answer?

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sess_tests::harness::table::{bytes, text};
use sess_tests::harness::{Daemon, Wire, asked, held, said, stub, until_asked, until_held};
use sess_tests::stub::{How, Stub, What};

/// Far less than any deadline of a model, far more than a slow machine needs.
const AT_ONCE: Duration = Duration::from_secs(10);
/// Requests that wait in one session's queue.
const QUEUE_MAX: usize = 25;

async fn scripted(steps: Value) -> (Stub, Daemon, Wire, String) {
    let stub = stub().await;
    stub.script("stub", steps).await.unwrap();
    let daemon = Daemon::with_stub(&stub).await;
    let mut wire = daemon.wire().await;
    let session = wire.session().await;
    (stub, daemon, wire, session)
}

fn with(session: &str, content: &str, if_busy: &str) -> Value {
    json!({"session": session, "content": content, "if_busy": if_busy})
}

#[tokio::test]
async fn the_built_in_echo_answers_with_what_was_said() {
    let daemon = Daemon::start().await;
    let mut wire = daemon.wire().await;
    let sent = wire.ok("chat/send", json!({"content": "hello to all"})).await;
    assert_eq!((&sent["position"], &sent["thread"]), (&json!(0), &json!("main")));
    let done = wire.wait(&sent).await;
    assert_eq!(done["task"]["status"], "completed");
    assert_eq!(done["task"]["id"], sent["task"]);
    assert_eq!(said(&done["answer"]), "hello to all");
    assert_eq!(done["answer"]["model"], "echo/echo");
    assert_eq!(done["answer"]["usage"]["output_tokens"], 3, "it counts words");
    let session = text(&sent["session"]);
    let messages = wire.ok("message/list", json!({"session": session})).await["messages"].clone();
    assert_eq!(messages[0]["id"], sent["message"]);
    assert_eq!((&messages[0]["role"], &messages[1]["role"]), (&json!("user"), &json!("assistant")));
    assert_eq!(messages[1]["parent"], messages[0]["id"]);
    assert_eq!(messages[1], done["answer"]);
    assert_eq!(messages[0]["by"]["pid"], std::process::id());
}

#[tokio::test]
async fn a_turn_goes_to_the_model_with_all_that_was_said_before() {
    let (stub, _daemon, mut wire, session) =
        scripted(json!([{"text": "one "}, {"text": "two"}])).await;
    wire.ok("session/update", json!({"session": session, "system": "be brief"})).await;
    wire.turn(&session, "hello").await;
    let done = wire.turn(&session, "again").await;
    assert_eq!(said(&done["answer"]), "one two");
    let log = stub.log().await.unwrap();
    let last = log.iter().rev().find_map(|it| match &it.what {
        What::Request { messages, stream, .. } => Some((messages.value(), *stream)),
        _ => None,
    });
    let (messages, stream) = last.unwrap();
    assert!(stream);
    let roles: Vec<_> = messages.as_array().unwrap().iter().map(|it| text(&it["role"])).collect();
    assert_eq!(roles, ["system", "user", "assistant", "user"]);
    assert_eq!(messages[0]["content"].as_str(), Some("be brief"), "its agent adds nothing");
}

#[tokio::test]
async fn usage_and_iterations_are_those_of_the_models_calls() {
    let usage = json!({"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12,
        "prompt_tokens_details": {"cached_tokens": 3}, "completion_tokens_details": {"reasoning_tokens": 2}});
    let (_stub, _daemon, mut wire, session) =
        scripted(json!([{"text": "x"}, {"usage": usage}])).await;
    let done = wire.turn(&session, "hello").await;
    let expected = json!({"input_tokens": 7, "output_tokens": 5, "total_tokens": 12, "cost_usd": null,
        "cache_read_tokens": 3, "cache_write_tokens": 0, "reasoning_tokens": 2});
    assert_eq!(done["task"]["usage"], expected);
    assert_eq!(done["answer"]["usage"], expected);
    wire.turn(&session, "again").await;
    let session = wire.get(&session).await;
    assert_eq!(
        (&session["usage"]["total_tokens"], &session["iterations"]),
        (&json!(24), &json!(2))
    );
    assert_eq!((&session["messages"], &session["tasks"]), (&json!(4), &json!(2)));
}

#[tokio::test]
async fn reasoning_is_a_block_of_its_own_before_the_text() {
    let steps = json!([{"reasoning": "let me "}, {"reasoning": "think"}, {"text": "so"}]);
    let (_stub, _daemon, mut wire, session) = scripted(steps).await;
    let done = wire.turn(&session, "hello").await;
    let expected =
        json!([{"type": "reasoning", "text": "let me think"}, {"type": "text", "text": "so"}]);
    assert_eq!(done["answer"]["content"], expected);
}

#[tokio::test]
async fn what_is_sent_to_a_busy_session_runs_in_the_order_sent() {
    let (stub, _daemon, mut wire, session, _first) = held().await;
    let mut sent = Vec::new();
    for number in 1..=5 {
        let one = wire.say(&session, &format!("number {number}")).await;
        assert_eq!(one["position"], number);
        sent.push(one);
    }
    let state = wire.get(&session).await;
    assert_eq!(state["queued"], 5);
    assert_eq!(wire.texts(&session).await, ["first"], "what waits is no message yet");
    stub.release("h").await.unwrap();
    for one in &sent {
        assert_eq!(wire.wait(one).await["task"]["status"], "completed");
    }
    let expected: Vec<_> = (1..=5).map(|it| format!("number {it}")).collect();
    assert_eq!(asked(&stub).await[1..], expected);
    let idle = wire.get(&session).await;
    assert_eq!((&idle["queued"], idle.get("running")), (&json!(0), None));
}

#[tokio::test]
async fn reject_is_refused_while_something_runs_or_waits() {
    let (stub, _daemon, mut wire, session, first) = held().await;
    let data = wire.refused("busy", "chat/send", with(&session, "x", "reject")).await;
    assert_eq!(data["task"], first["task"]);
    stub.release("h").await.unwrap();
    wire.wait(&first).await;
    let sent = wire.ok("chat/send", with(&session, "y", "reject")).await;
    assert_eq!(said(&wire.wait(&sent).await["answer"]), "y");
}

#[tokio::test]
async fn interrupt_cancels_what_runs_goes_first_and_keeps_the_queue() {
    let (stub, _daemon, mut wire, session, first) = held().await;
    let waiting = wire.say(&session, "waiting").await;
    let urgent = wire.ok("chat/send", with(&session, "urgent", "interrupt")).await;
    let cancelled = wire.wait(&first).await;
    assert_eq!(cancelled["task"]["status"], "cancelled");
    assert_eq!(cancelled["task"]["reason"], "interrupted_by");
    assert_eq!(said(&cancelled["answer"]), "begun ");
    assert_eq!(cancelled["answer"]["status"], "partial");
    let done = wire.wait(&urgent).await["task"].clone();
    assert_eq!(done["replaces"], json!({"task": first["task"], "rollback": false}));
    wire.wait(&waiting).await;
    assert_eq!(asked(&stub).await, ["first", "urgent", "waiting"]);
}

#[tokio::test]
async fn of_two_interrupts_the_later_runs_first() {
    let (stub, _daemon, mut wire, session, _first) = held().await;
    stub.script_once("stub", json!([{"hold": "i"}])).await.unwrap();
    let one = wire.ok("chat/send", with(&session, "one", "interrupt")).await;
    until_held(&stub, "i").await;
    let two = wire.ok("chat/send", with(&session, "two", "interrupt")).await;
    assert_eq!(wire.wait(&one).await["task"]["status"], "cancelled");
    assert_eq!(wire.wait(&two).await["task"]["status"], "completed");
}

#[tokio::test]
async fn interrupt_of_an_idle_session_is_a_plain_send() {
    let (_stub, _daemon, mut wire, session) = scripted(json!([{"echo": true}])).await;
    let sent = wire.ok("chat/send", with(&session, "x", "interrupt")).await;
    assert_eq!(sent["position"], 0);
    let done = wire.wait(&sent).await;
    assert_eq!(done["task"]["status"], "completed");
    assert_eq!(done["task"].get("replaces"), None);
}

#[tokio::test]
async fn a_queue_takes_25_and_refuses_one_more() {
    let (stub, _daemon, mut wire, session, _first) = held().await;
    let mut last = json!({});
    for number in 1..=QUEUE_MAX {
        last = wire.say(&session, &format!("{number}")).await;
    }
    let data = wire.refused("overloaded", "chat/send", with(&session, "x", "queue")).await;
    assert!(data["retry_after_ms"].is_u64(), "{data}");
    assert_eq!(wire.get(&session).await["queued"], QUEUE_MAX);
    stub.release("h").await.unwrap();
    wire.wait(&last).await;
    assert_eq!(asked(&stub).await.len(), 1 + QUEUE_MAX);
}

#[tokio::test]
async fn a_cancelled_task_frees_the_session_and_keeps_what_was_said() {
    let (stub, _daemon, mut wire, session, first) = held().await;
    let begin = Instant::now();
    let cancelled = wire.ok("task/cancel", json!({"task": first["task"]})).await;
    assert_eq!(cancelled["task"]["status"], "cancelled");
    assert_eq!(cancelled["task"]["reason"], "user");
    // The connection to the model is closed at once, not when the answer is over.
    stub.wait_for(|it| matches!(it.what, What::Ended { how: How::Disconnected, .. }))
        .await
        .unwrap();
    assert!(begin.elapsed() < AT_ONCE, "it was left to a deadline");
    assert_eq!(wire.texts(&session).await, ["first", "begun "]);
    let next = wire.turn(&session, "next").await;
    assert_eq!(next["task"]["status"], "completed");
    let again = wire.ok("task/cancel", json!({"task": first["task"]})).await;
    assert_eq!(again["task"], cancelled["task"], "a final task stays as it is");
}

#[tokio::test]
async fn a_task_cancelled_before_its_first_piece_leaves_no_answer() {
    let (stub, _daemon, mut wire, session) = scripted(json!([{"head": true}, {"hold": "h"}])).await;
    let sent = wire.say(&session, "hello").await;
    until_held(&stub, "h").await;
    wire.ok("task/cancel", json!({"task": sent["task"]})).await;
    assert_eq!(wire.texts(&session).await, ["hello"]);
    assert_eq!(wire.wait(&sent).await.get("answer"), None);
}

#[tokio::test]
async fn a_queued_task_that_is_cancelled_never_runs() {
    let (stub, _daemon, mut wire, session, first) = held().await;
    let never = wire.say(&session, "never").await;
    let last = wire.say(&session, "last").await;
    let cancelled = wire.ok("task/cancel", json!({"task": never["task"]})).await;
    assert_eq!(cancelled["task"]["status"], "cancelled");
    assert_eq!(wire.get(&session).await["queued"], 1);
    stub.release("h").await.unwrap();
    for sent in [first, last] {
        wire.wait(&sent).await;
    }
    assert_eq!(asked(&stub).await, ["first", "last"]);
    assert_eq!(wire.texts(&session).await, ["first", "begun done", "last", "last"]);
}

#[tokio::test]
async fn a_wait_past_its_time_answers_the_task_as_it_is() {
    let (_stub, _daemon, mut wire, _session, first) = held().await;
    for timeout_ms in [0, 20] {
        let params = json!({"task": first["task"], "timeout_ms": timeout_ms});
        assert_eq!(wire.ok("task/wait", params).await["task"]["status"], "running");
    }
    let task = wire.ok("task/get", json!({"task": first["task"]})).await["task"].clone();
    assert_eq!(task["status"], "running");
    assert_eq!(task["request"]["message"], first["message"]);
}

#[tokio::test]
async fn a_request_may_name_its_model() {
    let (stub, _daemon, mut wire, session) = scripted(json!([{"text": "x"}])).await;
    let sent = json!({"session": session, "content": "hi there", "model": "echo/echo"});
    let sent = wire.ok("chat/send", sent).await;
    assert_eq!(said(&wire.wait(&sent).await["answer"]), "hi there");
    assert_eq!(asked(&stub).await.len(), 0);
    assert_eq!(wire.get(&session).await["model"], "stub/stub", "the session's own stays");
}

#[tokio::test]
async fn an_expected_head_that_moved_refuses_the_send() {
    let (_stub, _daemon, mut wire, session) = scripted(json!([{"echo": true}])).await;
    let one = wire.turn(&session, "one").await["answer"]["id"].clone();
    let two = wire.turn(&session, "two").await["answer"]["id"].clone();
    let stale = json!({"session": session, "content": "x", "expect_head": one});
    let data = wire.refused("conflict", "chat/send", stale).await;
    assert!(data.to_string().contains(two.as_str().unwrap()), "what stands: {data}");
    let fresh = json!({"session": session, "content": "x", "expect_head": two});
    wire.ok("chat/send", fresh).await;
}

#[tokio::test]
async fn a_text_over_64_kibibytes_is_kept_once_and_read_in_pieces() {
    let (stub, _daemon, mut wire, session) = scripted(json!([{"text": "read"}])).await;
    let long = "äöü€ ".repeat(14_000);
    wire.turn(&session, &long).await;
    let messages = wire.ok("message/list", json!({"session": session})).await["messages"].clone();
    let block = &messages[0]["content"][0];
    assert_eq!(block["bytes"], long.len());
    let head = block["text"].as_str().unwrap();
    assert!(long.starts_with(head) && (4_090..=4_096).contains(&head.len()), "{}", head.len());
    let mut whole = Vec::new();
    loop {
        let params = json!({"blob": block["blob"], "offset": whole.len(), "length": 50_000});
        let piece = wire.ok("blob/get", params).await;
        assert_eq!((&piece["offset"], &piece["bytes"]), (&json!(whole.len()), &json!(long.len())));
        whole.extend(bytes(&piece["data"]));
        if piece["last"] == true {
            break;
        }
    }
    assert_eq!(whole, long.as_bytes());
    until_asked(&stub, &long).await;
}

#[tokio::test]
async fn a_long_answer_is_kept_as_a_blob_too() {
    let (_stub, _daemon, mut wire, session) =
        scripted(json!([{"pieces": 20_000, "text": "w{i} "}])).await;
    let answer = wire.turn(&session, "go").await["answer"].clone();
    let block = &answer["content"][0];
    let expected: String = (0..20_000).map(|it| format!("w{it} ")).collect();
    assert_eq!(block["bytes"], expected.len());
    let whole = wire.ok("blob/get", json!({"blob": block["blob"]})).await;
    assert_eq!(bytes(&whole["data"]), expected.as_bytes());
}

#[tokio::test]
async fn content_may_be_blocks_and_what_no_model_can_see_is_refused_with_nothing_done() {
    let (_stub, _daemon, mut wire, session) = scripted(json!([{"text": "read"}])).await;
    let texts = json!([{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]);
    let sent = wire.ok("chat/send", json!({"session": session, "content": texts})).await;
    wire.wait(&sent).await;
    let messages = wire.ok("message/list", json!({"session": session})).await["messages"].clone();
    assert_eq!(messages[0]["content"], texts);
    let picture = json!([{"type": "image", "media_type": "image/png", "data": "iVBORw0KGgo="}]);
    let send = json!({"session": session, "content": picture, "model": "echo/echo"});
    wire.refused("unsupported", "chat/send", send).await;
    assert_eq!(wire.get(&session).await["tasks"], 1);
}

#[tokio::test]
async fn a_send_without_session_makes_one_in_the_same_commit() {
    let (_stub, _daemon, mut wire, _session) = scripted(json!([{"echo": true}])).await;
    let sent = wire.ok("chat/send", json!({"content": "hello to all"})).await;
    let session = text(&sent["session"]);
    assert_eq!(said(&wire.wait(&sent).await["answer"]), "hello to all");
    let made = wire.get(&session).await;
    assert_eq!((&made["title"], &made["model"]), (&json!("hello to all"), &json!("stub/stub")));
    wire.follow_from_start(&session).await;
    let kinds = [wire.next_notification().await, wire.next_notification().await];
    assert_eq!(kinds.each_ref().map(|it| it.kind()), ["session.created", "task.started"]);
    // The mark of a commit is in the cursors of all its events.
    let [one, two] = kinds.map(|it| text(&it.params["cursor"]));
    assert_eq!(one.rsplit(':').next(), two.rsplit(':').next());
}

#[tokio::test]
async fn a_send_that_is_refused_makes_no_session() {
    let (_stub, _daemon, mut wire, _session) = scripted(json!([{"echo": true}])).await;
    let params = json!({"content": "x", "model": "nobody/nothing"});
    let _ = wire.call("chat/send", params).await;
    wire.refused("not_found", "chat/send", json!({"content": "x", "thread": "fork-12345678"}))
        .await;
    wire.refused("invalid_params", "chat/send", json!({"content": []})).await;
    let list = wire.ok("session/list", json!({})).await;
    assert!(list["sessions"].as_array().unwrap().len() <= 2, "{list}");
}
