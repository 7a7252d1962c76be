//! One run of one chat request.

use serde::{Deserialize, Serialize};

use super::{Block, By, Usage, thing, words};
use crate::id::{MessageId, SessionId, TaskId};
use crate::time::Timestamp;

thing! {
    /// One run of one chat request. At most one of a session runs or waits for an answer.
    Task, TaskPatch by id: TaskId;
    must {
        /// Its session.
        session: SessionId,
        /// Where it stands.
        status: TaskStatus,
        /// What is asked.
        request: TaskRequest,
        /// Its place in the queue: the least runs first.
        order: i64,
        /// The model that is asked, as `provider/name`.
        model: String,
        /// When it was accepted.
        created_at: Timestamp,
        /// What its model calls used.
        usage: Usage,
    }
    may {
        /// Why it ended, or why it went back to the queue.
        reason: TaskReason,
        /// What was said to it while it ran and it has not read yet.
        steering: Vec<Steering>,
        /// 0 when it runs, else its place in the queue. Computed, in no event.
        position: u64,
        /// The agent that answers.
        agent: String,
        /// The thread that it appends to.
        thread: crate::id::ThreadId,
        /// When it first started.
        started_at: Timestamp,
        /// When it ended.
        ended_at: Timestamp,
        /// The task that it interrupted.
        replaces: Replaces,
        /// The task that it tries again.
        retry_of: TaskId,
        /// The message that its next call of the model answers, where that is not its request.
        head: MessageId,
        /// What went wrong, of a failed one.
        error: TaskError,
    }
}

words! {
    /// Where a task stands; the last four are final.
    TaskStatus {
        /// Waits for its turn.
        Queued,
        /// Runs.
        Running,
        /// Waits for an answer to a question.
        Waiting,
        /// Done.
        Completed,
        /// Failed for good.
        Failed,
        /// Ended by a person.
        Cancelled,
        /// Ended by the daemon's own end.
        Interrupted,
    }
    /// Why a task ended, or went back to the queue.
    TaskReason {
        /// A person cancelled it.
        User,
        /// A later request took its place.
        InterruptedBy,
        /// The daemon stopped as planned.
        Restart,
        /// The daemon died.
        Crash,
        /// The budget is spent.
        Budget,
        /// A limit of the daemon.
        Limit,
        /// It did the same again and again.
        Loop,
        /// The model failed.
        Model,
        /// A bug.
        Internal,
    }
}

words! {
    /// Why a model's call failed.
    ModelReason {
        /// The key is missing or refused.
        Auth,
        /// Too many requests, also after waiting.
        RateLimit,
        /// The prompt does not fit the window.
        ContextTooLong,
        /// No connection, a server's error, or an answer cut short.
        Unavailable,
        /// The provider refused it.
        Refused,
        /// What came back is not what it should be.
        BadAnswer,
        /// A deadline passed.
        Timeout,
    }
}

impl TaskStatus {
    /// Whether nothing can follow.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled | Self::Interrupted)
    }
}

/// What a task was asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TaskRequest {
    /// The id that the request's message has, or will have.
    pub message: MessageId,
    /// What it says, until the message is appended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Vec<Block>>,
    /// Who asked, until the message is appended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<By>,
}

/// Something said to a running task that it has not read yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Steering {
    /// The id that its message will have.
    pub message: MessageId,
    /// What it says.
    pub content: Vec<Block>,
    /// Who said it.
    pub by: By,
    /// When.
    pub at: Timestamp,
}

/// What a request that interrupts does to the task before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Replaces {
    /// The task that is cancelled.
    pub task: TaskId,
    /// Whether the thread moves back to before that task's request.
    pub rollback: bool,
}

/// What went wrong with a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TaskError {
    /// What happened, for a person.
    pub message: String,
    /// Of a model's failure: its reason, as in an error of kind `model`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<ModelReason>,
    /// When the model's server asked to wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}
