//! A task changed before its turn, or tried again; a front end's own events.

use serde_json::{Value, json};
use sess_protocol::error::{Error, Kind};
use sess_protocol::event::{Event, TaskQueued, TaskUpdated};
use sess_protocol::id::{MessageId, TaskId};
use sess_protocol::methods::{
    Content, EVENT_DATA_BYTES_MAX, EVENT_NAME_BYTES_MAX, EventAppendParams, IfBusy, RetryFrom,
};
use sess_protocol::things::{Block, By, Message, Task, TaskPatch, TaskStatus};

use super::actor::{Actor, With};
use super::attached::content_of;
use super::command::{Origin, Outcome};
use super::queue::{Ask, no_task};
use super::state::{Change, read};
use super::steering::Move;
use crate::store::StoreError;

/// A task to try again, with the ids of the new one.
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    /// The final task.
    pub of: TaskId,
    /// From where on.
    pub from: RetryFrom,
    /// The new task.
    pub task: TaskId,
    /// The new task's request, where the old one never became a message.
    pub message: MessageId,
}

/// What is new of a task that waits.
#[derive(Debug)]
pub struct NewWords {
    /// The task.
    pub task: TaskId,
    /// What is asked instead.
    pub content: Option<Content>,
    /// Its new place, from 1.
    pub position: Option<u64>,
}

impl Change {
    /// Gives a task that waits other words.
    fn ask_otherwise(&mut self, task: &Task, content: Vec<Block>, by: &By) -> Result<(), Error> {
        if task.request.content.is_none() {
            let message =
                "what this task was asked is a message already: it goes on after a restart";
            return Err(Error::new(Kind::Conflict, message).with("task", task.id.to_string()));
        }
        let mut request = task.request.clone();
        request.content = Some(content);
        let mut patch = TaskPatch::new(task.id);
        patch.request = Some(request);
        self.push(TaskUpdated { task: patch, session: None }, Some(by), Some(task.id));
        Ok(())
    }

    /// Puts a task that waits at another place; the others keep their order.
    fn put_at(&mut self, id: TaskId, position: u64, by: &By) {
        let mut line = self.state.queue();
        line.retain(|it| *it != id);
        let place = usize::try_from(position.saturating_sub(1)).unwrap_or(usize::MAX);
        let place = place.min(line.len());
        line.insert(place, id);
        let order = |it: TaskId| self.state.task(it).map_or(0, |it| it.order);
        let mut orders: Vec<i64> = line.iter().map(|it| order(*it)).collect();
        // From its new place to the front each comes before the one behind it; to the end likewise,
        // where that is nearer.
        if place * 2 < line.len() {
            for at in (0..=place).rev().filter(|it| it + 1 < line.len()) {
                orders[at] = orders[at].min(orders[at + 1] - 1);
            }
        } else {
            for at in place.max(1)..line.len() {
                orders[at] = orders[at].max(orders[at - 1] + 1);
            }
        }
        for (task, new) in line.into_iter().zip(orders) {
            if order_of(self, task) != new {
                let mut patch = TaskPatch::new(task);
                patch.order = Some(new);
                self.push(TaskUpdated { task: patch, session: None }, Some(by), Some(task));
            }
        }
    }

    /// Queues a final task once more, as a new one.
    fn queue_again(&mut self, retry: Retry, old: Task, head: Option<MessageId>, by: &By) {
        let never_said = old.request.content.clone();
        let ask = Ask {
            task: retry.task,
            message: never_said.as_ref().map_or(old.request.message, |_| retry.message),
            content: never_said.unwrap_or_default(),
            thread: old.thread.unwrap_or_else(|| self.state.thread()),
            model: old.model,
            agent: old.agent,
            if_busy: IfBusy::Queue,
            by: by.clone(),
        };
        let mut task = self.new_task(&ask, self.order_behind());
        task.retry_of = Some(retry.of).filter(|_| !crate::sabotage::is("lost_retry"));
        task.head = head;
        let mut session = self.spoken(&ask);
        session.queued = Some(self.state.count("queued") + 1);
        if !ask.content.is_empty() {
            task.request.content = Some(ask.content);
            task.request.by = Some(by.clone());
        }
        self.push(TaskQueued { task: task.into(), session }, Some(by), Some(retry.task));
    }

