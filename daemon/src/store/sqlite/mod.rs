//! The store in one SQLite database: one thread writes, a few read, all behind `Store`.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rusqlite::Connection;
use serde_json::value::RawValue;
use sess_protocol::id::{MessageId, SessionId, TaskId};
use sess_protocol::methods::SessionUsageResult;
use sess_protocol::time::Timestamp;
use sess_protocol::view::Members;
use tokio::sync::{Semaphore, oneshot, watch};

use super::{
    Answer, BackupMade, Commit, Counts, Hash, ImportSource, KeptKey, KeyRecord, Loaded,
    MessagePage, Messages, PartialPiece, Place, SessionFilter, Store, StoreError, StoredCommit,
    StoredEvent, TaskFilter, UsageFilter,
};
use checkpoint::Keeper;
use importing::Imports;
use readers::Readers;
use reserve::Reserve;
use rows::Trouble;
use writer::{Job, Waiting, Writer};

mod backup;
mod change;
mod check;
mod checkpoint;
mod doctor;
mod importing;
mod log;
mod marker;
mod open;
mod pieces;
mod projection;
mod query_all;
mod query_session;
mod readers;
mod reserve;
mod rows;
mod schema;
mod sessions;
mod short;
mod sound;
mod spending;
mod things;
mod wal;
mod writer;

pub use backup::restore;
pub use check::{Fault, Report, check, check_in_use};
pub use doctor::{About, Missing, Part, ReportTo, Saved, about, save, settle};
pub use open::OpenError;

/// Jobs that wait for the thread that writes.
const JOBS_MAX: usize = 1024;
/// Sessions whose damaged projections are made anew while one question waits.
const REPAIRS_MAX: usize = 64;

/// A store in the database `sess.db` of a folder.
#[derive(Debug)]
pub struct SqliteStore {
    dir: PathBuf,
    history: String,
    jobs: Mutex<Option<SyncSender<Waiting>>>,
    places: Arc<Semaphore>,
    readers: Readers,
    writer: Mutex<Option<JoinHandle<()>>>,
    failed: watch::Receiver<Option<String>>,
    backing_up: tokio::sync::Mutex<()>,
    importing: tokio::sync::Mutex<()>,
}

