//! The one thread that changes the database: takes all that waits, one transaction, one fsync,
//! answers all.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};
use sess_protocol::id::SessionId;
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

use super::checkpoint::Keeper;
use super::importing::{Imports, Step};
use super::reserve::Reserve;
use super::rows::{Trouble, is_damage};
use super::{change, projection};
use crate::store::{Commit, KeptKey, PartialPiece, StoreError};

/// Jobs in one transaction.
const BATCH_JOBS_MAX: usize = 256;
/// The longest that a batch waits for those who come back, besides never longer than the last batch
/// took: what it costs once when they stay away is small beside the fsync that it saves when not.
const GATHER_MAX: Duration = Duration::from_millis(10);
/// Silence after which the log of SQLite is copied into the database.
const IDLE_MS: u64 = 500;

/// Something to change.
pub(super) enum Job {
    /// Store a commit.
    Commit(Arc<Commit>),
    /// Keep a piece of an unfinished message.
    Partial(PartialPiece),
    /// Keep the answer of a request that changed nothing.
    Key(SessionId, KeptKey),
    /// Go on with a session that comes from elsewhere.
    Import(Step),
    /// Make the projections of the session with this number anew.
    Rebuild(i64),
    /// Tidy up and end.
    Close,
}

impl Job {
    /// Whether a task is no longer at work by it: for that, room is kept on the disk.
    pub(super) fn ends_task(&self) -> bool {
        matches!(self, Job::Commit(commit) if commit.ends_task())
    }
}

/// A job with the place in the queue that it holds and the one who waits for it.
pub(super) struct Waiting {
    /// What to do.
    pub(super) job: Job,
    /// Who waits.
    pub(super) answer: oneshot::Sender<Result<(), StoreError>>,
    /// Its place in the queue, given back when it is taken out.
    pub(super) place: Option<OwnedSemaphorePermit>,
}

/// How a batch ended.
pub(super) enum Ending {
    /// On disk; a refused job changed nothing.
    Stored(Vec<Result<(), StoreError>>),
    /// Nothing was changed.
    RolledBack(Vec<Result<(), StoreError>>),
    /// Nothing was changed: the disk is full.
    Full(String),
    /// It may be on disk or not.
    Unknown(String),
}

/// Why one job ends its whole batch.
pub(super) enum Abort {
    /// The disk is full; nothing was changed.
    Full(String),
    /// The job with this place met damage; nothing was changed.
    Damaged(usize, StoreError),
    /// It may be on disk or not.
    Unknown(String),
}

/// The thread's state.
pub(super) struct Writer {
    pub(super) conn: Connection,
    pub(super) keeper: Keeper,
    pub(super) reserve: Reserve,
    imports: Imports,
    failed: watch::Sender<Option<String>>,
    /// How many jobs the last batch had, and how long it took.
    last_jobs: usize,
    last_took: Duration,
}

impl Writer {
    /// Of a connection that nobody else writes through.
    pub(super) fn new(
        conn: Connection,
        (keeper, reserve): (Keeper, Reserve),
        imports: Imports,
        failed: watch::Sender<Option<String>>,
    ) -> Self {
        Self { conn, keeper, reserve, imports, failed, last_jobs: 0, last_took: Duration::ZERO }
    }

    /// Works until told to close, or until nobody is left who could ask.
    pub(super) fn run(mut self, jobs: &Receiver<Waiting>) {
        // Before anything else takes the room.
        self.reserve.keep();
        let mut idle = true;
        loop {
            // Whoever is here already was not answered with the last batch.
            let (first, behind) = match jobs.try_recv() {
                Ok(job) => (Some(job), true),
                Err(TryRecvError::Empty) if self.may_sweep() => {
                    idle = false;
                    self.sweep();
                    continue;
                }
                Err(_) if idle => (jobs.recv().ok(), false),
                Err(_) => match jobs.recv_timeout(Duration::from_millis(IDLE_MS)) {
                    Ok(job) => (Some(job), false),
                    Err(RecvTimeoutError::Timeout) => {
                        idle = true;
                        self.imports.rest();
                        let done = self.keeper.when_idle(&self.conn);
                        self.judge(done);
                        if self.has_room() {
                            self.reserve.keep();
                        }
                        continue;
                    }
                    Err(RecvTimeoutError::Disconnected) => (None, false),
                },
            };
            let Some(first) = first else { return };
            idle = false;
            if let Some(close) = self.batch(self.gathered(first, behind, jobs)) {
                let done = self.close();
                // Whoever asked may be gone; the store is closed all the same.
                let _ = close.send(done);
                return;
            }
        }
    }