    /// Adds an event of a front end's own.
    fn push_foreign(&mut self, params: EventAppendParams, by: &By) -> Event {
        let event = Event {
            seq: self.next_seq(),
            at: self.now,
            by: Some(by.clone()),
            task: None,
            kind: params.kind,
            stream: params.stream,
            data: params.data,
        };
        self.push_event(event.clone());
        event
    }
}

fn order_of(change: &Change, task: TaskId) -> i64 {
    change.state.task(task).map_or(0, |it| it.order)
}

impl Actor {
    /// Changes a task that waits for its turn.
    pub(super) async fn update_task(&mut self, new: NewWords, origin: &Origin) -> Outcome {
        let NewWords { task: id, content, position } = new;
        if content.is_none() && position.is_none() {
            let message = "give `content`, `position` or both";
            return Err(Error::invalid("content", message));
        }
        let task = match self.state.task(id) {
            Some(task) => task,
            None => self.old_task(id).await?,
        };
        if task.status != TaskStatus::Queued {
            return Err(status_conflict(&task, "only one that waits in the queue can be changed"));
        }
        let mut change = self.change();
        let mut with = With::default();
        if let Some(content) = content {
            let (blocks, blobs) = content_of(&self.shared, &task.model, content).await?;
            with.blobs = blobs;
            change.ask_otherwise(&task, blocks, &origin.by)?;
        }
        if let Some(position) = position {
            change.put_at(id, position, &origin.by);
        }
        let answer = task_answer(&change, id);
        if change.events.is_empty() {
            return self.settle_unchanged(origin, answer).await;
        }
        let with = With { blobs: with.blobs, ..With::key(origin, &answer) };
        self.settle(change, with, origin, answer).await
    }

    /// Tries a final task again.
    pub(super) async fn retry(&mut self, retry: Retry, origin: &Origin) -> Outcome {
        if let Some(task) = self.state.task(retry.of) {
            return Err(status_conflict(&task, "only a final one can be tried again"));
        }
        let old = self.old_task(retry.of).await?;
        self.shared.model(&old.model)?;
        let head = match (retry.from, &old.request.content) {
            (RetryFrom::Here, None) => Some(self.reached(&old).await?),
            _ => None,
        };
        let was_busy = self.state.is_busy();
        let mut change = self.active_change();
        change.room()?;
        change.queue_again(retry, old, head, &origin.by);
        let slot = self.shared.slots.try_take();
        let may_start = slot.is_some() && !was_busy && !self.shared.stop.is_stopping();
        if may_start {
            let back = self.move_before(&change.state).await;
            change.start_next(back.map_err(|err| self.shared.refusal(err))?);
        }
        let answer = task_answer(&change, retry.task);
        let with = With::key(origin, &answer);
        let before = self.state.seq();
        let answer = self.settle(change, with, origin, answer).await?;
        let is_new = self.state.seq() != before;
        if is_new && may_start && self.state.running() == Some(retry.task) {
            self.begin_run(slot);
        }
        Ok(answer)
    }

    async fn old_task(&self, id: TaskId) -> Result<Task, Error> {
        let found = self.shared.store.task(id).await.map_err(|err| self.shared.refusal(err))?;
        let of_here = found.filter(|it| it.0 == self.state.id).and_then(|it| read(&it.1.into()));
        of_here.ok_or_else(|| no_task(&id.to_string(), self.state.id))
    }

    /// The newest message of a task that has ended.
    async fn reached(&self, task: &Task) -> Result<MessageId, Error> {
        let answer = self.shared.store.answer(task.id).await;
        let answer = answer.map_err(|err| self.shared.refusal(err))?;
        let answer: Option<Message> = answer.and_then(|it| serde_json::from_str(it.get()).ok());
        let asked = task.head.unwrap_or(task.request.message);
        Ok(answer.map_or(asked, |it| it.id))
    }

    /// The move that a task begins with which is tried again from its request on.
    pub(super) async fn move_to_request(&self, next: &Task) -> Result<Option<Move>, StoreError> {
        if next.head.is_some() || next.request.content.is_some() {
            return Ok(None);
        }
        let thread = next.thread.clone().unwrap_or_else(|| self.state.thread());
        let request = next.request.message;
        let Some((_, before)) = self.before(&thread, request).await? else { return Ok(None) };
        let (head, messages) = (Some(request), before + 1);
        Ok(Some(Move { task: next.id, thread, head, messages, why: "retry" }))
    }

