//! Does the daemon stay as it is, hour after hour, whatever its clients and its world do to it?
//!
//! Random clients ([`writer`], [`follower`]) write down what they asked and were told. In rounds without faults the
//! daemon's memory is looked at in equal idle moments; in rounds with them it is killed, stopped, put on a slow disk,
//! and its models fail. After each round a program that knows only the manual ([`truth::judge`]) holds all histories
//! against what the daemon says. `SESS_SEED` repeats a run.

#![allow(clippy::unwrap_used, reason = "a helper's failure is the failure of its test")]

mod follower;
mod line;
mod measure;
mod truth;
mod world;
mod writer;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use sess_tests::faults::{Faults, Rng};
use sess_tests::figures::{figure, rounds};
use sess_tests::harness::{Daemon, Plan, within};
use sess_tests::stub::Stub;
use tokio::task::JoinSet;

use follower::Follower;
use line::Line;
use measure::{Held, bytes, cpu, cpu_ms, growth, held};
use world::{World, pass};
use writer::Writer;

/// Seconds of the whole run: at each change, and in `tests/long`.
const SECONDS: u64 = 600;
const SECONDS_LONG: u64 = 3_600;
/// The part of it without faults, in which memory is watched, in percent.
const CALM_PERCENT: u64 = 40;
/// Seconds of one round, without and with faults.
const CALM_ROUND: u64 = 6;
const ROUGH_ROUND: u64 = 60;
const WRITERS: usize = 5;
const FOLLOWERS: usize = 6;
/// Milliseconds between two faults, at least and at most.
const FAULT_MS: (usize, usize) = (8_000, 30_000);
/// Milliseconds that each sync of a slow disk takes longer.
const SLOW_SYNC_MS: u32 = 30;
/// What memory may grow by from the first third of the calm part to the last: by so much an allocator and the caches
/// of SQLite go up and down, and are filled late. That is an amount and no rate, so that the rate that it proves is
/// the finer the longer the run is: 28 MB an hour in ten minutes, 5 in an hour.
const GROWTH_KB_MAX: i64 = 1_024;
/// How long a daemon without tasks is watched, and what it may work in that time.
const IDLE: Duration = Duration::from_secs(20);
const IDLE_MS_PER_SECOND_MAX: f64 = 1.0;
/// Connections to one model server that a daemon keeps for its next tasks.
const MODELS_MAX: usize = 16;
/// What a daemon may say in a minute of faults.
const WORDS_PER_MINUTE_MAX: u64 = 128 * 1024;
/// The write-ahead log of a store that nobody writes to.
const WAL_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The models: good ones, slow ones, and each way to fail.
async fn stub() -> Stub {
    let stub = Stub::start_here(sess_tests::stub::Options::default()).await.unwrap();
    for (model, steps) in [
        ("words", json!([{"pieces": 20, "every_ms": 10}])),
        ("long", json!([{"pieces": 300, "text": "né{i} ", "every_ms": 3}])),
        ("stall", json!([{"text": "so "}, {"delay_ms": 1_500}, {"text": "so"}])),
        ("silent", json!([{"text": "not a "}, {"delay_ms": 6_000}])),
        ("error", json!([{"status": 500}])),
        ("broken", json!([{"text": "be"}, {"error": {"message": "it broke"}}])),
        ("cut", json!([{"text": "be"}, {"cut": true}])),
    ] {
        stub.script(model, steps).await.unwrap();
    }
    stub
}

fn plan(stub: &Stub) -> Plan {
    let timeouts =
        json!({"connect_ms": 1_000, "first_byte_ms": 2_000, "idle_ms": 2_000, "total_ms": 20_000});
    let provider = |url: String| json!({"kind": "openai", "base_url": url, "timeouts": timeouts});
    Plan::new()
        .document(
            "providers",
            &json!({
                "stub": provider(stub.base_url()),
                // Nobody listens there: a model server that is down.
                "gone": provider("http://127.0.0.1:1/v1".to_owned()),
            }),
        )
        .document("settings", &json!({"model": "echo/echo"}))
}

