//! What do all clients of one round share?

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sess_tests::faults::Rng;
use tokio::sync::watch;

/// Lets time go by: a client's pace, a pause, a moment in which nothing may happen. Nobody waits for anything by it
/// but who finds no daemon, and can only knock again.
pub(crate) async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Sessions that clients have in mind: a new one beyond that takes the place of an old one.
const SESSIONS_MAX: usize = 12;

/// Where the daemon is, which sessions are talked in, and whether it is time to end.
pub(crate) struct World {
    pub(crate) socket: PathBuf,
    /// The histories of this round.
    pub(crate) folder: PathBuf,
    sessions: Mutex<Vec<String>>,
    /// The last event of each session, once nothing more will happen.
    last: watch::Sender<Option<Arc<HashMap<String, u64>>>>,
    /// Whether writers may go on.
    writing: watch::Sender<bool>,
}

impl World {
    pub(crate) fn new(socket: &Path, folder: &Path) -> Arc<World> {
        std::fs::create_dir_all(folder).unwrap();
        Arc::new(World {
            socket: socket.to_owned(),
            folder: folder.to_owned(),
            sessions: Mutex::default(),
            last: watch::Sender::new(None),
            writing: watch::Sender::new(true),
        })
    }

    pub(crate) fn add(&self, session: &str, rng: &mut Rng) {
        let mut sessions = self.sessions.lock().unwrap();
        if sessions.len() < SESSIONS_MAX {
            sessions.push(session.to_owned());
        } else {
            let place = rng.below(SESSIONS_MAX);
            session.clone_into(&mut sessions[place]);
        }
    }

    pub(crate) fn forget(&self, session: &str) {
        self.sessions.lock().unwrap().retain(|it| it != session);
    }

    pub(crate) fn pick(&self, rng: &mut Rng) -> Option<String> {
        let sessions = self.sessions.lock().unwrap();
        (!sessions.is_empty()).then(|| rng.pick(&sessions).clone())
    }

    pub(crate) fn end_writing(&self) {
        self.writing.send_replace(false);
    }

    pub(crate) fn is_writing(&self) -> bool {
        *self.writing.borrow()
    }

    pub(crate) fn say_last(&self, last: HashMap<String, u64>) {
        self.last.send_replace(Some(Arc::new(last)));
    }

    pub(crate) fn last(&self) -> watch::Receiver<Option<Arc<HashMap<String, u64>>>> {
        self.last.subscribe()
    }
}
