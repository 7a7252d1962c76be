//! What of all that was told is there, asked of one daemon?

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde_json::{Value, json};

use super::{Asked, Judge, Reading, UNKNOWN, Verdict};
use crate::faults::ToldSoFar;
use crate::harness::{Wire, said};

/// Requests that are asked again together.
const ASKED_MAX: usize = 100;

/// One daemon on trial.
pub(super) struct Trial<'a> {
    pub(super) judge: &'a Judge,
    pub(super) told: &'a ToldSoFar,
    /// The requests that were answered in any way.
    pub(super) answered: HashSet<(u32, u64)>,
    /// Those of them that were told that nothing is changed.
    pub(super) refused: HashSet<(u32, u64)>,
    pub(super) sessions: BTreeMap<String, Reading>,
    pub(super) verdict: Verdict,
}

impl<'a> Trial<'a> {
    /// Errors are answers too: one that nobody may get is a fault, and one that says that nobody knows is
    /// as if it had not come.
    pub(super) fn refusals(&mut self) {
        for answer in self.told.answers() {
            let Some(error) = answer.value.get("error") else { continue };
            let kind = error["data"]["kind"].as_str().unwrap_or_default();
            let key = (answer.connection, answer.id.as_u64().unwrap_or_default());
            if kind == UNKNOWN && self.judge.refusals.contains(&kind) {
                continue;
            }
            self.refused.insert(key);
            if !self.judge.refusals.contains(&kind) {
                let asked = self.judge.asked.get(&key).map(|it| (it.method, &it.params));
                self.verdict.broken.push(format!("{asked:?} was refused: {error}"));
            }
        }
    }

    fn lost(&mut self, text: String) {
        self.verdict.lost.push(text);
    }

    /// Reads every session that is there.
    pub(super) async fn read(&mut self, wire: &mut Wire) {
        let mut ids = BTreeSet::from(["global".to_owned()]);
        let mut params = json!({"limit": 500, "empty": true});
        loop {
            let page = wire.ok("session/list", params.clone()).await;
            let sessions = page["sessions"].as_array().unwrap();
            ids.extend(sessions.iter().filter_map(|it| it["id"].as_str().map(str::to_owned)));
            if page["next"].is_null() {
                break;
            }
            params["cursor"] = page["next"].clone();
        }
        for id in ids {
            match Reading::of(wire, &id).await {
                Ok(reading) => {
                    let faults = reading.faults();
                    self.verdict.half.extend(faults.into_iter().map(|it| format!("{id}: {it}")));
                    self.sessions.insert(id, reading);
                }
                Err(error) => self.verdict.broken.push(format!("{id}: {error}")),
            }
        }
    }

    /// Whether a request may have been sent before the cut: all that its client waited for was told.
    fn may_be_sent(&self, asked: &Asked) -> bool {
        (1..=asked.behind).all(|id| self.answered.contains(&(asked.connection, id)))
    }

    /// Whether it may have changed something.
    fn may_be_done(&self, asked: &Asked) -> bool {
        self.may_be_sent(asked) && !self.refused.contains(&(asked.connection, asked.id))
    }

    /// Whether it was answered, and not with an error.
    fn is_done(&self, asked: &Asked) -> bool {
        let answer = self.told.answer(asked.connection, &asked.id.into());
        answer.is_some_and(|it| it.result().is_some())
    }

    fn may_be_deleted(&self, session: &str) -> bool {
        let mut deletes = self.judge.asked.values().filter(|it| it.method == "session/delete");
        deletes.any(|it| it.params["session"] == session && self.may_be_done(it))
    }

    pub(super) fn events(&mut self) {
        for event in self.told.events() {
            let Some(reading) = self.sessions.get(&event.session) else {
                if !self.may_be_deleted(&event.session) {
                    self.verdict.unseen.push(format!("all of {}", event.session));
                }
                continue;
            };
            let at = usize::try_from(event.seq - 1).unwrap();
            if reading.events.get(at) != Some(&event.params) {
                let there = reading.events.get(at).unwrap_or(&Value::Null);
                self.verdict.unseen.push(format!("{} is {there}", event.params));
            }
        }
        for gone in self.told.gone() {
            if self.sessions.contains_key(&gone.session) {
                self.verdict.unseen.push(format!("{} is there, deleted", gone.session));
            }
        }
    }

