//! What does a story of followers play on?

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};
use sess_tests::harness::{Daemon, Plan, stub, within};
use sess_tests::stub::{Part, Stub, What};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The pieces that the model has sent so far, all its answers together.
#[derive(Debug, Clone)]
pub(crate) struct Progress(watch::Receiver<u64>);

impl Progress {
    /// How many.
    pub(crate) fn now(&self) -> u64 {
        *self.0.borrow()
    }

    /// Waits until there are so many, as long as there come more.
    pub(crate) async fn until(&self, pieces: u64) {
        let mut so_far = self.0.clone();
        while *so_far.borrow_and_update() < pieces {
            within("a piece of the model", so_far.changed()).await.expect("the model goes on");
        }
    }
}

/// Where the daemon is, and how often it has come up.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    /// Its socket.
    pub(crate) socket: PathBuf,
    starts: watch::Receiver<u64>,
    /// Whether connections may be lost: somebody kills the daemon.
    pub(crate) may_close: bool,
}

impl Door {
    /// How often the daemon has come up.
    pub(crate) fn starts(&self) -> u64 {
        *self.starts.borrow()
    }

    /// Waits until it has come up more often than so.
    pub(crate) async fn opened_after(&self, starts: u64) {
        let mut now = self.starts.clone();
        let opened = within("another start", now.wait_for(|it| *it > starts)).await;
        opened.expect("somebody starts it again");
    }
}

/// A model, a daemon, a session.
pub(crate) struct Stage {
    /// The model.
    pub(crate) stub: Arc<Stub>,
    /// The session.
    pub(crate) session: String,
    /// How far the model is.
    pub(crate) progress: Progress,
    daemon: Option<Daemon>,
    starts: watch::Sender<u64>,
    _watching: JoinSet<()>,
}

impl Stage {
    /// A daemon whose model answers each request by this script.
    pub(crate) async fn new(script: Value) -> Stage {
        let stub = Arc::new(stub().await);
        stub.script("stub", script).await.unwrap();
        let plan = Plan::new().stub(&stub);
        let daemon = plan.start().await;
        let session = daemon.wire().await.session().await;
        let (told, heard) = watch::channel(0);
        let mut watching = JoinSet::new();
        watching.spawn(watch_model(Arc::clone(&stub), told));
        let progress = Progress(heard);
        let starts = watch::Sender::new(1);
        Stage { stub, session, progress, daemon: Some(daemon), starts, _watching: watching }
    }

    /// The daemon that runs.
    pub(crate) fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().expect("it runs between two kills")
    }

    /// The way to it.
    pub(crate) fn door(&self, may_close: bool) -> Door {
        let socket = self.daemon().plan().socket();
        Door { socket, starts: self.starts.subscribe(), may_close }
    }

    /// Kills the daemon and starts it again.
    pub(crate) async fn kill(&mut self) {
        let daemon = self.daemon.take().expect("it runs between two kills");
        self.daemon = Some(daemon.killed_and_restarted().await);
        self.starts.send_modify(|it| *it += 1);
    }

    /// What the model sent in answer to each request, in their order.
    pub(crate) async fn sent(&self) -> Vec<String> {
        let mut requests = Vec::new();
        let mut texts = std::collections::HashMap::<u64, String>::new();
        for entry in self.stub.log().await.unwrap() {
            match entry.what {
                What::Request { .. } => requests.push(entry.request),
                What::Piece { part: Part::Text, text, .. } => {
                    texts.entry(entry.request).or_default().push_str(&text);
                }
                _ => {}
            }
        }
        requests.iter().map(|it| texts.remove(it).unwrap_or_default()).collect()
    }

    /// The session as it is answered to one who asks for it: the view of `session/resume`, and all of
    /// `message/list`.
    pub(crate) async fn truth(&self, messages: u64) -> (Value, Vec<Value>) {
        let mut wire = self.daemon().wire().await;
        let params = json!({"session": self.session, "messages": messages});
        let view = wire.ok("session/resume", params).await;
        let list = wire.ok("message/list", json!({"session": self.session, "limit": 500})).await;
        (view, list["messages"].as_array().unwrap().clone())
    }
}

async fn watch_model(stub: Arc<Stub>, told: watch::Sender<u64>) {
    let mut since = 0;
    // It ends with the story, which waits for what is told here and for nothing else.
    while let Ok(entries) = stub.log_behind(since).await {
        since = entries.last().map_or(since, |it| it.n);
        let pieces = entries.iter().filter(|it| matches!(it.what, What::Piece { .. })).count();
        told.send_modify(|it| *it += pieces as u64);
    }
}
