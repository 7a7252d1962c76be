//! Commits to test with, made from the typed facts.

use std::sync::Arc;

use serde_json::{Map, Value};
use sess_protocol::event::{
    Event, Fact, MessageAppended, SessionCreated, SessionUpdated, TaskCompleted, TaskQueued,
    TaskStarted,
};
use sess_protocol::id::{MessageId, SessionId, TaskId, ThreadId};
use sess_protocol::things::{
    Block, By, MessageKind, MessagePatch, MessageStatus, Mode, Role, Scope, SessionPatch,
    SessionStatus, TaskPatch, TaskRequest, TaskStatus, ThreadPatch, Usage, Workspace,
};
use sess_protocol::time::Timestamp;
use sess_protocol::view::View;

use crate::store::{Commit, Hash, KeyRecord, NewBlob, Store, StoreError};

/// The moment at which the test histories begin.
pub(crate) const START_MS: i64 = 1_795_219_200_000;

/// A session's id with digits that differ from the first on.
pub(crate) fn session(n: u128) -> SessionId {
    SessionId((n << 120) | (0x1234_5678 << 32) | n)
}

/// A task's id; greater ones are newer.
pub(crate) fn task(n: u128) -> TaskId {
    TaskId((0x0199_0000_0000_7000_8000 << 48) | n)
}

/// A message's id; greater ones are newer.
pub(crate) fn message(n: u128) -> MessageId {
    MessageId((0x0199_0000_0000_7000_9000 << 48) | n)
}

/// Who does things in tests.
pub(crate) fn by() -> By {
    By { client: "tester".to_owned(), pid: 7 }
}

/// The type and the data of an event to be.
pub(crate) type Said = (String, Map<String, Value>);

/// A fact of the table, to be told.
pub(crate) fn said(fact: impl Into<Fact>) -> Said {
    let fact = fact.into();
    (fact.kind().to_owned(), fact.data())
}

/// An event of any type.
pub(crate) fn raw(kind: &str, data: Value) -> Said {
    let Value::Object(data) = data else { panic!("data is an object") };
    (kind.to_owned(), data)
}

/// A session's log as the one who writes it knows it.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    pub(crate) session: SessionId,
    pub(crate) hash: Hash,
    /// When the next events happen.
    pub(crate) at: Timestamp,
    /// The commits that were taken.
    pub(crate) commits: Vec<Commit>,
}

impl Log {
    /// A log of which nothing is stored.
    pub(crate) fn of(session: SessionId) -> Self {
        let at = Timestamp(START_MS);
        Self { session, hash: Hash::default(), at, commits: Vec::new() }
    }

    /// A session that has just been made, as stored.
    pub(crate) async fn created(store: &Arc<dyn Store>, id: SessionId) -> Self {
        Self::created_at(store, id, START_MS, |_| {}).await
    }

    /// A session that was made at a moment, with members as changed.
    pub(crate) async fn created_at(
        store: &Arc<dyn Store>,
        id: SessionId,
        at: i64,
        change: impl FnOnce(&mut SessionPatch),
    ) -> Self {
        let mut log = Self::of(id);
        log.at = Timestamp(at);
        let mut session = whole_session(id, log.at);
        change(&mut session);
        log.add(store, vec![created(session, log.at)]).await;
        log
    }

    /// The number of the last event.
    pub(crate) fn seq(&self) -> u64 {
        self.commits.last().map_or(0, Commit::last)
    }

    /// The events so far.
    pub(crate) fn events(&self) -> impl Iterator<Item = &Event> {
        self.commits.iter().flat_map(|it| &it.events)
    }

    /// The events so far, as they lie in their commits.
    pub(crate) fn json(&self) -> Vec<String> {
        let json = self.commits.iter().flat_map(|it| &it.json);
        json.map(|it| it.get().to_owned()).collect()
    }

    /// All that the events leave.
    pub(crate) fn view(&self) -> View {
        let mut view = View::default();
        for event in self.events() {
            view.apply(event);
        }
        view
    }

    /// The commit of what is told next.
    pub(crate) fn next(&self, said: Vec<Said>) -> Commit {
        let numbered = (self.seq() + 1..).zip(said);
        let events = numbered.map(|(seq, (kind, data))| Event {
            seq,
            at: self.at,
            by: Some(by()),
            task: None,
            kind,
            stream: None,
            data,
        });
        Commit::new(self.session, self.hash, events.collect())
    }

    /// Tells what is next to the store.
    pub(crate) async fn try_add(
        &mut self,
        store: &Arc<dyn Store>,
        commit: Commit,
    ) -> Result<(), StoreError> {
        store.commit(commit.clone()).await?;
        self.hash = commit.hash;
        self.commits.push(commit);
        Ok(())
    }

    /// Tells what is next to the store, which must take it.
    pub(crate) async fn add(&mut self, store: &Arc<dyn Store>, said: Vec<Said>) {
        let commit = self.next(said);
        self.try_add(store, commit).await.expect("what follows is stored");
    }
}

