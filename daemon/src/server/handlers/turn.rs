//! `turn/list`: a thread's tasks as a front end draws them, put together from the path and the queue.

use std::sync::Arc;

use serde_json::{Value, json};
use sess_protocol::error::{Error, Kind};
use sess_protocol::id::{MessageId, SessionId, TaskId};
use sess_protocol::live::Live;
use sess_protocol::methods as m;
use sess_protocol::things::{Message, Task};
use sess_protocol::turn::Turn;
use sess_protocol::view::Members;

use super::super::find;
use super::super::params::{bad_cursor, plain_limit};
use super::super::router::{Call, Routed, later};
use super::super::views::{ANSWER_BYTES_MAX, moment_of, page_of};
use super::message::head_of;
use crate::session::command::{Moment, Outcome, ViewNow};
use crate::session::state::read;
use crate::shared::Shared;
use crate::store::{MessagePage, StoreError};

/// Messages that are read at a time.
const PAGE: u32 = 200;
/// Bytes of messages that are read for one answer. Of a turn of more, only the newest are drawn.
const READ_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Which way a page goes, and from which task's turn on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bound {
    Before(Option<TaskId>),
    After(TaskId),
}

impl Bound {
    fn of_cursor(text: &str) -> Result<Self, Error> {
        let (way, task) = text.split_once(':').ok_or_else(bad_cursor)?;
        let task = task.parse().map_err(|_| bad_cursor())?;
        match way {
            "before" => Ok(Self::Before(Some(task))),
            "after" => Ok(Self::After(task)),
            _ => Err(bad_cursor()),
        }
    }

    fn is_forward(self) -> bool {
        matches!(self, Self::After(_))
    }

    fn task(self) -> Option<TaskId> {
        match self {
            Self::Before(task) => task,
            Self::After(task) => Some(task),
        }
    }
}

pub(in crate::server) fn list(call: Call<'_, m::TurnList>) -> Routed {
    let shared = call.shared();
    let params = call.params;
    let limit = plain_limit(params.limit)? as usize;
    let given = [&params.before, &params.after, &params.cursor];
    if given.iter().filter(|it| it.is_some()).count() > 1 {
        let message = "give one of `before`, `after` and `cursor`";
        return Err(Error::invalid("cursor", message));
    }
    later(async move {
        let session = find::session(&shared, &params.session).await?;
        let bound = match (&params.before, &params.after, &params.cursor) {
            (Some(task), _, _) => Bound::Before(Some(find::task(&shared, task).await?.0)),
            (_, Some(task), _) => Bound::After(find::task(&shared, task).await?.0),
            (_, _, Some(cursor)) => Bound::of_cursor(cursor)?,
            _ => Bound::Before(None),
        };
        let moment = moment_of(&shared, session).await?;
        let list = List::new(&shared, session, moment, params.thread.as_deref()).await?;
        list.page(bound, limit).await
    })
}

/// What there is of one task.
struct Group {
    task: TaskId,
    messages: Vec<Message>,
}

/// The turns of a thread at one moment.
struct List<'a> {
    shared: &'a Arc<Shared>,
    session: SessionId,
    head: Option<MessageId>,
    /// The tasks that are not final, as they were at that moment.
    open: Vec<Task>,
    /// Those of this thread of which nothing lies on the path: what waits, in its order.
    pending: Vec<Group>,
    live: Option<Live>,
}

/// A part of a path in turns.
struct Part {
    groups: Vec<Group>,
    /// Whether the path goes on in the direction of the page.
    more: bool,
}

impl<'a> List<'a> {
    async fn new(
        shared: &'a Arc<Shared>,
        session: SessionId,
        Moment { now, live }: Moment,
        thread: Option<&str>,
    ) -> Result<Self, Error> {
        let head = head_of(&now, thread)?;
        let thread = thread.map_or_else(|| current(&now), str::to_owned);
        let open: Vec<Task> = now.snapshot.get("tasks").and_then(read).unwrap_or_default();
        let mut list = Self { shared, session, head, open, pending: Vec::new(), live };
        let newest = match head {
            Some(head) => list.message(head).await?.and_then(|it| it.task),
            None => None,
        };
        // One that began has its messages at the end of the path; one that is tried again may have
        // begun, and have said nothing that is its own.
        let waits = |it: &&Task| {
            it.thread.as_ref().is_none_or(|it| it.0 == thread)
                && (it.request.content.is_some()
                    || (it.retry_of.is_some() && newest != Some(it.id)))
        };
        let waiting = list.open.iter().filter(waits);
        list.pending = waiting.map(|it| Group { task: it.id, messages: Vec::new() }).collect();
        Ok(list)
    }

