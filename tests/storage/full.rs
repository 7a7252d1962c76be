//! What becomes of a daemon whose disk is full, and what when there is room again?

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sess_tests::faults::{Ballast, Mounted};
use sess_tests::figures::figure;
use sess_tests::harness::{Daemon, Plan, Wire, stub, until_held};
use sess_tests::judge::{Heard, Witness};
use sess_tests::stub::Stub;

use crate::until;

/// Bytes of a file system in memory, and of one on a disk.
const TMPFS_BYTES: u64 = 2 << 20;
const EXT4_BYTES: u64 = 16 << 20;
/// Changes that are tried until the first is refused: what still fits in the log is taken.
const TRIES_MAX: usize = 2_000;
/// Bytes by which the log may grow where files may not grow for ever.
const FILE_BYTES: u64 = 512 << 10;
/// How soon a turn must work again.
const HEALED: Duration = Duration::from_secs(10);
/// Bytes that SQLite's log may have in the end.
const LOG_BYTES_MAX: u64 = 64 << 20;

/// A daemon on a disk of its own; what was told there before.
struct Stage {
    stub: Stub,
    daemon: Daemon,
    wire: Wire,
    heard: Heard,
    /// The session of what was said before, and two whose tasks are at work.
    said: String,
    running: [(String, Value); 2],
    plan: Plan,
    // Last, so that nobody works there any more when it is unmounted.
    disk: Mounted,
}

impl Stage {
    async fn new(mount: impl FnOnce(&Plan) -> Mounted) -> Stage {
        let stub = stub().await;
        for hold in ["one", "two"] {
            let steps = json!([{"text": "begun "}, {"hold": hold}, {"text": "done"}]);
            stub.script(hold, steps).await.unwrap();
        }
        let plan = Plan::new().stub(&stub);
        let disk = mount(&plan);
        let daemon = plan.start().await;
        let mut witness = Witness::connect(&plan, 1).await.unwrap();
        let said = witness.session(json!({"model": "echo/echo"})).await.unwrap();
        for n in 0..5 {
            witness.turn(&said, &format!("before {n}")).await.unwrap();
        }
        let mut wire = daemon.wire().await;
        let mut running = Vec::new();
        for hold in ["one", "two"] {
            let create = json!({"model": format!("stub/{hold}")});
            let session = witness.session(create).await.unwrap();
            let send = json!({"session": session, "content": "go on"});
            running.push((session, wire.ok("chat/send", send).await));
            until_held(&stub, hold).await;
            assert!(witness.until("begun ").await);
        }
        let reserve = plan.data_folder().join("sess.reserve");
        until("room that is kept", || std::fs::metadata(&reserve).is_ok_and(|it| it.len() > 0))
            .await;
        let mut heard = Heard::default();
        heard.add(witness);
        let running = running.try_into().unwrap();
        Stage { stub, daemon, wire, heard, said, running, plan, disk }
    }

    /// Fills the disk, and has the log filled too: what is acknowledged meanwhile is noted.
    async fn fill(&mut self) -> Ballast {
        let ballast = self.disk.fill().unwrap();
        let mut witness = Witness::connect(&self.plan, 2).await.unwrap();
        let mut is_refused = false;
        for n in 0..TRIES_MAX {
            let update = json!({"session": self.said, "description": format!("{n} ").repeat(500)});
            match witness.refused("session/update", update).await {
                Some(kind) => {
                    assert_eq!(kind, "storage");
                    is_refused = true;
                    break;
                }
                None => assert!(!witness.is_over(), "{}", self.plan.words()),
            }
        }
        assert!(is_refused, "a full disk refuses");
        self.heard.add(witness);
        ballast
    }

    /// Each change is refused. The daemon may find room meanwhile, by copying its log into the database: what it
    /// then takes is as good as ever, and the disk is filled anew. Says how many turns there are more.
    async fn everything_is_refused(&mut self, ballast: &mut Vec<Ballast>) -> usize {
        let session = &self.said;
        let mut turns = 0;
        for (method, params) in [
            ("session/create", json!({"title": "one more"})),
            ("session/update", json!({"session": session, "title": "another"})),
            ("chat/send", json!({"session": session, "content": "hello"})),
            ("chat/send", json!({"content": "in a new session"})),
            ("session/persist", json!({"session": session})),
        ] {
            let mut tries = 0;
            let error = loop {
                match self.wire.call(method, params.clone()).await {
                    Err(error) => break error,
                    Ok(result) => {
                        tries += 1;
                        assert!(
                            tries < TRIES_MAX,
                            "`{method}` {params} is never refused: {result}"
                        );
                        if method == "chat/send" {
                            self.wire.wait(&result).await;
                            turns += usize::from(params["session"] == *session);
                        }
                        ballast.push(self.disk.fill().unwrap());
                    }
                }
            };
            assert_eq!(error["data"]["kind"], "storage", "`{method}` {params}: {error}");
            assert!(error["data"]["hint"].is_string(), "{error}");
        }
        turns
    }

