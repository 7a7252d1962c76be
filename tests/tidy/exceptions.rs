//! Who need not keep which rule, and why?

/// One file that need not keep one rule.
pub(crate) struct Exception {
    /// The rule.
    pub(crate) rule: Rule,
    /// The file, from the root of the repository.
    pub(crate) path: &'static str,
    /// Why not.
    pub(crate) reason: &'static str,
}

/// A rule that knows exceptions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Rule {
    /// No file of Rust is longer than it should be.
    FileLines,
    /// No test waits for the clock.
    Sleep,
}

/// All of them.
pub(crate) const EXCEPTIONS: &[Exception] = &[
    Exception {
        rule: Rule::Sleep,
        path: "tests/src/stub/answer.rs",
        reason: "the scripted delay of the stub model is what is tested, not a wait for something",
    },
    Exception {
        rule: Rule::Sleep,
        path: "tests/durable/kills.rs",
        reason: "a client that finds no daemon can only look again: nobody tells it of the next one",
    },
    Exception {
        rule: Rule::Sleep,
        path: "tests/bounds/abuse.rs",
        reason: "a client that sends a byte a second, or reads nothing for a second, is what is tested",
    },
    Exception {
        rule: Rule::Sleep,
        path: "daemon/src/server/connection.rs",
        reason: "a client that reads a little each minute is what is tested, by a clock that only tests move",
    },
    Exception {
        rule: Rule::Sleep,
        path: "tests/benches/memory.rs",
        reason: "what a second without requests works is what is measured",
    },
    Exception {
        rule: Rule::Sleep,
        path: "tests/soak/world.rs",
        reason: "what hours do to a daemon is what is tested: its clients have a pace, and it has idle moments",
    },
    Exception {
        rule: Rule::Sleep,
        path: "daemon/tests/simulation/life.rs",
        reason: "the clock of the simulation stands still until all wait: a sleep is a step of it",
    },
    Exception {
        rule: Rule::Sleep,
        path: "daemon/tests/simulation/model.rs",
        reason: "the clock of the simulation stands still until all wait: a sleep is a step of it",
    },
];

/// Whether `path` need not keep `rule`.
pub(crate) fn is_excepted(rule: Rule, path: &str) -> bool {
    EXCEPTIONS.iter().any(|it| it.rule == rule && it.path == path)
}

/// The exceptions from `rule` that no file in `broken` needs.
pub(crate) fn unneeded(rule: Rule, broken: &[String]) -> Vec<String> {
    EXCEPTIONS
        .iter()
        .filter(|it| it.rule == rule && !broken.iter().any(|path| path == it.path))
        .map(|it| format!("{} is excepted from {rule:?} and keeps it ({})", it.path, it.reason))
        .collect()
}
