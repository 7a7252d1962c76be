//! What the commits leave: every question but the log's own, answered by folding events again.
//!
//! Slow and plain on purpose: other stores are judged by these answers.

use std::cmp::Reverse;
use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use sess_protocol::event::{Event, FactType, SessionCleared};
use sess_protocol::id::{MessageId, SessionId, TaskId};
use sess_protocol::methods::SessionUsageResult;
use sess_protocol::things::{SessionStatus, TaskStatus};
use sess_protocol::time::Timestamp;
use sess_protocol::view::{Members, View};

use super::content::Content;
use crate::store::usage::{Call, Spent, Sums, Whose, day_of};
use crate::store::{
    Counts, Loaded, MessagePage, Messages, Place, SessionFilter, TaskFilter, UsageFilter,
};

/// The kinds of things that an actor needs to go on.
const LOADED_KINDS: [&str; 8] =
    ["session", "thread", "task", "approval", "tool_call", "goal", "plan", "note"];

/// A member that is text.
fn text<'a>(members: &'a Members, name: &str) -> &'a str {
    members.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// A member that is a moment, in Unix ms.
fn moment(members: &Members, name: &str) -> i64 {
    text(members, name).parse::<Timestamp>().map_or(i64::MIN, |it| it.0)
}

fn number(members: &Members, name: &str) -> u64 {
    members.get(name).and_then(Value::as_u64).unwrap_or(0)
}

fn path(session: &Members) -> Option<&str> {
    session.get("workspace")?.get("path")?.as_str()
}

/// Whether a task's status is one that nothing follows.
pub(super) fn is_final(task: &Members) -> bool {
    let status = task.get("status").map(TaskStatus::deserialize);
    status.and_then(Result::ok).is_some_and(TaskStatus::is_final)
}

fn is_status(members: &Members, any: &[&str]) -> bool {
    any.contains(&text(members, "status"))
}

fn keep_of_kind(kind: &str, members: &Members) -> bool {
    match kind {
        "task" => !is_final(members),
        "approval" => is_status(members, &["pending"]),
        "tool_call" => !is_status(members, &["done", "failed", "denied", "unknown"]),
        _ => true,
    }
}

/// The place in the list of sessions: the latest comes first.
fn session_order(session: &Members) -> Reverse<(i64, SessionId)> {
    let id = text(session, "id").parse().unwrap_or(SessionId::GLOBAL);
    Reverse((moment(session, "updated_at"), id))
}

/// The place in the list of tasks: running and waiting, queued in their order, final with the
/// greatest id first.
fn task_order(task: &Members) -> (u8, i64, Result<u128, Reverse<u128>>) {
    let id = text(task, "id").parse::<TaskId>().map_or(0, |it| it.0);
    let order = task.get("order").and_then(Value::as_i64).unwrap_or(i64::MAX);
    if is_final(task) {
        (2, 0, Err(Reverse(id)))
    } else if is_status(task, &["running", "waiting"]) {
        (0, 0, Ok(id))
    } else {
        (1, order, Ok(id))
    }
}

impl Content {
    /// All that an actor needs; `None` of an unknown session that is not the global log.
    pub(super) fn load(&self, session: SessionId) -> Option<Loaded> {
        if session != SessionId::GLOBAL && !self.logs.contains_key(&session) {
            return None;
        }
        let mut view = View::default();
        for event in self.log(session).iter().flat_map(|it| &it.events) {
            let mut event = event.clone();
            event.data.retain(|kind, _| LOADED_KINDS.contains(&kind.as_str()));
            view.apply(&event);
        }
        for kind in LOADED_KINDS {
            view.retain(kind, |it| keep_of_kind(kind, it));
        }
        Some(Loaded { view, hash: self.hash(session), partial: self.partial(session) })
    }

    /// The sessions, by their whole folds.
    fn views(&self) -> impl Iterator<Item = (SessionId, View)> {
        let ids = self.logs.keys().copied().filter(|it| *it != SessionId::GLOBAL);
        ids.map(|id| (id, self.view(id)))
    }

    fn view(&self, session: SessionId) -> View {
        let mut view = View::default();
        for event in self.log(session).iter().flat_map(|it| &it.events) {
            view.apply(event);
        }
        view
    }

    fn message_members(&self, session: SessionId) -> HashMap<MessageId, &Members> {
        let found = self.folded(session).filter_map(|event| {
            let message = event.data.get("message")?.as_object()?;
            Some((text(message, "id").parse().ok()?, message))
        });
        found.collect()
    }

    /// One message, as it lies in its event.
    pub(super) fn message(&self, session: SessionId, id: MessageId) -> Option<Box<RawValue>> {
        #[derive(Deserialize)]
        struct Lying {
            data: HashMap<String, Box<RawValue>>,
        }
        let id = id.to_string();
        let named = |it: &Event| it.data.get("message")?.get("id")?.as_str().map(|it| it == id);
        let has = |it: &Event| !it.is_foreign() && named(it) == Some(true);
        let pairs = self.log(session).iter().flat_map(|it| it.events.iter().zip(&it.json));
        let (_, json) = pairs.into_iter().find(|(event, _)| has(event))?;
        let mut lying: Lying = serde_json::from_str(json.get()).expect("an event is plain JSON");
        lying.data.remove("message")
    }

