//! Does each kind of work stay in its one place: SQL, processes, HTTP, lines, jobs, waits?

use crate::hold;
use crate::repository::{RustFile, rust_files};
use crate::rust::{line_of, places_of};

/// A kind of work, what shows it, and where it may be done.
struct Layer {
    rule: &'static str,
    /// Words of code that show it.
    words: &'static [&'static str],
    /// What such a string begins with.
    strings: &'static [&'static str],
    /// The files or folders that may.
    homes: &'static [&'static str],
}

/// What holds for all that `sessd` is built from.
const DAEMON: &[Layer] = &[
    Layer {
        rule: "SQL is said only in daemon/src/store/",
        words: &["rusqlite"],
        strings: &[
            "SELECT ",
            "INSERT ",
            "UPDATE ",
            "DELETE FROM",
            "CREATE TABLE",
            "CREATE INDEX",
            "CREATE UNIQUE",
            "CREATE VIEW",
            "ALTER TABLE",
            "DROP ",
            "PRAGMA ",
            "BEGIN",
            "COMMIT",
            "ROLLBACK",
            "SAVEPOINT",
            "VACUUM",
            "WITH RECURSIVE",
            "REPLACE INTO",
        ],
        homes: &["daemon/src/store/"],
    },
    Layer {
        rule: "processes are started only in daemon/src/tools/process.rs, but for a passphrase and a successor",
        words: &[
            "Command::new",
            "process::Command",
            "tokio::process",
            "unistd::fork",
            "unistd::execv",
            "posix_spawn",
        ],
        strings: &[],
        homes: &[
            "daemon/src/tools/process.rs",
            "daemon/src/documents/passphrase.rs",
            "daemon/src/handover.rs",
        ],
    },
    Layer {
        rule: "HTTP is spoken only in daemon/src/model/ and daemon/src/tools/mcp.rs",
        words: &["reqwest", "hyper"],
        strings: &[],
        homes: &["daemon/src/model/", "daemon/src/tools/mcp.rs"],
    },
    Layer {
        rule: "lines are decoded only by a connection",
        words: &["line::decode", "use sess_protocol::line::decode"],
        strings: &[],
        homes: &["daemon/src/server/connection.rs", "daemon/src/server/connection/"],
    },
    Layer {
        rule: "a job runs on a tracker, so that somebody waits for its end",
        words: &["tokio::spawn", "task::spawn", "spawn_local", "handle.spawn", "runtime.spawn"],
        strings: &[],
        homes: &[],
    },
];

/// The deciding half of a session: pure, so that its tests need neither clock nor disk.
const PURE: &[&str] = &[
    "daemon/src/session/state.rs",
    "daemon/src/session/queue.rs",
    "daemon/src/session/members.rs",
];
/// What a pure file does not name.
const IMPURE: &[&str] = &[
    "tokio",
    "async",
    "await",
    "std::fs",
    "fs",
    "std::net",
    "std::thread",
    "SystemTime",
    "Instant",
];

/// What makes a queue without a limit.
const UNBOUNDED: &[&str] = &[
    "unbounded_channel",
    "unbounded",
    "UnboundedSender",
    "UnboundedReceiver",
    "mpsc::channel()",
    "std::sync::mpsc::channel",
    "std::sync::mpsc::Sender",
];

impl Layer {
    /// Every place of `file` where this work is done although the file is not its home.
    fn faults(&self, file: &RustFile) -> Vec<String> {
        if self.homes.iter().any(|it| file.path.starts_with(it)) {
            return Vec::new();
        }
        let mut faults = naming(file, &file.rust.shipped(), self.words);
        for (line, text) in (1..).zip(file.rust.strings.lines()) {
            // Between two strings there are at least their quotes, which are blank here.
            let begins = |with: &str| text.split("  ").any(|it| it.trim_start().starts_with(with));
            let said = self.strings.iter().filter(|it| begins(it));
            faults.extend(said.map(|it| format!("{}:{line}: \"{it}\"", file.path)));
        }
        faults
    }
}

/// Every place of the code of `file` that names one of the words.
fn naming(file: &RustFile, code: &str, words: &[&str]) -> Vec<String> {
    let joined = without_turbofish(code);
    let place = |word: &str, at: usize| format!("{}:{}: `{word}`", file.path, line_of(&joined, at));
    let of = |word: &&str| -> Vec<String> {
        let mut found: Vec<String> = places_of(&joined, word).map(|at| place(word, at)).collect();
        found.extend(places_of_import(&joined, word).map(|at| place(word, at)));
        found
    };
    words.iter().flat_map(of).collect()
}

