//! What a session is, and how a change of it is put together. Pure: no clock, no disk, no waiting.

use serde::de::DeserializeOwned;
use serde_json::Value;
use sess_protocol::error::{Error, Kind};
use sess_protocol::event::{Event, Fact};
use sess_protocol::id::{MessageId, SessionId, TaskId, ThreadId};
use sess_protocol::things::{By, Lock, Task, TaskStatus, Usage};
use sess_protocol::time::Timestamp;
use sess_protocol::view::{Members, View};

/// A session as its last saved commit left it. Holds no messages and nothing that is final.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// The session.
    pub id: SessionId,
    view: View,
}

/// A change that is not saved yet: the events, and the state that they lead to.
#[derive(Debug)]
pub struct Change {
    /// The state with all events so far taken in.
    pub state: State,
    /// The events.
    pub events: Vec<Event>,
    /// When the change happens.
    pub now: Timestamp,
    /// What `active_at` becomes when it makes the session the active one: later than any before, which the clock,
    /// that may go back, cannot promise.
    pub active: Timestamp,
}

impl State {
    /// The state that a view shows.
    #[must_use]
    pub fn new(id: SessionId, view: View) -> Self {
        Self { id, view }
    }

    /// Begins a change.
    #[must_use]
    pub fn change(&self, now: Timestamp) -> Change {
        self.change_at(now, now)
    }

    /// Begins a change that may make the session the active one.
    #[must_use]
    pub fn change_at(&self, now: Timestamp, active: Timestamp) -> Change {
        Change { state: self.clone(), events: Vec::new(), now, active }
    }

