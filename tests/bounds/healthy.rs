//! What does one who does nothing wrong feel of what others do?

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
    burdened: Vec<Duration>,
    amid: Vec<Duration>,
}

/// Threads that take all the time of processors that they can get, and have nothing to do with the daemon.
struct Burden {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Burden {
    fn of(threads: usize) -> Burden {
        let is_over = Arc::new(AtomicBool::new(false));
        let spin = |over: Arc<AtomicBool>| {
            move || {
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            }
        };
        let threads = (0..threads).map(|_| std::thread::spawn(spin(Arc::clone(&is_over))));
        let threads = threads.collect();
        Burden { is_over, threads }
    }
}

impl Drop for Burden {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("it only counts");
        }
    }
}

impl Healthy {
    /// One with a session of its own, whose model is the built-in echo.
    pub(crate) async fn new(daemon: &Daemon) -> Healthy {
        let mut wire = daemon.wire().await;
        let session = wire.session().await;
        let mut healthy =
            Healthy { wire, session, quiet: Vec::new(), burdened: Vec::new(), amid: Vec::new() };
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

    /// Turns while so many others use the processors as much as an abuse does, and leave the daemon alone: what these
    /// take longer is the kernel's to share out.
    pub(crate) async fn burdened(&mut self, threads: usize) {
        let _burden = Burden::of(threads);
        for _ in 0..TURNS {
            let took = self.turn().await;
            self.burdened.push(took);
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

    /// Says what the turns amid an abuse took beside the quiet ones, and beside those with as much to do for the
    /// processors; holds it against the longer of the two.
    pub(crate) fn judge(mut self, what: &str) {
        let turns = format!("{} turns quiet, {} amid", self.quiet.len(), self.amid.len());
        let (quiet, amid) = (p99(&mut self.quiet), p99(&mut self.amid));
        let mut most = quiet;
        let ratio = |of: Duration| amid.as_secs_f64() / of.as_secs_f64();
        let mut shown = format!("{:.2} ({quiet:.1?} -> {amid:.1?})", ratio(quiet));
        if !self.burdened.is_empty() {
            let burdened = p99(&mut self.burdened);
            shown += &format!(", {:.2} of {burdened:.1?} beside other work", ratio(burdened));
            most = most.max(burdened);
        }
        figure("R13", &format!("a healthy client's p99, amid and before: {what}"), shown, turns);
        assert!(amid <= most.mul_f64(RATIO_MAX), "{what}: p99 {amid:?} amid it, {most:?} without");
    }
}

/// What one of a hundred takes at least.
pub(crate) fn p99(all: &mut [Duration]) -> Duration {
    all.sort_unstable();
    all[(all.len() * 99 / 100).min(all.len() - 1)]
}
