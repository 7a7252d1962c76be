//! Is there one daemon, for one user, behind one socket?

use std::collections::HashSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use sess_tests::figures::figure;
use sess_tests::harness::{Daemon, Plan, Wire, within};
use tokio::net::UnixDatagram;
use tokio::process::Command;
use tokio::task::JoinSet;

/// Daemons that start at once.
const STARTERS: usize = 50;
/// How often they do, without `SESS_ROUNDS`.
const ROUNDS: usize = 2;
/// A user that is not this one.
const SOMEBODY_ELSE: u32 = 65_534;

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn run_folder(plan: &Plan) -> std::path::PathBuf {
    plan.socket().parent().unwrap().to_owned()
}

#[tokio::test]
async fn socket_and_folder_are_for_this_user_only() {
    let daemon = Daemon::start().await;
    let plan = daemon.plan();
    assert_eq!(mode(&plan.socket()), 0o600);
    assert_eq!(mode(&run_folder(plan)), 0o700);
    assert_eq!(mode(&plan.data_folder()), 0o700);
    for entry in std::fs::read_dir(plan.data_folder()).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path) & 0o077, 0, "{path:?}");
    }
}

#[tokio::test]
async fn a_folder_that_others_may_write_is_unsafe() {
    for wrong in [0o777, 0o770, 0o755] {
        let plan = Plan::new();
        std::fs::create_dir(run_folder(&plan)).unwrap();
        set_mode(&run_folder(&plan), wrong);
        assert_eq!(plan.run().await, 77, "{wrong:o}: {}", plan.words());
        assert_eq!(mode(&run_folder(&plan)), wrong, "it is left as it is");
    }
}

#[tokio::test]
async fn a_folder_of_somebody_else_is_unsafe() {
    assert!(nix::unistd::geteuid().is_root(), "this test gives a folder away, so it runs as root");
    let plan = Plan::new();
    std::fs::create_dir(run_folder(&plan)).unwrap();
    set_mode(&run_folder(&plan), 0o700);
    std::os::unix::fs::chown(run_folder(&plan), Some(SOMEBODY_ELSE), None).unwrap();
    assert_eq!(plan.run().await, 77, "{}", plan.words());
}

#[tokio::test]
async fn what_is_no_socket_is_left_alone() {
    let plan = Plan::new();
    std::fs::create_dir(run_folder(&plan)).unwrap();
    set_mode(&run_folder(&plan), 0o700);
    std::fs::write(plan.socket(), "precious").unwrap();
    assert_eq!(plan.run().await, 77, "{}", plan.words());
    assert_eq!(std::fs::read(plan.socket()).unwrap(), b"precious");
    std::fs::remove_file(plan.socket()).unwrap();
    let elsewhere = plan.folder().join("elsewhere");
    std::fs::write(&elsewhere, "precious").unwrap();
    symlink(&elsewhere, plan.socket()).unwrap();
    assert_eq!(plan.run().await, 77, "{}", plan.words());
    assert_eq!(std::fs::read(&elsewhere).unwrap(), b"precious");
}

#[tokio::test]
async fn the_socket_of_a_killed_daemon_is_taken_over() {
    let daemon = Daemon::start().await;
    let plan = daemon.kill().await;
    assert!(plan.socket().exists());
    let daemon = plan.start().await;
    daemon.wire().await.ok("session/list", json!({})).await;
}

#[tokio::test]
async fn a_second_daemon_ends_with_73_and_disturbs_nobody() {
    let daemon = Daemon::start().await;
    let mut wire = daemon.wire().await;
    let inode = std::fs::metadata(daemon.plan().socket()).unwrap().ino();
    assert_eq!(daemon.plan().run().await, 73, "{}", daemon.plan().words());
    assert_eq!(std::fs::metadata(daemon.plan().socket()).unwrap().ino(), inode);
    wire.ok("session/list", json!({})).await;
    daemon.wire().await.ok("session/list", json!({})).await;
}

#[tokio::test]
async fn a_store_has_one_daemon_whatever_the_socket() {
    let daemon = Daemon::start().await;
    let other = Plan::new().env("SESS_DATA_DIR", daemon.plan().data_folder());
    assert_eq!(other.run().await, 73, "{}", other.words());
    daemon.wire().await.ok("session/list", json!({})).await;
}