/// What is done to a daemon; the one that runs then.
async fn trouble(
    daemon: Daemon,
    calm: &Plan,
    rng: &mut Rng,
    done: &mut BTreeMap<&str, u64>,
) -> Daemon {
    let fired = calm.folder().join("fired");
    let slow = move |command: &mut std::process::Command| {
        Faults::new(&fired).slow_fsync("-wal", SLOW_SYNC_MS).command(command).unwrap();
    };
    let next = if rng.one_in(3) { calm.clone().hook(slow) } else { calm.clone() };
    if rng.one_in(3) {
        *done.entry("terminated").or_default() += 1;
        assert_eq!(daemon.terminate().await, 0);
    } else {
        *done.entry("killed").or_default() += 1;
        daemon.kill().await;
    }
    next.start().await
}

/// All of one run.
struct Soak {
    plan: Plan,
    rng: Rng,
    number: u64,
    troubles: BTreeMap<&'static str, u64>,
    counts: BTreeMap<String, u64>,
}

impl Soak {
    /// One round of all clients; then everything is compared and taken away.
    async fn round(&mut self, mut daemon: Daemon, seconds: u64, rough: bool) -> Daemon {
        self.number += 1;
        let folder = self.plan.folder().join(format!("round-{}", self.number));
        let world = World::new(&self.plan.socket(), &folder);
        let (mut writers, mut followers) = (JoinSet::new(), JoinSet::new());
        for name in 0..WRITERS {
            writers.spawn(Writer::new(name, self.rng.next_u64(), &world).run());
        }
        for name in 0..FOLLOWERS {
            followers.spawn(Follower::new(name, self.rng.next_u64(), &world).run());
        }
        let end = Instant::now() + Duration::from_secs(seconds);
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            let pause = FAULT_MS.0 + self.rng.below(FAULT_MS.1 - FAULT_MS.0);
            pass(left.min(Duration::from_millis(pause as u64))).await;
            if rough {
                daemon = trouble(daemon, &self.plan, &mut self.rng, &mut self.troubles).await;
            }
        }
        self.end(&world, writers, followers).await;
        std::fs::remove_dir_all(folder).unwrap();
        daemon
    }

    async fn end(&mut self, world: &Arc<World>, writers: JoinSet<u64>, followers: JoinSet<u64>) {
        world.end_writing();
        let asked = within("the writers' end", writers.join_all()).await;
        let mut line = Line::connect(&world.socket).await;
        truth::quiet(&mut line).await;
        let last = truth::write(world, &mut line).await;
        let sessions: Vec<String> = last.keys().cloned().collect();
        world.say_last(last);
        let told = within("the last event for every follower", followers.join_all()).await;
        for session in sessions {
            line.ok("session/delete", json!({"session": session, "force": true})).await;
        }
        let judged = truth::judge(world);
        self.add("requests", asked.iter().sum());
        self.add("lines told", told.iter().sum());
        for (name, count) in judged.as_object().unwrap() {
            self.add(name, count.as_u64().unwrap());
        }
    }

    fn add(&mut self, name: &str, count: u64) {
        *self.counts.entry(name.to_owned()).or_default() += count;
    }
}

fn seconds() -> u64 {
    let full = rounds(SECONDS, SECONDS_LONG);
    if std::env::var_os("SESS_TENTH").is_some() { full / 10 } else { full }
}

fn seed() -> u64 {
    let given = std::env::var("SESS_SEED").ok().and_then(|it| it.parse().ok());
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let seed = given.unwrap_or(clock);
    println!("SESS_SEED={seed}");
    seed
}

