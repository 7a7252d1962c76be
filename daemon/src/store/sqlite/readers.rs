//! The threads that read: each has its own connection, all take from one bounded queue.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::open::{self, OpenError};
use super::rows::Trouble;
use crate::store::{READERS, StoreError};

/// Questions that wait.
const READS_MAX: usize = 1024;
/// How long one question may take: an open read keeps SQLite's log from beginning again.
const READ_MS_MAX: u64 = 5_000;
/// Steps of SQLite between two looks at the clock.
const STEPS_PER_LOOK: i32 = 20_000;

type Question = Box<dyn FnOnce(&Connection) + Send>;

enum Job {
    Ask(Question, OwnedSemaphorePermit),
    Stop,
}

/// The threads and the queue in front of them.
#[derive(Debug)]
pub(super) struct Readers {
    jobs: SyncSender<Job>,
    places: Arc<Semaphore>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Readers {
    /// Opens the connections and starts the threads.
    pub(super) fn start(dir: &Path) -> Result<Self, OpenError> {
        let (jobs, queue) = sync_channel(READS_MAX + READERS);
        let queue = Arc::new(Mutex::new(queue));
        let mut threads = Vec::with_capacity(READERS);
        for number in 0..READERS {
            let conn = open::reading(dir)?;
            let queue = Arc::clone(&queue);
            let thread = std::thread::Builder::new().name(format!("store-read-{number}"));
            threads.push(thread.spawn(move || work(conn, &queue))?);
        }
        let places = Arc::new(Semaphore::new(READS_MAX));
        Ok(Self { jobs, places, threads: Mutex::new(threads) })
    }

    /// Asks a question within one read transaction.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, Trouble> {
        let closed = || Trouble::Refused(StoreError::Unavailable("the store is closed".into()));
        let places = Arc::clone(&self.places);
        let place = places.acquire_owned().await.map_err(|_| closed())?;
        let (answer, answered) = oneshot::channel();
        let question: Question = Box::new(move |conn| {
            // One who no longer waits does not need to know.
            let _ = answer.send(in_one_moment(conn, question));
        });
        self.jobs.try_send(Job::Ask(question, place)).map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }

    /// Answers what waits and closes the connections.
    pub(super) fn stop(&self) {
        self.places.close();
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for _ in &threads {
            // A thread that is gone needs no word.
            let _ = self.jobs.send(Job::Stop);
        }
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread that reads the store has panicked");
            }
        }
    }
}

fn in_one_moment<T>(
    conn: &Connection,
    question: impl FnOnce(&Connection) -> Result<T, Trouble>,
) -> Result<T, Trouble> {
    conn.prepare_cached("BEGIN")?.execute(())?;
    let answer = question(conn);
    conn.prepare_cached("COMMIT")?.execute(())?;
    answer
}

fn work(mut conn: Connection, queue: &Mutex<Receiver<Job>>) {
    let began = Instant::now();
    let deadline = Arc::new(AtomicU64::new(u64::MAX));
    let watched = Arc::clone(&deadline);
    let ms = move || u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let late = move || ms() > watched.load(Ordering::Relaxed);
    if let Err(err) = conn.progress_handler(STEPS_PER_LOOK, Some(late)) {
        tracing::warn!(%err, "reads of the store are not timed");
    }
    loop {
        // The lock is held while waiting: whoever has it takes the next question.
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job::Ask(question, place)) = job else { return };
        let limit = Duration::from_millis(READ_MS_MAX);
        let until = (began.elapsed() + limit).as_millis();
        deadline.store(u64::try_from(until).unwrap_or(u64::MAX), Ordering::Relaxed);
        question(&conn);
        drop(place);
    }
}
