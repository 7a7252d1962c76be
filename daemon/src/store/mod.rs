//! The only door to what is kept: commits in, what they leave out.
//!
//! A commit is all that happened together in one session: stored together or not at all. Everything
//! else here is a question about commits. Nothing outside of this folder knows where they lie.

pub mod commit;
#[cfg(test)]
mod conformance;
pub mod memory;
pub mod sqlite;
mod usage;

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde_json::value::RawValue;
use sess_protocol::id::{MessageId, SessionId, TaskId};
use sess_protocol::methods::SessionUsageResult;
use sess_protocol::things::{Scope, SessionStatus, TaskStatus};
use sess_protocol::time::Timestamp;
use sess_protocol::view::{Members, View};

pub use commit::{Commit, Hash, KEY_MS, KeptKey, KeyRecord, NewBlob};
pub use usage::UsageFilter;

/// What a store could not do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The idempotency key of the commit is taken: nothing was changed.
    #[error("the idempotency key is taken")]
    KeyTaken,
    /// The commit does not follow the session's last one: nothing was changed, the actor reloads.
    #[error("the commit does not follow the last one")]
    NotNext,
    /// The disk is full, or the store cannot be reached: nothing was changed.
    #[error("{0}")]
    Unavailable(String),
    /// What is stored is damaged. Names session and place.
    #[error("{0}")]
    Damaged(String),
    /// Whether the commit is stored is not known; the process ends.
    #[error("{0}")]
    Unknown(String),
}

/// Questions that a store answers at a time.
pub const READERS: usize = 3;

/// The answer of a store, later.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// All that an actor needs to go on with a session.
#[derive(Debug)]
pub struct Loaded {
    /// Session, threads, tasks that are not final, approvals that wait, tool calls that are not
    /// final, goals, plans, notes; no messages.
    pub view: View,
    /// The hash of its last commit.
    pub hash: Hash,
    /// The unfinished message that was being written when the daemon ended.
    pub partial: Option<PartialText>,
}

/// Text of an unfinished message, as kept beside the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartialText {
    /// The task that writes it.
    pub task: TaskId,
    /// The id that it will have.
    pub message: MessageId,
    /// Its blocks so far, in order: whether reasoning, and the text.
    pub blocks: Vec<(bool, String)>,
}

/// More text of an unfinished message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartialPiece {
    /// The session.
    pub session: SessionId,
    /// The task.
    pub task: TaskId,
    /// The message.
    pub message: MessageId,
    /// Whether all kept before of this task is void (the model is asked again).
    pub reset: bool,
    /// The place of the block in the message, whether it is reasoning, and what is new of it.
    pub pieces: Vec<(u32, bool, String)>,
}

/// One event as it lies in its commit.
#[derive(Debug, Clone)]
pub struct StoredEvent {
    /// Its number.
    pub seq: u64,
    /// The first 16 hex digits of its commit's hash: the last part of its cursor.
    pub mark: String,
    /// The event's own JSON, byte for byte.
    pub json: Box<RawValue>,
}

/// A commit as it was first written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCommit {
    /// The number of its last event.
    pub last: u64,
    /// Its hash.
    pub hash: Hash,
    /// Its body.
    pub body: String,
}

/// A part of a session that comes from elsewhere.
#[derive(Debug)]
pub enum Imported {
    /// Bytes that a commit behind it names.
    Blob(NewBlob),
    /// The next commit.
    Commit(Box<Commit>),
}

/// Where a session comes from. It can be read more than once, and is never held whole.
pub trait ImportSource: Send + Sync + std::fmt::Debug {
    /// Gives all parts in their order, until one is refused.
    ///
    /// # Errors
    /// The refusal, or that it can no longer be read.
    fn read(
        &self,
        each: &mut dyn FnMut(Imported) -> Result<(), StoreError>,
    ) -> Result<(), StoreError>;
}

