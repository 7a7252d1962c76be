//! What does a daemon say about a session, read whole through its socket?

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sess_protocol::event::ToldEvent;
use sess_protocol::view::View;

use crate::harness::Wire;

/// Messages of a view.
const VIEW_MESSAGES: usize = 500;

/// A session as it is answered.
#[derive(Debug)]
pub struct Reading {
    /// All events from the first on, at least up to the view's.
    pub events: Vec<Value>,
    /// The view; the log of facts of no session has none.
    pub view: Value,
    /// Its number.
    pub seq: u64,
}

impl Reading {
    /// Reads a session on a connection that follows nothing else of it.
    ///
    /// # Errors
    /// The error of an answer.
    ///
    /// # Panics
    /// When an answer is none of a session.
    pub async fn of(wire: &mut Wire, session: &str) -> Result<Reading, Value> {
        let follow = json!({"session": session, "messages": VIEW_MESSAGES, "deltas": false});
        let mut answer = wire.call("session/follow", follow).await?;
        wire.call("session/unfollow", json!({"session": session})).await?;
        let mut cursor = answer["cursor"].as_str().unwrap().split(':');
        let seq = cursor.nth(1).unwrap().parse().unwrap();
        let view = answer["view"].take();
        let events = events(wire, session, seq).await?;
        wire.call("session/unfollow", json!({"session": session})).await?;
        Ok(Reading { events, view, seq })
    }

    /// All of it as one value, without what is computed for the moment.
    #[must_use]
    pub fn value(self) -> Value {
        json!({"events": self.events, "view": plain(self.view)})
    }

    /// The events by their cursors.
    #[must_use]
    pub fn by_cursor(&self) -> BTreeMap<&str, &Value> {
        self.events.iter().filter_map(|it| Some((it["cursor"].as_str()?, it))).collect()
    }

    /// The messages by their ids.
    #[must_use]
    pub fn messages(&self) -> BTreeMap<&str, &Value> {
        let messages = self.events.iter().map(|it| &it["data"]["message"]);
        messages.filter_map(|it| Some((it["id"].as_str()?, it))).collect()
    }

    /// What is wrong with it in itself: a gap, or a view that is not the fold of the events.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut fold = View::default();
        for (at, event) in self.events.iter().enumerate() {
            if event["seq"] != at + 1 {
                faults.push(format!("event {} is numbered {}", at + 1, event["seq"]));
            }
            if at as u64 >= self.seq {
                continue;
            }
            match serde_json::from_value::<ToldEvent>(event.clone()) {
                Ok(told) => fold.apply(&told.event),
                Err(err) => faults.push(format!("{event} is no event: {err}")),
            }
        }
        let folded = plain(Value::Object(fold.snapshot(VIEW_MESSAGES)));
        let view = plain(self.view.clone());
        if folded != view && !self.view.is_null() {
            faults.push(format!("the fold {folded} is not the view {view}"));
        }
        faults
    }
}

async fn events(wire: &mut Wire, session: &str, last: u64) -> Result<Vec<Value>, Value> {
    let start = json!({"session": session, "after": "start", "deltas": false});
    wire.call("session/follow", start).await?;
    let mut events: Vec<Value> = Vec::new();
    while (events.len() as u64) < last {
        let Some(told) = wire.notification_or_end().await else {
            return Err(json!(format!("the connection ended behind event {}", events.len())));
        };
        if told.method == "event" && told.params["session"] == session {
            // What still came of the follow before this one begins in the middle.
            if told.params["seq"] == 1 {
                events.clear();
            }
            events.push(told.params);
        }
    }
    Ok(events)
}

/// A view without what is computed for the moment, and without members that say nothing.
fn plain(mut view: Value) -> Value {
    if let Some(session) = view["session"].as_object_mut() {
        session.remove("followers");
    }
    for task in view["tasks"].as_array_mut().into_iter().flatten() {
        task.as_object_mut().unwrap().remove("position");
    }
    without_nulls(view)
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let members = members.into_iter().filter(|(_, it)| !it.is_null());
            Value::Object(members.map(|(name, it)| (name, without_nulls(it))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        plain => plain,
    }
}