    async fn page(mut self, bound: Bound, limit: usize) -> Outcome {
        let pending = std::mem::take(&mut self.pending);
        let in_queue = bound.task().and_then(|task| pending.iter().position(|it| it.task == task));
        let (mut part, ahead) = match (bound, in_queue) {
            (Bound::Before(_), Some(at)) => {
                let pending: Vec<Group> = pending.into_iter().take(at).collect();
                (self.back(None, limit.saturating_sub(pending.len())).await?, pending)
            }
            (Bound::After(_), Some(at)) => {
                let pending = pending.into_iter().skip(at + 1).collect();
                (Part { groups: Vec::new(), more: false }, pending)
            }
            (Bound::Before(None), None) => {
                (self.back(None, limit.saturating_sub(pending.len())).await?, pending)
            }
            (Bound::Before(Some(task)), None) => (self.back(Some(task), limit).await?, Vec::new()),
            (Bound::After(task), None) => (self.on(task, limit).await?, pending),
        };
        // What waits comes behind the path, also where the page ends on the way there.
        if !(bound.is_forward() && part.more) {
            part.groups.extend(ahead);
        }
        let forward = bound.is_forward();
        let mut more = part.more;
        if part.groups.len() > limit {
            more = true;
            if forward {
                part.groups.truncate(limit);
            } else {
                part.groups.drain(..part.groups.len() - limit);
            }
        }
        self.answer(part.groups, more, forward).await
    }

    /// The newest turns of the path, or those before a task's; about one more than `wanted`.
    async fn back(&self, before: Option<TaskId>, wanted: usize) -> Result<Part, Error> {
        let (mut messages, mut bytes) = (Vec::<Message>::new(), 0);
        let (Some(head), mut bound) = (self.head, None) else {
            return match before {
                Some(task) => Err(not_there(task)),
                None => Ok(Part { groups: Vec::new(), more: false }),
            };
        };
        let mut skipped = None;
        if let Some(task) = before {
            let anchor = self.anchor(task).await?;
            bound = Some(anchor);
            // The anchor of one that was tried again from where it was belongs to the turn before.
            let own = self.task(task).await?;
            if own.request.message != anchor {
                messages.extend(self.message(anchor).await?.filter(|it| it.task != Some(task)));
            }
            skipped = Some(own);
        }
        loop {
            let page = MessagePage { head, before: bound, after: None, limit: PAGE };
            let page =
                page_of(self.shared, self.session, page).await.map_err(|it| of_turn(it, before))?;
            bytes += page.messages.iter().map(|it| it.get().len()).sum::<usize>();
            let mut older = Vec::with_capacity(page.messages.len() + messages.len());
            for raw in &page.messages {
                older.push(self.parsed(raw.get())?);
            }
            bound = older.first().map(|it| it.id).or(bound);
            older.append(&mut messages);
            messages = older;
            if let Some(task) = &skipped {
                let own = |it: &Message| it.task == Some(task.id) || it.id == task.request.message;
                while messages.last().is_some_and(own) {
                    messages.pop();
                }
            }
            let whole = runs(&messages).saturating_sub(1);
            if !page.more || whole > wanted || bytes > READ_BYTES_MAX {
                let mut groups = groups_of(messages);
                // The first may go on before what was read; when it is all there is, its end is shown.
                if page.more && groups.len() > 1 {
                    groups.remove(0);
                }
                return Ok(Part { groups, more: page.more });
            }
        }
    }

    /// The turns of the path behind a task's; about one more than `wanted`.
    async fn on(&self, task: TaskId, wanted: usize) -> Result<Part, Error> {
        let own = self.task(task).await?;
        let (mut messages, mut bytes) = (Vec::<Message>::new(), 0);
        let Some(head) = self.head else {
            return Err(not_there(task));
        };
        let mut bound = self.anchor(task).await?;
        loop {
            let page = MessagePage { head, before: None, after: Some(bound), limit: PAGE };
            let page = page_of(self.shared, self.session, page).await;
            let page = page.map_err(|it| of_turn(it, Some(task)))?;
            bytes += page.messages.iter().map(|it| it.get().len()).sum::<usize>();
            for raw in &page.messages {
                let message = self.parsed(raw.get())?;
                bound = message.id;
                if !(messages.is_empty() && message.task == Some(own.id)) {
                    messages.push(message);
                }
            }
            let whole = runs(&messages).saturating_sub(1);
            if !page.more || whole > wanted || bytes > READ_BYTES_MAX {
                let mut groups = groups_of(messages);
                if page.more && groups.len() > 1 {
                    groups.pop();
                }
                return Ok(Part { groups, more: page.more });
            }
        }
    }

