//! What tools did, and what they may do.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{By, thing, words};
use crate::id::{ApprovalId, CallId, DeadLetterId, GrantId, MessageId, SessionId, TaskId};
use crate::time::Timestamp;

thing! {
    /// One line of the ledger of tool calls.
    ToolCall, ToolCallPatch by id: CallId;
    must {
        /// The task.
        task: TaskId,
        /// The tool.
        name: String,
        /// What it was given.
        input: Value,
        /// How much harm it could do.
        danger: Danger,
        /// Where it stands.
        status: ToolCallStatus,
    }
    may {
        /// The rule that decided whether it may run.
        rule: String,
        /// The message that holds its result.
        result: MessageId,
        /// When it started.
        started_at: Timestamp,
        /// How long it ran.
        duration_ms: u64,
    }
}

thing! {
    /// A file that a tool changed.
    FileChange, FileChangePatch by id: String;
    must {
        /// The task.
        task: TaskId,
        /// The tool call.
        tool_call: CallId,
        /// The file.
        path: String,
        /// What was done to it.
        kind: FileChangeKind,
        /// Whether it stands.
        status: FileChangeStatus,
    }
    may {
        /// The blob of what was there before.
        before: String,
        /// The blob of what was there after.
        after: String,
    }
}

thing! {
    /// A question to a person.
    Approval, ApprovalPatch by id: ApprovalId;
    must {
        /// What is asked for.
        kind: ApprovalKind,
        /// The session.
        session: SessionId,
        /// The task that waits.
        task: TaskId,
        /// The question on one line.
        title: String,
        /// The decisions that can be given.
        options: Vec<String>,
        /// Where it stands.
        status: ApprovalStatus,
        /// When it was asked.
        at: Timestamp,
    }
    may {
        /// The tool call that it is bound to.
        tool_call: CallId,
        /// What the tool would be given.
        input: Value,
        /// The digest that an answer must name.
        input_digest: String,
        /// How much harm it could do.
        danger: Danger,
        /// The questions, where the model asks a person.
        questions: Vec<Question>,
        /// The pattern that a lasting grant would have.
        pattern: String,
        /// What was decided.
        decision: String,
        /// Who decided.
        answered_by: By,
    }
}

thing! {
    /// A decision that lasts.
    Grant, GrantPatch by id: GrantId;
    must {
        /// The tool.
        tool: String,
        /// Which calls of it.
        pattern: String,
        /// What is decided.
        decision: GrantDecision,
    }
    may {
        /// The session that it is for.
        session: SessionId,
        /// The workspace that it is for.
        workspace: String,
        /// When it ends.
        expires_at: Timestamp,
    }
}

thing! {
    /// Something that failed and waits for a person.
    DeadLetter, DeadLetterPatch by id: DeadLetterId;
    must {
        /// What was tried.
        operation: String,
        /// With what.
        payload: Value,
        /// How it failed.
        error: String,
        /// How often it was tried.
        attempts: u32,
        /// Where it stands.
        status: String,
    }
    may {
        /// The session that it belongs to.
        session: SessionId,
        /// When it is tried again.
        next_at: Timestamp,
    }
}

words! {
    /// How much harm a call could do.
    Danger {
        /// None.
        None,
        /// Little.
        Low,
        /// Some.
        Medium,
        /// Much.
        High,
        /// Beyond repair.
        Critical,
    }
    /// Where a tool call stands.
    ToolCallStatus {
        /// The model asked for it.
        Proposed,
        /// A person is asked.
        Waiting,
        /// It runs.
        Running,
        /// It ended well.
        Done,
        /// It failed.
        Failed,
        /// It may not run.
        Denied,
        /// The daemon died while it ran.
        Unknown,
    }
    /// What was done to a file.
    FileChangeKind {
        /// Made.
        Create,
        /// Changed.
        Modify,
        /// Removed.
        Delete,
    }
    /// Whether a file's change stands.
    FileChangeStatus {
        /// It stands.
        Applied,
        /// It was taken back.
        Undone,
    }
    /// What is asked for.
    ApprovalKind {
        /// May a tool run.
        Permission,
        /// The model asks a person.
        Question,
        /// May more be spent.
        Budget,
        /// Is a plan right.
        Plan,
    }
    /// Where a question stands.
    ApprovalStatus {
        /// It waits.
        Pending,
        /// It was answered.
        Answered,
        /// Nobody answered in time, which is a no.
        Expired,
        /// It was taken back.
        Withdrawn,
    }
    /// What a grant decides.
    GrantDecision {
        /// It may run.
        Allow,
        /// It may not.
        Deny,
    }
}

/// One question of an approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Question {
    /// The id that its answer names.
    pub id: String,
    /// The question.
    pub prompt: String,
    /// What can be chosen.
    pub options: Vec<QuestionOption>,
    /// Whether several can be chosen.
    pub multiple: bool,
    /// Whether an own text can be given.
    pub free_text: bool,
}

/// One choice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct QuestionOption {
    /// The id that an answer names.
    pub id: String,
    /// What a person reads.
    pub label: String,
}
