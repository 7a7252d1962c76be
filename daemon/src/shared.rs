//! What all parts of the daemon share: the store, the models, the sessions, the end of it all.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use sess_protocol::error::{Error, Kind};
use sess_protocol::event::Fact;
use sess_protocol::id::SessionId;
use sess_protocol::time::Timestamp;
use tokio::sync::{Notify, broadcast};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::documents::{Documents, Settings};
use crate::model::Model;
use crate::model::providers::{Providers, Refusal, parse};
use crate::session::Later;
use crate::session::command::{Append, Command, Origin, Outcome};
use crate::session::live::Sessions;
use crate::store::{Store, StoreError};
use crate::world::World;

/// Changes of sessions that wait for one who follows them all.
pub const CHANGED_MAX: usize = 1024;
/// Tasks that run at a time when the settings do not say.
pub const RUNNING_MAX_DEFAULT: usize = 64;
/// How long running tasks may go on when the daemon stops as planned.
pub const DRAIN: Duration = Duration::from_secs(10);
/// The same when a successor goes on with them at once.
pub const RESTART_DRAIN: Duration = Duration::from_millis(100);

/// What all parts share.
#[derive(Debug)]
pub struct Shared {
    /// Where commits lie.
    pub store: Arc<dyn Store>,
    /// Time and ids.
    pub world: Arc<dyn World>,
    /// The sessions in memory.
    pub sessions: Sessions,
    /// How many tasks may run.
    pub slots: Arc<Slots>,
    /// The models there are.
    pub models: RwLock<Arc<Providers>>,
    /// The documents, once there are any.
    documents: OnceLock<Documents>,
    /// The model of sessions that name none, where the settings say one.
    pub default_model: Mutex<Option<String>>,
    /// Every job of the daemon: nothing runs that nobody waits for.
    pub tracker: TaskTracker,
    /// The actors of sessions, which end before all else does.
    pub actors: TaskTracker,
    /// The end.
    pub stop: Stop,
    /// Ids of sessions that changed.
    pub changes: broadcast::Sender<SessionId>,
    /// When somebody last needed the daemon.
    needed: Mutex<Instant>,
    /// The moment of the last activation (Unix ms).
    last_active: AtomicI64,
}

