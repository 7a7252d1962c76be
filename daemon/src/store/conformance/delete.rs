//! Whether a deletion takes all of a session and nothing else.

use std::sync::Arc;

use sess_protocol::event::SessionDeleted;
use sess_protocol::id::{MessageId, SessionId};

use super::build::{
    Log, appended, blob, completed, created, kept, key, message, queued, said, session, started,
    task, updated, whole_session,
};
use crate::store::{Commit, Hash, PartialPiece, SessionFilter, Store, StoreError};

/// The commit of the global log that deletes a session.
fn deletion(global: &Log, session: SessionId) -> Commit {
    let event = SessionDeleted { deleted: session, backups: Vec::new() };
    let mut commit = global.next(vec![said(event)]);
    commit.deletes = Some(session);
    commit
}

async fn delete(store: &Arc<dyn Store>, global: &mut Log, session: SessionId) {
    let commit = deletion(global, session);
    global.try_add(store, commit).await.expect("is deleted");
}

/// A session with a bit of everything: keys, a blob, a finished and a running task, partial text.
async fn full(store: &Arc<dyn Store>, n: u128) -> Log {
    let mut log = Log::created(store, session(n)).await;
    log.add(store, vec![queued(log.session, task(n), 1), started(task(n))]).await;
    log.add(store, vec![completed(task(n), message(n))]).await;
    let name = format!("of {n}");
    let bytes = blob(name.as_bytes());
    let mut commit = log.next(vec![
        appended(message(100 + n), None, &format!("sha256:{}", bytes.hash)),
        queued(log.session, task(50 + n), 1),
        started(task(50 + n)),
        updated(|it| it.title = Some(name.clone())),
    ]);
    commit.keys = vec![key(&name)];
    commit.blobs = vec![bytes];
    log.try_add(store, commit).await.expect("is stored");
    let piece = PartialPiece {
        session: log.session,
        task: task(50 + n),
        message: message(150 + n),
        reset: false,
        pieces: vec![(0, false, "so far".to_owned())],
    };
    store.keep_partial(piece).await.expect("is kept");
    log
}

async fn is_whole(store: &Arc<dyn Store>, log: &Log, n: u128) {
    let name = format!("of {n}");
    let loaded = store.load(log.session).await.expect("loads").expect("is there");
    assert_eq!((loaded.hash, loaded.partial.is_some()), (log.hash, true));
    let events = store.events(log.session, 0, 99, 1 << 20).await.expect("are read");
    assert!(events.iter().map(|it| it.json.get()).eq(log.json()));
    assert_eq!(kept(store, &name).await, Some(key(&name)));
    let bytes = Hash::of(name.as_bytes());
    assert!(store.blob(bytes, 0, 9).await.expect("answers").is_some());
    assert!(store.task(task(n)).await.expect("answers").is_some());
    assert!(store.message(log.session, message(n)).await.expect("answers").is_some());
}

pub(crate) async fn a_deleted_session_leaves_nothing(store: Arc<dyn Store>) {
    let log = full(&store, 1).await;
    is_whole(&store, &log, 1).await;
    let mut global = Log::of(SessionId::GLOBAL);
    let mut commit = deletion(&global, log.session);
    commit.keys = vec![key("the deletion")];
    global.try_add(&store, commit).await.expect("is deleted");
    assert!(store.load(log.session).await.expect("answers").is_none());
    assert!(store.events(log.session, 0, 99, 99).await.expect("answers").is_empty());
    assert_eq!(store.mark(log.session, 1).await, Ok(None));
    assert!(store.message(log.session, message(1)).await.expect("answers").is_none());
    assert_eq!(store.task(task(1)).await, Ok(None));
    assert_eq!(store.place(&task(51).to_string()).await, Ok(None));
    assert_eq!(store.place(&MessageId(task(1).0).to_string()).await, Ok(None));
    assert_eq!(kept(&store, "of 1").await, None);
    assert_eq!(store.blob(Hash::of(b"of 1"), 0, 9).await, Ok(None));
    assert_eq!(store.sessions_by_title("of 1", 9).await, Ok(vec![]));
    assert_eq!(store.active(None).await, Ok(None));
    let all = SessionFilter { limit: 9, ..SessionFilter::default() };
    assert_eq!(store.sessions(all).await, Ok(vec![]));
    let counts = store.counts().await.expect("counts");
    assert_eq!((counts.sessions, counts.running), (0, 0));
    // The deletion itself stays, with its key, so that a retry is answered as before.
    assert_eq!(kept(&store, "the deletion").await, Some(key("the deletion")));
    let told = store.events(SessionId::GLOBAL, 0, 99, 1 << 20).await.expect("are read");
    assert!(told.iter().map(|it| it.json.get()).eq(global.json()));
}

