//! What is left after the daemon's end, and what goes on by itself?

use serde_json::{Value, json};
use sess_tests::harness::{Daemon, Plan, Wire, asked, said, stub, until_asked, until_held};
use sess_tests::stub::Stub;

/// A session whose answer is `begun ` so far, held at `h`, with `second` and `third` behind it.
async fn busy() -> (Stub, Daemon, Wire, String, [Value; 3]) {
    let stub = stub().await;
    stub.script_once("stub", json!([{"text": "begun "}, {"hold": "h"}, {"text": "done"}]))
        .await
        .unwrap();
    let daemon = Daemon::with_stub(&stub).await;
    let mut wire = daemon.wire().await;
    let session = wire.session().await;
    wire.follow(&session).await;
    let first = wire.say(&session, "first").await;
    wire.until_written("begun ").await;
    until_held(&stub, "h").await;
    let second = wire.say(&session, "second").await;
    let third = wire.say(&session, "third").await;
    (stub, daemon, wire, session, [first, second, third])
}

#[tokio::test]
async fn what_waits_in_the_queue_runs_after_a_kill_without_any_client() {
    let (stub, daemon, wire, session, [first, second, third]) = busy().await;
    drop(wire);
    let daemon = daemon.killed_and_restarted().await;
    until_asked(&stub, "third").await;
    let mut wire = daemon.wire().await;
    for sent in [&second, &third] {
        assert_eq!(wire.wait(sent).await["task"]["status"], "completed");
    }
    assert_eq!(asked(&stub).await, ["first", "second", "third"], "nothing is asked twice");
    let interrupted = wire.wait(&first).await["task"].clone();
    assert_eq!(interrupted["status"], "interrupted");
    assert_eq!(interrupted["reason"], "crash");
    assert_eq!(wire.get(&session).await["queued"], 0);
}

#[tokio::test]
async fn text_that_was_persisted_is_kept_over_a_kill() {
    let (_stub, daemon, mut wire, session, [first, ..]) = busy().await;
    wire.ok("session/persist", json!({"session": session})).await;
    let daemon = daemon.killed_and_restarted().await;
    let mut wire = daemon.wire().await;
    let waited = wire.wait(&first).await;
    assert_eq!(said(&waited["answer"]), "begun ");
    assert_eq!(waited["answer"]["status"], "partial");
    assert_eq!(wire.texts(&session).await[..2], ["first", "begun "]);
}

#[tokio::test]
async fn the_message_of_a_cut_answer_has_the_id_that_was_told_while_it_came() {
    let (_stub, daemon, mut wire, session, [first, ..]) = busy().await;
    let mut late = daemon.wire().await;
    let live = late.follow(&session).await["live"].clone();
    wire.ok("session/persist", json!({"session": session})).await;
    let daemon = daemon.killed_and_restarted().await;
    let mut wire = daemon.wire().await;
    assert_eq!(wire.wait(&first).await["answer"]["id"], live["message"]);
    wire.follow_from_start(&session).await;
    let event = wire.event("task.interrupted").await;
    assert_eq!(event["data"]["message"]["id"], live["message"]);
    assert_eq!(event["data"]["session"]["running"], Value::Null);
}

#[tokio::test]
async fn everything_acknowledged_is_there_after_a_kill() {
    let daemon = Daemon::start().await;
    let mut wire = daemon.wire().await;
    let session = wire.session().await;
    for number in 0..20 {
        wire.turn(&session, &format!("{number}")).await;
    }
    let before = (wire.get(&session).await, wire.texts(&session).await);
    let daemon = daemon.killed_and_restarted().await;
    let mut wire = daemon.wire().await;
    assert_eq!((wire.get(&session).await, wire.texts(&session).await), before);
}