    /// A page of a path; `None` when a bound is not on it.
    pub(super) fn messages(&self, session: SessionId, page: MessagePage) -> Option<Messages> {
        let known = self.message_members(session);
        let mut ids = Vec::new();
        let mut next = Some(page.head);
        while let Some(id) = next {
            ids.push(id);
            next = text(known.get(&id)?, "parent").parse().ok();
        }
        ids.reverse();
        let place = |id: MessageId| ids.iter().position(|it| *it == id);
        let end = page.before.map_or(Some(ids.len()), place)?;
        let start = page.after.map_or(Some(0), |it| place(it).map(|it| it + 1))?;
        let bounded = ids.get(start..end).unwrap_or_default();
        let count = bounded.len().min(page.limit as usize);
        let picked = match page.after {
            Some(_) => &bounded[..count],
            None => &bounded[bounded.len() - count..],
        };
        let messages = picked.iter().filter_map(|it| self.message(session, *it)).collect();
        Some(Messages { messages, more: count < bounded.len() })
    }

    /// The sessions asked for, latest first.
    pub(super) fn sessions(&self, filter: &SessionFilter) -> Vec<Members> {
        let mut sessions: Vec<Members> = self
            .views()
            .filter(|(_, view)| fits(filter, view))
            .map(|(_, view)| view.session().clone())
            .filter(|it| filter.behind.is_none_or(|place| session_order(it) > Reverse(place)))
            .collect();
        sessions.sort_by_key(session_order);
        sessions.truncate(filter.limit as usize);
        sessions
    }

    /// The sessions whose digits begin like this.
    pub(super) fn sessions_by_prefix(&self, digits: &str, limit: u32) -> Vec<SessionId> {
        let begins = |it: &SessionId| format!("{:032x}", it.0).starts_with(digits);
        let ids = self.logs.keys().copied().filter(|it| *it != SessionId::GLOBAL);
        ids.filter(begins).take(limit as usize).collect()
    }

    /// The sessions with exactly this title, latest first.
    pub(super) fn sessions_by_title(&self, title: &str, limit: u32) -> Vec<SessionId> {
        let mut found: Vec<(SessionId, View)> =
            self.views().filter(|(_, view)| text(view.session(), "title") == title).collect();
        found.sort_by_key(|(_, view)| session_order(view.session()));
        found.into_iter().map(|(id, _)| id).take(limit as usize).collect()
    }

    /// The active session of a workspace, or over all.
    pub(super) fn active(&self, workspace: Option<&str>) -> Option<SessionId> {
        let clears = self.folded(SessionId::GLOBAL).filter(|it| {
            let about = it.data.get("workspace").and_then(Value::as_str);
            it.kind == SessionCleared::TYPE && about == workspace
        });
        let cleared = clears.last().map_or(i64::MIN, |it| it.at.0);
        self.views()
            .filter(|(_, view)| workspace.is_none() || path(view.session()) == workspace)
            .map(|(id, view)| (moment(view.session(), "active_at"), id))
            .filter(|(at, _)| *at > cleared)
            .max()
            .map(|(_, id)| id)
    }

    /// A task with its session.
    pub(super) fn task(&self, task: TaskId) -> Option<(SessionId, Members)> {
        let sessions = self.logs.keys().copied();
        sessions.into_iter().find_map(|it| Some((it, self.task_of(it, task)?)))
    }

    /// A task of a session: only its own events are folded, as partial text asks for it often.
    pub(super) fn task_of(&self, session: SessionId, task: TaskId) -> Option<Members> {
        let key = task.to_string();
        let mut view = View::default();
        for event in self.folded(session) {
            if let Some(members) = event.data.get("task").and_then(Value::as_object)
                && text(members, "id") == key
            {
                view.change("task", members);
            }
        }
        view.thing("task", &key).cloned()
    }

    /// The tasks asked for, in their order.
    pub(super) fn tasks(&self, filter: &TaskFilter) -> Vec<Members> {
        let of = |id: &SessionId| filter.session.is_none_or(|it| it == *id);
        let views = self.views().filter(|(id, _)| of(id));
        let mut tasks: Vec<Members> =
            views.flat_map(|(_, view)| view.things("task").cloned().collect::<Vec<_>>()).collect();
        tasks.sort_by_key(task_order);
        let start = filter.behind.map_or(0, |behind| {
            let key = behind.to_string();
            let place = tasks.iter().position(|it| text(it, "id") == key);
            place.map_or(tasks.len(), |it| it + 1)
        });
        let has = |it: &Members| it.get("status").and_then(|it| TaskStatus::deserialize(it).ok());
        tasks
            .into_iter()
            .skip(start)
            .filter(|it| filter.status.is_none() || has(it) == filter.status)
            .take(filter.limit as usize)
            .collect()
    }

