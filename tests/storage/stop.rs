//! Does the daemon end in time when it is told to, at any moment, and lose nothing?

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;
use sess_tests::faults::Rng;
use sess_tests::figures::{figure, rounds};
use sess_tests::harness::{Daemon, Plan, held, stub, within};
use sess_tests::judge::Heard;
use sess_tests::stub::Stub;

use crate::load::{Load, slow_model};
use crate::sized;

/// The longest that an end may take, and one that is asked for twice.
const END: Duration = Duration::from_secs(12);
const AT_ONCE: Duration = Duration::from_secs(1);
/// How long an end waits for a task.
const PATIENCE: Duration = Duration::from_secs(10);
/// The load lasts up to this long before the signal.
const MS_MORE: usize = 600;
/// Rounds on one store.
const ROUNDS_PER_STORE: u64 = 10;
/// One end in so many meets an answer that takes longer than is waited for.
const ENDLESS_ONE_IN: usize = 10;
const SEED: u64 = 0x5e55_0032;

/// What was measured.
#[derive(Default)]
struct Sum {
    ends: Vec<Duration>,
    acknowledged: usize,
    lost: usize,
}

/// Load on a store, ended at a moment that is drawn.
async fn end(plan: &Plan, stub: &Stub, number: u32, rng: &mut Rng, heard: &mut Heard) -> Duration {
    let daemon = plan.start().await;
    let load = Load::begin(plan, number * 100).await;
    let is_endless = rng.one_in(ENDLESS_ONE_IN);
    let mut wire = daemon.wire().await;
    if is_endless {
        stub.script_once("endless", json!([{"head": true}, {"stall": true}])).await.unwrap();
        let send = json!({"content": "go on for ever", "model": "stub/endless"});
        wire.ok("chat/send", send).await;
    }
    let until = tokio::time::Instant::now() + Duration::from_millis(rng.below(MS_MORE) as u64);
    wire.ok("session/follow", json!({"session": "global", "after": "start"})).await;
    while tokio::time::timeout_at(until, wire.next_notification()).await.is_ok() {}
    daemon.signal(Signal::SIGTERM);
    let begin = Instant::now();
    assert_eq!(daemon.exit_code().await, 0, "{}", plan.words());
    let took = begin.elapsed();
    load.end(heard).await;
    took
}

async fn ends_on_one_store(rounds: u64, rng: &mut Rng, sum: &mut Sum) {
    let stub = stub().await;
    slow_model(&stub).await;
    // What is put back is asked again, and then answered.
    stub.script("endless", json!([{"echo": true}])).await.unwrap();
    let plan = Plan::new().stub(&stub);
    let mut heard = Heard::default();
    for number in 0..rounds {
        let took = end(&plan, &stub, number as u32, rng, &mut heard).await;
        assert!(took <= END, "an end took {took:?}");
        sum.ends.push(took);
    }
    sum.acknowledged += heard.acknowledged();
    let (judge, told) = heard.judge();
    let verdict = judge.judge(&told, &plan).await;
    sum.lost += verdict.lost.len() + verdict.unseen.len();
    assert!(!verdict.is_bad(), "{verdict:#?}");
    goes_on(&plan).await;
}

/// All tasks come to an end by themselves after the next start, none by a crash.
async fn goes_on(plan: &Plan) {
    let daemon = plan.start().await;
    let mut wire = daemon.wire().await;
    let mut params = json!({"limit": 500});
    loop {
        let page = wire.ok("task/list", params.clone()).await;
        for task in page["tasks"].as_array().unwrap() {
            let done = wire.ok("task/wait", json!({"task": task["id"]})).await;
            let task = &done["task"];
            assert_eq!(task["status"], "completed", "{task}");
        }
        if page["next"].is_null() {
            break;
        }
        params["cursor"] = page["next"].clone();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ends_at_any_moment_under_load_come_in_time_and_lose_nothing() {
    let (mut rng, mut sum) = (Rng::new(SEED), Sum::default());
    let mut left = sized(rounds(10, 100));
    while left > 0 {
        let some = left.min(ROUNDS_PER_STORE);
        ends_on_one_store(some, &mut rng, &mut sum).await;
        left -= some;
    }
    sum.ends.sort();
    let count = sum.ends.len();
    let at = |share: usize| sum.ends[(count * share / 100).min(count - 1)].as_millis();
    figure("R20", "SIGTERM to exit, p50 ms", at(50), count);
    figure("R20", "SIGTERM to exit, p99 ms", at(99), count);
    figure("R20", "acknowledged and lost, SIGTERM under load", sum.lost, sum.acknowledged);
    // These met an answer without end, which was asked for again after the start.
    let patient = sum.ends.iter().filter(|it| **it >= PATIENCE).count();
    figure("R20", "of these, ends that waited for a task as long as they may", patient, count);
}

#[tokio::test]
async fn a_second_signal_ends_at_once_and_loses_nothing() {
    let (_stub, daemon, mut wire, session, sent): (_, Daemon, _, _, _) = held().await;
    let plan = daemon.plan().clone();
    daemon.signal(Signal::SIGTERM);
    daemon.stopping().await;
    let begin = Instant::now();
    daemon.signal(Signal::SIGTERM);
    let code = daemon.exit_code().await;
    let took = begin.elapsed();
    assert!(took <= AT_ONCE, "{took:?}");
    assert_ne!(code, 0, "it was no planned end");
    figure("R20", "second SIGTERM to exit, ms", took.as_millis(), 1);
    within("the end of the connection", wire.rest()).await;
    let daemon = plan.start().await;
    let mut wire = daemon.wire().await;
    assert_eq!(wire.texts(&session).await[0], "first");
    assert_eq!(wire.wait(&sent).await["task"]["status"], "interrupted");
}
