//! One conversation.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Lock, thing, words};
use crate::id::{SessionId, TaskId, ThreadId};
use crate::money::Money;
use crate::time::Timestamp;

thing! {
    /// One conversation.
    ///
    /// `followers` is computed for each answer and is in no event; `seq` and `updated_at` are those
    /// of the last event and are set by the fold.
    Session, SessionPatch;
    must {
        /// The id, with 32 random hex digits.
        id: SessionId,
        /// The first user text on one line, at most 60 characters, until one is set.
        title: String,
        /// Where the session stands.
        status: SessionStatus,
        /// The model of its next task, as `provider/name`.
        model: String,
        /// What tools may do.
        mode: Mode,
        /// What the session belongs to.
        scope: Scope,
        /// The agent that answers in it.
        agent: String,
        /// The current thread.
        thread: ThreadId,
        /// When it was made.
        created_at: Timestamp,
        /// When it last changed.
        updated_at: Timestamp,
        /// When it was last made the active one.
        active_at: Timestamp,
        /// Messages ever appended.
        messages: u64,
        /// Tasks ever accepted.
        tasks: u64,
        /// What all its model calls used.
        usage: Usage,
        /// Model calls.
        iterations: u64,
        /// Tasks that wait in the queue.
        queued: u64,
        /// Questions that wait for an answer.
        approvals: u64,
        /// Connections that follow it. Computed.
        followers: u64,
        /// The number of its last event.
        seq: u64,
        /// What front ends keep with it.
        metadata: Map<String, Value>,
        /// Words to find it by.
        tags: Vec<String>,
    }
    may {
        /// The beginning of its last message.
        preview: String,
        /// What it is about, in a person's words.
        description: String,
        /// The system prompt.
        system: String,
        /// Where it works.
        workspace: Workspace,
        /// The task that runs or waits for an answer.
        running: TaskId,
        /// Who holds it.
        lock: Lock,
        /// What it may use.
        budget: Budget,
        /// Whether it goes with its creator's connection.
        ephemeral: bool,
        /// The session that it was made from.
        parent: SessionId,
    }
}

words! {
    /// Where a session stands.
    SessionStatus {
        /// Takes requests.
        Active,
        /// Requests queue until a person goes on.
        Paused,
        /// A person called it done; the next request makes it active.
        Completed,
        /// The last task failed for good; the next request makes it active.
        Error,
    }
    /// What tools may do without asking.
    Mode {
        /// Read only.
        Plan,
        /// Each change is asked for.
        Ask,
        /// Free inside the workspace and the sandbox.
        Auto,
        /// Free.
        Full,
    }
    /// What a session belongs to.
    Scope {
        /// Nothing in particular.
        Global,
        /// An assistant.
        Assistant,
        /// A project.
        Project,
    }
}

/// Where a session works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Workspace {
    /// The folder: absolute, symbolic links resolved.
    pub path: String,
    /// Its last part.
    pub name: String,
    /// The branch that was checked out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// The commit that was checked out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
}

/// Tokens and money.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Usage {
    /// Tokens read.
    pub input_tokens: u64,
    /// Tokens written, reasoning included.
    pub output_tokens: u64,
    /// Both together.
    pub total_tokens: u64,
    /// Of those read, from the provider's cache.
    pub cache_read_tokens: u64,
    /// Of those read, written to the provider's cache.
    pub cache_write_tokens: u64,
    /// Of those written, reasoning.
    pub reasoning_tokens: u64,
    /// US dollars as a decimal string, or null where a price is not known.
    pub cost_usd: Option<String>,
}

impl Usage {
    /// This and that together. The cost of a sum is not known when one cost is not; what used nothing
    /// adds nothing, and needs no price.
    #[must_use]
    pub fn plus(&self, that: &Self) -> Self {
        Self {
            input_tokens: self.input_tokens.saturating_add(that.input_tokens),
            output_tokens: self.output_tokens.saturating_add(that.output_tokens),
            total_tokens: self.total_tokens.saturating_add(that.total_tokens),
            cache_read_tokens: self.cache_read_tokens.saturating_add(that.cache_read_tokens),
            cache_write_tokens: self.cache_write_tokens.saturating_add(that.cache_write_tokens),
            reasoning_tokens: self.reasoning_tokens.saturating_add(that.reasoning_tokens),
            cost_usd: self.cost_with(that),
        }
    }

    fn cost_with(&self, that: &Self) -> Option<String> {
        let is_nothing = |it: &Self| it.total_tokens == 0 && it.cost_usd.is_none();
        match (is_nothing(self), is_nothing(that)) {
            (true, _) => that.cost_usd.clone(),
            (_, true) => self.cost_usd.clone(),
            _ => {
                let money = |it: &Self| it.cost_usd.as_deref()?.parse::<Money>().ok();
                Some(money(self)?.plus(money(that)?).to_string())
            }
        }
    }
}

/// What a session or a task may use. What is left out is not bounded.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Tokens in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// US dollars as a decimal string.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<String>,
    /// Model calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_calls: Option<u64>,
    /// Tool calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<u64>,
    /// Time that tasks run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
}

/// Who said or did something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct By {
    /// The client's name: as it said in `initialize`, else its program's.
    pub client: String,
    /// Its process.
    pub pid: u32,
}
