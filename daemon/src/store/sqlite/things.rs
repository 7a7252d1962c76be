//! Rows of tasks, messages and other things: which events of the log make each of them.

use rusqlite::{Connection, OptionalExtension, Row, params};
use sess_protocol::id::{MessageId, TaskId};
use sess_protocol::view::{Members, merge};

use super::importing::SEEN;
use super::log;
use super::rows::{Columns, Numbered, Sum, Trouble, count, int};

/// More events than this make one thing: those that say nothing any more are left out.
const SEQS_MAX: usize = 32;

pub(super) const TASK_COLUMNS: &str = "id, session, first, status, ord, seqs, crc";
pub(super) const THING_COLUMNS: &str = "session, kind, key, first, status, live, seqs, thing, crc";

/// Where a task stands and which events say it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TaskRow {
    /// Its id.
    pub(super) id: TaskId,
    /// The number of its session.
    pub(super) no: i64,
    /// The event in which it first appeared.
    pub(super) first: u64,
    /// Its status.
    pub(super) status: String,
    /// Its place in the queue.
    pub(super) ord: i64,
    /// The events that make it.
    pub(super) seqs: Vec<u64>,
}

impl TaskRow {
    fn sum(&self, seqs: &str) -> i64 {
        let sum = Sum::of("tasks").bytes(&self.id.bytes()).int(self.no).int(int(self.first));
        sum.text(&self.status).int(self.ord).text(seqs).done()
    }

    /// Reads a row that begins with [`TASK_COLUMNS`].
    pub(super) fn read(row: &Row<'_>) -> Result<Self, Trouble> {
        let no: i64 = row.get(1)?;
        let columns = || -> rusqlite::Result<(Self, String, i64)> {
            let mut it = Columns::of(row);
            let (id, no) = (TaskId::from_bytes(it.take()?), it.take()?);
            let (first, status, ord) = (count(it.take()?), it.take()?, it.take()?);
            let (text, crc) = (it.take::<String>()?, it.take()?);
            let seqs = serde_json::from_str(&text).unwrap_or_default();
            Ok((Self { id, no, first, status, ord, seqs }, text, crc))
        };
        match columns() {
            Ok((task, text, crc)) if task.sum(&text) == crc => Ok(task),
            _ => Err(Trouble::Stale(no, "tasks")),
        }
    }

    /// Whether nothing can follow.
    pub(super) fn is_final(&self) -> bool {
        !["queued", "running", "waiting"].contains(&self.status.as_str())
    }
}

/// The row of a task, of this session or of any that is there.
pub(super) fn task(
    conn: &Connection,
    no: Option<i64>,
    id: TaskId,
) -> Result<Option<TaskRow>, Trouble> {
    let own = if no.is_some() { "session = ?2" } else { SEEN };
    let sql = format!("SELECT {TASK_COLUMNS} FROM tasks WHERE id = ?1 AND {own}");
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = match no {
        Some(no) => statement.query(params![id.bytes(), no])?,
        None => statement.query([id.bytes()])?,
    };
    let found = rows.next()?.map(TaskRow::read).transpose()?;
    match found {
        Some(row) if row.id != id => Err(Trouble::Stale(row.no, "tasks")),
        other => Ok(other),
    }
}

/// Writes a task's row.
pub(super) fn write_task(conn: &Connection, row: &TaskRow) -> Result<(), Trouble> {
    let seqs = serde_json::to_string(&row.seqs).expect("numbers are plain JSON");
    let crc = row.sum(&seqs);
    conn.prepare_cached(
        "INSERT INTO tasks(id, session, first, status, ord, seqs, crc) VALUES(?, ?, ?, ?, ?, ?, ?) \
         ON CONFLICT DO UPDATE SET first = excluded.first, status = excluded.status, \
         ord = excluded.ord, seqs = excluded.seqs, crc = excluded.crc",
    )?
    .execute(params![
        row.id.bytes(),
        row.no,
        int(row.first),
        row.status,
        row.ord,
        seqs,
        crc
    ])?;
    Ok(())
}

