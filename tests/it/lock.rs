//! Who may speak in a session, and until when?

use serde_json::{Value, json};
use sess_tests::harness::{Daemon, Wire, stub};

async fn two() -> (Daemon, Wire, Wire, String) {
    let daemon = Daemon::start().await;
    let (mut holder, other) = (daemon.wire().await, daemon.wire().await);
    let session = holder.session().await;
    (daemon, holder, other, session)
}

fn of(session: &str) -> Value {
    json!({"session": session})
}

#[tokio::test]
async fn a_session_is_created_locked_spoken_in_persisted_and_released() {
    let (_daemon, mut holder, mut other, session) = two().await;
    let locked = holder.ok("session/lock", of(&session)).await;
    let sent = holder.say(&session, "hello").await;
    other.refused("locked", "chat/send", json!({"session": session, "content": "me"})).await;
    assert_eq!(holder.wait(&sent).await["task"]["status"], "completed");
    let persisted = holder.ok("session/persist", of(&session)).await;
    assert_eq!(persisted["checkpoint"]["trigger"], "manual");
    let released = holder.ok("session/release", of(&session)).await;
    assert_eq!(released["released"], true);
    assert!(released["seq"].as_u64() > locked["seq"].as_u64());
    other.turn(&session, "me").await;
    assert_eq!(other.texts(&session).await, ["hello", "hello", "me", "me"]);
}

#[tokio::test]
async fn a_lock_is_seen_in_the_session_with_its_holder() {
    let (_daemon, mut holder, mut other, session) = two().await;
    let client = json!({"protocol": 1, "client": {"name": "an editor"}});
    holder.ok("initialize", client).await;
    let lock = holder.ok("session/lock", of(&session)).await["lock"].clone();
    assert!(lock["id"].as_str().unwrap().starts_with("lock_"));
    assert_eq!(lock["holder"]["client"], "an editor");
    assert_eq!(lock["holder"]["pid"], std::process::id());
    assert_eq!(other.get(&session).await["lock"], lock);
    let send = json!({"session": session, "content": "x"});
    let data = other.refused("locked", "chat/send", send).await;
    assert_eq!(data["holder"], lock["holder"]);
    assert_eq!(data["retryable"], true);
    holder.ok("session/release", of(&session)).await;
    assert_eq!(other.get(&session).await.get("lock"), None);
}

#[tokio::test]
async fn locking_again_on_the_same_connection_answers_the_same() {
    let (_daemon, mut holder, _other, session) = two().await;
    let first = holder.ok("session/lock", of(&session)).await;
    let again = holder.ok("session/lock", of(&session)).await;
    assert_eq!(first, again);
    assert_eq!(holder.get(&session).await["seq"], first["seq"], "and no event");
    assert_eq!(holder.ok("session/release", of(&session)).await["released"], true);
    let nothing = holder.ok("session/release", of(&session)).await;
    assert_eq!(nothing["released"], false);
}

#[tokio::test]
async fn while_it_is_held_others_read_and_follow_but_change_nothing() {
    let (_daemon, mut holder, mut other, session) = two().await;
    holder.turn(&session, "hello").await;
    holder.ok("session/lock", of(&session)).await;
    let before = holder.get(&session).await["seq"].clone();
    let update = json!({"session": session, "title": "mine"});
    other.refused("locked", "session/update", update).await;
    other.refused("locked", "session/persist", of(&session)).await;
    other.refused("locked", "session/delete", of(&session)).await;
    other.refused("locked", "session/lock", of(&session)).await;
    assert_eq!(other.get(&session).await["seq"], before);
    assert_eq!(other.texts(&session).await.len(), 2);
    assert!(other.follow(&session).await["view"].is_object());
    let resumed = other.ok("session/resume", of(&session)).await;
    assert_eq!(resumed["session"]["seq"], before, "it answers and changes nothing");
    holder.turn(&session, "and on").await;
    other.event("task.completed").await;
}

#[tokio::test]
async fn others_may_cancel_a_task_of_a_held_session() {
    let stub = stub().await;
    stub.script("stub", json!([{"text": "a"}, {"stall": true}])).await.unwrap();
    let daemon = Daemon::with_stub(&stub).await;
    let (mut holder, mut other) = (daemon.wire().await, daemon.wire().await);
    let session = holder.session().await;
    holder.ok("session/lock", of(&session)).await;
    let sent = holder.say(&session, "hello").await;
    let cancelled = other.ok("task/cancel", json!({"task": sent["task"]})).await;
    assert_eq!(cancelled["task"]["status"], "cancelled");
}

