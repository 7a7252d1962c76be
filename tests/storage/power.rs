//! Does a power cut of a real disk take back nothing that a client was told?

use std::time::Duration;

use serde_json::json;
use sess_tests::faults::{Mounted, Rng};
use sess_tests::figures::{figure, rounds};
use sess_tests::harness::{Plan, stub};
use sess_tests::judge::{Heard, Verdict};

use crate::load::{Load, slow_model};
use crate::sized;

/// Bytes of the disk.
const DISK_BYTES: u64 = 256 << 20;
/// The load before a cut lasts between these.
const MS_MIN: usize = 300;
const MS_MORE: usize = 900;
const SEED: u64 = 0x5e55_0031;

/// A round: load, cut, mount, start; how many requests were acknowledged, how many events observed, and what is
/// wrong.
async fn round(rng: &mut Rng) -> (usize, usize, Verdict) {
    let stub = stub().await;
    slow_model(&stub).await;
    let plan = Plan::new().stub(&stub);
    let disk = plan.folder().join("disk");
    let mounted = Mounted::ext4(&disk, &plan.data_folder(), DISK_BYTES).unwrap();
    let daemon = plan.start().await;
    let load = Load::begin(&plan, 0).await;
    let mut idle = daemon.wire().await;
    idle.ok("session/follow", json!({"session": "global", "after": "start"})).await;
    let moment = Duration::from_millis((MS_MIN + rng.below(MS_MORE)) as u64);
    // What comes meanwhile is of no interest: only the moment is.
    let until = tokio::time::Instant::now() + moment;
    while tokio::time::timeout_at(until, idle.next_notification()).await.is_ok() {}
    mounted.cut_power().unwrap();
    // It notices by itself that its disk is gone; a machine without power would not do that much.
    let code = daemon.exit_code().await;
    assert_eq!(code, 74, "a disk that fails is an end: {}", plan.words());
    let mut heard = Heard::default();
    load.end(&mut heard).await;
    drop(mounted);
    let mounted = Mounted::again(&disk, &plan.data_folder()).unwrap();
    let counts = (heard.acknowledged(), heard.count("\"method\":\"event\""));
    let (judge, told) = heard.judge();
    let verdict = judge.judge(&told, &plan).await;
    drop(mounted);
    (counts.0, counts.1, verdict)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_of_a_real_disk_loses_nothing_that_was_told() {
    let mut rng = Rng::new(SEED);
    let rounds = sized(rounds(3, 20));
    let (mut acknowledged, mut observed, mut lost, mut unseen) = (0, 0, 0, 0);
    for round_number in 0..rounds {
        let (requests, events, verdict) = round(&mut rng).await;
        println!("round {round_number}: {requests} acknowledged, {events} observed");
        acknowledged += requests;
        observed += events;
        lost += verdict.lost.len();
        unseen += verdict.unseen.len();
        assert!(!verdict.is_bad(), "round {round_number}: {verdict:#?}");
    }
    figure("R1", "power cuts of an ext4 under load", rounds, rounds);
    figure("R1", "acknowledged and lost, power cut", lost, acknowledged);
    figure("R2", "observed and lost, power cut", unseen, observed);
}
