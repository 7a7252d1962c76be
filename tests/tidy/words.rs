//! Is something unfinished, or does a test wait for the clock?

use crate::exceptions::{Rule, is_excepted, unneeded};
use crate::hold;
use crate::repository::{files, rust_files};
use crate::rust::{line_of, places_of};

/// What marks a place that somebody meant to come back to.
const MARKS: [&str; 2] = [concat!("FIX", "ME"), concat!("X", "XX")];
/// What stands where code is not written yet, or a test is not run.
const GAPS: [&str; 3] = ["todo!", "unimplemented!", "#[ignore"];

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
    }
    hold("what is in the repository is finished", &faults);
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
