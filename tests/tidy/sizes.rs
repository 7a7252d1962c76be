//! Is every file and function short enough to be read, and does every file say its question?

use crate::exceptions::{Rule, is_excepted, unneeded};
use crate::functions::functions;
use crate::hold;
use crate::repository::{files, rust_files};

/// Lines of a file of Rust.
const FILE_LINES_MAX: usize = 500;
/// Lines of a function, from its `fn` to its last brace.
const FUNCTION_LINES_MAX: usize = 70;
/// Bytes of a file in git.
const FILE_BYTES_MAX: u64 = 200 * 1024;
/// Files that a program writes, and so may be larger.
const MADE_FILES: [&str; 2] = ["Cargo.lock", "protocol/schema.json"];

#[test]
fn every_rust_file_begins_with_its_question() {
    let faults: Vec<String> = rust_files()
        .iter()
        .filter(|it| !it.text.starts_with("//! "))
        .map(|it| format!("{}:1", it.path))
        .collect();
    hold("the first line of a file is `//!` and what it is about", &faults);
}

#[test]
fn no_rust_file_is_too_long() {
    let long: Vec<_> = rust_files()
        .iter()
        .map(|it| (it.path.clone(), it.text.lines().count()))
        .filter(|(_, lines)| *lines > FILE_LINES_MAX)
        .collect();
    let paths: Vec<String> = long.iter().map(|(path, _)| path.clone()).collect();
    let mut faults: Vec<String> = long
        .iter()
        .filter(|(path, _)| !is_excepted(Rule::FileLines, path))
        .map(|(path, lines)| format!("{path}: {lines} lines"))
        .collect();
    faults.extend(unneeded(Rule::FileLines, &paths));
    hold(&format!("a file has at most {FILE_LINES_MAX} lines"), &faults);
}

#[test]
fn no_function_is_too_long() {
    let mut seen = 0;
    let mut faults = Vec::new();
    for file in rust_files() {
        for function in functions(&file.rust.code) {
            seen += 1;
            if function.lines > FUNCTION_LINES_MAX {
                let (name, line, lines) = (function.name, function.line, function.lines);
                faults.push(format!("{}:{line}: `{name}` has {lines} lines", file.path));
            }
        }
    }
    assert!(seen > 100, "only {seen} functions were found");
    hold(&format!("a function has at most {FUNCTION_LINES_MAX} lines"), &faults);
}

#[test]
fn no_file_is_too_large() {
    let faults: Vec<String> = files()
        .iter()
        .filter(|it| it.bytes > FILE_BYTES_MAX && !MADE_FILES.contains(&it.path.as_str()))
        .map(|it| format!("{}: {} bytes", it.path, it.bytes))
        .collect();
    hold(&format!("a file in git has at most {FILE_BYTES_MAX} bytes"), &faults);
}
