//! What becomes of tasks that are changed or tried again, of events of others, of what nobody needs?

use serde_json::json;
use sess_tests::harness::table::text;
use sess_tests::harness::{Daemon, asked, held, said};

#[tokio::test]
async fn a_task_that_waits_may_be_asked_otherwise_and_put_elsewhere() {
    let (stub, _daemon, mut wire, session, first) = held().await;
    let mut sent = Vec::new();
    for name in ["a", "b", "c"] {
        sent.push(wire.say(&session, name).await);
    }
    let last = json!({"task": sent[2]["task"], "content": "c, please", "position": 1});
    let updated = wire.ok("task/update", last).await;
    assert_eq!(
        (&updated["task"]["position"], said(&updated["task"]["request"])),
        (&json!(1), "c, please".into())
    );
    assert_eq!(updated["seq"], wire.get(&session).await["seq"]);
    wire.ok("task/update", json!({"task": sent[0]["task"], "position": 99})).await;
    stub.release("h").await.unwrap();
    for one in &sent {
        assert_eq!(wire.wait(one).await["task"]["status"], "completed");
    }
    assert_eq!(asked(&stub).await, ["first", "c, please", "b", "a"]);
    let data = wire
        .refused("conflict", "task/update", json!({"task": first["task"], "position": 1}))
        .await;
    assert_eq!(data["status"], "completed");
}

#[tokio::test]
async fn a_running_task_is_not_changed_nor_tried_again() {
    let (_stub, _daemon, mut wire, _session, first) = held().await;
    let update = json!({"task": first["task"], "content": "x"});
    let data = wire.refused("conflict", "task/update", update).await;
    assert_eq!(data["status"], "running");
    let data = wire.refused("conflict", "task/retry", json!({"task": first["task"]})).await;
    assert_eq!(data["status"], "running");
    wire.refused("invalid_params", "task/update", json!({"task": first["task"]})).await;
}

#[tokio::test]
async fn a_retry_from_the_start_asks_the_same_request_again() {
    let (stub, _daemon, mut wire, session, first) = held().await;
    wire.ok("task/cancel", json!({"task": first["task"]})).await;
    let retry = wire.ok("task/retry", json!({"task": first["task"], "from": "start"})).await;
    assert_eq!(retry["task"]["retry_of"], first["task"]);
    assert_eq!(retry["task"]["status"], "running");
    let done = wire.ok("task/wait", json!({"task": retry["task"]["id"]})).await;
    assert_eq!(done["task"]["request"]["message"], first["message"]);
    assert_eq!(wire.texts(&session).await, ["first", "first"], "the partial answer is left behind");
    assert_eq!(asked(&stub).await, ["first", "first"]);
    assert_eq!(wire.get(&session).await["tasks"], 2);
}

#[tokio::test]
async fn a_retry_from_here_keeps_the_partial_answer() {
    let (stub, _daemon, mut wire, session, first) = held().await;
    wire.ok("task/cancel", json!({"task": first["task"]})).await;
    stub.script_once("stub", json!([{"text": "the rest"}])).await.unwrap();
    let retry = wire.ok("task/retry", json!({"task": first["task"], "from": "here"})).await;
    let done = wire.ok("task/wait", json!({"task": retry["task"]["id"]})).await;
    assert_eq!(said(&done["answer"]), "the rest");
    assert_eq!(wire.texts(&session).await, ["first", "begun ", "the rest"]);
}

#[tokio::test]
async fn a_retry_that_waits_goes_back_when_it_starts_also_after_a_kill() {
    let (_stub, daemon, mut wire, session, first) = held().await;
    wire.ok("task/cancel", json!({"task": first["task"]})).await;
    wire.ok("session/update", json!({"session": session, "status": "paused"})).await;
    let params = json!({"task": first["task"], "idempotency_key": "again"});
    let retry = wire.ok("task/retry", params.clone()).await;
    assert_eq!(retry["task"]["status"], "queued");
    let daemon = daemon.killed_and_restarted().await;
    let mut wire = daemon.wire().await;
    assert_eq!(wire.ok("task/retry", params).await, retry);
    wire.ok("session/update", json!({"session": session, "status": "active"})).await;
    let done = wire.ok("task/wait", json!({"task": retry["task"]["id"]})).await;
    assert_eq!(done["task"]["status"], "completed");
    assert_eq!(wire.texts(&session).await, ["first", "first"]);
}

