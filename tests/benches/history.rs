//! Does it stay fast when much was said: long sessions, many sessions, and the bytes that they leave on disk?

use std::path::Path;

use anyhow::Result;
use serde_json::json;
use sess_tests::harness::Plan;

use crate::Bench;
use crate::client::Client;
use crate::direct::Http;
use crate::measure::Samples;
use crate::report::Bar;

const MODEL: &str = "stub/pieces-1";
/// Turns of the long session.
const TURNS: usize = 1_000;
/// Turns of the longest and of the short one that it is held against: two messages each.
const LONGEST_TURNS: usize = 5_000;
const SHORT_TURNS: usize = 50;
/// How often the daemon is started anew to load a session from disk.
const LOADS: usize = 12;

pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    lists(bench)?;
    let plan = bench.plan();
    let long = long_session(bench, &plan)?;
    loads(bench, &plan, &long)
}

/// The newest fifty, of a thousand and of ten thousand.
fn lists(bench: &mut Bench) -> Result<()> {
    let plan = bench.plan();
    let daemon = bench.start(&plan);
    let mut client = Client::connect(&plan.socket())?;
    for (count, what) in [
        (1_000, ("list 50 of 1,000 sessions", "ms")),
        (9_000, ("list 50 of 10,000 sessions", "ms")),
    ] {
        client.sessions(count, MODEL)?;
        let mut list = Samples::new();
        for _ in 0..bench.rounds(100) {
            list.time(|| client.call("session/list", &json!({"limit": 50})))?;
        }
        bench.report.add(what, None, list, Bar::AtMost(1.0));
    }
    drop(daemon);
    Ok(())
}

fn stored(folder: &Path) -> Result<u64> {
    Ok(std::fs::metadata(folder.join("sess.db"))?.len())
}

/// Makes the session of many turns; says what they cost on disk, and what one more costs.
fn long_session(bench: &mut Bench, plan: &Plan) -> Result<String> {
    let daemon = bench.start(plan);
    let mut client = Client::connect(&plan.socket())?;
    let session = client.followed(MODEL)?;
    client.turn(&session, None)?;
    bench.stop(daemon)?;
    let before = stored(&plan.data_folder())?;
    let daemon = bench.start(plan);
    let mut client = Client::connect(&plan.socket())?;
    client.call("session/follow", &json!({ "session": session }))?;
    (0..TURNS).try_for_each(|_| client.turn(&session, None))?;
    let mut http = Http::connect(bench.stub.port())?;
    let (mut direct, mut turn) = (Samples::new(), Samples::new());
    let rounds = bench.rounds(50);
    bench.stop(daemon)?;
    let bytes = (stored(&plan.data_folder())? - before) as f64 / TURNS as f64;
    let daemon = bench.start(plan);
    let mut client = Client::connect(&plan.socket())?;
    client.call("session/follow", &json!({ "session": session }))?;
    // The first reads the history, as every first one after a start must.
    client.turn(&session, None)?;
    for _ in 0..rounds {
        direct.time(|| http.turn("pieces-1"))?;
        turn.time(|| client.turn(&session, None))?;
    }
    bench.stop(daemon)?;
    let direct = Some(direct.median());
    let report = &mut bench.report;
    report.add(("turn at a history of 1,000 turns", "ms"), direct, turn, Bar::AtMost(6.0));
    report.add(("disk of a turn of 1 piece", "bytes"), None, bytes, Bar::AtMost(1_500.0));
    Ok(session)
}

/// Sessions that a daemon, just started, has to read from disk.
fn loads(bench: &mut Bench, plan: &Plan, long: &str) -> Result<()> {
    let daemon = bench.start(plan);
    let mut client = Client::connect(&plan.socket())?;
    let longest = client.followed("echo/echo")?;
    let turns = if bench.quick { LONGEST_TURNS / 5 } else { LONGEST_TURNS };
    (0..turns).try_for_each(|_| client.turn(&longest, None))?;
    let short = client.followed("echo/echo")?;
    (0..SHORT_TURNS).try_for_each(|_| client.turn(&short, None))?;
    bench.stop(daemon)?;
    let [mut of_long, mut of_longest, mut of_short] = [const { Samples::new() }; 3];
    for _ in 0..bench.rounds(LOADS) {
        for (session, into) in
            [(long, &mut of_long), (&longest, &mut of_longest), (&short, &mut of_short)]
        {
            let daemon = bench.start(plan);
            let mut client = Client::connect(&plan.socket())?;
            client.call("daemon/status", &json!({}))?;
            into.time(|| client.call("session/resume", &json!({ "session": session })))?;
            bench.stop(daemon)?;
        }
    }
    let (short, bar) = (of_short.median(), Bar::AtMost(2.0 * of_short.median()));
    let report = &mut bench.report;
    report.add(("resume of 1,000 turns from disk", "ms"), None, of_long, Bar::AtMost(5.0));
    report.add(("resume of 10,000 messages beside 100", "ms"), Some(short), of_longest, bar);
    Ok(())
}
