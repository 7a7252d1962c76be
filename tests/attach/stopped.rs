//! Who stops reading for a long time: what does that cost the daemon, and those who read on?

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use sess_tests::figures::{figure, rounds};
use sess_tests::harness::table::text;
use sess_tests::harness::within;
use sess_tests::stub::{Entry, Part, What};

use crate::judge::{Judge, Manner};
use crate::stage::Stage;
use crate::strict::Strict;
use crate::{alone, difference, full_or_tenth, normal};

/// Followers that stop: sockets that nobody reads, and processes that are stopped.
const DEAF: usize = 44;
const STOPPED: usize = 6;
/// Pieces that pass them, in so many answers, each as many bursts as pieces of a burst allow.
const PIECES: u64 = 200_000;
const ANSWERS: u64 = 4;
const BURST: u64 = 50;
/// What the daemon may grow by because of them.
const GROWTH_MAX: u64 = 64 * 1024 * 1024;
/// How much later the late ones of the healthy one's pieces may be.
const RATIO_MAX: f64 = 1.5;
/// And by how much whatever the ratio is: who asks, who answers and who reads share two processors, whose slices
/// are longer than a piece's way.
const SLACK_US: u64 = 15_000;

/// The model of those who stop: each of its answers waits until it is let go.
const HELD: &str = "held";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_who_stop_cost_little_and_wake_to_the_truth_and_who_reads_on_feels_nothing() {
    let _alone = alone().await;
    let pieces = full_or_tenth(PIECES * rounds(1, 10)) / ANSWERS;
    let burst = [json!({"pieces": BURST, "text": "wörd {i} "}), json!({"delay_ms": 1})];
    let steps: Vec<Value> =
        burst.iter().cycle().take((pieces / BURST * 2) as usize).cloned().collect();
    let stage = Stage::new(steps.clone().into()).await;
    let held = [&[json!({"hold": HELD})], &steps[..]].concat();
    stage.stub.script(HELD, held.into()).await.unwrap();
    let mut wire = stage.daemon().wire().await;
    let quiet_session = wire.session().await;
    // The memory that an answer of this length takes is there before.
    ask(&stage, &quiet_session, pieces).await;

    let mut last = String::new();
    for _ in 0..ANSWERS {
        let content = "when you may";
        let send = json!({"session": stage.session, "content": content, "model": "stub/held"});
        last = text(&wire.ok("chat/send", send).await["task"]);
    }
    let mut deaf = deaf(&stage).await;
    let judges = stopped(&stage, &last).await;
    let before = memory(&stage).await;
    let (mut quiet, mut amid) = (vec![], vec![]);
    for _ in 0..ANSWERS {
        quiet.extend(ask(&stage, &quiet_session, pieces).await);
        let since = stage.stub.newest().await.unwrap();
        stage.stub.release_times(HELD, 1).await.unwrap();
        amid.extend(hear(&stage, &stage.session, (pieces, since)).await);
    }
    let grown = memory(&stage).await.saturating_sub(before);
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / (1024.0 * 1024.0));
    let of = format!("{} stopped, {} pieces", DEAF + STOPPED, pieces * ANSWERS);
    figure("R12", "memory grown by those who stopped", mib(grown), &of);
    let (quiet, amid) = (p99(quiet), p99(amid));
    let ratio = amid as f64 / quiet as f64;
    let shown = format!("{ratio:.2} ({quiet} µs -> {amid} µs)");
    figure("R12", "the healthy one's p99 delay of a piece, with them and without", shown, &of);
    assert!(grown <= GROWTH_MAX, "{} grown", mib(grown));
    let most = ((quiet as f64 * RATIO_MAX) as u64).max(quiet + SLACK_US);
    assert!(amid <= most, "p99 {amid} µs with them, {quiet} µs without");

    let woken = judges.len() + deaf.len();
    for judge in judges {
        judge.signal(Signal::SIGCONT);
        judge.verdict().await;
    }
    let truth = normal(&stage.truth(50).await.0);
    for follower in &mut deaf {
        while !follower.has_ended(&last)
            || follower.seq() < truth["session"]["seq"].as_u64().unwrap()
        {
            follower.next().await;
        }
        let ours = normal(&follower.snapshot());
        assert!(ours == truth, "{}", difference(&ours, &truth));
    }
    figure("R12", "of those who stopped, woken to the truth", woken, DEAF + STOPPED);
}

