//! What becomes of words for the task at work, and of a request that is taken back?

use serde_json::{Value, json};
use sess_tests::harness::{Daemon, Wire, asked, held, said, stub};

/// Requests that wait in one session, unread ones among them.
const QUEUE_MAX: usize = 25;

fn with(session: &str, content: &str, if_busy: &str) -> Value {
    json!({"session": session, "content": content, "if_busy": if_busy})
}

async fn steered(wire: &mut Wire, session: &str, content: &str) -> Value {
    wire.ok("chat/send", with(session, content, "steer")).await
}

#[tokio::test]
async fn steering_is_read_before_the_next_call_of_the_same_task() {
    let (stub, _daemon, mut wire, session, first) = held().await;
    let behind = wire.say(&session, "behind").await;
    let one = steered(&mut wire, &session, "one").await;
    let two = steered(&mut wire, &session, "two").await;
    assert_eq!((&one["task"], &one["position"]), (&first["task"], &json!(0)));
    let task = wire.ok("task/get", json!({"task": first["task"]})).await["task"].clone();
    assert_eq!(task["steering"][0]["message"], one["message"]);
    assert_eq!(said(&task["steering"][1]), "two");
    stub.release("h").await.unwrap();
    let done = wire.wait(&first).await;
    assert_eq!(done["task"]["status"], "completed");
    assert_eq!(done["task"].get("steering"), None);
    assert_eq!(said(&done["answer"]), "two", "the echo says the last that was said");
    wire.wait(&behind).await;
    let expected = ["first", "begun done", "one", "two", "two", "behind", "behind"];
    assert_eq!(wire.texts(&session).await, expected);
    assert_eq!(asked(&stub).await, ["first", "two", "behind"]);
    let list = wire.ok("message/list", json!({"session": session})).await["messages"].clone();
    assert_eq!((&list[2]["id"], &list[3]["id"]), (&one["message"], &two["message"]));
    assert_eq!(list[3]["task"], first["task"]);
    let state = wire.get(&session).await;
    assert_eq!((&state["iterations"], &state["tasks"]), (&json!(3), &json!(2)));
}

#[tokio::test]
async fn a_view_that_is_folded_from_steering_is_the_daemons() {
    let (stub, daemon, mut wire, session, first) = held().await;
    steered(&mut wire, &session, "one").await;
    stub.release("h").await.unwrap();
    wire.wait(&first).await;
    let mut late = daemon.wire().await;
    late.follow_from_start(&session).await;
    let told = late.until(|it| it.kind() == "task.completed").await;
    let kinds: Vec<_> = told.iter().map(|it| it.kind()).collect();
    let expected = [
        "session.created",
        "task.started",
        "task.updated",
        "message.appended",
        "message.appended",
        "task.completed",
    ];
    assert_eq!(kinds, expected);
    assert_eq!(told[4].params["data"]["task"]["steering"], Value::Null);
    assert_eq!(told[3].params["data"]["message"]["status"], "complete");
}

#[tokio::test]
async fn what_is_unread_at_an_end_becomes_tasks_with_the_same_messages() {
    let (_stub, _daemon, mut wire, session, first) = held().await;
    let behind = wire.say(&session, "behind").await;
    let one = steered(&mut wire, &session, "one").await;
    let two = steered(&mut wire, &session, "two").await;
    wire.ok("task/cancel", json!({"task": first["task"]})).await;
    wire.wait(&behind).await;
    let list = wire.ok("task/list", json!({"session": session})).await["tasks"].clone();
    for sent in [&one, &two] {
        let of = |it: &&Value| it["request"]["message"] == sent["message"];
        let task = list.as_array().unwrap().iter().find(of).unwrap();
        let done = wire.ok("task/wait", json!({"task": task["id"]})).await;
        assert_eq!(done["task"]["status"], "completed");
    }
    let expected = ["first", "begun ", "behind", "behind", "one", "one", "two", "two"];
    assert_eq!(wire.texts(&session).await, expected);
    let gone = wire.ok("task/get", json!({"task": first["task"]})).await["task"].clone();
    assert_eq!(gone.get("steering"), None);
    assert_eq!(wire.get(&session).await["tasks"], 4);
}

#[tokio::test]
async fn steering_is_not_lost_by_a_kill() {
    let (stub, daemon, mut wire, session, first) = held().await;
    let params = json!({"session": session, "content": "one", "if_busy": "steer",
        "idempotency_key": "said-once"});
    let one = wire.ok("chat/send", params.clone()).await;
    let daemon = daemon.killed_and_restarted().await;
    let mut wire = daemon.wire().await;
    assert_eq!(wire.ok("chat/send", params).await, one, "a retry is answered as before");
    assert_eq!(wire.wait(&first).await["task"]["status"], "interrupted");
    let list = wire.ok("task/list", json!({"session": session})).await["tasks"].clone();
    assert_eq!(list.as_array().unwrap().len(), 2);
    let of = |it: &&Value| it["request"]["message"] == one["message"];
    let task = list.as_array().unwrap().iter().find(of).unwrap();
    let done = wire.ok("task/wait", json!({"task": task["id"]})).await;
    assert_eq!(said(&done["answer"]), "one");
    assert_eq!(asked(&stub).await, ["first", "one"]);
}

