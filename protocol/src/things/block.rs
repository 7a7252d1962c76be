//! What a message is made of.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::CallId;

/// Bytes of a text that stay in the event; the whole of a longer one is a blob.
pub const TEXT_INLINE_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a text kept as a blob that are shown in its place, cut at a character.
pub const TEXT_HEAD_BYTES: usize = 4 * 1024;

/// One block of a message's content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Block {
    /// Plain text. With `blob`, `text` is its first 4 KiB.
    Text {
        /// The text.
        text: String,
        /// Where the whole lies, when it is longer than 64 KiB.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        blob: Option<String>,
        /// Bytes of the whole.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bytes: Option<u64>,
    },
    /// A picture.
    Image {
        /// Its media type, as `image/png`.
        media_type: String,
        /// Its bytes in base64, on the way in.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        data: Option<String>,
        /// Where its bytes lie.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        blob: Option<String>,
        /// How many there are.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bytes: Option<u64>,
    },
    /// A file.
    File {
        /// Its name.
        name: String,
        /// Its media type.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        media_type: Option<String>,
        /// Its content as text, on the way in.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<String>,
        /// Its content in base64, on the way in.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        data: Option<String>,
        /// Where its bytes lie.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        blob: Option<String>,
        /// How many there are.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bytes: Option<u64>,
    },
    /// What the model thought. With `blob`, `text` is its first 4 KiB.
    Reasoning {
        /// The text.
        text: String,
        /// Where the whole lies, when it is longer than 64 KiB.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        blob: Option<String>,
        /// Bytes of the whole.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bytes: Option<u64>,
    },
    /// The model asks for a tool; the id is its ToolCall's.
    ToolUse {
        /// The ToolCall.
        id: CallId,
        /// The tool.
        name: String,
        /// What it is given.
        input: Value,
    },
    /// What a tool gave back.
    ToolResult {
        /// The ToolCall.
        tool_use_id: CallId,
        /// What came back.
        content: Vec<Block>,
        /// Whether the tool failed.
        is_error: bool,
    },
}

impl Block {
    /// A block of text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text { text: text.into(), blob: None, bytes: None }
    }

    /// A block of reasoning.
    pub fn reasoning(text: impl Into<String>) -> Self {
        Self::Reasoning { text: text.into(), blob: None, bytes: None }
    }
}

/// How large a content is.
pub trait ContentSize {
    /// The bytes of all text in it that a model reads.
    fn text_bytes(&self) -> u64;
}

impl ContentSize for [Block] {
    fn text_bytes(&self) -> u64 {
        self.iter()
            .map(|block| match block {
                Block::Text { text, bytes, .. } | Block::Reasoning { text, bytes, .. } => {
                    bytes.unwrap_or(text.len() as u64)
                }
                _ => 0,
            })
            .sum()
    }
}