/// Any other thing: small ones that change with every message are kept folded, the others are known
/// by their events.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ThingRow {
    /// The number of its session.
    pub(super) no: i64,
    /// Its kind.
    pub(super) kind: String,
    /// Its key.
    pub(super) key: String,
    /// The event in which it first appeared.
    pub(super) first: u64,
    /// Its status, if it has one.
    pub(super) status: Option<String>,
    /// Whether an actor needs it.
    pub(super) live: bool,
    /// The events that make it.
    pub(super) seqs: Option<Vec<u64>>,
    /// Its members, if they are kept folded.
    pub(super) thing: Option<String>,
}

impl ThingRow {
    fn sum(&self, seqs: Option<&str>) -> i64 {
        let sum = Sum::of("things").int(self.no).text(&self.kind).text(&self.key);
        let sum = sum.int(int(self.first)).maybe(self.status.as_deref().map(str::as_bytes));
        let sum = sum.int(self.live.into()).maybe(seqs.map(str::as_bytes));
        sum.maybe(self.thing.as_deref().map(str::as_bytes)).done()
    }

    /// Reads a row that begins with [`THING_COLUMNS`].
    pub(super) fn read(row: &Row<'_>) -> Result<Self, Trouble> {
        let no: i64 = row.get(0)?;
        let columns = || -> rusqlite::Result<(Self, Option<String>, i64)> {
            let mut it = Columns::of(row);
            let (no, kind, key) = (it.take()?, it.take()?, it.take()?);
            let (first, status, live) = (count(it.take()?), it.take()?, it.take()?);
            let (text, thing, crc) = (it.take::<Option<String>>()?, it.take()?, it.take()?);
            let seqs = text.as_deref().map(|it| serde_json::from_str(it).unwrap_or_default());
            Ok((Self { no, kind, key, first, status, live, seqs, thing }, text, crc))
        };
        match columns() {
            Ok((thing, text, crc)) if thing.sum(text.as_deref()) == crc => Ok(thing),
            _ => Err(Trouble::Stale(no, "things")),
        }
    }

    /// Its members.
    pub(super) fn members(&self, conn: &Connection, session: Numbered) -> Result<Members, Trouble> {
        match (&self.thing, &self.seqs) {
            (Some(thing), _) => {
                serde_json::from_str(thing).map_err(|_| Trouble::Stale(self.no, "things"))
            }
            (None, Some(seqs)) => folded(conn, session, &self.kind, seqs),
            (None, None) => Err(Trouble::Stale(self.no, "things")),
        }
    }
}

/// The row of a thing.
pub(super) fn thing(
    conn: &Connection,
    no: i64,
    (kind, key): (&str, &str),
) -> Result<Option<ThingRow>, Trouble> {
    let sql =
        format!("SELECT {THING_COLUMNS} FROM things WHERE session = ? AND kind = ? AND key = ?");
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query(params![no, kind, key])?;
    rows.next()?.map(ThingRow::read).transpose()
}

/// Writes a thing's row.
pub(super) fn write_thing(conn: &Connection, row: &ThingRow) -> Result<(), Trouble> {
    let seqs = row.seqs.as_ref().map(|it| serde_json::to_string(it).expect("plain JSON"));
    let crc = row.sum(seqs.as_deref());
    // The index of what is live is touched only when that changes: a page less to write.
    let kept = conn
        .prepare_cached(
            "UPDATE things SET first = ?, status = ?, seqs = ?, thing = ?, crc = ? \
             WHERE session = ? AND kind = ? AND key = ? AND live = ?",
        )?
        .execute(params![
            int(row.first),
            row.status,
            seqs,
            row.thing,
            crc,
            row.no,
            row.kind,
            row.key,
            row.live
        ])?;
    if kept > 0 {
        return Ok(());
    }
    conn.prepare_cached(
        "INSERT INTO things(session, kind, key, first, status, live, seqs, thing, crc) \
         VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET first = excluded.first, \
         status = excluded.status, live = excluded.live, seqs = excluded.seqs, \
         thing = excluded.thing, crc = excluded.crc",
    )?
    .execute(params![
        row.no,
        row.kind,
        row.key,
        int(row.first),
        row.status,
        row.live,
        seqs,
        row.thing,
        crc
    ])?;
    Ok(())
}

/// Where a message lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MessageRow {
    /// The number of its session.
    pub(super) no: i64,
    /// The event that appended it.
    pub(super) seq: u64,
    /// Its id.
    pub(super) id: MessageId,
    /// The event that appended the message before it on its path.
    pub(super) parent: Option<u64>,
}

