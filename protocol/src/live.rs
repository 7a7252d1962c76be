//! The unfinished: what is being written at this moment, and the pieces that go on from it.

use serde::{Deserialize, Serialize};

use crate::id::{CallId, MessageId, SessionId, TaskId};

/// All that is unfinished of a task: replaces whatever a reader holds for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Live {
    /// The session.
    pub session: SessionId,
    /// The task.
    pub task: TaskId,
    /// The id that the unfinished message will have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<MessageId>,
    /// Its blocks so far.
    pub blocks: Vec<LiveBlock>,
    /// Running tool calls with the end of their output.
    pub tools: Vec<LiveTool>,
}

/// One block of an unfinished message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LiveBlock {
    /// Its place in the message.
    pub index: u64,
    /// What it will be.
    #[serde(rename = "type")]
    pub kind: LiveBlockType,
    /// Of a tool_use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<CallId>,
    /// Of a tool_use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The text so far; a tool_use's is its raw input.
    pub text: String,
}

/// The output of a running tool call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LiveTool {
    /// The call.
    pub tool_call: CallId,
    /// Where `text` begins in its output, in bytes.
    pub offset: u64,
    /// The end of its output, at most 64 KiB.
    pub text: String,
}

/// A piece of what is unfinished: the params of the notification `delta`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Delta {
    /// The session.
    pub session: SessionId,
    /// The task.
    pub task: TaskId,
    /// The message, unless it is a tool's output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<MessageId>,
    /// The block's place in the message, unless it is a tool's output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<u64>,
    /// The call, of a tool's output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call: Option<CallId>,
    /// What it is a piece of.
    pub kind: DeltaKind,
    /// Where it belongs, in UTF-8 bytes.
    pub offset: u64,
    /// In a tool_use's first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<CallId>,
    /// In a tool_use's first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The piece.
    pub text: String,
}

crate::things::words! {
    /// What an unfinished block will be.
    LiveBlockType {
        /// Text.
        Text,
        /// Reasoning.
        Reasoning,
        /// A request for a tool.
        ToolUse,
    }
    /// What a delta is a piece of.
    DeltaKind {
        /// Text.
        Text,
        /// Reasoning.
        Reasoning,
        /// A tool's input.
        ToolInput,
        /// A tool's output.
        ToolOutput,
    }
}
