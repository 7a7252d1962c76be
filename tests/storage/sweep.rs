//! What if one storage call fails: the first, the second, and so on, of every kind, in every file, in every way?

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use nix::sys::signal::Signal;
use sess_tests::faults::{Faults, Rng};
use sess_tests::figures::{figure, rounds};
use sess_tests::harness::Plan;
use sess_tests::judge::{Heard, UNKNOWN};
use tokio::task::JoinSet;

use crate::sweep_work::work;

const CALLS: [&str; 8] =
    ["write", "pwrite", "fsync", "ftruncate", "open", "mmap", "unlink", "rename"];
/// The files, by what their paths have or end with.
const FILES: [(&str, &str); 7] = [
    ("database", "sess.db$"),
    ("log", "sess.db-wal$"),
    ("shared memory", "sess.db-shm$"),
    ("documents", "/state"),
    ("marker", "store.json"),
    ("reserve", "sess.reserve$"),
    ("folder", "/data$"),
];
const EFFECTS: [&str; 6] = ["EIO", "ENOSPC", "EMFILE", "SHORT", "KILL", "KILLAFTER"];
/// Points for each change of the program, and how many of them each combination has at least.
const POINTS: u64 = 130;
/// Trials at a time.
const AT_ONCE: usize = 4;
/// Faults of a figure that are shown.
const SHOWN_MAX: usize = 8;
/// The code that says that nobody knows.
const IO_CODE: i32 = 74;
const SEED: u64 = 0x5e55_0033;

/// A call that fails, and how.
#[derive(Debug, Clone, Copy)]
struct Point {
    call: &'static str,
    file: (&'static str, &'static str),
    effect: &'static str,
    nth: u64,
}

/// What came of it.
struct Trial {
    point: Point,
    fired: bool,
    acknowledged: usize,
    lost: usize,
    unseen: usize,
    faults: Vec<String>,
}

impl Point {
    fn rule(&self) -> String {
        format!("{}:{}:{}:{}", self.call, self.file.1, self.nth, self.effect)
    }

    /// Whether what was synced may be gone by it, so that nobody may go on.
    fn is_fatal(&self) -> bool {
        let is_stored = ["database", "log"].contains(&self.file.0);
        let is_written = ["pwrite", "fsync", "ftruncate"].contains(&self.call);
        self.effect == "EIO" && is_stored && is_written
    }

    fn kills(&self) -> bool {
        self.effect.starts_with("KILL")
    }
}

fn faulty(clean: &Plan, faults: &Faults) -> Plan {
    let faults = faults.clone();
    clean.clone().hook(move |command| faults.command(command).unwrap())
}

/// Runs the daemon with its faults until its end, and asks one without for what was told.
async fn run(plan: &Plan) -> (Heard, ExitStatus, bool) {
    match plan.try_start().await {
        Err(status) => (Heard::default(), status, false),
        Ok(daemon) => {
            let heard = work(plan).await;
            daemon.signal(Signal::SIGTERM);
            (heard, daemon.ended().await, true)
        }
    }
}

async fn trial(point: Point) -> Trial {
    let clean = Plan::new();
    let faults = Faults::new(&clean.folder().join("fired")).rule(&point.rule());
    let (heard, status, started) = run(&faulty(&clean, &faults)).await;
    let fired = !faults.fired().unwrap().is_empty();
    let mut wrong = ended_wrong(&point, fired, started, status, &heard);
    let acknowledged = heard.acknowledged();
    let (judge, told) = heard.judge();
    let verdict = judge.judge(&told, &clean).await;
    for (kind, faults) in [
        ("lost", &verdict.lost),
        ("unseen", &verdict.unseen),
        ("half", &verdict.half),
        ("broken", &verdict.broken),
    ] {
        wrong.extend(faults.iter().map(|it| format!("{kind}: {it}")));
    }
    if clean.words().contains("panicked") {
        wrong.push("it panicked".to_owned());
    }
    if !wrong.is_empty() {
        wrong.push(clean.words());
    }
    let (lost, unseen) = (verdict.lost.len(), verdict.unseen.len());
    Trial { point, fired, acknowledged, lost, unseen, faults: wrong }
}

/// Whether the daemon ended otherwise than it should with this fault.
fn ended_wrong(
    point: &Point,
    fired: bool,
    started: bool,
    status: ExitStatus,
    heard: &Heard,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let is_killed = fired && point.kills();
    match (status.code(), status.signal()) {
        (None, Some(9)) if is_killed => {}
        (Some(0), _) if started && !(fired && point.is_fatal()) && !is_killed => {
            if heard.count(UNKNOWN) > 0 && point.file.0 != "documents" {
                wrong.push("what is unknown did not end it".to_owned());
            }
        }
        (Some(IO_CODE), _) if fired && !is_killed => {}
        _ => wrong.push(format!("it ended with {status}, started: {started}, fired: {fired}")),
    }
    wrong
}

