//! Does the clock of the machine, which may go back or far ahead, harm any order or any wait?

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sess_tests::figures::{figure, rounds};
use sess_tests::harness::table::text;
use sess_tests::harness::{Plan, Wire, stub, until_held};

/// Where Debian's package `libfaketime` keeps its library.
const LIBRARIES: &str = "/usr/lib";
/// A wait with an end, and how late it may be told.
const WAIT: Duration = Duration::from_millis(600);
const LATE: Duration = Duration::from_secs(3);

/// The wall clock of a daemon, which a test sets.
#[derive(Clone)]
struct Clock(PathBuf);

impl Clock {
    fn set(&self, to: &str) {
        // Replaced whole, for the daemon reads it at any moment.
        let draft = self.0.with_extension("new");
        std::fs::write(&draft, to).unwrap();
        std::fs::rename(draft, &self.0).unwrap();
    }
}

fn library() -> PathBuf {
    let folders = std::fs::read_dir(LIBRARIES).unwrap().map(|it| it.unwrap().path());
    let mut found =
        folders.map(|it| it.join("faketime/libfaketimeMT.so.1")).filter(|it| it.exists());
    found.next().expect("Debian's package `faketime` is installed")
}

/// A daemon whose wall clock can be set; all else of time is as it is.
fn with_clock(plan: Plan) -> (Plan, Clock) {
    let clock = Clock(plan.folder().join("clock"));
    clock.set("+0");
    let plan = plan
        .env("LD_PRELOAD", library())
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_TIMESTAMP_FILE", as_str(&clock.0));
    (plan, clock)
}