    /// The jobs of the next batch: all that wait. Those who were just answered together come back
    /// together, so it waits a little for as many as last time, besides those who were `behind` them.
    /// One who writes alone never waits.
    fn gathered(&self, first: Waiting, behind: bool, jobs: &Receiver<Waiting>) -> Vec<Waiting> {
        let mut batch = vec![first];
        batch.extend(jobs.try_iter().take(BATCH_JOBS_MAX - 1));
        let crowd = (self.last_jobs + if behind { batch.len() } else { 0 }).min(BATCH_JOBS_MAX);
        let until = Instant::now() + self.last_took.min(GATHER_MAX);
        while batch.len() < crowd {
            match jobs.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(job) => batch.push(job),
                Err(_) => break,
            }
        }
        batch
    }

    /// Does a batch and answers it; gives back the one who asked to close, if one did.
    fn batch(&mut self, batch: Vec<Waiting>) -> Option<oneshot::Sender<Result<(), StoreError>>> {
        let (mut jobs, mut answers) = (Vec::new(), Vec::new());
        let (mut steps, mut close) = (Vec::new(), None);
        for Waiting { job, answer, place } in batch {
            drop(place);
            match job {
                Job::Close => close = Some(answer),
                Job::Import(step) => steps.push((step, answer)),
                job => {
                    jobs.push(job);
                    answers.push(answer);
                }
            }
        }
        self.last_jobs = jobs.len();
        if !jobs.is_empty() {
            self.together(&jobs, answers);
        }
        for (step, answer) in steps {
            self.step(&step, answer);
        }
        close
    }

    /// Does jobs in one transaction, and answers them.
    fn together(
        &mut self,
        jobs: &[Job],
        mut answers: Vec<oneshot::Sender<Result<(), StoreError>>>,
    ) {
        let poisoned = self.failed.borrow().clone();
        let began = Instant::now();
        let ending = match poisoned {
            Some(text) => Ending::Unknown(text),
            None if crate::sabotage::is("answer_before_commit") => {
                answer(std::mem::take(&mut answers), jobs.iter().map(|_| Ok(())));
                self.in_the_room_there_is(jobs)
            }
            None => self.in_the_room_there_is(jobs),
        };
        self.last_took = began.elapsed();
        match ending {
            Ending::Stored(results) => {
                answer(answers, results);
                let done = self.keeper.after_batch(&self.conn);
                self.judge(done);
            }
            Ending::RolledBack(results) => answer(answers, results),
            Ending::Full(text) => {
                let full = || Err(StoreError::Unavailable(text.clone()));
                answer(answers, std::iter::repeat_with(full));
            }
            Ending::Unknown(text) => {
                self.poison(&text);
                answer(answers, std::iter::repeat_with(|| Err(StoreError::Unknown(text.clone()))));
            }
        }
    }

    /// Does a step of an import.
    fn step(&mut self, step: &Step, waiting: oneshot::Sender<Result<(), StoreError>>) {
        let poisoned = self.failed.borrow().clone().map(StoreError::Unknown);
        let refused = poisoned.or_else(|| self.has_no_room().filter(|_| !step.is_over()));
        let done = refused.map_or_else(|| self.imports.step(step), Err);
        answer(vec![waiting], [done.clone()]);
        self.after(done);
    }

    fn may_sweep(&self) -> bool {
        self.imports.has_left() && self.failed.borrow().is_none()
    }

    /// Removes a little of what imports left.
    fn sweep(&mut self) {
        let done = self.imports.sweep();
        if let Err(err) = &done {
            tracing::warn!(%err, "what an import left is not removed");
        }
        self.after(done);
    }

    fn after(&mut self, done: Result<(), StoreError>) {
        match done {
            Ok(()) => {
                let done = self.keeper.after_piece(&self.conn);
                self.judge(done);
            }
            Err(StoreError::Unknown(text)) => self.poison(&text),
            Err(_) => {}
        }
    }

    /// Does jobs in one transaction.
    pub(super) fn transaction(&mut self, jobs: &[&Job]) -> Ending {
        let done = match self.apply(jobs) {
            Ok(results) => match self.conn.execute_batch("COMMIT") {
                Ok(()) => return Ending::Stored(results),
                Err(_) if crate::sabotage::is("failed_sync_again") => {
                    let _ = self.conn.execute_batch("ROLLBACK");
                    return self.transaction(jobs);
                }
                Err(err) if is_full(&err) => Abort::Full(err.to_string()),
                Err(err) => Abort::Unknown(err.to_string()),
            },
            Err(abort) => abort,
        };
        if let Abort::Unknown(text) = done {
            return Ending::Unknown(format!("a write to the database failed: {text}"));
        }
        // SQLite may have rolled back by itself already; it is an error to ask for it twice.
        if !self.conn.is_autocommit()
            && let Err(err) = self.conn.execute_batch("ROLLBACK")
        {
            return Ending::Unknown(format!("a roll-back failed: {err}"));
        }
        let (at, own) = match done {
            Abort::Full(text) => return Ending::Full(format!("nothing is stored: {text}")),
            Abort::Damaged(at, own) => (at, own),
            Abort::Unknown(_) => unreachable!("answered above"),
        };
        let text = format!("nothing is stored, beside damage met by another: {own}");
        let result = |it: usize| match it == at {
            true => Err(own.clone()),
            false => Err(StoreError::Unavailable(text.clone())),
        };
        Ending::RolledBack((0..jobs.len()).map(result).collect())
    }

    fn apply(&mut self, jobs: &[&Job]) -> Result<Vec<Result<(), StoreError>>, Abort> {
        let sql = |err: rusqlite::Error| abort(0, err);
        self.conn.execute_batch("BEGIN IMMEDIATE").map_err(sql)?;
        // Refusals are rare, and a savepoint copies every page that is touched in it: only when one is
        // refused is the batch done again, each job in a savepoint of its own.
        match self.in_one(jobs) {
            Ok(()) => return Ok(jobs.iter().map(|_| Ok(())).collect()),
            Err((at, Trouble::Sql(err))) if !is_refusal(&err) => return Err(abort(at, err)),
            Err(_) => self.conn.execute_batch("ROLLBACK; BEGIN IMMEDIATE").map_err(sql)?,
        }
        let mut results = Vec::with_capacity(jobs.len());
        for (at, job) in jobs.iter().enumerate() {
            let mut done = self.savepoint(at, job)?;
            // A row of a projection that is damaged is made anew from the log, once.
            if let Err(Trouble::Stale(no, table)) = done {
                tracing::warn!(session_number = no, table, "projection damaged, made anew");
                done = match self.savepoint(at, &Job::Rebuild(no))? {
                    Ok(()) => self.savepoint(at, job)?,
                    damaged => damaged,
                };
            }
            results.push(done.map_err(Trouble::answer));
        }
        Ok(results)
    }

    /// Does one job so that its refusal undoes it alone.
    fn savepoint(&self, at: usize, job: &Job) -> Result<Result<(), Trouble>, Abort> {
        let run = |sql: &str| -> Result<(), Abort> {
            let mut statement = self.conn.prepare_cached(sql).map_err(|err| abort(at, err))?;
            statement.execute(()).map_err(|err| abort(at, err))?;
            Ok(())
        };
        run("SAVEPOINT job")?;
        match self.work(job) {
            Ok(()) => {
                run("RELEASE job")?;
                Ok(Ok(()))
            }
            Err(Trouble::Sql(err)) if !is_refusal(&err) => Err(abort(at, err)),
            Err(trouble) => {
                run("ROLLBACK TO job")?;
                run("RELEASE job")?;
                Ok(Err(trouble))
            }
        }
    }

    /// Does all of them, until the first that cannot be done.
    fn in_one(&self, jobs: &[&Job]) -> Result<(), (usize, Trouble)> {
        let mut numbered = jobs.iter().enumerate();
        numbered.try_for_each(|(at, job)| self.work(job).map_err(|trouble| (at, trouble)))
    }

    fn work(&self, job: &Job) -> Result<(), Trouble> {
        match job {
            Job::Commit(commit) => change::store(&self.conn, commit),
            Job::Partial(piece) => change::keep_partial(&self.conn, piece),
            Job::Key(session, kept) => change::keep_key(&self.conn, *session, kept),
            Job::Rebuild(no) => projection::rebuild(&self.conn, *no).map(|_| ()),
            Job::Import(_) | Job::Close => Ok(()),
        }
    }

    /// An error of tidying up: a full disk will pass, anything else may have lost what was synced.
    pub(super) fn judge(&mut self, done: rusqlite::Result<()>) {
        match done {
            Ok(()) => {}
            Err(err) if is_full(&err) => {
                tracing::warn!(%err, "the log of the database cannot be copied into it");
            }
            Err(err) => self.poison(&format!("a checkpoint failed: {err}")),
        }
    }

    fn poison(&self, text: &str) {
        if crate::sabotage::is("goes_on_after_io_error") {
            return;
        }
        if self.failed.borrow().is_none() {
            tracing::warn!(error = text, "the store takes no more commits");
            self.failed.send_replace(Some(text.to_owned()));
        }
    }

    fn close(self) -> Result<(), StoreError> {
        // The last connection is the one that empties the log.
        drop(self.imports);
        if let Some(text) = self.failed.borrow().clone() {
            return Err(StoreError::Unknown(text));
        }
        self.keeper.close(self.conn).map_err(|err| {
            let text = format!("the store is not tidy: {err}");
            // All that was answered is in the log: only a disk that fails is more than untidy.
            let fails = err.sqlite_error_code() == Some(ErrorCode::SystemIoFailure);
            if fails { StoreError::Unknown(text) } else { StoreError::Unavailable(text) }
        })
    }
}

/// Tells everybody how it went: only ever after the commit is on disk.
fn answer(
    waiting: Vec<oneshot::Sender<Result<(), StoreError>>>,
    results: impl IntoIterator<Item = Result<(), StoreError>>,
) {
    for (waiting, result) in waiting.into_iter().zip(results) {
        // One who no longer waits does not need to know.
        let _ = waiting.send(result);
    }
}

fn is_full(err: &rusqlite::Error) -> bool {
    err.sqlite_error_code() == Some(ErrorCode::DiskFull)
}

/// Whether the statement alone failed and the transaction is as it was.
pub(super) fn is_refusal(err: &rusqlite::Error) -> bool {
    match err.sqlite_error_code() {
        Some(code) => matches!(code, ErrorCode::ConstraintViolation | ErrorCode::TooBig),
        // What SQLite did not say was found while reading a row.
        None => true,
    }
}

/// What an error of SQLite does to the whole batch.
pub(super) fn abort(at: usize, err: rusqlite::Error) -> Abort {
    if is_full(&err) {
        Abort::Full(err.to_string())
    } else if is_damage(&err) {
        Abort::Damaged(at, Trouble::Sql(err).answer())
    } else {
        Abort::Unknown(err.to_string())
    }
}
