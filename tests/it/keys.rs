//! Is each change made once, however often it is asked for?
//!
//! Made from the method table: what a method promises by its entry there is tried for every method with that entry.

use serde_json::{Value, json};
use sess_protocol::methods::{Access, METHODS, MethodInfo};
use sess_tests::figures::figure;
use sess_tests::harness::table::{World, daemon_with_world};
use sess_tests::harness::{Daemon, Wire};

/// Clients that send the same request at once.
const AT_ONCE: usize = 16;

fn keyed() -> impl Iterator<Item = &'static MethodInfo> {
    METHODS.iter().filter(|it| it.keyed)
}

fn with(mut params: Value, name: &str, value: impl Into<Value>) -> Value {
    params[name] = value.into();
    params
}

/// All that a change could change: sessions, and the number of the last event of each log.
async fn effects(wire: &mut Wire, world: &World) -> Value {
    let list = wire.ok("session/list", json!({"empty": true})).await;
    let session = wire.call("session/get", json!({"session": world.session})).await;
    let global = wire.ok("session/follow", json!({"session": "global"})).await["cursor"].clone();
    wire.ok("session/unfollow", json!({"session": "global"})).await;
    let global = global.as_str().unwrap().rsplit(':').nth(1).unwrap().to_owned();
    let seq = session.as_ref().ok().map(|it| it["seq"].clone());
    let tasks = session.as_ref().ok().map(|it| it["tasks"].clone());
    json!([list["sessions"].as_array().unwrap().len(), seq, tasks, global])
}

/// What one call of a method does in a world of its own.
async fn effects_of_one(method: &MethodInfo) -> (Value, Value) {
    let (_stub, _daemon, mut wire, world) = daemon_with_world().await;
    let before = effects(&mut wire, &world).await;
    wire.ok(method.name, world.example(method.name)).await;
    (before, effects(&mut wire, &world).await)
}

async fn the_same_key_at_once(method: &MethodInfo) {
    let (_stub, daemon, mut wire, world) = daemon_with_world().await;
    let params = with(world.example(method.name), "idempotency_key", "the same");
    let before = effects(&mut wire, &world).await;
    let mut started = Vec::new();
    for _ in 0..AT_ONCE {
        let mut wire = daemon.wire().await;
        let id = wire.start(method.name, params.clone()).await;
        started.push((wire, id));
    }
    let mut answers = Vec::new();
    for (wire, id) in &mut started {
        answers.push(wire.answer(*id).await);
    }
    assert!(answers[0].is_ok(), "`{}`: {:?}", method.name, answers[0]);
    assert!(answers.iter().all(|it| *it == answers[0]), "`{}`: {answers:#?}", method.name);
    let after = effects(&mut wire, &world).await;
    assert_eq!((before, after), effects_of_one(method).await, "`{}`: one effect", method.name);
}

#[tokio::test]
async fn sixteen_requests_with_one_key_have_one_effect_and_one_answer() {
    let mut methods = 0;
    for method in keyed() {
        the_same_key_at_once(method).await;
        methods += 1;
    }
    let of = format!("{methods} methods, {AT_ONCE} at once");
    figure("R4", "effects beyond one, or other answers, of one key", 0, of);
}

#[tokio::test]
async fn a_key_answers_the_same_after_a_kill() {
    for method in keyed() {
        let (_stub, daemon, mut wire, world) = daemon_with_world().await;
        let params = with(world.example(method.name), "idempotency_key", "over the end");
        let first = wire.ok(method.name, params.clone()).await;
        let daemon = daemon.killed_and_restarted().await;
        let mut wire = daemon.wire().await;
        let before = settled(&mut wire, &world).await;
        let again = wire.ok(method.name, params).await;
        assert_eq!(again, first, "`{}`", method.name);
        assert_eq!(settled(&mut wire, &world).await, before, "`{}` did nothing", method.name);
    }
}

/// The effects when nothing moves by itself: after a restart the queue runs up to the held task.
async fn settled(wire: &mut Wire, world: &World) -> Value {
    let session = json!({"session": world.session, "after": "start", "deltas": false});
    if wire.call("session/follow", session).await.is_ok() {
        loop {
            let session = wire.get(&world.session).await;
            if session["running"].is_string() || session["queued"] == 0 {
                break;
            }
            wire.next_notification().await;
        }
    }
    effects(wire, world).await
}

