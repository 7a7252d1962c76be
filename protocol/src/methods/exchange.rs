//! Many sessions at once, and sessions on their way out and in: cleanup, usage, export, import.

use serde::{Deserialize, Serialize};

use crate::id::{MessageId, SessionId, TaskId};
use crate::things::{Session, Usage, words};
use crate::time::Timestamp;

/// Sessions that one cleanup removes; the rest waits for the next.
pub const CLEANUP_MAX: usize = 10_000;
/// Rows that `session/usage` answers.
pub const USAGE_ROWS_MAX: u32 = 5_000;

/// Params of `session/cleanup`: `before`, `empty` or both.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SessionCleanupParams {
    /// Only those in which nothing happened since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Timestamp>,
    /// Only those in which nobody spoke.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty: Option<bool>,
    /// Leaves those with tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_tagged: Option<bool>,
    /// Removes nothing, and answers what would be removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
}

/// Result of `session/cleanup`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SessionCleanupResult {
    /// How many were removed: 0 of a dry run.
    pub removed: u64,
    /// Which they are, or would be.
    pub sessions: Vec<SessionId>,
}

words! {
    /// What usage is summed up by.
    UsageBy {
        /// Each model call.
        Call,
        /// Task.
        Task,
        /// Session.
        Session,
        /// Model.
        Model,
        /// Day, UTC.
        Day,
        /// Agent of the session.
        Agent,
    }
    /// What a session is written as.
    ExportFormat {
        /// The log, line by line: nothing is lost.
        Jsonl,
        /// The view with all messages of the current thread.
        Json,
        /// The messages of the current thread, for people.
        Markdown,
        /// The same as a page.
        Html,
    }
}

/// Params of `session/usage`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SessionUsageParams {
    /// Only this session; all without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Only calls from this moment on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// What a row is: `model` without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<UsageBy>,
}

/// Usage of one call, task, session, model, day or agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UsageRow {
    /// Which one: an id, a name or a day as `2026-11-21`.
    pub key: String,
    /// Of a call or a task: its session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// Of a call: its task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
    /// Of a call: its answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<MessageId>,
    /// The model, where all calls asked the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// When the last call ended.
    pub at: Timestamp,
    /// Model calls.
    pub calls: u64,
    /// What they used. The cost is that of the calls whose price is known.
    pub usage: Usage,
    /// Calls whose price is not known.
    pub unpriced: u64,
}

/// Result of `session/usage`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SessionUsageResult {
    /// The rows, that of the latest call first; the latest 5,000.
    pub rows: Vec<UsageRow>,
    /// All rows together, those left out too.
    pub totals: Usage,
    /// Model calls in all.
    pub calls: u64,
    /// Calls whose price is not known, so that the cost is not theirs.
    pub unpriced: u64,
}

/// Params of `session/export`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SessionExportParams {
    /// The session.
    pub session: String,
    /// What it is written as: `jsonl` without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<ExportFormat>,
}

/// Result of `session/export`: what `blob/get` reads, for a day.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SessionExportResult {
    /// The file: `sha256:` and 64 hex digits.
    pub blob: String,
    /// Its bytes.
    pub bytes: u64,
}

/// Params of `session/import`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SessionImportParams {
    /// The file, as `blob/put` or `session/export` named it.
    pub blob: String,
    /// What it is written as, `jsonl` without; `html` cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<ExportFormat>,
}

/// Result of `session/import`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SessionImportResult {
    /// The session.
    pub session: Session,
    /// The number of its last event.
    pub seq: u64,
    /// Whether it is new here: not when it was there already, with the same log.
    pub imported: bool,
}