/// Which sessions are asked for.
#[derive(Debug, Clone, Default)]
pub struct SessionFilter {
    /// Of this status.
    pub status: Option<SessionStatus>,
    /// Of the workspace with this path.
    pub workspace: Option<String>,
    /// Of this scope.
    pub scope: Option<Scope>,
    /// Of this agent.
    pub agent: Option<String>,
    /// With this tag.
    pub tag: Option<String>,
    /// With this text in title or description, without regard to case.
    pub text: Option<String>,
    /// Leave out those in which nobody spoke (no message, and no task ever accepted) and that were
    /// made before this moment (Unix ms).
    pub hide_empty_before: Option<i64>,
    /// Only those with something unsettled: a lock, a task that is not final, or `ephemeral`.
    pub unsettled: bool,
    /// The most that are answered.
    pub limit: u32,
    /// Only those behind this one in the order: its `updated_at` (Unix ms) and id.
    pub behind: Option<(i64, SessionId)>,
}

/// Which messages of a path are asked for.
#[derive(Debug, Clone, Copy)]
pub struct MessagePage {
    /// The newest message of the path.
    pub head: MessageId,
    /// Only those older than this one.
    pub before: Option<MessageId>,
    /// Only those newer than this one; then the oldest of them come first.
    pub after: Option<MessageId>,
    /// The most that are answered.
    pub limit: u32,
}

/// A page of messages, oldest first.
#[derive(Debug, Default)]
pub struct Messages {
    /// The messages' own JSON.
    pub messages: Vec<Box<RawValue>>,
    /// Whether the path goes on: to older ones, behind `after` to newer ones.
    pub more: bool,
}

/// Which tasks are asked for. The answer has running and waiting ones first, then queued ones in
/// their order, then final ones, newest first: that of the greatest id.
#[derive(Debug, Clone, Default)]
pub struct TaskFilter {
    /// Of this session.
    pub session: Option<SessionId>,
    /// Of this status.
    pub status: Option<TaskStatus>,
    /// The most that are answered.
    pub limit: u32,
    /// Only those behind this one in the order of all tasks of the session, or of all sessions,
    /// whatever its status. None are behind an unknown one.
    pub behind: Option<TaskId>,
}

/// What there is in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sessions.
    pub sessions: u64,
    /// Running tasks.
    pub running: u64,
    /// Queued tasks.
    pub queued: u64,
    /// Tasks that wait for an answer.
    pub waiting: u64,
    /// Bytes on disk.
    pub bytes: u64,
}

/// Where a thing lies that an id names, for a helpful `not_found`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The id is a task's, of this session.
    Task(SessionId),
    /// The id is a message's, of this session.
    Message(SessionId),
}

/// A copy of the whole store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupMade {
    /// Where it lies.
    pub path: PathBuf,
    /// Its bytes.
    pub bytes: u64,
    /// Sessions in it.
    pub sessions: u64,
    /// When it was made.
    pub at: Timestamp,
}

/// A store of sessions.
pub trait Store: Send + Sync + std::fmt::Debug {
    /// Stores a commit: durable when this answers. Never tried again by itself. Shared, for who saves
    /// it goes on with the same events when it is stored.
    fn save(&self, commit: Arc<Commit>) -> Answer<'_, ()>;

