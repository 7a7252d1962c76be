//! Does a turn work again soon after each fault is lifted, with nobody's help and nothing left over?

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use sess_tests::faults::Faults;
use sess_tests::figures::figure;
use sess_tests::harness::{Daemon, Plan, Wire};
use sess_tests::stub::Stub;

use crate::load::{Load, slow_model};
use crate::until;

/// How soon a turn must work.
const HEALED: Duration = Duration::from_secs(10);
/// Bytes that SQLite's log may have in the end.
const LOG_BYTES_MAX: u64 = 64 << 20;
/// Descriptors that may be open beside those that were: connections to the model that are kept for the next.
const DESCRIPTORS_MORE: usize = 4;
/// Milliseconds that a slow disk takes for each fsync, and clients that do not read.
const SLOW_MS: u32 = 200;
const STOPPED: usize = 20;
/// Bytes that a stopped client is to be told.
const UNREAD_BYTES: usize = 60_000;
/// How long a fault lasts.
const LASTS: Duration = Duration::from_millis(700);

/// A daemon as it is in peace.
struct Peace {
    stub: Stub,
    daemon: Daemon,
    descriptors: usize,
    children: usize,
}

fn descriptors(daemon: &Daemon) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().count()
}

fn children(daemon: &Daemon) -> usize {
    let pid = daemon.pid();
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    text.split_whitespace().count()
}

impl Peace {
    async fn new(prepare: impl FnOnce(Plan) -> Plan) -> Peace {
        let stub = Stub::start().await.unwrap();
        slow_model(&stub).await;
        stub.script("stub", json!([{"echo": true}])).await.unwrap();
        let daemon = prepare(Plan::new().stub(&stub)).start().await;
        let mut peace = Peace { stub, daemon, descriptors: 0, children: 0 };
        peace.turn().await;
        peace.descriptors = descriptors(&peace.daemon);
        peace.children = children(&peace.daemon);
        peace
    }

    async fn turn(&mut self) {
        let mut wire = self.daemon.wire().await;
        let session = wire.session().await;
        let done = wire.turn(&session, "does it work").await;
        assert_eq!(done["task"]["status"], "completed", "{done}");
    }

    /// The fault is lifted: says how long it takes until a turn works, and looks that nothing is left.
    async fn heals(mut self, fault: &str) {
        let begin = Instant::now();
        tokio::time::timeout(HEALED, self.turn()).await.expect("a turn works soon");
        figure("R26", &format!("turn again behind {fault}, ms"), begin.elapsed().as_millis(), 1);
        let (most, was) = (self.descriptors + DESCRIPTORS_MORE, self.children);
        until("descriptors and processes as they were", || {
            descriptors(&self.daemon) <= most && children(&self.daemon) == was
        })
        .await;
        let log = self.daemon.plan().data_folder().join("sess.db-wal");
        assert!(std::fs::metadata(log).map_or(0, |it| it.len()) <= LOG_BYTES_MAX);
        let words = self.daemon.plan().words();
        assert!(!words.contains("panicked"), "{words}");
        drop(self.stub);
    }
}

/// Lets time go by while a client hears what there is to hear.
async fn lasts(wire: &mut Wire) {
    let until = tokio::time::Instant::now() + LASTS;
    while tokio::time::timeout_at(until, wire.next_notification()).await.is_ok() {}
}

#[tokio::test]
async fn behind_a_slow_disk_a_turn_works() {
    let folder = sess_tests::harness::daemon::Folder::new();
    // The next fsyncs behind those of the start and the first turn, and then no more.
    let faults = Faults::new(&folder.path().join("fired"));
    let rule = format!("fsync:-wal:12:DELAY{SLOW_MS}:10");
    let slowed = faults.rule(&rule);
    let hooked = slowed.clone();
    let peace = Peace::new(|plan| plan.hook(move |it| hooked.command(it).unwrap())).await;
    let mut wire = peace.daemon.wire().await;
    let session = wire.session().await;
    while slowed.fired().unwrap().len() < 10 {
        wire.ok("session/update", json!({"session": session, "title": "slowly"})).await;
    }
    drop(wire);
    peace.heals("a slow disk").await;
}

#[tokio::test]
async fn behind_a_stopped_model_server_a_turn_works() {
    let peace = Peace::new(|plan| plan).await;
    let server = Pid::from_raw(peace.stub.pid().expect("a process of its own").cast_signed());
    kill(server, Signal::SIGSTOP).unwrap();
    let mut wire = peace.daemon.wire().await;
    let session = wire.session().await;
    wire.follow(&session).await;
    let mut all: Vec<Value> = Vec::new();
    for n in 0..DESCRIPTORS_MORE {
        let session = wire.session().await;
        all.push(wire.say(&session, &format!("to nobody {n}")).await);
    }
    lasts(&mut wire).await;
    kill(server, Signal::SIGCONT).unwrap();
    for sent in all {
        let done = wire.wait(&sent).await;
        assert_eq!(done["task"]["status"], "completed", "{done}");
    }
    drop(wire);
    peace.heals("a stopped model server").await;
}

#[tokio::test]
async fn behind_clients_that_read_nothing_a_turn_works() {
    let peace = Peace::new(|plan| plan).await;
    let mut wire = peace.daemon.wire().await;
    let create = json!({"model": "echo/echo"});
    let session = wire.ok("session/create", create).await["id"].clone();
    let mut stopped = Vec::new();
    for _ in 0..STOPPED {
        let mut client = peace.daemon.wire().await;
        client.ok("session/follow", json!({ "session": session })).await;
        stopped.push(client);
    }
    let words = "unread ".repeat(UNREAD_BYTES / 7);
    for _ in 0..20 {
        wire.turn(session.as_str().unwrap(), &words).await;
    }
    drop((wire, stopped));
    peace.heals("clients that read nothing").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_kill_amid_load_a_turn_works() {
    let mut peace = Peace::new(|plan| plan).await;
    let load = Load::begin(peace.daemon.plan(), 0).await;
    let mut wire = peace.daemon.wire().await;
    wire.ok("session/follow", json!({"session": "global", "after": "start"})).await;
    lasts(&mut wire).await;
    drop(wire);
    peace.daemon = peace.daemon.killed_and_restarted().await;
    let mut heard = sess_tests::judge::Heard::default();
    load.end(&mut heard).await;
    peace.heals("kill -9").await;
}
