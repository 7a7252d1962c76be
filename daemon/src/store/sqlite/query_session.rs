//! Questions about one session: all an actor needs, its messages, its unfinished text.

use std::collections::BTreeMap;

use rusqlite::{Connection, Row, params};
use serde_json::value::RawValue;
use sess_protocol::id::{MessageId, SessionId, TaskId};
use sess_protocol::view::View;

use super::change::partial_sum;
use super::importing::SEEN;
use super::log;
use super::rows::{Columns, Numbered, Trouble, count, int};
use super::sessions;
use super::things::{self, MessageRow, TASK_COLUMNS, THING_COLUMNS, TaskRow, ThingRow};
use crate::store::{Hash, Loaded, MessagePage, Messages, PartialText, StoredCommit, StoredEvent};

/// The kinds that an actor holds, if they are live.
const HELD: [&str; 6] = ["thread", "goal", "plan", "note", "approval", "tool_call"];

/// A page of messages ends behind so many bytes: more would not fit into an answer.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// What is new of each block: its place, whether it is reasoning, and the text.
type Pieces = Vec<(u32, bool, String)>;

/// Number and id of a session that is there. One that an index does not find is looked for in the
/// table itself: a damaged index must not make it vanish.
pub(super) fn known(conn: &Connection, id: SessionId) -> Result<Option<Numbered>, Trouble> {
    if let Some(session) = sessions::number(conn, id)? {
        return Ok(Some(session));
    }
    let sql = "SELECT no FROM sessions NOT INDEXED WHERE id = ?";
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query([id.bytes()])?;
    Ok(match rows.next()? {
        Some(row) => Some(Numbered { no: row.get(0)?, id }),
        None => None,
    })
}

/// Loads a session.
pub(super) fn load(conn: &Connection, id: SessionId) -> Result<Option<Loaded>, Trouble> {
    let mut found = sessions::find(conn, id)?;
    if found.is_none()
        && let Some(session) = known(conn, id)?
    {
        found = sessions::numbered(conn, session.no)?;
    }
    let Some(row) = found else {
        let empty = Loaded { view: View::default(), hash: Hash::default(), partial: None };
        return Ok(Some(empty).filter(|_| id == SessionId::GLOBAL));
    };
    let session = row.session;
    let mut view = View::default();
    view.change("session", &row.members()?);
    for thing in live_things(conn, session.no)? {
        if HELD.contains(&thing.kind.as_str()) {
            view.change(&thing.kind, &thing.members(conn, session)?);
        }
    }
    for task in live_tasks(conn, Some(session.no))? {
        view.change("task", &things::folded(conn, session, "task", &task.seqs)?);
    }
    Ok(Some(Loaded { view, hash: row.head, partial: partial(conn, session)? }))
}

fn live_things(conn: &Connection, no: i64) -> Result<Vec<ThingRow>, Trouble> {
    let sql = format!("SELECT {THING_COLUMNS} FROM things WHERE session = ? AND live = 1");
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query([no])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(ThingRow::read(row)?);
    }
    found.sort_by_key(|it| it.first);
    Ok(found)
}

/// The tasks that are not final, in the order in which they first appeared.
pub(super) fn live_tasks(conn: &Connection, no: Option<i64>) -> Result<Vec<TaskRow>, Trouble> {
    let own = if no.is_some() { "session = ?" } else { SEEN };
    let sql = format!(
        "SELECT {TASK_COLUMNS} FROM tasks WHERE {own} AND status IN ('queued', 'running', 'waiting')"
    );
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query(rusqlite::params_from_iter(no))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(TaskRow::read(row)?);
    }
    found.sort_by_key(|it| (it.first, it.id));
    Ok(found)
}