    /// Events of one commit are there all or none.
    pub(super) fn commits(&mut self) {
        let there: Vec<_> = self.sessions.values().map(Reading::by_cursor).collect();
        let is_there = |cursor: &&String| there.iter().any(|it| it.contains_key(cursor.as_str()));
        for commit in &self.judge.commits {
            let count = commit.iter().filter(is_there).count();
            if count != 0 && count != commit.len() {
                self.verdict.half.push(format!("{count} of {commit:?}"));
            }
        }
    }

    pub(super) async fn answers(&mut self, wire: &mut Wire) {
        let judge = self.judge;
        let mut again = Vec::new();
        for answer in self.told.answers() {
            let key = (answer.connection, answer.id.as_u64().unwrap());
            let asked = &judge.asked[&key];
            let Some(result) = answer.result() else { continue };
            let ask = match asked.method {
                "session/delete" => {
                    let session = asked.params["session"].as_str().unwrap();
                    if self.sessions.contains_key(session) {
                        self.lost(format!("the end of {session}"));
                    }
                    None
                }
                "chat/send" => Some(("task/get", json!({"task": result["task"]}))),
                "task/wait" => Some(("task/wait", asked.params.clone())),
                "task/cancel" => Some(("task/get", json!({"task": result["task"]["id"]}))),
                "blob/get" => Some(("blob/get", asked.params.clone())),
                _ => None,
            };
            if let Some(seen) = &asked.seen {
                self.kept(seen);
            }
            self.numbers(&asked.params, result);
            self.messages(result);
            if let Some((method, params)) = ask {
                again.push((wire.start(method, params).await, asked, result));
            }
            if again.len() == ASKED_MAX {
                self.asked_again(wire, &mut again).await;
            }
        }
        self.asked_again(wire, &mut again).await;
    }

    async fn asked_again(&mut self, wire: &mut Wire, again: &mut Vec<(u64, &Asked, &Value)>) {
        for (id, asked, result) in again.drain(..) {
            let there = wire.answer(id).await;
            self.same(asked, result, there);
        }
    }

    /// What is asked again answers the same, as far as it cannot have changed.
    fn same(&mut self, asked: &Asked, before: &Value, there: Result<Value, Value>) {
        let session = match asked.method {
            "chat/send" => before["session"].as_str(),
            "task/wait" | "task/cancel" => before["task"]["session"].as_str(),
            _ => None,
        };
        if session.is_some_and(|it| self.may_be_deleted(it) && !self.sessions.contains_key(it)) {
            return;
        }
        let is_same = match (&there, asked.method) {
            (Ok(there), "chat/send") => {
                there["task"]["request"]["message"] == before["message"]
                    && there["task"]["session"] == before["session"]
            }
            (Ok(there), "task/cancel") => there["task"]["status"] == before["task"]["status"],
            (Ok(there), _) => there == before,
            (Err(_), _) => false,
        };
        if !is_same {
            let (method, params) = (asked.method, &asked.params);
            self.lost(format!("`{method}` {params}: {before} is {there:?}"));
        }
    }

    /// Text that was told before `session/persist` was asked for is kept.
    fn kept(&mut self, (message, bytes): &(String, usize)) {
        let there =
            self.sessions.values().find_map(|it| it.messages().get(message.as_str()).copied());
        let there = there.map_or(0, |it| said(it).len());
        if there < *bytes {
            self.lost(format!("{there} bytes of {message} are there, {bytes} were persisted"));
        }
    }

    /// Every session is there with at least the number that was answered.
    fn numbers(&mut self, params: &Value, result: &Value) {
        let mut seqs: Vec<(&str, u64)> = Vec::new();
        let session = result["session"].as_str().or(params["session"].as_str());
        if let (Some(session), Some(seq)) = (session, result["seq"].as_u64()) {
            seqs.push((session, seq));
        }
        let listed = result["sessions"].as_array().into_iter().flatten();
        for whole in listed.chain([result, &result["session"]]) {
            if let (Some(id), Some(seq)) = (whole["id"].as_str(), whole["seq"].as_u64())
                && id.starts_with("sess_")
            {
                seqs.push((id, seq));
            }
        }
        for (session, seq) in seqs {
            match self.sessions.get(session) {
                Some(reading) if reading.seq >= seq => {}
                Some(reading) => {
                    self.lost(format!("{session} is at {}, {seq} was answered", reading.seq));
                }
                None if self.may_be_deleted(session) => {}
                None => self.lost(format!("{session}, of which {seq} was answered")),
            }
        }
    }

