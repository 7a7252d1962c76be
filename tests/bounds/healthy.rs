//! What does one who does nothing wrong feel of what others do?

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sess_tests::figures::figure;
use sess_tests::harness::{Daemon, Wire};

/// How much longer the slow ones of the turns may take.
const RATIO_MAX: f64 = 1.5;
/// Turns of a quiet round, and the most of one amid an abuse.
const TURNS: usize = 150;

/// A client that goes on with its turns.
pub(crate) struct Healthy {
    wire: Wire,
    session: String,
    quiet: Vec<Duration>,
    amid: Vec<Duration>,
}

impl Healthy {
    /// One with a session of its own, whose model is the built-in echo.
    pub(crate) async fn new(daemon: &Daemon) -> Healthy {
        let mut wire = daemon.wire().await;
        let session = wire.session().await;
        let mut healthy = Healthy { wire, session, quiet: Vec::new(), amid: Vec::new() };
        for _ in 0..TURNS / 3 {
            healthy.turn().await;
        }
        healthy
    }

    async fn turn(&mut self) -> Duration {
        let began = Instant::now();
        let done = self.wire.turn(&self.session, "how are you").await;
        assert_eq!(done["task"]["status"], "completed");
        began.elapsed()
    }

    /// Turns while nobody does anything.
    pub(crate) async fn rest(&mut self) {
        for _ in 0..TURNS {
            let took = self.turn().await;
            self.quiet.push(took);
        }
    }

    /// Turns while a thread does what it does, and at least one behind its end.
    pub(crate) async fn beside<T>(&mut self, abuse: JoinHandle<T>) -> T {
        loop {
            let over = abuse.is_finished();
            let took = self.turn().await;
            self.amid.push(took);
            if over {
                return abuse.join().expect("what it was answered is right");
            }
        }
    }

    /// Says both figures, and holds them together: by their ratio, or where that is less, by so much time.
    pub(crate) fn judge(mut self, what: &str, slack: Duration) {
        let (quiet, amid) = (p99(&mut self.quiet), p99(&mut self.amid));
        let ratio = amid.as_secs_f64() / quiet.as_secs_f64();
        let shown = format!("{ratio:.2} ({quiet:.1?} -> {amid:.1?})");
        let turns = format!("{} turns quiet, {} amid", self.quiet.len(), self.amid.len());
        figure("R13", &format!("a healthy client's p99, amid and before: {what}"), shown, turns);
        let most = quiet.mul_f64(RATIO_MAX).max(quiet + slack);
        assert!(amid <= most, "{what}: p99 {amid:?} amid it, {quiet:?} without");
    }
}

/// What one of a hundred takes at least.
pub(crate) fn p99(all: &mut [Duration]) -> Duration {
    all.sort_unstable();
    all[(all.len() * 99 / 100).min(all.len() - 1)]
}
