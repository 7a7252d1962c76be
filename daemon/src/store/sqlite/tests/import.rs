//! What is seen of a session from elsewhere before all of it is there: nothing, to anybody, whatever ends it.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use sess_protocol::methods::UsageBy;
use tokio::task::JoinHandle;

use super::super::importing::Step;
use super::super::pieces::Piece;
use super::*;
use crate::store::{ImportSource, Imported};

/// Turns of the session: several pieces before the pause, and some behind it.
const TURNS: usize = 240;
/// The commit before which a source pauses. With no more than one piece read ahead, at least two are stored.
const PAUSE_AT: usize = 400;
/// Questions that are asked until what was left is gone.
const LOOKS_MAX: usize = 1_000_000;

/// A session of another store: with many turns, a task that waits, and a blob.
struct Elsewhere {
    story: Story,
    queued: TaskId,
    blob: NewBlob,
    commits: Vec<Commit>,
}

impl Elsewhere {
    fn new() -> Self {
        let mut story = Story::new(9);
        let queued = task(u128::MAX >> 80);
        let blob = NewBlob { hash: Hash::of(b"from elsewhere"), bytes: b"from elsewhere".into() };
        let mut commits = vec![story.create()];
        commits.push(story.commit(&[(
            "task.queued",
            json!({"task": {"id": queued, "session": story.id, "status": "queued", "order": 1}}),
        )]));
        commits.push(story.commit(&[("notice", names(&blob))]));
        for turn in 0..TURNS {
            commits.extend(story.turn(&format!("question {turn} ").repeat(400), "answer"));
        }
        Self { story, queued, blob, commits }
    }

    fn key() -> KeptKey {
        let record = KeyRecord { key: "k".into(), digest: Hash::of(b"k"), answer: "{}".into() };
        KeptKey { record, at: NOW }
    }

    /// A source that says when it pauses, and is told whether to go on or to break.
    fn paused(&self) -> (Arc<Paused>, oneshot::Receiver<()>, SyncSender<bool>) {
        let (reached, is_reached) = oneshot::channel();
        let (go, goes) = sync_channel(1);
        let source = Paused {
            blob: self.blob.clone(),
            commits: self.commits.clone(),
            reached: Mutex::new(Some(reached)),
            goes: Mutex::new(goes),
        };
        (Arc::new(source), is_reached, go)
    }

    /// Begins to come in, and pauses.
    async fn half(&self, store: &Arc<SqliteStore>) -> Half {
        let (source, reached, go) = self.paused();
        let (store, id) = (Arc::clone(store), self.story.id);
        let coming = tokio::spawn(async move { store.import(id, source, Some(Self::key())).await });
        reached.await.unwrap();
        Half { coming, go }
    }
}

/// An import that pauses.
struct Half {
    coming: JoinHandle<Result<(), StoreError>>,
    go: SyncSender<bool>,
}

impl Half {
    async fn ends(self, well: bool) -> Result<(), StoreError> {
        self.go.send(well).unwrap();
        self.coming.await.unwrap()
    }
}

fn names(blob: &NewBlob) -> Value {
    json!({"thing": {"id": "x", "blobs": [format!("sha256:{}", blob.hash)]}})
}

#[derive(Debug)]
struct Paused {
    blob: NewBlob,
    commits: Vec<Commit>,
    reached: Mutex<Option<oneshot::Sender<()>>>,
    goes: Mutex<Receiver<bool>>,
}

impl ImportSource for Paused {
    fn read(
        &self,
        each: &mut dyn FnMut(Imported) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        each(Imported::Blob(self.blob.clone()))?;
        for (at, commit) in self.commits.iter().enumerate() {
            if at == PAUSE_AT
                && let Some(reached) = self.reached.lock().unwrap().take()
            {
                // A test that is over needs no source.
                let _ = reached.send(());
                if self.goes.lock().unwrap().recv() != Ok(true) {
                    return Err(StoreError::Unavailable("the file is gone".to_owned()));
                }
            }
            each(Imported::Commit(Box::new(commit.clone())))?;
        }
        Ok(())
    }
}

/// Rows of a table that belong to sessions on their way; `importing` itself has one for each.
fn left(folder: &Folder, table: &str) -> i64 {
    let column = if table == "importing" { "no" } else { "session" };
    let sql = format!("SELECT count(*) FROM {table} WHERE {column} IN (SELECT no FROM importing)");
    looking(folder).query_row(&sql, (), |row| row.get(0)).unwrap()
}

/// A look at the tables that leaves SQLite's log as it is, also where the store is not open.
fn looking(folder: &Folder) -> Connection {
    open::reading(folder.path()).unwrap()
}

fn count(folder: &Folder, table: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM {table}");
    looking(folder).query_row(&sql, (), |row| row.get(0)).unwrap()
}

