//! Are documents whole and kept while many read, many write, a person edits, and the daemon dies?

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use serde_json::{Value, json};
use sess_tests::faults::Faults;
use sess_tests::harness::{Daemon, Plan, Wire, stub, within};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::task::JoinSet;

const READERS: usize = 64;
const WRITERS: usize = 8;
/// Changes of each writer.
const SETS: u64 = 12;
/// The most changes until a daemon that is to die does.
const SETS_UNTIL_DEATH: u64 = 8;

/// A value of which half is not it.
fn mark(n: u64) -> Value {
    json!({"n": n, "pad": "x".repeat(500 + (n as usize * 37) % 900), "again": n})
}

fn number(value: &Value) -> u64 {
    assert_eq!(value["n"], value["again"], "a torn read: {value}");
    value["n"].as_u64().unwrap_or(0)
}

async fn get(wire: &mut Wire, document: &str) -> Value {
    wire.ok("state/get", json!({"document": document})).await["value"].take()
}

/// Reads until all is written: no value is torn, and none goes back.
async fn read_on(mut wire: Wire, done: Arc<AtomicBool>) {
    let mut seen = [0; WRITERS];
    let mut by_hand = 0;
    while !done.load(SeqCst) {
        let spaces = get(&mut wire, "spaces").await;
        for (writer, seen) in seen.iter_mut().enumerate() {
            let now = number(&spaces[format!("w{writer}")]);
            assert!(now >= *seen, "{now} behind {seen}");
            *seen = now;
        }
        let now = number(&get(&mut wire, "skills").await["hand"]);
        assert!(now >= by_hand, "{now} behind {by_hand}");
        by_hand = now;
    }
}