    /// The greatest id of those that grow with time.
    pub(super) fn newest_id(&self, until: u128) -> Option<u128> {
        let sessions = self.logs.keys().copied();
        let ids = sessions.flat_map(|session| {
            let partial = self.partial(session).map(|it| it.message.0);
            let told = self.folded(session).flat_map(|event| {
                let id = |name: &str| event.data.get(name)?.get("id")?.as_str();
                let task = id("task").and_then(|it| it.parse().ok()).map(|it: TaskId| it.0);
                let message = id("message").and_then(|it| it.parse().ok());
                [task, message.map(|it: MessageId| it.0)]
            });
            told.flatten().chain(partial).collect::<Vec<_>>()
        });
        ids.filter(|it| *it <= until).max()
    }

    /// The message that a task's final event brought.
    pub(super) fn answer(&self, task: TaskId) -> Option<Box<RawValue>> {
        let (session, _) = self.task(task).filter(|(_, it)| is_final(it))?;
        let key = task.to_string();
        let of_task =
            |it: &&Event| it.data.get("task").and_then(|it| it.get("id")?.as_str()) == Some(&key);
        let last = self.folded(session).filter(of_task).last()?;
        let message = last.data.get("message")?.get("id")?.as_str()?.parse().ok()?;
        self.message(session, message)
    }

    /// What an id names.
    pub(super) fn place(&self, id: &str) -> Option<Place> {
        if let Ok(task) = id.parse::<TaskId>() {
            return self.task(task).map(|(session, _)| Place::Task(session));
        }
        let message = id.parse::<MessageId>().ok()?;
        let holds = |it: &&SessionId| self.message(**it, message).is_some();
        self.logs.keys().find(holds).map(|it| Place::Message(*it))
    }

    /// What there is in all.
    pub(super) fn usage(&self, filter: UsageFilter) -> SessionUsageResult {
        let mut sums = Sums::new(filter);
        for (session, log) in &self.logs {
            if filter.session.is_some_and(|it| it != *session) {
                continue;
            }
            let mut members = Members::new();
            for event in log.iter().flat_map(|it| &it.events) {
                let call = Call::of_event(event, &members);
                if let Some(Value::Object(more)) = event.data.get("session") {
                    sess_protocol::view::merge(&mut members, more);
                }
                let Some(call) = call.filter(|it| filter.since.is_none_or(|at| it.at >= at)) else {
                    continue;
                };
                let agent = members.get("agent").and_then(Value::as_str).unwrap_or_default();
                let (day, model) = (day_of(call.at), call.model.clone().unwrap_or_default());
                let whose = Whose { session: *session, day, model, agent: agent.to_owned() };
                sums.add(&whose, &Spent::of(&call));
                sums.add_fine(*session, &call);
            }
        }
        sums.result()
    }

    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts { bytes: self.bytes(), ..Counts::default() };
        for (_, view) in self.views() {
            counts.sessions += 1;
            for task in view.things("task") {
                match text(task, "status") {
                    "running" => counts.running += 1,
                    "queued" => counts.queued += 1,
                    "waiting" => counts.waiting += 1,
                    _ => {}
                }
            }
        }
        counts
    }
}

/// Whether a session is one of those asked for, its place in the order left aside.
fn fits(filter: &SessionFilter, view: &View) -> bool {
    let session = view.session();
    let status = session.get("status").and_then(|it| SessionStatus::deserialize(it).ok());
    let tagged = |tag: &String| {
        let tags = session.get("tags").and_then(Value::as_array);
        tags.is_some_and(|it| it.iter().any(|it| it == tag))
    };
    let says = |wanted: &String| {
        let wanted = wanted.to_lowercase();
        ["title", "description"].iter().any(|it| text(session, it).to_lowercase().contains(&wanted))
    };
    let empty = number(session, "messages") == 0 && number(session, "tasks") == 0;
    let unsettled = session.contains_key("lock")
        || session.get("ephemeral") == Some(&Value::Bool(true))
        || view.things("task").any(|it| !is_final(it));
    let scope = session.get("scope").and_then(|it| Deserialize::deserialize(it).ok());
    (filter.status.is_none() || status == filter.status)
        && filter.workspace.as_deref().is_none_or(|it| path(session) == Some(it))
        && (filter.scope.is_none() || scope == filter.scope)
        && filter.agent.as_deref().is_none_or(|it| text(session, "agent") == it)
        && filter.tag.as_ref().is_none_or(tagged)
        && filter.text.as_ref().is_none_or(says)
        && filter.hide_empty_before.is_none_or(|it| !(empty && moment(session, "created_at") < it))
        && (!filter.unsettled || unsettled)
}