/// How many calls of each kind there are in each file while nothing fails.
async fn counts() -> BTreeMap<(&'static str, &'static str), u64> {
    let mut counts = BTreeMap::new();
    for calls in CALLS.chunks(CALLS.len() / 2) {
        let clean = Plan::new();
        let mut faults = Faults::new(&clean.folder().join("fired"));
        let each = || calls.iter().flat_map(|call| FILES.iter().map(move |file| (call, file)));
        for (call, file) in each() {
            faults = faults.rule(&format!("{call}:{}:1:DELAY1:-1", file.1));
        }
        let (_, status, _) = run(&faulty(&clean, &faults)).await;
        assert_eq!(status.code(), Some(0), "{}", clean.words());
        let fired = faults.fired().unwrap();
        for (call, (name, part)) in each() {
            let fits = |path: &str| match part.strip_suffix('$') {
                Some(end) => path.ends_with(end),
                None => path.contains(part),
            };
            let fitting =
                fired.iter().filter(|it| it.call == *call && fits(&it.path.to_string_lossy()));
            counts.insert((*call, *name), fitting.count() as u64);
        }
    }
    counts
}

/// Every combination that can fire, with how many calls it has; how many cannot.
async fn combinations() -> (Vec<(Point, u64)>, usize) {
    let counts = counts().await;
    let (mut can, mut cannot) = (Vec::new(), 0);
    for call in CALLS {
        for file in FILES {
            let count = counts[&(call, file.0)];
            println!("{call} of {}: {count} calls", file.0);
            for effect in EFFECTS {
                // Nothing but a write has a half.
                if count == 0 || (effect == "SHORT" && !call.ends_with("write")) {
                    cannot += 1;
                } else {
                    can.push((Point { call, file, effect, nth: 1 }, count));
                }
            }
        }
    }
    (can, cannot)
}

/// All trials of the sweep, one result after the other.
#[derive(Default)]
struct Sweep {
    trials: JoinSet<Trial>,
    swept: usize,
    fired: usize,
    acknowledged: usize,
    lost: usize,
    unseen: usize,
    shown: Vec<String>,
}

impl Sweep {
    async fn begin(&mut self, point: Point) {
        if self.trials.len() == AT_ONCE {
            self.take().await;
        }
        self.trials.spawn(trial(point));
    }

    /// Takes in one result; whether the fault fired.
    async fn take(&mut self) -> Option<bool> {
        let trial = self.trials.join_next().await?.unwrap();
        self.swept += 1;
        self.fired += usize::from(trial.fired);
        self.acknowledged += trial.acknowledged;
        self.lost += trial.lost;
        self.unseen += trial.unseen;
        if !trial.faults.is_empty() && self.shown.len() < SHOWN_MAX {
            self.shown.push(format!("{}: {:#?}", trial.point.rule(), trial.faults));
        }
        Some(trial.fired)
    }

    async fn end(mut self, cannot: usize) {
        while self.take().await.is_some() {}
        figure("R3", "points of the sweep that fired", self.fired, self.swept);
        figure("R3", "combinations that have no such call", cannot, cannot);
        figure("R3", "acknowledged and lost, a call failed", self.lost, self.acknowledged);
        figure("R3", "observed and lost, a call failed", self.unseen, self.fired);
        assert!(self.fired * 2 > self.swept, "most points are calls that are made");
        assert!(self.shown.is_empty(), "{}", self.shown.join("\n"));
    }
}

/// A few of each combination: the first, and others that are drawn.
fn some(combinations: &[(Point, u64)], rng: &mut Rng) -> Vec<Point> {
    let mut points = Vec::new();
    let all: u64 = crate::sized(POINTS);
    let stride = (combinations.len() as u64).div_ceil(all).max(1);
    for (at, (point, count)) in combinations.iter().enumerate() {
        if (at as u64).is_multiple_of(stride) || point.is_fatal() {
            let nth = 1 + rng.below(usize::try_from(*count).unwrap()) as u64;
            points.push(Point { nth, ..*point });
        }
        // The very first is made while the store is, where nobody has asked for anything yet.
        if point.is_fatal() {
            points.push(*point);
        }
    }
    points
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_fails_loses_nothing_and_is_never_served_over() {
    let (combinations, cannot) = combinations().await;
    let mut sweep = Sweep::default();
    if rounds(0, 1) == 0 {
        for point in some(&combinations, &mut Rng::new(SEED)) {
            sweep.begin(point).await;
        }
        return sweep.end(cannot).await;
    }
    for (point, count) in combinations {
        for nth in 1..=count + 1 {
            sweep.begin(Point { nth, ..point }).await;
        }
    }
    sweep.end(cannot).await;
}