    /// Keeps a front end's own event.
    pub(super) async fn append_own(
        &mut self,
        params: EventAppendParams,
        origin: &Origin,
    ) -> Outcome {
        check_own(&params)?;
        let mut change = self.change();
        let event = change.push_foreign(params, &origin.by);
        let answer = json!({ "event": event, "seq": event.seq }).to_string();
        let with = With::key(origin, &answer);
        self.settle(change, with, origin, answer).await
    }
}

fn status_conflict(task: &Task, why: &str) -> Error {
    let status = serde_json::to_value(task.status).expect("a status is a word");
    let message = format!("the task is {}: {why}", status.as_str().unwrap_or_default());
    Error::new(Kind::Conflict, message).with("task", task.id.to_string()).with("status", status)
}

fn check_own(params: &EventAppendParams) -> Result<(), Error> {
    let (space, name) = params.kind.split_once(':').unwrap_or_default();
    let plain = |it: &str| {
        let fits = |it: u8| it.is_ascii_alphanumeric() || b"_-./".contains(&it);
        !it.is_empty() && it.bytes().all(fits)
    };
    if !plain(space) || !plain(name) || params.kind.len() > EVENT_NAME_BYTES_MAX {
        let message = format!(
            "`type` is `<namespace>:<name>` of letters, digits and `_-./`, \
             at most {EVENT_NAME_BYTES_MAX} bytes"
        );
        return Err(Error::invalid("type", message));
    }
    if params.stream.as_ref().is_some_and(|it| it.len() > EVENT_NAME_BYTES_MAX) {
        let message = format!("`stream` has at most {EVENT_NAME_BYTES_MAX} bytes");
        return Err(Error::invalid("stream", message).with("limit_bytes", EVENT_NAME_BYTES_MAX));
    }
    let bytes = serde_json::to_string(&params.data).map_or(usize::MAX, |it| it.len());
    if bytes > EVENT_DATA_BYTES_MAX {
        let message = format!("`data` is longer than {EVENT_DATA_BYTES_MAX} bytes");
        return Err(Error::invalid("data", message).with("limit_bytes", EVENT_DATA_BYTES_MAX));
    }
    Ok(())
}

/// A task as a change leaves it, with its place in the line.
fn task_answer(change: &Change, id: TaskId) -> String {
    let key = id.to_string();
    let mut members = change.state.view().thing("task", &key).cloned().unwrap_or_default();
    if let Some(position) = change.state.position(id) {
        members.insert("position".to_owned(), position.into());
    }
    json!({ "task": Value::Object(members), "seq": change.state.seq() }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sess_protocol::id::SessionId;
    use sess_protocol::time::Timestamp;
    use sess_protocol::view::View;

    use crate::session::state::State;

    /// A line of tasks that were put in one after another.
    fn line(count: u64) -> (Change, Vec<TaskId>) {
        let state = State::new(SessionId(1), View::default());
        let mut change = state.change(Timestamp(0));
        let by = By { client: "test".to_owned(), pid: 1 };
        let ids: Vec<TaskId> = (1..=count).map(|it| TaskId(it.into())).collect();
        for id in &ids {
            let mut task = TaskPatch::new(*id);
            task.session = Some(SessionId(1));
            task.status = Some(TaskStatus::Queued);
            task.order = Some(change.order_behind());
            task.model = Some("echo/echo".to_owned());
            task.created_at = Some(Timestamp(0));
            task.usage = Some(sess_protocol::things::Usage::default());
            task.request = Some(sess_protocol::things::TaskRequest {
                message: MessageId(id.0),
                content: None,
                by: None,
            });
            let session = sess_protocol::things::SessionPatch::new();
            change.push(TaskQueued { task, session }, Some(&by), Some(*id));
        }
        (change, ids)
    }

    #[test]
    fn a_task_goes_to_any_place_and_the_others_keep_their_order() {
        let by = By { client: "test".to_owned(), pid: 1 };
        for from in 0..6 {
            for to in 0..6_usize {
                let (mut change, ids) = line(6);
                change.put_at(ids[from], to as u64 + 1, &by);
                let mut expected = ids.clone();
                let moved = expected.remove(from);
                expected.insert(to, moved);
                assert_eq!(change.state.queue(), expected, "from {from} to {to}");
            }
        }
    }
}
