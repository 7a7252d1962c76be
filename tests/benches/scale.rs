//! Does it stay fast when a person has kept everything for years: 10,000 sessions, 1,000,000 messages?

use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use sess_tests::bins;
use sess_tests::harness::{Daemon, Plan};

use crate::Bench;
use crate::client::Client;
use crate::measure::Samples;
use crate::report::Bar;

/// Sessions, and the turns of each, of two messages of 500 bytes.
const SESSIONS: usize = 10_000;
const TURNS: usize = 50;
const MESSAGE_BYTES: usize = 500;
/// Sessions that speak at the same time.
const AT_ONCE: usize = 200;

pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    let plan = bench.plan();
    let mut daemon = bench.start(&plan);
    let sessions = speak(&plan, bench.rounds(SESSIONS))?;
    bench.stop(daemon)?;
    let said = (sessions.len() * TURNS * 2 * MESSAGE_BYTES) as f64;
    let stored = std::fs::metadata(plan.data_folder().join("sess.db"))?.len() as f64;
    bench.report.add(("bytes on disk per byte said", ""), None, stored / said, Bar::AtMost(3.0));
    let mut start = Samples::new();
    for _ in 0..bench.rounds(10) {
        daemon = start.time(|| {
            let daemon = bench.start(&plan);
            Client::connect(&plan.socket())?.call("daemon/status", &json!({}))?;
            Ok(daemon)
        })?;
        bench.stop(daemon)?;
    }
    bench.report.add(("start with them", "ms"), None, start, Bar::None);
    daemon = bench.start(&plan);
    read(bench, &plan, &sessions)?;
    process(bench, &plan, &daemon)?;
    bench.stop(daemon)
}

/// Makes sessions in which much was said.
fn speak(plan: &Plan, count: usize) -> Result<Vec<String>> {
    let mut client = Client::connect(&plan.socket())?;
    let sessions = client.sessions(count, "echo/echo")?;
    let text = "what is said and answered, ".repeat(20);
    for some in sessions.chunks(AT_ONCE) {
        let say = |it: &String| json!({"session": it, "content": &text[..MESSAGE_BYTES]});
        let all: Vec<Value> = some.iter().map(say).collect();
        let mut last = Vec::new();
        for _ in 0..TURNS {
            let sent = client.call_all("chat/send", &all)?;
            last = sent.iter().map(|it| json!({ "task": it["task"] })).collect();
            client.call_all("task/wait", &last)?;
        }
        for done in client.call_all("task/wait", &last)? {
            ensure!(done["task"]["status"] == "completed", "a turn went wrong: {done}");
        }
    }
    Ok(sessions)
}

fn read(bench: &mut Bench, plan: &Plan, sessions: &[String]) -> Result<()> {
    let mut client = Client::connect(&plan.socket())?;
    let rounds = bench.rounds(200);
    let mut timed = |what, bar, method: &str, params: &dyn Fn(usize) -> Value| -> Result<()> {
        let mut samples = Samples::new();
        for round in 0..rounds {
            let params = params(round);
            samples.time(|| client.call(method, &params))?;
        }
        bench.report.add((what, "ms"), None, samples, bar);
        Ok(())
    };
    let some = |round: usize| &sessions[round * 7919 % sessions.len()];
    let list = |_| json!({"limit": 50});
    timed("1,000,000 messages: list 50 sessions", Bar::AtMost(5.0), "session/list", &list)?;
    let page = |round| json!({"session": some(round), "limit": 50});
    timed("1,000,000 messages: first page of 50", Bar::AtMost(10.0), "message/list", &page)?;
    let resume = |round| json!({"session": some(round + 3)});
    timed("1,000,000 messages: resume a session", Bar::AtMost(10.0), "session/resume", &resume)?;
    let one = |round| json!({"session": some(round), "by": "model"});
    timed("1,000,000 messages: usage of a session", Bar::AtMost(10.0), "session/usage", &one)?;
    for by in ["model", "day", "session"] {
        let what = match by {
            "model" => "1,000,000 messages: usage by model",
            "day" => "1,000,000 messages: usage by day",
            _ => "1,000,000 messages: usage by session",
        };
        let mut samples = Samples::new();
        for _ in 0..bench.rounds(10) {
            samples.time(|| client.call("session/usage", &json!({ "by": by })))?;
        }
        bench.report.add((what, "ms"), None, samples, Bar::AtMost(50.0));
    }
    Ok(())
}

/// What a person waits for: the program started, asked, printed, ended.
fn process(bench: &mut Bench, plan: &Plan, _daemon: &Daemon) -> Result<()> {
    let mut samples = Samples::new();
    for _ in 0..bench.rounds(50) {
        samples.time(|| {
            let done = Command::new(bins::bin("sess"))
                .arg("ls")
                .env_clear()
                .env("HOME", plan.folder())
                .env("SESS_SOCKET", plan.socket())
                .current_dir(plan.folder())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .status()?;
            ensure!(done.success(), "`sess ls` ended with {done}");
            Ok(())
        })?;
    }
    bench.report.add(("`sess ls` as a process, of 10,000", "ms"), None, samples, Bar::AtMost(30.0));
    Ok(())
}
