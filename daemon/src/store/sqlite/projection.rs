//! How an event changes the projections: the generic fold, done on rows instead of in memory.

use rusqlite::{Connection, params};
use serde_json::Value;
use sess_protocol::event::Event;
use sess_protocol::id::{MessageId, SessionId, TaskId};
use sess_protocol::view::{Members, key_of, merge};

use super::log::{self, Chain};
use super::rows::{Numbered, Trouble, int};
use super::sessions::{self, SessionRow};
use super::spending;
use super::things::{self, MessageRow, TaskRow, ThingRow};
use crate::store::Hash;
use crate::store::usage::Call;

/// The kind under which clears of the active session are kept; it can be no member's name of ours.
pub(super) const CLEARED: &str = "session.cleared";

/// Folds events into a session's rows. The session's own members are written at the end.
pub(super) struct Fold<'c> {
    conn: &'c Connection,
    session: Numbered,
    members: Members,
    tasks_changed: bool,
}

impl<'c> Fold<'c> {
    /// Goes on from these members.
    pub(super) fn of(conn: &'c Connection, session: Numbered, members: Members) -> Self {
        Self { conn, session, members, tasks_changed: false }
    }

    /// Takes in an event.
    pub(super) fn apply(&mut self, event: &Event) -> Result<(), Trouble> {
        if let Some(call) = Call::of_event(event, &self.members) {
            let agent = self.members.get("agent").and_then(Value::as_str).unwrap_or_default();
            spending::add(self.conn, self.session.no, agent, &call)?;
        }
        if !event.is_foreign() {
            for (kind, value) in &event.data {
                if let Value::Object(members) = value {
                    self.change(event.seq, kind, members)?;
                }
            }
            if self.session.id == SessionId::GLOBAL && event.kind == CLEARED {
                self.clear(event)?;
            }
        }
        self.members.insert("seq".to_owned(), event.seq.into());
        self.members.insert("updated_at".to_owned(), event.at.to_string().into());
        Ok(())
    }

    fn change(&mut self, seq: u64, kind: &str, members: &Members) -> Result<(), Trouble> {
        if kind == "session" {
            merge(&mut self.members, members);
            return Ok(());
        }
        let Some(key) = key_of(members) else { return Ok(()) };
        match kind {
            "message" if key.parse::<MessageId>().is_ok() => {
                self.message(seq, key.parse().expect("just seen"), members)
            }
            "task" if key.parse::<TaskId>().is_ok() => {
                self.task(seq, key.parse().expect("just seen"), members)
            }
            _ => self.thing(seq, (kind, &key), members),
        }
    }

    /// A message never changes and lies in one event only, so a second mention adds nothing.
    fn message(&mut self, seq: u64, id: MessageId, members: &Members) -> Result<(), Trouble> {
        let no = self.session.no;
        if things::message(self.conn, no, id)?.is_some() {
            return Ok(());
        }
        let parent = members.get("parent").and_then(Value::as_str);
        let parent = match parent.and_then(|it| it.parse::<MessageId>().ok()) {
            Some(parent) => things::message(self.conn, no, parent)?.map(|it| it.seq),
            None => None,
        };
        self.drop_partials("message", id.bytes())?;
        things::write_message(self.conn, &MessageRow { no, seq, id, parent })
    }

    fn drop_partials(&self, column: &str, id: [u8; 16]) -> Result<(), Trouble> {
        let sql = format!("DELETE FROM partials WHERE session = ? AND {column} = ?");
        self.conn.prepare_cached(&sql)?.execute(params![self.session.no, id])?;
        Ok(())
    }

    fn task(&mut self, seq: u64, id: TaskId, members: &Members) -> Result<(), Trouble> {
        self.tasks_changed = true;
        let no = self.session.no;
        if removes(members) {
            self.conn
                .prepare_cached("DELETE FROM tasks WHERE id = ? AND session = ?")?
                .execute(params![id.bytes(), no])?;
            return self.drop_partials("task", id.bytes());
        }
        let old = things::task(self.conn, Some(no), id)?;
        let mut row = old.unwrap_or_else(|| TaskRow {
            id,
            no,
            first: seq,
            status: String::new(),
            ord: i64::MAX,
            seqs: Vec::new(),
        });
        if let Some(status) = members.get("status") {
            row.status = status.as_str().unwrap_or_default().to_owned();
        }
        if let Some(order) = members.get("order") {
            row.ord = order.as_i64().unwrap_or(i64::MAX);
        }
        row.seqs.push(seq);
        things::prune(self.conn, self.session, "task", &mut row.seqs)?;
        if row.is_final() {
            self.drop_partials("task", id.bytes())?;
        }
        things::write_task(self.conn, &row)
    }

