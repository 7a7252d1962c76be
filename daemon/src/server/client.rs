//! One client as the daemon knows it: who it is, what it may do, what it holds and follows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use sess_protocol::id::SessionId;
use sess_protocol::methods::Role;
use sess_protocol::things::By;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::follow::Following;
use super::out::Out;
use super::params::Common;
use crate::session::command::{Command, ConnectionId, Origin};
use crate::shared::Shared;

/// One client.
#[derive(Debug)]
pub struct Client {
    /// Its connection.
    pub connection: ConnectionId,
    /// Its lines out.
    pub out: Out,
    told: Mutex<Told>,
    follows: Mutex<BTreeMap<SessionId, Follow>>,
    /// What they share.
    pub(super) following: Following,
    held: Mutex<BTreeSet<SessionId>>,
}

/// What a client told of itself.
#[derive(Debug, Clone)]
struct Told {
    by: By,
    role: Role,
    workspace: Option<String>,
}

/// A follow that goes on.
#[derive(Debug)]
pub struct Follow {
    /// Its id in the session.
    pub id: u64,
    /// Its job.
    pub job: JoinHandle<()>,
    /// Comes when its request is answered.
    pub answered: oneshot::Receiver<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Client {
    /// A client that has told nothing yet: named after its program.
    #[must_use]
    pub fn new(connection: ConnectionId, by: By, out: Out) -> Self {
        Self {
            connection,
            out,
            told: Mutex::new(Told { by, role: Role::Driver, workspace: None }),
            follows: Mutex::default(),
            following: Following::default(),
            held: Mutex::default(),
        }
    }

    /// Takes in what the client tells of itself.
    pub fn introduce(&self, name: String, role: Role, workspace: Option<String>) {
        let mut told = lock(&self.told);
        told.by.client = name;
        told.role = role;
        told.workspace = workspace;
    }

    /// Who it is.
    #[must_use]
    pub fn by(&self) -> By {
        lock(&self.told).by.clone()
    }

    /// Whether it may only read.
    #[must_use]
    pub fn is_observer(&self) -> bool {
        lock(&self.told).role == Role::Observer
    }

    /// Its workspace.
    #[must_use]
    pub fn workspace(&self) -> Option<String> {
        lock(&self.told).workspace.clone()
    }

    /// Has another workspace from here on.
    pub fn goes_to(&self, workspace: String) {
        lock(&self.told).workspace = Some(workspace);
    }

    /// Who asks, and what holds for it.
    #[must_use]
    pub fn origin(&self, common: Common) -> Origin {
        Origin {
            connection: self.connection,
            by: self.by(),
            key: common.key,
            expect_seq: common.expect_seq,
            expect_head: common.expect_head,
        }
    }

    /// Remembers a session that must hear of this connection's end.
    pub fn holds(&self, session: SessionId) {
        lock(&self.held).insert(session);
    }

    /// Remembers a follow.
    pub fn follows(&self, session: SessionId, follow: Follow) {
        let mut follows = lock(&self.follows);
        follows.retain(|_, it| !it.job.is_finished());
        follows.insert(session, follow);
    }

    /// Ends the follow of a session: nothing of it is sent from here on.
    pub async fn unfollow(&self, shared: &Shared, session: SessionId) {
        let follow = lock(&self.follows).remove(&session);
        if let Some(mut follow) = follow {
            // Every request is answered: a job that ended without a word has answered, too.
            let _ = (&mut follow.answered).await;
            end(shared, session, follow).await;
        }
    }

    /// Ends all that rests on the connection.
    pub async fn gone(&self, shared: &Shared) {
        let follows: Vec<(SessionId, Follow)> =
            std::mem::take(&mut *lock(&self.follows)).into_iter().collect();
        for (session, follow) in follows {
            end(shared, session, follow).await;
        }
        let held: Vec<SessionId> = std::mem::take(&mut *lock(&self.held)).into_iter().collect();
        shared.sessions.connection_gone(self.connection, &held).await;
    }
}

async fn end(shared: &Shared, session: SessionId, follow: Follow) {
    follow.job.abort();
    // The job is gone when this answers, so that a line of it cannot come after what follows.
    let _ = follow.job.await;
    if let Some(handle) = shared.sessions.live(session) {
        let _ = handle.send(Command::Unfollow(follow.id)).await;
    }
}
