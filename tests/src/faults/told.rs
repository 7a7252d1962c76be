//! What had the clients been told at a given moment? Their lines, put together again.

use super::log::{Op, RecordLog};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;

// Four times what the daemon may send as one line.
const LINE_BYTES_MAX: usize = 16 << 20;

/// An answer to a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The index of the op that told its last byte.
    pub at: usize,
    /// Connections count from 1 in the order of being accepted.
    pub connection: u32,
    /// The request's id, null for an answer to what was no request.
    pub id: Value,
    /// The whole line.
    pub value: Value,
}

impl Answer {
    /// The result, if it is not an error.
    pub fn result(&self) -> Option<&Value> {
        self.value.get("result")
    }
}

/// An event, a durable fact.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The index of the op that told its last byte.
    pub at: usize,
    /// Connections count from 1 in the order of being accepted.
    pub connection: u32,
    /// The session's id.
    pub session: String,
    /// Its number within the session.
    pub seq: u64,
    /// Its cursor.
    pub cursor: String,
    /// All its members, these three too.
    pub params: Value,
}

/// That a session is gone, the last that its followers are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    /// The index of the op that told its last byte.
    pub at: usize,
    /// The session's id.
    pub session: String,
}

/// Everything that was told in the whole log.
#[derive(Debug, Default)]
pub struct Told {
    answers: Vec<Answer>,
    events: Vec<Event>,
    gone: Vec<Gone>,
    others: usize,
}

impl Told {
    /// Reads what was told. Whatever is not a line of JSON is an error; half a line at the end of a
    /// connection was not told.
    pub fn read(log: &RecordLog) -> Result<Self> {
        let mut told = Self::default();
        let mut unfinished: HashMap<u32, Vec<u8>> = HashMap::new();
        for (at, op) in log.ops().iter().enumerate() {
            let Op::Told { connection, data } = op else { continue };
            let held = unfinished.entry(*connection).or_default();
            let from = held.len();
            held.extend_from_slice(log.data(data));
            let Some(end) = held[from..].iter().rposition(|byte| *byte == b'\n') else {
                ensure!(held.len() <= LINE_BYTES_MAX, "a line longer than {LINE_BYTES_MAX} bytes");
                continue;
            };
            let rest = held.split_off(from + end + 1);
            for line in held.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                told.line(at, *connection, line)
                    .with_context(|| format!("told by op {at} on connection {connection}"))?;
            }
            *held = rest;
        }
        Ok(told)
    }

    /// What clients heard themselves, each line with its connection, as if told one after another.
    pub fn heard<'a>(lines: impl IntoIterator<Item = (u32, &'a str)>) -> Result<Self> {
        let mut told = Self::default();
        for (at, (connection, line)) in lines.into_iter().enumerate() {
            told.line(at, connection, line.as_bytes())?;
        }
        Ok(told)
    }

    fn line(&mut self, at: usize, connection: u32, line: &[u8]) -> Result<()> {
        let mut value: Value = serde_json::from_slice(line)
            .with_context(|| format!("not JSON: {}", String::from_utf8_lossy(line)))?;
        match value.get("method").and_then(Value::as_str) {
            None => {
                let id = value.get("id").cloned().context("neither method nor id")?;
                self.answers.push(Answer { at, connection, id, value });
            }
            Some("event") => {
                let params = value["params"].take();
                let text = |name: &str| params[name].as_str().map(str::to_owned);
                let session = text("session").context("an event without session")?;
                if text("type").as_deref() == Some("session.deleted") && session != "global" {
                    self.gone.push(Gone { at, session });
                    return Ok(());
                }
                let cursor = text("cursor").context("an event without cursor")?;
                let seq = params["seq"].as_u64().context("an event without seq")?;
                self.events.push(Event { at, connection, session, seq, cursor, params });
            }
            Some(_) => self.others += 1,
        }
        Ok(())
    }

    /// How many lines were neither answers nor events: deltas, `live` and the like.
    pub fn others(&self) -> usize {
        self.others
    }

    /// All events of the whole log, once for each connection that was told.
    pub fn all_events(&self) -> &[Event] {
        &self.events
    }

    /// All of it.
    pub fn to_the_end(self: &Arc<Self>) -> ToldSoFar {
        self.until(usize::MAX)
    }

    /// What had been told after the first `cut` ops.
    pub fn until(self: &Arc<Self>, cut: usize) -> ToldSoFar {
        ToldSoFar { told: self.clone(), cut }
    }
}