/// The unfinished message. Text behind a damaged piece is left out, since it is no longer known
/// where it belongs; what is before it is right.
fn partial(conn: &Connection, session: Numbered) -> Result<Option<PartialText>, Trouble> {
    let mut statement = conn.prepare_cached(
        "SELECT session, task, message, pieces, crc FROM partials WHERE session = ? ORDER BY id",
    )?;
    let mut rows = statement.query([session.no])?;
    let mut found: Option<(TaskId, MessageId)> = None;
    let mut blocks: BTreeMap<u32, (bool, String)> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let Some((task, message, pieces)) = piece(row) else {
            tracing::warn!(session = %session.id, "unfinished text damaged, cut there");
            break;
        };
        if found.replace((task, message)).is_some_and(|it| it != (task, message)) {
            blocks.clear();
        }
        for (index, reasoning, text) in pieces {
            let block = blocks.entry(index).or_insert_with(|| (reasoning, String::new()));
            block.1.push_str(&text);
        }
    }
    Ok(found.map(|(task, message)| PartialText {
        task,
        message,
        blocks: blocks.into_values().collect(),
    }))
}

/// Reads `session, task, message, pieces, crc` of a kept piece, if it is whole.
fn piece(row: &Row<'_>) -> Option<(TaskId, MessageId, Pieces)> {
    let mut it = Columns::of(row);
    let no: i64 = it.take().ok()?;
    let [task, message]: [[u8; 16]; 2] = [it.take().ok()?, it.take().ok()?];
    let (text, crc): (String, i64) = (it.take().ok()?, it.take().ok()?);
    if partial_sum(no, &task, &message, &text) != crc {
        return None;
    }
    let pieces = serde_json::from_str(&text).ok()?;
    Some((TaskId::from_bytes(task), MessageId::from_bytes(message), pieces))
}

/// The events behind `after`, checked against the chain.
pub(super) fn events(
    conn: &Connection,
    id: SessionId,
    (after, last): (u64, u64),
    bytes: usize,
) -> Result<Vec<StoredEvent>, Trouble> {
    let Some(session) = known(conn, id)? else { return Ok(Vec::new()) };
    let Some(row) = sessions::numbered(conn, session.no)? else { return Ok(Vec::new()) };
    let found = log::events(conn, session, (after, last.min(row.seq)), bytes)?;
    if let Some(end) = found.last().filter(|it| it.seq == row.seq)
        && end.mark != row.head.mark()
    {
        return Err(session.damaged(end.seq, "the last commit is not the one that was stored"));
    }
    Ok(found)
}

/// The mark of the commit that holds an event.
pub(super) fn mark(conn: &Connection, id: SessionId, seq: u64) -> Result<Option<String>, Trouble> {
    let Some(session) = known(conn, id)? else { return Ok(None) };
    Ok(log::holding(conn, session, seq)?.map(|it| it.hash.mark()))
}

fn message_row(
    conn: &Connection,
    session: Numbered,
    id: MessageId,
) -> Result<Option<MessageRow>, Trouble> {
    if let Some(row) = things::message(conn, session.no, id)? {
        return Ok(Some(row));
    }
    let mut statement = conn
        .prepare_cached("SELECT seq FROM message_rows NOT INDEXED WHERE session = ? AND id = ?")?;
    let mut rows = statement.query(params![session.no, id.bytes()])?;
    match rows.next()? {
        Some(row) => things::message_at(conn, session.no, count(row.get(0)?)).map(Some),
        None => Ok(None),
    }
}

fn json(conn: &Connection, session: Numbered, row: &MessageRow) -> Result<Box<RawValue>, Trouble> {
    let raw = log::held(conn, session, row.seq)?.thing(session, row.seq, "message")?;
    #[derive(serde::Deserialize)]
    struct Named {
        id: MessageId,
    }
    match serde_json::from_str::<Named>(raw.get()) {
        Ok(named) if named.id == row.id => Ok(raw),
        _ => Err(Trouble::Stale(session.no, "message_rows")),
    }
}

/// One message.
pub(super) fn message(
    conn: &Connection,
    id: SessionId,
    message: MessageId,
) -> Result<Option<Box<RawValue>>, Trouble> {
    let Some(session) = known(conn, id)? else { return Ok(None) };
    let row = message_row(conn, session, message)?;
    row.map(|it| json(conn, session, &it)).transpose()
}

