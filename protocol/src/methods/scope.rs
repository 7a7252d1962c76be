//! Scopes: going from one workspace to another.

use serde::{Deserialize, Serialize};

use crate::things::{Session, Task};

/// Params of `scope/switch`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ScopeSwitchParams {
    /// The workspace to go to.
    pub workspace: String,
    /// The workspace to come from; the connection's without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

/// Result of `scope/switch`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ScopeSwitchResult {
    /// The project's session that was active in the workspace before; it stays so there.
    pub set_aside: Option<Session>,
    /// The session that is active in the new workspace.
    pub loaded: Option<Session>,
    /// Tasks that go on in the workspace before.
    pub running: Vec<Task>,
}
