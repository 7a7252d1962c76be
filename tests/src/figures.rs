//! What was measured of a promise, and how large is a test?

use std::fmt::Display;
use std::io::Write;
use std::path::PathBuf;

/// How often, how many, how long: the first for each change of the program, the second for `tests/long`,
/// which takes hours (`SESS_LONG`).
#[must_use]
pub fn rounds(each_change: u64, long: u64) -> u64 {
    if std::env::var_os("SESS_LONG").is_some() { long } else { each_change }
}

/// How much longer the tests with [`sized`] numbers are in `tests/long`.
const LONG_TIMES: usize = 20;

/// A number at full size; many times that with `SESS_LONG`, and a tenth with `SESS_TENTH`, as when the tests
/// themselves are tested.
#[must_use]
pub fn sized(full: usize) -> usize {
    if std::env::var_os("SESS_TENTH").is_some() {
        return full.div_ceil(10);
    }
    if std::env::var_os("SESS_LONG").is_some() { LONG_TIMES * full } else { full }
}

/// Says a figure, for `RELIABILITY.md`: of which promise (`R16`), what was counted, the value, and out of how many.
/// It goes to standard output, and as a line of JSON to `figures.jsonl` in the folder of the build.
///
/// # Panics
/// When it cannot be written.
pub fn figure(promise: &str, what: &str, value: impl Display, of: impl Display) {
    println!("FIGURE {promise} {what}: {value} of {of}");
    let line = serde_json::json!({
        "promise": promise, "what": what, "value": value.to_string(), "of": of.to_string(),
        "long": std::env::var_os("SESS_LONG").is_some(),
        "at": sess_protocol::time::Timestamp::now(),
    });
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let path =
        target.unwrap_or_else(|| crate::bins::workspace().join("target")).join("figures.jsonl");
    let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
    // One write a line, since several suites may say figures at once.
    let written = file.and_then(|mut it| it.write_all(format!("{line}\n").as_bytes()));
    written.expect("the folder of the build can be written");
}