/// Edits as an editor does that writes in place, in two pieces.
fn edit(path: &std::path::Path, n: u64) {
    let text = json!({"hand": mark(n)}).to_string();
    let (first, second) = text.split_at(text.len() / 2);
    let mut file = std::fs::File::create(path).unwrap();
    file.write_all(first.as_bytes()).unwrap();
    std::thread::yield_now();
    file.write_all(second.as_bytes()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_read_is_torn_and_no_change_lost_while_many_read_and_write_and_a_person_edits() {
    let stub = stub().await;
    stub.script("stub", json!([{"pieces": 300, "every_ms": 2}])).await.unwrap();
    let daemon = Plan::new().stub(&stub).start().await;
    let mut wire = daemon.wire().await;
    let session = wire.session().await;
    let sent = wire.say(&session, "go on").await;
    let done = Arc::new(AtomicBool::new(false));
    let mut readers = JoinSet::new();
    for _ in 0..READERS {
        readers.spawn(read_on(daemon.wire().await, Arc::clone(&done)));
    }
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let mut wire = daemon.wire().await;
        writers.spawn(async move {
            let key = format!("w{writer}");
            for n in 1..=SETS {
                let params = json!({"document": "spaces", "key": key, "value": mark(n)});
                wire.ok("state/set", params).await;
                // Who was answered reads what was set.
                assert_eq!(number(&get(&mut wire, "spaces").await[&key]), n);
            }
        });
    }
    let path = daemon.plan().state_folder().join("skills.json");
    let (mut at_file, until) = (daemon.wire().await, Arc::clone(&done));
    let editor = tokio::spawn(async move {
        let mut edits = 0;
        while !until.load(SeqCst) {
            edits += 1;
            edit(&path, edits);
            // An edit that is made is seen, whatever else is going on.
            let seen =
                async { while number(&get(&mut at_file, "skills").await["hand"]) != edits {} };
            within("an edit to be seen", seen).await;
        }
        edits
    });
    while let Some(writer) = within("a writer", writers.join_next()).await {
        writer.unwrap();
    }
    done.store(true, SeqCst);
    let edits = editor.await.unwrap();
    assert!(edits > 1);
    while let Some(reader) = within("a reader", readers.join_next()).await {
        reader.unwrap();
    }
    assert_eq!(wire.wait(&sent).await["task"]["status"], "completed");
    assert_eq!(number(&get(&mut wire, "skills").await["hand"]), edits);
    let daemon = daemon.killed_and_restarted().await;
    let spaces = get(&mut daemon.wire().await, "spaces").await;
    for writer in 0..WRITERS {
        assert_eq!(number(&spaces[format!("w{writer}")]), SETS);
    }
}

/// Sets until the daemon dies; the last number that was answered, and the last asked for.
async fn set_until_death(daemon: &Daemon) -> (u64, u64) {
    let stream = UnixStream::connect(daemon.plan().socket()).await.unwrap();
    let mut stream = BufReader::new(stream);
    let mut kept = 0;
    for n in 1..=SETS_UNTIL_DEATH {
        let theme = format!("theme {n} {}", "x".repeat(2_000));
        let params = json!({"document": "settings", "key": "theme", "value": theme});
        let line = json!({"id": n, "method": "state/set", "params": params}).to_string() + "\n";
        if stream.write_all(line.as_bytes()).await.is_err() {
            return (kept, n);
        }
        let mut answer = String::new();
        match within("an answer or the end", stream.read_line(&mut answer)).await {
            Ok(bytes) if bytes > 0 => {
                let answer: Value = serde_json::from_str(&answer).unwrap();
                assert!(answer.get("result").is_some(), "{answer}");
                kept = n;
            }
            _ => return (kept, n),
        }
    }
    (kept, SETS_UNTIL_DEATH)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_each_step_of_a_write_loses_nothing_that_was_answered() {
    let mut deaths = 0;
    for (call, part) in [
        ("open", ".settings.json."),
        ("write", "settings.json"),
        ("fsync", "settings.json"),
        ("rename", "settings.json"),
        ("fsync", "FOLDER$"),
    ] {
        for effect in ["KILL", "KILLAFTER"] {
            let plan = Plan::new();
            let folder = plan.state_folder();
            let folder = folder.file_name().unwrap().to_str().unwrap();
            let rule = format!("{call}:{}:3:{effect}", part.replace("FOLDER", folder));
            let faults = Faults::new(&plan.folder().join("fired")).rule(&rule);
            let shimmed = plan.clone().hook(move |command| faults.command(command).unwrap());
            let daemon = shimmed.start().await;
            let (kept, asked) = set_until_death(&daemon).await;
            deaths += usize::from(kept < asked);
            drop(daemon.kill().await);

            let daemon = plan.start().await;
            let get = json!({"document": "settings", "key": "theme"});
            let theme = daemon.wire().await.ok("state/get", get).await["value"].to_string();
            let theme = theme.trim_matches('"').to_owned();
            let n: u64 = theme.split(' ').nth(1).map_or(0, |it| it.parse().unwrap());
            assert!((kept..=asked).contains(&n), "{rule}: {n} of {kept} kept, {asked} asked for");
            assert!(n == 0 || theme.len() > 2_000, "{rule}: a torn value");
            let left = std::fs::read_dir(plan.state_folder()).unwrap();
            let left: Vec<_> = left.map(|it| it.unwrap().file_name()).collect();
            assert!(!left.iter().any(|it| it.to_str().unwrap().contains(".tmp")), "{left:?}");
        }
    }
    assert!(deaths >= 8, "only {deaths} of 10 died");
}

#[tokio::test]
async fn the_index_of_sessions_can_be_read_and_followed_and_not_set() {
    let daemon = Daemon::start().await;
    let mut wire = daemon.wire().await;
    let session = wire.session().await;
    let mut follower = daemon.wire().await;
    let first = follower.ok("state/follow", json!({"document": "sessions"})).await;
    assert_eq!(first["value"][&session]["turn_count"], 0);
    wire.turn(&session, "hello").await;
    let told = follower.until(|it| it.params["value"]["turn_count"] == 1).await;
    let last = told.last().unwrap();
    assert_eq!((last.method.as_str(), &last.params["key"]), ("state", &json!(session)));
    for member in ["id", "agent", "title", "created_at", "updated_at"] {
        assert!(last.params["value"].get(member).is_some(), "{member}: {:?}", last.params);
    }
    let one = wire.ok("state/get", json!({"document": "sessions", "key": session})).await;
    assert_eq!(one["value"], last.params["value"]);
    let all = wire.ok("state/all", json!({"document": "sessions"})).await;
    assert_eq!(all["documents"]["sessions"][&session], one["value"]);
    let set = json!({"document": "sessions", "key": session, "value": {}});
    wire.refused("denied", "state/set", set).await;
    wire.ok("session/delete", json!({"session": session, "force": true})).await;
    follower.until(|it| it.params["value"].is_null()).await;
    let one = wire.ok("state/get", json!({"document": "sessions", "key": session})).await;
    assert_eq!(one["value"], Value::Null);
}

#[tokio::test]
async fn the_daemon_keeps_what_was_used_last_in_context() {
    let daemon = Daemon::start().await;
    let mut wire = daemon.wire().await;
    let mut follower = daemon.wire().await;
    follower.ok("state/follow", json!({"document": "context"})).await;
    let workspace = daemon.plan().folder().canonicalize().unwrap();
    let made = wire.ok("session/create", json!({"workspace": workspace, "mode": "plan"})).await;
    let told = follower.next_notification().await.params;
    let expected = json!({"session": made["id"], "workspace": workspace, "mode": "plan"});
    assert_eq!(told, json!({"document": "context", "value": expected}));
    let daemon = daemon.killed_and_restarted().await;
    assert_eq!(get(&mut daemon.wire().await, "context").await, expected);
}

#[tokio::test]
async fn an_edit_by_hand_is_told_without_anybody_asking_and_holds() {
    let daemon = Daemon::start().await;
    let mut follower = daemon.wire().await;
    follower.ok("state/follow", json!({"document": "settings"})).await;
    let path = daemon.plan().state_folder().join("settings.json");
    std::fs::write(path, r#"{"model": "echo/by-hand"}"#).unwrap();
    let told = follower.next_notification().await.params;
    assert_eq!(told["value"], json!({"model": "echo/by-hand"}));
    let mut wire = daemon.wire().await;
    // What holds is taken over just behind what is told.
    let holds =
        async { while wire.ok("session/create", json!({})).await["model"] != "echo/by-hand" {} };
    within("the model by hand", holds).await;
}

#[tokio::test]
async fn settings_are_described_and_of_a_workspace_too() {
    let daemon = Daemon::start().await;
    let mut wire = daemon.wire().await;
    let all = wire.ok("state/all", json!({"document": "settings"})).await;
    let described = &all["described"]["tasks.max_running"];
    assert_eq!(described["default"], 64);
    assert!(described["meaning"].is_string() && described["type"].is_string(), "{described}");
    let folder = daemon.plan().folder().to_owned();
    let other_spelling = folder.join("../").join(folder.file_name().unwrap());
    let at =
        |path: &std::path::Path| json!({"document": "settings", "key": "theme", "workspace": path});
    let mut set = at(&folder);
    set["value"] = "here".into();
    wire.ok("state/set", set).await;
    assert_eq!(wire.ok("state/get", at(&other_spelling)).await["value"], "here");
    let own = json!({"document": "settings", "key": "theme"});
    assert_eq!(wire.ok("state/get", own).await["value"], Value::Null);
}
