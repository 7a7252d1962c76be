//! What happened, step by step: its hash, its last lines, and what was found wrong.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};

use tokio::sync::Notify;

/// Lines that are printed with a failure.
const LAST_LINES: usize = 50;
/// Bytes of a line that are printed; the hash takes in all of it.
const SHOWN_BYTES: usize = 600;
/// Questions to the store in one moment of simulated time: more is a loop that never waits.
const CALLS_AT_ONCE_MAX: u32 = 3_000;

/// The trace of one seed.
#[derive(Debug)]
pub(crate) struct Trace {
    state: Mutex<State>,
    verbose: bool,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    hash: u64,
    lines: u64,
    last: VecDeque<String>,
    broken: Option<String>,
    /// A moment of simulated time, and the questions to the store in it.
    calls: (u64, u32),
    now_ms: u64,
}

impl Trace {
    /// An empty trace; a verbose one prints every line.
    pub(crate) fn new(verbose: bool) -> Self {
        let state = State {
            hash: 0xcbf2_9ce4_8422_2325,
            lines: 0,
            last: VecDeque::new(),
            broken: None,
            calls: (0, 0),
            now_ms: 0,
        };
        Self { state: Mutex::new(state), verbose, changed: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while holding the trace")
    }

    /// Takes in a step.
    pub(crate) fn say(&self, line: &str) {
        let mut state = self.state();
        let now_ms = state.now_ms;
        for byte in now_ms.to_le_bytes().iter().chain(line.as_bytes()) {
            state.hash = (state.hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        state.lines += 1;
        let end = line.floor_char_boundary(SHOWN_BYTES);
        let shown = format!("{:>9} {}", now_ms, line[..end].trim_end());
        if self.verbose {
            eprintln!("{shown}");
        }
        if state.last.len() == LAST_LINES {
            state.last.pop_front();
        }
        state.last.push_back(shown);
    }

    /// Notes what simulated time it is, in milliseconds.
    pub(crate) fn clock(&self, now_ms: u64) {
        self.state().now_ms = now_ms;
    }

    /// What simulated time it is, in milliseconds.
    pub(crate) fn now_ms(&self) -> u64 {
        self.state().now_ms
    }

    /// Notes that something is wrong: the first finding counts.
    pub(crate) fn broken(&self, what: &str) {
        self.say(&format!("BROKEN {what}"));
        self.state().broken.get_or_insert(what.to_owned());
        self.changed.notify_one();
    }

    /// What is wrong.
    pub(crate) fn finding(&self) -> Option<String> {
        self.state().broken.clone()
    }

    /// Waits until something is wrong.
    pub(crate) async fn until_broken(&self) {
        while self.finding().is_none() {
            self.changed.notified().await;
        }
    }

    /// Counts a question to the store.
    pub(crate) fn asked_store(&self) {
        let mut state = self.state();
        let now_ms = state.now_ms;
        state.calls =
            if state.calls.0 == now_ms { (now_ms, state.calls.1 + 1) } else { (now_ms, 1) };
        let spins = state.calls.1 == CALLS_AT_ONCE_MAX;
        drop(state);
        if spins {
            self.broken("something asks the store without end and without any wait");
        }
    }

    /// The hash of all lines, and how many there are.
    pub(crate) fn hash(&self) -> (u64, u64) {
        let state = self.state();
        (state.hash, state.lines)
    }

    /// The last lines.
    pub(crate) fn last(&self) -> Vec<String> {
        self.state().last.iter().cloned().collect()
    }
}
