//! A store without a disk, for simulation: the same answers as any other, and faults by a plan.
//!
//! It is the oracle of the others: all that is not a log is folded from the logs at each question.
//! It has no clock and no randomness but the seed that it is given, so one seed gives one course of
//! things on a runtime of one thread.

mod content;
mod faults;
mod queries;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use serde_json::value::RawValue;
use sess_protocol::id::{MessageId, SessionId, TaskId};
use sess_protocol::methods::SessionUsageResult;
use sess_protocol::time::Timestamp;
use sess_protocol::view::Members;

use super::{
    Answer, Commit, Counts, Hash, ImportSource, KeptKey, KeyRecord, Loaded, MessagePage, Messages,
    PartialPiece, Place, SessionFilter, Store, StoreError, StoredCommit, StoredEvent, TaskFilter,
    UsageFilter,
};
use content::Content;
pub(crate) use faults::Dice;
pub use faults::{Fault, FaultPlan};

/// Writes that wait to be stored; further ones are refused.
const WRITES_WAITING_MAX: usize = 4096;

/// A store in memory.
#[derive(Debug)]
pub struct MemoryStore {
    history: String,
    plan: FaultPlan,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// What survives a crash.
    content: Content,
    /// What was handed in and is not stored yet, in order. A crash forgets it.
    waiting: VecDeque<Waiting>,
    dice: Dice,
    /// Writes ever handed in.
    writes: u64,
    /// Commits ever tried.
    commits: u64,
    /// Crashes and restarts so far. What was asked before the last one gets no real answer.
    life: u64,
    health: Health,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    Well,
    Dead,
    Closed,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    write: Write,
    fate: Fate,
}

/// What became of a write, for the one who waits for it.
type Fate = Arc<OnceLock<Result<(), StoreError>>>;

#[derive(Debug)]
enum Write {
    Commit(Arc<Commit>),
    Partial(PartialPiece),
    Key(SessionId, KeptKey),
    Import(SessionId, Arc<dyn ImportSource>, Option<KeptKey>),
}

/// A write on its way.
struct Ticket {
    number: u64,
    life: u64,
    fate: Fate,
    yields: [u64; 2],
}

fn unknown() -> StoreError {
    StoreError::Unknown("the store ended before it answered".to_owned())
}

fn unavailable(why: &str) -> StoreError {
    StoreError::Unavailable(why.to_owned())
}

async fn pause(yields: u64) {
    for _ in 0..yields {
        tokio::task::yield_now().await;
    }
}

impl MemoryStore {
    /// An empty store that never fails. Its history is made from the seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with_faults(seed, FaultPlan::default())
    }

    /// An empty store in which things go wrong as planned.
    #[must_use]
    pub fn with_faults(seed: u64, plan: FaultPlan) -> Self {
        let mut dice = Dice::new(seed);
        let history = format!("{:016x}", dice.roll());
        let state = State {
            content: Content::default(),
            waiting: VecDeque::new(),
            dice,
            writes: 0,
            commits: 0,
            life: 0,
            health: Health::Well,
        };
        Self { history, plan, state: Mutex::new(state) }
    }

    /// Ends as by a kill: what was handed in and is not stored is forgotten, what was stored stays
    /// whether it was answered or not, and nothing is answered any more but `Unknown`.
    pub fn crash(&self) {
        self.state().end(Health::Dead);
    }

    /// Goes on after a crash or after a commit whose outcome is unknown, with what is durable.
    pub fn restart(&self) {
        self.state().end(Health::Well);
    }

    /// Another store with what is durable in this one, as a new process would find it. The plan's
    /// count of commits and the dice go on.
    #[must_use]
    pub fn reopen(&self) -> Self {
        let state = self.state();
        let state = State {
            content: state.content.clone(),
            waiting: VecDeque::new(),
            dice: state.dice.clone(),
            health: Health::Well,
            ..*state
        };
        let (history, plan) = (self.history.clone(), self.plan.clone());
        Self { history, plan, state: Mutex::new(state) }
    }

    /// The same store, in which nothing goes wrong from here on.
    #[must_use]
    pub fn mended(mut self) -> Self {
        let yields_max = self.plan.yields_max;
        self.plan = FaultPlan { yields_max, ..FaultPlan::default() };
        self
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while holding the store's state")
    }

    /// Takes a write in at once, so that writes are stored in the order of the calls, then lets
    /// others go first as planned before and after it is stored. It is stored also when nobody
    /// waits for the answer any more: then together with the next.
    fn write(&self, write: Write) -> Answer<'_, ()> {
        let taken = self.state().take_in(write, self.plan.yields_max);
        Box::pin(async move {
            let ticket = taken?;
            pause(ticket.yields[0]).await;
            self.state().settle(ticket.number, &self.plan);
            pause(ticket.yields[1]).await;
            if self.state().life != ticket.life {
                return Err(unknown());
            }
            ticket.fate.get().cloned().unwrap_or_else(|| Err(unknown()))
        })
    }

    fn read<'a, T, A>(&'a self, ask: A) -> Answer<'a, T>
    where
        T: Send + 'a,
        A: FnOnce(&Content) -> T + Send + 'a,
    {
        let mut state = self.state();
        let (yields, life) = (state.yields(self.plan.yields_max), state.life);
        drop(state);
        Box::pin(async move {
            pause(yields).await;
            let state = self.state();
            state.check()?;
            if state.life != life {
                return Err(unknown());
            }
            Ok(ask(&state.content))
        })
    }
}

