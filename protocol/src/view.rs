//! The fold: turns events, known or not, into the current view of a session. Pure.
//!
//! The same few rules serve the daemon, every front end and every language: members of an event's
//! data that are objects are *things*; each member of a thing that is given replaces the old one
//! whole; `null` removes it; `removed` removes the thing.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::event::Event;
use crate::time::Timestamp;

/// The members of a thing.
pub type Members = Map<String, Value>;

/// A session as its events leave it. A copy shares all that is not changed in it since.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct View {
    session: Members,
    kinds: BTreeMap<Arc<str>, Arc<Things>>,
}

/// The things of one kind, in the order in which they first appeared.
#[derive(Debug, Clone, Default, PartialEq)]
struct Things {
    slots: Vec<Option<Arc<Members>>>,
    places: HashMap<Arc<str>, usize>,
}

impl View {
    /// Takes in an event.
    pub fn apply(&mut self, event: &Event) {
        if !event.is_foreign() {
            for (kind, value) in &event.data {
                if let Value::Object(members) = value {
                    self.change(kind, members);
                }
            }
        }
        self.stamp(event.seq, event.at);
    }

    /// Takes in one thing with the members that are new of it.
    pub fn change(&mut self, kind: &str, members: &Members) {
        if kind == "session" {
            merge(&mut self.session, members);
            return;
        }
        let Some(key) = key_of(members) else { return };
        if !self.kinds.contains_key(kind) {
            self.kinds.insert(kind.into(), Arc::default());
        }
        let things = self.kinds.get_mut(kind).expect("the kind was just put in");
        let things = Arc::make_mut(things);
        if members.get("removed") == Some(&Value::Bool(true)) {
            things.remove(&key);
        } else {
            merge(things.slot(&key), members);
        }
    }

    fn stamp(&mut self, seq: u64, at: Timestamp) {
        self.session.insert("seq".to_owned(), seq.into());
        self.session.insert("updated_at".to_owned(), at.to_string().into());
    }

    /// The session's own members.
    #[must_use]
    pub fn session(&self) -> &Members {
        &self.session
    }

    /// The number of the last event taken in.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.session.get("seq").and_then(Value::as_u64).unwrap_or(0)
    }

    /// One thing.
    #[must_use]
    pub fn thing(&self, kind: &str, key: &str) -> Option<&Members> {
        let things = self.kinds.get(kind)?;
        things.slots.get(*things.places.get(key)?)?.as_deref()
    }

    /// All things of a kind, in the order in which they first appeared.
    pub fn things(&self, kind: &str) -> impl DoubleEndedIterator<Item = &Members> {
        self.kinds.get(kind).into_iter().flat_map(|it| it.slots.iter().flatten()).map(|it| &**it)
    }

    /// Keeps only those things of a kind for which `keep` says so.
    pub fn retain(&mut self, kind: &str, mut keep: impl FnMut(&Members) -> bool) {
        let Some(things) = self.kinds.get_mut(kind) else { return };
        if things.slots.iter().all(|it| it.as_deref().is_some_and(&mut keep)) {
            return;
        }
        let things = Arc::make_mut(things);
        let kept = things.slots.drain(..).flatten().filter(|it| keep(it)).collect::<Vec<_>>();
        things.places.clear();
        for members in kept {
            let key = key_of(&members).expect("a thing that is kept has a key");
            things.places.insert(key.into(), things.slots.len());
            things.slots.push(Some(members));
        }
        if things.slots.is_empty() {
            self.kinds.remove(kind);
        }
    }

    /// The newest `count` messages on the path of the current thread, oldest first, and whether the
    /// path goes on before them. The path ends where a parent is not held.
    #[must_use]
    pub fn path(&self, count: usize) -> (Vec<&Members>, bool) {
        let head = self.session.get("thread").and_then(Value::as_str);
        let thread = head.and_then(|id| self.thing("thread", id));
        let mut next = thread.and_then(|it| it.get("head")).and_then(Value::as_str);
        let mut path = Vec::new();
        while let Some(message) = next.and_then(|id| self.thing("message", id)) {
            if path.len() == count {
                break;
            }
            path.push(message);
            next = message.get("parent").and_then(Value::as_str);
        }
        path.reverse();
        (path, next.is_some())
    }

    /// The view as `session/resume` and `session/follow` answer it, with the newest `count`
    /// messages of the current thread.
    #[must_use]
    pub fn snapshot(&self, count: usize) -> Members {
        let mut snapshot = self.snapshot_without_messages();
        let (path, goes_on) = self.path(count);
        if let Some(oldest) = path.first().and_then(|it| it.get("id")).filter(|_| goes_on) {
            snapshot.insert("before".to_owned(), oldest.clone());
        }
        let path = path.into_iter().cloned().map(Value::Object).collect();
        snapshot.insert("messages".to_owned(), Value::Array(path));
        snapshot
    }

    /// The same view without `messages` and `before`, for one who keeps the messages elsewhere.
    #[must_use]
    pub fn snapshot_without_messages(&self) -> Members {
        let all = |kind: &str| self.pick(kind, |_| true);
        let mut tasks: Vec<&Members> =
            self.things("task").filter(|it| !has_status(it, FINAL_TASK)).collect();
        tasks.sort_by_key(|it| (!has_status(it, &["running", "waiting"]), order_of(it)));
        let tasks = tasks.into_iter().cloned().map(Value::Object).collect();
        let members = [
            ("session", Value::Object(self.session.clone())),
            ("threads", all("thread")),
            ("goals", all("goal")),
            ("plans", all("plan")),
            ("notes", all("note")),
            ("tasks", Value::Array(tasks)),
            ("approvals", self.pick("approval", |it| has_status(it, &["pending"]))),
            ("tool_calls", self.pick("tool_call", |it| !has_status(it, FINAL_CALL))),
        ];
        members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    fn pick(&self, kind: &str, keep: impl Fn(&Members) -> bool) -> Value {
        let picked = self.things(kind).filter(|it| keep(it)).cloned().map(Value::Object);
        Value::Array(picked.collect())
    }
}

