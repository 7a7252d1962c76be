//! What the daemon does for the documents by itself: hears of edits by hand, makes changes hold,
//! keeps up `context`.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use serde_json::{Map, Value};
use sess_protocol::methods::{StateParams, StateSetParams};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::Documents;
use crate::shared::Shared;

/// How long changes of sessions are gathered before `context` is looked at: never more than one
/// write in this time, and none where nothing in it is new.
const GATHER: Duration = Duration::from_secs(1);

/// Room for what the system says of files that changed, at a time.
const NEWS_BYTES: usize = 4_096;

/// Begins all of it; it ends with the daemon.
pub fn begin(shared: &Arc<Shared>, documents: &Documents) {
    let (own, it) = (Arc::clone(shared), documents.clone());
    shared.tracker.spawn(async move {
        tokio::select! { () = hear(&it) => {}, () = own.stop.stopping() => {} }
    });
    let (own, it) = (Arc::clone(shared), documents.clone());
    shared.tracker.spawn(async move {
        tokio::select! { () = hold(&own, &it) => {}, () = own.stop.stopping() => {} }
    });
    shared.tracker.spawn(keep_context(Arc::clone(shared), documents.clone()));
}

/// A change that nobody asked this daemon for holds all the same.
async fn hold(shared: &Shared, documents: &Documents) {
    let mut changed = documents.changed();
    while changed.changed().await.is_ok() {
        shared.take_settings(documents);
    }
}

/// Hears of files that others write in the folder. Without it an edit is still seen by the next who
/// reads the document.
async fn hear(documents: &Documents) {
    let watch = || -> std::io::Result<Receiver> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let what = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE;
        inotify.add_watch(documents.folder(), what)?;
        // No pipe, but read in the same way.
        Receiver::from_owned_fd_unchecked(inotify.as_fd().try_clone_to_owned()?)
    };
    let mut folder = match watch() {
        Ok(folder) => folder,
        Err(err) => {
            tracing::warn!(%err, "the folder of the documents is not watched");
            return;
        }
    };
    let mut news = [0; NEWS_BYTES];
    // Which file it was does not matter: to look at all is to ask for a few stamps.
    while folder.read(&mut news).await.is_ok_and(|it| it > 0) {
        for document in documents.names() {
            let (document, key) = (document.to_owned(), None);
            let _ = documents.get(&StateParams { document, key, workspace: None }).await;
        }
    }
}

/// Keeps which session, workspace and mode were used last.
async fn keep_context(shared: Arc<Shared>, documents: Documents) {
    let mut changes = shared.changes.subscribe();
    loop {
        let is_over = tokio::select! {
            changed = changes.recv() => matches!(changed, Err(RecvError::Closed)),
            () = shared.stop.stopping() => true,
        };
        if !is_over {
            tokio::select! {
                () = tokio::time::sleep(GATHER) => {}
                () = shared.stop.stopping() => {}
            }
        }
        changes = changes.resubscribe();
        if let Some(context) = context_now(&shared).await {
            let params = StateSetParams {
                document: "context".to_owned(),
                key: None,
                value: Value::Object(context),
                workspace: None,
            };
            if let Err(err) = documents.set(params).await {
                tracing::warn!(%err, "`context` is left as it was");
            }
        }
        if is_over {
            return;
        }
    }
}

/// `None` where no session is the active one: what was used last stays.
async fn context_now(shared: &Shared) -> Option<Map<String, Value>> {
    let id = shared.store.active(None).await.ok()??;
    let loaded = shared.store.load(id).await.ok()??;
    let session = loaded.view.session();
    let mut context = Map::new();
    context.insert("session".to_owned(), id.to_string().into());
    context.extend(session.get("mode").map(|it| ("mode".to_owned(), it.clone())));
    let path = session.get("workspace").and_then(|it| it.get("path"));
    context.extend(path.map(|it| ("workspace".to_owned(), it.clone())));
    Some(context)
}
