//! Does the daemon keep to the rules of following, line by line?

use std::collections::HashMap;

use serde_json::{Value, json};
use sess_protocol::event::Event;
use sess_protocol::view::View;
use sess_tests::harness::within;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::stage::Door;

const FINAL: [&str; 4] = ["completed", "failed", "cancelled", "interrupted"];

/// A follower that forgives nothing: what breaks a rule ends its story.
pub(crate) struct Strict {
    door: Door,
    session: String,
    link: Option<Link>,
    cursor: Option<String>,
    view: View,
    /// The unfinished text of each task that was told to be unfinished.
    held: HashMap<String, Held>,
    /// Tasks that have ended, by what was told.
    ended: Vec<String>,
}

struct Link {
    lines: Lines<BufReader<OwnedReadHalf>>,
    _writer: OwnedWriteHalf,
    starts: u64,
}

#[derive(Default)]
struct Held {
    message: Option<String>,
    blocks: HashMap<u64, String>,
}

impl Strict {
    /// One that begins with a view of now, or with the first event.
    pub(crate) fn new(door: Door, session: &str, from_start: bool) -> Strict {
        Strict {
            door,
            session: session.to_owned(),
            link: None,
            cursor: from_start.then(|| "start".to_owned()),
            view: View::default(),
            held: HashMap::new(),
            ended: Vec::new(),
        }
    }

    /// What it knows, as a view.
    pub(crate) fn snapshot(&self) -> Value {
        Value::Object(self.view.snapshot(50))
    }

    /// The number of the last event that it was told.
    pub(crate) fn seq(&self) -> u64 {
        self.view.seq()
    }

    /// Whether it knows that this task is over; one that ended before it came is in no view.
    pub(crate) fn has_ended(&self, task: &str) -> bool {
        self.ended.iter().any(|it| it == task)
    }

    /// The unfinished text that it holds.
    pub(crate) fn unfinished(&self) -> String {
        let blocks = self.held.values().flat_map(|it| it.blocks.values());
        blocks.map(String::as_str).collect()
    }

    /// How long that is.
    pub(crate) fn unfinished_bytes(&self) -> usize {
        self.held.values().flat_map(|it| it.blocks.values()).map(String::len).sum()
    }

    /// Leaves, and comes back by its cursor with the next line it wants.
    pub(crate) fn leave(&mut self) {
        self.link = None;
        // A follow that begins again tells with a `live` what is unfinished.
        self.held.clear();
    }

    /// Connects where it is not, then takes one line. Nothing when it only connected.
    pub(crate) async fn next(&mut self) {
        let Some(link) = &mut self.link else { return self.connect().await };
        let line = within("a line", link.lines.next_line()).await.ok().flatten();
        let Some(line) = line else {
            assert!(self.door.may_close, "the daemon closed a connection that it serves");
            let starts = link.starts;
            self.leave();
            self.door.opened_after(starts).await;
            return;
        };
        let mut line: Value = serde_json::from_str(&line).expect("the daemon sends JSON");
        let params = line["params"].take();
        assert_eq!(params["session"], self.session);
        match line["method"].as_str() {
            Some("event") => self.event(params),
            Some("live") => self.live(&params),
            Some("delta") => self.delta(&params),
            other => panic!("`{other:?}` belongs to no follow"),
        }
    }

    async fn connect(&mut self) {
        let starts = self.door.starts();
        match self.try_connect(starts).await {
            Some(()) => {}
            None => {
                assert!(self.door.may_close, "the daemon does not answer");
                self.door.opened_after(starts).await;
            }
        }
    }

