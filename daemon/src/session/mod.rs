//! One session: a handle for all, an actor that alone changes it.

pub mod actor;
pub mod again;
pub mod attached;
pub mod command;
pub mod content;
pub mod ending;
pub mod followers;
mod intents;
pub mod live;
mod locks;
pub mod members;
pub mod queue;
pub mod recovery;
mod rewind;
mod run;
pub mod state;
pub mod steering;
pub mod writing;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sess_protocol::error::{Error, Kind};
use tokio::sync::{mpsc, oneshot};

use command::{Asked, Command, Intent, Origin, Outcome, ViewNow};

/// Commands that wait for one session.
pub const MAILBOX_MAX: usize = 64;

/// How others reach a live session.
#[derive(Debug, Clone)]
pub struct Handle {
    mailbox: mpsc::Sender<Command>,
    followers: Arc<AtomicUsize>,
}

impl Handle {
    /// Puts a command into the mailbox; waits for room in it.
    ///
    /// # Errors
    /// The session has left memory: the command comes back.
    pub async fn send(&self, command: Command) -> Result<(), Command> {
        self.mailbox.send(command).await.map_err(|err| err.0)
    }

    /// Whether the session has left memory.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.mailbox.is_closed()
    }

    /// How many follow.
    #[must_use]
    pub fn followers(&self) -> usize {
        self.followers.load(Ordering::Relaxed)
    }

    /// Commands that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        MAILBOX_MAX - self.mailbox.capacity()
    }
}

/// The answer that comes later to a command that is in the mailbox.
pub struct Later<T>(oneshot::Receiver<T>);

impl<T> Later<T> {
    /// A pair: where the answer goes, and where it comes from.
    #[must_use]
    pub fn new() -> (oneshot::Sender<T>, Self) {
        let (sender, receiver) = oneshot::channel();
        (sender, Self(receiver))
    }

    /// Waits for the answer.
    ///
    /// # Errors
    /// The session ended before it answered: it is going down with the daemon, or it broke.
    pub async fn answer(self) -> Result<T, Error> {
        self.0.await.map_err(|_| {
            let message = "the session left memory before it answered; ask again";
            Error::new(Kind::ShuttingDown, message).with("retry_after_ms", 1000)
        })
    }
}

/// A change in the mailbox, and its outcome later.
#[must_use]
pub fn intent(intent: Intent, origin: Origin) -> (Command, Later<Outcome>) {
    let (reply, later) = Later::new();
    (Command::Intent(Box::new(Asked { intent, origin, reply })), later)
}

/// A question for the view, and its answer later.
#[must_use]
pub fn view() -> (Command, Later<ViewNow>) {
    let (reply, later) = Later::new();
    (Command::View(reply), later)
}
