//! One table from a method's name to what serves it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::BoxFuture;
use sess_protocol::envelope::Request;
use sess_protocol::error::{Error, Kind};
use sess_protocol::methods::{self as m, Access, METHODS, Method, info};
use tokio::time::Instant;

use super::client::Client;
use super::follow::FollowAsk;
use super::handlers::{
    agent, blob, chat, cleanup, daemon, event, exchange, import, message, model, scope, session,
    state, task, turn,
};
use super::making::Making;
use super::params::{Common, decode};
use crate::documents::Documents;
use crate::exchange::Spool;
use crate::nearest::nearest;
use crate::session::command::Outcome;
use crate::shared::Shared;

/// What is left to do of a request when its turn in the order of lines is over.
pub enum Work {
    /// Nothing: the result.
    Done(String),
    /// Something that may wait, while what was sent after it goes on.
    Later(BoxFuture<'static, Outcome>),
    /// The same; behind its answer something goes on being told.
    LaterAndOn(BoxFuture<'static, Result<Begun, Error>>),
    /// Its answer is the first line of a follow.
    Follow(FollowAsk),
}

/// An answer, and what is told behind it, from then on.
pub type Begun = (String, BoxFuture<'static, ()>);

/// What a handler gives back.
pub type Routed = Result<Work, Error>;

/// What serves requests. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Router {
    shared: Arc<Shared>,
    documents: Documents,
    spool: Spool,
    connections: Arc<AtomicUsize>,
    making: Arc<Making>,
    started: Instant,
}

/// What a handler is given.
pub struct Call<'a, M: Method> {
    /// The daemon.
    pub router: &'a Router,
    /// Who asks.
    pub client: &'a Arc<Client>,
    /// The params.
    pub params: M::Params,
    /// What many methods take.
    pub common: Common,
}

impl<M: Method> Call<'_, M> {
    /// What all parts share.
    pub fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.router.shared)
    }
}

impl Router {
    /// Serves from these.
    #[must_use]
    pub fn new(shared: Arc<Shared>, documents: Documents) -> Self {
        let connections = Arc::new(AtomicUsize::new(0));
        let spool = Spool::beside(&shared.store.path());
        let making = Arc::default();
        Self { shared, documents, spool, connections, making, started: Instant::now() }
    }

    /// The answers that are made.
    pub(super) fn making(&self) -> &Arc<Making> {
        &self.making
    }

    /// What all parts share.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The documents.
    #[must_use]
    pub fn documents(&self) -> &Documents {
        &self.documents
    }

    /// Files by their hash.
    #[must_use]
    pub fn spool(&self) -> &Spool {
        &self.spool
    }

    /// The count of connections.
    #[must_use]
    pub fn connections(&self) -> &Arc<AtomicUsize> {
        &self.connections
    }

    /// How many are connected.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Since when.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Does of a request what must happen in the order of lines.
    ///
    /// # Errors
    /// The request's refusal.
    pub async fn route(&self, client: &Arc<Client>, request: Request) -> Routed {
        let Some(info) = info(&request.method) else {
            return Err(unknown_method(&request.method));
        };
        let changes = info.access == Access::Change;
        let may_change = !client.is_observer() || crate::sabotage::is("no_role_check");
        if changes && !may_change {
            let message =
                format!("an observer may read and follow; `{}` changes things", info.name);
            return Err(Error::new(Kind::Denied, message));
        }
        let ends_well = [m::TaskCancel::NAME, m::DaemonShutdown::NAME, m::DaemonRestart::NAME];
        if changes && self.shared.stop.is_stopping() && !ends_well.contains(&info.name) {
            return Err(self.shared.going_down());
        }
        self.dispatch(client, &request).await
    }

    fn call<'a, M: Method>(
        &'a self,
        client: &'a Arc<Client>,
        request: &Request,
    ) -> Result<Call<'a, M>, Error> {
        let (params, common) = decode::<M>(request)?;
        Ok(Call { router: self, client, params, common })
    }

    async fn dispatch(&self, client: &Arc<Client>, request: &Request) -> Routed {
        macro_rules! serve {
            ($($method:ident => $handler:path $(, $wait:tt)?;)*) => {
                match request.method.as_str() {
                    $(m::$method::NAME => {
                        let call = self.call::<m::$method>(client, request)?;
                        serve!(@ $handler(call) $(, $wait)?)
                    })*
                    other => Err(unknown_method(other)),
                }
            };
            (@ $call:expr, await) => { $call.await };
            (@ $call:expr) => { $call };
        }
        serve! {
            Initialize => daemon::initialize;
            DaemonStatus => daemon::status;
            DaemonShutdown => daemon::shutdown;
            DaemonRestart => daemon::restart;
            DaemonBackup => daemon::backup;
            DaemonReload => state::reload;
            DaemonFollow => daemon::follow;
            SessionCreate => session::create, await;
            SessionResume => session::resume, await;
            SessionGet => session::get, await;
            SessionList => session::list;
            SessionUpdate => session::update, await;
            SessionActive => session::active;
            SessionActivate => session::activate, await;
            SessionDelete => session::delete, await;
            SessionLock => session::lock, await;
            SessionRelease => session::release, await;
            SessionPersist => session::persist, await;
            SessionUsage => session::usage;
            SessionExport => exchange::export, await;
            SessionImport => import::import;
            SessionCleanup => cleanup::cleanup, await;
            SessionFollow => session::follow, await;
            SessionUnfollow => session::unfollow, await;
            ChatSend => chat::send, await;
            TaskGet => task::get;
            TaskList => task::list;
            TaskCancel => task::cancel, await;
            TaskWait => task::wait, await;
            TaskUpdate => task::update, await;
            TaskRetry => task::retry, await;
            MessageList => message::list;
            TurnList => turn::list;
            ThreadList => message::threads;
            EventAppend => event::append, await;
            StateGet => state::get;
            StateSet => state::set;
            StateDelete => state::delete;
            StateAll => state::all;
            StateLoad => state::load;
            StateSave => state::save;
            StateFollow => state::follow;
            ScopeSwitch => scope::switch, await;
            AgentList => agent::list;
            ModelList => model::list;
            ModelCheck => model::check;
            BlobGet => blob::get;
            BlobPut => blob::put, await;
        }
    }
}

fn unknown_method(name: &str) -> Error {
    let name: String = name.chars().take(128).collect();
    let error = Error::new(Kind::UnknownMethod, format!("there is no method `{name}`"));
    match nearest(&name, METHODS.iter().map(|it| it.name)) {
        Some(near) => error.with("nearest", near).hint(format!("did you mean `{near}`?")),
        None => error.with("nearest", serde_json::Value::Null),
    }
}

/// A result as JSON.
pub fn json_of(result: &impl serde::Serialize) -> String {
    serde_json::to_string(result).expect("a result is plain JSON")
}

/// Work that waits for its outcome.
pub fn later(work: impl Future<Output = Outcome> + Send + 'static) -> Routed {
    Ok(Work::Later(Box::pin(work)))
}