#[tokio::test]
async fn steering_outlives_a_planned_stop_with_its_task() {
    let (stub, daemon, mut wire, session, first) = held().await;
    steered(&mut wire, &session, "one").await;
    let shutdown = wire.start("daemon/shutdown", json!({"drain": false})).await;
    let plan = daemon.plan().clone();
    assert_eq!(wire.answer(shutdown).await, Ok(json!({})));
    assert_eq!(daemon.exit_code().await, 0);
    let daemon = plan.start().await;
    let mut wire = daemon.wire().await;
    let done = wire.wait(&first).await;
    assert_eq!(
        (&done["task"]["status"], said(&done["answer"])),
        (&json!("completed"), "one".into())
    );
    assert_eq!(wire.texts(&session).await, ["first", "one", "one"]);
    assert_eq!(asked(&stub).await, ["first", "one"]);
}

#[tokio::test]
async fn steering_that_asks_for_another_thread_or_model_is_refused() {
    let (_stub, _daemon, mut wire, session, first) = held().await;
    let others = [
        ("thread", json!("fork-12345678")),
        ("model", json!("echo/echo")),
        ("agent", json!("coder")),
        ("budget", json!({"tokens": 1})),
        ("schema", json!({})),
    ];
    for (param, value) in others {
        let mut params = with(&session, "x", "steer");
        params[param] = value;
        let data = wire.refused("conflict", "chat/send", params).await;
        assert_eq!((&data["param"], &data["task"]), (&json!(param), &first["task"]));
    }
    let mut same = with(&session, "x", "steer");
    same["thread"] = json!("main");
    same["model"] = json!("stub/stub");
    assert_eq!(wire.ok("chat/send", same).await["task"], first["task"]);
}

#[tokio::test]
async fn unread_words_and_the_queue_have_one_limit() {
    let (_stub, _daemon, mut wire, session, _first) = held().await;
    wire.say(&session, "waits").await;
    for number in 1..QUEUE_MAX {
        steered(&mut wire, &session, &format!("{number}")).await;
    }
    wire.refused("overloaded", "chat/send", with(&session, "x", "steer")).await;
    wire.refused("overloaded", "chat/send", with(&session, "x", "queue")).await;
}

#[tokio::test]
async fn with_nothing_at_work_steering_is_a_plain_send() {
    let stub = stub().await;
    stub.script("stub", json!([{"echo": true}])).await.unwrap();
    let daemon = Daemon::with_stub(&stub).await;
    let mut wire = daemon.wire().await;
    let session = wire.session().await;
    let sent = steered(&mut wire, &session, "hello").await;
    assert_eq!(said(&wire.wait(&sent).await["answer"]), "hello");
}

#[tokio::test]
async fn a_rollback_takes_the_running_request_back() {
    let (stub, daemon, mut wire, session, first) = held().await;
    stub.release("h").await.unwrap();
    let before = wire.wait(&first).await["answer"]["id"].clone();
    stub.script_once("stub", json!([{"text": "wrong "}, {"hold": "i"}])).await.unwrap();
    let mut watcher = daemon.wire().await;
    watcher.follow(&session).await;
    let bad = wire.say(&session, "bad").await;
    watcher.until_written("wrong ").await;
    let better = wire.ok("chat/send", with(&session, "better", "rollback")).await;
    assert_eq!(wire.wait(&bad).await["task"]["status"], "cancelled");
    let done = wire.wait(&better).await;
    assert_eq!(done["task"]["replaces"], json!({"task": bad["task"], "rollback": true}));
    assert_eq!(wire.texts(&session).await, ["first", "begun done", "better", "better"]);
    let threads = wire.ok("thread/list", json!({"session": session})).await["threads"].clone();
    assert_eq!(threads[0]["messages"], 4);
    let told = watcher
        .until(|it| it.kind() == "task.started" && it.params["task"] == better["task"])
        .await;
    let moved = &told[told.len() - 2].params;
    assert_eq!(moved["type"], "thread.moved");
    assert_eq!(moved["data"]["thread"], json!({"id": "main", "head": before, "messages": 2}));
    assert_eq!(moved["data"]["why"], "rollback");
    let start = &told[told.len() - 1].params;
    let mark = |it: &Value| it["cursor"].as_str().unwrap().rsplit(':').next().unwrap().to_owned();
    assert_eq!(mark(moved), mark(start), "one commit");
    assert_eq!(start["data"]["message"]["parent"], before);
}

#[tokio::test]
async fn a_rollback_of_the_first_request_begins_anew() {
    let (_stub, _daemon, mut wire, session, _first) = held().await;
    let better = wire.ok("chat/send", with(&session, "better", "rollback")).await;
    wire.wait(&better).await;
    let list = wire.ok("message/list", json!({"session": session})).await["messages"].clone();
    assert_eq!(list.as_array().unwrap().len(), 2);
    assert_eq!(list[0].get("parent"), None);
}

#[tokio::test]
async fn the_preview_is_the_beginning_of_the_last_that_was_said() {
    let (stub, _daemon, mut wire, session, first) = held().await;
    assert_eq!(wire.get(&session).await["preview"], "first");
    stub.release("h").await.unwrap();
    wire.wait(&first).await;
    assert_eq!(wire.get(&session).await["preview"], "begun done");
    wire.turn(&session, &"a \n b ".repeat(100)).await;
    let preview = wire.get(&session).await["preview"].clone();
    assert_eq!(preview.as_str().unwrap(), &"a b ".repeat(15)[..60]);
    let listed = wire.ok("session/list", json!({})).await["sessions"][0]["preview"].clone();
    assert_eq!(listed, preview);
}