    /// The message behind which a task's own begin, or with which they do.
    async fn anchor(&self, id: TaskId) -> Result<MessageId, Error> {
        let task = self.task(id).await?;
        let from_here = task.head.filter(|_| task.retry_of.is_some());
        Ok(from_here.unwrap_or(task.request.message))
    }

    async fn task(&self, id: TaskId) -> Result<Task, Error> {
        if let Some(task) = self.open.iter().find(|it| it.id == id) {
            return Ok(task.clone());
        }
        let found = self.shared.store.task(id).await.map_err(|err| self.shared.refusal(err))?;
        let found: Option<(SessionId, Members)> = found.filter(|it| it.0 == self.session);
        let found = found.and_then(|it| read(&Value::Object(it.1)));
        found.ok_or_else(|| Error::not_found("task", &id.to_string()))
    }

    async fn message(&self, id: MessageId) -> Result<Option<Message>, Error> {
        let raw = self.shared.store.message(self.session, id).await;
        let raw = raw.map_err(|err| self.shared.refusal(err))?;
        raw.map(|it| self.parsed(it.get())).transpose()
    }

    fn parsed(&self, raw: &str) -> Result<Message, Error> {
        let damaged = |err| self.shared.refusal(StoreError::Damaged(format!("a message: {err}")));
        serde_json::from_str(raw).map_err(damaged)
    }

    /// The answer of these, as much of it as fits.
    async fn answer(&self, groups: Vec<Group>, mut more: bool, forward: bool) -> Outcome {
        let mut turns: Vec<(TaskId, String)> = Vec::new();
        let mut bytes = 0;
        let mut groups = groups;
        if !forward {
            groups.reverse();
        }
        // The request of the turn that is newer than the one at hand.
        let mut newer: Option<MessageId> = None;
        for at in 0..groups.len() {
            let task = self.task(groups[at].task).await?;
            if forward && let Some(next) = groups.get(at + 1) {
                newer = Some(self.task(next.task).await?.request.message);
            } else if forward {
                newer = None;
            }
            let messages = std::mem::take(&mut groups[at].messages);
            // Its request was asked again, and nothing else of it is left on the path.
            let is_over = task.status.is_final()
                && newer == Some(task.request.message)
                && messages.iter().all(|it| Some(it.id) == newer);
            newer = Some(task.request.message);
            if is_over {
                continue;
            }
            let turn = self.turn(&task, messages).await?;
            bytes += turn.len() + 1;
            if bytes > ANSWER_BYTES_MAX && !turns.is_empty() {
                more = true;
                break;
            }
            turns.push((task.id, turn));
        }
        let last = turns.last().map(|it| it.0).filter(|_| more);
        if !forward {
            turns.reverse();
        }
        let turns: Vec<String> = turns.into_iter().map(|it| it.1).collect();
        let mut text = format!("{{\"turns\":[{}]", turns.join(","));
        if let Some(last) = last {
            let way = if forward { "after" } else { "before" };
            text.push_str(&format!(",\"next\":\"{way}:{last}\""));
        }
        text.push('}');
        Ok(text)
    }

    async fn turn(&self, task: &Task, mut messages: Vec<Message>) -> Result<String, Error> {
        let asked = task.request.message;
        if task.request.content.is_none() && messages.iter().all(|it| it.id != asked) {
            messages.splice(0..0, self.message(asked).await?);
        }
        let turn = Turn::new(task, &messages, self.live.as_ref());
        Ok(json!(turn).to_string())
    }
}

fn current(now: &ViewNow) -> String {
    let session = now.snapshot.get("session");
    let thread = session.and_then(|it| it.get("thread")).and_then(Value::as_str);
    thread.unwrap_or_default().to_owned()
}

/// How many tasks follow one another.
fn runs(messages: &[Message]) -> usize {
    let tasks = messages.iter().filter_map(|it| it.task);
    let mut last = None;
    tasks.filter(|it| last.replace(*it) != Some(*it)).count()
}

/// Messages by their tasks. One of no task goes with those before it.
fn groups_of(messages: Vec<Message>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for message in messages {
        match (message.task, groups.last_mut()) {
            (Some(task), Some(last)) if last.task == task => last.messages.push(message),
            (Some(task), _) => groups.push(Group { task, messages: vec![message] }),
            (None, Some(last)) => last.messages.push(message),
            (None, None) => {}
        }
    }
    groups
}

/// A message that is not on the path says that the task whose turn was named is not.
fn of_turn(err: Error, task: Option<TaskId>) -> Error {
    match task {
        Some(task) if err.kind() == Kind::NotFound => not_there(task),
        _ => err,
    }
}

fn not_there(task: TaskId) -> Error {
    let error = Error::not_found("turn", &task.to_string());
    error.hint("nothing of this task is on the thread")
}
