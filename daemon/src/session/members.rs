//! Making and changing a session itself: its members, its lock, its checkpoints.

use serde_json::{Map, Value};
use sess_protocol::error::{Error, Kind};
use sess_protocol::event::{
    CheckpointCreated, ReleaseReason, SessionCreated, SessionLocked, SessionReleased,
    SessionUpdated,
};
use sess_protocol::id::{CheckpointId, LockId, SessionId, ThreadId};
use sess_protocol::methods::{
    SESSION_TEXT_BYTES_MAX, SessionCreateParams, SessionUpdateParams, TAGS_MAX, TITLE_BYTES_MAX,
};
use sess_protocol::things::{
    By, Checkpoint, CheckpointTrigger, Holder, Lock, Mode, Scope, SessionPatch, SessionStatus,
    Thread, ThreadPatch, Usage, Workspace,
};
use sess_protocol::view::Members;

use super::state::Change;

/// What a new session is, beside what the client says.
#[derive(Debug, Clone)]
pub struct Birth {
    /// Its id.
    pub id: SessionId,
    /// Its model.
    pub model: String,
    /// Its mode.
    pub mode: Mode,
    /// What it belongs to.
    pub scope: Scope,
    /// Who answers in it.
    pub agent: String,
    /// Its workspace.
    pub workspace: Option<Workspace>,
}

/// Refuses members that are too large to keep.
pub fn check_sizes(
    title: Option<&str>,
    texts: &[Option<&str>],
    metadata: Option<&Map<String, Value>>,
    tags: Option<&[String]>,
) -> Result<(), Error> {
    let too_long = |param: &str, limit: usize| {
        Error::invalid(param, format!("`{param}` is longer than {limit} bytes"))
            .with("limit_bytes", limit)
    };
    if title.is_some_and(|it| it.len() > TITLE_BYTES_MAX) {
        return Err(too_long("title", TITLE_BYTES_MAX));
    }
    for (text, param) in texts.iter().zip(["description", "system"]) {
        if text.is_some_and(|it| it.len() > SESSION_TEXT_BYTES_MAX) {
            return Err(too_long(param, SESSION_TEXT_BYTES_MAX));
        }
    }
    if let Some(metadata) = metadata {
        let bytes = serde_json::to_string(metadata).map_or(usize::MAX, |it| it.len());
        if bytes > SESSION_TEXT_BYTES_MAX {
            return Err(too_long("metadata", SESSION_TEXT_BYTES_MAX));
        }
    }
    if tags.is_some_and(|it| it.len() > TAGS_MAX || it.iter().any(|tag| tag.len() > 256)) {
        let message = format!("`tags` has at most {TAGS_MAX} tags of at most 256 bytes");
        return Err(Error::invalid("tags", message));
    }
    Ok(())
}

impl Change {
    /// Makes the session.
    pub fn create(&mut self, birth: Birth, params: SessionCreateParams, by: &By) {
        let now = self.now;
        let mut session = SessionPatch::new();
        session.id = Some(birth.id);
        session.title = Some(params.title.unwrap_or_default());
        session.status = Some(SessionStatus::Active);
        session.model = Some(birth.model);
        session.mode = Some(birth.mode);
        session.scope = Some(birth.scope);
        session.agent = Some(birth.agent);
        session.thread = Some(ThreadId::main());
        session.created_at = Some(now);
        session.active_at = Some(self.active);
        for counter in [
            &mut session.messages,
            &mut session.tasks,
            &mut session.iterations,
            &mut session.queued,
            &mut session.approvals,
        ] {
            *counter = Some(0);
        }
        session.usage = Some(Usage::default());
        session.metadata = Some(params.metadata.unwrap_or_default());
        session.tags = Some(params.tags.unwrap_or_default());
        session.description = params.description.map(Some);
        session.system = params.system.map(Some);
        session.workspace = birth.workspace.map(Some);
        session.ephemeral = params.ephemeral.filter(|it| *it).map(Some);
        let thread = Thread {
            id: ThreadId::main(),
            messages: 0,
            created_at: now,
            label: None,
            parent: None,
            fork_message: None,
            fork_index: None,
            head: None,
        };
        self.push(SessionCreated { session, thread: thread.into() }, Some(by), None);
    }

