//! How does the program behave beside its socket: arguments, exit codes, what it prints?

use std::path::Path;
use std::process::Stdio;

use serde_json::json;
use sess_tests::bins;
use sess_tests::harness::{Daemon, Plan, within};
use tokio::process::Command;

/// Runs the program with these arguments: exit code, stdout, stderr.
async fn run(plan: &Plan) -> (i32, String, String) {
    let mut command = Command::from(plan.command());
    let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).output();
    let output = within("its end", output).await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn its_version_is_printed() {
    let (code, stdout, _) = run(&Plan::new().arg("--version")).await;
    assert_eq!(code, 0);
    assert!(stdout.starts_with("sessd ") && stdout.lines().count() == 1, "{stdout}");
}

#[tokio::test]
async fn an_argument_that_it_does_not_know_is_wrong_usage() {
    let (code, stdout, stderr) = run(&Plan::new().arg("--versoin")).await;
    assert_eq!((code, stdout.as_str()), (2, ""));
    assert!(stderr.contains("--versoin"), "{stderr}");
}

#[tokio::test]
async fn a_check_of_a_good_store_is_silent_about_damage_and_starts_nothing() {
    let daemon = Daemon::start().await;
    let mut wire = daemon.wire().await;
    let session = wire.session().await;
    wire.turn(&session, "hello").await;
    let plan = daemon.kill().await;
    let (code, _, stderr) = run(&plan.clone().arg("--check")).await;
    assert_eq!(code, 0, "{stderr}");
    let daemon = plan.start().await;
    assert_eq!(daemon.wire().await.texts(&session).await, ["hello", "hello"]);
}

#[tokio::test]
async fn a_check_names_settings_that_cannot_be() {
    let plan = Plan::new().text_document("settings", "[1").arg("--check");
    let (code, _, stderr) = run(&plan).await;
    assert_eq!(code, 78);
    assert!(stderr.contains("settings"), "{stderr}");
}

#[tokio::test]
async fn a_running_daemon_prints_nothing_on_stdout() {
    let folder = Plan::new();
    let path = folder.folder().join("stdout");
    let file = path.clone();
    let plan = folder.hook(move |command| {
        command.stdout(std::fs::File::create(&file).unwrap());
    });
    let daemon = plan.start().await;
    let mut wire = daemon.wire().await;
    let session = wire.session().await;
    wire.turn(&session, "hello").await;
    assert_eq!(daemon.terminate().await, 0);
    assert_eq!(std::fs::read(path).unwrap(), b"");
}

#[tokio::test]
async fn nothing_that_was_said_is_in_the_log() {
    let daemon = Daemon::start().await;
    let mut wire = daemon.wire().await;
    let session = wire.session().await;
    wire.turn(&session, "my-secret-words").await;
    let plan = daemon.plan().clone();
    assert_eq!(daemon.terminate().await, 0);
    assert!(!plan.words().contains("my-secret-words"), "{}", plan.words());
}

#[tokio::test]
async fn a_client_may_stop_the_daemon() {
    let daemon = Daemon::start().await;
    let mut wire = daemon.wire().await;
    assert_eq!(wire.ok("daemon/shutdown", json!({})).await, json!({}));
    assert_eq!(daemon.exit_code().await, 0);
    wire.rest().await;
}

#[tokio::test]
async fn from_ready_on_it_answers() {
    for _ in 0..10 {
        let daemon = Daemon::start().await;
        daemon.wire().await.ok("session/list", json!({})).await;
    }
}

#[tokio::test]
async fn a_reload_reads_the_documents_again() {
    let daemon = Daemon::start().await;
    let mut wire = daemon.wire().await;
    let plan = daemon.plan().clone().document("settings", &json!({"theme": "by hand"}));
    wire.ok("daemon/reload", json!({})).await;
    let theme = json!({"document": "settings", "key": "theme"});
    assert_eq!(wire.ok("state/get", theme).await["value"], "by hand");
    drop(plan);
}

#[tokio::test]
async fn descriptors_that_whoever_starts_it_forgot_are_closed() {
    let plan = Plan::new();
    let forgotten = plan.folder().join("forgotten");
    let shell = Path::new("/bin/sh");
    let script = "exec 7>\"$0\" 9<&0; exec \"$@\"";
    let plan = plan.program(shell).arg("-c").arg(script).arg(&forgotten).arg(bins::bin("sessd"));
    let daemon = plan.start().await;
    daemon.wire().await.ok("session/list", json!({})).await;
    assert!(forgotten.exists());
    let open = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap();
    let open: Vec<_> = open.map(|it| std::fs::read_link(it.unwrap().path()).unwrap()).collect();
    assert!(open.len() > 3 && !open.contains(&forgotten), "{open:?}");
    assert_eq!(daemon.terminate().await, 0);
}
