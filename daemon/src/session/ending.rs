//! How a task ends: its last answer and its final state in one event.

use sess_protocol::event::{
    TaskCancelled, TaskCompleted, TaskFailed, TaskInterrupted, UsageRecorded,
};
use sess_protocol::id::{MessageId, TaskId, ThreadId};
use sess_protocol::things::{
    Block, By, Call, Message, MessagePatch, MessageStatus, PromptSize, Role, SessionPatch,
    SessionStatus, Task, TaskError, TaskPatch, TaskReason, TaskStatus, ThreadPatch, Usage,
};

use super::state::Change;
use crate::world::World;

/// How a task ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ending {
    /// The answer is whole.
    Completed,
    /// It failed for good.
    Failed(TaskReason, TaskError),
    /// A person or a later request ended it.
    Cancelled(TaskReason),
    /// The daemon's own end.
    Interrupted(TaskReason),
}

/// An answer, whole or cut, with what is known of its model call.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    /// The id that its pieces were told under.
    pub message: Option<MessageId>,
    /// What it says; nothing left, no message.
    pub content: Vec<Block>,
    /// What its model call used.
    pub usage: Usage,
    /// Whether a model was asked at all.
    pub asked: bool,
    /// How the window of the call was spent.
    pub prompt: Option<PromptSize>,
    /// Which attempt.
    pub attempt: Option<u32>,
    /// From asking to the first piece.
    pub ttft_ms: Option<u64>,
    /// From asking to the end.
    pub duration_ms: Option<u64>,
    /// Why the model stopped.
    pub stop_reason: Option<String>,
    /// Where it was asked.
    pub endpoint: Option<String>,
}

/// The message that an event appends, and its thread with it as the newest.
pub(super) type Appended = (Option<MessagePatch>, Option<ThreadPatch>);

impl Change {
    /// Ends a task that is not final, with its answer so far. What was said to it and it has not
    /// read becomes queued tasks, whose ids come from the world.
    pub fn end(
        &mut self,
        id: TaskId,
        ending: Ending,
        answer: Answer,
        by: Option<&By>,
        world: &dyn World,
    ) {
        let mut task = self.state.task(id).expect("a task that ends is in the view");
        let unread = task.steering.take();
        let mut patch = TaskPatch::new(id);
        patch.ended_at = Some(Some(self.now));
        patch.steering = unread.is_some().then_some(None);
        let mut session = SessionPatch::new();
        if task.status == TaskStatus::Queued {
            session.queued = Some(self.state.count("queued").saturating_sub(1));
        } else {
            session.running = Some(None);
        }
        if answer.content.is_empty() && answer.usage.total_tokens > 0 {
            self.count_call(&task, &answer);
        } else {
            self.count(&task, &answer, &mut patch, &mut session);
        }
        let mut appended = (None, None);
        if !answer.content.is_empty() {
            appended = self.answered(&task, answer, ending == Ending::Completed, &mut session);
        }
        self.push_end((patch, session), appended, ending, by);
        self.requeue(&task, unread.unwrap_or_default(), world);
    }

    fn push_end(
        &mut self,
        (mut task, mut session): (TaskPatch, SessionPatch),
        (message, thread): Appended,
        ending: Ending,
        by: Option<&By>,
    ) {
        let id = Some(task.id);
        match ending {
            Ending::Completed => {
                task.status = Some(TaskStatus::Completed);
                self.push(TaskCompleted { task, session, message, thread }, by, id);
            }
            Ending::Failed(reason, error) => {
                task.status = Some(TaskStatus::Failed);
                task.reason = Some(Some(reason));
                task.error = Some(Some(error));
                session.status = Some(SessionStatus::Error);
                self.push(TaskFailed { task, session, message, thread }, by, id);
            }
            Ending::Cancelled(reason) => {
                task.status = Some(TaskStatus::Cancelled);
                task.reason = Some(Some(reason));
                self.push(TaskCancelled { task, session, message, thread }, by, id);
            }
            Ending::Interrupted(reason) => {
                task.status = Some(TaskStatus::Interrupted);
                task.reason = Some(Some(reason));
                self.push(TaskInterrupted { task, session, message, thread }, by, id);
            }
        }
    }

    /// Counts a model's call.
    pub(super) fn count(
        &self,
        before: &Task,
        answer: &Answer,
        task: &mut TaskPatch,
        session: &mut SessionPatch,
    ) {
        if answer.asked {
            task.usage = Some(before.usage.plus(&answer.usage));
            session.usage = Some(self.state.usage().plus(&answer.usage));
            session.iterations = Some(self.state.count("iterations") + 1);
        }
    }

    /// Counts a model's call that gave no message, in an event of its own: what is summed up call by
    /// call must find it.
    pub(super) fn count_call(&mut self, task: &Task, answer: &Answer) {
        let mut patch = TaskPatch::new(task.id);
        let mut session = SessionPatch::new();
        self.count(task, answer, &mut patch, &mut session);
        let call = answer.message.map(|id| Call {
            id,
            model: task.model.clone(),
            usage: answer.usage.clone(),
            at: self.now,
            task: Some(task.id),
        });
        let fact = UsageRecorded { session, task: Some(patch), call: call.map(Into::into) };
        self.push(fact, None, Some(task.id));
    }

    /// An answer as the message that it becomes, and its thread with it as the newest.
    pub(super) fn answered(
        &self,
        task: &Task,
        answer: Answer,
        whole: bool,
        session: &mut SessionPatch,
    ) -> Appended {
        let thread = task.thread.clone().unwrap_or_else(|| self.state.thread());
        let message = self.answer_message(task, &thread, answer, whole);
        session.messages = Some(self.state.count("messages") + 1);
        session.preview = self.preview(&message.content);
        let thread = self.thread_with(&thread, message.id);
        (Some(message.into()), Some(thread))
    }

    fn answer_message(
        &self,
        task: &Task,
        thread: &ThreadId,
        answer: Answer,
        whole: bool,
    ) -> Message {
        let id = answer.message.expect("an answer with content has an id");
        let mut message = Message::empty(id, thread, self.next_seq(), Role::Assistant, self.now);
        if !whole {
            message.status = MessageStatus::Partial;
        }
        message.parent = self.state.head(thread).flatten();
        message.task = Some(task.id);
        message.content = answer.content;
        message.model = Some(task.model.clone());
        message.usage = Some(answer.usage);
        message.prompt = answer.prompt;
        message.attempt = answer.attempt;
        message.ttft_ms = answer.ttft_ms;
        message.duration_ms = answer.duration_ms;
        message.stop_reason = answer.stop_reason;
        message.endpoint = answer.endpoint;
        message
    }
}