    /// Changes members of the session.
    pub fn update(&mut self, params: SessionUpdateParams, by: &By) -> Result<(), Error> {
        let text = |it: &Option<Option<String>>| it.clone().flatten();
        let (description, system) = (text(&params.description), text(&params.system));
        let mut session = SessionPatch::new();
        if let Some(new) = params.metadata {
            session.metadata = Some(self.metadata_with(new));
        }
        check_sizes(
            params.title.as_deref(),
            &[description.as_deref(), system.as_deref()],
            session.metadata.as_ref(),
            params.tags.as_deref(),
        )?;
        session.title = params.title;
        session.description = params.description;
        session.status = params.status;
        session.model = params.model;
        session.mode = params.mode;
        session.system = params.system;
        session.tags = params.tags;
        session.budget = params.budget;
        self.push(SessionUpdated { session }, Some(by), None);
        Ok(())
    }

    fn metadata_with(&self, new: Map<String, Value>) -> Members {
        let old = self.state.view().session().get("metadata").and_then(Value::as_object);
        let mut metadata = old.cloned().unwrap_or_default();
        sess_protocol::view::merge(&mut metadata, &new);
        metadata
    }

    /// Makes the session the active one.
    pub fn activate(&mut self, by: &By) {
        let mut session = SessionPatch::new();
        session.active_at = Some(self.active);
        let status = self.state.text("status");
        if status == "completed" || status == "error" {
            session.status = Some(SessionStatus::Active);
        }
        self.push(SessionUpdated { session }, Some(by), None);
    }

    /// Gives a client the exclusive right to input.
    pub fn lock(&mut self, id: LockId, by: &By) {
        let holder = Holder { client: by.client.clone(), pid: by.pid, since: self.now };
        let mut session = SessionPatch::new();
        session.lock = Some(Some(Lock { id, holder }));
        self.push(SessionLocked { session }, Some(by), None);
    }

    /// Ends the lock.
    pub fn release(&mut self, why: ReleaseReason, by: Option<&By>) {
        let mut session = SessionPatch::new();
        session.lock = Some(None);
        self.push(SessionReleased { session, why }, by, None);
    }

    /// Keeps this moment of the current thread.
    pub fn checkpoint(&mut self, id: CheckpointId, by: &By) -> Checkpoint {
        let thread = self.state.thread();
        let all = |kind: &str| {
            self.state.view().things(kind).cloned().map(Value::Object).collect::<Vec<_>>()
        };
        let usage = self.state.usage();
        let checkpoint = Checkpoint {
            id,
            head: self.state.head(&thread).flatten(),
            thread,
            trigger: CheckpointTrigger::Manual,
            goals: all("goal"),
            plans: all("plan"),
            tokens: usage.total_tokens,
            usage,
            at: self.now,
            label: None,
        };
        let fact = CheckpointCreated { checkpoint: checkpoint.clone().into() };
        self.push(fact, Some(by), None);
        checkpoint
    }

    /// A thread with its new newest message.
    pub(super) fn thread_with(
        &self,
        thread: &ThreadId,
        head: sess_protocol::id::MessageId,
    ) -> ThreadPatch {
        let mut patch = ThreadPatch::new(thread.clone());
        patch.head = Some(Some(head));
        patch.messages = Some(self.state.path_length(thread) + 1);
        patch
    }
}

/// The refusal of a session that another client holds.
pub fn locked(lock: &Lock) -> Error {
    let message = format!(
        "the session is held by `{}` (process {}) since {}; wait for it, or release it by force",
        lock.holder.client, lock.holder.pid, lock.holder.since
    );
    let holder = serde_json::to_value(&lock.holder).expect("a holder is plain");
    Error::new(Kind::Locked, message).with("holder", holder)
}