#[tokio::test]
async fn a_request_that_never_ran_is_tried_with_a_message_of_its_own() {
    let (stub, _daemon, mut wire, session, first) = held().await;
    let never = wire.say(&session, "never").await;
    wire.ok("task/cancel", json!({"task": never["task"]})).await;
    let retry = wire.ok("task/retry", json!({"task": never["task"]})).await;
    assert_ne!(retry["task"]["request"]["message"], never["message"]);
    stub.release("h").await.unwrap();
    wire.wait(&first).await;
    let done = wire.ok("task/wait", json!({"task": retry["task"]["id"]})).await;
    assert_eq!(said(&done["answer"]), "never");
}

#[tokio::test]
async fn an_event_of_a_front_end_is_kept_and_told_and_changes_nothing_else() {
    let daemon = Daemon::start().await;
    let mut wire = daemon.wire().await;
    let session = wire.session().await;
    let before = wire.get(&session).await;
    let own = json!({"session": session, "type": "editor:cursor", "stream": "left",
        "data": {"line": 7, "session": {"title": "mine"}}});
    let kept = wire.ok("event/append", own.clone()).await;
    assert_eq!(kept["event"]["data"], own["data"]);
    let daemon = daemon.killed_and_restarted().await;
    let mut wire = daemon.wire().await;
    wire.follow_from_start(&session).await;
    let told = wire.event("editor:cursor").await;
    assert_eq!((&told["seq"], &told["stream"]), (&kept["seq"], &json!("left")));
    let mut after = wire.get(&session).await;
    assert_eq!(after["seq"], 2);
    for member in ["seq", "updated_at", "followers"] {
        after[member] = before[member].clone();
    }
    assert_eq!(after, before);
    for kind in ["plain", "task:", ":x", "a b:c"] {
        let params = json!({"session": session, "type": kind, "data": {}});
        let data = wire.refused("invalid_params", "event/append", params).await;
        assert_eq!(data["param"], "type");
    }
    let long = json!({"session": session, "type": "a:b", "data": {"x": "x".repeat(64 * 1024)}});
    wire.refused("invalid_params", "event/append", long).await;
}

#[tokio::test]
async fn a_cleanup_removes_what_nobody_needs_and_nothing_else() {
    let (_stub, daemon, mut wire, busy, _first) = held().await;
    let empty = wire.session().await;
    let tagged = text(&wire.ok("session/create", json!({"tags": ["keep"]})).await["id"]);
    let locked = wire.session().await;
    wire.ok("session/lock", json!({"session": locked})).await;
    let followed = wire.session().await;
    daemon.wire().await.follow(&followed).await;
    let mut watcher = daemon.wire().await;
    watcher.follow(&followed).await;
    wire.refused("invalid_params", "session/cleanup", json!({})).await;
    let dry = json!({"before": "2100-01-01T00:00:00.000Z", "dry_run": true});
    let named = wire.ok("session/cleanup", dry).await;
    assert_eq!(named["removed"], 0);
    let mut expected = [tagged.clone(), empty.clone()];
    // Of those of one millisecond either may come first.
    expected.sort();
    let mut found: Vec<String> = named["sessions"].as_array().unwrap().iter().map(text).collect();
    found.sort();
    assert_eq!(found, expected);
    let params = json!({"empty": true, "keep_tagged": true, "idempotency_key": "clean"});
    let gone = wire.ok("session/cleanup", params.clone()).await;
    assert_eq!(gone, json!({"removed": 1, "sessions": [empty]}));
    assert_eq!(wire.ok("session/cleanup", params).await, gone, "a retry is answered as before");
    wire.refused("not_found", "session/get", json!({"session": empty})).await;
    for session in [&busy, &tagged, &locked, &followed] {
        wire.get(session).await;
    }
}
