//! The simulated world: a clock that steps, also back, and ids made from the seed.

use std::sync::{Arc, Mutex};

use sess_daemon::world::World;
use sess_protocol::time::Timestamp;
use tokio::time::Instant;

use crate::dice::Dice;
use crate::trace::Trace;

/// Of a thousand looks at the clock, how many find that somebody has set it.
const SET_PERMILLE: u64 = 8;
/// How far the clock is set, at most, to either side.
const SET_MS: u64 = 7_200_000;
/// When the simulation begins, in Unix ms.
const BEGIN_MS: i64 = 1_800_000_000_000;

/// The world of one life of the daemon.
#[derive(Debug)]
pub(crate) struct SimWorld {
    state: Mutex<State>,
    trace: Arc<Trace>,
    began: Instant,
    /// Simulated time before this life.
    before_ms: u64,
    process: u32,
}

#[derive(Debug)]
struct State {
    dice: Dice,
    set_ms: i64,
    ordered: u128,
}

impl SimWorld {
    /// A world in which so much time has passed before. To be made inside of the runtime.
    pub(crate) fn new(dice: Dice, trace: Arc<Trace>, before_ms: u64, process: u32) -> Arc<Self> {
        let state = State { dice, set_ms: 0, ordered: 0 };
        Arc::new(Self {
            state: Mutex::new(state),
            trace,
            began: Instant::now(),
            before_ms,
            process,
        })
    }

    /// Simulated milliseconds since the beginning of all; the trace gets to know it.
    pub(crate) fn elapsed_ms(&self) -> u64 {
        let passed = u64::try_from(self.began.elapsed().as_millis()).expect("a short simulation");
        let now_ms = self.before_ms + passed;
        self.trace.clock(now_ms);
        now_ms
    }
}

impl World for SimWorld {
    fn now(&self) -> Timestamp {
        let elapsed = i64::try_from(self.elapsed_ms()).expect("a short simulation");
        let mut state = self.state.lock().expect("nobody panics while holding the world");
        if state.dice.below(1000) < SET_PERMILLE {
            let far = i64::try_from(state.dice.below(2 * SET_MS)).expect("a small number");
            state.set_ms = far - i64::try_from(SET_MS).expect("a small number");
        }
        Timestamp(BEGIN_MS + elapsed + state.set_ms)
    }

    fn random(&self) -> u128 {
        let mut state = self.state.lock().expect("nobody panics while holding the world");
        let (high, low) = (state.dice.roll(), state.dice.roll());
        u128::from(high) << 64 | u128::from(low) | 1
    }

    fn ordered(&self) -> u128 {
        let now = self.now().0;
        let mut state = self.state.lock().expect("nobody panics while holding the world");
        let noise = u128::from(state.dice.roll() >> 1);
        // Grows within a process whatever the clock does; another process begins where its clock is.
        let by_clock = u128::try_from(now).expect("after 1970") << 80 | noise;
        state.ordered = by_clock.max(state.ordered + 1 + noise);
        state.ordered
    }

    fn process(&self) -> u32 {
        self.process
    }
}
