//! Requests to a session's model.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::{MessageId, SessionId, TaskId, ThreadId};
use crate::things::{Block, Budget};

/// Requests that wait in one session's queue.
pub const QUEUE_MAX: usize = 25;
/// Blocks of one request.
pub const BLOCKS_MAX: usize = 256;

/// Params of `chat/send`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ChatSendParams {
    /// The session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// What is said.
    pub content: Content,
    /// The thread that it goes to; the current one without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
    /// The model of this request; the session's without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The agent of this request; the session's without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// What happens when the session is busy: `queue` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_busy: Option<IfBusy>,
    /// What this task may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// A JSON Schema that the answer must fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Value>,
}

/// A text, or blocks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged, expecting = "`content` is a string or a list of blocks")]
pub enum Content {
    /// One block of text.
    Text(String),
    /// Several blocks.
    Blocks(Vec<Block>),
}

/// What happens to a request when the session is busy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum IfBusy {
    /// It waits for its turn.
    #[default]
    Queue,
    /// It is refused with `busy`.
    Reject,
    /// It goes into the running task.
    Steer,
    /// The running task is cancelled, then it runs.
    Interrupt,
    /// The running task is cancelled and its request taken back, then it runs.
    Rollback,
}

/// Result of `chat/send`, once the request is on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ChatSendResult {
    /// The session.
    pub session: SessionId,
    /// The task.
    pub task: TaskId,
    /// The id that the request's message has or will have.
    pub message: MessageId,
    /// The thread that it goes to.
    pub thread: ThreadId,
    /// The last event that it caused.
    pub seq: u64,
    /// Its place in the queue; 0 when it started.
    pub position: u64,
}
