//! One follow as its client sees it: what it folds, what it holds of the unfinished, and whether
//! every line fits to the one before and to the log.

use serde_json::Value;
use sess_protocol::event::Event;
use sess_protocol::id::SessionId;
use sess_protocol::view::{Members, View};

use crate::model::{Blocks, is_prefix};
use crate::oracle::{Log, Oracle};
use crate::rules;

/// A follow.
#[derive(Debug, Clone)]
pub(crate) struct Follower {
    pub(crate) session: SessionId,
    /// Where to go on from.
    pub(crate) cursor: Option<String>,
    pub(crate) seq: u64,
    pub(crate) view: View,
    /// Messages that the view began with; `None` of one that began at the start.
    pub(crate) count: usize,
    live: Option<Unfinished>,
    pub(crate) deltas: bool,
    /// Whether the daemon answered the follow on the connection of now.
    pub(crate) active: bool,
    /// Whether lines were always taken at once since the follow began.
    pub(crate) keeps_up: bool,
}

#[derive(Debug, Clone)]
struct Unfinished {
    task: String,
    message: String,
    blocks: Blocks,
}

fn object(value: &Value) -> Members {
    value.as_object().cloned().unwrap_or_default()
}

/// A view as answered, without what is computed.
pub(crate) fn plain(view: &Value) -> Value {
    let mut view = view.clone();
    if let Some(session) = view["session"].as_object_mut() {
        session.remove("followers");
    }
    for task in view["tasks"].as_array_mut().into_iter().flatten() {
        task.as_object_mut().map(|it| it.remove("position"));
    }
    view
}

/// Whether a view that was answered is the fold of the log.
pub(crate) fn check_view(
    oracle: &Oracle,
    session: SessionId,
    view: &Value,
    count: usize,
) -> Result<(), String> {
    let seq = view["session"]["seq"].as_u64().unwrap_or(0);
    let Some((stored, wanted)) =
        oracle.with_log(session, |log| (log.events.len() as u64, log.snapshot_at(seq, count)))
    else {
        return Ok(());
    };
    if seq > stored {
        return Err(format!("a view of {seq} shows more than the {stored} stored"));
    }
    let given = plain(view);
    if wanted != given {
        return Err(format!("a view is {given}, its fold is {wanted}"));
    }
    Ok(())
}

impl Follower {
    /// One that knows nothing yet.
    pub(crate) fn new(session: SessionId, deltas: bool) -> Self {
        Self {
            session,
            cursor: None,
            seq: 0,
            view: View::default(),
            count: usize::MAX,
            live: None,
            deltas,
            active: false,
            keeps_up: true,
        }
    }

    /// The connection is gone, and with it what is not kept.
    pub(crate) fn lost(&mut self) {
        self.active = false;
        self.live = None;
    }

    /// The answer to a follow without a cursor.
    pub(crate) fn joined(
        &mut self,
        oracle: &Oracle,
        result: &Value,
        count: usize,
    ) -> Result<(), String> {
        let view = &result["view"];
        check_view(oracle, self.session, view, count)?;
        self.view = View::default();
        self.count = count;
        self.view.change("session", &object(&view["session"]));
        for (list, kind) in [
            ("threads", "thread"),
            ("tasks", "task"),
            ("messages", "message"),
            ("approvals", "approval"),
            ("tool_calls", "tool_call"),
        ] {
            for thing in view[list].as_array().into_iter().flatten() {
                self.view.change(kind, &object(thing));
            }
        }
        self.seq = self.view.seq();
        self.cursor = result["cursor"].as_str().map(str::to_owned);
        self.live = None;
        self.active = true;
        if let Some(live) = result.get("live") {
            self.live(live)?;
        }
        Ok(())
    }

    /// An event of the session.
    pub(crate) fn event(&mut self, oracle: &Oracle, params: &Value) -> Result<(), String> {
        let mut given = object(params);
        given.remove("session");
        let cursor = given.remove("cursor");
        let event: Event =
            serde_json::from_value(Value::Object(given.clone())).map_err(|it| it.to_string())?;
        if event.kind == "session.deleted" && self.session != SessionId::GLOBAL {
            return match (cursor, oracle.is_deleted(self.session)) {
                (None, true) => {
                    self.lost();
                    Ok(())
                }
                other => Err(format!("a deletion is told with {other:?}")),
            };
        }
        if event.seq != self.seq + 1 {
            return Err(format!("event {} comes behind {}", event.seq, self.seq));
        }
        let Some((json, mark)) = oracle.event(self.session, event.seq) else {
            return Err(format!("event {} is told and not stored", event.seq));
        };
        if serde_json::from_str::<Value>(&json).ok() != Some(Value::Object(given)) {
            return Err(format!("event {} is told as {params}, stored as {json}", event.seq));
        }
        let cursor = cursor.and_then(|it| it.as_str().map(str::to_owned)).unwrap_or_default();
        if !cursor.ends_with(&format!(":{}:{mark}", event.seq)) {
            return Err(format!("event {} has the cursor {cursor}, its mark is {mark}", event.seq));
        }
        self.check_unfinished(&event)?;
        self.view.apply(&event);
        (self.seq, self.cursor) = (event.seq, Some(cursor));
        Ok(())
    }

