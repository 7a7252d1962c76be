//! What does the client in Python say, which knows the daemon by the protocol's document alone?

use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use sess_tests::bins;
use tokio::process::{Child, Command};

use crate::stage::Door;

/// Seconds until a judge gives up.
const SECONDS_MAX: &str = "80";

/// A judge at work; dropped, it is killed.
pub(crate) struct Judge(Child);

/// How a judge goes about it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    /// The seed of its pauses.
    pub(crate) seed: u64,
    /// It stops reading about every so many lines.
    pub(crate) pause_every: u64,
    /// It reconnects about every so many lines.
    pub(crate) reconnect_every: u64,
}

impl Judge {
    /// Starts one, which follows until this task is over.
    pub(crate) fn start(door: &Door, session: &str, task: &str, manner: Manner) -> Judge {
        let child = Command::new("python3")
            .arg(bins::workspace().join("protocol/examples/sess_client.py"))
            .args(["judge", session, "--until-task", task, "--seconds", SECONDS_MAX])
            .args(["--pause-seconds", "1.5", "--seed", &manner.seed.to_string()])
            .args(["--pause-every", &manner.pause_every.to_string()])
            .args(["--reconnect-every", &manner.reconnect_every.to_string()])
            .env("SESS_SOCKET", &door.socket)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .expect("python3 is there");
        Judge(child)
    }

    /// Stops the process where it is, or lets it go on; one that is done is left alone.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(pid) = self.0.id() {
            kill(Pid::from_raw(pid.cast_signed()), signal).expect("it is our child");
        }
    }

    /// What it found, when it is done.
    pub(crate) async fn verdict(self) -> Value {
        let output = self.0.wait_with_output().await.expect("it is our child");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let verdict: Value = serde_json::from_str(&said).unwrap_or_else(|err| {
            panic!("the judge ended with {} and `{said}`: {err}", output.status)
        });
        assert_eq!(verdict["violations"], serde_json::json!([]), "{}", verdict["counts"]);
        assert_eq!(verdict["ok"], true);
        verdict
    }
}