/// A page of the messages of a path.
pub(super) fn messages(
    conn: &Connection,
    id: SessionId,
    page: MessagePage,
) -> Result<Option<Messages>, Trouble> {
    let Some(session) = known(conn, id)? else { return Ok(None) };
    let bound = |id: Option<MessageId>| match id {
        Some(id) => message_row(conn, session, id).map(|it| it.map(Some)),
        None => Ok(Some(None)),
    };
    let (Some(Some(head)), Some(before), Some(after)) =
        (bound(Some(page.head))?, bound(page.before)?, bound(page.after)?)
    else {
        return Ok(None);
    };
    let start = match before {
        Some(before) => before.parent,
        None => Some(head.seq),
    };
    let found = match after {
        Some(after) => match behind(conn, session.no, (start, after.seq), page.limit)? {
            Some(found) => found,
            None => return Ok(None),
        },
        None => newest(conn, session.no, start, page.limit)?,
    };
    let (rows, more) = found;
    let newer = page.after.is_some();
    let (mut messages, mut bytes) = (Vec::with_capacity(rows.len()), 0);
    // Those that are asked for first are read first: what does not fit is not read at all.
    let place = |n: usize| if newer { n } else { rows.len() - 1 - n };
    for n in 0..rows.len() {
        if bytes >= PAGE_BYTES {
            break;
        }
        let message = json(conn, session, &rows[place(n)])?;
        bytes += message.get().len();
        messages.push(message);
    }
    let more = more || messages.len() < rows.len();
    if !newer {
        messages.reverse();
    }
    Ok(Some(Messages { messages, more }))
}

/// The newest of a path, oldest first, and whether it goes on before them.
fn newest(
    conn: &Connection,
    no: i64,
    start: Option<u64>,
    limit: u32,
) -> Result<(Vec<MessageRow>, bool), Trouble> {
    let (mut next, mut rows) = (start, Vec::new());
    while let Some(seq) = next {
        if rows.len() >= limit as usize {
            break;
        }
        let row = step(conn, no, seq)?;
        next = row.parent;
        rows.push(row);
    }
    rows.reverse();
    Ok((rows, next.is_some()))
}

/// The oldest of a path behind this message, and whether it goes on behind them. None if the path
/// does not lead there.
fn behind(
    conn: &Connection,
    no: i64,
    (start, after): (Option<u64>, u64),
    limit: u32,
) -> Result<Option<(Vec<MessageRow>, bool)>, Trouble> {
    let (mut next, mut rows) = (start, std::collections::VecDeque::new());
    let mut more = false;
    while let Some(seq) = next.filter(|it| *it > after) {
        let row = step(conn, no, seq)?;
        next = row.parent;
        rows.push_front(row);
        if rows.len() > limit as usize {
            rows.pop_back();
            more = true;
        }
    }
    // `before` may itself be the one that follows `after`, or lie before it: nothing is between.
    let leads_there =
        next == Some(after) || (rows.is_empty() && start.is_none_or(|it| it <= after));
    Ok(Some((rows.into(), more)).filter(|_| leads_there))
}

/// A step down a path; a path only ever leads to older messages.
fn step(conn: &Connection, no: i64, seq: u64) -> Result<MessageRow, Trouble> {
    let row = things::message_at(conn, no, seq)?;
    if row.parent.is_some_and(|parent| int(parent) >= int(seq)) {
        return Err(Trouble::Stale(no, "message_rows"));
    }
    Ok(row)
}

/// The commits behind the one that ends with `after`.
pub(super) fn commits(
    conn: &Connection,
    id: SessionId,
    after: u64,
    bytes: usize,
) -> Result<Vec<StoredCommit>, Trouble> {
    let Some(session) = known(conn, id)? else { return Ok(Vec::new()) };
    log::commits(conn, session, after, bytes)
}