/// The same code with each `::<..>` blank and moved behind what follows, so that a path is one word.
fn without_turbofish(code: &str) -> String {
    let mut rest = code;
    let mut joined = String::with_capacity(code.len());
    while let Some(at) = rest.find("::<") {
        joined.push_str(&rest[..at]);
        let mut depth = 0_usize;
        let end = rest[at..].bytes().position(|it| {
            depth = match it {
                b'<' => depth + 1,
                b'>' => depth.saturating_sub(1),
                _ => depth,
            };
            it == b'>' && depth == 0
        });
        rest = end.map_or("", |it| &rest[at + it + 1..]);
    }
    joined + rest
}

/// Where a path of two parts is imported as `first::{.., second, ..}`.
fn places_of_import<'a>(code: &'a str, path: &str) -> impl Iterator<Item = usize> + 'a {
    let (first, second) = path.rsplit_once("::").unwrap_or(("", ""));
    let second = second.trim_end_matches("()").to_owned();
    let group = format!("{}::{{", first);
    let starts: Vec<usize> = match first {
        "" => Vec::new(),
        _ => code.match_indices(&group).map(|(at, _)| at + group.len()).collect(),
    };
    starts.into_iter().filter(move |at| {
        let inside = code[*at..].split(['}', ';']).next().unwrap_or_default();
        inside.split(',').any(|it| it.trim() == second)
    })
}

fn daemon() -> impl Iterator<Item = &'static RustFile> {
    rust_files().iter().filter(|it| it.path.starts_with("daemon/src/") && !it.is_test())
}

#[test]
fn each_kind_of_work_has_its_one_home() {
    let of = |layer: &'static Layer| {
        let faults = daemon().flat_map(|it| layer.faults(it));
        faults.map(|it| format!("{it}, but {}", layer.rule))
    };
    let faults: Vec<String> = DAEMON.iter().flat_map(of).collect();
    hold("each kind of work has its one home", &faults);
}

#[test]
fn what_decides_is_pure() {
    let mut faults = Vec::new();
    for path in PURE {
        let file = rust_files().iter().find(|it| it.path == *path);
        let file = file.unwrap_or_else(|| panic!("{path} is gone: say here where it went"));
        faults.extend(naming(file, &file.rust.code, IMPURE));
    }
    hold("what decides has no job, no clock and no disk", &faults);
}

#[test]
fn every_queue_has_a_limit() {
    let faults: Vec<String> =
        rust_files().iter().flat_map(|it| naming(it, &it.rust.code, UNBOUNDED)).collect();
    hold("a queue has a limit", &faults);
}

#[test]
fn each_rule_sees_its_break() {
    let faults = |path: &str, text: &str| -> Vec<&str> {
        let rust = crate::rust::Rust::read(text);
        let file = RustFile { path: path.to_owned(), text: text.to_owned(), rust };
        DAEMON.iter().filter(|it| !it.faults(&file).is_empty()).map(|it| it.rule).collect()
    };
    for (layer, broken) in DAEMON.iter().zip([
        "fn a() { sql(\"x\", \"SELECT 1\") }",
        "use std::process::{self, Command};",
        "fn a(it: reqwest::Client) {}",
        "use sess_protocol::line::{LINE_BYTES_MAX, decode};",
        "fn a() { tokio::spawn(b()); }",
    ]) {
        assert_eq!(faults("daemon/src/elsewhere.rs", broken), [layer.rule]);
        for home in layer.homes {
            assert!(faults(home, broken).is_empty(), "{home}");
        }
        let tested = format!("#[cfg(test)]\nmod tests {{ {broken} }}");
        let only_said = faults("daemon/src/elsewhere.rs", &format!("// {broken}\n"));
        assert!(
            only_said.is_empty()
                && (broken.contains('"') || faults("daemon/src/x.rs", &tested).is_empty())
        );
    }
    assert!(
        faults("daemon/src/x.rs", "fn a() { tracker.spawn(b()); std::process::exit(2) }")
            .is_empty()
    );
}

#[test]
fn a_queue_without_a_limit_is_seen() {
    for (text, count) in [
        ("let (a, b) = mpsc::channel::<Vec<u8>>();", 1),
        ("let (a, b) = mpsc::channel::<Vec<u8>>(8);", 0),
        ("use tokio::sync::mpsc::{self, unbounded_channel};", 1),
        ("let (a, b) = std::sync::mpsc::sync_channel(3);", 0),
    ] {
        let rust = crate::rust::Rust::read(text);
        let file = RustFile { path: "x.rs".to_owned(), text: text.to_owned(), rust };
        assert_eq!(naming(&file, &file.rust.code, UNBOUNDED).len(), count, "{text}");
    }
}
