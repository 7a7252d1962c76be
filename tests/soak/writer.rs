//! What does a client do that does anything at all, at random?

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sess_tests::faults::Rng;

use crate::line::{Line, Lost, Pen};
use crate::world::World;

/// The mean time between two things that one client does: half a processor is enough for all.
const PACE_MS: usize = 250;
/// How soon is asked again what the daemon could not do at the moment.
const AGAIN: Duration = Duration::from_millis(100);
/// Who wants a model's answer gets one of these, good or bad.
pub(crate) const MODELS: [&str; 11] = [
    "echo/echo",
    "echo/echo",
    "stub/words",
    "stub/words",
    "stub/long",
    "stub/stall",
    "stub/silent",
    "stub/error",
    "stub/broken",
    "stub/cut",
    "gone/gone",
];
/// Refusals after which the same request may be asked again, with its key.
const LATER: [&str; 3] = ["shutting_down", "outcome_unknown", "storage"];

pub(crate) struct Writer {
    name: usize,
    rng: Rng,
    pen: Pen,
    world: Arc<World>,
    line: Option<Line>,
    asked: u64,
}

impl Writer {
    pub(crate) fn new(name: usize, seed: u64, world: &Arc<World>) -> Writer {
        let pen = Pen::new(&world.folder.join(format!("writer-{name}.jsonl")));
        Writer { name, rng: Rng::new(seed), pen, world: Arc::clone(world), line: None, asked: 0 }
    }

    /// Does one thing after another until it is told to end; how many it did.
    pub(crate) async fn run(mut self) -> u64 {
        while self.world.is_writing() {
            self.one().await;
            let pause = self.rng.below(2 * PACE_MS) as u64;
            crate::world::pass(Duration::from_millis(pause)).await;
        }
        self.asked
    }

    async fn one(&mut self) {
        let Some(session) = self.world.pick(&mut self.rng) else { return self.create().await };
        let of = json!({"session": session});
        match self.rng.below(100) {
            0..6 => self.create().await,
            6..45 => self.send(&session).await,
            45..55 => drop(self.change("session/update", &json!({"session": session, "title": self.word()})).await),
            55..60 => drop(self.change("event/append", &json!({"session": session, "type": "soak:mark", "data": {"mark": self.word()}})).await),
            60..64 => self.hold(&session).await,
            64..67 => drop(self.change("session/persist", &of).await),
            67..77 => self.cancel(&session).await,
            77..82 => drop(self.look("session/list", &json!({"limit": 5})).await),
            82..87 => drop(self.look("message/list", &of).await),
            87..90 => drop(self.look("turn/list", &of).await),
            90..94 => self.documents().await,
            94..96 => self.delete(&session).await,
            96..98 => self.carry().await,
            _ => self.vanish(&session).await,
        }
    }

    /// A word that nobody says twice.
    fn word(&self) -> String {
        format!("w{}-{}", self.name, self.asked)
    }

    async fn create(&mut self) {
        let title = self.word();
        if let Some(made) = self.change("session/create", &json!({"title": title})).await {
            self.world.add(made["id"].as_str().unwrap(), &mut self.rng);
        }
    }

    async fn send(&mut self, session: &str) {
        let if_busy = *self.rng.pick(&["queue", "queue", "queue", "reject", "interrupt"]);
        let model = *self.rng.pick(&MODELS);
        let content = format!("{} says something", self.word());
        let send =
            json!({"session": session, "content": content, "if_busy": if_busy, "model": model});
        let sent = self.change("chat/send", &send).await;
        if let Some(sent) = sent
            && self.rng.one_in(4)
        {
            self.look("task/wait", &json!({"task": sent["task"], "timeout_ms": 2_000})).await;
        }
    }

    async fn cancel(&mut self, session: &str) {
        let open = self.look("task/list", &json!({"session": session, "limit": 3})).await;
        let Some(open) = open else { return };
        let tasks = open["tasks"].as_array().unwrap();
        if !tasks.is_empty() {
            let task = json!({"task": self.rng.pick(tasks)["id"]});
            self.change("task/cancel", &task).await;
        }
    }