impl State {
    fn check(&self) -> Result<(), StoreError> {
        match self.health {
            Health::Well => Ok(()),
            Health::Dead => Err(unknown()),
            Health::Closed => Err(unavailable("the store is closed")),
        }
    }

    fn yields(&mut self, most: u32) -> u64 {
        self.dice.below(u64::from(most) + 1)
    }

    fn take_in(&mut self, write: Write, yields_max: u32) -> Result<Ticket, StoreError> {
        let yields = [self.yields(yields_max), self.yields(yields_max)];
        self.check()?;
        if self.waiting.len() >= WRITES_WAITING_MAX {
            return Err(unavailable("too many writes wait to be stored"));
        }
        self.writes += 1;
        let (number, life, fate) = (self.writes, self.life, Fate::default());
        self.waiting.push_back(Waiting { number, write, fate: Arc::clone(&fate) });
        Ok(Ticket { number, life, fate, yields })
    }

    /// Stores all that was handed in up to this write.
    fn settle(&mut self, number: u64, plan: &FaultPlan) {
        while self.waiting.front().is_some_and(|it| it.number <= number) {
            let next = self.waiting.pop_front().expect("the queue has a front");
            let result = match next.write {
                Write::Commit(commit) => self.try_commit(&commit, plan),
                Write::Partial(piece) => {
                    self.content.keep(piece);
                    Ok(())
                }
                Write::Import(session, source, key) => self.content.import(session, &*source, key),
                Write::Key(session, kept) => self.content.keep_key(session, kept),
            };
            let ends = matches!(result, Err(StoreError::Unknown(_)));
            next.fate.set(result).expect("a write is settled once");
            if ends {
                self.end(Health::Dead);
            }
        }
    }

    fn try_commit(&mut self, commit: &Commit, plan: &FaultPlan) -> Result<(), StoreError> {
        self.commits += 1;
        match plan.fault(self.commits, !commit.keys.is_empty(), &mut self.dice) {
            None => self.content.commit(commit),
            Some(Fault::Unavailable) => Err(unavailable("the disk is full, as planned")),
            Some(Fault::KeyTaken) => Err(StoreError::KeyTaken),
            Some(Fault::Unknown) => {
                if self.dice.below(2) == 0 {
                    // One that would be refused is stored in no case; the asker hears the same.
                    let _refused = self.content.commit(commit);
                }
                Err(unknown())
            }
        }
    }

    fn end(&mut self, health: Health) {
        self.waiting.clear();
        self.life += 1;
        self.health = health;
    }
}