/// Whether nobody can see anything of it, beside sessions of which so many are there.
async fn is_unseen(store: &SqliteStore, folder: &Folder, other: &Elsewhere, sessions: u64) {
    let id = other.story.id;
    assert!(store.load(id).await.unwrap().is_none());
    assert!(store.events(id, 0, 1, 1).await.unwrap().is_empty());
    assert!(store.commits(id, 0, 1).await.unwrap().is_empty());
    assert_eq!(store.mark(id, 1).await.unwrap(), None);
    let (asked, told, task) = (message((9 << 32) + 1), message((9 << 32) + 2), task((9 << 32) + 1));
    assert!(store.message(id, asked).await.unwrap().is_none());
    let page = MessagePage { head: asked, before: None, after: None, limit: 9 };
    assert!(store.messages(id, page).await.unwrap().is_none());
    for unsettled in [false, true] {
        let filter = SessionFilter { limit: 9, unsettled, ..SessionFilter::default() };
        let list = store.sessions(filter).await.unwrap();
        assert!(list.len() as u64 <= sessions && list.iter().all(|it| it["id"] != json!(id)));
    }
    let begun = store.sessions_by_prefix("", 9).await.unwrap();
    assert!(begun.len() as u64 == sessions && !begun.contains(&id), "{begun:?}");
    for title in [format!("story {id}"), String::new()] {
        assert_eq!(store.sessions_by_title(&title, 9).await.unwrap(), []);
    }
    assert_ne!(store.active(None).await.unwrap(), Some(id));
    for task in [task, other.queued] {
        assert!(store.task(task).await.unwrap().is_none());
        assert!(store.answer(task).await.unwrap().is_none());
        assert_eq!(store.place(&task.to_string()).await.unwrap(), None);
        let filter = TaskFilter { limit: 9, behind: Some(task), ..TaskFilter::default() };
        assert!(store.tasks(filter).await.unwrap().iter().all(|it| it["session"] != json!(id)));
    }
    for message in [asked, told] {
        assert_eq!(store.place(&message.to_string()).await.unwrap(), None);
    }
    let filter = TaskFilter { limit: 9, ..TaskFilter::default() };
    assert!(store.tasks(filter).await.unwrap().iter().all(|it| it["session"] != json!(id)));
    for (by, since) in [(UsageBy::Session, None), (UsageBy::Call, Some(Timestamp(0)))] {
        let filter = UsageFilter { session: None, since, by, limit: 9 };
        let used = store.usage(filter).await.unwrap();
        assert!(!serde_json::to_string(&used).unwrap().contains(&id.to_string()));
    }
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.sessions, counts.queued, counts.running), (sessions, 0, 0));
    assert!(store.blob(other.blob.hash, 0, 9).await.unwrap().is_none());
    assert_eq!(store.key("k", NOW).await.unwrap(), None);
    let sql = "SELECT count(*) FROM messages WHERE session = ?";
    let seen: i64 = looking(folder).query_row(sql, [id.to_string()], |row| row.get(0)).unwrap();
    assert_eq!(seen, 0);
    let report = check(folder.path()).unwrap();
    assert_eq!((report.sessions, report.faults), (sessions, vec![]));
}

/// Asks until all that was left is removed.
async fn is_removed(store: &SqliteStore, folder: &Folder) {
    for _ in 0..LOOKS_MAX {
        if count(folder, "importing") == 0 {
            break;
        }
        store.counts().await.unwrap();
    }
    assert_eq!(count(folder, "importing"), 0);
    for table in ["log", "message_rows", "tasks", "things", "usage", "blob_refs"] {
        let sql =
            format!("SELECT count(*) FROM {table} WHERE session NOT IN (SELECT no FROM sessions)");
        let rows: i64 = looking(folder).query_row(&sql, (), |row| row.get(0)).unwrap();
        assert_eq!(rows, 0, "{table}");
    }
}

#[tokio::test]
async fn others_go_on_amid_an_import_and_see_it_whole_or_not_at_all() {
    let folder = Folder::new();
    let store = Arc::new(folder.open());
    let other = Elsewhere::new();
    let half = other.half(&store).await;
    for table in ["log", "message_rows", "tasks", "things", "usage", "blob_refs", "importing"] {
        assert!(left(&folder, table) > 0, "{table}: nothing is there that could be seen");
    }
    is_unseen(&store, &folder, &other, 0).await;
    let mut story = told(&store, 1, 2).await;
    store.commit(story.commit(&[("notice", names(&other.blob))])).await.unwrap();
    is_unseen(&store, &folder, &other, 1).await;
    agrees(&store, &story).await.unwrap();
    assert_eq!(half.ends(true).await, Ok(()));
    agrees(&store, &other.story).await.unwrap();
    agrees(&store, &story).await.unwrap();
    assert_eq!(store.key("k", NOW).await.unwrap(), Some(Elsewhere::key().record));
    assert!(store.blob(other.blob.hash, 0, 9).await.unwrap().is_some());
    assert_eq!(store.counts().await.unwrap().queued, 1);
    is_removed(&store, &folder).await;
    let report = check(folder.path()).unwrap();
    assert_eq!((report.sessions, report.faults), (2, vec![]));
    store.close().await.unwrap();
    agrees(&folder.open(), &other.story).await.unwrap();
}