impl SqliteStore {
    /// Opens the database of a folder, or makes one where there never was one. Answers once it has
    /// recovered from whatever ended it before.
    ///
    /// # Errors
    /// A database that is newer, damaged or gone is left as it is.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        let opened = match open::open(dir) {
            Err(err) if err.is_full() => {
                tracing::warn!(%err, "the disk is full: what room was kept is given to the start");
                reserve::empty(dir);
                open::open(dir)?
            }
            other => other?,
        };
        Self::start(dir, opened)
    }

    fn start(dir: &Path, opened: open::Opened) -> Result<Self, OpenError> {
        let history = opened.marker.history.clone();
        let readers = Readers::start(dir)?;
        // Beside those with a place: the end of an import, and the end.
        let (jobs, queue) = sync_channel(JOBS_MAX + 2);
        let (failing, failed) = watch::channel(None);
        let imports = Imports::new(dir, importing::are_there(&opened.conn)?);
        let keeper = Keeper::new(dir, opened.marker);
        let reserve = Reserve::new(dir);
        let writer = Writer::new(opened.conn, (keeper, reserve), imports, failing);
        let thread = std::thread::Builder::new().name("store-write".to_owned());
        let writer = thread.spawn(move || writer.run(&queue))?;
        Ok(Self {
            dir: dir.to_owned(),
            history,
            jobs: Mutex::new(Some(jobs)),
            places: Arc::new(Semaphore::new(JOBS_MAX)),
            readers,
            writer: Mutex::new(Some(writer)),
            failed,
            backing_up: tokio::sync::Mutex::new(()),
            importing: tokio::sync::Mutex::new(()),
        })
    }

    /// Has the thread that writes do something.
    async fn write(&self, job: Job) -> Result<(), StoreError> {
        let closed = || StoreError::Unavailable("the store is closed".to_owned());
        let places = Arc::clone(&self.places);
        let place = places.acquire_owned().await.map_err(|_| closed())?;
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { job, answer, place: Some(place) };
        self.send(waiting).ok_or_else(closed)?;
        // The thread answers all that it takes, so one who gets none was met by its end.
        let lost = || StoreError::Unknown("the thread that writes the store is gone".to_owned());
        answered.await.map_err(|_| lost())?
    }

    fn send(&self, waiting: Waiting) -> Option<()> {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.as_ref()?.try_send(waiting).ok()
    }

    /// Asks a question; damaged projections that it meets are made anew from the log.
    fn read<'a, T, Q>(&'a self, question: Q) -> Answer<'a, T>
    where
        T: Send + 'static,
        Q: Fn(&Connection) -> Result<T, Trouble> + Send + Sync + 'static,
    {
        let question = Arc::new(question);
        Box::pin(async move {
            for _ in 0..REPAIRS_MAX {
                let question = Arc::clone(&question);
                match self.readers.ask(move |conn| question(conn)).await {
                    Err(Trouble::Stale(no, table)) => {
                        tracing::warn!(session_number = no, table, "projection damaged, made anew");
                        self.write(Job::Rebuild(no)).await?;
                    }
                    answer => return answer.map_err(Trouble::answer),
                }
            }
            Err(StoreError::Damaged("projections stay damaged after they are made anew".into()))
        })
    }

    fn bytes(&self) -> u64 {
        let files = [open::database_path(&self.dir), open::log_path(&self.dir)];
        files.iter().filter_map(|it| std::fs::metadata(it).ok()).map(|it| it.len()).sum()
    }

    async fn shut(&self) -> Result<(), StoreError> {
        self.places.close();
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(jobs) = jobs else { return Ok(()) };
        // Nobody may read while the log is emptied, else something would stay in it.
        self.readers.stop();
        let (answer, answered) = oneshot::channel();
        let close = Waiting { job: Job::Close, answer, place: None };
        let gone = || StoreError::Unknown("the thread that writes the store is gone".to_owned());
        jobs.send(close).map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

impl Drop for SqliteStore {
    /// Ends the threads without tidying up, as a crash would; what was answered is on disk.
    fn drop(&mut self) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.readers.stop();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if writer.is_some_and(|it| it.join().is_err()) {
            tracing::error!("the thread that writes the store has panicked");
        }
    }
}

