//! Which sessions are in memory: a map, locked for moments only, never over a wait.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use sess_protocol::error::Error;
use sess_protocol::id::SessionId;
use sess_protocol::things::TaskReason;
use sess_protocol::view::View;
use tokio::sync::Mutex as AsyncMutex;

use super::Handle;
use super::actor::{Actor, Parts};
use super::command::{Command, ConnectionId};
use super::recovery;
use super::state::State;
use crate::shared::Shared;
use crate::store::{Hash, Loaded, StoreError};

/// Loads that can go on at a time, by the last digits of the session's id.
const LOADING_LANES: usize = 16;
/// How often a session that leaves memory at the wrong moment is loaded again.
const REACH_TRIES: usize = 4;

/// The sessions in memory.
#[derive(Debug)]
pub struct Sessions {
    live: Mutex<HashMap<SessionId, Handle>>,
    loading: [AsyncMutex<()>; LOADING_LANES],
}

impl Default for Sessions {
    fn default() -> Self {
        let loading = std::array::from_fn(|_| AsyncMutex::new(()));
        Self { live: Mutex::default(), loading }
    }
}

impl Sessions {
    fn map(&self) -> std::sync::MutexGuard<'_, HashMap<SessionId, Handle>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session that is in memory.
    #[must_use]
    pub fn live(&self, id: SessionId) -> Option<Handle> {
        self.map().get(&id).filter(|it| !it.is_closed()).cloned()
    }

    /// How many are in memory.
    #[must_use]
    pub fn count(&self) -> usize {
        // The log of facts of no session is in memory like one, and is none.
        self.map().keys().filter(|it| **it != SessionId::GLOBAL).count()
    }

    /// How many commands wait in all mailboxes together.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.map().values().map(Handle::waiting).sum()
    }

    /// How many follow a session.
    #[must_use]
    pub fn followers(&self, id: SessionId) -> usize {
        self.map().get(&id).map_or(0, Handle::followers)
    }

    /// A session, from memory or from disk.
    ///
    /// # Errors
    /// It is not there, the store cannot read it, or the daemon stops.
    pub async fn get(&self, shared: &Arc<Shared>, id: SessionId) -> Result<Handle, Error> {
        if let Some(handle) = self.live(id) {
            return Ok(handle);
        }
        // Nothing begins while the daemon stops: a follower whose session has ended for good would
        // bring it back, again and again. The log of facts of no session goes on to the end.
        if shared.stop.is_stopping() && id != SessionId::GLOBAL {
            return Err(shared.going_down());
        }
        let lane = usize::try_from(id.0 % LOADING_LANES as u128).expect("a lane is small");
        let _one_load_at_a_time = self.loading[lane].lock().await;
        if let Some(handle) = self.live(id) {
            return Ok(handle);
        }
        if shared.stop.is_stopping() && id != SessionId::GLOBAL {
            return Err(shared.going_down());
        }
        let loaded = load(shared, id).await.map_err(|err| shared.refusal(err))?;
        let Some(Loaded { view, hash, .. }) = loaded else {
            return Err(Error::not_found("session", &id.to_string()));
        };
        Ok(self.begin(shared, State::new(id, view), hash))
    }

    /// A new session that is on no disk yet.
    pub fn begin_new(&self, shared: &Arc<Shared>, id: SessionId) -> Handle {
        self.begin(shared, State::new(id, View::default()), Hash::default())
    }

    fn begin(&self, shared: &Arc<Shared>, state: State, hash: Hash) -> Handle {
        let id = state.id;
        let (actor, handle) = Actor::new(Parts { shared: Arc::clone(shared), state, hash });
        self.map().insert(id, handle.clone());
        let tracker = if id == SessionId::GLOBAL { &shared.tracker } else { &shared.actors };
        tracker.spawn(actor.run());
        handle
    }

    /// Puts a command into a session's mailbox, loading the session where needed.
    ///
    /// # Errors
    /// The session is not there, or cannot be read.
    pub async fn send(
        &self,
        shared: &Arc<Shared>,
        id: SessionId,
        mut command: Command,
    ) -> Result<(), Error> {
        for _ in 0..REACH_TRIES {
            let handle = self.get(shared, id).await?;
            match handle.send(command).await {
                Ok(()) => return Ok(()),
                Err(back) => command = back,
            }
        }
        Err(shared.going_down())
    }

    /// Takes a session out of memory unless something was put into its mailbox meanwhile.
    pub(super) fn retire(
        &self,
        id: SessionId,
        mailbox: &mut tokio::sync::mpsc::Receiver<Command>,
    ) -> bool {
        let mut live = self.map();
        if !mailbox.is_empty() {
            return false;
        }
        mailbox.close();
        live.remove(&id);
        true
    }

    /// Takes a session out of memory that is gone or broken.
    pub(super) fn remove(&self, id: SessionId) {
        self.map().remove(&id);
    }

    /// Forgets an actor that has ended, unless another one took its place.
    pub(super) fn remove_closed(&self, id: SessionId) {
        let mut live = self.map();
        if live.get(&id).is_some_and(Handle::is_closed) {
            live.remove(&id);
        }
    }

    /// Tells these sessions that a connection ended.
    pub async fn connection_gone(&self, connection: ConnectionId, held: &[SessionId]) {
        for id in held {
            if let Some(handle) = self.live(*id) {
                let _ = handle.send(Command::Gone(connection)).await;
            }
        }
    }
}

/// Loads a session. One whose task is at work by its log, but in no memory, is settled first: its
/// actor broke.
async fn load(shared: &Arc<Shared>, id: SessionId) -> Result<Option<Loaded>, StoreError> {
    let loaded = shared.store.load(id).await?;
    let broke = |it: &Loaded| State::new(id, it.view.clone()).is_at_work();
    if id == SessionId::GLOBAL || !loaded.as_ref().is_some_and(broke) {
        return Ok(loaded);
    }
    recovery::settle(shared, id, TaskReason::Internal).await?;
    shared.store.load(id).await
}
