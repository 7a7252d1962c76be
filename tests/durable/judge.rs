//! Is everything that clients were told before a power cut still so after the next start?

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::{Value, json};
use sess_tests::faults::{Answer, CrashState, Told, ToldSoFar};
use sess_tests::harness::{Daemon, Plan, Wire, said};

use crate::reading::Reading;
use crate::work::Asked;

/// What is wrong with a crash state; each fault in words.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// Acknowledged and not there.
    pub(crate) lost: Vec<String>,
    /// Told as an event and not there.
    pub(crate) unseen: Vec<String>,
    /// There in part.
    pub(crate) half: Vec<String>,
    /// The daemon does not start, or breaks.
    pub(crate) broken: Vec<String>,
}

impl Verdict {
    /// Whether anything is wrong.
    pub(crate) fn is_bad(&self) -> bool {
        let all = [&self.lost, &self.unseen, &self.half, &self.broken];
        all.iter().any(|it| !it.is_empty())
    }
}

/// What the whole record says, prepared for judging any state of it.
pub(crate) struct Judge {
    asked: HashMap<(u32, u64), Asked>,
    /// The cursors of each commit's events, as told until the end.
    commits: Vec<BTreeSet<String>>,
}

/// One state on trial.
struct Trial<'a> {
    judge: &'a Judge,
    told: &'a ToldSoFar,
    answered: HashMap<(u32, u64), &'a Answer>,
    sessions: BTreeMap<String, Reading>,
    verdict: Verdict,
}

impl Judge {
    /// Of a record.
    pub(crate) fn new(asked: Vec<Asked>, told: &Told) -> Judge {
        let mut commits: BTreeMap<(&str, &str), BTreeSet<String>> = BTreeMap::new();
        for event in told.all_events() {
            let mark = event.cursor.rsplit(':').next().unwrap_or_default();
            commits.entry((&event.session, mark)).or_default().insert(event.cursor.clone());
        }
        let commits = commits.into_values().filter(|it| it.len() > 1).collect();
        let asked = asked.into_iter().map(|it| ((it.connection, it.id), it)).collect();
        Judge { asked, commits }
    }

    /// How many commits of several events can be told apart into whole and half.
    pub(crate) fn commits(&self) -> usize {
        self.commits.len()
    }

    /// Starts the daemon of `plan` on a state and asks for all that was told.
    pub(crate) async fn judge(&self, state: &CrashState, plan: Plan) -> Verdict {
        let plan = plan
            .env("SESS_DATA_DIR", &state.folder)
            .document("providers", &json!({"stub": {"kind": "echo"}}))
            .document("settings", &json!({"model": "stub/stub"}));
        let daemon = match plan.try_start().await {
            Ok(daemon) => daemon,
            Err(status) => {
                let broken = vec![format!("it ended with {status}: {}", plan.words())];
                return Verdict { broken, ..Verdict::default() };
            }
        };
        let mut verdict = self.ask(&state.told, &daemon).await;
        let plan = daemon.kill().await;
        if plan.words().contains("panicked") {
            verdict.broken.push(plan.words());
        }
        let code = plan.clone().arg("--check").run().await;
        if code != 0 {
            verdict.half.push(format!("`--check` ended with {code}: {}", plan.words()));
        }
        verdict
    }

    async fn ask(&self, told: &ToldSoFar, daemon: &Daemon) -> Verdict {
        let number = |it: &Answer| it.id.as_u64().unwrap_or_default();
        let answers = told.answers().iter().map(|it| ((it.connection, number(it)), it));
        let mut trial = Trial {
            judge: self,
            told,
            answered: answers.collect(),
            sessions: BTreeMap::new(),
            verdict: Verdict::default(),
        };
        let mut wire = daemon.wire().await;
        trial.read(&mut wire).await;
        trial.events();
        trial.commits();
        trial.answers(&mut wire).await;
        trial.members();
        trial.keys(&mut wire).await;
        trial.verdict
    }
}

impl Trial<'_> {
    fn lost(&mut self, text: String) {
        self.verdict.lost.push(text);
    }

    /// Reads every session that is there.
    async fn read(&mut self, wire: &mut Wire) {
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
        (1..=asked.behind).all(|id| self.answered.contains_key(&(asked.connection, id)))
    }

    fn may_be_deleted(&self, session: &str) -> bool {
        let mut deletes = self.judge.asked.values().filter(|it| it.method == "session/delete");
        deletes.any(|it| it.params["session"] == session && self.may_be_sent(it))
    }

    fn events(&mut self) {
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
    fn commits(&mut self) {
        let there: Vec<_> = self.sessions.values().map(Reading::by_cursor).collect();
        let is_there = |cursor: &&String| there.iter().any(|it| it.contains_key(cursor.as_str()));
        for commit in &self.judge.commits {
            let count = commit.iter().filter(is_there).count();
            if count != 0 && count != commit.len() {
                self.verdict.half.push(format!("{count} of {commit:?}"));
            }
        }
    }

    async fn answers(&mut self, wire: &mut Wire) {
        let judge = self.judge;
        let mut again = Vec::new();
        for answer in self.told.answers() {
            let key = (answer.connection, answer.id.as_u64().unwrap());
            let asked = &judge.asked[&key];
            let result = answer.result().unwrap_or_else(|| panic!("refused: {}", answer.value));
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
        }
        for (id, asked, result) in again {
            let there = wire.answer(id).await;
            self.same(asked, result, there);
        }
    }

    /// What is asked again answers the same, as far as it cannot have changed.
    fn same(&mut self, asked: &Asked, before: &Value, there: Result<Value, Value>) {
        let session = match asked.method {
            "chat/send" => before["session"].as_str(),
            "task/wait" => before["task"]["session"].as_str(),
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
    fn members(&mut self) {
        let mut updates: Vec<&Asked> = self.judge.asked.values().collect();
        updates.retain(|it| it.method == "session/update" && self.may_be_sent(it));
        updates.sort_by_key(|it| (it.connection, it.id));
        let mut may_be: BTreeMap<(&str, &str), Vec<&Value>> = BTreeMap::new();
        for asked in updates {
            let is_answered = self.answered.contains_key(&(asked.connection, asked.id));
            let members = asked.params.as_object().unwrap().iter();
            for (name, value) in
                members.filter(|(it, _)| !["session", "idempotency_key"].contains(&it.as_str()))
            {
                let session = asked.params["session"].as_str().unwrap();
                let values = may_be.entry((session, name)).or_default();
                if is_answered {
                    values.clear();
                } else if values.is_empty() {
                    // Nothing was answered of it, so that it may be as it was made.
                    continue;
                }
                values.push(value);
            }
        }
        for ((session, name), values) in may_be {
            let there = self.sessions.get(session).map(|it| &it.view["session"][name]);
            if !there.is_some_and(|it| values.is_empty() || values.contains(&it)) {
                self.verdict
                    .lost
                    .push(format!("`{name}` of {session} is {there:?}, not {values:?}"));
            }
        }
    }

    /// A request with a key, sent again, is answered as before.
    async fn keys(&mut self, wire: &mut Wire) {
        let judge = self.judge;
        for answer in self.told.answers() {
            let asked = &judge.asked[&(answer.connection, answer.id.as_u64().unwrap())];
            if asked.params["idempotency_key"].is_null() {
                continue;
            }
            let there = wire.call(asked.method, asked.params.clone()).await;
            if there.as_ref().ok() != answer.result() {
                self.lost(format!("the key of `{}` {}: {there:?}", asked.method, asked.params));
            }
        }
    }
}
