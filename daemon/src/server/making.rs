//! How many answers to requests that read are made at a time?
//!
//! Each may be as long as a line can be, and is in memory more than once while it is made.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sess_protocol::envelope::ANSWERS_BYTES_MAX;
use sess_protocol::methods::{Access, Method, ModelCheck, SessionExport, TaskWait, info};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::out::Out;

/// Answers that are made at a time, of all clients: one less than the store has threads that read, so that a task or
/// a change that has to look something up does not wait for them.
const MADE_MAX: usize = crate::store::READERS - 1;
/// Answers of one client that are made, or made and not taken: who asks for much does not stand before all
/// others, and who takes no answer has few of them made.
const OF_ONE_MAX: usize = 2;
/// What reads, and may wait for something else than the store, or takes its time in pieces.
const LONG: [&str; 3] = [TaskWait::NAME, ModelCheck::NAME, SessionExport::NAME];

/// The answers that are made, and those that nobody takes, of all clients.
#[derive(Debug)]
pub(super) struct Making {
    places: Semaphore,
    /// Bytes of long answers that wait for room.
    waiting: AtomicUsize,
}

impl Default for Making {
    fn default() -> Self {
        Self { places: Semaphore::new(MADE_MAX), waiting: AtomicUsize::new(0) }
    }
}

impl Making {
    /// Makes an answer when few others are made.
    pub(super) async fn made<T>(&self, answer: impl Future<Output = T>) -> T {
        let _place = self.places.acquire().await;
        answer.await
    }

    /// A place for this many bytes among all answers that wait for room; nothing when they are too many.
    pub(super) fn among_waiting(&self, bytes: usize) -> Option<Counted<'_>> {
        let counted = Counted(&self.waiting, bytes);
        let before = self.waiting.fetch_add(bytes, Ordering::Relaxed);
        let fits = before + bytes <= ANSWERS_BYTES_MAX || crate::sabotage::is("endless_answers");
        fits.then_some(counted)
    }
}

/// Bytes of a long answer among all that wait; until dropped.
pub(super) struct Counted<'a>(&'a AtomicUsize, usize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::Relaxed);
    }
}

/// The turns of one client's requests that read.
#[derive(Debug, Clone)]
pub(super) struct Turns(Arc<Semaphore>);

/// Whether a method only reads: its answer may be asked for again.
pub(super) fn only_reads(method: &str) -> bool {
    info(method).is_some_and(|it| it.access == Access::Read)
}

impl Turns {
    /// Those of a new client.
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(OF_ONE_MAX)))
    }

    /// Whether this method's requests take turns.
    pub(super) fn are_for(method: &str) -> bool {
        only_reads(method) && !LONG.contains(&method)
    }

    /// Waits for a turn, which is held until the answer is taken; nothing when nobody is there to be answered.
    pub(super) async fn take(self, out: &Out) -> Option<OwnedSemaphorePermit> {
        let turn = self.0.acquire_owned().await.ok()?;
        (!out.is_closed()).then_some(turn)
    }
}
