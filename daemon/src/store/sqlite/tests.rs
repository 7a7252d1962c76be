//! What only a store on a disk can get wrong: damage, crashes, a full disk, what a commit costs.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};
use sess_protocol::event::Event;
use sess_protocol::id::{MessageId, SessionId, TaskId};
use sess_protocol::time::Timestamp;
use sess_protocol::view::View;

use super::*;
use crate::store::{KeyRecord, NewBlob};

/// When the stories of these tests begin.
const NOW: Timestamp = Timestamp(1_795_255_200_000);

/// The cases that every store passes.
mod same_as_all {
    use std::sync::Arc;

    use super::*;
    use crate::store::conformance;

    async fn sqlite() -> (Arc<dyn Store>, Folder) {
        let folder = Folder::new();
        (Arc::new(SqliteStore::open(folder.path()).expect("a new store")), folder)
    }

    conformance::suite!(super::sqlite);
}

mod cost;
mod damage;
mod import;
mod life;

/// A folder of its own for each test, gone when the test is.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("sess-sqlite-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn database(&self) -> PathBuf {
        open::database_path(&self.0)
    }

    pub(super) fn log(&self) -> PathBuf {
        open::log_path(&self.0)
    }

    pub(super) fn open(&self) -> SqliteStore {
        SqliteStore::open(&self.0).unwrap()
    }

    /// By hand, as another program would.
    pub(super) fn by_hand(&self) -> Connection {
        Connection::open(self.database()).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(super) fn session(n: u128) -> SessionId {
    SessionId((0x1f2e_3d4c << 96) | n)
}

pub(super) fn message(n: u128) -> MessageId {
    MessageId((0x0199_8f2e_4c00 << 80) | n)
}

pub(super) fn task(n: u128) -> TaskId {
    TaskId((0x0199_8f2e_4c01 << 80) | n)
}

/// One session as an actor would hold it: makes its commits and folds them as the judge.
pub(super) struct Story {
    pub(super) id: SessionId,
    pub(super) hash: Hash,
    pub(super) view: View,
    said: u128,
}

impl Story {
    pub(super) fn new(n: u128) -> Self {
        Self { id: session(n), hash: Hash::default(), view: View::default(), said: n << 32 }
    }

    /// The next commit of these events, given as type and data.
    pub(super) fn commit(&mut self, events: &[(&str, Value)]) -> Commit {
        let seq = self.view.seq();
        let events: Vec<Event> = events
            .iter()
            .zip(seq + 1..)
            .map(|((kind, data), seq)| {
                let at = Timestamp(NOW.0 + i64::try_from(seq).unwrap());
                let data = data.as_object().unwrap().clone();
                Event {
                    seq,
                    at,
                    by: None,
                    task: None,
                    kind: (*kind).to_owned(),
                    stream: None,
                    data,
                }
            })
            .collect();
        for event in &events {
            self.view.apply(event);
        }
        let commit = Commit::new(self.id, self.hash, events);
        self.hash = commit.hash;
        commit
    }

    pub(super) fn create(&mut self) -> Commit {
        let now = "2026-11-21T10:00:00.000Z";
        let usage = json!({"input_tokens": 0, "output_tokens": 0, "total_tokens": 0,
            "cache_read_tokens": 0, "cache_write_tokens": 0, "reasoning_tokens": 0,
            "cost_usd": null});
        let session = json!({"id": self.id, "title": format!("story {}", self.id), "tags": [],
            "status": "active", "model": "echo/echo", "mode": "ask", "scope": "global",
            "agent": "general", "thread": "main", "created_at": now, "active_at": now,
            "messages": 0, "tasks": 0, "usage": usage, "iterations": 0, "queued": 0,
            "approvals": 0, "metadata": {}});
        let thread = json!({"id": "main", "messages": 0, "created_at": now});
        self.commit(&[("session.created", json!({"session": session, "thread": thread}))])
    }

    /// The two commits of a turn of one piece.
    pub(super) fn turn(&mut self, question: &str, answer: &str) -> [Commit; 2] {
        let (at, n) = ("2026-11-21T10:00:00.000Z", self.said + 1);
        let parent = self.view.thing("thread", "main").and_then(|it| it.get("head")).cloned();
        self.said += 2;
        let usage = json!({"input_tokens": 3, "output_tokens": 2, "total_tokens": 5,
            "cache_read_tokens": 0, "cache_write_tokens": 0, "reasoning_tokens": 0,
            "cost_usd": null});
        let (asked, told, task) = (message(n), message(n + 1), task(n));
        let seq = self.view.seq() + 1;
        let count = self.view.session()["messages"].as_u64().unwrap();
        let mut request = json!({"id": asked, "thread": "main", "seq": seq, "role": "user",
            "content": [{"type": "text", "text": question}], "at": at, "status": "complete",
            "kind": "text", "task": task, "by": {"client": "sess", "pid": 4242}});
        if let Some(parent) = parent {
            request["parent"] = parent;
        }
        let begin = self.commit(&[(
            "task.started",
            json!({
            "task": {"id": task, "session": self.id, "status": "running",
                "request": {"message": asked}, "order": n, "model": "echo/echo",
                "created_at": at, "started_at": at, "thread": "main"},
            "message": request, "thread": {"id": "main", "head": asked, "messages": count + 1},
            "session": {"messages": count + 1, "running": task, "active_at": at,
                "tasks": n}}),
        )]);
        let end = self.commit(&[(
            "task.completed",
            json!({
            "task": {"id": task, "status": "completed", "ended_at": at, "usage": usage},
            "message": {"id": told, "thread": "main", "seq": seq + 1, "role": "assistant",
                "content": [{"type": "text", "text": answer}], "at": at, "status": "complete",
                "kind": "text", "parent": asked, "task": task, "model": "echo/echo",
                "usage": usage, "attempt": 1, "ttft_ms": 0, "duration_ms": 1,
                "stop_reason": "stop"},
            "thread": {"id": "main", "head": told, "messages": count + 2},
            "session": {"messages": count + 2, "running": null, "usage": usage,
                "iterations": 1, "preview": answer}}),
        )]);
        [begin, end]
    }
}

/// Stores a session of this many turns.
pub(super) async fn told(store: &SqliteStore, n: u128, turns: usize) -> Story {
    let mut story = Story::new(n);
    store.commit(story.create()).await.unwrap();
    for turn in 0..turns {
        for commit in story.turn(&format!("question {turn}"), &format!("answer {turn}")) {
            store.commit(commit).await.unwrap();
        }
    }
    story
}

/// Whether the store says exactly what the story says, everywhere.
pub(super) async fn agrees(store: &SqliteStore, story: &Story) -> Result<(), StoreError> {
    let loaded = store.load(story.id).await?.expect("the session is there");
    assert_eq!(loaded.hash, story.hash);
    let (mine, theirs) = (&story.view, &loaded.view);
    assert_eq!(theirs.snapshot_without_messages(), mine.snapshot_without_messages());
    let mut folded = View::default();
    for event in store.events(story.id, 0, u64::MAX, usize::MAX).await? {
        folded.apply(&serde_json::from_str(event.json.get()).unwrap());
    }
    assert_eq!(&folded, mine);
    let (path, _) = mine.path(usize::MAX);
    if let Some(head) = path.last() {
        let head = head["id"].as_str().unwrap().parse().unwrap();
        let page = MessagePage { head, before: None, after: None, limit: 500 };
        let page = store.messages(story.id, page).await?.expect("the head is there");
        let read: Vec<Value> =
            page.messages.iter().map(|it| serde_json::from_str(it.get()).unwrap()).collect();
        let path: Vec<Value> = path.into_iter().cloned().map(Value::Object).collect();
        assert_eq!(read, path);
    }
    for task in mine.things("task") {
        let id = task["id"].as_str().unwrap().parse().unwrap();
        let (owner, found) = store.task(id).await?.expect("the task is there");
        assert_eq!((owner, &found), (story.id, task));
    }
    Ok(())
}
