//! How much memory does the daemon hold: idle, after much was said, with much loaded, with many followed?

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use sess_tests::harness::Daemon;

use crate::Bench;
use crate::client::Client;
use crate::measure::{Samples, cpu_ms, rss_bytes, rss_mib};
use crate::report::Bar;

const MODEL: &str = "stub/pieces-1";
/// Sessions of many turns, their turns, and sessions in all.
const SESSIONS: usize = 100;
const TURNS: usize = 10;
const MANY: usize = 1_000;
/// Connections that follow one session, twice.
const FOLLOWERS: usize = 50;

pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    let plan = bench.plan();
    let mut daemon = bench.start(&plan);
    let mut client = Client::connect(&plan.socket())?;
    client.call("daemon/status", &json!({}))?;
    let idle = rss_mib(daemon.pid())?;
    bench.report.add(("memory, idle", "MiB"), None, idle, Bar::AtMost(12.0));
    for session in client.sessions(SESSIONS, MODEL)? {
        client.call("session/follow", &json!({ "session": session }))?;
        (0..TURNS).try_for_each(|_| client.turn(&session, None))?;
        client.call("session/unfollow", &json!({ "session": session }))?;
    }
    let said = rss_mib(daemon.pid())?;
    bench.report.add(("memory, 100 sessions of 10 turns", "MiB"), None, said, Bar::AtMost(20.0));
    bench.stop(daemon)?;
    daemon = bench.start(&plan);
    loaded(bench, &daemon, &mut Client::connect(&plan.socket())?)?;
    bench.stop(daemon)?;
    many(bench)
}

/// What a session takes that is loaded and that nobody uses.
fn loaded(bench: &mut Bench, daemon: &Daemon, client: &mut Client) -> Result<()> {
    let listed = client.call("session/list", &json!({ "limit": SESSIONS }))?;
    let sessions: Vec<&Value> =
        listed["sessions"].as_array().into_iter().flatten().map(|it| &it["id"]).collect();
    // The first ones also pay for what all share: statements, buffers, pages of the database.
    let (first, rest) = sessions.split_at(SESSIONS / 2);
    let load = |client: &mut Client, some: &[&Value]| -> Result<()> {
        some.iter()
            .try_for_each(|it| client.call("session/get", &json!({ "session": it })).map(drop))?;
        some.iter().try_for_each(|it| {
            client.call("session/follow", &json!({"session": it, "messages": 0}))?;
            client.call("session/unfollow", &json!({ "session": it })).map(drop)
        })
    };
    load(client, first)?;
    let before = rss_bytes(daemon.pid())?;
    load(client, rest)?;
    let each = (rss_bytes(daemon.pid())? - before) / rest.len() as f64;
    bench.report.add(
        ("a loaded idle session of 10 turns", "bytes"),
        None,
        each,
        Bar::AtMost(20_000.0),
    );
    Ok(())
}

/// Many sessions, each with a turn; then one connection that follows them all.
fn many(bench: &mut Bench) -> Result<()> {
    let plan = bench.plan();
    let daemon = bench.start(&plan);
    let mut client = Client::connect(&plan.socket())?;
    let sessions = client.sessions(MANY, MODEL)?;
    let say = |it: &String| json!({"session": it, "content": "hello, how are you?"});
    let sent = client.call_all("chat/send", &sessions.iter().map(say).collect::<Vec<_>>())?;
    let wait = |it: &Value| json!({ "task": it["task"] });
    client.call_all("task/wait", &sent.iter().map(wait).collect::<Vec<_>>())?;
    let used = rss_mib(daemon.pid())?;
    bench.report.add(("memory, 1,000 sessions of a turn", "MiB"), None, used, Bar::AtMost(40.0));
    bench.stop(daemon)?;
    let daemon = bench.start(&plan);
    let mut client = Client::connect(&plan.socket())?;
    let follow = |it: &String| json!({ "session": it });
    client.call_all("session/follow", &sessions.iter().map(follow).collect::<Vec<_>>())?;
    let used = rss_mib(daemon.pid())?;
    let what = ("memory, 1,000 sessions followed by one connection", "MiB");
    bench.report.add(what, None, used, Bar::AtMost(40.0));
    followers(bench, &daemon, &sessions[0])?;
    idle(bench, &daemon)
}

/// One session, and many who watch it: what one more of them takes.
fn followers(bench: &mut Bench, daemon: &Daemon, session: &str) -> Result<()> {
    let more = |count: usize| -> Result<Vec<Client>> {
        let follow = json!({ "session": session });
        (0..count)
            .map(|_| {
                let mut client = Client::connect(&daemon.plan().socket())?;
                client.call("session/follow", &follow).map(|_| client)
            })
            .collect()
    };
    // The first ones also pay for what all share.
    let first = more(FOLLOWERS)?;
    let before = rss_bytes(daemon.pid())?;
    let rest = more(FOLLOWERS)?;
    let each = (rss_bytes(daemon.pid())? - before) / rest.len() as f64;
    drop((first, rest));
    bench.report.add(
        ("a follower with its connection", "bytes"),
        None,
        each,
        Bar::AtMost(65_536.0),
    );
    Ok(())
}

/// What is worked when nobody asks for anything, with much loaded and followed.
fn idle(bench: &mut Bench, daemon: &Daemon) -> Result<()> {
    let mut used = Samples::default();
    for _ in 0..bench.rounds(10) {
        let before = cpu_ms(daemon.pid())?;
        std::thread::sleep(Duration::from_secs(1));
        used.add(cpu_ms(daemon.pid())? - before);
    }
    let what = ("work of a second without requests", "CPU ms");
    bench.report.add(what, None, used, Bar::AtMost(1.0));
    Ok(())
}
