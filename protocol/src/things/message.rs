//! One thing said. Immutable.

use super::{Block, By, Usage, thing, words};
use crate::id::{MessageId, TaskId, ThreadId};
use crate::time::Timestamp;

use serde::{Deserialize, Serialize};

thing! {
    /// One thing said. Immutable; it travels in exactly one event.
    Message, MessagePatch by id: MessageId;
    must {
        /// The thread on which it was appended.
        thread: ThreadId,
        /// The number of the event that appended it.
        seq: u64,
        /// Who speaks.
        role: Role,
        /// What is said.
        content: Vec<Block>,
        /// When it was appended.
        at: Timestamp,
        /// Whether it is whole.
        status: MessageStatus,
        /// What it is for.
        kind: MessageKind,
    }
    may {
        /// The message before it on its path.
        parent: MessageId,
        /// The task that it belongs to.
        task: TaskId,
        /// Who sent it.
        by: By,
        /// The model that wrote it.
        model: String,
        /// What its model call used.
        usage: Usage,
        /// How the window of its model call was spent.
        prompt: PromptSize,
        /// Which attempt of its model call gave it, from 1.
        attempt: u32,
        /// From asking to the first piece.
        ttft_ms: u64,
        /// From asking to the end.
        duration_ms: u64,
        /// Why the model stopped.
        stop_reason: String,
        /// Where the model was asked.
        endpoint: String,
    }
}

impl Message {
    /// A message that says nothing yet.
    #[must_use]
    pub fn empty(id: MessageId, thread: &ThreadId, seq: u64, role: Role, at: Timestamp) -> Self {
        Self {
            id,
            thread: thread.clone(),
            seq,
            role,
            content: Vec::new(),
            at,
            status: MessageStatus::Complete,
            kind: MessageKind::Text,
            parent: None,
            task: None,
            by: None,
            model: None,
            usage: None,
            prompt: None,
            attempt: None,
            ttft_ms: None,
            duration_ms: None,
            stop_reason: None,
            endpoint: None,
        }
    }
}

words! {
    /// Who speaks.
    Role {
        /// The system prompt's author.
        System,
        /// The person.
        User,
        /// The model.
        Assistant,
        /// A tool.
        Tool,
    }
    /// Whether a message is whole.
    MessageStatus {
        /// It is whole.
        Complete,
        /// It was cut; all whole text so far is kept.
        Partial,
    }
    /// What a message is for.
    MessageKind {
        /// To be read.
        Text,
        /// A tool's input or output.
        ToolPayload,
        /// A note on what happened.
        Status,
        /// What a compaction kept of the messages before it.
        Summary,
    }
}

/// How the window of a model call was spent, in tokens. What is nothing is left out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PromptSize {
    /// The window, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<u64>,
    /// All of what follows: what the provider counted, else a guess.
    pub used: u64,
    /// The system prompt.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub system: u64,
    /// Descriptions of tools.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tools: u64,
    /// Skills.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub skills: u64,
    /// Memory.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub memory: u64,
    /// Messages.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub messages: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_zero(tokens: &u64) -> bool {
    *tokens == 0
}
