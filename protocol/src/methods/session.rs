//! Sessions: make, find, change, hold, follow, delete.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::things::{
    Approval, Budget, Checkpoint, Goal, Lock, Message, Mode, Note, Plan, Scope, Session,
    SessionStatus, Task, Thread, ToolCall,
};

/// Bytes of a title.
pub const TITLE_BYTES_MAX: usize = 1024;
/// Bytes of a description, of a system prompt and of metadata, each.
pub const SESSION_TEXT_BYTES_MAX: usize = 256 * 1024;
/// Tags of a session.
pub const TAGS_MAX: usize = 64;
/// Messages of a view when nothing else is asked for.
pub const VIEW_MESSAGES_DEFAULT: u32 = 50;
/// The longest that a request may wait, in milliseconds: a day.
pub const WAIT_MS_MAX: u64 = 86_400_000;

/// Names a session: its id, or at least 4 of its hex digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SessionParams {
    /// The session.
    pub session: String,
}

/// Params of `session/create`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SessionCreateParams {
    /// Its title; else the first user text will be it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Its model, as `provider/name`; else the one of the settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The folder in which it works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<String>,
    /// What it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// The agent that answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// What tools may do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// What it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The system prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// What front ends keep with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Map<String, Value>>,
    /// Words to find it by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    /// Whether it goes with this connection unless something is said in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ephemeral: Option<bool>,
}

/// Params of `session/resume`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SessionResumeParams {
    /// The session: its id, some of its digits, or its exact title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Without a session: the workspace whose active or latest one is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<String>,
    /// Only sessions of this scope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// Only sessions of this agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Messages of the view: 0 to 500, 50 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<u32>,
}

/// A session's view: what a front end draws.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Snapshot {
    /// The session.
    pub session: Session,
    /// Its threads.
    pub threads: Vec<Thread>,
    /// Its goals.
    pub goals: Vec<Goal>,
    /// Its plans.
    pub plans: Vec<Plan>,
    /// Its notes.
    pub notes: Vec<Note>,
    /// Its tasks that are not final: running or waiting first, then in queue order.
    pub tasks: Vec<Task>,
    /// Its questions that wait for an answer.
    pub approvals: Vec<Approval>,
    /// Its tool calls that are not final.
    pub tool_calls: Vec<ToolCall>,
    /// The newest messages of the current thread, oldest first.
    pub messages: Vec<Message>,
    /// Where older messages end: `before` of `message/list`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
}

/// Params of `session/list`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SessionListParams {
    /// Only sessions of this status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<SessionStatus>,
    /// Only sessions of this workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<String>,
    /// Only sessions of this scope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// Only sessions of this agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Only sessions with this tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Only sessions whose title or description has this text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Also those older than an hour in which nobody spoke.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty: Option<bool>,
    /// Sessions of a page: 1 to 500, 50 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Where to go on: the `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// Result of `session/list`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SessionListResult {
    /// The sessions, latest first.
    pub sessions: Vec<Session>,
    /// Where the next page begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Params of `session/update`. What is left out stays.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SessionUpdateParams {
    /// The session.
    pub session: String,
    /// Its title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What it is about; null removes.
    #[serde(
        default,
        deserialize_with = "crate::things::given",
        skip_serializing_if = "Option::is_none"
    )]
    pub description: Option<Option<String>>,
    /// Where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<SessionStatus>,
    /// Its model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What tools may do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// The system prompt; null removes.
    #[serde(
        default,
        deserialize_with = "crate::things::given",
        skip_serializing_if = "Option::is_none"
    )]
    pub system: Option<Option<String>>,
    /// The members given replace, null removes, others stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Map<String, Value>>,
    /// Words to find it by: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    /// What it may use; null removes.
    #[serde(
        default,
        deserialize_with = "crate::things::given",
        skip_serializing_if = "Option::is_none"
    )]
    pub budget: Option<Option<Budget>>,
}

/// Names a workspace.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct WorkspaceParams {
    /// The workspace; over all without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<String>,
}

/// Params of `session/activate`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SessionActivateParams {
    /// The session, or null for none.
    pub session: Option<String>,
    /// With null: the workspace; over all without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<String>,
}

/// A session, or null where none is active.
pub type SessionActiveResult = Option<Session>;

/// Params of `session/delete`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SessionDeleteParams {
    /// The session.
    pub session: String,
    /// Whether a running task is cancelled first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force: Option<bool>,
}

/// Result of `session/delete`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SessionDeleteResult {
    /// The session that is gone.
    pub deleted: String,
    /// Backups made before, which still hold it.
    pub backups: Vec<String>,
    /// The number of the event in the `global` log.
    pub seq: u64,
}

/// Params of `session/lock`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SessionLockParams {
    /// The session.
    pub session: String,
    /// How long to wait for it, at most a day; not at all without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
}

/// Result of `session/lock`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SessionLockResult {
    /// The lock.
    pub lock: Lock,
    /// The number of the event.
    pub seq: u64,
}

/// Params of `session/release`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SessionReleaseParams {
    /// The session.
    pub session: String,
    /// Whether another client's lock ends too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force: Option<bool>,
}

/// Result of `session/release`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SessionReleaseResult {
    /// Whether there was a lock to end.
    pub released: bool,
    /// The session's last event.
    pub seq: u64,
}

/// Result of `session/persist`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SessionPersistResult {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// The number of the event.
    pub seq: u64,
}

/// Params of `session/follow`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SessionFollowParams {
    /// The session, or `global`.
    pub session: String,
    /// A cursor to go on behind, or `start`. Without: from now on, with a view.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Messages of the view: 0 to 500, 50 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<u32>,
    /// Whether pieces of unfinished messages are told: true by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deltas: Option<bool>,
}

/// Result of `session/follow`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SessionFollowResult {
    /// Where the events begin that will be told.
    pub cursor: String,
    /// The view at that moment; left out with `after`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view: Option<Snapshot>,
    /// What is unfinished at that moment; left out with `after`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<crate::live::Live>,
}
