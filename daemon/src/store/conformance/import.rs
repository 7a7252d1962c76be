//! Whether a session that comes from elsewhere is stored whole with its key, or not at all.

use std::sync::Arc;

use super::build::{Log, blob, key, session, updated};
use crate::store::{
    Commit, ImportSource, Imported, KeptKey, NewBlob, SessionFilter, Store, StoreError,
};

/// Parts that may end in trouble.
#[derive(Debug)]
struct Source {
    blob: NewBlob,
    commits: Vec<Commit>,
    breaks: bool,
}

impl ImportSource for Source {
    fn read(
        &self,
        each: &mut dyn FnMut(Imported) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        each(Imported::Blob(self.blob.clone()))?;
        for commit in &self.commits {
            each(Imported::Commit(Box::new(commit.clone())))?;
        }
        let broken = StoreError::Unavailable("the file is gone".to_owned());
        if self.breaks { Err(broken) } else { Ok(()) }
    }
}

/// A session of another store, with a few commits.
async fn elsewhere(breaks: bool) -> (Log, Arc<Source>) {
    let other: Arc<dyn Store> = Arc::new(crate::store::memory::MemoryStore::new(7));
    let mut log = Log::created(&other, session(9)).await;
    let bytes = blob(b"from elsewhere");
    for _ in 0..20 {
        let name = format!("sha256:{}", bytes.hash);
        log.add(&other, vec![updated(|it| it.title = Some(name))]).await;
    }
    let commits = log.commits.clone();
    (log, Arc::new(Source { blob: bytes, commits, breaks }))
}

fn decided(log: &Log, name: &str) -> Option<KeptKey> {
    Some(KeptKey { record: key(name), at: log.at })
}

/// An import is there with its key, and goes on like any session.
pub(crate) async fn an_import_is_stored_with_its_key(store: Arc<dyn Store>) {
    let (mut log, source) = elsewhere(false).await;
    let done = store.import(log.session, source.clone(), decided(&log, "k")).await;
    assert_eq!(done, Ok(()));
    let loaded = store.load(log.session).await.expect("loads").expect("is there");
    assert_eq!((loaded.hash, loaded.view.session()), (log.hash, log.view().session()));
    assert_eq!(store.key("k", log.at).await, Ok(Some(key("k"))));
    let piece = store.blob(source.blob.hash, 0, 100).await.expect("reads");
    assert_eq!(piece.map(|it| it.0), Some(source.blob.bytes.clone()));
    log.add(&store, vec![updated(|it| it.title = Some("on".to_owned()))]).await;
}

/// A key that is taken is the refusal also where the session is there.
pub(crate) async fn an_import_is_made_once(store: Arc<dyn Store>) {
    let (log, source) = elsewhere(false).await;
    for name in ["k", "other"] {
        let (source, name) = (source.clone(), decided(&log, name));
        let done = store.import(log.session, source, name).await;
        let there = store.key("k", log.at).await;
        assert_eq!(there, Ok(Some(key("k"))));
        assert!(matches!(done, Ok(()) | Err(StoreError::NotNext)));
    }
    let again = store.import(log.session, source, decided(&log, "k")).await;
    assert_eq!(again, Err(StoreError::KeyTaken));
    assert_eq!(store.key("other", log.at).await, Ok(None));
}

/// Of two at once the one that is first is stored, and the other finds it there.
pub(crate) async fn of_two_imports_at_once_one_is_stored(store: Arc<dyn Store>) {
    let (log, source) = elsewhere(false).await;
    let (one, two) = tokio::join!(
        store.import(log.session, source.clone(), decided(&log, "k")),
        store.import(log.session, source.clone(), decided(&log, "other")),
    );
    let refused = Err(StoreError::NotNext);
    assert!([(Ok(()), refused.clone()), (refused, Ok(()))].contains(&(one.clone(), two)));
    let first = store.key("k", log.at).await.expect("reads");
    assert_eq!(first.is_some(), one.is_ok());
    let loaded = store.load(log.session).await.expect("loads").expect("is there");
    assert_eq!((loaded.hash, loaded.view.session()), (log.hash, log.view().session()));
}

/// Commits that are not a session from its beginning leave nothing.
pub(crate) async fn an_import_with_a_gap_leaves_nothing(store: Arc<dyn Store>) {
    let (log, whole) = elsewhere(false).await;
    for gap in [0, 10] {
        let mut commits = whole.commits.clone();
        commits.remove(gap);
        let source = Arc::new(Source { blob: whole.blob.clone(), commits, breaks: false });
        let done = store.import(log.session, source, decided(&log, "k")).await;
        assert_eq!(done, Err(StoreError::NotNext));
        assert!(store.load(log.session).await.expect("loads").is_none());
        assert_eq!(store.key("k", log.at).await, Ok(None));
        assert_eq!(store.blob(whole.blob.hash, 0, 1).await, Ok(None));
    }
}

/// A source that breaks off leaves neither session, nor key, nor blob.
pub(crate) async fn an_import_that_breaks_off_leaves_nothing(store: Arc<dyn Store>) {
    let (log, source) = elsewhere(true).await;
    let done = store.import(log.session, source.clone(), decided(&log, "k")).await;
    assert_eq!(done, Err(StoreError::Unavailable("the file is gone".to_owned())));
    assert!(store.load(log.session).await.expect("loads").is_none());
    assert_eq!(store.key("k", log.at).await, Ok(None));
    assert_eq!(store.blob(source.blob.hash, 0, 1).await, Ok(None));
    let filter = SessionFilter { limit: 10, ..SessionFilter::default() };
    assert_eq!(store.sessions(filter).await.map(|it| it.len()), Ok(0));
    let (_, whole) = elsewhere(false).await;
    assert_eq!(store.import(log.session, whole, decided(&log, "k")).await, Ok(()));
}