#[tokio::test]
async fn a_key_with_other_params_is_a_conflict() {
    for method in keyed() {
        let (_stub, _daemon, mut wire, world) = daemon_with_world().await;
        let first = with(world.example(method.name), "idempotency_key", "taken");
        wire.ok(method.name, first.clone()).await;
        let before = effects(&mut wire, &world).await;
        let other = with(world.other_example(method.name), "idempotency_key", "taken");
        wire.refused("conflict", method.name, other).await;
        assert_eq!(effects(&mut wire, &world).await, before, "`{}`", method.name);
        wire.ok(method.name, first).await;
    }
}

#[tokio::test]
async fn a_key_is_kept_also_where_there_was_nothing_to_cancel() {
    let (_stub, daemon, mut wire, world) = daemon_with_world().await;
    wire.ok("task/cancel", json!({"task": world.queued})).await;
    let params = json!({"task": world.queued, "idempotency_key": "too late"});
    let first = wire.ok("task/cancel", params.clone()).await;
    assert_eq!(first["task"]["status"], "cancelled");
    // The session goes on, so that the same answer can only be the one that was kept.
    wire.ok("session/update", json!({"session": world.session, "title": "another"})).await;
    assert_eq!(wire.ok("task/cancel", params.clone()).await, first);
    let other = json!({"task": world.running, "idempotency_key": "too late"});
    wire.refused("conflict", "task/cancel", other).await;
    let update = json!({"session": world.session, "idempotency_key": "too late"});
    wire.refused("conflict", "session/update", update).await;
    let daemon = daemon.killed_and_restarted().await;
    assert_eq!(daemon.wire().await.ok("task/cancel", params).await, first);
}

#[tokio::test]
async fn a_key_is_one_for_all_methods() {
    let (_stub, _daemon, mut wire, world) = daemon_with_world().await;
    let send = with(world.example("chat/send"), "idempotency_key", "one name");
    wire.ok("chat/send", send).await;
    for method in keyed().filter(|it| it.name != "chat/send") {
        let params = with(world.example(method.name), "idempotency_key", "one name");
        wire.refused("conflict", method.name, params).await;
    }
}

#[tokio::test]
async fn a_stale_expectation_changes_nothing() {
    for method in METHODS.iter().filter(|it| it.expect_seq) {
        let (_stub, _daemon, mut wire, world) = daemon_with_world().await;
        if method.name == "session/release" {
            wire.ok("session/lock", json!({"session": world.session})).await;
        }
        let before = effects(&mut wire, &world).await;
        let stale = before[1].as_u64().unwrap() - 1;
        let params = with(world.example(method.name), "expect_seq", stale);
        let data = wire.refused("conflict", method.name, params).await;
        assert_eq!(data["seq"], before[1], "`{}` says what stands", method.name);
        assert_eq!(effects(&mut wire, &world).await, before, "`{}`", method.name);
        let params = with(world.example(method.name), "expect_seq", before[1].clone());
        wire.ok(method.name, params).await;
    }
}

#[tokio::test]
async fn a_stale_head_changes_nothing() {
    for method in METHODS.iter().filter(|it| it.expect_head) {
        let (_stub, _daemon, mut wire, world) = daemon_with_world().await;
        let before = effects(&mut wire, &world).await;
        let nobody = format!("msg_{}", "0".repeat(32));
        let params = with(world.example(method.name), "expect_head", nobody);
        wire.refused("conflict", method.name, params).await;
        assert_eq!(effects(&mut wire, &world).await, before, "`{}`", method.name);
    }
}

/// Changes that another client's lock does not keep out, and those that no session is part of.
const PAST_A_LOCK: [&str; 13] = [
    "task/cancel",
    "session/create",
    "session/cleanup",
    "session/import",
    "blob/put",
    "daemon/shutdown",
    "daemon/reload",
    "daemon/restart",
    "daemon/backup",
    "state/set",
    "state/delete",
    "state/load",
    "state/save",
];

