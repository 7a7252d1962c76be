//! What is left of an answer when the daemon is killed in the middle of it?

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use serde_json::{Value, json};
use sess_tests::faults::Rng;
use sess_tests::harness::said;
use sess_tests::stub::What;

use crate::Bench;
use crate::client::Client;
use crate::report::Bar;

/// Kills, and what of the text may be lost.
const KILLS: u64 = 10;
const LOST_US: u64 = 250_000;
/// Pieces that are heard before a kill: at least, and at most so many more.
const HEARD_MIN: usize = 150;
const HEARD_MORE: usize = 300;

pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    let steps = json!([{"pieces": 1_000, "every_ms": 2}]);
    bench.runtime.block_on(bench.stub.script("slow", steps))?;
    let mut rng = Rng::new(7);
    let mut kept = 0;
    for _ in 0..KILLS {
        kept += u32::from(is_kept(bench, HEARD_MIN + rng.below(HEARD_MORE))?);
    }
    let what = ("kill -9 in a stream: partial answer kept, of 10", "");
    bench.report.add(what, None, f64::from(kept), Bar::AtLeast(KILLS as f64));
    Ok(())
}

/// Whether a killed daemon kept all that was sent some time before.
fn is_kept(bench: &Bench, pieces: usize) -> Result<bool> {
    let plan = bench.plan();
    let daemon = bench.start(&plan);
    let mut client = Client::connect(&plan.socket())?;
    let session = client.followed("stub/slow")?;
    let since = bench.runtime.block_on(bench.stub.newest())?;
    client.send("chat/send", &json!({"session": session, "content": "go on"}))?;
    let last = format!("w{pieces} ");
    while !String::from_utf8_lossy(client.line()?).contains(&last) {}
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros();
    bench.runtime.block_on(daemon.kill());
    let due: String = bench
        .runtime
        .block_on(bench.stub.log_since(since))?
        .into_iter()
        .filter(|it| u128::from(it.at_us + LOST_US) <= now)
        .filter_map(|it| match it.what {
            What::Piece { text, .. } => Some(text),
            _ => None,
        })
        .collect();
    let daemon = bench.start(&plan);
    let mut client = Client::connect(&plan.socket())?;
    let list = client.call("message/list", &json!({ "session": session }))?;
    drop(daemon);
    let partial = |it: &&Value| it["role"] == "assistant" && it["status"] == "partial";
    let message = list["messages"].as_array().into_iter().flatten().find(partial);
    Ok(message.is_some_and(|it| !due.is_empty() && said(it).starts_with(&due)))
}
