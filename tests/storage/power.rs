//! Does a power cut of a real disk take back nothing that a client was told?

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;
use sess_tests::faults::{Mounted, Rng};
use sess_tests::figures::{figure, rounds};
use sess_tests::harness::daemon::SABOTAGE_VARIABLE;
use sess_tests::harness::{Plan, stub};
use sess_tests::judge::{Heard, Verdict};

use crate::load::{Load, slow_model};
use crate::{sized, until};

/// Bytes of the disk.
const DISK_BYTES: u64 = 256 << 20;
/// The load before a cut lasts between these.
const MS_MIN: usize = 300;
const MS_MORE: usize = 900;
/// Rounds with a daemon that does not sync.
const UNSYNCED_ROUNDS: usize = 3;
const SEED: u64 = 0x5e55_0031;

/// A round: load, cut, mount, start; how many requests were acknowledged, how many events observed, and what is
/// wrong.
async fn round(rng: &mut Rng, cut: &dyn Fn(Plan) -> Plan) -> (usize, usize, Verdict) {
    let stub = stub().await;
    slow_model(&stub).await;
    let plan = Plan::new().stub(&stub);
    let disk = plan.folder().join("disk");
    let mounted = Mounted::ext4(&disk, &plan.data_folder(), DISK_BYTES).unwrap();
    let daemon = cut(plan.clone()).start().await;
    let load = Load::begin(&plan, 0).await;
    let mut idle = daemon.wire().await;
    idle.ok("session/follow", json!({"session": "global", "after": "start"})).await;
    let moment = Duration::from_millis((MS_MIN + rng.below(MS_MORE)) as u64);
    // What comes meanwhile is of no interest: only the moment is.
    let then = tokio::time::Instant::now() + moment;
    while tokio::time::timeout_at(then, idle.next_notification()).await.is_ok() {}
    // A machine without power says nothing more. Here a sync that was on its way at the cut may yet come back
    // as done, though its journal was given up: nobody may be told of it.
    daemon.signal(Signal::SIGSTOP);
    until("a daemon that stands still", || stands_still(daemon.pid())).await;
    mounted.cut_power().unwrap();
    daemon.kill().await;
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

/// Whether no thread of a process will do anything more: what is in the kernel comes back to a stop.
fn stands_still(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('T'))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_of_a_real_disk_loses_nothing_that_was_told() {
    let mut rng = Rng::new(SEED);
    let rounds = sized(rounds(3, 20));
    let (mut acknowledged, mut observed, mut lost, mut unseen) = (0, 0, 0, 0);
    for round_number in 0..rounds {
        let (requests, events, verdict) = round(&mut rng, &|plan| plan).await;
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

/// The teeth of the test above.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by `tests/run` behind the sabotages, whose programs it needs"]
async fn a_daemon_that_does_not_sync_loses_by_a_power_cut() {
    let folder = std::env::var_os("SESS_SABOTAGE_BIN_DIR")
        .expect("a variable names the folder of the programs that are built to break promises");
    let sessd = Path::new(&folder).join("sessd");
    let unsynced = |plan: Plan| plan.program(&sessd).env(SABOTAGE_VARIABLE, "synchronous_normal");
    let (mut rng, mut bad) = (Rng::new(SEED), 0);
    for _ in 0..UNSYNCED_ROUNDS {
        let (acknowledged, _, verdict) = round(&mut rng, &unsynced).await;
        println!("without syncs: {} of {acknowledged} are lost", verdict.lost.len());
        bad += usize::from(verdict.is_bad());
    }
    assert!(bad > 0, "a power cut takes what was not synced");
}
