//! Is an update noticed by anybody: a door that closes, a task that is lost, a program that fails?

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sess_tests::bins;
use sess_tests::figures::figure;
use sess_tests::harness::{Daemon, Plan, Wire, said, stub, within};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// Updates of one daemon, one after another.
const UPDATES: usize = 20;
/// Clients that chat all the time.
const CLIENTS: usize = 4;
/// How often somebody asks for the daemon anew.
const KNOCK: Duration = Duration::from_millis(5);
/// The longest that anybody may wait for an answer of the daemon because of an update.
const STALL_MAX: Duration = Duration::from_secs(1);

/// One request over a connection of its own: none when the connection ended before the answer.
async fn once(path: &Path, method: &str, params: &Value) -> Option<Value> {
    let stream = UnixStream::connect(path).await;
    let mut stream = BufReader::new(stream.expect("nobody is refused"));
    let line = format!("{}\n", json!({"id": 1, "method": method, "params": params}));
    stream.write_all(line.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_line(&mut answer).await.ok()?;
    let answer: Value = serde_json::from_str(&answer).ok()?;
    if answer["error"]["data"]["kind"] == "shutting_down" || method == "daemon/restart" {
        // The end of the connection is the end of that daemon.
        let _ = stream.read_line(&mut String::new()).await;
        return None;
    }
    Some(answer)
}

/// The same until it is answered, as a client does that knows the protocol.
async fn answered(path: &Path, method: &str, params: Value) -> Value {
    within(method, async {
        loop {
            match once(path, method, &params).await {
                None => {}
                Some(answer) if answer.get("result").is_some() => return answer["result"].clone(),
                Some(answer) => panic!("{method}: {answer}"),
            }
        }
    })
    .await
}

/// Chats until told to stop; answers how many of its tasks were accepted, all of them completed.
async fn chat(path: PathBuf, name: usize, stop: Arc<AtomicBool>) -> usize {
    let session = answered(&path, "session/create", json!({"title": format!("{name}")})).await;
    let mut count = 0;
    while !stop.load(Relaxed) {
        let text = format!("{name} says {count}");
        let params = json!({
            "session": session["id"], "content": text, "idempotency_key": format!("{name}-{count}"),
        });
        let sent = answered(&path, "chat/send", params).await;
        let done = answered(&path, "task/wait", json!({"task": sent["task"]})).await;
        assert_eq!(done["task"]["status"], "completed", "{done}");
        count += 1;
    }
    let list = json!({"session": session["id"], "limit": 500});
    let list = answered(&path, "message/list", list).await;
    let asked = list["messages"].as_array().unwrap().iter().filter(|it| it["role"] == "user");
    assert_eq!(asked.count(), count, "each is said once");
    count
}

/// Asks all the time how the daemon is; answers the longest time that took.
async fn knock(path: PathBuf, stop: Arc<AtomicBool>) -> Duration {
    let mut worst = Duration::ZERO;
    let mut ticks = tokio::time::interval(KNOCK);
    let hello = json!({"protocol": 1, "client": {"name": "knock"}});
    while !stop.load(Relaxed) {
        ticks.tick().await;
        let begun = Instant::now();
        answered(&path, "initialize", hello.clone()).await;
        worst = worst.max(begun.elapsed());
    }
    worst
}

async fn pid(path: &Path) -> u64 {
    answered(path, "daemon/status", json!({})).await["pid"].as_u64().unwrap()
}

/// Asks for an update and waits for the next daemon.
async fn update(daemon: &Daemon, path: &Path) {
    let before = pid(path).await;
    once(path, "daemon/restart", &json!({})).await;
    // Who says how it is to a service manager that does not listen waits a while.
    daemon.stopping().await;
    // The old one may still answer who came in its last moment.
    within("the next daemon", async { while pid(path).await == before {} }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn updates_under_load_refuse_nobody_and_lose_no_task() {
    let stub = stub().await;
    stub.script("stub", json!([{"pieces": 10, "every_ms": 3}])).await.unwrap();
    let daemon = Plan::new().stub(&stub).start().await;
    let path = daemon.plan().socket();
    let stop = Arc::new(AtomicBool::new(false));
    let chats: Vec<_> = (0..CLIENTS)
        .map(|name| tokio::spawn(chat(path.clone(), name, Arc::clone(&stop))))
        .collect();
    let knocks = tokio::spawn(knock(path.clone(), Arc::clone(&stop)));
    for _ in 0..UPDATES {
        update(&daemon, &path).await;
    }
    stop.store(true, Relaxed);
    let mut tasks = 0;
    for chat in chats {
        tasks += chat.await.unwrap();
    }
    assert!(tasks >= UPDATES, "{tasks} tasks only: that was no load");
    let worst = knocks.await.unwrap();
    let of = format!("{UPDATES} updates, {tasks} tasks");
    figure("R21", "refused connections", 0, &of);
    figure("R21", "ms the longest wait", worst.as_millis(), &of);
    assert!(worst <= STALL_MAX, "somebody waited {worst:?}");
    let status = answered(&path, "daemon/status", json!({})).await;
    assert_eq!(status["tasks"], json!({"running": 0, "queued": 0, "waiting": 0}));
    once(&path, "daemon/shutdown", &json!({"drain": false})).await;
}

/// A `sessd` of its own, that can be replaced.
fn replace(program: &Path, text: &str) {
    let next = program.with_extension("next");
    std::fs::write(&next, text).unwrap();
    std::fs::set_permissions(&next, std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::rename(next, program).unwrap();
}

#[tokio::test]
async fn a_new_program_that_fails_brings_the_old_one_back() {
    for text in ["#!/bin/sh\nexit 3\n", "not a program"] {
        let plan = Plan::new();
        let program = bins::install("sessd", plan.folder());
        let daemon = plan.program(&program).start().await;
        let path = daemon.plan().socket();
        let mut wire = daemon.wire().await;
        let session = wire.session().await;
        wire.turn(&session, "before").await;
        let pid = pid(&path).await;
        replace(&program, text);
        wire.ok("daemon/restart", json!({})).await;
        assert_eq!(wire.rest().await, Vec::<Value>::new(), "the connection ends");
        let mut wire = Wire::connect(&path).await;
        let answer = wire.turn(&session, "after").await;
        assert_eq!(said(&answer["answer"]), "after");
        let status = wire.ok("daemon/status", json!({})).await;
        assert_eq!(status["pid"], pid, "the same process");
        assert!(daemon.plan().words().contains("the old one goes on"));
    }
}

#[tokio::test]
async fn what_the_new_program_cannot_take_over_is_refused_with_a_reason() {
    let plan = Plan::new().env("SESS_HANDOVER", "stdin");
    assert_eq!(plan.run().await, 78);
    assert!(plan.words().contains("`SESS_HANDOVER` is set, but standard input is not a listening"));
}