pub(crate) async fn a_deletion_spares_the_other_sessions(store: Arc<dyn Store>) {
    let (first, second) = (full(&store, 1).await, full(&store, 2).await);
    let mut global = Log::of(SessionId::GLOBAL);
    delete(&store, &mut global, first.session).await;
    is_whole(&store, &second, 2).await;
    assert_eq!(store.active(None).await, Ok(Some(second.session)));
    delete(&store, &mut global, second.session).await;
    assert_eq!(store.counts().await.expect("counts").sessions, 0);
}

pub(crate) async fn blobs_stay_while_any_session_uses_them(store: Arc<dyn Store>) {
    let shared = blob(b"shared");
    let name = format!("sha256:{}", shared.hash);
    let mut logs = Vec::new();
    for n in 1..=3 {
        let mut log = Log::created(&store, session(n)).await;
        let image = serde_json::json!({"type": "image", "media_type": "image/png", "blob": name});
        let mut event = appended(message(n), None, "see");
        event.1["message"]["content"] = serde_json::json!([image]);
        let mut commit = log.next(vec![event]);
        // The last only names it, as a fork does.
        commit.blobs = if n < 3 { vec![shared.clone()] } else { Vec::new() };
        log.try_add(&store, commit).await.expect("is stored");
        logs.push(log);
    }
    let mut global = Log::of(SessionId::GLOBAL);
    for (place, log) in logs.iter().enumerate() {
        let found = store.blob(shared.hash, 0, 9).await;
        assert_eq!(found, Ok(Some((b"shared".to_vec(), 6))), "{place} are deleted");
        delete(&store, &mut global, log.session).await;
    }
    assert_eq!(store.blob(shared.hash, 0, 9).await, Ok(None));
}

pub(crate) async fn a_refused_deletion_deletes_nothing(store: Arc<dyn Store>) {
    let log = full(&store, 1).await;
    let mut global = Log::of(SessionId::GLOBAL);
    let mut stale = deletion(&global, log.session);
    stale.keys = vec![key("fresh")];
    delete(&store, &mut global, session(9)).await;
    assert_eq!(store.commit(stale).await, Err(StoreError::NotNext));
    is_whole(&store, &log, 1).await;
    let mut taken = deletion(&global, log.session);
    taken.keys = vec![key("of 1")];
    assert_eq!(store.commit(taken).await, Err(StoreError::KeyTaken));
    is_whole(&store, &log, 1).await;
    assert_eq!(kept(&store, "fresh").await, None);
}

pub(crate) async fn a_deleted_id_can_begin_again(store: Arc<dyn Store>) {
    let mut log = full(&store, 1).await;
    let mut global = Log::of(SessionId::GLOBAL);
    delete(&store, &mut global, log.session).await;
    let late = log.next(vec![appended(message(9), None, "late")]);
    assert_eq!(log.try_add(&store, late).await, Err(StoreError::NotNext));
    assert!(store.load(log.session).await.expect("answers").is_none());
    let mut anew = Log::of(log.session);
    let mut first = anew.next(vec![created(whole_session(log.session, anew.at), anew.at)]);
    first.keys = vec![key("of 1")];
    anew.try_add(&store, first).await.expect("begins again");
    let loaded = store.load(log.session).await.expect("loads").expect("is there");
    assert_eq!((loaded.view.seq(), loaded.partial), (1, None));
}
