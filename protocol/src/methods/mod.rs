//! The methods: params and result of each, and the table that says what else holds for it.

mod agent;
mod blob;
mod chat;
mod daemon;
mod document;
mod event;
mod exchange;
mod list;
mod model;
mod scope;
mod session;
mod task;
mod thread;
mod turn;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use agent::*;
pub use blob::*;
pub use chat::*;
pub use daemon::*;
pub use document::*;
pub use event::*;
pub use exchange::*;
pub use list::*;
pub use model::*;
pub use scope::*;
pub use session::*;
pub use task::*;
pub use thread::*;
pub use turn::*;

/// A method with the shapes of its params and its result.
pub trait Method {
    /// The name on the wire.
    const NAME: &'static str;
    /// What it takes.
    type Params: Serialize + DeserializeOwned;
    /// What it answers.
    type Result: Serialize + DeserializeOwned;
}

/// What a method may do, and so who may call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reads and follows: for every role.
    Read,
    /// Changes something: not for observers.
    Change,
}

/// What holds for a method beside its shapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MethodInfo {
    /// The name on the wire.
    pub name: &'static str,
    /// What it may do.
    pub access: Access,
    /// Whether it takes `idempotency_key`.
    pub keyed: bool,
    /// Whether it takes `expect_seq`.
    pub expect_seq: bool,
    /// Whether it takes `expect_head`.
    pub expect_head: bool,
}

/// Nothing to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Empty {}

