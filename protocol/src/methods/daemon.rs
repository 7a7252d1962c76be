//! The daemon itself: who it is, how it is, its end, and the state of all sessions.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::things::Session;
use crate::time::Timestamp;

/// Params of `initialize`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct InitializeParams {
    /// The protocol that the client speaks: 1.
    pub protocol: u64,
    /// Who the client is.
    pub client: ClientInfo,
    /// What the client may do: everything by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The workspace of this connection, for methods that do not name one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<String>,
}

/// Who a client is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ClientInfo {
    /// Its name, at most 128 bytes.
    pub name: String,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// What a client may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything.
    Driver,
    /// Read and follow.
    Observer,
}

/// Result of `initialize`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct InitializeResult {
    /// The protocol that is spoken.
    pub protocol: u64,
    /// Who the daemon is.
    pub daemon: DaemonInfo,
    /// Where sessions are kept.
    pub store: StoreInfo,
    /// What the daemon can do: the names of its methods.
    pub capabilities: Vec<String>,
    /// The limits by name; `_bytes`, `_ms` are units.
    pub limits: serde_json::Map<String, Value>,
}

/// Who a daemon is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DaemonInfo {
    /// Always `sessd`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its process.
    pub pid: u32,
}

/// Where sessions are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StoreInfo {
    /// `sqlite`.
    pub kind: String,
    /// The store's own id: cursors of another one do not fit.
    pub history: String,
}

/// Result of `daemon/status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DaemonStatusResult {
    /// The daemon's version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Since it started.
    pub uptime_ms: u64,
    /// The store.
    pub store: StoreStatus,
    /// Sessions by where they are.
    pub sessions: SessionCounts,
    /// Tasks by state.
    pub tasks: TaskCounts,
    /// Connections.
    pub clients: u64,
    /// Resident memory.
    pub rss_bytes: u64,
    /// How full the queues are, by name.
    pub queues: serde_json::Map<String, Value>,
}

/// How the store is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StoreStatus {
    /// `sqlite`.
    pub kind: String,
    /// The store's own id.
    pub history: String,
    /// The file.
    pub path: String,
    /// Bytes on disk, the write-ahead log included.
    pub bytes: u64,
}

/// Sessions by where they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SessionCounts {
    /// On disk.
    pub stored: u64,
    /// In memory.
    pub live: u64,
}

/// Tasks by state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TaskCounts {
    /// Run.
    pub running: u64,
    /// Wait for their turn.
    pub queued: u64,
    /// Wait for an answer.
    pub waiting: u64,
}

/// Params of `daemon/shutdown`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ShutdownParams {
    /// Whether running tasks may come to a safe point first: true by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<bool>,
}

/// Params of `daemon/backup`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct BackupParams {
    /// How many of the newest backups stay: 1 to 1,000, 7 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<u32>,
}

/// Result of `daemon/backup`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BackupResult {
    /// The backup.
    pub backup: Backup,
}

/// A copy of the whole store, checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Backup {
    /// The file.
    pub path: String,
    /// Its bytes.
    pub bytes: u64,
    /// Sessions in it.
    pub sessions: u64,
    /// When it was made.
    pub at: Timestamp,
}

/// Params of `daemon/follow`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DaemonFollowParams {
    /// Sessions in the answer: 1 to 500, 200 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// Result of `daemon/follow`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DaemonFollowResult {
    /// Sessions: running and waiting first, then latest.
    pub sessions: Vec<Session>,
    /// Questions that wait for an answer.
    pub approvals: Vec<Value>,
}