#[tokio::test]
async fn a_socket_has_one_daemon_whatever_the_store() {
    let daemon = Daemon::start().await;
    let other = Plan::new().env("SESS_SOCKET", daemon.plan().socket());
    assert_eq!(other.run().await, 73, "{}", other.words());
    let mut wire = daemon.wire().await;
    assert_eq!(wire.ok("daemon/status", json!({})).await["pid"], daemon.pid());
}

#[tokio::test]
async fn two_daemons_with_different_values_share_nothing() {
    let (one, two) = (Daemon::start().await, Daemon::start().await);
    let session = one.wire().await.session().await;
    let mut wire = two.wire().await;
    wire.refused("not_found", "session/get", json!({"session": session})).await;
}

/// Starts many daemons at once. Once all but one have ended, that one leads: its process, and what still waits for it.
async fn race(plan: &Plan, round: usize) -> (u32, JoinSet<(u32, ExitStatus)>) {
    let path = plan.folder().join(format!("round-{round}"));
    let notes = UnixDatagram::bind(&path).unwrap();
    let mut pids = HashSet::new();
    let mut running = JoinSet::new();
    for _ in 0..STARTERS {
        let mut command = Command::from(plan.command());
        let mut child = command.env("NOTIFY_SOCKET", &path).kill_on_drop(true).spawn().unwrap();
        let pid = child.id().unwrap();
        pids.insert(pid);
        running.spawn(async move { (pid, child.wait().await.unwrap()) });
    }
    let mut note = [0; 4096];
    let count = within("READY", notes.recv(&mut note)).await.unwrap();
    assert!(String::from_utf8_lossy(&note[..count]).contains("READY=1"));
    while pids.len() > 1 {
        let (pid, status) = within("an end", running.join_next()).await.unwrap().unwrap();
        assert_eq!(status.code(), Some(73), "{}", plan.words());
        pids.remove(&pid);
    }
    let more = notes.try_recv(&mut note).map(|count| note[..count].to_vec());
    assert!(!more.is_ok_and(|it| it.starts_with(b"READY=1")), "no other was ready");
    (pids.into_iter().next().unwrap(), running)
}

#[tokio::test]
async fn of_fifty_starts_at_once_one_leads_and_no_live_socket_is_unlinked() {
    let rounds = std::env::var("SESS_ROUNDS").ok().and_then(|it| it.parse().ok()).unwrap_or(ROUNDS);
    let plan = Plan::new();
    for round in 0..rounds {
        let (leader, mut waiting) = race(&plan, round).await;
        let mut wire = Wire::connect(&plan.socket()).await;
        assert_eq!(wire.ok("daemon/status", json!({})).await["pid"], leader, "round {round}");
        wire.session().await;
        kill(Pid::from_raw(leader.cast_signed()), Signal::SIGKILL).unwrap();
        within("its end", waiting.join_next()).await.unwrap().unwrap();
    }
    figure("R22", "rounds of fifty starts with another number of leaders than 1", 0, rounds);
}

#[tokio::test]
async fn another_user_is_served_nothing_even_where_the_doors_are_open() {
    assert!(nix::unistd::geteuid().is_root(), "this test becomes another user, so it runs as root");
    let daemon = Daemon::start().await;
    let mut wire: Wire = daemon.wire().await;
    for (path, open) in [
        (daemon.plan().folder().to_owned(), 0o755),
        (run_folder(daemon.plan()), 0o777),
        (daemon.plan().socket(), 0o666),
    ] {
        set_mode(&path, open);
    }
    let script = r#"
import os, socket, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
door = socket.socket(socket.AF_UNIX); door.settimeout(5)
door.connect(sys.argv[1])
got = b""
try:
    door.sendall(b'{"id":1,"method":"session/create","params":{}}\n' * 10)
    while piece := door.recv(4096): got += piece
except (BrokenPipeError, ConnectionResetError): pass
print(os.getuid(), len(got))
"#;
    let output = Command::new("python3")
        .args(["-c", script])
        .arg(daemon.plan().socket())
        .stderr(Stdio::inherit())
        .output();
    let output = within("the other user's end", output).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), format!("{SOMEBODY_ELSE} 0"));
    assert_eq!(wire.ok("session/list", json!({})).await["sessions"], json!([]));
}