#[tokio::test]
async fn an_import_that_breaks_off_or_is_given_up_is_removed_and_comes_again() {
    let folder = Folder::new();
    let store = Arc::new(folder.open());
    let other = Elsewhere::new();
    let mut story = told(&store, 1, 1).await;
    let broken = other.half(&store).await;
    // It names the blob, but does not bring it.
    store.commit(story.commit(&[("notice", names(&other.blob))])).await.unwrap();
    let gone = StoreError::Unavailable("the file is gone".to_owned());
    assert_eq!(broken.ends(false).await, Err(gone));
    is_unseen(&store, &folder, &other, 1).await;
    let given_up = other.half(&store).await;
    given_up.coming.abort();
    assert!(given_up.coming.await.unwrap_err().is_cancelled());
    drop(given_up.go);
    is_unseen(&store, &folder, &other, 1).await;
    is_removed(&store, &folder).await;
    assert_eq!(count(&folder, "blobs"), 0);
    let third = other.half(&store).await;
    // It brings the blob itself, so that it stays whatever becomes of the import.
    let mut bringing = story.commit(&[("notice", names(&other.blob))]);
    bringing.blobs = vec![other.blob.clone()];
    store.commit(bringing).await.unwrap();
    assert!(store.blob(other.blob.hash, 0, 9).await.unwrap().is_some());
    assert!(third.ends(false).await.is_err());
    is_removed(&store, &folder).await;
    assert!(store.blob(other.blob.hash, 0, 9).await.unwrap().is_some());
    assert_eq!(other.half(&store).await.ends(true).await, Ok(()));
    agrees(&store, &other.story).await.unwrap();
    agrees(&store, &story).await.unwrap();
}

#[tokio::test]
async fn a_session_that_was_made_meanwhile_stays_as_it_is() {
    let folder = Folder::new();
    let store = Arc::new(folder.open());
    let other = Elsewhere::new();
    let half = other.half(&store).await;
    let mine = told(&store, 9, 1).await;
    assert_eq!(half.ends(true).await, Err(StoreError::NotNext));
    is_removed(&store, &folder).await;
    agrees(&store, &mine).await.unwrap();
    assert_eq!(store.key("k", NOW).await.unwrap(), None);
}

/// Leaves the store as a crash in the middle of an import does.
fn crashed(folder: &Folder, other: &Elsewhere) {
    let opened = open::open(folder.path()).unwrap();
    let mut imports = Imports::new(folder.path(), false);
    imports.step(&Step::Begin(other.story.id, Some(Elsewhere::key()))).unwrap();
    let mut piece = Piece::default();
    piece.push(Imported::Blob(other.blob.clone()));
    for commit in &other.commits[..PAUSE_AT] {
        piece.push(Imported::Commit(Box::new(commit.clone())));
    }
    imports.step(&Step::Piece(piece)).unwrap();
    drop((imports, opened));
}

#[tokio::test]
async fn what_a_crash_leaves_of_an_import_is_not_seen_and_is_removed_at_the_next_start() {
    let folder = Folder::new();
    let story = told(&folder.open(), 1, 1).await;
    let other = Elsewhere::new();
    crashed(&folder, &other);
    assert!(left(&folder, "log") > 0 && left(&folder, "blob_refs") > 0);
    let report = check(folder.path()).unwrap();
    assert_eq!((report.sessions, report.faults), (1, vec![]));
    let store = folder.open();
    is_unseen(&store, &folder, &other, 1).await;
    let mut more = told(&store, 2, 1).await;
    is_removed(&store, &folder).await;
    assert_eq!(count(&folder, "blobs"), 0);
    for commit in more.turn("question", "answer") {
        store.commit(commit).await.unwrap();
    }
    agrees(&store, &story).await.unwrap();
    agrees(&store, &more).await.unwrap();
    let report = check(folder.path()).unwrap();
    assert_eq!((report.sessions, report.faults), (2, vec![]));
}

#[tokio::test]
async fn what_is_left_is_removed_bit_by_bit_and_damage_in_it_stops_no_start() {
    let folder = Folder::new();
    told(&folder.open(), 1, 1).await;
    let other = Elsewhere::new();
    crashed(&folder, &other);
    let damaging = open::importing(folder.path()).unwrap();
    damaging.execute("UPDATE tasks SET crc = 0 WHERE session > 1", ()).unwrap();
    drop(damaging);
    let opened = open::open(folder.path()).unwrap();
    let mut imports = Imports::new(folder.path(), importing::are_there(&opened.conn).unwrap());
    let (mut steps, mut before) = (0, left(&folder, "log"));
    let tables = ["message_rows", "tasks", "things", "usage", "blob_refs"];
    before += tables.iter().map(|it| left(&folder, it)).sum::<i64>();
    while imports.has_left() {
        imports.sweep().unwrap();
        let now: i64 = ["log"].iter().chain(&tables).map(|it| left(&folder, it)).sum();
        assert!(before - now <= 256, "{} rows at once", before - now);
        (before, steps) = (now, steps + 1);
    }
    assert!(steps >= 8, "{steps}");
    assert_eq!(count(&folder, "importing"), 0);
}
