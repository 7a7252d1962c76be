//! How long until an answer that says "on disk", how many of them a second, and at what price in fsyncs?

use std::time::Instant;

use anyhow::Result;
use serde_json::{Value, json};
use sess_tests::faults::Faults;
use sess_tests::harness::Plan;

use crate::Bench;
use crate::client::Client;
use crate::direct::Bare;
use crate::measure::{Samples, ms};
use crate::report::Bar;

/// Requests that a session keeps in its queue.
const QUEUE_MAX: usize = 25;
/// Milliseconds that a slow disk takes longer for each fsync.
const SLOW_MS: u32 = 5;
/// Sends of one session on the slow disk.
const SLOW_SENDS: usize = 50;

pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    let plan = bench.plan();
    let daemon = bench.start(&plan);
    let mut client = Client::connect(&plan.socket())?;
    one_client(bench, &mut client, &plan)?;
    rates(bench, &mut client)?;
    drop(daemon);
    slow_disk(bench)?;
    fsyncs(bench)
}

/// One request at a time, beside a bare commit.
fn one_client(bench: &mut Bench, client: &mut Client, plan: &Plan) -> Result<()> {
    let bare = Bare::open(plan.folder())?;
    let session = client.sessions(1, "echo/echo")?.remove(0);
    let [mut commit, mut update, mut send] = [const { Samples::new() }; 3];
    let rounds = bench.rounds(500);
    let waiting = paused(client, rounds.div_ceil(QUEUE_MAX))?;
    for round in 0..rounds {
        let title = format!("title {round}");
        update
            .time(|| client.call("session/update", &json!({"session": session, "title": title})))?;
        commit.time(|| bare.commit())?;
        let params = said(&waiting[round / QUEUE_MAX]);
        send.time(|| client.call("chat/send", &params))?;
    }
    let (direct, bar) = (Some(commit.median()), Bar::AtMost(3.0 * commit.median()));
    bench.report.add(("session/update → durable answer", "ms"), direct, update, bar);
    bench.report.add(("chat/send into the queue → durable answer", "ms"), direct, send, bar);
    Ok(())
}

/// Sessions in which a send only waits: what is measured is the way to the disk.
fn paused(client: &mut Client, count: usize) -> Result<Vec<String>> {
    let sessions = client.sessions(count, "echo/echo")?;
    let pause = |it: &String| json!({"session": it, "status": "paused"});
    client.call_all("session/update", &sessions.iter().map(pause).collect::<Vec<Value>>())?;
    Ok(sessions)
}

fn said(session: &str) -> Value {
    json!({"session": session, "content": "and then look at the log of yesterday"})
}

/// How many sends a second these many sessions get answered, each with one under way.
fn rate(client: &mut Client, sessions: usize, sends: usize) -> Result<f64> {
    let all = paused(client, sessions * sends.div_ceil(QUEUE_MAX))?;
    let start = Instant::now();
    let mut sent_by = vec![0; sessions];
    let mut owner = std::collections::HashMap::new();
    let mut due = 0;
    let mut free: Vec<usize> = (0..sessions).collect();
    loop {
        for slot in std::mem::take(&mut free) {
            if sent_by[slot] < sends {
                let session = &all[slot + sessions * (sent_by[slot] / QUEUE_MAX)];
                owner.insert(client.send("chat/send", &said(session))?, slot);
                sent_by[slot] += 1;
                due += 1;
            }
        }
        if due == 0 {
            return Ok((sessions * sends) as f64 / start.elapsed().as_secs_f64());
        }
        let (id, _) = client.next_answer()?;
        free.extend(owner.remove(&id));
        due -= 1;
    }
}

