//! The exclusive right to a session's input: who has it, who waits for it, how it ends.

use std::collections::VecDeque;

use serde_json::json;
use sess_protocol::error::Error;
use sess_protocol::event::ReleaseReason;
use sess_protocol::id::LockId;
use tokio::time::Instant;

use super::actor::{Actor, With};
use super::command::{ConnectionId, Origin, Outcome, Reply};
use super::members::locked;

/// Clients that wait in line for one session.
const WAITERS_MAX: usize = 64;

/// The holder and the line behind it.
#[derive(Debug, Default)]
pub(super) struct LockLine {
    holder: Option<ConnectionId>,
    /// When the end of a lock whose connection is gone is tried to be saved anew.
    release_at: Option<Instant>,
    waiters: VecDeque<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    id: LockId,
    origin: Origin,
    reply: Reply,
}

impl LockLine {
    /// Whether nobody holds and nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.holder.is_none() && self.waiters.is_empty()
    }

    /// When a lock whose connection is gone must end.
    pub(super) fn release_at(&self) -> Option<Instant> {
        self.release_at
    }

    /// Nobody holds any more.
    fn let_go(&mut self) {
        self.holder = None;
        self.release_at = None;
    }

    /// Answers all who wait with this error.
    pub(super) fn end(&mut self, error: &Error) {
        self.let_go();
        for waiter in self.waiters.drain(..) {
            let _ = waiter.reply.send(Err(error.clone()));
        }
    }
}

impl Actor {
    /// Whether another connection's lock keeps this one from changing the session.
    pub(super) fn locked_for(&self, connection: ConnectionId) -> Option<Error> {
        let held_by_other = self.locks.holder != Some(connection);
        let held_by_other = held_by_other && !crate::sabotage::is("no_lock_check");
        self.state.lock().filter(|_| held_by_other).map(|lock| locked(&lock))
    }

    /// Takes the lock, or waits in line for it.
    pub(super) async fn lock(&mut self, id: LockId, wait: bool, origin: Origin, reply: Reply) {
        if let Some(lock) = self.state.lock() {
            if self.locks.holder == Some(origin.connection) {
                let answer = json!({ "lock": lock, "seq": self.state.seq() }).to_string();
                let _ = reply.send(Ok(answer));
                return;
            }
            self.locks.waiters.retain(|it| !it.reply.is_closed());
            if wait && self.locks.waiters.len() < WAITERS_MAX {
                self.locks.waiters.push_back(Waiter { id, origin, reply });
            } else {
                let _ = reply.send(Err(locked(&lock)));
            }
            return;
        }
        self.grant(id, origin, reply).await;
    }

    async fn grant(&mut self, id: LockId, origin: Origin, reply: Reply) {
        let mut change = self.change();
        change.lock(id, &origin.by);
        let lock = change.state.lock().expect("the lock was just set");
        let answer = json!({ "lock": lock, "seq": change.state.seq() }).to_string();
        let outcome = self.settle(change, With::default(), &origin, answer).await;
        let granted = outcome.is_ok();
        if granted {
            self.locks.holder = Some(origin.connection);
        }
        // Nobody may be there any more to hold it.
        if reply.send(outcome).is_err() && granted {
            self.unlock(ReleaseReason::Disconnected, None).await;
        }
    }

    /// Gives the lock back.
    pub(super) async fn release(&mut self, force: bool, origin: &Origin) -> Outcome {
        let Some(lock) = self.state.lock() else {
            return Ok(json!({ "released": false, "seq": self.state.seq() }).to_string());
        };
        let own = self.locks.holder == Some(origin.connection);
        if !own && !force {
            return Err(locked(&lock).hint("`force` ends another client's lock"));
        }
        let why = if own { ReleaseReason::Released } else { ReleaseReason::Forced };
        let mut change = self.change();
        change.release(why, Some(&origin.by));
        let answer = json!({ "released": true, "seq": change.state.seq() }).to_string();
        let outcome = self.settle(change, With::default(), origin, answer).await;
        if outcome.is_ok() {
            self.locks.let_go();
        }
        outcome
    }

    async fn unlock(&mut self, why: ReleaseReason, by: Option<&sess_protocol::things::By>) {
        let mut change = self.change();
        change.release(why, by);
        match self.record(change, With::default()).await {
            Ok(()) => self.locks.let_go(),
            // Nobody is left who could release it: the session must not stay held.
            Err(_) => self.locks.release_at = Some(self.save_again_at()),
        }
    }

    /// Ends a lock whose connection is gone, where that could not be saved at first.
    pub(super) async fn release_gone(&mut self) {
        self.unlock(ReleaseReason::Disconnected, None).await;
        self.pass_lock_on().await;
    }

    /// Gives a lock that is free to the first who still waits for it.
    pub(super) async fn pass_lock_on(&mut self) {
        while self.state.lock().is_none() {
            let Some(next) = self.locks.waiters.pop_front() else { return };
            if !next.reply.is_closed() {
                self.grant(next.id, next.origin, next.reply).await;
            }
        }
    }

    /// A connection ended: its lock ends, it leaves the line, and what it made in passing goes.
    pub(super) async fn connection_gone(&mut self, connection: ConnectionId) {
        self.locks.waiters.retain(|it| it.origin.connection != connection);
        if self.locks.holder == Some(connection) {
            self.release_gone().await;
        }
        if self.creator == Some(connection) {
            self.creator = None;
            self.remove_ephemeral(connection).await;
        }
    }
}
