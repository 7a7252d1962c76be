//! What is said to a task at work: kept at once, read before its next call of the model.

use serde_json::Value;
use sess_protocol::error::{Error, Kind};
use sess_protocol::event::{MessageAppended, TaskQueued, TaskUpdated, ThreadMoved};
use sess_protocol::id::{MessageId, TaskId, ThreadId};
use sess_protocol::methods::ChatSendParams;
use sess_protocol::things::{
    By, Message, SessionPatch, Steering, Task, TaskPatch, TaskRequest, TaskStatus, ThreadPatch,
    Usage,
};

use super::ending::Answer;
use super::state::{Change, State};
use crate::world::World;

/// Where a thread is moved to before a task starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// The task that starts.
    pub task: TaskId,
    /// The thread.
    pub thread: ThreadId,
    /// Its newest message from then on.
    pub head: Option<MessageId>,
    /// How many messages lie on its path then.
    pub messages: u64,
    /// What moves it.
    pub why: &'static str,
}

/// The refusal of words for the task at work that ask for what it does not do.
pub fn fits(state: &State, task: &Task, params: &ChatSendParams) -> Result<(), Error> {
    let thread = task.thread.as_ref().is_none_or(|it| given(&params.thread, &it.0));
    let agent = task.agent.as_deref().unwrap_or_else(|| state.text("agent"));
    let differs = [
        ("thread", !thread),
        ("model", !given(&params.model, &task.model)),
        ("agent", !given(&params.agent, agent)),
        ("budget", params.budget.is_some()),
        ("schema", params.schema.is_some()),
    ];
    let Some((param, _)) = differs.into_iter().find(|(_, differs)| *differs) else {
        return Ok(());
    };
    let message = format!("`{param}` is not that of the task at work, which this would steer");
    Err(Error::new(Kind::Conflict, message)
        .with("param", param)
        .with("task", task.id.to_string())
        .hint(format!("leave `{param}` out, or send with `queue` or `interrupt`")))
}

fn given(param: &Option<String>, stands: &str) -> bool {
    param.as_deref().is_none_or(|it| it == stands)
}

impl Change {
    /// How much the task at work has not read yet.
    pub(super) fn unread(&self) -> usize {
        let running = self.state.running().map(|it| it.to_string());
        let task = running.and_then(|it| self.state.view().thing("task", &it));
        let steering = task.and_then(|it| it.get("steering")).and_then(Value::as_array);
        steering.map_or(0, Vec::len)
    }

    /// Keeps what is said to the task at work.
    pub fn steer(&mut self, task: Task, said: Steering) -> Result<(), Error> {
        self.room()?;
        let by = said.by.clone();
        let mut patch = TaskPatch::new(task.id);
        let mut steering = task.steering.unwrap_or_default();
        steering.push(said);
        patch.steering = Some(Some(steering));
        let mut session = SessionPatch::new();
        session.active_at = Some(self.active);
        let fact = TaskUpdated { task: patch, session: Some(session) };
        self.push(fact, Some(&by), Some(task.id));
        Ok(())
    }

    /// Appends what was said to a task and it has not read.
    pub(super) fn hear(&mut self, id: TaskId) {
        let task = self.state.task(id).expect("a task that hears is in the view");
        let thread = task.thread.clone().unwrap_or_else(|| self.state.thread());
        let mut unread = task.steering.unwrap_or_default();
        while !unread.is_empty() {
            let said = unread.remove(0);
            let mut patch = TaskPatch::new(id);
            patch.steering = Some(Some(unread.clone()).filter(|it| !it.is_empty()));
            patch.head = Some(Some(said.message));
            let mut session = SessionPatch::new();
            session.messages = Some(self.state.count("messages") + 1);
            session.preview = self.preview(&said.content);
            let message = self.request_message(said.message, id, &thread, said.content);
            let message = Message { by: Some(said.by.clone()), ..message };
            let fact = MessageAppended {
                message: message.into(),
                session,
                thread: Some(self.thread_with(&thread, said.message)),
                task: Some(patch),
            };
            self.push(fact, Some(&said.by), Some(id));
        }
    }

    /// The model has answered, and more was said to the task meanwhile: it is asked once more.
    pub fn go_on(&mut self, id: TaskId, answer: Answer) {
        let task = self.state.task(id).expect("a task that goes on is in the view");
        if answer.content.is_empty() {
            self.count_call(&task, &answer);
        } else {
            let mut patch = TaskPatch::new(id);
            let mut session = SessionPatch::new();
            self.count(&task, &answer, &mut patch, &mut session);
            let (message, thread) = self.answered(&task, answer, true, &mut session);
            let message = message.expect("an answer with content is a message");
            let fact = MessageAppended { message, session, thread, task: Some(patch) };
            self.push(fact, None, Some(id));
        }
        self.hear(id);
    }

    /// What a task did not read before its end waits for its own turn.
    pub(super) fn requeue(&mut self, ended: &Task, unread: Vec<Steering>, world: &dyn World) {
        if crate::sabotage::is("lost_steering") {
            return;
        }
        for said in unread {
            let id = TaskId(world.ordered());
            let content = Some(said.content);
            let task = Task {
                id,
                status: TaskStatus::Queued,
                request: TaskRequest { message: said.message, content, by: Some(said.by) },
                order: self.order_behind(),
                created_at: said.at,
                usage: Usage::default(),
                reason: None,
                steering: None,
                started_at: None,
                ended_at: None,
                replaces: None,
                retry_of: None,
                head: None,
                error: None,
                ..ended.clone()
            };
            let mut session = SessionPatch::new();
            session.tasks = Some(self.state.count("tasks") + 1);
            session.queued = Some(self.state.count("queued") + 1);
            self.push(TaskQueued { task: task.into(), session }, None, Some(id));
        }
    }

    /// Moves a thread back, for the task that starts with it.
    pub(super) fn move_back(&mut self, back: &Move, by: Option<&By>) {
        let from = self.state.head(&back.thread).flatten();
        if from == back.head {
            return;
        }
        let mut thread = ThreadPatch::new(back.thread.clone());
        thread.head = Some(back.head);
        thread.messages = Some(back.messages);
        let fact = ThreadMoved { thread, why: back.why.to_owned(), from };
        self.push(fact, by, Some(back.task));
    }
}
