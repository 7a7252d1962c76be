//! Is something unfinished, or does a test wait for the clock?

use crate::exceptions::{Rule, is_excepted, unneeded};
use crate::hold;
use crate::repository::{files, rust_files};
use crate::rust::{line_of, places_of};

/// What marks a place that somebody meant to come back to.
const MARKS: [&str; 2] = [concat!("FIX", "ME"), concat!("X", "XX")];
/// What stands where code is not written yet.
const GAPS: [&str; 2] = ["todo!", "unimplemented!"];
/// What stands above a test that is not run, and above one that another test runs by itself, as a
/// process of its own: the one reason to leave a test out.
const LEFT_OUT: &str = "#[ignore";
const RUN_BY_ANOTHER: &str = "#[ignore = \"run by ";

#[test]
fn nothing_waits_to_be_finished() {
    let mut faults = Vec::new();
    for file in files() {
        let Some(text) = &file.text else { continue };
        for mark in MARKS {
            let lines = places_of(text, mark).map(|at| line_of(text, at));
            faults.extend(lines.map(|line| format!("{}:{line}: `{mark}`", file.path)));
        }
    }
    for file in rust_files() {
        let code = &file.rust.code;
        for gap in GAPS {
            let lines = places_of(code, gap).map(|at| line_of(code, at));
            faults.extend(lines.map(|line| format!("{}:{line}: `{gap}`", file.path)));
        }
        let lines = left_out(code, &file.text);
        faults.extend(lines.map(|line| format!("{}:{line}: a test is left out", file.path)));
    }
    hold("what is in the repository is finished", &faults);
}

/// The lines of tests that nothing runs.
fn left_out(code: &str, text: &str) -> impl Iterator<Item = usize> {
    let lines = (1..).zip(code.lines().zip(text.lines()));
    let is_left_out = |(_, (code, text)): &(usize, (&str, &str))| {
        code.contains(LEFT_OUT) && !text.contains(RUN_BY_ANOTHER)
    };
    lines.filter(is_left_out).map(|(line, _)| line)
}

#[test]
fn only_a_test_that_another_runs_may_be_left_out() {
    let text =
        "// #[ignore]\n#[ignore]\n#[ignore = \"run by another test\"]\n#[ignore = \"slow\"]\n";
    let code = crate::rust::Rust::read(text).code;
    assert_eq!(left_out(&code, text).collect::<Vec<_>>(), [2, 4]);
}

#[test]
fn no_test_waits_for_the_clock() {
    let mut faults = Vec::new();
    let mut broken = Vec::new();
    for file in rust_files() {
        let code = if file.is_test() {
            file.rust.code.clone()
        } else {
            only_tests(&file.rust.code, &file.rust.shipped())
        };
        for at in places_of(&code, "sleep(") {
            broken.push(file.path.clone());
            if !is_excepted(Rule::Sleep, &file.path) {
                faults.push(format!("{}:{}", file.path, line_of(&code, at)));
            }
        }
    }
    faults.extend(unneeded(Rule::Sleep, &broken));
    hold("a test waits for what it waits for, it never sleeps", &faults);
}

/// What runs in tests only: blank where it is shipped.
fn only_tests(code: &str, shipped: &str) -> String {
    let pairs = code.chars().zip(shipped.chars());
    pairs.map(|(all, ship)| if all == '\n' || ship == ' ' { all } else { ' ' }).collect()
}