    /// Stores a commit that nobody else needs.
    fn commit(&self, commit: Commit) -> Answer<'_, ()> {
        self.save(Arc::new(commit))
    }

    /// Keeps more of an unfinished message beside the log, in a shared commit. It ends with
    /// the commit that has the message itself or a final state of the task; another message begins
    /// anew. Kept in order with the commits.
    fn keep_partial(&self, piece: PartialPiece) -> Answer<'_, ()>;

    /// Loads a session, in constant time. The log of facts of no session is always there.
    fn load(&self, session: SessionId) -> Answer<'_, Option<Loaded>>;

    /// The events behind `after`, in order, until `last` or until about `bytes` are read (at least
    /// one when there is one). Their hashes are checked against the chain.
    fn events(
        &self,
        session: SessionId,
        after: u64,
        last: u64,
        bytes: usize,
    ) -> Answer<'_, Vec<StoredEvent>>;

    /// The commits behind the one that ends with `after`, in order, until about `bytes` are read (at
    /// least one when there is one), checked like events.
    fn commits(
        &self,
        session: SessionId,
        after: u64,
        bytes: usize,
    ) -> Answer<'_, Vec<StoredCommit>>;

    /// Stores a session that comes from elsewhere, all of it and its key, or nothing. `KeyTaken` when
    /// the key is another's, else `NotNext` when there is a session of that id.
    fn import(
        &self,
        session: SessionId,
        source: Arc<dyn ImportSource>,
        key: Option<KeptKey>,
    ) -> Answer<'_, ()>;

    /// The mark of the commit that holds an event, for checking a cursor.
    fn mark(&self, session: SessionId, seq: u64) -> Answer<'_, Option<String>>;

    /// A page of the messages of a path, which may end early where they are long. An unknown message in the page's
    /// bounds answers `None`.
    fn messages(&self, session: SessionId, page: MessagePage) -> Answer<'_, Option<Messages>>;

    /// One message.
    fn message(&self, session: SessionId, message: MessageId) -> Answer<'_, Option<Box<RawValue>>>;

    /// Sessions (their own members, `followers` not among them), latest first by `updated_at`, then
    /// by id, newest and greatest first.
    fn sessions(&self, filter: SessionFilter) -> Answer<'_, Vec<Members>>;

    /// Up to `limit` sessions whose 32 hex digits begin like this.
    fn sessions_by_prefix(&self, digits: &str, limit: u32) -> Answer<'_, Vec<SessionId>>;

    /// Up to `limit` sessions with exactly this title, latest first.
    fn sessions_by_title(&self, title: &str, limit: u32) -> Answer<'_, Vec<SessionId>>;

    /// The session with the greatest `active_at` (of a workspace, or over all) that is later than
    /// the last clear of it in the global log. A clear of a workspace is not one over all, nor the
    /// other way round.
    fn active(&self, workspace: Option<&str>) -> Answer<'_, Option<SessionId>>;

    /// A task with the session that it belongs to.
    fn task(&self, task: TaskId) -> Answer<'_, Option<(SessionId, Members)>>;

    /// The last answer of a task, whole or partial, that its final event appended.
    fn answer(&self, task: TaskId) -> Answer<'_, Option<Box<RawValue>>>;

    /// The greatest id of a task or message, answers amid their writing among them, that is at most `until`.
    fn newest_id(&self, until: u128) -> Answer<'_, Option<u128>>;

    /// Tasks by state and order.
    fn tasks(&self, filter: TaskFilter) -> Answer<'_, Vec<Members>>;

    /// What an id of another kind than asked for names.
    fn place(&self, id: &str) -> Answer<'_, Option<Place>>;

    /// The record of an idempotency key; none any more when it is older than [`KEY_MS`].
    fn key(&self, key: &str, now: Timestamp) -> Answer<'_, Option<KeyRecord>>;

    /// Keeps the record of a request to a session that changed nothing. Refused like a commit with
    /// this key; without such a session `NotNext`.
    fn keep_key(&self, session: SessionId, kept: KeptKey) -> Answer<'_, ()>;

    /// A piece of a blob and the bytes of the whole, checked against its hash.
    fn blob(&self, hash: Hash, offset: u64, length: u64) -> Answer<'_, Option<(Vec<u8>, u64)>>;

    /// What model calls used, summed up.
    fn usage(&self, filter: UsageFilter) -> Answer<'_, SessionUsageResult>;

    /// What there is in all.
    fn counts(&self) -> Answer<'_, Counts>;

    /// Makes a copy of the whole store while it is used, checks it, and keeps the newest `keep`.
    fn back_up(&self, _keep: usize) -> Answer<'_, BackupMade> {
        let text = format!("a store of kind `{}` makes no backups", self.kind());
        Box::pin(std::future::ready(Err(StoreError::Unavailable(text))))
    }

    /// When the newest copy was made.
    fn backed_up_at(&self) -> Option<Timestamp> {
        None
    }

    /// The copies there are, oldest first.
    fn backups(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// The store's own id, which is part of every cursor. Changes when a backup is restored.
    fn history(&self) -> &str;

    /// `sqlite`, or `memory`.
    fn kind(&self) -> &'static str;

    /// Where it lies.
    fn path(&self) -> String;

    /// Comes back when the store has failed for good: the process ends.
    fn failed(&self) -> BoxFuture<'_, ()>;

    /// Stores what is under way, tidies up, and closes. Nothing is accepted behind it.
    fn close(&self) -> Answer<'_, ()>;
}