/// Sessions loaded and followers there, and nothing to do.
async fn idle(daemon: &Daemon) -> f64 {
    let mut lines = Vec::new();
    for _ in 0..FOLLOWERS {
        let mut line = Line::connect(&daemon.plan().socket()).await;
        let made = line.ok("session/create", json!({})).await;
        let of = json!({"session": made["id"]});
        line.ok("session/follow", of.clone()).await;
        let sent = line.ok("chat/send", json!({"session": made["id"], "content": "hello"})).await;
        line.ok("task/wait", json!({"task": sent["task"]})).await;
        lines.push(line);
    }
    held(daemon).await;
    let before = cpu(daemon);
    pass(IDLE).await;
    cpu_ms(&before, &cpu(daemon)) / IDLE.as_secs_f64()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by a stage of its own"]
async fn nothing_grows_nothing_is_lost_and_an_idle_daemon_sleeps() {
    let seconds = seconds();
    let stub = stub().await;
    let plan = plan(&stub);
    let mut soak = Soak {
        plan: plan.clone(),
        rng: Rng::new(seed()),
        number: 0,
        troubles: BTreeMap::new(),
        counts: BTreeMap::new(),
    };
    let begun = Instant::now();
    let mut daemon = plan.start().await;
    let mut samples = Vec::new();
    while begun.elapsed().as_secs() < seconds * CALM_PERCENT / 100 {
        daemon = soak.round(daemon, CALM_ROUND, false).await;
        samples.push(held(&daemon).await);
    }
    let (grown, between) = growth(&samples);
    let sizes: Vec<i64> = samples.iter().map(|it| it.rss_kb).collect();
    println!("kB in idle moments: {sizes:?}");
    figure(
        "soak",
        &format!("kB grown in {} s without faults", between.as_secs()),
        grown,
        samples.len(),
    );
    assert!(grown <= GROWTH_KB_MAX, "{grown} kB in {between:?}: {sizes:?}");
    let rough = Instant::now();
    while begun.elapsed().as_secs() + IDLE.as_secs() < seconds {
        let left = seconds.saturating_sub(begun.elapsed().as_secs() + IDLE.as_secs());
        daemon = soak.round(daemon, left.clamp(CALM_ROUND, ROUGH_ROUND), true).await;
    }
    let minutes = rough.elapsed().as_secs() / 60 + 1;
    let busy = idle(&daemon).await;
    let after = held(&daemon).await;
    say(&soak, busy);
    assert!(busy <= IDLE_MS_PER_SECOND_MAX, "{busy} ms a second with nothing to do");
    as_before(&after, &samples);
    let words = plan.words().len() as u64;
    figure("soak", "bytes of log", words, format!("{minutes} minutes of faults"));
    assert!(words <= minutes * WORDS_PER_MINUTE_MAX, "{words} bytes of log");
    let wal = bytes(&plan.data_folder(), "-wal");
    assert!(wal <= WAL_BYTES_MAX, "{wal} bytes of write-ahead log");
    assert_eq!(daemon.terminate().await, 0);
}

/// After all faults the daemon holds no more than the most before them.
fn as_before(after: &Held, calm: &[Held]) {
    let most = |of: fn(&Held) -> usize| calm.iter().map(of).max().unwrap();
    for (what, held, before) in [
        ("descriptors", after.files, most(|it| it.files)),
        ("connections kept to models", after.models, MODELS_MAX),
        ("threads", after.threads, most(|it| it.threads)),
    ] {
        figure("soak", &format!("{what} at the end, of at most"), held, before);
        assert!(held <= before, "{what}: {held}, before {before}: {after:?}");
    }
}

fn say(soak: &Soak, busy: f64) {
    let counts: Value = json!({"counts": soak.counts, "done to it": soak.troubles});
    println!("{counts}");
    let of = |name: &str| soak.counts.get(name).copied().unwrap_or_default();
    figure(
        "soak",
        "faults of the histories",
        of("faults"),
        format!("{} folds, {} events", of("folds"), of("events")),
    );
    figure("soak", "changes acknowledged and lost", 0, of("acknowledged"));
    figure("soak", "kills and stops", soak.troubles.values().sum::<u64>(), soak.number);
    figure(
        "soak",
        "ms of processor a second when idle",
        format!("{busy:.3}"),
        format!("{} s", IDLE.as_secs()),
    );
}
