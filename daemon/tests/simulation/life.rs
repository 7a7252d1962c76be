//! One seed: the daemon lives, is killed or stopped, and lives again, until all is calm.

use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sess_daemon::documents::Documents;
use sess_daemon::model::providers::Providers;
use sess_daemon::server::router::Router;
use sess_daemon::session::recovery;
use sess_daemon::shared::Shared;
use sess_daemon::store::Store;
use sess_daemon::store::memory::{Fault, FaultPlan, MemoryStore};
use tokio_util::sync::CancellationToken;

use crate::acts;
use crate::client::{Person, Site};
use crate::dice::Dice;
use crate::model::Player;
use crate::oracle::Oracle;
use crate::store::Watched;
use crate::trace::Trace;
use crate::world::SimWorld;

/// How long all queues may take to empty once nothing goes wrong any more, simulated.
const CALM_MAX: Duration = Duration::from_secs(3600);
/// How long a planned stop may take, simulated: the drain, sessions, clients.
const STOP_MAX: Duration = Duration::from_secs(20);
/// Lives that a daemon may need when it dies while it starts.
const LIVES_MAX: u64 = 40;

/// How one life ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Killed,
    StoreFailed,
    Stopped,
    Calm,
}

/// One seed at work.
pub(crate) struct Simulation {
    seed: u64,
    dice: Dice,
    trace: Arc<Trace>,
    oracle: Arc<Oracle>,
    documents: Documents,
    people: Vec<Arc<Mutex<Person>>>,
    connections: Arc<AtomicU64>,
    slots: usize,
}

fn plan(dice: &mut Dice) -> FaultPlan {
    let mut plan = FaultPlan {
        yields_max: u32::try_from(dice.below(7)).expect("a small number"),
        ..FaultPlan::default()
    };
    if dice.percent(30) {
        return plan;
    }
    let mut rate = |most: u64| u32::try_from(dice.below(most + 1)).expect("a small number");
    (plan.unavailable_permille, plan.unknown_permille) = (rate(60), rate(6));
    plan.key_taken_permille = rate(20);
    if dice.percent(40) {
        // The disk is full for a while.
        let first = dice.below(150);
        let last = first + dice.below(40);
        plan.at = (first..last).map(|nth| (nth, Fault::Unavailable)).collect();
    }
    plan
}

impl Simulation {
    /// The simulation of a seed.
    pub(crate) fn new(seed: u64, trace: Arc<Trace>, documents: Documents) -> Self {
        let mut dice = Dice::new(seed);
        let count = 1 + usize::try_from(dice.below(6)).expect("a small number");
        let person = |no| Arc::new(Mutex::new(Person::new(no, dice.split())));
        let people = (0..count).map(person).collect();
        let slots = 1 + usize::try_from(dice.below(4)).expect("a small number");
        let oracle = Oracle::new(seed, Arc::clone(&trace));
        let connections = Arc::new(AtomicU64::new(1));
        Self { seed, dice, trace, oracle, documents, people, connections, slots }
    }

    /// Runs it to its end; what is wrong is in the trace.
    pub(crate) fn run(mut self) {
        let plan = plan(&mut self.dice);
        let mut store = Arc::new(MemoryStore::with_faults(self.seed, plan));
        let wild = 1 + self.dice.below(4);
        for life in 0..LIVES_MAX {
            let calm = life >= wild;
            let end = self.live(life, &store, calm);
            self.trace.say(&format!("life {life} ends: {end:?}"));
            self.oracle.life_ended();
            let people = self.people.iter();
            people.for_each(|it| it.lock().unwrap_or_else(PoisonError::into_inner).lost());
            if self.trace.finding().is_some() {
                return;
            }
            let next = store.reopen();
            store = Arc::new(if life + 1 >= wild { next.mended() } else { next });
            if end == End::Calm {
                return self.compare(&store);
            }
        }
        self.trace.broken("the daemon does not come to live in a calm");
    }

    fn runtime() -> tokio::runtime::Runtime {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().start_paused(true).build().expect("a runtime without I/O")
    }

    fn compare(&self, store: &Arc<MemoryStore>) {
        let compared = Self::runtime().block_on(self.oracle.compare(&**store));
        if let Err(err) = compared {
            self.trace.broken(&format!("at the end: {err}"));
        }
    }

    fn live(&mut self, life: u64, store: &Arc<MemoryStore>, calm: bool) -> End {
        let runtime = Self::runtime();
        let end = runtime.block_on(self.one_life(life, store, calm));
        // All that is under way is forgotten before the jobs are: none of them says a last word.
        store.crash();
        drop(runtime);
        end
    }

