//! What did a client ask and hear, of a daemon that may end at any moment?

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::{Asked, Judge, UNCHANGED, UNKNOWN};
use crate::faults::{Told, ToldSoFar};
use crate::harness::table::text;
use crate::harness::{Plan, within};

/// What may be answered beside a result while a fault lasts.
const REFUSALS: [&str; 4] = [UNCHANGED[0], UNCHANGED[1], UNCHANGED[2], UNKNOWN];

/// A client that remembers what it asked and heard. Once the daemon is gone, it is answered nothing.
#[derive(Debug)]
pub struct Witness {
    connection: u32,
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    /// The beginning of a line whose rest has not come yet.
    partial: Vec<u8>,
    answers: HashMap<u64, Value>,
    behind: u64,
    is_over: bool,
    asked: Vec<Asked>,
    heard: Vec<String>,
}

/// All that witnesses asked and heard.
#[derive(Debug, Default)]
pub struct Heard {
    asked: Vec<Asked>,
    lines: Vec<(u32, String)>,
}

impl Witness {
    /// Connects, if there is somebody. No two witnesses of one trial may have the same number.
    pub async fn connect(plan: &Plan, connection: u32) -> Option<Witness> {
        let stream = UnixStream::connect(plan.socket()).await.ok()?;
        let (reader, writer) = stream.into_split();
        Some(Witness {
            connection,
            reader: BufReader::new(reader),
            writer,
            partial: Vec::new(),
            answers: HashMap::new(),
            behind: 0,
            is_over: false,
            asked: Vec::new(),
            heard: Vec::new(),
        })
    }

    /// Whether the daemon is gone.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Sends a request and does not wait.
    pub async fn start(&mut self, method: &'static str, params: Value) -> u64 {
        let id = self.asked.len() as u64 + 1;
        let mut line = json!({"id": id, "method": method, "params": params}).to_string();
        line.push('\n');
        let (connection, behind) = (self.connection, self.behind);
        self.asked.push(Asked { connection, id, method, params, behind, seen: None });
        // Half of it may have gone out, so that it counts as asked.
        self.is_over |=
            within("room to send", self.writer.write_all(line.as_bytes())).await.is_err();
        id
    }

    /// The answer to a request, whole; nothing when the daemon ended before.
    pub async fn answer(&mut self, id: u64) -> Option<Value> {
        loop {
            if let Some(answer) = self.answers.remove(&id) {
                self.behind = self.behind.max(id);
                return Some(answer);
            }
            within("an answer, or the end", self.hear()).await?;
        }
    }

    /// The result of a request; nothing when it was refused, or the daemon ended before.
    pub async fn ok(&mut self, method: &'static str, params: Value) -> Option<Value> {
        let id = self.start(method, params).await;
        self.answer(id).await?.get_mut("result").map(Value::take)
    }

    /// The kind of the error that a request gets; nothing when it is done, or the daemon ended before.
    pub async fn refused(&mut self, method: &'static str, params: Value) -> Option<String> {
        let id = self.start(method, params).await;
        let answer = self.answer(id).await?;
        answer["error"]["data"]["kind"].as_str().map(str::to_owned)
    }

    /// Makes a session and follows it from its first event on.
    pub async fn session(&mut self, params: Value) -> Option<String> {
        let session = text(&self.ok("session/create", params).await?["id"]);
        let follow = json!({"session": session, "after": "start"});
        self.ok("session/follow", follow).await?;
        Some(session)
    }

    /// Says something and waits for the task's end; answers what `task/wait` did.
    pub async fn turn(&mut self, session: &str, content: &str) -> Option<Value> {
        let send = json!({"session": session, "content": content});
        let sent = self.ok("chat/send", send).await?;
        self.ok("task/wait", json!({"task": sent["task"]})).await
    }

    /// Hears on until a line says this, or the daemon ends; whether it was heard.
    pub async fn until(&mut self, words: &str) -> bool {
        loop {
            if self.heard.last().is_some_and(|it| it.contains(words)) {
                return true;
            }
            if within(words, self.hear()).await.is_none() {
                return false;
            }
        }
    }

    /// Hears on until nothing comes for so long, or the daemon ends.
    pub async fn quiet(&mut self, time: Duration) {
        while let Ok(Some(())) = tokio::time::timeout(time, self.hear()).await {}
    }

    /// Hears all that still comes until the daemon ends.
    pub async fn to_the_end(&mut self) {
        while within("the daemon's end", self.hear()).await.is_some() {}
    }

    // Dropped in the middle it loses nothing: what was read of a line stays in `partial`.
    async fn hear(&mut self) -> Option<()> {
        let read = self.reader.read_until(b'\n', &mut self.partial).await;
        // A killed daemon may have said half a line.
        if read.is_err() || self.partial.last() != Some(&b'\n') {
            self.is_over = true;
            return None;
        }
        let line = String::from_utf8(std::mem::take(&mut self.partial)).expect("lines are UTF-8");
        let value: Value = serde_json::from_str(&line).expect("the daemon sends JSON");
        if let Some(id) = value["id"].as_u64().filter(|_| value.get("method").is_none()) {
            self.answers.insert(id, value);
        }
        self.heard.push(line);
        Some(())
    }
}

impl Heard {
    /// Adds what a witness asked and heard.
    pub fn add(&mut self, witness: Witness) {
        let connection = witness.connection;
        self.asked.extend(witness.asked);
        self.lines.extend(witness.heard.into_iter().map(|line| (connection, line)));
    }

    /// How many requests were answered with a result.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        self.count("\"result\":")
    }

    /// How many lines say this.
    #[must_use]
    pub fn count(&self, words: &str) -> usize {
        self.lines.iter().filter(|(_, line)| line.contains(words)).count()
    }

    /// The judge of all of it, and what was told.
    ///
    /// # Panics
    /// When the daemon said something that is no message.
    #[must_use]
    pub fn judge(self) -> (Judge, ToldSoFar) {
        let lines = self.lines.iter().map(|(connection, line)| (*connection, line.as_str()));
        let told = Arc::new(Told::heard(lines).expect("each line is a message"));
        (Judge::new(self.asked, &told).with_refusals(&REFUSALS), told.to_the_end())
    }
}