#[tokio::test]
async fn a_follower_goes_on_by_its_cursor_over_a_kill_and_misses_nothing() {
    let (_stub, daemon, mut wire, session, [.., third]) = busy().await;
    let told =
        wire.until(|it| it.kind() == "task.queued" && it.params["task"] == third["task"]).await;
    let last = &told.last().unwrap().params;
    let daemon = daemon.killed_and_restarted().await;
    let mut wire = daemon.wire().await;
    let after = json!({"session": session, "after": last["cursor"], "deltas": false});
    wire.ok("session/follow", after).await;
    let rest =
        wire.until(|it| it.kind() == "task.completed" && it.params["task"] == third["task"]).await;
    let first = last["seq"].as_u64().unwrap() + 1;
    let seqs: Vec<_> = rest.iter().map(|it| it.params["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (first..first + seqs.len() as u64).collect::<Vec<_>>());
    assert_eq!(rest[0].kind(), "task.interrupted");
}

#[tokio::test]
async fn a_wait_for_an_interrupted_task_ends_after_the_restart() {
    let (_stub, daemon, _wire, _session, [first, ..]) = busy().await;
    let daemon = daemon.killed_and_restarted().await;
    let task = daemon.wire().await.wait(&first).await["task"].clone();
    assert!(task["ended_at"].is_string());
    assert_eq!((&task["status"], &task["reason"]), (&json!("interrupted"), &json!("crash")));
}

#[tokio::test]
async fn a_kill_over_and_over_doubles_nothing() {
    let (stub, mut daemon, wire, session, _sent) = busy().await;
    drop(wire);
    for _ in 0..5 {
        daemon = daemon.killed_and_restarted().await;
    }
    let mut wire = daemon.wire().await;
    let list = wire.ok("task/list", json!({"session": session})).await;
    for task in list["tasks"].as_array().unwrap() {
        wire.ok("task/wait", json!({"task": task["id"]})).await;
    }
    let messages = wire.texts(&session).await;
    for said in ["first", "second", "third"] {
        // The echo may say a request once more, as its answer.
        assert!(
            (1..=2).contains(&messages.iter().filter(|it| *it == said).count()),
            "{messages:?}"
        );
    }
    assert_eq!(wire.get(&session).await["tasks"], 3);
    assert!(asked(&stub).await.len() <= 3, "nothing is asked twice");
}

#[tokio::test]
async fn a_planned_stop_puts_the_running_task_at_the_front_and_it_goes_on() {
    let (stub, daemon, mut wire, session, [first, second, _]) = busy().await;
    let shutdown = wire.start("daemon/shutdown", json!({"drain": false})).await;
    let plan = daemon.plan().clone();
    assert_eq!(wire.answer(shutdown).await, Ok(json!({})));
    assert_eq!(daemon.exit_code().await, 0);
    let daemon = plan.start().await;
    let mut wire = daemon.wire().await;
    assert_eq!(wire.wait(&first).await["task"]["status"], "completed");
    wire.wait(&second).await;
    assert_eq!(asked(&stub).await[..3], ["first", "first", "second"]);
    assert_eq!(wire.texts(&session).await[..3], ["first", "first", "second"], "no partial answer");
    wire.follow_from_start(&session).await;
    let back = wire.until(|it| it.params["data"]["task"]["reason"] == "restart").await;
    assert_eq!(back.last().unwrap().kind(), "task.queued");
    let again = wire.event("task.started").await;
    assert_eq!((&again["task"], again["data"].get("message")), (&first["task"], None));
}

#[tokio::test]
async fn a_stop_waits_for_an_answer_that_comes_in_time() {
    let (stub, daemon, mut wire, session, [first, ..]) = busy().await;
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    daemon.stopping().await;
    stub.release("h").await.unwrap();
    let plan = daemon.plan().clone();
    assert_eq!(daemon.exit_code().await, 0);
    wire.rest().await;
    let daemon = plan.start().await;
    let mut wire = daemon.wire().await;
    let done = wire.wait(&first).await;
    assert_eq!(done["task"]["status"], "completed");
    assert_eq!(wire.texts(&session).await[..2], ["first", "begun done"]);
}

#[tokio::test]
async fn a_terminated_daemon_ends_with_zero_and_removes_nothing() {
    let daemon = Daemon::start().await;
    let mut wire = daemon.wire().await;
    let session = wire.session().await;
    wire.turn(&session, "hello").await;
    let plan = daemon.plan().clone();
    assert_eq!(daemon.terminate().await, 0);
    let daemon = plan.start().await;
    assert_eq!(daemon.wire().await.texts(&session).await, ["hello", "hello"]);
}

#[tokio::test]
async fn while_it_stops_nothing_new_is_taken() {
    let (_stub, daemon, mut wire, session, _sent) = busy().await;
    let mut other = daemon.wire().await;
    other.get(&session).await;
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    daemon.stopping().await;
    let send = json!({"session": session, "content": "too late"});
    let error = other.call("chat/send", send).await.unwrap_err();
    assert_eq!(error["data"]["kind"], "shutting_down", "{error}");
    assert!(error["data"]["retry_after_ms"].is_u64());
    wire.ok("task/list", json!({"session": session})).await;
    daemon.kill().await;
}

#[tokio::test]
async fn the_queue_of_a_paused_session_waits_over_a_restart() {
    let daemon = Daemon::start().await;
    let mut wire = daemon.wire().await;
    let session = wire.session().await;
    wire.ok("session/update", json!({"session": session, "status": "paused"})).await;
    let sent = wire.say(&session, "hello").await;
    let daemon = daemon.killed_and_restarted().await;
    let mut wire = daemon.wire().await;
    let params = json!({"task": sent["task"], "timeout_ms": 50});
    assert_eq!(wire.ok("task/wait", params).await["task"]["status"], "queued");
    wire.ok("session/update", json!({"session": session, "status": "active"})).await;
    assert_eq!(wire.wait(&sent).await["task"]["status"], "completed");
}

#[tokio::test]
async fn the_store_has_the_same_history_after_every_start() {
    let daemon = Plan::new().start().await;
    let history = async |daemon: &Daemon| {
        daemon.wire().await.ok("daemon/status", json!({})).await["store"]["history"].clone()
    };
    let first = history(&daemon).await;
    let daemon = daemon.killed_and_restarted().await;
    assert_eq!(history(&daemon).await, first);
}