    async fn hold(&mut self, session: &str) {
        if self.look("session/lock", &json!({"session": session, "wait_ms": 500})).await.is_some() {
            self.send(session).await;
            // Now and then it is the end of the connection that lets it go.
            if self.rng.one_in(3) {
                self.line = None;
            } else {
                self.look("session/release", &json!({"session": session})).await;
            }
        }
    }

    async fn documents(&mut self) {
        let value = *self.rng.pick(&["ask", "plan"]);
        self.look("state/set", &json!({"document": "settings", "key": "mode", "value": value}))
            .await;
        self.look("state/get", &json!({"document": "settings"})).await;
    }

    async fn delete(&mut self, session: &str) {
        self.world.forget(session);
        self.change("session/delete", &json!({"session": session, "force": true})).await;
    }

    /// A session of its own, which goes out into a file, away, and in again.
    async fn carry(&mut self) {
        let Some(made) = self.change("session/create", &json!({"title": "carried"})).await else {
            return;
        };
        let session = made["id"].clone();
        let send = json!({"session": session, "content": format!("{} packs", self.word()), "model": "echo/echo"});
        let Some(sent) = self.change("chat/send", &send).await else { return };
        self.look("task/wait", &json!({"task": sent["task"], "timeout_ms": 10_000})).await;
        let Some(file) = self.look("session/export", &json!({"session": session})).await else {
            return;
        };
        let piece = self.look("blob/get", &json!({"blob": file["blob"]})).await;
        let Some(piece) = piece.filter(|it| it["last"] == true) else { return };
        if self.change("session/delete", &json!({"session": session})).await.is_none() {
            return;
        }
        let put = self.look("blob/put", &json!({"data": piece["data"], "last": true})).await;
        if let Some(put) = put {
            self.change("session/import", &json!({"blob": put["blob"]})).await;
        }
    }

    /// Asks and hangs up: whether it was done nobody says.
    async fn vanish(&mut self, session: &str) {
        self.asked += 1;
        let content = format!("{} vanishes", self.word());
        let send = json!({"session": session, "content": content, "idempotency_key": self.word()});
        self.pen.write(&json!({"ask": self.word(), "method": "chat/send", "params": send}));
        let mut line = Line::connect(&self.world.socket).await;
        let _ = line.ask("chat/send", &send).await;
        self.line = None;
    }

    /// Asks for a change until it is answered, under one key. The result, when it was done.
    async fn change(&mut self, method: &str, params: &Value) -> Option<Value> {
        self.asked += 1;
        let key = self.word();
        let mut keyed = params.clone();
        keyed["idempotency_key"] = json!(key);
        self.pen.write(&json!({"ask": key, "method": method, "params": keyed}));
        let answer = self.until_answered(method, &keyed).await;
        self.pen.write(&json!({"answer": key, "method": method, "result": answer.get("result"), "error": answer.get("error")}));
        // Somebody who does not trust the answer, or never saw it.
        if self.rng.one_in(10) {
            let again = self.until_answered(method, &keyed).await;
            if answer.get("result").is_some() {
                self.pen.write(&json!({"again": key, "method": method, "same": again["result"] == answer["result"], "answer": again}));
            }
        }
        answer.get("result").cloned()
    }

    /// Asks what may be repeated without harm.
    async fn look(&mut self, method: &str, params: &Value) -> Option<Value> {
        self.asked += 1;
        let answer = self.until_answered(method, params).await;
        answer.get("result").cloned()
    }

    async fn until_answered(&mut self, method: &str, params: &Value) -> Value {
        loop {
            match self.once(method, params).await {
                Ok(answer) => {
                    let kind = answer["error"]["data"]["kind"].as_str().unwrap_or_default();
                    assert!(kind != "internal" && kind != "parse", "{method} {params}: {answer}");
                    if !LATER.contains(&kind) {
                        return answer;
                    }
                    crate::world::pass(AGAIN).await;
                }
                Err(Lost) => self.line = None,
            }
        }
    }

    async fn once(&mut self, method: &str, params: &Value) -> Result<Value, Lost> {
        if self.line.is_none() {
            self.line = Some(Line::connect(&self.world.socket).await);
        }
        self.line.as_mut().ok_or(Lost)?.call(method, params).await
    }
}