    /// Every message that was answered is there as it was.
    fn messages(&mut self, result: &Value) {
        let list = result["messages"].as_array().into_iter().flatten();
        for message in list.chain(Some(&result["answer"]).filter(|it| it.is_object())) {
            let id = message["id"].as_str().unwrap();
            let mut all = self.sessions.values();
            let there = all.find_map(|it| it.messages().get(id).copied());
            let is_gone = there.is_none()
                && result["task"]["session"].as_str().is_some_and(|it| self.may_be_deleted(it));
            if there != Some(message) && !is_gone {
                self.lost(format!("the message {message} is {there:?}"));
            }
        }
    }

    /// Members are as the last answered change said, or as one said that may have been under way.
    pub(super) fn members(&mut self) {
        let mut may_be = LastWords::default();
        for asked in self.changes("session/update") {
            let members = asked.params.as_object().unwrap().iter();
            for (name, value) in
                members.filter(|(it, _)| !["session", "idempotency_key"].contains(&it.as_str()))
            {
                let session = asked.params["session"].as_str().unwrap();
                may_be.say((session, name), value, self.is_done(asked));
            }
        }
        for ((session, name), values) in may_be.0 {
            let there = self.sessions.get(session).map(|it| &it.view["session"][name]);
            if there.is_none() && self.may_be_deleted(session) {
                continue;
            }
            if !there.is_some_and(|it| values.is_empty() || values.contains(&it)) {
                self.verdict
                    .lost
                    .push(format!("`{name}` of {session} is {there:?}, not {values:?}"));
            }
        }
    }

    /// The same for what was set in documents.
    pub(super) async fn documents(&mut self, wire: &mut Wire) {
        let mut may_be = LastWords::default();
        for asked in self.changes("state/set") {
            let [document, key] = ["document", "key"].map(|it| asked.params[it].as_str().unwrap());
            may_be.say((document, key), &asked.params["value"], self.is_done(asked));
        }
        for ((document, key), values) in may_be.0 {
            let there = wire.call("state/get", json!({ "document": document })).await;
            let value = there.as_ref().map(|it| it["value"].get(key).unwrap_or(&Value::Null));
            if !values.is_empty() && !value.is_ok_and(|it| values.contains(&it)) {
                self.lost(format!("`{key}` of {document} is {there:?}, not {values:?}"));
            }
        }
    }

    /// What may have been changed by a method, in the order of each client.
    fn changes(&self, method: &str) -> Vec<&'a Asked> {
        let mut changes: Vec<&'a Asked> = self.judge.asked.values().collect();
        changes.retain(|it| it.method == method && self.may_be_done(it));
        changes.sort_by_key(|it| (it.connection, it.id));
        changes
    }

    /// A request with a key, sent again, is answered as before.
    pub(super) async fn keys(&mut self, wire: &mut Wire) {
        let judge = self.judge;
        for answer in self.told.answers() {
            let asked = &judge.asked[&(answer.connection, answer.id.as_u64().unwrap())];
            let Some(before) = answer.result() else { continue };
            if asked.params["idempotency_key"].is_null() {
                continue;
            }
            let session = asked.params["session"].as_str();
            let is_gone = session.is_some_and(|it| !self.sessions.contains_key(it));
            // With a session goes what was kept of its keys.
            if is_gone
                && session.is_some_and(|it| self.may_be_deleted(it))
                && asked.method != "session/delete"
            {
                continue;
            }
            let there = wire.call(asked.method, asked.params.clone()).await;
            if there.as_ref().ok() != Some(before) {
                self.lost(format!("the key of `{}` {}: {there:?}", asked.method, asked.params));
            }
        }
    }
}

/// What each thing may be, by its place and name: as was said last and answered, or said behind that.
#[derive(Default)]
struct LastWords<'a>(BTreeMap<(&'a str, &'a str), Vec<&'a Value>>);

impl<'a> LastWords<'a> {
    fn say(&mut self, name: (&'a str, &'a str), value: &'a Value, is_done: bool) {
        let values = self.0.entry(name).or_default();
        if is_done {
            values.clear();
        } else if values.is_empty() {
            // Nothing was answered of it, so that it may be as it was made.
            return;
        }
        values.push(value);
    }
}