    async fn one_life(&mut self, life: u64, store: &Arc<MemoryStore>, calm: bool) -> End {
        let process = u32::try_from(1000 + life).expect("few lives");
        let before_ms = self.trace.now_ms() + self.dice.below(5_000);
        let world = SimWorld::new(self.dice.split(), Arc::clone(&self.trace), before_ms, process);
        world.elapsed_ms();
        if self.oracle.compare(&**store).await.is_err() {
            return End::StoreFailed;
        }
        let kill_at = if calm || self.dice.percent(35) { 0 } else { 1 + self.dice.below(900) };
        let stop_after = Duration::from_millis(if calm { 0 } else { self.dice.below(60_000) });
        let watched = Arc::new(Watched {
            store: Arc::clone(store),
            oracle: Arc::clone(&self.oracle),
            trace: Arc::clone(&self.trace),
            world: Arc::clone(&world),
            failed: CancellationToken::new(),
            killed: CancellationToken::new(),
            kill_at,
            calls: AtomicU64::new(0),
        });
        let shared = self.shared(&watched, &world);
        let done = CancellationToken::new();
        let stop = tokio::time::sleep(stop_after);
        let killed = watched.killed.clone();
        let trace = Arc::clone(&self.trace);
        let going = async {
            if !self.start(&shared, &world, calm, &done).await {
                return End::StoreFailed;
            }
            if calm {
                return self.until_calm(&shared, &world, &done, &*watched).await;
            }
            tokio::select! {
                biased;
                () = watched.failed() => {
                    shared.stop.finish();
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    End::StoreFailed
                }
                () = stop => self.stop(&shared, &*watched, &world, false).await,
            }
        };
        tokio::select! {
            biased;
            () = trace.until_broken() => End::Killed,
            () = killed.cancelled() => End::Killed,
            end = going => end,
        }
    }

    fn shared(&self, store: &Arc<Watched>, world: &Arc<SimWorld>) -> Arc<Shared> {
        let player = Player { seed: self.seed, oracle: Arc::clone(&self.oracle) };
        let models = Providers::new(Default::default(), Arc::new(|_| None));
        let models = models.and("sim", Arc::new(player));
        let store: Arc<dyn Store> = Arc::clone(store) as _;
        let shared = Shared::new(store, Arc::clone(world) as _, models);
        shared.slots.set_max(self.slots);
        *shared.default_model.lock().expect("nobody panics here") = Some("sim/player".to_owned());
        shared
    }

    /// Starts as the daemon does, and then its clients. Answers whether it came so far.
    async fn start(
        &mut self,
        shared: &Arc<Shared>,
        world: &Arc<SimWorld>,
        calm: bool,
        done: &CancellationToken,
    ) -> bool {
        let Ok(waiting) = recovery::settle_all(shared).await else { return false };
        let running = self.oracle.tasks(&["running"]);
        if running > 0 {
            self.trace.broken(&format!("{running} tasks run after a start"));
        }
        let router = Router::new(Arc::clone(shared), self.documents.clone());
        let left = Arc::new(AtomicUsize::new(self.people.len()));
        for person in &self.people {
            let site = Site {
                router: router.clone(),
                oracle: Arc::clone(&self.oracle),
                trace: Arc::clone(&self.trace),
                world: Arc::clone(world),
                connections: Arc::clone(&self.connections),
                calm,
                done: done.clone(),
            };
            let acts = if calm { 3 + self.dice.below(6) } else { 5 + self.dice.below(22) };
            tokio::spawn(acts::live(Arc::clone(person), site, acts, Arc::clone(&left)));
        }
        recovery::set_going(shared, waiting).await;
        true
    }

    /// Nothing goes wrong any more: everything must come to its end.
    async fn until_calm(
        &self,
        shared: &Arc<Shared>,
        world: &SimWorld,
        done: &CancellationToken,
        store: &dyn Store,
    ) -> End {
        let mut quiet = 0;
        let until = tokio::time::Instant::now() + CALM_MAX;
        while quiet < 10 {
            if tokio::time::Instant::now() > until {
                let left = self.oracle.tasks(&["queued", "running"]);
                self.trace.broken(&format!("in a calm, {left} tasks come to no end"));
                return End::Killed;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            world.elapsed_ms();
            let busy = !done.is_cancelled() || self.oracle.tasks(&["queued", "running"]) > 0;
            quiet = if busy { 0 } else { quiet + 1 };
        }
        self.oracle.look_at_locks();
        for person in &self.people {
            let person = person.lock().expect("nobody panics while holding a person");
            for follower in person.follows.values() {
                let wrong = if follower.active {
                    follower.check_end(&self.oracle)
                } else {
                    Err("a follow has no answer".to_owned())
                };
                if let Err(wrong) = wrong {
                    self.trace
                        .broken(&format!("client {}: {}: {wrong}", person.no, follower.session));
                }
            }
        }
        self.stop(shared, store, world, true).await
    }

    /// Stops as planned.
    async fn stop(
        &self,
        shared: &Arc<Shared>,
        store: &dyn Store,
        world: &SimWorld,
        calm: bool,
    ) -> End {
        world.elapsed_ms();
        self.trace.say("a planned stop");
        let stopping = sess_daemon::stop(shared, store);
        tokio::select! {
            biased;
            // A store that cannot be closed has failed before, or lost nothing.
            _ = stopping => {}
            () = store.failed() => return End::StoreFailed,
            () = tokio::time::sleep(STOP_MAX) => self.trace.broken("a planned stop has no end"),
        }
        world.elapsed_ms();
        if calm && self.oracle.tasks(&["running", "queued"]) > 0 {
            self.trace.broken("tasks are left after a stop in a calm");
        }
        if calm { End::Calm } else { End::Stopped }
    }
}