    async fn reading_goes_on(&mut self, turns: usize) {
        assert_eq!(self.wire.texts(&self.said).await.len(), 2 * turns);
        let sessions = self.wire.ok("session/list", json!({})).await;
        assert!(sessions["sessions"].as_array().unwrap().len() >= 3);
        let mut late = self.daemon.wire().await;
        late.follow_from_start(&self.said).await;
        assert_eq!(late.next_notification().await.params["seq"], 1);
    }

    /// The end of one task, and the cancellation of another, find room while nothing else does.
    async fn ends_are_recorded(&mut self) {
        let [(first, ends), (second, cancelled)] = &self.running;
        let mut watcher = self.daemon.wire().await;
        watcher.follow(first).await;
        self.stub.release("one").await.unwrap();
        let event = watcher.event("task.completed").await;
        assert_eq!(event["task"], ends["task"]);
        let done = self.wire.wait(ends).await;
        assert_eq!(done["task"]["status"], "completed");
        let cancel = json!({"task": cancelled["task"]});
        let done = self.wire.ok("task/cancel", cancel).await;
        assert_eq!(done["task"]["status"], "cancelled");
        assert_eq!(self.wire.get(second).await["running"], Value::Null);
    }

    /// How long until a turn works.
    async fn heals(&mut self) -> Duration {
        let begin = Instant::now();
        while begin.elapsed() < HEALED {
            let send = json!({"session": self.said, "content": "again"});
            if let Ok(sent) = self.wire.call("chat/send", send).await {
                let done = self.wire.wait(&sent).await;
                assert_eq!(done["task"]["status"], "completed");
                return begin.elapsed();
            }
        }
        panic!("no turn works within {HEALED:?}: {}", self.plan.words());
    }

    /// The judgement of what is on the disk in the end.
    async fn judge(self) {
        let log = self.plan.data_folder().join("sess.db-wal");
        assert!(std::fs::metadata(log).map_or(0, |it| it.len()) <= LOG_BYTES_MAX);
        drop(self.wire);
        assert_eq!(self.daemon.terminate().await, 0, "{}", self.plan.words());
        let acknowledged = self.heard.acknowledged();
        let (judge, told) = self.heard.judge();
        let verdict = judge.judge(&told, &self.plan).await;
        figure("R16", "acknowledged and lost, disk full", verdict.lost.len(), acknowledged);
        assert!(!verdict.is_bad(), "{verdict:#?}");
        assert!(!self.plan.words().contains("panicked"), "{}", self.plan.words());
    }
}

async fn fills_and_heals(kind: &str, mount: impl FnOnce(&Plan) -> Mounted) {
    let mut stage = Stage::new(mount).await;
    let mut ballast = vec![stage.fill().await];
    let turns = 5 + stage.everything_is_refused(&mut ballast).await;
    stage.reading_goes_on(turns).await;
    stage.ends_are_recorded().await;
    stage.reading_goes_on(turns).await;
    drop(ballast);
    let healed = stage.heals().await.as_millis();
    figure("R16", &format!("turn again behind a full {kind}, ms"), healed, 1);
    let reserve = stage.plan.data_folder().join("sess.reserve");
    until("room that is kept again", || std::fs::metadata(&reserve).is_ok_and(|it| it.len() > 0))
        .await;
    stage.judge().await;
}

fn tmpfs(plan: &Plan) -> Mounted {
    Mounted::tmpfs(&plan.data_folder(), TMPFS_BYTES).unwrap()
}

fn ext4(plan: &Plan) -> Mounted {
    Mounted::ext4(&plan.folder().join("disk"), &plan.data_folder(), EXT4_BYTES).unwrap()
}

#[tokio::test]
async fn a_full_tmpfs_refuses_changes_records_ends_and_heals() {
    fills_and_heals("tmpfs", tmpfs).await;
}

#[tokio::test]
async fn a_full_ext4_refuses_changes_records_ends_and_heals() {
    fills_and_heals("ext4", ext4).await;
}