async fn deaf(stage: &Stage) -> Vec<Strict> {
    let mut all = Vec::new();
    for number in 0..DEAF {
        let mut follower = Strict::new(stage.door(false), &stage.session, number % 2 == 0);
        follower.next().await;
        all.push(follower);
    }
    all
}

/// Followers in processes of their own, to the end of this task, all stopped once they follow.
async fn stopped(stage: &Stage, task: &str) -> Vec<Judge> {
    let judge = |seed| {
        let manner = Manner { seed, pause_every: 0, reconnect_every: 0 };
        Judge::start(&stage.door(false), &stage.session, task, manner)
    };
    let judges: Vec<Judge> = (0..STOPPED as u64).map(judge).collect();
    let mut wire = stage.daemon().wire().await;
    within("all followers", async {
        while wire.get(&stage.session).await["followers"] != DEAF + STOPPED {}
    })
    .await;
    judges.iter().for_each(|it| it.signal(Signal::SIGSTOP));
    judges
}

/// Asks in the session that nobody else follows; the delays of the answer.
async fn ask(stage: &Stage, session: &str, pieces: u64) -> Vec<u64> {
    let since = stage.stub.newest().await.unwrap();
    stage.daemon().wire().await.say(session, "go on").await;
    hear(stage, session, (pieces, since)).await
}

/// Follows the answer that begins, as fast as it comes; the delay of each of its pieces, which are all that the
/// model sends behind this entry of its log.
async fn hear(stage: &Stage, session: &str, (pieces, since): (u64, u64)) -> Vec<u64> {
    let mut wire = stage.daemon().wire().await;
    let begun = wire.follow(session).await;
    let mut came = vec![(unfinished(&begun["live"]), now_us())];
    loop {
        let told = wire.next_notification().await;
        let so_far = came[came.len() - 1].0;
        match told.method.as_str() {
            // All that came so far.
            "live" => came.push((unfinished(&told.params), now_us())),
            // What is new.
            "delta" => came.push((so_far + length(&told.params["text"]), now_us())),
            _ if told.kind() == "task.completed" => break,
            _ => {}
        }
    }
    let delays = delays(&stage.stub.log_since(since).await.unwrap(), &came);
    assert_eq!(delays.len() as u64, pieces, "each piece came");
    delays
}

fn unfinished(live: &Value) -> u64 {
    length(&live["blocks"][0]["text"])
}

fn length(text: &Value) -> u64 {
    text.as_str().unwrap_or_default().len() as u64
}

/// How long each piece was on its way: from the model until all of it was told.
fn delays(entries: &[Entry], came: &[(u64, u64)]) -> Vec<u64> {
    let (mut sent, mut told, mut delays) = (0, 0, Vec::new());
    for entry in entries {
        let What::Piece { part: Part::Text, bytes, .. } = &entry.what else { continue };
        sent += bytes;
        while came.get(told).is_some_and(|it| it.0 < sent) {
            told += 1;
        }
        let Some((_, at_us)) = came.get(told) else { break };
        delays.push(at_us.saturating_sub(entry.at_us));
    }
    delays
}

async fn memory(stage: &Stage) -> u64 {
    let status = stage.daemon().wire().await.ok("daemon/status", json!({})).await;
    status["rss_bytes"].as_u64().unwrap()
}

fn now_us() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    now.as_micros() as u64
}

fn p99(mut all: Vec<u64>) -> u64 {
    all.sort_unstable();
    all[all.len() * 99 / 100]
}
