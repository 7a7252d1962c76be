//! Turns: a thread's tasks as a front end draws them.

use serde::{Deserialize, Serialize};

use crate::turn::Turn;

/// Params of `turn/list`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TurnListParams {
    /// The session.
    pub session: String,
    /// The thread; the current one without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
    /// Only those older than this task's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// Only those newer than this task's, oldest first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Turns of a page: 1 to 500, 50 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Where to go on: the `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// Result of `turn/list`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TurnListResult {
    /// The turns, oldest first: those of the thread's path, then those that wait.
    pub turns: Vec<Turn>,
    /// Where the next page begins: older turns, behind `after` newer ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}