fn as_str(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The clocks that a machine may show, one after the other.
const CLOCKS: [&str; 6] =
    ["-1d", "+3650d", "@2038-01-19 03:14:06", "-3650d", "@2106-02-07 06:28:14", "+0"];

async fn active(wire: &mut Wire) -> Value {
    wire.ok("session/active", json!({})).await["id"].clone()
}

/// What a wait with an end comes to: that it is over, neither early nor late.
async fn waits_its_time(wire: &mut Wire, task: &Value, clock: Option<(&Clock, &str)>) {
    let begun = Instant::now();
    let params = json!({"task": task, "timeout_ms": WAIT.as_millis() as u64});
    let id = wire.start("task/wait", params).await;
    if let Some((clock, to)) = clock {
        clock.set(to);
    }
    let answer = wire.answer(id).await;
    let took = begun.elapsed();
    assert!(took >= WAIT && took < WAIT + LATE, "{took:?}: {answer:?}");
}

#[tokio::test]
async fn a_clock_that_jumps_ends_no_wait_and_no_lock_and_turns_no_order_round() {
    let stub = stub().await;
    stub.script("stub", json!([{"text": "begun "}, {"hold": "h"}, {"text": "done"}]))
        .await
        .unwrap();
    let (plan, clock) = with_clock(Plan::new().stub(&stub));
    let daemon = plan.start().await;
    let (mut wire, mut other) = (daemon.wire().await, daemon.wire().await);
    let [works, locked, speaks] =
        [wire.session().await, wire.session().await, wire.session().await];
    let running = wire.say(&works, "go").await;
    until_held(&stub, "h").await;
    wire.ok("session/lock", json!({"session": locked})).await;
    wire.ok("session/update", json!({"session": speaks, "model": "echo/echo"})).await;
    let (mut jumps, mut tasks) = (0, Vec::new());
    for _ in 0..rounds(1, 10) {
        for to in CLOCKS {
            waits_its_time(&mut wire, &running["task"], Some((&clock, to))).await;
            other.refused("locked", "chat/send", json!({"session": locked, "content": "me"})).await;
            let said = other.say(&speaks, to).await;
            assert_eq!(other.wait(&said).await["task"]["status"], "completed");
            tasks.push(said["task"].clone());
            assert_eq!(active(&mut other).await, speaks.as_str(), "{to}");
            other.ok("session/resume", json!({"session": works})).await;
            assert_eq!(active(&mut other).await, works.as_str(), "{to}");
            let listed = other.ok("task/list", json!({"session": speaks, "limit": 500})).await;
            let mut listed: Vec<_> =
                listed["tasks"].as_array().unwrap().iter().map(|it| it["id"].clone()).collect();
            listed.reverse();
            assert_eq!(listed, tasks, "{to}: newest first");
            jumps += 1;
        }
    }
    stub.release("h").await.unwrap();
    let done = wire.wait(&running).await;
    assert_eq!(done["answer"]["content"][0]["text"], "begun done");
    let usage = wire.ok("session/usage", json!({"session": speaks, "by": "day"})).await;
    let days = usage["rows"].as_array().unwrap().iter();
    let calls: u64 = days.map(|it| it["calls"].as_u64().unwrap()).sum();
    assert_eq!(calls, jumps, "each call is counted on one day");
    assert_eq!(daemon.terminate().await, 0);
    assert_eq!(plan.clone().arg("--check").run().await, 0, "{}", plan.words());
    figure(
        "R19",
        "waits early or late, locks lost, orders turned round by a jump of the clock",
        0,
        jumps,
    );
}

/// How far the last change lies from an activation.
const APART: Duration = Duration::from_millis(50);

#[tokio::test]
async fn a_start_with_a_clock_that_went_back_goes_on_behind_what_was() {
    let (plan, clock) = with_clock(Plan::new());
    let (mut sessions, mut tasks) = (Vec::new(), Vec::new());
    let mut restarts = 0;
    // Of several starts in the past, each goes on behind the one before it.
    let clocks = ["+0", "-1d", "-400d", "-400d", "-2d", "+3650d", "-1d", "-1d", "-3d", "+0"];
    for to in clocks {
        clock.set(to);
        let daemon = plan.start().await;
        let mut wire = daemon.wire().await;
        if sessions.is_empty() {
            sessions = vec![wire.session().await, wire.session().await];
        }
        for session in [&sessions[1], &sessions[0]] {
            wire.ok("session/resume", json!({"session": session})).await;
            assert_eq!(active(&mut wire).await, session.as_str(), "{to}");
        }
        tasks.push(wire.turn(&sessions[0], to).await["task"]["id"].clone());
        let texts = wire.texts(&sessions[0]).await;
        assert_eq!(texts.len(), 2 * tasks.len());
        let listed = wire.ok("task/list", json!({"session": sessions[0]})).await;
        let listed: Vec<_> =
            listed["tasks"].as_array().unwrap().iter().map(|it| text(&it["id"])).collect();
        let mine: Vec<_> = tasks.iter().rev().map(text).collect();
        assert_eq!(listed, mine, "{to}: newest first");
        // Changes go on long after the last activation, and their labels are lost to later ones.
        let begun = Instant::now();
        while begun.elapsed() < APART {
            wire.ok("session/update", json!({"session": sessions[0], "title": to})).await;
        }
        restarts += 1;
        drop(wire);
        if restarts % 2 == 0 {
            drop(daemon.kill().await)
        } else {
            assert_eq!(daemon.terminate().await, 0)
        }
    }
    figure("R19", "orders turned round by a start with another clock", 0, restarts);
}

/// The seven days of a key are counted by the clock of the machine, as everything that people read as a date.
#[tokio::test]
async fn a_key_is_kept_for_the_days_that_the_clock_says() {
    let (plan, clock) = with_clock(Plan::new());
    let mut daemon = plan.start().await;
    let create = json!({"title": "once", "idempotency_key": "k"});
    let first = daemon.wire().await.ok("session/create", create.clone()).await["id"].clone();
    for to in ["-1d", "-3650d", "+6d", "+0"] {
        clock.set(to);
        for _ in 0..2 {
            let again = daemon.wire().await.ok("session/create", create.clone()).await;
            assert_eq!(again["id"], first, "{to}");
            daemon = daemon.killed_and_restarted().await;
        }
    }
    clock.set("+8d");
    let later = daemon.wire().await.ok("session/create", create).await["id"].clone();
    assert_ne!(later, first);
}