const FINAL_TASK: &[&str] = &["completed", "failed", "cancelled", "interrupted"];
const FINAL_CALL: &[&str] = &["done", "failed", "denied", "unknown"];

fn has_status(members: &Members, any: &[&str]) -> bool {
    members.get("status").and_then(Value::as_str).is_some_and(|it| any.contains(&it))
}

fn order_of(members: &Members) -> i64 {
    members.get("order").and_then(Value::as_i64).unwrap_or(i64::MAX)
}

/// A thing's key: its `id`, else its `n`.
#[must_use]
pub fn key_of(members: &Members) -> Option<String> {
    match members.get("id").or_else(|| members.get("n"))? {
        Value::String(id) => Some(id.clone()),
        Value::Number(n) => Some(n.to_string()),
        _ => None,
    }
}

/// Puts the members that are new into a thing: one level, no deep merge.
pub fn merge(thing: &mut Members, new: &Members) {
    for (name, value) in new {
        if value.is_null() {
            thing.remove(name);
        } else {
            thing.insert(name.clone(), value.clone());
        }
    }
}

impl Things {
    fn slot(&mut self, key: &str) -> &mut Members {
        let place = self.places.get(key).copied().unwrap_or_else(|| {
            self.slots.push(Some(Arc::default()));
            self.places.insert(key.into(), self.slots.len() - 1);
            self.slots.len() - 1
        });
        let thing = self.slots[place].as_mut();
        Arc::make_mut(thing.expect("a place is that of a thing that is there"))
    }

    fn remove(&mut self, key: &str) {
        if let Some(place) = self.places.remove(key) {
            self.slots[place] = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event(seq: u64, kind: &str, data: Value) -> Event {
        let Value::Object(data) = data else { panic!("data is an object") };
        Event {
            seq,
            at: Timestamp(0),
            by: None,
            task: None,
            kind: kind.to_owned(),
            stream: None,
            data,
        }
    }

    #[test]
    fn members_replace_whole_null_removes_and_details_are_left_alone() {
        let mut view = View::default();
        let first = json!({"session": {"metadata": {"a": 1, "b": 2}, "lock": {"id": "x"}}});
        view.apply(&event(1, "session.created", first));
        let second = json!({"session": {"metadata": {"b": 3}, "lock": null}, "why": "so"});
        view.apply(&event(2, "unheard.of", second));
        assert_eq!(view.session()["metadata"], json!({"b": 3}));
        assert!(!view.session().contains_key("lock"));
        assert_eq!(view.seq(), 2);
        assert!(view.thing("why", "so").is_none());
    }

    #[test]
    fn things_are_kept_by_id_or_n_in_the_order_they_came() {
        let mut view = View::default();
        for (n, text) in [(2, "two"), (1, "one")] {
            view.apply(&event(n, "goal.changed", json!({"goal": {"n": n, "text": text}})));
        }
        view.apply(&event(3, "goal.changed", json!({"goal": {"n": 2, "status": "done"}})));
        let texts: Vec<_> = view.things("goal").map(|it| it["text"].clone()).collect();
        assert_eq!(texts, ["two", "one"]);
        view.apply(&event(4, "goal.changed", json!({"goal": {"n": 2, "removed": true}})));
        assert_eq!(view.things("goal").count(), 1);
    }

    #[test]
    fn a_front_ends_own_event_changes_nothing_but_the_number() {
        let mut view = View::default();
        view.apply(&event(9, "editor:cursor", json!({"session": {"title": "mine"}})));
        assert_eq!(view.session().get("title"), None);
        assert_eq!(view.seq(), 9);
    }

    #[test]
    fn a_snapshot_has_the_newest_messages_of_the_path_and_the_tasks_in_order() {
        let mut view = View::default();
        view.change("session", json!({"thread": "main"}).as_object().expect("object"));
        for (id, parent) in [("a", None), ("b", Some("a")), ("x", Some("a")), ("c", Some("b"))] {
            let message = json!({"id": id, "parent": parent});
            view.change("message", message.as_object().expect("object"));
        }
        view.change("thread", json!({"id": "main", "head": "c"}).as_object().expect("object"));
        for (id, status, order) in [("t1", "queued", 5), ("t2", "queued", 4), ("t3", "running", 9)]
        {
            let task = json!({"id": id, "status": status, "order": order});
            view.change("task", task.as_object().expect("object"));
        }
        view.change("task", json!({"id": "t0", "status": "failed"}).as_object().expect("object"));
        let snapshot = Value::Object(view.snapshot(2));
        let ids = |kind: &str| -> Vec<String> {
            let list = snapshot[kind].as_array().expect("a list");
            list.iter().map(|it| it["id"].as_str().expect("an id").to_owned()).collect()
        };
        assert_eq!(ids("messages"), ["b", "c"]);
        assert_eq!(snapshot["before"], "b");
        assert_eq!(ids("tasks"), ["t3", "t2", "t1"]);
        view.retain("task", |it| it["status"] == "running");
        assert_eq!(view.things("task").count(), 1);
        assert!(view.thing("task", "t3").is_some());
    }
}
