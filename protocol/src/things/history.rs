//! The tree of messages and what is kept beside it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Usage, thing, words};
use crate::id::{CheckpointId, CompactionId, MessageId, TaskId, ThreadId};
use crate::time::Timestamp;

thing! {
    /// A named pointer to a head message.
    Thread, ThreadPatch by id: ThreadId;
    must {
        /// Messages on its path.
        messages: u64,
        /// When it was made.
        created_at: Timestamp,
    }
    may {
        /// A person's name for it.
        label: String,
        /// The thread that it was forked from.
        parent: ThreadId,
        /// The message at which it was forked.
        fork_message: MessageId,
        /// How many messages lay before that one.
        fork_index: u64,
        /// Its newest message.
        head: MessageId,
    }
}

thing! {
    /// A call of a model that gave no message.
    Call, CallPatch by id: MessageId;
    must {
        /// The model.
        model: String,
        /// What it used.
        usage: Usage,
        /// When it ended.
        at: Timestamp,
    }
    may {
        /// The task that it was for.
        task: TaskId,
    }
}

thing! {
    /// A moment of a thread to come back to.
    Checkpoint, CheckpointPatch by id: CheckpointId;
    must {
        /// The thread.
        thread: ThreadId,
        /// What made it.
        trigger: CheckpointTrigger,
        /// The goals then.
        goals: Vec<Value>,
        /// The plans then.
        plans: Vec<Value>,
        /// What the session had used then.
        usage: Usage,
        /// Tokens in the thread's context then.
        tokens: u64,
        /// When it was made.
        at: Timestamp,
    }
    may {
        /// The thread's head then.
        head: MessageId,
        /// A person's name for it.
        label: String,
    }
}

thing! {
    /// A summary put beside the path.
    Compaction, CompactionPatch by id: CompactionId;
    must {
        /// The thread.
        thread: ThreadId,
        /// The head when it was made.
        at: MessageId,
        /// The message that holds the summary.
        summary: MessageId,
        /// The first message that is kept whole.
        keep_from: MessageId,
        /// Tokens of the context before.
        before: u64,
        /// Tokens of the context after.
        after: u64,
        /// What it saves.
        saved_tokens: u64,
    }
    may {}
}

thing! {
    /// Something to reach.
    Goal, GoalPatch by n: u64;
    must {
        /// What it is.
        text: String,
        /// Where it stands.
        status: GoalStatus,
        /// When it was added.
        created_at: Timestamp,
    }
    may {
        /// How much it matters; the least first.
        priority: i64,
        /// The goal that it is a part of.
        parent: u64,
        /// How far it is, in a person's or the model's words.
        progress: String,
        /// When it was reached.
        done_at: Timestamp,
    }
}

thing! {
    /// A list of steps.
    Plan, PlanPatch by n: u64;
    must {
        /// What it is for.
        title: String,
        /// The steps, in order.
        steps: Vec<PlanStep>,
        /// Where it stands.
        status: PlanStatus,
        /// When it was proposed.
        at: Timestamp,
    }
    may {}
}

thing! {
    /// Something worth keeping.
    Note, NotePatch by n: u64;
    must {
        /// What sort of thing.
        kind: NoteKind,
        /// What it says.
        text: String,
        /// When it was added.
        at: Timestamp,
    }
    may {}
}

words! {
    /// What made a checkpoint.
    CheckpointTrigger {
        /// A person.
        Manual,
        /// The clock.
        Time,
        /// A batch of tool calls.
        ToolBatch,
        /// A milestone.
        Milestone,
        /// A compaction.
        Compaction,
    }
    /// Where a goal stands.
    GoalStatus {
        /// To be reached.
        Active,
        /// Reached.
        Done,
    }
    /// Where a plan stands.
    PlanStatus {
        /// Waits for a person.
        Pending,
        /// A person agreed.
        Approved,
        /// A person did not.
        Rejected,
        /// Carried out.
        Done,
    }
    /// What sort of thing a note keeps.
    NoteKind {
        /// A decision.
        Decision,
        /// Something that did not work.
        Failure,
        /// Something that did.
        Breakthrough,
        /// A change of direction.
        Pivot,
    }
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PlanStep {
    /// What is done.
    pub text: String,
    /// Where it stands.
    pub status: String,
}
