//! What is a database whose every answer is known, and what does a daemon answer over a copy of it?

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sess_tests::harness::table::text;
use sess_tests::harness::{Daemon, Plan, Wire};

use crate::Shm;
use sess_tests::judge::Reading;

/// Sessions, and turns of each.
const SESSIONS: usize = 6;
const TURNS: usize = 30;
/// Bytes of a text that does not stay in an event.
const LONG_BYTES: usize = 80 * 1024;

/// What was asked and what came: a result, or the kind and message of an error.
pub(crate) type Answers = BTreeMap<String, Result<Value, (String, String)>>;

/// A store of many sessions, in the ways in which it can be left.
pub(crate) struct Golden {
    /// Left by a stop.
    pub(crate) clean: PathBuf,
    /// Left by a kill: what came last is in SQLite's log alone.
    pub(crate) unclean: PathBuf,
    /// The same store as an earlier kill left it.
    pub(crate) older: PathBuf,
    /// Another store, left by a kill.
    pub(crate) other: PathBuf,
    questions: Vec<(&'static str, Value)>,
    sessions: Vec<String>,
    /// What is answered over an undamaged copy.
    pub(crate) truth: Answers,
    /// What was answered before the last transaction. A log that lost this one cannot be told from
    /// one that a power cut left.
    pub(crate) before: Answers,
}

impl Golden {
    /// Makes it, with a real daemon.
    pub(crate) async fn new(shm: &Shm) -> Golden {
        let folder = |name: &str| shm.0.join(name);
        let other = Plan::new().start().await;
        let session = other.wire().await.session().await;
        other.wire().await.turn(&session, "of another store").await;
        copy(&other.kill().await.data_folder(), &folder("other"));

        let mut golden = Golden {
            clean: folder("clean"),
            unclean: folder("unclean"),
            older: folder("older"),
            other: folder("other"),
            questions: Vec::new(),
            sessions: Vec::new(),
            truth: Answers::new(),
            before: Answers::new(),
        };
        let daemon = Plan::new().start().await;
        golden.first(&mut daemon.wire().await).await;
        let plan = daemon.kill().await;
        copy(&plan.data_folder(), &golden.older);
        let daemon = plan.start().await;
        golden.second(&mut daemon.wire().await).await;
        golden.before = golden.read(&daemon).await;
        let last = json!({"session": golden.sessions[0], "description": "the last change"});
        daemon.wire().await.ok("session/update", last).await;
        let plan = daemon.kill().await;
        copy(&plan.data_folder(), &golden.unclean);
        assert_eq!(plan.start().await.terminate().await, 0);
        copy(&plan.data_folder(), &golden.clean);
        let daemon = plan.start().await;
        golden.truth = golden.read(&daemon).await;
        daemon.kill().await;
        golden
    }

    /// Asks a daemon everything.
    pub(crate) async fn read(&self, daemon: &Daemon) -> Answers {
        let mut answers = Answers::new();
        let mut wire = daemon.wire().await;
        for (method, params) in &self.questions {
            let answer = wire.call(method, params.clone()).await;
            answers.insert(format!("{method} {params}"), answer.map_err(error_of));
        }
        for session in &self.sessions {
            // On a connection of its own, for a follow that meets damage ends it.
            let reading = Reading::of(&mut daemon.wire().await, session).await;
            let answer = reading.map(Reading::value).map_err(error_of);
            answers.insert(format!("events and view of {session}"), answer);
        }
        answers
    }
}

fn error_of(error: Value) -> (String, String) {
    match error.as_str() {
        Some(ended) => ("ended".to_owned(), ended.to_owned()),
        None => (text(&error["data"]["kind"]), text(&error["message"])),
    }
}

/// Copies a store, the times of change too: by them the daemon knows one that was left clean.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        // What SQLite shares between connections is made anew at every start.
        if entry.path().is_file() && entry.path().extension().is_none_or(|it| it != "db-shm") {
            let at = to.join(entry.file_name());
            std::fs::copy(entry.path(), &at).unwrap();
            let time = entry.metadata().unwrap().modified().unwrap();
            std::fs::File::options().write(true).open(&at).unwrap().set_modified(time).unwrap();
        }
    }
}

impl Golden {
    async fn ask(&mut self, wire: &mut Wire, method: &'static str, params: Value) -> Value {
        let answer = wire.ok(method, params.clone()).await;
        self.questions.push((method, params));
        answer
    }

    /// What an earlier copy has too.
    async fn first(&mut self, wire: &mut Wire) {
        for n in 0..SESSIONS {
            let key = format!("create {n}");
            let create = json!({"title": format!("session {n}"), "idempotency_key": key});
            let session = self.ask(wire, "session/create", create).await;
            self.sessions.push(text(&session["id"]));
        }
        self.turns(wire, "early").await;
    }

    async fn turns(&mut self, wire: &mut Wire, when: &str) {
        for n in 0..TURNS / 2 {
            for (at, session) in self.sessions.clone().iter().enumerate() {
                let content = format!("{when} question {n} of session {at}");
                let mut send = json!({"session": session, "content": content});
                if n % 4 == 0 {
                    send["idempotency_key"] = json!(content);
                }
                let sent = match n % 4 {
                    0 => self.ask(wire, "chat/send", send).await,
                    _ => wire.ok("chat/send", send).await,
                };
                wire.wait(&sent).await;
                self.questions.push(("task/get", json!({"task": sent["task"]})));
            }
        }
    }

    /// All else, and the questions about it.
    async fn second(&mut self, wire: &mut Wire) {
        self.turns(wire, "late").await;
        let gone = wire.session().await;
        wire.turn(&gone, "not for long").await;
        let delete = json!({"session": gone, "idempotency_key": "delete"});
        self.ask(wire, "session/delete", delete).await;
        self.questions.push(("session/get", json!({"session": gone})));
        for (n, session) in self.sessions.clone().iter().enumerate() {
            let long = format!("long {n} ").repeat(LONG_BYTES / 7);
            wire.turn(session, &long).await;
            let update = json!({"session": session, "title": format!("title {n}"), "tags": ["t"]});
            wire.ok("session/update", update).await;
            let all = json!({"session": session, "limit": 500});
            let list = wire.ok("message/list", all.clone()).await;
            let messages = list["messages"].as_array().unwrap();
            for message in messages.iter().filter(|it| it["content"][0]["blob"].is_string()) {
                let blob = &message["content"][0]["blob"];
                self.questions.push(("blob/get", json!({"blob": blob})));
            }
            for method in ["session/get", "thread/list"] {
                self.questions.push((method, json!({"session": session})));
            }
            for method in ["message/list", "task/list"] {
                self.questions.push((method, all.clone()));
                self.questions.push((method, json!({"session": session, "limit": 7})));
            }
        }
        self.sessions.push("global".to_owned());
        for params in
            [json!({}), json!({"limit": 2}), json!({"text": "title 3"}), json!({"tag": "t"})]
        {
            self.questions.push(("session/list", params));
        }
        self.questions.push(("session/active", json!({})));
    }
}