#[tokio::test]
async fn a_daemon_killed_on_a_full_disk_starts_there_reads_and_heals() {
    let mut stage = Stage::new(tmpfs).await;
    let ballast = stage.fill().await;
    stage.daemon = stage.daemon.killed_and_restarted().await;
    stage.wire = stage.daemon.wire().await;
    stage.reading_goes_on(5).await;
    for (_, sent) in &stage.running {
        let done = stage.wire.wait(sent).await;
        assert_eq!(done["task"]["status"], "interrupted", "{done}");
    }
    drop(ballast);
    let healed = stage.heals().await.as_millis();
    figure("R16", "turn again behind a start on a full tmpfs, ms", healed, 1);
    stage.judge().await;
}

#[tokio::test]
async fn a_daemon_told_to_stop_on_a_full_disk_ends_cleanly_and_loses_nothing() {
    let mut stage = Stage::new(tmpfs).await;
    let ballast = stage.fill().await;
    let shutdown = stage.wire.start("daemon/shutdown", json!({"drain": false})).await;
    assert_eq!(stage.wire.answer(shutdown).await, Ok(json!({})));
    assert_eq!(stage.daemon.exit_code().await, 0, "{}", stage.plan.words());
    drop(ballast);
    stage.daemon = stage.plan.start().await;
    stage.wire = stage.daemon.wire().await;
    for (hold, (_, sent)) in ["one", "two"].iter().zip(&stage.running) {
        // It was put back into its queue, and is asked again.
        stage.stub.release(hold).await.unwrap();
        let done = stage.wire.wait(sent).await;
        assert_eq!(done["task"]["status"], "completed", "{done}");
    }
    stage.judge().await;
}

#[tokio::test]
async fn a_document_on_a_full_disk_is_refused_and_stays_whole() {
    let plan = Plan::new().env("SESS_LOG", "info");
    let disk = Mounted::tmpfs(&plan.state_folder(), TMPFS_BYTES).unwrap();
    let daemon = plan.start().await;
    let mut wire = daemon.wire().await;
    let set = |theme: &str| json!({"document": "settings", "key": "theme", "value": theme});
    wire.ok("state/set", set("dark")).await;
    let file = plan.state_folder().join("settings.json");
    let before = std::fs::read(&file).unwrap();
    let ballast = disk.fill().unwrap();
    wire.refused("storage", "state/set", set("light")).await;
    assert_eq!(std::fs::read(&file).unwrap(), before, "the old bytes are whole");
    let get = json!({"document": "settings", "key": "theme"});
    assert_eq!(wire.ok("state/get", get.clone()).await["value"], "dark");
    let session = wire.session().await;
    wire.turn(&session, "sessions are on another disk").await;
    let daemon = daemon.killed_and_restarted().await;
    let mut wire = daemon.wire().await;
    assert_eq!(wire.ok("state/get", get.clone()).await["value"], "dark");
    drop(ballast);
    wire.ok("state/set", set("light")).await;
    assert_eq!(wire.ok("state/get", get).await["value"], "light");
    assert_eq!(daemon.terminate().await, 0);
    drop(disk);
}

#[tokio::test]
async fn a_file_that_may_grow_no_further_ends_nothing_but_in_words() {
    let daemon = Daemon::start().await;
    let plan = daemon.plan().clone();
    let mut witness = Witness::connect(&plan, 1).await.unwrap();
    let session = witness.session(json!({})).await.unwrap();
    let log = std::fs::metadata(plan.data_folder().join("sess.db-wal")).unwrap().len();
    let limit = format!("--fsize={}", log + FILE_BYTES);
    let pid = format!("--pid={}", daemon.pid());
    let done = std::process::Command::new("prlimit").args([pid, limit]).status().unwrap();
    assert!(done.success());
    for n in 0..TRIES_MAX {
        if witness.turn(&session, &format!("turn {n}")).await.is_none() {
            break;
        }
    }
    witness.to_the_end().await;
    assert_eq!(daemon.exit_code().await, 74, "not a signal: {}", plan.words());
    let mut heard = Heard::default();
    heard.add(witness);
    let acknowledged = heard.acknowledged();
    let (judge, told) = heard.judge();
    let verdict = judge.judge(&told, &plan).await;
    figure("R16", "acknowledged and lost, largest file", verdict.lost.len(), acknowledged);
    assert!(!verdict.is_bad(), "{verdict:#?}");
}