    fn thing(
        &mut self,
        seq: u64,
        (kind, key): (&str, &str),
        members: &Members,
    ) -> Result<(), Trouble> {
        let no = self.session.no;
        if removes(members) {
            self.conn
                .prepare_cached("DELETE FROM things WHERE session = ? AND kind = ? AND key = ?")?
                .execute(params![no, kind, key])?;
            return Ok(());
        }
        let old = things::thing(self.conn, no, (kind, key))?;
        let known = old.is_some();
        let mut row = old.unwrap_or_else(|| ThingRow {
            no,
            kind: kind.to_owned(),
            key: key.to_owned(),
            first: seq,
            status: None,
            live: false,
            seqs: None,
            thing: None,
        });
        if let Some(status) = members.get("status") {
            row.status = status.as_str().map(ToOwned::to_owned);
        }
        row.live = is_live(kind, row.status.as_deref());
        if kind == "thread" {
            let mut thing =
                if known { row.members(self.conn, self.session)? } else { Members::new() };
            merge(&mut thing, members);
            row.thing = Some(serde_json::to_string(&thing).expect("members are plain JSON"));
        } else {
            let seqs = row.seqs.get_or_insert_default();
            seqs.push(seq);
            things::prune(self.conn, self.session, kind, seqs)?;
        }
        things::write_thing(self.conn, &row)
    }

    fn clear(&self, event: &Event) -> Result<(), Trouble> {
        let workspace = event.data.get("workspace").and_then(Value::as_str).unwrap_or_default();
        let row = ThingRow {
            no: self.session.no,
            kind: CLEARED.to_owned(),
            key: workspace.to_owned(),
            first: event.seq,
            status: None,
            live: false,
            seqs: None,
            thing: Some(format!("{{\"at\":{}}}", event.at.0)),
        };
        things::write_thing(self.conn, &row)
    }

    /// Writes the session's own row.
    pub(super) fn finish(
        self,
        end: (u64, Hash),
        old: Option<&SessionRow>,
    ) -> Result<SessionRow, Trouble> {
        let row = self.row(end, old)?;
        sessions::write(self.conn, &row, old)?;
        Ok(row)
    }

    /// The session's own row, which is not written yet.
    pub(super) fn row(
        &self,
        end: (u64, Hash),
        old: Option<&SessionRow>,
    ) -> Result<SessionRow, Trouble> {
        let live = match old {
            Some(old) if !self.tasks_changed => old.unsettled && self.had_live_task()?,
            _ => things::has_live_task(self.conn, self.session.no)?,
        };
        Ok(SessionRow::of(self.session, end, &self.members, live))
    }

    fn had_live_task(&self) -> Result<bool, Trouble> {
        things::has_live_task(self.conn, self.session.no)
    }
}

fn removes(members: &Members) -> bool {
    members.get("removed") == Some(&Value::Bool(true))
}

/// Whether an actor needs a thing of this kind and status to go on.
fn is_live(kind: &str, status: Option<&str>) -> bool {
    match kind {
        "thread" | "goal" | "plan" | "note" => true,
        "approval" => status == Some("pending"),
        "tool_call" => !matches!(status, Some("done" | "failed" | "denied" | "unknown")),
        _ => false,
    }
}

/// Makes all projections of a session anew from its log.
pub(super) fn rebuild(conn: &Connection, no: i64) -> Result<Numbered, Trouble> {
    let id = id_in_log(conn, no)?;
    let session = Numbered { no, id };
    for table in ["tasks", "things", "message_rows", "usage"] {
        conn.execute(&format!("DELETE FROM {table} WHERE session = ?"), [no])?;
    }
    let mut fold = Fold::of(conn, session, Members::new());
    let mut chain = Chain::from(conn, session, 1)?;
    while let Some(entry) = chain.step()? {
        for event in entry.events(session)? {
            fold.apply(&event)?;
        }
    }
    let (hash, next) = chain.end();
    let last: Option<i64> =
        conn.query_row("SELECT max(last) FROM log WHERE session = ?", [no], |row| row.get(0))?;
    if last != Some(int(next - 1)) {
        return Err(session.damaged(next, "the event is missing"));
    }
    fold.finish((next - 1, hash), None)?;
    Ok(session)
}

/// The id that the session's own commits prove: the row that should say it is the one in doubt.
fn id_in_log(conn: &Connection, no: i64) -> Result<SessionId, Trouble> {
    let bad = || Trouble::Damaged(format!("session number {no} is damaged: its log is missing"));
    let (body, hash): (String, [u8; 32]) = conn
        .query_row("SELECT body, hash FROM log WHERE session = ? AND first = 1", [no], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .map_err(|_| bad())?;
    log::proven_id(&body, Hash(hash)).ok_or_else(bad)
}
