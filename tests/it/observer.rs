//! What may an observer do? Made from the method table.

use serde_json::{Value, json};
use sess_protocol::methods::{Access, METHODS};
use sess_tests::harness::table::daemon_with_world;
use sess_tests::harness::{Daemon, Wire};

async fn observer(daemon: &Daemon) -> Wire {
    let mut wire = daemon.wire().await;
    let params = json!({"protocol": 1, "client": {"name": "a screen"}, "role": "observer"});
    wire.ok("initialize", params).await;
    wire
}

#[tokio::test]
async fn an_observer_is_denied_every_change() {
    let (_stub, daemon, mut wire, world) = daemon_with_world().await;
    let mut observer = observer(&daemon).await;
    let before = wire.get(&world.session).await;
    for method in METHODS.iter().filter(|it| it.access == Access::Change) {
        observer.refused("denied", method.name, world.example(method.name)).await;
    }
    assert_eq!(wire.get(&world.session).await, before);
}

#[tokio::test]
async fn an_observer_may_read_all_that_there_is() {
    let (_stub, daemon, _wire, world) = daemon_with_world().await;
    let mut observer = observer(&daemon).await;
    let reads = METHODS.iter().filter(|it| it.access == Access::Read);
    for method in reads.filter(|it| it.name != "initialize") {
        observer.ok(method.name, world.example(method.name)).await;
    }
}

#[tokio::test]
async fn an_observer_that_resumes_changes_nothing() {
    let (_stub, daemon, mut wire, world) = daemon_with_world().await;
    let other = wire.session().await;
    let mut observer = observer(&daemon).await;
    let before = wire.get(&world.session).await["seq"].clone();
    observer.ok("session/resume", json!({"session": world.session})).await;
    assert_eq!(wire.get(&world.session).await["seq"], before);
    assert_eq!(wire.ok("session/active", json!({})).await["id"], other);
}

#[tokio::test]
async fn an_observer_cannot_make_itself_a_driver() {
    let (_stub, daemon, _wire, world) = daemon_with_world().await;
    let mut observer = observer(&daemon).await;
    let params = json!({"protocol": 1, "client": {"name": "a screen"}, "role": "driver"});
    let _: Result<Value, Value> = observer.call("initialize", params).await;
    observer.refused("denied", "chat/send", world.example("chat/send")).await;
}

#[tokio::test]
async fn an_observer_hears_everything() {
    let (stub, daemon, mut wire, world) = daemon_with_world().await;
    let mut observer = observer(&daemon).await;
    observer.follow(&world.session).await;
    stub.release("world").await.unwrap();
    let told = observer.until(|it| it.kind() == "task.completed").await;
    assert!(told.iter().any(|it| it.method == "delta" || it.method == "live"));
    wire.ok("task/wait", json!({"task": world.queued})).await;
}
