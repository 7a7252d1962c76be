//! Is a large store served at once after a kill?

use std::time::{Duration, Instant};

use serde_json::json;
use sess_tests::figures::{figure, rounds};
use sess_tests::harness::{Daemon, Plan, Wire};

use crate::sized;

/// Bytes of the database for each change of the program, and in full.
const BYTES: u64 = 100 << 20;
const FULL_BYTES: u64 = 300 << 20;
/// How soon the first answer comes from the full one; of a smaller one, by its share.
const FULL_START: Duration = Duration::from_millis(500);
/// Sessions, and bytes of each of the two messages of a turn.
const SESSIONS: usize = 100;
const MESSAGE_BYTES: usize = 6_000;
/// Turns that are asked for at a time: as many as wait in a session, at most.
const AT_ONCE: usize = 4;
/// Requests of one connection that have no answer yet.
const TOGETHER: usize = 200;
/// Bytes that are in the log alone when it is killed, at least.
const LOG_BYTES: u64 = 8 << 20;

fn bytes_of(plan: &Plan, name: &str) -> u64 {
    std::fs::metadata(plan.data_folder().join(name)).map_or(0, |it| it.len())
}

/// Has every session say something `AT_ONCE` times, and waits for the last of it.
async fn speak(wire: &mut Wire, sessions: &[String], words: &str) {
    for some in sessions.chunks(TOGETHER / AT_ONCE) {
        say(wire, some, words).await;
    }
}

async fn say(wire: &mut Wire, sessions: &[String], words: &str) {
    let mut sent = Vec::new();
    for session in sessions {
        for _ in 0..AT_ONCE {
            let send = json!({"session": session, "content": words});
            sent.push(wire.start("chat/send", send).await);
        }
    }
    let mut waits = Vec::new();
    for id in sent {
        let sent = wire.answer(id).await.unwrap();
        waits.push(wire.start("task/wait", json!({"task": sent["task"]})).await);
    }
    for id in waits {
        let done = wire.answer(id).await.unwrap();
        assert_eq!(done["task"]["status"], "completed");
    }
}

/// A store of so many bytes, of sessions in which much was said.
async fn large(bytes: u64) -> (Daemon, Vec<String>) {
    let daemon = Daemon::start().await;
    let mut wire = daemon.wire().await;
    let mut sessions = Vec::new();
    for _ in 0..SESSIONS {
        sessions.push(wire.session().await);
    }
    let words = "what is said and answered, ".repeat(MESSAGE_BYTES / 27);
    while bytes_of(daemon.plan(), "sess.db") < bytes {
        speak(&mut wire, &sessions, &words).await;
    }
    (daemon, sessions)
}

/// Says more until there is so much in the log that the database does not have, and kills the daemon there.
async fn killed_at_work(daemon: Daemon, sessions: &[String]) -> Plan {
    let mut wire = daemon.wire().await;
    let words = "in the log alone ".repeat(MESSAGE_BYTES / 17);
    let before = bytes_of(daemon.plan(), "sess.db-wal");
    speak(&mut wire, &sessions[..SESSIONS / 10], &words).await;
    while bytes_of(daemon.plan(), "sess.db-wal") < before.min(LOG_BYTES) {
        speak(&mut wire, &sessions[..SESSIONS / 10], &words).await;
    }
    for session in sessions {
        wire.start("chat/send", json!({"session": session, "content": words})).await;
    }
    drop(wire);
    daemon.kill().await
}

#[tokio::test]
async fn a_large_store_is_served_soon_after_a_kill() {
    let bytes = if rounds(0, 1) == 0 { sized(BYTES) } else { FULL_BYTES };
    let begin = Instant::now();
    let (mut daemon, sessions) = large(bytes).await;
    println!("made in {:?}", begin.elapsed());
    let mut starts = Vec::new();
    for _ in 0..sized(rounds(10, 40)) {
        let plan = killed_at_work(daemon, &sessions).await;
        let log = bytes_of(&plan, "sess.db-wal") >> 20;
        let begin = Instant::now();
        daemon = plan.start().await;
        daemon.wire().await.ok("daemon/status", json!({})).await;
        starts.push(begin.elapsed());
        println!("first answer after {:?}, with {log} MiB in the log", begin.elapsed());
    }
    let mib = bytes_of(daemon.plan(), "sess.db") >> 20;
    starts.sort();
    let count = starts.len();
    let at = |share: usize| starts[(count * share / 100).min(count - 1)];
    figure(
        "R24",
        &format!("first answer after kill -9, {mib} MiB, p50 ms"),
        at(50).as_millis(),
        count,
    );
    figure(
        "R24",
        &format!("first answer after kill -9, {mib} MiB, p99 ms"),
        at(99).as_millis(),
        count,
    );
    let share = bytes as f64 / FULL_BYTES as f64;
    // What a start costs beside the store's size, and a machine that others use.
    let bar = FULL_START.mul_f64(share.max(0.5));
    assert!(at(99) <= bar, "{starts:?} with {mib} MiB, at most {bar:?}");
}
