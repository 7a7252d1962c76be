//! Does a power cut at any moment take back nothing that a client was told?

use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use sess_tests::faults::{CrashState, CrashStates, RecordLog};
use sess_tests::figures::{figure, sized};
use sess_tests::harness::Plan;
use sess_tests::harness::daemon::SABOTAGE_VARIABLE;
use sess_tests::judge::{Judge, Verdict};
use tokio::task::JoinSet;

use crate::{Shm, work};

/// States that are judged, and how many of them at a time.
const STATES: usize = 1_000;
const AT_ONCE: usize = 4;
/// States of the test whose daemon does not sync.
const UNSYNCED_STATES: usize = 100;
/// Ops in which the daemon starts and stops.
const START_OPS: usize = 160;
const STOP_OPS: usize = 16;
const SEED: u64 = 0x5e55_0001;
/// Faults that are shown when states are bad.
const SHOWN_MAX: usize = 5;
/// Signs of each fault that are shown.
const SHOWN_CHARS_MAX: usize = 600;
/// The variable that names a directory with programs built to break promises.
const SABOTAGE_BIN_DIR_VARIABLE: &str = "SESS_SABOTAGE_BIN_DIR";

/// How many states have which fault.
#[derive(Debug, Default)]
struct Sum {
    states: usize,
    bad: usize,
    lost: usize,
    unseen: usize,
    half: usize,
    broken: usize,
    shown: Vec<String>,
}

impl Sum {
    fn add(&mut self, name: &str, verdict: &Verdict) {
        self.states += 1;
        self.bad += usize::from(verdict.is_bad());
        for (count, kind, faults) in [
            (&mut self.lost, "lost", &verdict.lost),
            (&mut self.unseen, "observed and lost", &verdict.unseen),
            (&mut self.half, "half", &verdict.half),
            (&mut self.broken, "broken", &verdict.broken),
        ] {
            *count += faults.len();
            if let Some(first) = faults.first().filter(|_| self.shown.len() < SHOWN_MAX) {
                let first: String = first.chars().take(SHOWN_CHARS_MAX).collect();
                self.shown.push(format!("{name}: {} {kind}, as {first}", faults.len()));
            }
        }
    }
}

/// Records the daemon of `plan` at work and judges states of it, each with another daemon like `judged`.
async fn explore(plan: Plan, judged: impl Fn() -> Plan, states: usize) -> Sum {
    let shm = Shm::new(&format!("crash-{states}"));
    let work::Record { log, asked } = work::record(&shm, plan).await;
    let judge = Arc::new(Judge::new(asked, &log.told().unwrap()));
    println!("recorded: {} ops, {} commits of several events", log.ops().len(), judge.commits());
    let mut trials: JoinSet<(String, Verdict)> = JoinSet::new();
    let mut sum = Sum::default();
    let root = shm.0.join("states");
    for state in CrashStates::new(&log, cuts(&log, states), SEED, &root).unwrap() {
        if trials.len() == AT_ONCE {
            let (name, verdict) = trials.join_next().await.unwrap().unwrap();
            sum.add(&name, &verdict);
        }
        trials.spawn(trial(Arc::clone(&judge), state.unwrap(), judged()));
    }
    while let Some(trial) = trials.join_next().await {
        let (name, verdict) = trial.unwrap();
        sum.add(&name, &verdict);
    }
    sum
}

/// Cuts everywhere, and one in ten where the daemon starts or stops, for that is only a moment.
fn cuts(log: &RecordLog, states: usize) -> Vec<usize> {
    let ops = log.ops().len();
    let each = states / 20;
    let mut cuts = log.cuts(states - 2 * each, SEED);
    for n in 0..each {
        cuts.push(n * START_OPS / each);
        cuts.push(ops - n * STOP_OPS / each);
    }
    cuts
}

/// A trial in a job of its own, so that whatever breaks it is a fault of this state.
async fn trial(judge: Arc<Judge>, state: CrashState, plan: Plan) -> (String, Verdict) {
    let name = format!("state {} (cut {}, {:?})", state.number, state.cut, state.mode);
    let plan = plan
        .env("SESS_DATA_DIR", &state.folder)
        .document("providers", &json!({"stub": {"kind": "echo"}}))
        .document("settings", &json!({"model": "stub/stub"}));
    let trial = tokio::spawn(async move { judge.judge(&state.told, &plan).await });
    let verdict = trial.await.unwrap_or_else(|err| {
        let broken = vec![format!("the trial broke: {err}")];
        Verdict { broken, ..Verdict::default() }
    });
    (name, verdict)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_at_any_moment_takes_back_nothing_that_was_told() {
    let sum = explore(Plan::new(), Plan::new, sized(STATES)).await;
    let Sum { states, lost, unseen, half, broken, shown, .. } = &sum;
    let of = format!("{states} crash states");
    figure("R1", "with something acknowledged and lost by a power cut", lost, &of);
    figure("R2", "with something observed and lost by a power cut", unseen, &of);
    figure("R1", "with a commit in part", half, &of);
    assert_eq!((lost, unseen, half, broken), (&0, &0, &0, &0), "{shown:#?}");
}

/// The teeth of the test above: without syncs at least half of the states lose something.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by `tests/run` behind the sabotages, whose programs it needs"]
async fn a_daemon_that_does_not_sync_loses_in_at_least_half_of_the_states() {
    let folder = std::env::var_os(SABOTAGE_BIN_DIR_VARIABLE)
        .expect("a variable names the folder of the programs that are built to break promises");
    let sessd = Path::new(&folder).join("sessd");
    let unsynced = || Plan::new().program(&sessd).env(SABOTAGE_VARIABLE, "synchronous_normal");
    let sum = explore(unsynced(), Plan::new, UNSYNCED_STATES).await;
    println!("without syncs: {} of {} crash states lose", sum.bad, sum.states);
    assert!(sum.bad * 2 >= sum.states, "{sum:#?}");
}
