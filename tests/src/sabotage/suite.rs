//! How does one suite go, and which of its tests are red?

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// How long others may still become red behind the first.
const FURTHER: Duration = Duration::from_secs(2);
/// Lines of a suite that wait to be looked at.
const LINES_MAX: usize = 1_024;

/// How a suite went.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Tests that failed, in the order in which they did.
    pub(super) red: Vec<String>,
    /// How many passed.
    pub(super) green: usize,
    /// Whether it came to its end.
    pub(super) in_time: bool,
}

/// Runs a program of tests until its end, a little beyond its first red test, or until time is up.
pub(super) fn run(mut command: Command, time: Duration) -> anyhow::Result<Found> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
    let mut child = Group(command.spawn().with_context(|| format!("start {command:?}"))?);
    let stdout = child.0.stdout.take().context("its stdout is a pipe")?;
    let (sender, lines) = sync_channel(LINES_MAX);
    let reader = std::thread::spawn(move || read(stdout, |line| sender.send(line).is_ok()));
    let mut found = watch(&lines, Instant::now() + time);
    drop(lines);
    if found.in_time && found.red.is_empty() {
        let status = child.0.wait()?;
        if !status.success() {
            found.red.push(format!("(the program of the tests ended with {status})"));
        }
    }
    // All that it started goes with it, and with that the other end of the reader's pipe.
    drop(child);
    reader.join().ok().context("the reader reads")?;
    Ok(found)
}

fn read(from: impl Read, mut take: impl FnMut(String) -> bool) {
    for line in BufReader::new(from).lines() {
        let Ok(line) = line else { return };
        if !take(line) {
            return;
        }
    }
}

fn watch(lines: &Receiver<String>, mut until: Instant) -> Found {
    let mut found = Found::default();
    loop {
        match lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                let Some((name, result)) = verdict(&line) else { continue };
                match result {
                    "ok" => found.green += 1,
                    "FAILED" => {
                        until = until.min(Instant::now() + FURTHER);
                        found.red.push(name.to_owned());
                    }
                    _ => {}
                }
            }
            Err(RecvTimeoutError::Disconnected) => {
                found.in_time = true;
                return found;
            }
            Err(RecvTimeoutError::Timeout) => return found,
        }
    }
}

/// The test and its result, of a line `test NAME ... RESULT`.
fn verdict(line: &str) -> Option<(&str, &str)> {
    let (name, result) = line.strip_prefix("test ")?.split_once(" ... ")?;
    Some((name.split(" - ").next()?, result.trim()))
}

/// A process and all that it started.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // It may have ended by itself; its number is ours until it is waited for.
        let _ = killpg(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn red_and_green_tests_are_told_apart() {
        let script = "echo 'test a::b ... ok'; echo 'test c ... FAILED'; echo 'test d - should panic ... ok'; exit 101";
        let found = run(shell(script), Duration::from_secs(20)).unwrap();
        assert_eq!((found.red, found.green, found.in_time), (vec!["c".to_owned()], 2, true));
    }

    #[test]
    fn a_program_that_breaks_is_red_and_one_that_hangs_is_ended_with_all_it_started() {
        let found = run(shell("kill -9 $$"), Duration::from_secs(20)).unwrap();
        assert_eq!(found.red.len(), 1);
        let begin = Instant::now();
        let found = run(shell("sleep 1000 & sleep 1000"), Duration::from_millis(100)).unwrap();
        assert!(!found.in_time && found.red.is_empty() && begin.elapsed().as_secs() < 20);
    }
}