impl Store for MemoryStore {
    fn save(&self, commit: Arc<Commit>) -> Answer<'_, ()> {
        self.write(Write::Commit(commit))
    }

    fn keep_partial(&self, piece: PartialPiece) -> Answer<'_, ()> {
        self.write(Write::Partial(piece))
    }

    fn load(&self, session: SessionId) -> Answer<'_, Option<Loaded>> {
        self.read(move |it| it.load(session))
    }

    fn events(
        &self,
        session: SessionId,
        after: u64,
        last: u64,
        bytes: usize,
    ) -> Answer<'_, Vec<StoredEvent>> {
        self.read(move |it| it.events(session, after, last, bytes))
    }

    fn commits(
        &self,
        session: SessionId,
        after: u64,
        bytes: usize,
    ) -> Answer<'_, Vec<StoredCommit>> {
        self.read(move |it| it.commits(session, after, bytes))
    }

    fn import(
        &self,
        session: SessionId,
        source: Arc<dyn ImportSource>,
        key: Option<KeptKey>,
    ) -> Answer<'_, ()> {
        self.write(Write::Import(session, source, key))
    }

    fn mark(&self, session: SessionId, seq: u64) -> Answer<'_, Option<String>> {
        self.read(move |it| it.mark(session, seq))
    }

    fn messages(&self, session: SessionId, page: MessagePage) -> Answer<'_, Option<Messages>> {
        self.read(move |it| it.messages(session, page))
    }

    fn message(&self, session: SessionId, message: MessageId) -> Answer<'_, Option<Box<RawValue>>> {
        self.read(move |it| it.message(session, message))
    }

    fn sessions(&self, filter: SessionFilter) -> Answer<'_, Vec<Members>> {
        self.read(move |it| it.sessions(&filter))
    }

    fn sessions_by_prefix(&self, digits: &str, limit: u32) -> Answer<'_, Vec<SessionId>> {
        let digits = digits.to_owned();
        self.read(move |it| it.sessions_by_prefix(&digits, limit))
    }

    fn sessions_by_title(&self, title: &str, limit: u32) -> Answer<'_, Vec<SessionId>> {
        let title = title.to_owned();
        self.read(move |it| it.sessions_by_title(&title, limit))
    }

    fn active(&self, workspace: Option<&str>) -> Answer<'_, Option<SessionId>> {
        let workspace = workspace.map(str::to_owned);
        self.read(move |it| it.active(workspace.as_deref()))
    }

    fn task(&self, task: TaskId) -> Answer<'_, Option<(SessionId, Members)>> {
        self.read(move |it| it.task(task))
    }

    fn newest_id(&self, until: u128) -> Answer<'_, Option<u128>> {
        self.read(move |it| it.newest_id(until))
    }

    fn answer(&self, task: TaskId) -> Answer<'_, Option<Box<RawValue>>> {
        self.read(move |it| it.answer(task))
    }

    fn failed(&self) -> futures_util::future::BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    fn tasks(&self, filter: TaskFilter) -> Answer<'_, Vec<Members>> {
        self.read(move |it| it.tasks(&filter))
    }

    fn place(&self, id: &str) -> Answer<'_, Option<Place>> {
        let id = id.to_owned();
        self.read(move |it| it.place(&id))
    }

    fn key(&self, key: &str, now: Timestamp) -> Answer<'_, Option<KeyRecord>> {
        let key = key.to_owned();
        self.read(move |it| it.key(&key, now))
    }

    fn keep_key(&self, session: SessionId, kept: KeptKey) -> Answer<'_, ()> {
        self.write(Write::Key(session, kept))
    }

    fn blob(&self, hash: Hash, offset: u64, length: u64) -> Answer<'_, Option<(Vec<u8>, u64)>> {
        self.read(move |it| it.blob(hash, offset, length))
    }

    fn usage(&self, filter: UsageFilter) -> Answer<'_, SessionUsageResult> {
        self.read(move |it| it.usage(filter))
    }

    fn counts(&self) -> Answer<'_, Counts> {
        self.read(Content::counts)
    }

    fn history(&self) -> &str {
        &self.history
    }

    fn kind(&self) -> &'static str {
        "memory"
    }

    fn path(&self) -> String {
        "memory".to_owned()
    }

    fn close(&self) -> Answer<'_, ()> {
        Box::pin(async move {
            let mut state = self.state();
            state.check()?;
            state.settle(u64::MAX, &self.plan);
            // What is under way has its fate; only what comes later is refused.
            if state.health == Health::Well {
                state.health = Health::Closed;
            }
            Ok(())
        })
    }
}