fn rates(bench: &mut Bench, client: &mut Client) -> Result<()> {
    let [mut one, mut eight, mut many] = [const { Samples::new() }; 3];
    let repeats = if bench.quick { 2 } else { 5 };
    for _ in 0..repeats {
        one.add(rate(client, 1, 8 * QUEUE_MAX)?);
        eight.add(rate(client, 8, 2 * QUEUE_MAX)?);
        many.add(rate(client, 64, QUEUE_MAX)?);
    }
    let (alone, bar) = (one.median(), Bar::AtLeast(3.0 * one.median()));
    let report = &mut bench.report;
    report.add(("durable sends of 1 session", "1/s"), None, one, Bar::None);
    report.add(("durable sends of 8 sessions", "1/s"), Some(alone), eight, Bar::None);
    report.add(("durable sends of 64 sessions", "1/s"), Some(alone), many, bar);
    Ok(())
}

/// Commits that wait together share an fsync: the slower the disk, the more that gives.
fn slow_disk(bench: &mut Bench) -> Result<()> {
    let fired = sess_tests::harness::daemon::Folder::new();
    let faults = Faults::new(&fired.path().join("fired")).slow_fsync("", SLOW_MS);
    let plan = bench.plan().hook(move |command| {
        faults.command(command).expect("the C compiler builds the library that slows fsync down");
    });
    let daemon = bench.start(&plan);
    let mut client = Client::connect(&plan.socket())?;
    let [mut one, mut many] = [const { Samples::new() }; 2];
    for _ in 0..3 {
        one.add(rate(&mut client, 1, SLOW_SENDS)?);
        many.add(rate(&mut client, 64, SLOW_SENDS)?);
    }
    drop(daemon);
    let one = one.median();
    let what = ("the same with 5 ms more an fsync: 64 sessions", "1/s");
    bench.report.add(what, Some(one), many, Bar::AtLeast(30.0 * one));
    Ok(())
}

/// Counted, not timed: how often the disk is asked to sync for a turn of one piece.
fn fsyncs(bench: &mut Bench) -> Result<()> {
    let folder = sess_tests::harness::daemon::Folder::new();
    let faults = Faults::new(&folder.path().join("fired")).slow_fsync("", 1);
    let counted = faults.clone();
    let plan = bench.plan().hook(move |command| {
        faults.command(command).expect("the C compiler builds the library that counts fsyncs");
    });
    let daemon = bench.start(&plan);
    let mut client = Client::connect(&plan.socket())?;
    let session = client.followed("stub/pieces-1")?;
    let mut each = Samples::new();
    for _ in 0..bench.rounds(50) {
        let before = counted.fired()?.len();
        client.turn(&session, None)?;
        each.add((counted.fired()?.len() - before) as f64);
    }
    drop(daemon);
    bench.report.add(("fsyncs of a turn of 1 piece", ""), None, each, Bar::AtMost(2.0));
    start(bench)
}

/// From the start of the program on a store that is there to its first answer.
fn start(bench: &mut Bench) -> Result<()> {
    let plan = bench.plan();
    let daemon = bench.start(&plan);
    let mut client = Client::connect(&plan.socket())?;
    let sessions = client.sessions(100, "stub/pieces-1")?;
    client.call_all("chat/send", &sessions.iter().map(|it| said(it)).collect::<Vec<Value>>())?;
    bench.stop(daemon)?;
    let mut first = Samples::new();
    for _ in 0..bench.rounds(30) {
        let notes = plan.folder().join("ready");
        let _ = std::fs::remove_file(&notes);
        let ready = std::os::unix::net::UnixDatagram::bind(&notes)?;
        let mut command = plan.command();
        command.env("NOTIFY_SOCKET", &notes);
        let start = Instant::now();
        let mut child = command.spawn()?;
        let mut note = [0; 512];
        while !note.starts_with(b"READY=1") {
            ready.recv(&mut note)?;
        }
        Client::connect(&plan.socket())?.call("daemon/status", &json!({}))?;
        first.add(ms(start.elapsed()));
        let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
        child.wait()?;
    }
    bench.report.add(("start → first answer", "ms"), None, first, Bar::AtMost(8.0));
    Ok(())
}
