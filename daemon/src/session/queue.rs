//! Double texting: what happens to a request when the session is busy, and whose turn is next.

use serde_json::Value;
use sess_protocol::error::{Error, Kind};
use sess_protocol::event::{TaskQueued, TaskStarted};
use sess_protocol::id::{MessageId, SessionId, TaskId, ThreadId};
use sess_protocol::methods::{IfBusy, QUEUE_MAX};
use sess_protocol::things::{
    Block, By, Message, Replaces, Role, SessionPatch, SessionStatus, Task, TaskPatch, TaskReason,
    TaskRequest, TaskStatus, Usage,
};

use super::state::Change;
use super::steering::Move;

/// Characters of a title or a preview that is made of a text.
const LINE_CHARS_MAX: usize = 60;
/// When to ask again after a full queue, in milliseconds.
const QUEUE_RETRY_MS: u64 = 1000;

/// A request that was checked and may be accepted.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The task that it becomes.
    pub task: TaskId,
    /// The message that it becomes.
    pub message: MessageId,
    /// What is said.
    pub content: Vec<Block>,
    /// Where it goes.
    pub thread: ThreadId,
    /// The model.
    pub model: String,
    /// The agent.
    pub agent: Option<String>,
    /// What to do when busy.
    pub if_busy: IfBusy,
    /// Who asks.
    pub by: By,
}

/// What was decided of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// It runs from this change on.
    Started,
    /// It waits in the queue.
    Queued,
    /// It waits in front of the queue, and this task is to be cancelled for it.
    Interrupts(TaskId),
}

impl Change {
    /// Accepts a request. `may_start`: whether the daemon may run one more task at once.
    pub fn accept(&mut self, ask: Ask, may_start: bool) -> Result<Accepted, Error> {
        let busy = self.state.is_busy();
        let running = self.state.running();
        let front = matches!(ask.if_busy, IfBusy::Interrupt | IfBusy::Rollback);
        if busy && ask.if_busy == IfBusy::Reject {
            return Err(self.busy());
        }
        let paused = self.state.text("status") == "paused";
        let free = running.is_none() && (front || !busy);
        let free = free || crate::sabotage::is("two_tasks");
        if free && may_start && !paused {
            self.start_new(ask);
            return Ok(Accepted::Started);
        }
        self.room()?;
        let interrupts = running.filter(|_| front);
        self.queue_new(ask, front, interrupts);
        Ok(interrupts.map_or(Accepted::Queued, Accepted::Interrupts))
    }

    /// Refuses when as many requests wait as may: in the queue, and unread by the task at work.
    pub(super) fn room(&self) -> Result<(), Error> {
        let queued = usize::try_from(self.state.count("queued")).unwrap_or(usize::MAX);
        let waiting = queued.saturating_add(self.unread());
        if waiting < QUEUE_MAX || crate::sabotage::is("unbounded_queue") {
            return Ok(());
        }
        let message = format!("{QUEUE_MAX} requests wait in this session already");
        Err(Error::new(Kind::Overloaded, message)
            .with("limit", QUEUE_MAX)
            .with("retry_after_ms", QUEUE_RETRY_MS))
    }

    fn busy(&self) -> Error {
        let task = self.state.running().or_else(|| self.state.queue().first().copied());
        let task = task.map(|it| it.to_string()).unwrap_or_default();
        let message = format!("the session is busy with `{task}`; wait for it or cancel it");
        Error::new(Kind::Busy, message).with("task", task)
    }

    pub(super) fn new_task(&self, ask: &Ask, order: i64) -> Task {
        Task {
            id: ask.task,
            session: self.state.id,
            status: TaskStatus::Queued,
            request: TaskRequest { message: ask.message, content: None, by: None },
            order,
            model: ask.model.clone(),
            created_at: self.now,
            usage: Usage::default(),
            reason: None,
            steering: None,
            position: None,
            agent: ask.agent.clone(),
            thread: Some(ask.thread.clone()),
            started_at: None,
            ended_at: None,
            replaces: None,
            retry_of: None,
            head: None,
            error: None,
        }
    }

    /// The members of the session that every accepted request changes.
    pub(super) fn spoken(&self, ask: &Ask) -> SessionPatch {
        let mut session = SessionPatch::new();
        session.active_at = Some(self.active);
        session.tasks = Some(self.state.count("tasks") + 1);
        let status = self.state.text("status");
        if status == "completed" || status == "error" {
            session.status = Some(SessionStatus::Active);
        }
        if self.state.text("title").is_empty() {
            session.title = line_of(&ask.content);
        }
        if self.state.view().session().contains_key("ephemeral") {
            session.ephemeral = Some(None);
        }
        session
    }

    /// The preview with this as the last that was said, when that changes it.
    pub(super) fn preview(&self, content: &[Block]) -> Option<Option<String>> {
        let preview = line_of(content).filter(|it| it != self.state.text("preview"))?;
        Some(Some(preview))
    }

