//! What does `sess` say and answer to a shell, and what is the way out when it cannot do what was asked?

use std::process::Stdio;

use serde_json::{Value, json};
use sess_tests::bins;
use sess_tests::harness::table::text;
use sess_tests::harness::{Daemon, Plan, stub, until_held, within};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixListener;
use tokio::process::Command;

/// What a command came to.
struct Done {
    code: i32,
    stdout: String,
    stderr: String,
}

fn command(plan: &Plan, words: &[&str]) -> Command {
    let mut command = Command::new(bins::bin("sess"));
    command
        .args(words)
        .env_clear()
        .env("HOME", plan.folder())
        .env("SESS_SOCKET", plan.socket())
        .current_dir(plan.folder())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// Runs `sess` with these words.
async fn sess(plan: &Plan, words: &[&str]) -> Done {
    let output = within(&words.join(" "), command(plan, words).output()).await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    Done { code: output.status.code().unwrap(), stdout, stderr }
}

#[tokio::test]
async fn wait_ends_with_the_work_and_prints_the_last_answer() {
    let stub = stub().await;
    let steps = json!([{"text": "begun "}, {"hold": "h"}, {"text": "done"}]);
    stub.script("stub", steps).await.unwrap();
    let daemon = Daemon::with_stub(&stub).await;
    let mut wire = daemon.wire().await;
    let session = wire.session().await;
    wire.say(&session, "first").await;
    wire.say(&session, "second").await;
    until_held(&stub, "h").await;
    let impatient = sess(daemon.plan(), &["wait", &session, "-t", "0"]).await;
    assert_eq!(impatient.code, 1);
    assert!(impatient.stderr.contains("it goes on"), "{}", impatient.stderr);
    let words = ["wait", session.as_str()];
    let (waited, released) = tokio::join!(sess(daemon.plan(), &words), stub.release("h"));
    released.unwrap();
    assert_eq!((waited.code, waited.stdout.as_str()), (0, "begun done\n"), "{}", waited.stderr);
    assert_eq!(wire.get(&session).await["queued"], 0);
}

#[tokio::test]
async fn a_task_that_was_cancelled_is_no_success() {
    let stub = stub().await;
    stub.script("stub", json!([{"text": "begun "}, {"hold": "h"}])).await.unwrap();
    let daemon = Daemon::with_stub(&stub).await;
    let mut wire = daemon.wire().await;
    let session = wire.session().await;
    let task = text(&wire.say(&session, "first").await["task"]);
    until_held(&stub, "h").await;
    let cancelled = sess(daemon.plan(), &["cancel", &session]).await;
    assert_eq!(cancelled.code, 0, "{}", cancelled.stderr);
    let waited = sess(daemon.plan(), &["wait", &task]).await;
    assert_eq!(waited.code, 1);
    assert!(waited.stderr.contains("the task was cancelled"), "{}", waited.stderr);
    let waited = sess(daemon.plan(), &["wait", &task, "--json"]).await;
    let result: Value = serde_json::from_str(&waited.stdout).unwrap();
    assert_eq!((waited.code, &result["task"]["status"]), (1, &json!("cancelled")));
}

#[tokio::test]
async fn events_are_the_newest_in_order_each_on_a_line() {
    let daemon = Daemon::start().await;
    let mut wire = daemon.wire().await;
    let session = wire.session().await;
    wire.turn(&session, "hello").await;
    let last = wire.get(&session).await["seq"].as_u64().unwrap();
    let done = sess(daemon.plan(), &["events", &session, "-n", "2", "--json"]).await;
    let events = done.stdout.lines().map(|it| serde_json::from_str::<Value>(it).unwrap());
    let seqs: Vec<_> = events.map(|it| it["params"]["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, [last - 1, last]);
    let done = sess(daemon.plan(), &["events", &session]).await;
    assert!(done.stdout.contains("task.completed"), "{}", done.stdout);
}

#[tokio::test]
async fn what_completes_is_alive_and_starts_nothing() {
    let daemon = Daemon::start().await;
    let session = daemon.wire().await.session().await;
    let words = ["__complete", "--", "show", ""];
    let done = sess(daemon.plan(), &words).await;
    let digits = &session.trim_start_matches("sess_")[..8];
    assert!(done.stdout.starts_with(digits), "{}", done.stdout);
    let models = sess(daemon.plan(), &["__complete", "--", "chat", "-m", "ec"]).await;
    assert_eq!(models.stdout, "echo/echo\t\n");
    let plan = daemon.kill().await;
    let done = sess(&plan, &words).await;
    assert_eq!((done.code, done.stdout.as_str()), (0, ""), "{}", done.stderr);
}

#[tokio::test]
async fn a_file_that_cannot_be_attached_stops_all_before_anything_is_made() {
    let daemon = Daemon::start().await;
    let done = sess(daemon.plan(), &["chat", "look", "--attach", "nowhere.png"]).await;
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("cannot attach `nowhere.png`"), "{}", done.stderr);
    let list = daemon.wire().await.ok("session/list", json!({"empty": true})).await;
    assert_eq!(list["sessions"], json!([]));
}

/// A daemon of an earlier version: it welcomes, and does not know what is asked next.
async fn answer_as_an_earlier_one(listener: &UnixListener) {
    let (stream, _) = listener.accept().await.unwrap();
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    let hello: Value = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
    let welcome = json!({"jsonrpc": "2.0", "id": hello["id"], "result": {
        "protocol": 1,
        "daemon": {"name": "sessd", "version": "0.0.9", "pid": 1},
        "store": {"kind": "sqlite", "history": "h"},
        "capabilities": [],
        "limits": {},
    }});
    writer.write_all(format!("{welcome}\n").as_bytes()).await.unwrap();
    let asked: Value = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
    let refusal = json!({"jsonrpc": "2.0", "id": asked["id"], "error": {
        "code": -32601,
        "message": format!("there is no method `{}`", asked["method"].as_str().unwrap()),
        "data": {"kind": "unknown_method", "retryable": false, "nearest": null},
    }});
    writer.write_all(format!("{refusal}\n").as_bytes()).await.unwrap();
    // Until the client has heard it.
    let _ = lines.next_line().await;
}

#[tokio::test]
async fn an_earlier_daemon_is_called_so_and_how_to_renew_it() {
    let plan = Plan::new();
    std::fs::create_dir_all(plan.socket().parent().unwrap()).unwrap();
    let listener = UnixListener::bind(plan.socket()).unwrap();
    let (done, ()) = tokio::join!(sess(&plan, &["usage"]), answer_as_an_earlier_one(&listener));
    assert_eq!((done.code, done.stdout.as_str()), (1, ""));
    let version = env!("CARGO_PKG_VERSION");
    let stderr = done.stderr;
    assert!(stderr.contains(&format!("is sessd 0.0.9, this is sess {version}")), "{stderr}");
    assert!(stderr.contains("there is no method `session/usage`"), "{stderr}");
    assert_eq!(stderr.matches("`sess daemon restart`").count(), 2, "{stderr}");
}

/// An empty file would look like an export.
#[tokio::test]
async fn an_export_that_is_refused_leaves_no_file() {
    let daemon = Daemon::start().await;
    let words = ["export", "ffffffff", "-o", "x.md"];
    let done = sess(daemon.plan(), &words).await;
    assert_eq!(done.code, 1, "{}", done.stderr);
    let path = daemon.plan().folder().join("x.md");
    assert!(!path.exists());
    std::fs::write(&path, "mine").unwrap();
    let taken = sess(daemon.plan(), &words).await;
    assert!(taken.stderr.contains("--force replaces it"), "{}", taken.stderr);
    let forced = sess(daemon.plan(), &[&words[..], &["--force"]].concat()).await;
    assert_eq!(forced.code, 1);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine", "until there is another");
}

#[tokio::test]
async fn agents_scopes_and_other_folders_are_a_word_on_the_command_line() {
    let daemon = Daemon::start().await;
    let plan = daemon.plan();
    let other = plan.folder().join("other");
    std::fs::create_dir(&other).unwrap();
    let listed = sess(plan, &["agents"]).await;
    let lines: Vec<&str> = listed.stdout.lines().collect();
    assert!(lines.len() == 5 && lines[4].starts_with("coder"), "{}", listed.stdout);
    let mut wire = daemon.wire().await;
    let here = sess(plan, &["new", "--agent", "architect"]).await.stdout;
    let made = wire.get(here.trim()).await;
    assert_eq!((&made["agent"], &made["scope"]), (&json!("architect"), &json!("project")));
    let there = sess(plan, &["-C", "other", "new", "--scope", "assistant"]).await.stdout;
    let made = wire.get(there.trim()).await;
    assert_eq!(made["agent"], "brainstorm");
    let real = other.canonicalize().unwrap();
    assert_eq!(made["workspace"]["path"], json!(real));
    let switched = sess(plan, &["scope", "other"]).await;
    assert_eq!((switched.code, &switched.stdout), (0, &there), "{}", switched.stderr);
    assert!(switched.stderr.contains("set aside: session"), "{}", switched.stderr);
    let wrong = sess(plan, &["chat", "--agent", "codr", "hello"]).await;
    assert_eq!(wrong.code, 1);
    assert!(wrong.stderr.contains("`coder`"), "{}", wrong.stderr);
    let said = sess(plan, &["chat", "--agent", "coder", "hello", "--json"]).await.stdout;
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["task"]["agent"], "coder");
    let nowhere = sess(plan, &["-C", "nowhere", "ls"]).await;
    assert_eq!((nowhere.code, nowhere.stderr.contains("nowhere")), (2, true));
}