    /// The view.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The number of the last event.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.view.seq()
    }

    /// A member of the session as text.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        self.view.session().get(name).and_then(Value::as_str).unwrap_or("")
    }

    /// A counter of the session.
    #[must_use]
    pub fn count(&self, name: &str) -> u64 {
        self.view.session().get(name).and_then(Value::as_u64).unwrap_or(0)
    }

    /// What all model calls of the session used.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.view.session().get("usage").and_then(read).unwrap_or_default()
    }

    /// The lock on the session.
    #[must_use]
    pub fn lock(&self) -> Option<Lock> {
        self.view.session().get("lock").and_then(read)
    }

    /// The task that runs or waits for an answer.
    #[must_use]
    pub fn running(&self) -> Option<TaskId> {
        self.text("running").parse().ok()
    }

    /// Whether the task's state is that of one that is at work.
    #[must_use]
    pub fn is_at_work(&self) -> bool {
        self.running().is_some()
    }

    /// Tasks that wait for their turn, in their order.
    #[must_use]
    pub fn queue(&self) -> Vec<TaskId> {
        let queued = |it: &&Members| it.get("status").and_then(Value::as_str) == Some("queued");
        let order = |it: &Members| it.get("order").and_then(Value::as_i64).unwrap_or(i64::MAX);
        let mut tasks: Vec<(i64, TaskId)> = self
            .view
            .things("task")
            .filter(queued)
            .filter_map(|it| Some((order(it), read(it.get("id")?)?)))
            .collect();
        tasks.sort_unstable();
        if crate::sabotage::is("queue_backwards") {
            tasks.reverse();
        }
        tasks.into_iter().map(|(_, id)| id).collect()
    }

    /// Whether a request would have to wait.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.is_at_work() || self.count("queued") > 0
    }

    /// A task that is not final.
    #[must_use]
    pub fn task(&self, id: TaskId) -> Option<Task> {
        let members = self.view.thing("task", &id.to_string())?;
        read(&Value::Object(members.clone()))
    }

    /// Where a task stands in the line: 0 when it is at work.
    #[must_use]
    pub fn position(&self, id: TaskId) -> Option<u64> {
        if self.running() == Some(id) {
            return Some(0);
        }
        let place = self.queue().iter().position(|it| *it == id)?;
        Some(place as u64 + 1)
    }

    /// The current thread.
    #[must_use]
    pub fn thread(&self) -> ThreadId {
        ThreadId(self.text("thread").to_owned())
    }

    /// The newest message of a thread, or `None` for a thread that is not there.
    #[must_use]
    pub fn head(&self, thread: &ThreadId) -> Option<Option<MessageId>> {
        let members = self.view.thing("thread", &thread.0)?;
        Some(members.get("head").and_then(read))
    }

    /// How many messages lie on a thread's path.
    #[must_use]
    pub fn path_length(&self, thread: &ThreadId) -> u64 {
        let members = self.view.thing("thread", &thread.0);
        members.and_then(|it| it.get("messages")).and_then(Value::as_u64).unwrap_or(0)
    }

    /// Whether anything speaks against the session leaving memory or being cleaned away.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        !self.is_busy() && self.lock().is_none()
    }

    /// The session as answered, with what is computed.
    #[must_use]
    pub fn session(&self, followers: usize) -> Members {
        let mut session = self.view.session().clone();
        session.insert("followers".to_owned(), followers.into());
        session
    }

    /// The view as answered, without its messages.
    #[must_use]
    pub fn snapshot(&self, followers: usize) -> Members {
        let mut snapshot = self.view.snapshot_without_messages();
        snapshot.insert("session".to_owned(), Value::Object(self.session(followers)));
        if let Some(Value::Array(tasks)) = snapshot.get_mut("tasks") {
            let first = u64::from(!self.is_at_work());
            for (place, task) in tasks.iter_mut().enumerate() {
                task["position"] = (place as u64 + first).into();
            }
        }
        snapshot
    }

    /// Refuses when what was expected does not stand.
    pub fn expect(&self, expected: Expected<'_>) -> Result<(), Error> {
        if crate::sabotage::is("no_expect_check") {
            return Ok(());
        }
        if let Some(seq) = expected.seq.filter(|it| *it != self.seq()) {
            let message = format!("the session is at {}, not at {seq}", self.seq());
            return Err(Error::new(Kind::Conflict, message).with("seq", self.seq()));
        }
        let Some(head) = expected.head else { return Ok(()) };
        let stands = self.head(expected.thread).flatten().map(|it| it.to_string());
        if stands.as_deref() == head {
            return Ok(());
        }
        let message = format!(
            "the newest message of `{}` is `{}`: somebody has spoken since",
            expected.thread,
            stands.as_deref().unwrap_or("none")
        );
        Err(Error::new(Kind::Conflict, message).with("head", stands).with("seq", self.seq()))
    }

    /// Forgets what an actor need not hold: messages, and whatever is final.
    fn forget(&mut self) {
        let is_final = |it: &Members| {
            let status = it.get("status").and_then(read::<TaskStatus>);
            status.is_some_and(TaskStatus::is_final)
        };
        self.view.retain("message", |_| false);
        self.view.retain("call", |_| false);
        self.view.retain("task", |it| !is_final(it));
        let open_call = ["proposed", "waiting", "running"];
        self.view.retain("tool_call", |it| {
            it.get("status").and_then(Value::as_str).is_some_and(|it| open_call.contains(&it))
        });
        self.view
            .retain("approval", |it| it.get("status").and_then(Value::as_str) == Some("pending"));
    }
}

/// What a request takes for granted.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// The number of the last event.
    pub seq: Option<u64>,
    /// The newest message of the thread; an inner `None` says that there is none.
    pub head: Option<Option<&'a str>>,
    /// The thread that is meant.
    pub thread: &'a ThreadId,
}

impl Change {
    /// The number that the next event will have.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.state.seq() + 1
    }

    /// Adds what happened, and takes it in.
    pub fn push(&mut self, fact: impl Into<Fact>, by: Option<&By>, task: Option<TaskId>) {
        let fact = fact.into();
        let mut data = fact.data();
        // The one place where events are made: what is a secret gets no further.
        crate::redact::members(&mut data);
        let event = Event {
            seq: self.next_seq(),
            at: self.now,
            by: by.cloned(),
            task,
            kind: fact.kind().to_owned(),
            stream: None,
            data,
        };
        self.push_event(event);
    }

    /// Adds an event that is put together already.
    pub(super) fn push_event(&mut self, event: Event) {
        self.state.view.apply(&event);
        self.state.forget();
        self.events.push(event);
    }
}

/// Reads a value as a type; `None` when it is not one.
pub fn read<T: DeserializeOwned>(value: &Value) -> Option<T> {
    T::deserialize(value).ok()
}