macro_rules! methods {
    ($($(#[doc = $doc:literal])* $name:ident $wire:literal $params:ty => $result:ty, $access:ident $($flag:ident)*;)*) => {
        $(
            $(#[doc = $doc])*
            #[derive(Debug, Clone, Copy)]
            pub struct $name;

            impl Method for $name {
                const NAME: &'static str = $wire;
                type Params = $params;
                type Result = $result;
            }
        )*

        /// Every method, in the order of the manual.
        pub const METHODS: &[MethodInfo] = &[$(
            {
                #[allow(unused_mut, reason = "most methods have no flag")]
                let mut info = MethodInfo {
                    name: $wire,
                    access: Access::$access,
                    keyed: false,
                    expect_seq: false,
                    expect_head: false,
                };
                $(info.$flag = true;)*
                info
            },
        )*];

        /// Calls back with the marker of each method, for schemas and tests.
        #[cfg(feature = "schema")]
        pub fn for_each(visit: &mut impl VisitMethod) {
            $(visit.visit::<$name>($wire, concat!($($doc),*).trim());)*
        }
    };
}

/// Looks at each method in turn.
#[cfg(feature = "schema")]
pub trait VisitMethod {
    /// Looks at one.
    fn visit<M: Method>(&mut self, name: &'static str, doc: &'static str)
    where
        M::Params: schemars::JsonSchema,
        M::Result: schemars::JsonSchema;
}

/// The table's entry of a method.
#[must_use]
pub fn info(name: &str) -> Option<&'static MethodInfo> {
    METHODS.iter().find(|it| it.name == name)
}

methods! {
    /// Says who the client is and asks what the daemon is. Optional.
    Initialize "initialize" InitializeParams => InitializeResult, Read;
    /// How the daemon is.
    DaemonStatus "daemon/status" Empty => DaemonStatusResult, Read;
    /// Stops the daemon.
    DaemonShutdown "daemon/shutdown" ShutdownParams => Empty, Change;
    /// Reads the documents again.
    DaemonReload "daemon/reload" Empty => Empty, Change;
    /// Hands the socket to the program that lies in the place of this one, and ends.
    DaemonRestart "daemon/restart" Empty => Empty, Change;
    /// Makes a copy of the whole store while it is used.
    DaemonBackup "daemon/backup" BackupParams => BackupResult, Change;
    /// Tells the state of all sessions, from now on.
    DaemonFollow "daemon/follow" DaemonFollowParams => DaemonFollowResult, Read;
    /// Makes a session.
    SessionCreate "session/create" SessionCreateParams => crate::things::Session, Change keyed;
    /// Finds a session, makes it the active one and answers its view.
    SessionResume "session/resume" SessionResumeParams => Snapshot, Read;
    /// Answers a session.
    SessionGet "session/get" SessionParams => crate::things::Session, Read;
    /// Lists sessions, latest first.
    SessionList "session/list" SessionListParams => SessionListResult, Read;
    /// Changes a session's members.
    SessionUpdate "session/update" SessionUpdateParams => crate::things::Session, Change keyed expect_seq;
    /// Answers the active session.
    SessionActive "session/active" WorkspaceParams => SessionActiveResult, Read;
    /// Makes a session the active one, or none.
    SessionActivate "session/activate" SessionActivateParams => SessionActiveResult, Change expect_seq;
    /// Deletes a session with all that belongs to it.
    SessionDelete "session/delete" SessionDeleteParams => SessionDeleteResult, Change keyed expect_seq;
    /// Takes the exclusive right to a session's input.
    SessionLock "session/lock" SessionLockParams => SessionLockResult, Change expect_seq;
    /// Gives it back.
    SessionRelease "session/release" SessionReleaseParams => SessionReleaseResult, Change expect_seq;
    /// Writes what is unsaved and makes a manual checkpoint.
    SessionPersist "session/persist" SessionParams => SessionPersistResult, Change keyed expect_seq;
    /// Sums up what model calls used.
    SessionUsage "session/usage" SessionUsageParams => SessionUsageResult, Read;
    /// Writes a session into a file.
    SessionExport "session/export" SessionExportParams => SessionExportResult, Read;
    /// Makes the session that a file holds.
    SessionImport "session/import" SessionImportParams => SessionImportResult, Change keyed;
    /// Deletes sessions that nobody needs.
    SessionCleanup "session/cleanup" SessionCleanupParams => SessionCleanupResult, Change keyed;
    /// Tells all that happens in a session, from now or from a cursor on.
    SessionFollow "session/follow" SessionFollowParams => SessionFollowResult, Read;
    /// Ends a follow.
    SessionUnfollow "session/unfollow" SessionParams => Empty, Read;
    /// Sends a request to a session's model.
    ChatSend "chat/send" ChatSendParams => ChatSendResult, Change keyed expect_seq expect_head;
    /// Answers a task.
    TaskGet "task/get" TaskParams => TaskResult, Read;
    /// Lists a session's tasks: running, queued, newest final.
    TaskList "task/list" TaskListParams => TaskListResult, Read;
    /// Ends a task; answered when its final state is on disk.
    TaskCancel "task/cancel" TaskParams => TaskCancelResult, Change keyed expect_seq;
    /// Answers when a task is final.
    TaskWait "task/wait" TaskWaitParams => TaskWaitResult, Read;
    /// Changes a task that waits.
    TaskUpdate "task/update" TaskUpdateParams => TaskCancelResult, Change keyed expect_seq;
    /// Tries a final task again, as a new one.
    TaskRetry "task/retry" TaskRetryParams => TaskCancelResult, Change keyed expect_seq;
    /// Pages through the messages of a thread.
    MessageList "message/list" MessageListParams => MessageListResult, Read;
    /// Pages through the turns of a thread: its tasks as a front end draws them.
    TurnList "turn/list" TurnListParams => TurnListResult, Read;
    /// Lists a session's threads.
    ThreadList "thread/list" ThreadListParams => ThreadListResult, Read;
    /// Keeps a front end's own event.
    EventAppend "event/append" EventAppendParams => EventAppendResult, Change keyed expect_seq;
    /// Answers a document, or one key of it.
    StateGet "state/get" StateParams => StateValue, Read;
    /// Sets a document, or one key of it.
    StateSet "state/set" StateSetParams => StateValue, Change;
    /// Removes a document, or one key of it.
    StateDelete "state/delete" StateParams => Empty, Change;
    /// Answers all documents.
    StateAll "state/all" StateAllParams => StateAllResult, Read;
    /// Reads a document's file again.
    StateLoad "state/load" StateDocumentParams => StateValue, Change;
    /// Answers when a document is on disk.
    StateSave "state/save" StateDocumentParams => Empty, Change;
    /// Tells all changes of a document.
    StateFollow "state/follow" StateDocumentParams => StateValue, Read;
    /// Goes from one workspace to another.
    ScopeSwitch "scope/switch" ScopeSwitchParams => ScopeSwitchResult, Read;
    /// Lists who can answer.
    AgentList "agent/list" AgentListParams => AgentListResult, Read;
    /// Lists the models that can be named.
    ModelList "model/list" ListParams => ModelListResult, Read;
    /// Asks a model's provider, at no cost, whether it would answer.
    ModelCheck "model/check" ModelCheckParams => ModelCheckResult, Read;
    /// Answers a piece of a blob.
    BlobGet "blob/get" BlobGetParams => BlobGetResult, Read;
    /// Puts a file, in pieces where it is large.
    BlobPut "blob/put" BlobPutParams => BlobPutResult, Change;
}
