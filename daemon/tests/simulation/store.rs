//! The store of a simulation: the one in memory, with every commit shown to the oracle.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::BoxFuture;
use serde_json::value::RawValue;
use sess_daemon::store::memory::MemoryStore;
use sess_daemon::store::{
    Answer, Commit, Counts, Hash, ImportSource, KeptKey, KeyRecord, Loaded, MessagePage, Messages,
    PartialPiece, Place, SessionFilter, Store, StoreError, StoredCommit, StoredEvent, TaskFilter,
    UsageFilter,
};
use sess_protocol::id::{MessageId, SessionId, TaskId};
use sess_protocol::methods::SessionUsageResult;
use sess_protocol::time::Timestamp;
use sess_protocol::view::Members;
use tokio_util::sync::CancellationToken;

use crate::oracle::Oracle;
use crate::trace::Trace;
use crate::world::SimWorld;

/// A store that is watched.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) oracle: Arc<Oracle>,
    pub(crate) trace: Arc<Trace>,
    pub(crate) world: Arc<SimWorld>,
    /// Cancelled at the first commit whose outcome is unknown: the process ends.
    pub(crate) failed: CancellationToken,
    /// Cancelled at the call of this number: the process is killed there.
    pub(crate) killed: CancellationToken,
    pub(crate) kill_at: u64,
    pub(crate) calls: AtomicU64,
}

impl Watched {
    fn count(&self) {
        self.world.elapsed_ms();
        self.trace.asked_store();
        if self.calls.fetch_add(1, Ordering::Relaxed) + 1 == self.kill_at {
            self.killed.cancel();
        }
    }

    fn inner(&self) -> &MemoryStore {
        self.count();
        &self.store
    }
}

impl Store for Watched {
    fn save(&self, commit: Arc<Commit>) -> Answer<'_, ()> {
        self.count();
        let kept = Arc::clone(&commit);
        let stored = self.store.save(commit);
        Box::pin(async move {
            let result = stored.await;
            self.world.elapsed_ms();
            let outcome = match &result {
                Ok(()) => "ok".to_owned(),
                Err(err) => format!("{err:?}"),
            };
            self.trace.say(&format!("commit {} {outcome}", kept.body));
            match &result {
                Ok(()) => self.oracle.stored(&kept),
                Err(StoreError::Unknown(_)) => self.failed.cancel(),
                Err(err) => self.oracle.refused(&kept, err),
            }
            result
        })
    }

    fn keep_partial(&self, piece: PartialPiece) -> Answer<'_, ()> {
        self.trace.say(&format!("partial {piece:?}"));
        self.inner().keep_partial(piece)
    }

    fn load(&self, session: SessionId) -> Answer<'_, Option<Loaded>> {
        self.inner().load(session)
    }

    fn events(
        &self,
        session: SessionId,
        after: u64,
        last: u64,
        bytes: usize,
    ) -> Answer<'_, Vec<StoredEvent>> {
        self.inner().events(session, after, last, bytes)
    }

    fn commits(
        &self,
        session: SessionId,
        after: u64,
        bytes: usize,
    ) -> Answer<'_, Vec<StoredCommit>> {
        self.inner().commits(session, after, bytes)
    }

    fn import(
        &self,
        session: SessionId,
        source: Arc<dyn ImportSource>,
        key: Option<KeptKey>,
    ) -> Answer<'_, ()> {
        self.inner().import(session, source, key)
    }

    fn mark(&self, session: SessionId, seq: u64) -> Answer<'_, Option<String>> {
        self.inner().mark(session, seq)
    }

    fn messages(&self, session: SessionId, page: MessagePage) -> Answer<'_, Option<Messages>> {
        self.inner().messages(session, page)
    }

    fn message(&self, session: SessionId, message: MessageId) -> Answer<'_, Option<Box<RawValue>>> {
        self.inner().message(session, message)
    }

    fn sessions(&self, filter: SessionFilter) -> Answer<'_, Vec<Members>> {
        self.inner().sessions(filter)
    }

    fn sessions_by_prefix(&self, digits: &str, limit: u32) -> Answer<'_, Vec<SessionId>> {
        self.inner().sessions_by_prefix(digits, limit)
    }

    fn sessions_by_title(&self, title: &str, limit: u32) -> Answer<'_, Vec<SessionId>> {
        self.inner().sessions_by_title(title, limit)
    }

    fn active(&self, workspace: Option<&str>) -> Answer<'_, Option<SessionId>> {
        self.inner().active(workspace)
    }

    fn task(&self, task: TaskId) -> Answer<'_, Option<(SessionId, Members)>> {
        self.inner().task(task)
    }

    fn newest_id(&self, until: u128) -> Answer<'_, Option<u128>> {
        self.inner().newest_id(until)
    }

    fn answer(&self, task: TaskId) -> Answer<'_, Option<Box<RawValue>>> {
        self.inner().answer(task)
    }

    fn failed(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.failed.cancelled())
    }

    fn tasks(&self, filter: TaskFilter) -> Answer<'_, Vec<Members>> {
        self.inner().tasks(filter)
    }

    fn place(&self, id: &str) -> Answer<'_, Option<Place>> {
        self.inner().place(id)
    }

    fn key(&self, key: &str, now: Timestamp) -> Answer<'_, Option<KeyRecord>> {
        self.inner().key(key, now)
    }

    fn keep_key(&self, session: SessionId, kept: KeptKey) -> Answer<'_, ()> {
        self.trace.say(&format!("key {} {}", session, kept.record.key));
        self.inner().keep_key(session, kept)
    }

    fn blob(&self, hash: Hash, offset: u64, length: u64) -> Answer<'_, Option<(Vec<u8>, u64)>> {
        self.inner().blob(hash, offset, length)
    }

    fn usage(&self, filter: UsageFilter) -> Answer<'_, SessionUsageResult> {
        self.inner().usage(filter)
    }

    fn counts(&self) -> Answer<'_, Counts> {
        self.inner().counts()
    }

    fn history(&self) -> &str {
        self.store.history()
    }

    fn kind(&self) -> &'static str {
        self.store.kind()
    }

    fn path(&self) -> String {
        self.store.path()
    }

    fn close(&self) -> Answer<'_, ()> {
        self.inner().close()
    }
}