#[tokio::test]
async fn the_lock_of_a_connection_that_ends_is_free_at_once() {
    let (_daemon, mut holder, mut other, session) = two().await;
    holder.ok("session/lock", of(&session)).await;
    other.follow(&session).await;
    drop(holder);
    let released = other.event("session.released").await;
    assert_eq!(released["data"]["why"], "disconnected");
    other.ok("session/lock", of(&session)).await;
}

#[tokio::test]
async fn waiters_get_it_in_the_order_in_which_they_came() {
    let (daemon, mut holder, _other, session) = two().await;
    holder.ok("session/lock", of(&session)).await;
    let mut waiters = Vec::new();
    for _ in 0..4 {
        let mut wire = daemon.wire().await;
        let params = json!({"session": session, "wait_ms": 60_000});
        let id = wire.start("session/lock", params).await;
        // Answered after the one before it was taken in: the order is sure.
        wire.get(&session).await;
        waiters.push((wire, id));
    }
    // The second one leaves the line.
    drop(waiters.remove(1));
    holder.ok("session/release", of(&session)).await;
    let mut last = 0;
    for (mut wire, id) in waiters {
        let got = wire.answer(id).await.unwrap();
        let seq = got["seq"].as_u64().unwrap();
        assert!(seq > last);
        last = seq;
        wire.ok("session/release", of(&session)).await;
    }
}

#[tokio::test]
async fn a_wait_that_is_too_short_ends_with_locked_and_leaves_the_line() {
    let (_daemon, mut holder, mut other, session) = two().await;
    holder.ok("session/lock", of(&session)).await;
    let short = json!({"session": session, "wait_ms": 20});
    other.refused("locked", "session/lock", short).await;
    holder.ok("session/release", of(&session)).await;
    assert_eq!(other.get(&session).await.get("lock"), None);
}

#[tokio::test]
async fn anyone_may_end_a_lock_by_force() {
    let (_daemon, mut holder, mut other, session) = two().await;
    holder.ok("session/lock", of(&session)).await;
    holder.follow(&session).await;
    let forced = json!({"session": session, "force": true});
    assert_eq!(other.ok("session/release", forced).await["released"], true);
    assert_eq!(holder.event("session.released").await["data"]["why"], "forced");
    other.ok("session/lock", of(&session)).await;
    let send = json!({"session": session, "content": "x"});
    holder.refused("locked", "chat/send", send).await;
}

#[tokio::test]
async fn another_ones_lock_does_not_end_without_force() {
    let (_daemon, mut holder, mut other, session) = two().await;
    let lock = holder.ok("session/lock", of(&session)).await["lock"].clone();
    other.refused("locked", "session/release", of(&session)).await;
    assert_eq!(other.get(&session).await["lock"], lock);
}

#[tokio::test]
async fn the_running_task_and_the_queue_go_on_under_a_lock() {
    let stub = stub().await;
    stub.script("stub", json!([{"hold": "h"}, {"echo": true}])).await.unwrap();
    let daemon = Daemon::with_stub(&stub).await;
    let (mut asker, mut holder) = (daemon.wire().await, daemon.wire().await);
    let session = asker.session().await;
    let first = asker.say(&session, "one").await;
    let second = asker.say(&session, "two").await;
    holder.ok("session/lock", of(&session)).await;
    stub.release("h").await.unwrap();
    for sent in [first, second] {
        assert_eq!(asker.wait(&sent).await["task"]["status"], "completed");
    }
}

#[tokio::test]
async fn a_restart_releases_every_lock() {
    let (daemon, mut holder, _other, session) = two().await;
    holder.ok("session/lock", of(&session)).await;
    let daemon = daemon.killed_and_restarted().await;
    let mut wire = daemon.wire().await;
    assert_eq!(wire.get(&session).await.get("lock"), None);
    wire.follow_from_start(&session).await;
    let released = wire.event("session.released").await;
    assert_eq!(released["data"]["why"], "restart");
    wire.turn(&session, "hello").await;
}

#[tokio::test]
async fn a_lock_whose_waiter_is_gone_goes_to_nobody() {
    let (daemon, mut holder, mut other, session) = two().await;
    holder.ok("session/lock", of(&session)).await;
    let mut waiter = daemon.wire().await;
    waiter.start("session/lock", json!({"session": session, "wait_ms": 60_000})).await;
    waiter.get(&session).await;
    drop(waiter);
    other.follow(&session).await;
    drop(holder);
    other.event("session.released").await;
    // Either the daemon saw both ends, or it gave the lock and saw the second end then.
    let lock = json!({"session": session, "wait_ms": 10_000});
    other.ok("session/lock", lock).await;
}
