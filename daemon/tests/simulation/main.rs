//! The core in simulation: clock, ids, chance and faults follow from a seed, and everything that is
//! promised is checked at every step.
//!
//! `SESS_SEED=7` runs one seed and prints its steps; `SESS_SEEDS=100` says how many, `SESS_TENTH=1`
//! runs a tenth. A failing seed is printed with its last steps.

mod acts;
mod answers;
mod client;
mod dice;
mod follower;
mod life;
mod model;
mod oracle;
mod rules;
mod store;
mod trace;
mod world;

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use sess_daemon::documents::Documents;

use life::Simulation;
use trace::Trace;

/// Seeds that are run when nothing else is asked for.
const SEEDS: u64 = 2000;
/// How many times as many with `SESS_LONG=1`.
const LONG_TIMES: u64 = 50;
/// Broken seeds after which no more are run.
const BROKEN_MAX: usize = 20;
/// Every so many seeds, one is run twice.
const TWICE_EACH: u64 = 20;

thread_local! {
    /// What panicked in the thread: a job's panic ends nothing by itself.
    static PANICKED: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// How a seed went.
struct Course {
    hash: u64,
    lines: u64,
    wrong: Option<String>,
    last: Vec<String>,
}

fn run(seed: u64, documents: &Documents, verbose: bool) -> Course {
    PANICKED.with_borrow_mut(|it| *it = None);
    let trace = Arc::new(Trace::new(verbose));
    let simulation = Simulation::new(seed, Arc::clone(&trace), documents.clone());
    let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| simulation.run()));
    let panicked = PANICKED.with_borrow_mut(Option::take);
    let wrong = panicked.or(ran.err().map(|_| "a panic".to_owned())).or(trace.finding());
    let (hash, lines) = trace.hash();
    Course { hash, lines, wrong, last: trace.last() }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The documents are no part of the simulation: nobody changes them.
fn documents(folder: &std::path::Path) -> Documents {
    Documents::open(folder, |_| Ok(())).expect("an empty folder")
}

fn failure(seed: u64, course: &Course) -> String {
    let last = course.last.join("\n");
    let wrong = course.wrong.as_deref().unwrap_or("nothing");
    format!("{last}\nseed {seed} is broken: {wrong}\nrun it alone with SESS_SEED={seed}")
}

#[test]
fn every_promise_holds_in_every_simulated_course_of_things() {
    std::panic::set_hook(Box::new(|info| {
        PANICKED.with_borrow_mut(|it| {
            it.get_or_insert(info.to_string());
        });
        if std::thread::current().name().is_some_and(|it| it != "seeds") {
            eprintln!("{info}");
        }
    }));
    let folder = tempfile::tempdir().expect("a folder");
    let documents = documents(folder.path());
    if let Some(seed) = number("SESS_SEED") {
        let course = run(seed, &documents, true);
        println!("seed {seed}: trace {:016x} of {} steps", course.hash, course.lines);
        assert!(course.wrong.is_none(), "{}", failure(seed, &course));
        return;
    }
    let sized = match (number("SESS_TENTH"), number("SESS_LONG")) {
        (Some(1), _) => SEEDS / 10,
        (_, Some(1)) => SEEDS * LONG_TIMES,
        _ => SEEDS,
    };
    let seeds = number("SESS_SEEDS").unwrap_or(sized);
    let began = Instant::now();
    let next = AtomicU64::new(0);
    let steps = AtomicU64::new(0);
    let all = AtomicU64::new(0);
    let broken: Mutex<Vec<(u64, String)>> = Mutex::default();
    let work = || loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= seeds || broken.lock().expect("no panic").len() >= BROKEN_MAX {
            return;
        }
        let mut course = run(seed, &documents, false);
        if course.wrong.is_none() && seed.is_multiple_of(TWICE_EACH) {
            let again = run(seed, &documents, false);
            if (again.hash, again.lines) != (course.hash, course.lines) {
                course.wrong = Some("the same seed takes another course".to_owned());
            }
        }
        steps.fetch_add(course.lines, Ordering::Relaxed);
        all.fetch_xor(
            course.hash.rotate_left(u32::try_from(seed % 64).expect("small")),
            Ordering::Relaxed,
        );
        if let Some(wrong) = &course.wrong {
            eprintln!("seed {seed}: {}", &wrong[..wrong.floor_char_boundary(300)]);
            broken.lock().expect("no panic").push((seed, failure(seed, &course)));
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let builder = std::thread::Builder::new().name("seeds".to_owned());
            builder.spawn_scoped(scope, work).expect("a thread");
        }
    });
    let mut broken = broken.into_inner().expect("no panic");
    broken.sort();
    let (took, steps) = (began.elapsed().as_secs_f64(), steps.into_inner());
    println!(
        "simulation: {seeds} seeds, {steps} steps, trace {:016x}, {took:.1} s",
        all.into_inner()
    );
    if let Some((_, failure)) = broken.first() {
        panic!("{failure}");
    }
}
