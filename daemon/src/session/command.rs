//! What can be asked of a live session, and how it answers.

use sess_protocol::error::Error;
use sess_protocol::event::Fact;
use sess_protocol::id::{CheckpointId, LockId, MessageId, SessionId, TaskId};
use sess_protocol::live::Live;
use sess_protocol::methods::{
    ChatSendParams, EventAppendParams, SessionCreateParams, SessionUpdateParams,
};
use sess_protocol::things::By;
use sess_protocol::view::Members;
use tokio::sync::oneshot;

use super::again::{NewWords, Retry};
use super::followers::FeedSender;
use super::members::Birth;
use crate::store::Hash;

/// A result as JSON, or a refusal.
pub type Outcome = Result<String, Error>;
/// Where an outcome goes.
pub type Reply = oneshot::Sender<Outcome>;
/// A connection, for locks: an id that is never used again.
pub type ConnectionId = u64;

/// Who asks for a change, and what holds for it.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The connection.
    pub connection: ConnectionId,
    /// The client.
    pub by: By,
    /// The idempotency key with the digest of method and params.
    pub key: Option<(String, Hash)>,
    /// What the session's number must be.
    pub expect_seq: Option<u64>,
    /// What the thread's newest message must be.
    pub expect_head: Option<Option<String>>,
}

/// A change that a client asks for.
#[derive(Debug)]
pub enum Intent {
    /// Make the session.
    Create(Box<(Birth, SessionCreateParams)>),
    /// Change its members.
    Update(Box<SessionUpdateParams>),
    /// Make it the active one.
    Activate,
    /// Hold it.
    Lock {
        /// The id that the lock will have.
        id: LockId,
        /// Whether to wait in line for it.
        wait: bool,
    },
    /// Let it go.
    Release {
        /// Also another's hold.
        force: bool,
    },
    /// Write what is unsaved and make a checkpoint.
    Persist(CheckpointId),
    /// Say something.
    Send(Box<SendAsk>),
    /// End a task.
    Cancel(TaskId),
    /// Change a task that waits.
    UpdateTask(Box<NewWords>),
    /// Try a final task again.
    Retry(Retry),
    /// Keep a front end's own event.
    Own(Box<EventAppendParams>),
    /// End the session if nobody needs it.
    CleanUp,
    /// End the session for good.
    Delete {
        /// Also when a task is at work.
        force: bool,
    },
}

/// Something to say, with the ids that it will have.
#[derive(Debug)]
pub struct SendAsk {
    /// The session that is made for it in the same commit.
    pub birth: Option<Birth>,
    /// What the client gave.
    pub params: ChatSendParams,
    /// The task that it becomes.
    pub task: TaskId,
    /// The message that it becomes.
    pub message: MessageId,
}

/// A follower that joins.
#[derive(Debug)]
pub struct Join {
    /// Its id.
    pub id: u64,
    /// Its feed.
    pub feed: FeedSender,
    /// Whether it wants pieces.
    pub deltas: bool,
}

/// Where a follower joined: everything behind `seq` will come by its feed.
#[derive(Debug)]
pub struct Joined {
    /// The view of that moment.
    pub now: ViewNow,
    /// What was unfinished then, as JSON.
    pub live: Option<String>,
}

/// The view of a moment, without messages.
#[derive(Debug)]
pub struct ViewNow {
    /// The view's members but `messages` and `before`.
    pub snapshot: Members,
    /// The newest message of the current thread.
    pub head: Option<MessageId>,
    /// The last event.
    pub seq: u64,
    /// The hash of the last commit.
    pub hash: Hash,
}

/// A moment of a session: its view, and what is unfinished in it.
#[derive(Debug)]
pub struct Moment {
    /// The view.
    pub now: ViewNow,
    /// What the task at work has not finished.
    pub live: Option<Live>,
}

/// A change that is asked for, and by whom.
#[derive(Debug)]
pub struct Asked {
    /// The change.
    pub intent: Intent,
    /// Who asks.
    pub origin: Origin,
    /// Where the outcome goes.
    pub reply: Reply,
}

/// A fact of no session, for the global log.
#[derive(Debug)]
pub struct Append {
    /// The fact.
    pub fact: Fact,
    /// Who caused it.
    pub origin: Origin,
    /// The session that is deleted with it.
    pub deletes: Option<SessionId>,
    /// The answer, where it is known before.
    pub known: Option<String>,
    /// Makes the answer of the fact's number.
    pub answer: fn(&Fact, u64) -> String,
    /// Where the answer goes.
    pub reply: Reply,
}

/// What is put into a session's mailbox. Small: a mailbox holds room for many from the start.
#[derive(Debug)]
pub enum Command {
    /// A change.
    Intent(Box<Asked>),
    /// A fact of no session, for the global log.
    Append(Box<Append>),
    /// What does it look like.
    View(oneshot::Sender<ViewNow>),
    /// The same, with what is unfinished.
    Moment(oneshot::Sender<Box<Moment>>),
    /// A task as it is, with its place in the line.
    Task(TaskId, oneshot::Sender<Option<Members>>),
    /// Answer when a task is final.
    Wait(TaskId, oneshot::Sender<Result<(), Error>>),
    /// Tell what happens from now on.
    Follow(Join, oneshot::Sender<Joined>),
    /// Tell no more.
    Unfollow(u64),
    /// A connection ended.
    Gone(ConnectionId),
}
