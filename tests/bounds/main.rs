//! Is all that a client can do to the daemon bounded: by the right error, in memory, and in what others feel?
//!
//! The stories: lines that no client should send ([`lines`]), each param in each wrong type ([`types`]), clients
//! that send much, slowly, or read nothing ([`abuse`]), descriptors that are passed or used up
//! ([`descriptors`]). Beside an abuse one healthy client goes on with its turns ([`healthy`]). They run one after
//! the other: what they measure is time and memory.

#![allow(clippy::unwrap_used, reason = "a helper's failure is the failure of its test")]

mod abuse;
mod descriptors;
mod healthy;
mod lines;
mod types;

use serde_json::{Value, json};
use sess_tests::harness::{Daemon, Wire};
use tokio::sync::{Mutex, MutexGuard};

/// Waits until no other story runs.
async fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::const_new(());
    TURN.lock().await
}

/// The daemon serves, and no part of it has broken on the way here.
async fn is_sound(daemon: &Daemon) {
    let status = daemon.wire().await.ok("daemon/status", json!({})).await;
    assert_eq!(status["pid"], daemon.pid());
    is_unbroken(daemon);
}

/// No part of the daemon has broken.
fn is_unbroken(daemon: &Daemon) {
    let words = daemon.plan().words();
    for bad in ["panicked", " ERROR ", "a bug"] {
        assert!(!words.contains(bad), "the daemon said:\n{words}");
    }
}

/// All that can be seen to change: sessions, tasks, messages, documents.
async fn everything(wire: &mut Wire) -> Value {
    let sessions = wire.ok("session/list", json!({"limit": 500})).await;
    let mut all = json!({"documents": wire.ok("state/all", json!({})).await});
    for session in sessions["sessions"].as_array().unwrap() {
        let id = session["id"].as_str().unwrap();
        let of = json!({"session": id});
        all[id] = json!({
            "session": session,
            "view": wire.ok("session/get", of.clone()).await,
            "tasks": wire.ok("task/list", of.clone()).await,
            "messages": wire.ok("message/list", of).await,
        });
    }
    all
}

/// A number of `/proc/PID/status`, which is in KiB there, in bytes.
fn memory(daemon: &Daemon, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find_map(|it| it.strip_prefix(name)?.strip_prefix(':'));
    let kib = line.unwrap_or_else(|| panic!("`{name}` is in {status}"));
    kib.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// How many descriptors the daemon has open.
fn descriptors_of(daemon: &Daemon) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().count()
}