    /// Nothing when the daemon is gone.
    async fn try_connect(&mut self, starts: u64) -> Option<()> {
        let (reader, mut writer) = UnixStream::connect(&self.door.socket).await.ok()?.into_split();
        let mut params = json!({"session": self.session});
        if let Some(cursor) = &self.cursor {
            params["after"] = cursor.clone().into();
        }
        let request = json!({"id": 1, "method": "session/follow", "params": params});
        writer.write_all(format!("{request}\n").as_bytes()).await.ok()?;
        let mut lines = BufReader::new(reader).lines();
        let line = lines.next_line().await.ok()??;
        let answer: Value = serde_json::from_str(&line).expect("the daemon sends JSON");
        assert_eq!(answer["id"], 1, "the answer comes before all that is followed: {line}");
        let result = &answer["result"];
        let cursor = result["cursor"].as_str().unwrap_or_else(|| panic!("no cursor in {line}"));
        if self.cursor.is_none() {
            self.begin(result);
        } else {
            assert_eq!(result.as_object().unwrap().len(), 1, "the cursor alone: {line}");
        }
        self.cursor = Some(cursor.to_owned());
        self.link = Some(Link { lines, _writer: writer, starts });
        Some(())
    }

    fn begin(&mut self, result: &Value) {
        for (name, value) in result["view"].as_object().unwrap() {
            let kind = name.strip_suffix('s').unwrap_or(name);
            match value {
                Value::Object(members) => self.view.change(kind, members),
                Value::Array(things) => {
                    things.iter().for_each(|it| self.view.change(kind, it.as_object().unwrap()))
                }
                _ => {}
            }
        }
        if !result["live"].is_null() {
            self.live(&result["live"]);
        }
    }

    fn event(&mut self, params: Value) {
        assert_eq!(params["seq"], self.seq() + 1, "dense, none twice: {params}");
        self.cursor = Some(params["cursor"].as_str().expect("an event has a cursor").to_owned());
        let event: Event = serde_json::from_value(params.clone()).expect("an event");
        self.view.apply(&event);
        let data = &params["data"];
        for held in self.held.values_mut() {
            if held.message.is_some() && data["message"]["id"].as_str() == held.message.as_deref() {
                held.end(&data["message"], params["type"] == "task.interrupted");
            }
        }
        let (task, status) = (data["task"]["id"].as_str(), data["task"]["status"].as_str());
        if let (Some(task), Some(status)) = (task, status)
            && FINAL.contains(&status)
        {
            self.held.remove(task);
            self.ended.push(task.to_owned());
        }
    }

    fn live(&mut self, live: &Value) {
        let task = self.running_of(live);
        let blocks = live["blocks"].as_array().unwrap().iter();
        let text =
            |it: &Value| (it["index"].as_u64().unwrap(), it["text"].as_str().unwrap().into());
        let message = live["message"].as_str().map(str::to_owned);
        self.held.insert(task, Held { message, blocks: blocks.map(text).collect() });
    }

    fn delta(&mut self, delta: &Value) {
        let task = self.running_of(delta);
        let held = self.held.get_mut(&task);
        let held = held.unwrap_or_else(|| panic!("a delta with no live before it: {delta}"));
        assert_eq!(delta["message"].as_str(), held.message.as_deref(), "{delta}");
        let block = held.blocks.entry(delta["block"].as_u64().unwrap()).or_default();
        assert_eq!(delta["offset"], block.len(), "no byte is missing: {delta}");
        block.push_str(delta["text"].as_str().unwrap());
    }

    /// The task that something unfinished is of: one that runs, by all that was told.
    fn running_of(&self, params: &Value) -> String {
        let task = params["task"].as_str().expect("a task");
        let known = self.view.thing("task", task);
        let status = known.and_then(|it| it.get("status")).and_then(Value::as_str);
        assert_eq!(status, Some("running"), "unfinished is what runs: {params}");
        task.to_owned()
    }
}

impl Held {
    /// The message replaces its pieces: it must go on from what they said. After a crash it may be
    /// shorter.
    fn end(&mut self, message: &Value, may_be_shorter: bool) {
        let said: String = message["content"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["text"].as_str().unwrap_or_default())
            .collect();
        let mut blocks: Vec<_> = self.blocks.drain().collect();
        blocks.sort();
        let shown: String = blocks.into_iter().map(|(_, text)| text).collect();
        let is_cut = message["content"].as_array().unwrap().iter().any(|it| it["blob"].is_string());
        let goes_on = said.starts_with(&shown);
        let shorter = (may_be_shorter || is_cut) && shown.starts_with(&said);
        assert!(goes_on || shorter, "the message is another text than was shown");
        self.message = None;
    }
}