/// A whole session.
pub(crate) fn whole_session(id: SessionId, at: Timestamp) -> SessionPatch {
    SessionPatch {
        id: Some(id),
        title: Some("a title".to_owned()),
        status: Some(SessionStatus::Active),
        model: Some("echo/echo".to_owned()),
        mode: Some(Mode::Ask),
        scope: Some(Scope::Global),
        agent: Some("general".to_owned()),
        thread: Some(ThreadId::main()),
        created_at: Some(at),
        updated_at: Some(at),
        active_at: Some(at),
        messages: Some(0),
        tasks: Some(0),
        usage: Some(Usage::default()),
        iterations: Some(0),
        queued: Some(0),
        approvals: Some(0),
        seq: Some(1),
        metadata: Some(Map::new()),
        tags: Some(Vec::new()),
        ..SessionPatch::new()
    }
}

/// A workspace of this path.
pub(crate) fn workspace(path: &str) -> Option<Option<Workspace>> {
    let name = path.rsplit('/').next().unwrap_or_default().to_owned();
    Some(Some(Workspace { path: path.to_owned(), name, branch: None, commit: None }))
}

/// The beginning of a session.
pub(crate) fn created(session: SessionPatch, at: Timestamp) -> Said {
    let mut thread = ThreadPatch::new(ThreadId::main());
    (thread.messages, thread.created_at) = (Some(0), Some(at));
    said(SessionCreated { session, thread })
}

/// A change of a session's members.
pub(crate) fn updated(change: impl FnOnce(&mut SessionPatch)) -> Said {
    let mut session = SessionPatch::new();
    change(&mut session);
    said(SessionUpdated { session })
}

/// A message with this text behind its parent.
pub(crate) fn text_message(id: MessageId, parent: Option<MessageId>, text: &str) -> MessagePatch {
    MessagePatch {
        thread: Some(ThreadId::main()),
        seq: Some(1),
        role: Some(Role::User),
        content: Some(vec![Block::text(text)]),
        at: Some(Timestamp(START_MS)),
        status: Some(MessageStatus::Complete),
        kind: Some(MessageKind::Text),
        parent: parent.map(Some),
        by: Some(Some(by())),
        ..MessagePatch::new(id)
    }
}

/// The thread `main` with its newest message.
pub(crate) fn main_at(head: MessageId, messages: u64) -> ThreadPatch {
    let mut thread = ThreadPatch::new(ThreadId::main());
    (thread.head, thread.messages) = (Some(Some(head)), Some(messages));
    thread
}

/// The counters of a session of which only these changed.
pub(crate) fn counters(messages: u64) -> SessionPatch {
    SessionPatch { messages: Some(messages), ..SessionPatch::new() }
}

/// A message that is appended to `main`.
pub(crate) fn appended(id: MessageId, parent: Option<MessageId>, text: &str) -> Said {
    said(MessageAppended {
        message: text_message(id, parent, text),
        session: counters(1),
        thread: Some(main_at(id, 1)),
        task: None,
    })
}

/// A task that was accepted and waits.
pub(crate) fn queued(session: SessionId, id: TaskId, order: i64) -> Said {
    let request = TaskRequest {
        message: MessageId(id.0),
        content: Some(vec![Block::text("do it")]),
        by: Some(by()),
    };
    let task = TaskPatch {
        session: Some(session),
        status: Some(TaskStatus::Queued),
        request: Some(request),
        order: Some(order),
        model: Some("echo/echo".to_owned()),
        created_at: Some(Timestamp(START_MS)),
        usage: Some(Usage::default()),
        thread: Some(Some(ThreadId::main())),
        ..TaskPatch::new(id)
    };
    let session = SessionPatch { tasks: Some(1), queued: Some(1), ..SessionPatch::new() };
    said(TaskQueued { task, session })
}

/// A task that runs, with its request's message.
pub(crate) fn started(id: TaskId) -> Said {
    let request = MessageId(id.0);
    let mut task = TaskPatch::new(id);
    task.status = Some(TaskStatus::Running);
    task.started_at = Some(Some(Timestamp(START_MS + 1)));
    task.request = Some(TaskRequest { message: request, content: None, by: None });
    let mut session = counters(1);
    (session.running, session.queued) = (Some(Some(id)), Some(0));
    said(TaskStarted {
        task,
        session,
        message: Some(text_message(request, None, "do it")),
        thread: Some(main_at(request, 1)),
    })
}

/// A task that is done, with its answer.
pub(crate) fn completed(id: TaskId, answer: MessageId) -> Said {
    let mut task = TaskPatch::new(id);
    task.status = Some(TaskStatus::Completed);
    task.ended_at = Some(Some(Timestamp(START_MS + 2)));
    let mut session = counters(2);
    session.running = Some(None);
    let mut message = text_message(answer, Some(MessageId(id.0)), "done");
    message.role = Some(Role::Assistant);
    said(TaskCompleted { task, session, message: Some(message), thread: Some(main_at(answer, 2)) })
}

/// The record of a key.
pub(crate) fn key(name: &str) -> KeyRecord {
    let digest = Hash::of(name.as_bytes());
    KeyRecord { key: name.to_owned(), digest, answer: format!("{{\"of\":\"{name}\"}}") }
}

/// The record that a store has of a key while the test histories happen.
pub(crate) async fn kept(store: &Arc<dyn Store>, name: &str) -> Option<KeyRecord> {
    store.key(name, Timestamp(START_MS)).await.expect("answers")
}

/// A blob of these bytes.
pub(crate) fn blob(bytes: &[u8]) -> NewBlob {
    NewBlob { hash: Hash::of(bytes), bytes: bytes.to_vec() }
}