    fn start_new(&mut self, ask: Ask) {
        let mut task = self.new_task(&ask, self.order_behind());
        task.status = TaskStatus::Running;
        task.started_at = Some(self.now);
        let mut session = self.spoken(&ask);
        session.running = Some(Some(ask.task));
        session.messages = Some(self.state.count("messages") + 1);
        session.preview = self.preview(&ask.content);
        let message = self.request_message(ask.message, ask.task, &ask.thread, ask.content);
        let message = Message { by: Some(ask.by.clone()), ..message };
        let thread = self.thread_with(&ask.thread, ask.message);
        let fact = TaskStarted {
            task: task.into(),
            session,
            message: Some(message.into()),
            thread: Some(thread),
        };
        self.push(fact, Some(&ask.by), Some(ask.task));
    }

    fn queue_new(&mut self, ask: Ask, front: bool, interrupts: Option<TaskId>) {
        let order = if front { self.order_before() } else { self.order_behind() };
        let mut task = self.new_task(&ask, order);
        let rollback = ask.if_busy == IfBusy::Rollback;
        task.replaces = interrupts.map(|task| Replaces { task, rollback });
        let mut session = self.spoken(&ask);
        session.queued = Some(self.state.count("queued") + 1);
        task.request.content = Some(ask.content);
        task.request.by = Some(ask.by.clone());
        self.push(TaskQueued { task: task.into(), session }, Some(&ask.by), Some(ask.task));
    }

    fn orders(&self) -> impl Iterator<Item = i64> {
        let tasks = self.state.view().things("task");
        tasks.filter_map(|it| it.get("order").and_then(Value::as_i64))
    }

    pub(super) fn order_behind(&self) -> i64 {
        self.orders().max().map_or(1, |it| it + 1)
    }

    pub(super) fn order_before(&self) -> i64 {
        self.orders().min().map_or(1, |it| it - 1)
    }

    /// Starts the first of the queue, if nothing runs and nothing holds it up. `back`: where its
    /// thread is moved to first.
    pub fn start_next(&mut self, back: Option<Move>) -> Option<TaskId> {
        if self.state.is_at_work() || self.state.text("status") == "paused" {
            return None;
        }
        let id = *self.state.queue().first()?;
        let task = self.state.task(id).expect("a queued task is in the view");
        if let Some(back) = back.filter(|it| it.task == id) {
            self.move_back(&back, task.request.by.as_ref());
        }
        let mut patch = TaskPatch::new(id);
        patch.status = Some(TaskStatus::Running);
        if task.started_at.is_none() {
            patch.started_at = Some(Some(self.now));
        }
        if task.reason.is_some() {
            patch.reason = Some(None);
        }
        let mut session = SessionPatch::new();
        session.running = Some(Some(id));
        session.queued = Some(self.state.count("queued").saturating_sub(1));
        let by = task.request.by.clone();
        let thread_id = task.thread.clone().unwrap_or_else(|| self.state.thread());
        let (mut message, mut thread) = (None, None);
        // A task that goes on after a planned stop has its request on the path already.
        if let Some(content) = task.request.content {
            let id = task.request.message;
            let request = TaskRequest { message: id, content: None, by: None };
            patch.request = Some(request);
            session.messages = Some(self.state.count("messages") + 1);
            session.preview = self.preview(&content);
            let whole = self.request_message(id, task.id, &thread_id, content);
            message = Some(Message { by: by.clone(), ..whole }.into());
            thread = Some(self.thread_with(&thread_id, id));
        }
        let fact = TaskStarted { task: patch, session, message, thread };
        self.push(fact, by.as_ref(), Some(id));
        self.hear(id);
        Some(id)
    }

    pub(super) fn request_message(
        &self,
        id: MessageId,
        task: TaskId,
        thread: &ThreadId,
        content: Vec<Block>,
    ) -> Message {
        let parent = self.state.head(thread).flatten();
        let mut message = Message::empty(id, thread, self.next_seq(), Role::User, self.now);
        message.parent = parent;
        message.task = Some(task);
        message.content = content;
        message
    }

    /// Puts the running task back to the front of the queue, to go on after a restart.
    pub fn put_back(&mut self) {
        let Some(id) = self.state.running() else { return };
        let mut task = TaskPatch::new(id);
        task.status = Some(TaskStatus::Queued);
        task.reason = Some(Some(TaskReason::Restart));
        task.order = Some(self.order_before());
        let mut session = SessionPatch::new();
        session.running = Some(None);
        session.queued = Some(self.state.count("queued") + 1);
        self.push(TaskQueued { task, session }, None, Some(id));
    }
}

/// The beginning of the first text on one line: a title, and a preview.
fn line_of(content: &[Block]) -> Option<String> {
    let text = content.iter().find_map(|block| match block {
        Block::Text { text, .. } => Some(text),
        _ => None,
    })?;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let short: String = line.chars().take(LINE_CHARS_MAX).collect();
    Some(short).filter(|it| !it.is_empty())
}

/// A task's refusal that names its session, for one that is not there.
#[must_use]
pub fn no_task(task: &str, session: SessionId) -> Error {
    Error::not_found("task", task).with("session", session.to_string())
}