impl Shared {
    /// The parts put together.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, world: Arc<dyn World>, models: Providers) -> Arc<Self> {
        Arc::new(Self {
            store,
            world,
            sessions: Sessions::default(),
            slots: Slots::new(RUNNING_MAX_DEFAULT),
            models: RwLock::new(Arc::new(models)),
            documents: OnceLock::new(),
            default_model: Mutex::default(),
            tracker: TaskTracker::new(),
            actors: TaskTracker::new(),
            stop: Stop::default(),
            changes: broadcast::channel(CHANGED_MAX).0,
            needed: Mutex::new(Instant::now()),
            last_active: AtomicI64::new(0),
        })
    }

    /// The moment of an activation, or of a clear: later than the one before, as which session is the
    /// active one is told by it, also where the clock went back.
    #[must_use]
    pub fn active_moment(&self) -> Timestamp {
        let now = self.world.now().0;
        let next = |last: i64| now.max(last + 1);
        let last = self.last_active.fetch_update(Relaxed, Relaxed, |last| Some(next(last)));
        Timestamp(next(last.unwrap_or_default()))
    }

    /// Says when the last activation was, by what is stored.
    pub fn was_active(&self, last: Timestamp) {
        self.last_active.fetch_max(last.0, Relaxed);
    }

    /// Says that somebody needs the daemon at this moment.
    pub fn needed(&self) {
        *self.needed.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// When somebody last needed it, as far as was looked.
    #[must_use]
    pub fn needed_at(&self) -> Instant {
        *self.needed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that a session changed.
    pub fn changed(&self, session: SessionId) {
        // Nobody may be listening.
        let _ = self.changes.send(session);
    }

    /// A model by its name `provider/name`.
    ///
    /// # Errors
    /// There is none of that name, or it cannot be asked as things are.
    pub fn model(&self, name: &str) -> Result<(Arc<dyn Model>, String), Error> {
        self.providers().find(name).map_err(|refusal| model_refusal(name, &refusal))
    }

    /// The model of sessions that name none.
    #[must_use]
    pub fn default_model(&self) -> String {
        let set = self.default_model.lock().unwrap_or_else(PoisonError::into_inner).clone();
        set.unwrap_or_else(|| self.providers().choice())
    }

    /// The settings that hold in a workspace, or where there is none.
    pub async fn settings(&self, workspace: Option<&str>) -> Settings {
        match (self.documents.get(), workspace) {
            (None, _) => Settings::default(),
            (Some(documents), None) => documents.settings(),
            (Some(documents), Some(workspace)) => documents.settings_of(workspace).await,
        }
    }

    /// The models there are.
    #[must_use]
    pub fn providers(&self) -> Arc<Providers> {
        Arc::clone(&self.models.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes in what the documents say: it holds from the next task on.
    pub fn take_settings(&self, documents: &Documents) {
        let _ = self.documents.set(documents.clone());
        let settings = documents.settings();
        self.slots.set_max(settings.tasks_running_max());
        crate::redact::learn(documents.secrets(|name| std::env::var(name).ok()));
        match parse(&documents.providers()) {
            Ok(providers) => {
                let mut models = self.models.write().unwrap_or_else(PoisonError::into_inner);
                *models = Arc::new(models.with(providers));
            }
            Err(err) => tracing::warn!(%err, "the providers are left as they were"),
        }
        let model = settings.model();
        *self.default_model.lock().unwrap_or_else(PoisonError::into_inner) = model;
    }

    /// What a client hears of a store's failure.
    #[must_use]
    pub fn refusal(&self, err: StoreError) -> Error {
        match err {
            StoreError::Unavailable(why) => {
                Error::new(Kind::Storage, format!("nothing was changed: {why}"))
                    .hint("free space or repair the disk, then ask again")
            }
            StoreError::Damaged(why) => Error::new(Kind::Storage, format!("damaged: {why}"))
                .hint("run `sessd --check`, and restore a backup"),
            StoreError::Unknown(why) => {
                let message = format!("whether this was done is not known: {why}");
                Error::new(Kind::OutcomeUnknown, message)
                    .hint("ask again with the same `idempotency_key`")
            }
            StoreError::NotNext | StoreError::KeyTaken => self.bug(&err.to_string()),
        }
    }

    /// What a client hears of a bug: an id that is also in the log, never more.
    #[must_use]
    pub fn bug(&self, what: &str) -> Error {
        let incident = format!("{:08x}", self.world.random() as u32);
        tracing::error!(incident, what, "a bug");
        let message = format!("a bug in the daemon; the log has more under `{incident}`");
        Error::new(Kind::Internal, message).with("incident", incident)
    }

    /// What a client hears while the daemon stops.
    #[must_use]
    pub fn going_down(&self) -> Error {
        Error::new(Kind::ShuttingDown, "the daemon is stopping").with("retry_after_ms", 1000)
    }

    /// The outcome that a request with this key and digest got before, or the conflict with another
    /// request that took the key.
    pub async fn answered_before(&self, key: &(String, crate::store::Hash)) -> Option<Outcome> {
        if crate::sabotage::is("no_key_check") {
            return None;
        }
        match self.store.key(&key.0, self.world.now()).await {
            Ok(None) => None,
            Ok(Some(record)) if record.digest == key.1 => Some(Ok(record.answer)),
            Ok(Some(_)) => {
                let message = format!("the key `{}` belongs to another request", key.0);
                let error = Error::new(Kind::Conflict, message)
                    .with("idempotency_key", key.0.clone())
                    .hint("use a new key for a new request");
                Some(Err(error))
            }
            Err(err) => Some(Err(self.refusal(err))),
        }
    }

    /// Adds a fact of no session to the global log; a deletion takes its session with it.
    ///
    /// # Errors
    /// As of any change.
    pub async fn append_global(self: &Arc<Self>, fact: Fact, origin: Origin) -> Outcome {
        self.append_global_as(fact, origin, None).await
    }

    /// The same with an answer that is known before, to be kept with the request's key.
    ///
    /// # Errors
    /// As of any change.
    pub async fn append_global_as(
        self: &Arc<Self>,
        fact: Fact,
        origin: Origin,
        known: Option<String>,
    ) -> Outcome {
        let deletes = match &fact {
            Fact::SessionDeleted(it) => Some(it.deleted),
            _ => None,
        };
        let answer = |fact: &Fact, seq: u64| match fact {
            Fact::SessionDeleted(it) => {
                serde_json::json!({"deleted": it.deleted, "backups": it.backups, "seq": seq})
                    .to_string()
            }
            _ => "null".to_owned(),
        };
        let (reply, later) = Later::new();
        let append = Append { fact, origin, deletes, known, answer, reply };
        let command = Command::Append(Box::new(append));
        self.sessions.send(self, SessionId::GLOBAL, command).await?;
        later.answer().await?
    }
}

/// What a client hears of a model that cannot be asked.
fn model_refusal(name: &str, refusal: &Refusal) -> Error {
    let message = refusal.to_string();
    if refusal.is_unsupported() {
        return Error::new(Kind::Unsupported, message).with("model", name);
    }
    if let Some(reason) = refusal.reason() {
        let reason = serde_json::to_value(reason).expect("a reason is a word");
        return Error::new(Kind::Model, message).with("reason", reason).with("model", name);
    }
    Error::new(Kind::NotFound, message)
        .with("what", "model")
        .with("id", name)
        .hint("`model/list` names what can be asked")
}

/// How many tasks may run at a time, over all sessions.
#[derive(Debug)]
pub struct Slots {
    counts: Mutex<(usize, usize)>,
    freed: Notify,
}

/// The right to run one task; given back when dropped.
#[derive(Debug)]
pub struct Slot(Arc<Slots>);

impl Slots {
    /// As many as `max`.
    #[must_use]
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { counts: Mutex::new((0, max)), freed: Notify::new() })
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, (usize, usize)> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many are taken.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.counts().0
    }

    /// Changes how many there are; those taken stay.
    pub fn set_max(&self, max: usize) {
        self.counts().1 = max.max(1);
        self.freed.notify_waiters();
    }

    /// One, if one is free.
    pub fn try_take(self: &Arc<Self>) -> Option<Slot> {
        let mut counts = self.counts();
        if counts.0 >= counts.1 {
            return None;
        }
        counts.0 += 1;
        Some(Slot(Arc::clone(self)))
    }

    /// One, as soon as one is free.
    pub async fn take(self: &Arc<Self>) -> Slot {
        loop {
            let freed = self.freed.notified();
            if let Some(slot) = self.try_take() {
                return slot;
            }
            freed.await;
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.counts().0 -= 1;
        self.0.freed.notify_one();
    }
}

/// The end of the daemon, in two steps: sessions end, then what they rest on.
#[derive(Debug, Default)]
pub struct Stop {
    stopping: CancellationToken,
    finished: CancellationToken,
    restarts: AtomicBool,
    deadline: OnceLock<Instant>,
}

impl Stop {
    /// Begins to stop. Running tasks may go on for as long as `drain`.
    pub fn begin(&self, drain: Duration) {
        let _ = self.deadline.set(Instant::now() + drain);
        self.stopping.cancel();
    }

    /// Begins to stop for a successor, that goes on with all that is left.
    pub fn begin_restart(&self, drain: Duration) {
        if !self.is_stopping() {
            self.restarts.store(true, Relaxed);
        }
        self.begin(drain);
    }

    /// Whether a successor is to go on.
    #[must_use]
    pub fn restarts(&self) -> bool {
        self.restarts.load(Relaxed)
    }

    /// Whether the daemon stops.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }

    /// Waits until the daemon stops.
    pub async fn stopping(&self) {
        self.stopping.cancelled().await;
    }

    /// When running tasks must have come to an end.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline.get().copied()
    }

    /// Says that all sessions have ended.
    pub fn finish(&self) {
        self.finished.cancel();
    }

    /// Waits until all sessions have ended.
    pub async fn finished(&self) {
        self.finished.cancelled().await;
    }
}
