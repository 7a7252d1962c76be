//! How much of an unfinished answer does a kill leave?

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use sess_tests::faults::Rng;
use sess_tests::harness::{Daemon, said, stub};
use sess_tests::stub::{Entry, Part, Stub, What};

use crate::{alone, full_or_tenth};

/// Text sent longer ago than this is kept.
const KEPT_AFTER: Duration = Duration::from_millis(250);
/// Kills of each kind of stream.
const KILLS: u64 = 10;
const SEED: u64 = 0x5e55_0003;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_takes_at_most_the_last_quarter_second_of_a_steady_stream() {
    let _alone = alone().await;
    let stub = stub().await;
    stub.script("stub", json!([{"pieces": 20_000, "text": "né{i} ", "every_ms": 1}]))
        .await
        .unwrap();
    let mut daemon = Daemon::with_stub(&stub).await;
    let mut rng = Rng::new(SEED);
    for _ in 0..full_or_tenth(KILLS) {
        let pieces = 200 + rng.below(1_000) as u64;
        daemon = killed_after(daemon, &stub, pieces).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_takes_at_most_the_last_quarter_second_of_a_stream_in_bursts() {
    let _alone = alone().await;
    let stub = stub().await;
    let burst = [json!({"pieces": 500, "text": "né{i} "}), json!({"delay_ms": 70})];
    let steps: Vec<_> = burst.iter().cycle().take(400).cloned().collect();
    stub.script("stub", steps.into()).await.unwrap();
    let mut daemon = Daemon::with_stub(&stub).await;
    let mut rng = Rng::new(SEED);
    for _ in 0..full_or_tenth(KILLS) {
        let pieces = 500 + rng.below(8_000) as u64;
        daemon = killed_after(daemon, &stub, pieces).await;
    }
}

/// Kills the daemon once the model has sent so much, and looks at what is there after a restart.
async fn killed_after(daemon: Daemon, stub: &Stub, pieces: u64) -> Daemon {
    let before = stub.log().await.unwrap().last().map_or(0, |it| it.n);
    let mut wire = daemon.wire().await;
    let session = wire.session().await;
    let sent = wire.say(&session, "go").await;
    until_sent(stub, before, pieces).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let daemon = daemon.killed_and_restarted().await;
    let kept = kept(&daemon, &session, &sent["message"]).await;
    let must_us = u64::try_from((now - KEPT_AFTER).as_micros()).unwrap();
    let entries = stub.log_since(before).await.unwrap();
    let must: String = texts(&entries, |it| it.at_us <= must_us).collect();
    let all: String = texts(&entries, |_| true).collect();
    assert!(all.starts_with(&kept), "what is kept was sent");
    let (kept, must, all) = (kept.len(), must.len(), all.len());
    assert!(kept >= must, "{kept} bytes are kept of {all}, where {must} were sent 250 ms before");
    daemon
}

/// The answer's text behind this request; nothing where there is no message.
async fn kept(daemon: &Daemon, session: &str, request: &serde_json::Value) -> String {
    let mut wire = daemon.wire().await;
    let list = wire.ok("message/list", json!({"session": session})).await;
    let messages = list["messages"].as_array().unwrap();
    let answer = messages.iter().find(|it| it["parent"] == *request);
    let Some(answer) = answer else { return String::new() };
    assert_eq!(answer["status"], "partial");
    let mut text = String::new();
    for block in answer["content"].as_array().unwrap() {
        match block["blob"].as_str() {
            None => text.push_str(block["text"].as_str().unwrap()),
            Some(blob) => text.push_str(&blob_text(&mut wire, blob).await),
        }
    }
    assert!(text.starts_with(&said(answer)) || answer["content"][0]["blob"].is_string());
    text
}

async fn blob_text(wire: &mut sess_tests::harness::Wire, blob: &str) -> String {
    use base64::Engine;
    let piece = wire.ok("blob/get", json!({"blob": blob})).await;
    let data = piece["data"].as_str().unwrap();
    let bytes = base64::engine::general_purpose::STANDARD.decode(data).unwrap();
    String::from_utf8(bytes).unwrap()
}

async fn until_sent(stub: &Stub, before: u64, pieces: u64) {
    let (mut since, mut sent) = (before, 0);
    while sent < pieces {
        let entries = stub.log_behind(since).await.unwrap();
        since = entries.last().map_or(since, |it| it.n);
        sent += texts(&entries, |_| true).count() as u64;
    }
}

fn texts(entries: &[Entry], wanted: impl Fn(&Entry) -> bool) -> impl Iterator<Item = &str> {
    entries.iter().filter(move |it| wanted(it)).filter_map(|it| match &it.what {
        What::Piece { part: Part::Text, text, .. } => Some(text.as_str()),
        _ => None,
    })
}
