//! Would the tests notice? Breaks one promise of the daemon at a time and runs them until one is red.
//!
//! The daemon is built with its feature `sabotage`, in which the variable `SESS_SABOTAGE` names the promise that
//! does not hold. No test knows of this: each is caught by tests that are there for the promise itself, the ones
//! most likely to see it first, then all. At the end the tests that were red run once more with nothing broken
//! and must be green, so that none was red for another reason. Sizes are a tenth of the full ones (`SESS_TENTH`).
//!
//! `sess-sabotage [NAME..]` breaks these alone. It ends with 0 only if all were caught.

mod built;
mod suite;
mod table;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::ensure;

use built::Built;
use suite::Found;
use table::{Look, SABOTAGES, Sabotage, Suite};

/// The longest that the tests that should see a break may take, and that one whole suite may.
const LOOK: Duration = Duration::from_secs(45);
const SUITE: Duration = Duration::from_secs(180);

/// The tests that were red, by their suite.
type Red = BTreeMap<Suite, Vec<String>>;

/// Builds, breaks, tests, reports.
///
/// # Errors
/// Something does not build, or a name is unknown.
pub fn run() -> anyhow::Result<ExitCode> {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let is_known = |name: &String| SABOTAGES.iter().any(|it| it.name == name);
    ensure!(names.iter().all(is_known), "known are {:?}", SABOTAGES.map(|it| it.name));
    let wanted = |it: &&Sabotage| names.is_empty() || names.iter().any(|name| name == it.name);
    let sabotages: Vec<&Sabotage> = SABOTAGES.iter().filter(wanted).collect();
    let built = Built::new()?;
    println!("{:<22} {:>5}  caught by", "broken", "s");
    let (mut caught, mut all_red) = (0, Red::new());
    for sabotage in &sabotages {
        let begin = Instant::now();
        let red = look(&built, sabotage)?;
        caught += usize::from(!red.is_empty());
        show(sabotage, begin.elapsed(), &red);
        for (suite, tests) in red {
            all_red.entry(suite).or_default().extend(tests);
        }
    }
    let is_sound = nothing_broken(&built, all_red)?;
    println!("caught {caught}/{}", sabotages.len());
    let is_good = is_sound && caught == sabotages.len();
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs tests until one is red.
fn look(built: &Built, sabotage: &Sabotage) -> anyhow::Result<Red> {
    let everything = Suite::ALL.map(|suite| Look { suite, tests: &[] });
    let first = sabotage.first.iter().map(|look| (look, LOOK));
    for (Look { suite, tests }, time) in first.chain(everything.iter().map(|it| (it, SUITE))) {
        let tests: Vec<String> = tests.iter().map(|it| (*it).to_owned()).collect();
        let found = built.run(*suite, &tests, Some(sabotage.name), time)?;
        if !found.red.is_empty() {
            return Ok(BTreeMap::from([(*suite, found.red)]));
        }
    }
    Ok(Red::new())
}

fn show(sabotage: &Sabotage, took: Duration, red: &Red) {
    let tests = red.iter().flat_map(|(suite, tests)| tests.iter().map(move |it| (suite, it)));
    let tests: Vec<String> = tests.map(|(suite, it)| format!("{}: {it}", suite.name())).collect();
    let seconds = took.as_secs_f64();
    let shown = tests.first().map_or("NOTHING", String::as_str);
    println!("{:<22} {seconds:>5.1}  {shown}", sabotage.name);
    for test in tests.iter().skip(1) {
        println!("{:<22} {:>5}  {test}", "", "");
    }
}

/// The tests that were red, with nothing broken.
fn nothing_broken(built: &Built, red: Red) -> anyhow::Result<bool> {
    let (begin, mut green, mut is_sound) = (Instant::now(), 0, true);
    for (suite, mut tests) in red {
        tests.sort();
        tests.dedup();
        let Found { green: passed, red, in_time } = built.run(suite, &tests, None, SUITE)?;
        green += passed;
        is_sound &= red.is_empty() && in_time && passed >= tests.len();
        red.iter().for_each(|it| println!("red with nothing broken: {}: {it}", suite.name()));
    }
    println!("{:<22} {:>5.1}  nobody: {green} green", "nothing", begin.elapsed().as_secs_f64());
    Ok(is_sound)
}