impl Store for SqliteStore {
    fn save(&self, commit: Arc<Commit>) -> Answer<'_, ()> {
        Box::pin(self.write(Job::Commit(commit)))
    }

    fn keep_partial(&self, piece: PartialPiece) -> Answer<'_, ()> {
        Box::pin(self.write(Job::Partial(piece)))
    }

    fn back_up(&self, keep: usize) -> Answer<'_, BackupMade> {
        let dir = self.dir.clone();
        Box::pin(async move {
            // Two at once would write one draft.
            let _one = self.backing_up.lock().await;
            let made = tokio::task::spawn_blocking(move || backup::make(&dir, keep)).await;
            made.unwrap_or_else(|err| Err(StoreError::Unavailable(err.to_string())))
        })
    }

    fn backed_up_at(&self) -> Option<Timestamp> {
        backup::newest_at(&self.dir)
    }

    fn backups(&self) -> Vec<PathBuf> {
        backup::list(&self.dir).unwrap_or_default()
    }

    fn load(&self, session: SessionId) -> Answer<'_, Option<Loaded>> {
        self.read(move |conn| query_session::load(conn, session))
    }

    fn events(
        &self,
        session: SessionId,
        after: u64,
        last: u64,
        bytes: usize,
    ) -> Answer<'_, Vec<StoredEvent>> {
        self.read(move |conn| query_session::events(conn, session, (after, last), bytes))
    }

    fn commits(
        &self,
        session: SessionId,
        after: u64,
        bytes: usize,
    ) -> Answer<'_, Vec<StoredCommit>> {
        self.read(move |conn| query_session::commits(conn, session, after, bytes))
    }

    fn import(
        &self,
        session: SessionId,
        source: Arc<dyn ImportSource>,
        key: Option<KeptKey>,
    ) -> Answer<'_, ()> {
        Box::pin(self.take_in(session, source, key))
    }

    fn mark(&self, session: SessionId, seq: u64) -> Answer<'_, Option<String>> {
        self.read(move |conn| query_session::mark(conn, session, seq))
    }

    fn messages(&self, session: SessionId, page: MessagePage) -> Answer<'_, Option<Messages>> {
        self.read(move |conn| query_session::messages(conn, session, page))
    }

    fn message(&self, session: SessionId, message: MessageId) -> Answer<'_, Option<Box<RawValue>>> {
        self.read(move |conn| query_session::message(conn, session, message))
    }

    fn sessions(&self, filter: SessionFilter) -> Answer<'_, Vec<Members>> {
        self.read(move |conn| query_all::sessions(conn, &filter))
    }

    fn sessions_by_prefix(&self, digits: &str, limit: u32) -> Answer<'_, Vec<SessionId>> {
        let digits = digits.to_owned();
        self.read(move |conn| query_all::by_prefix(conn, &digits, limit))
    }

    fn sessions_by_title(&self, title: &str, limit: u32) -> Answer<'_, Vec<SessionId>> {
        let title = title.to_owned();
        self.read(move |conn| query_all::by_title(conn, &title, limit))
    }

    fn active(&self, workspace: Option<&str>) -> Answer<'_, Option<SessionId>> {
        let workspace = workspace.map(ToOwned::to_owned);
        self.read(move |conn| query_all::active(conn, workspace.as_deref()))
    }

    fn task(&self, task: TaskId) -> Answer<'_, Option<(SessionId, Members)>> {
        self.read(move |conn| query_all::task(conn, task))
    }

    fn newest_id(&self, until: u128) -> Answer<'_, Option<u128>> {
        self.read(move |conn| query_all::newest_id(conn, until))
    }

    fn answer(&self, task: TaskId) -> Answer<'_, Option<Box<RawValue>>> {
        self.read(move |conn| query_all::answer(conn, task))
    }

    fn failed(&self) -> futures_util::future::BoxFuture<'_, ()> {
        let mut failed = self.failed.clone();
        Box::pin(async move {
            let known = failed.wait_for(Option::is_some).await.is_ok();
            // A store that was closed cannot fail any more.
            if !known {
                std::future::pending::<()>().await;
            }
        })
    }

    fn tasks(&self, filter: TaskFilter) -> Answer<'_, Vec<Members>> {
        self.read(move |conn| query_all::tasks(conn, &filter))
    }

    fn place(&self, id: &str) -> Answer<'_, Option<Place>> {
        let id = id.to_owned();
        self.read(move |conn| query_all::place(conn, &id))
    }

    fn key(&self, key: &str, now: Timestamp) -> Answer<'_, Option<KeyRecord>> {
        let key = key.to_owned();
        self.read(move |conn| {
            let kept = change::key(conn, &key)?.filter(|it| it.stands(now));
            Ok(kept.map(|it| it.record))
        })
    }

    fn keep_key(&self, session: SessionId, kept: KeptKey) -> Answer<'_, ()> {
        Box::pin(self.write(Job::Key(session, kept)))
    }

    fn blob(&self, hash: Hash, offset: u64, length: u64) -> Answer<'_, Option<(Vec<u8>, u64)>> {
        self.read(move |conn| query_all::blob(conn, hash, (offset, length)))
    }

    fn usage(&self, filter: UsageFilter) -> Answer<'_, SessionUsageResult> {
        self.read(move |conn| spending::usage(conn, filter))
    }

    fn counts(&self) -> Answer<'_, Counts> {
        let counts = self.read(query_all::counts);
        Box::pin(async move { Ok(Counts { bytes: self.bytes(), ..counts.await? }) })
    }

    fn history(&self) -> &str {
        &self.history
    }

    fn kind(&self) -> &'static str {
        "sqlite"
    }

    fn path(&self) -> String {
        open::database_path(&self.dir).display().to_string()
    }

    fn close(&self) -> Answer<'_, ()> {
        Box::pin(self.shut())
    }
}

#[cfg(test)]
mod tests;