    /// The message replaces what was told of it: it must go on from that.
    fn check_unfinished(&mut self, event: &Event) -> Result<(), String> {
        let message = event.data.get("message").and_then(Value::as_object);
        let task = event.data.get("task").and_then(Value::as_object);
        // A task that goes on with what was said meanwhile appends its answer before its end.
        let is_replaced = |live: &Unfinished| {
            task.is_some_and(|it| rules::is_final(it) && rules::text(it, "id") == live.task)
                || message.is_some_and(|it| rules::text(it, "id") == live.message)
        };
        let Some(live) = self.live.take_if(|it| is_replaced(it)) else { return Ok(()) };
        let says = message.map(rules::blocks).unwrap_or_default();
        if message.is_some_and(|it| rules::text(it, "id") != live.message) {
            return Err("the message has another id than its deltas".to_owned());
        }
        if !is_prefix(&live.blocks, &says) || (self.keeps_up && live.blocks != says) {
            return Err(format!("told was {:?}, the message says {says:?}", live.blocks));
        }
        Ok(())
    }

    /// All that is unfinished.
    pub(crate) fn live(&mut self, live: &Value) -> Result<(), String> {
        if !self.deltas {
            return Err("one who wants no deltas is told what is unfinished".to_owned());
        }
        let text = |name: &str| live[name].as_str().unwrap_or("").to_owned();
        let blocks = live["blocks"].as_array().cloned().unwrap_or_default();
        let block =
            |it: &Value| (it["type"] == "reasoning", it["text"].as_str().unwrap_or("").to_owned());
        let blocks = blocks.iter().map(block).collect();
        self.live = Some(Unfinished { task: text("task"), message: text("message"), blocks });
        let runs = self.view.session().get("running").and_then(Value::as_str);
        if runs != live["task"].as_str() {
            return Err(format!("{live} is told while {runs:?} runs"));
        }
        Ok(())
    }

    /// A piece of what is unfinished.
    pub(crate) fn delta(&mut self, delta: &Value) -> Result<(), String> {
        let Some(live) = &mut self.live else {
            return Err("a delta comes without `live`".to_owned());
        };
        if delta["task"] != live.task || delta["message"] != live.message {
            return Err(format!("{delta} is not of {}", live.task));
        }
        let place = usize::try_from(delta["block"].as_u64().unwrap_or(u64::MAX)).expect("64 bits");
        if place == live.blocks.len() {
            live.blocks.push((delta["kind"] == "reasoning", String::new()));
        }
        let Some(block) = live.blocks.get_mut(place) else {
            return Err(format!("{delta} leaves a block out"));
        };
        if delta["offset"].as_u64() != Some(block.1.len() as u64) {
            return Err(format!("{delta} does not go on at {}", block.1.len()));
        }
        block.1.push_str(delta["text"].as_str().unwrap_or(""));
        Ok(())
    }

    /// At the end: all that is stored was told, and its fold is the same.
    pub(crate) fn check_end(&self, oracle: &Oracle) -> Result<(), String> {
        oracle.with_log(self.session, |log| self.check_against(log)).unwrap_or(Ok(()))
    }

    fn check_against(&self, log: &Log) -> Result<(), String> {
        if self.seq != log.events.len() as u64 {
            return Err(format!("a follower is at {}, the log at {}", self.seq, log.events.len()));
        }
        // Only messages that came since can be on its path, and those that it began with.
        let count = self.view.path(usize::MAX).0.len();
        let strip = |view: &View| {
            let mut snapshot = view.snapshot(count);
            snapshot.remove("before");
            plain(&Value::Object(snapshot))
        };
        let (mine, wanted) = (strip(&self.view), strip(&log.view));
        if mine != wanted {
            return Err(format!("a follower folds to {mine}, the log to {wanted}"));
        }
        Ok(())
    }
}