/// What [`MessageRow::read`] reads.
pub(super) const MESSAGE_COLUMNS: &str = "session, seq, id, parent, crc";

impl MessageRow {
    fn sum(&self) -> i64 {
        let sum = Sum::of("message_rows").int(self.no).int(int(self.seq)).bytes(&self.id.bytes());
        sum.int(self.parent.map_or(-1, int)).done()
    }

    /// Reads [`MESSAGE_COLUMNS`].
    pub(super) fn read(row: &Row<'_>) -> Result<Self, Trouble> {
        let no: i64 = row.get(0)?;
        let columns = || -> rusqlite::Result<(Self, i64)> {
            let mut it = Columns::of(row);
            let (no, seq, id) = (it.take()?, count(it.take()?), MessageId::from_bytes(it.take()?));
            let parent = it.take::<Option<i64>>()?.map(count);
            Ok((Self { no, seq, id, parent }, it.take()?))
        };
        match columns() {
            Ok((message, crc)) if message.sum() == crc => Ok(message),
            _ => Err(Trouble::Stale(no, "message_rows")),
        }
    }
}

/// The row of a message of a session.
pub(super) fn message(
    conn: &Connection,
    no: i64,
    id: MessageId,
) -> Result<Option<MessageRow>, Trouble> {
    let mut statement = conn.prepare_cached(&format!(
        "SELECT {MESSAGE_COLUMNS} FROM message_rows WHERE id = ? AND session = ?"
    ))?;
    let mut rows = statement.query(params![id.bytes(), no])?;
    rows.next()?.map(MessageRow::read).transpose()
}

/// The row of the message that this event appended.
pub(super) fn message_at(conn: &Connection, no: i64, seq: u64) -> Result<MessageRow, Trouble> {
    let mut statement = conn.prepare_cached(&format!(
        "SELECT {MESSAGE_COLUMNS} FROM message_rows WHERE session = ? AND seq = ?"
    ))?;
    let mut rows = statement.query(params![no, int(seq)])?;
    let found = rows.next()?.map(MessageRow::read).transpose()?;
    found.ok_or(Trouble::Stale(no, "message_rows"))
}

/// Writes a message's row.
pub(super) fn write_message(conn: &Connection, row: &MessageRow) -> Result<(), Trouble> {
    conn.prepare_cached(
        "INSERT INTO message_rows(session, seq, id, parent, crc) VALUES(?, ?, ?, ?, ?)",
    )?
    .execute(params![row.no, int(row.seq), row.id.bytes(), row.parent.map(int), row.sum()])?;
    Ok(())
}

/// A thing as its events make it.
pub(super) fn folded(
    conn: &Connection,
    session: Numbered,
    kind: &str,
    seqs: &[u64],
) -> Result<Members, Trouble> {
    let mut members = Members::new();
    for seq in seqs {
        merge(&mut members, &log::held(conn, session, *seq)?.members(session, *seq, kind)?);
    }
    Ok(members)
}

/// Leaves out of many events that make a thing those whose every member was replaced
/// since, so that a thing that changes for ever is still read in constant time.
pub(super) fn prune(
    conn: &Connection,
    session: Numbered,
    kind: &str,
    seqs: &mut Vec<u64>,
) -> Result<(), Trouble> {
    if seqs.len() <= SEQS_MAX {
        return Ok(());
    }
    let (mut kept, mut said) = (Vec::new(), std::collections::HashSet::new());
    for seq in seqs.iter().rev() {
        let members = log::held(conn, session, *seq)?.members(session, *seq, kind)?;
        let fresh = members.into_iter().filter(|(name, _)| said.insert(name.clone())).count();
        if fresh > 0 {
            kept.push(*seq);
        }
    }
    kept.reverse();
    *seqs = kept;
    Ok(())
}

/// Whether the session has a task that is not final.
pub(super) fn has_live_task(conn: &Connection, no: i64) -> Result<bool, Trouble> {
    let found: Option<i64> = conn
        .prepare_cached(
            "SELECT 1 FROM tasks WHERE session = ? \
             AND status IN ('queued', 'running', 'waiting') LIMIT 1",
        )?
        .query_row([no], |row| row.get(0))
        .optional()?;
    Ok(found.is_some())
}
