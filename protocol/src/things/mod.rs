//! The things of a session, each with its patch: the members of it that an event changes.
//!
//! A patch names the thing and holds only what is new. A member given replaces the old one whole;
//! `null` removes it. `must` members are always there in a whole thing, `may` members are left out
//! when there is nothing to say.

use serde::{Deserialize, Deserializer};

mod block;
mod history;
mod lock;
mod message;
mod session;
mod task;
mod tool;

pub use block::{Block, ContentSize, TEXT_HEAD_BYTES, TEXT_INLINE_BYTES_MAX};
pub use history::{
    Call, CallPatch, Checkpoint, CheckpointPatch, CheckpointTrigger, Compaction, CompactionPatch,
    Goal, GoalPatch, GoalStatus, Note, NoteKind, NotePatch, Plan, PlanPatch, PlanStatus, PlanStep,
    Thread, ThreadPatch,
};
pub use lock::{Holder, Lock};
pub use message::{Message, MessageKind, MessagePatch, MessageStatus, PromptSize, Role};
pub use session::{
    Budget, By, Mode, Scope, Session, SessionPatch, SessionStatus, Usage, Workspace,
};
pub use task::{
    ModelReason, Replaces, Steering, Task, TaskError, TaskPatch, TaskReason, TaskRequest,
    TaskStatus,
};
pub use tool::{
    Approval, ApprovalKind, ApprovalPatch, ApprovalStatus, Danger, DeadLetter, DeadLetterPatch,
    FileChange, FileChangeKind, FileChangePatch, FileChangeStatus, Grant, GrantDecision,
    GrantPatch, Question, QuestionOption, ToolCall, ToolCallPatch, ToolCallStatus,
};

/// Reads a member that is there, so that `null` (remove it) differs from absent (leave it).
pub(crate) fn given<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}

/// Writes a thing and its patch from one list of members.
macro_rules! thing {
    (
        $(#[$doc:meta])* $name:ident, $patch:ident $(by $key:ident: $keytype:ty)?;
        must { $($(#[$mustdoc:meta])* $must:ident: $musttype:ty,)* }
        may { $($(#[$maydoc:meta])* $may:ident: $maytype:ty,)* }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        pub struct $name {
            $(/// The id.
            pub $key: $keytype,)?
            $($(#[$mustdoc])* pub $must: $musttype,)*
            $($(#[$maydoc])*
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub $may: Option<$maytype>,)*
        }

        #[doc = concat!("The members of a [`", stringify!($name), "`] that an event changes.")]
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[serde(deny_unknown_fields)]
        pub struct $patch {
            $(/// The thing that changes.
            pub $key: $keytype,)?
            $($(#[$mustdoc])*
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub $must: Option<$musttype>,)*
            $($(#[$maydoc])*
            #[serde(
                default,
                deserialize_with = "crate::things::given",
                skip_serializing_if = "Option::is_none"
            )]
            pub $may: Option<Option<$maytype>>,)*
        }

        impl $patch {
            /// A patch that changes nothing yet.
            #[must_use]
            #[allow(clippy::new_without_default, reason = "most patches need the key of a thing")]
            pub fn new($($key: $keytype)?) -> Self {
                Self { $($key,)? $($must: None,)* $($may: None,)* }
            }
        }

        impl From<$name> for $patch {
            fn from(thing: $name) -> Self {
                Self {
                    $($key: thing.$key,)?
                    $($must: Some(thing.$must),)*
                    $($may: thing.$may.map(Some),)*
                }
            }
        }
    };
}
pub(crate) use thing;

/// Writes an enum of plain words.
macro_rules! words {
    ($($(#[$doc:meta])* $name:ident { $($(#[$worddoc:meta])* $word:ident,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$worddoc])* $word,)* }
    )*};
}
pub(crate) use words;