/// Everything that had been told at a cut, in order.
#[derive(Debug, Clone)]
pub struct ToldSoFar {
    told: Arc<Told>,
    cut: usize,
}

impl ToldSoFar {
    /// The answers.
    pub fn answers(&self) -> &[Answer] {
        let answers = &self.told.answers;
        &answers[..answers.partition_point(|answer| answer.at < self.cut)]
    }

    /// The answer to a request of a connection.
    pub fn answer(&self, connection: u32, id: &Value) -> Option<&Answer> {
        self.answers().iter().find(|it| it.connection == connection && it.id == *id)
    }

    /// The events, once for each connection that was told.
    pub fn events(&self) -> &[Event] {
        let events = &self.told.events;
        &events[..events.partition_point(|event| event.at < self.cut)]
    }

    /// The sessions whose followers were told that they are deleted.
    pub fn gone(&self) -> &[Gone] {
        let gone = &self.told.gone;
        &gone[..gone.partition_point(|it| it.at < self.cut)]
    }
}

#[cfg(test)]
mod tests {
    use super::super::log::handmade::LogBytes;
    use super::*;
    use serde_json::json;

    fn told(log: LogBytes) -> Arc<Told> {
        Arc::new(log.log().told().unwrap())
    }

    #[test]
    fn a_line_is_told_with_its_last_byte_however_it_is_cut_and_mixed() {
        let told = told(
            LogBytes::new()
                .told(1, u32::MAX, b"{\"id\":1,\"res")
                .told(2, 99, b"{\"id\":7,\"error\":{}}\n{\"id\"")
                .told(1, 10, b"ult\":5}\n{}never told")
                .told(2, 5, b":8}\n\n"),
        );
        assert_eq!(told.until(1).answers(), []);
        let ids =
            |cut| told.until(cut).answers().iter().map(|it| it.id.clone()).collect::<Vec<_>>();
        assert_eq!(ids(2), [7]);
        assert_eq!(ids(3), [7, 1]);
        assert_eq!(ids(4), [7, 1, 8]);
        assert_eq!(told.until(3).answer(1, &json!(1)).unwrap().result(), Some(&json!(5)));
        assert!(told.until(3).answer(2, &json!(1)).is_none());
    }

    #[test]
    fn events_are_told_apart_from_deltas() {
        let event = json!({"session": "s", "seq": 3, "cursor": "h:3:a", "type": "note.added"});
        let lines = format!(
            "{}\n{}\n",
            json!({"method": "delta", "params": {"text": "x"}}),
            json!({"method": "event", "params": event}),
        );
        let told = told(LogBytes::new().told(4, u32::MAX, lines.as_bytes()));
        assert_eq!(told.others(), 1);
        let so_far = told.until(1);
        let [only] = so_far.events() else { panic!("one event") };
        assert_eq!((only.connection, only.session.as_str(), only.seq), (4, "s", 3));
        assert_eq!((only.cursor.as_str(), &only.params), ("h:3:a", &event));
    }

    #[test]
    fn a_deleted_session_is_told_without_a_cursor() {
        let event = json!({"session": "s", "seq": 4, "type": "session.deleted"});
        let line = format!("{}\n", json!({"method": "event", "params": event}));
        let told = told(LogBytes::new().told(1, 99, b"{\"id\":1}\n").told(4, 999, line.as_bytes()));
        assert_eq!(told.until(1).gone(), []);
        assert_eq!(told.until(2).gone(), [Gone { at: 1, session: "s".to_owned() }]);
        assert_eq!(told.until(2).events(), []);
    }

    #[test]
    fn what_is_not_json_or_no_message_is_an_error() {
        for line in [b"ack 1\n".as_slice(), b"{}\n", b"{\"method\":\"event\",\"params\":{}}\n"] {
            assert!(LogBytes::new().told(1, 99, line).log().told().is_err());
        }
    }
}