#[tokio::test]
async fn another_ones_lock_keeps_out_every_change_but_a_cancel() {
    let (_stub, daemon, mut wire, world) = daemon_with_world().await;
    let mut holder = daemon.wire().await;
    let lock = holder.ok("session/lock", json!({"session": world.session})).await["lock"].clone();
    let before = effects(&mut wire, &world).await;
    let changes = METHODS.iter().filter(|it| it.access == Access::Change);
    for method in changes.filter(|it| !PAST_A_LOCK.contains(&it.name)) {
        let data = wire.refused("locked", method.name, world.example(method.name)).await;
        assert_eq!(data["holder"], lock["holder"], "`{}`", method.name);
        if method.keyed {
            let params = with(world.example(method.name), "idempotency_key", method.name);
            wire.refused("locked", method.name, params).await;
        }
    }
    assert_eq!(effects(&mut wire, &world).await, before);
    // A refusal keeps no key: the same request is good once the lock is gone.
    drop(holder);
    wire.ok("session/lock", json!({"session": world.session, "wait_ms": 10_000})).await;
    let send = with(world.example("chat/send"), "idempotency_key", "chat/send");
    wire.ok("chat/send", send).await;
    wire.ok("task/cancel", world.example("task/cancel")).await;
}

#[tokio::test]
async fn a_key_is_looked_up_before_lock_busy_and_expectations() {
    let (_stub, daemon, mut wire, world) = daemon_with_world().await;
    let seq = effects(&mut wire, &world).await[1].clone();
    let update = with(world.example("session/update"), "idempotency_key", "early");
    let update = with(update, "expect_seq", seq);
    let first = wire.ok("session/update", update.clone()).await;
    let mut holder: Wire = daemon.wire().await;
    holder.ok("session/lock", json!({"session": world.session})).await;
    assert_eq!(wire.ok("session/update", update).await, first);
}

#[tokio::test]
async fn methods_that_are_safe_to_repeat_refuse_a_key() {
    let (_stub, _daemon, mut wire, world) = daemon_with_world().await;
    for method in METHODS.iter().filter(|it| !it.keyed) {
        let params = with(world.example(method.name), "idempotency_key", "k");
        let data = wire.refused("invalid_params", method.name, params).await;
        assert_eq!(data["param"], "idempotency_key", "`{}`", method.name);
    }
}

#[tokio::test]
async fn expectations_are_refused_where_they_mean_nothing() {
    let (_stub, _daemon, mut wire, world) = daemon_with_world().await;
    for method in METHODS {
        for (name, taken) in
            [("expect_seq", method.expect_seq), ("expect_head", method.expect_head)]
        {
            if !taken {
                let params = with(world.example(method.name), name, Value::Null);
                let params =
                    with(params, name, if name == "expect_seq" { json!(1) } else { json!("msg_") });
                let data = wire.refused("invalid_params", method.name, params).await;
                assert_eq!(data["param"], name, "`{}`", method.name);
            }
        }
    }
}

#[tokio::test]
async fn a_key_has_1_to_128_bytes() {
    let daemon = Daemon::start().await;
    let mut wire = daemon.wire().await;
    for wrong in [json!(""), json!("k".repeat(129)), json!(1), json!("é".repeat(65))] {
        let params = json!({"idempotency_key": wrong});
        let data = wire.refused("invalid_params", "session/create", params).await;
        assert_eq!(data["param"], "idempotency_key");
    }
    for right in ["k".to_owned(), "k".repeat(128)] {
        wire.ok("session/create", json!({"idempotency_key": right})).await;
    }
}

#[tokio::test]
async fn a_retried_send_answers_the_task_that_it_made() {
    let daemon = Daemon::start().await;
    let mut wire = daemon.wire().await;
    let params = json!({"content": "hello", "idempotency_key": "k"});
    let first = wire.ok("chat/send", params.clone()).await;
    wire.wait(&first).await;
    assert_eq!(wire.ok("chat/send", params.clone()).await, first);
    // The order of members and white space do not count.
    let line = r#"{"id":"again", "params": { "idempotency_key":"k",  "content":"hello" }, "method":"chat/send"}"#;
    let answer = wire.raw_call(line, &json!("again")).await;
    assert_eq!(answer["result"], first);
    assert_eq!(wire.ok("session/list", json!({})).await["sessions"].as_array().unwrap().len(), 1);
}
