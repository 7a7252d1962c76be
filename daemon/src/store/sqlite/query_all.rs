//! Questions over all sessions: lists, tasks, the active one, blobs, sums.

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::Value;
use sess_protocol::id::{MessageId, SessionId, TaskId};
use sess_protocol::view::Members;

use super::importing::{SEEN, SEEN_BLOB};
use super::projection::CLEARED;
use super::rows::{Numbered, Trouble};
use super::sessions::{self, COLUMNS, SessionRow};
use super::things::{self, TASK_COLUMNS, TaskRow};
use super::{query_session, rows};
use crate::store::{Counts, Hash, Place, SessionFilter, TaskFilter};

/// What a query over sessions does with each: keep it, leave it out, or end.
enum Verdict {
    Keep,
    Leave,
    End,
}

/// The rows of sessions, latest first, each proved before it is looked at: a damaged one must not
/// be left out in silence.
fn latest(
    conn: &Connection,
    behind: Option<(i64, SessionId)>,
    unsettled: bool,
    mut verdict: impl FnMut(&SessionRow) -> Result<Verdict, Trouble>,
) -> Result<Vec<SessionRow>, Trouble> {
    let only = if unsettled { "AND unsettled = 1" } else { "" };
    let sql = format!(
        "SELECT {COLUMNS} FROM sessions WHERE (updated_at, id) < (?, ?) {only} \
         ORDER BY updated_at DESC, id DESC"
    );
    let (moment, id) = behind.unwrap_or((i64::MAX, SessionId(u128::MAX)));
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query(params![moment, id.bytes()])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let row = SessionRow::read(row)?;
        if row.session.id == SessionId::GLOBAL {
            continue;
        }
        match verdict(&row)? {
            Verdict::Keep => found.push(row),
            Verdict::Leave => {}
            Verdict::End => break,
        }
    }
    Ok(found)
}

/// Sessions, latest first.
pub(super) fn sessions(conn: &Connection, filter: &SessionFilter) -> Result<Vec<Members>, Trouble> {
    let text = filter.text.as_ref().map(|it| it.to_lowercase());
    let mut left = filter.limit;
    let rows = latest(conn, filter.behind, filter.unsettled, |row| {
        if left == 0 {
            return Ok(Verdict::End);
        }
        if !fits(row, filter) || !fits_members(row, filter.tag.as_deref(), text.as_deref())? {
            return Ok(Verdict::Leave);
        }
        left -= 1;
        Ok(Verdict::Keep)
    })?;
    rows.iter().map(SessionRow::members).collect()
}

fn fits(row: &SessionRow, filter: &SessionFilter) -> bool {
    let [status, scope, agent, _] = &row.words;
    let empty = !row.spoken && filter.hide_empty_before.is_some_and(|it| row.created_at < it);
    !empty
        && filter.status.is_none_or(|it| is_word(it, status))
        && filter.scope.is_none_or(|it| is_word(it, scope))
        && filter.agent.as_ref().is_none_or(|it| it == agent)
        && filter.workspace.as_ref().is_none_or(|it| Some(it) == row.workspace.as_ref())
}

fn is_word(value: impl serde::Serialize, word: &str) -> bool {
    serde_json::to_value(value).is_ok_and(|it| it == word)
}

fn fits_members(row: &SessionRow, tag: Option<&str>, text: Option<&str>) -> Result<bool, Trouble> {
    if tag.is_none() && text.is_none() {
        return Ok(true);
    }
    let members = row.members()?;
    let tagged = tag.is_none_or(|tag| {
        let tags = members.get("tags").and_then(Value::as_array);
        tags.is_some_and(|it| it.iter().any(|it| it == tag))
    });
    let said = text.is_none_or(|text| {
        let has = |name: &str| {
            let value = members.get(name).and_then(Value::as_str);
            value.is_some_and(|it| it.to_lowercase().contains(text))
        };
        has("title") || has("description")
    });
    Ok(tagged && said)
}

/// Sessions whose hex digits begin like this.
pub(super) fn by_prefix(
    conn: &Connection,
    digits: &str,
    limit: u32,
) -> Result<Vec<SessionId>, Trouble> {
    let bound = |fill: char| {
        let text: String = digits.chars().chain(std::iter::repeat(fill)).take(32).collect();
        u128::from_str_radix(&text, 16).ok().map(u128::to_be_bytes)
    };
    let plain = digits.len() <= 32 && digits.bytes().all(|it| it.is_ascii_hexdigit());
    let (Some(from), Some(to), true) = (bound('0'), bound('f'), plain) else {
        return Ok(Vec::new());
    };
    let mut statement = conn.prepare_cached(
        "SELECT id FROM sessions WHERE id BETWEEN ? AND ? AND id <> zeroblob(16) \
         ORDER BY id LIMIT ?",
    )?;
    let found = statement.query_map(params![from, to, limit], |row| row.get(0))?;
    found.map(|it| Ok(SessionId::from_bytes(it?))).collect()
}

/// Sessions with exactly this title, latest first.
pub(super) fn by_title(
    conn: &Connection,
    title: &str,
    limit: u32,
) -> Result<Vec<SessionId>, Trouble> {
    let sql = format!(
        "SELECT {COLUMNS} FROM sessions WHERE title = ? ORDER BY updated_at DESC, id DESC LIMIT ?"
    );
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query(params![title, limit])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let row = SessionRow::read(row)?;
        if row.session.id != SessionId::GLOBAL {
            found.push(row.session.id);
        }
    }
    Ok(found)
}

/// The session made active last. Found in an index that is written anyway, so that no commit pays
/// for one more; the row it names is proved.
pub(super) fn active(
    conn: &Connection,
    workspace: Option<&str>,
) -> Result<Option<SessionId>, Trouble> {
    let cleared = cleared_at(conn, workspace)?;
    let found: Option<i64> = conn
        .prepare_cached(
            "SELECT no FROM sessions INDEXED BY sessions_latest \
             WHERE active_at > ?1 AND id <> zeroblob(16) AND ifnull(workspace = ?2, ?2 IS NULL) \
             ORDER BY active_at DESC, updated_at DESC, id DESC LIMIT 1",
        )?
        .query_row(params![cleared, workspace], |row| row.get(0))
        .optional()?;
    let Some(no) = found else { return Ok(None) };
    let row = sessions::numbered(conn, no)?.ok_or(Trouble::Stale(no, "sessions"))?;
    Ok(Some(row.session.id))
}

fn cleared_at(conn: &Connection, workspace: Option<&str>) -> Result<i64, Trouble> {
    let Some(global) = sessions::number(conn, SessionId::GLOBAL)? else { return Ok(i64::MIN) };
    let row = things::thing(conn, global.no, (CLEARED, workspace.unwrap_or_default()))?;
    let Some(row) = row else { return Ok(i64::MIN) };
    let members = row.members(conn, global)?;
    members.get("at").and_then(Value::as_i64).ok_or(Trouble::Stale(global.no, "things"))
}

fn session_of(conn: &Connection, row: &TaskRow) -> Result<Numbered, Trouble> {
    let found = sessions::numbered(conn, row.no)?;
    Ok(found.ok_or(Trouble::Stale(row.no, "sessions"))?.session)
}

/// A task with its session.
pub(super) fn task(conn: &Connection, id: TaskId) -> Result<Option<(SessionId, Members)>, Trouble> {
    let Some(row) = things::task(conn, None, id)? else { return Ok(None) };
    let session = session_of(conn, &row)?;
    let members = things::folded(conn, session, "task", &row.seqs)?;
    Ok(Some((session.id, members)))
}

/// The answer that a task's final event appended.
pub(super) fn answer(
    conn: &Connection,
    id: TaskId,
) -> Result<Option<Box<serde_json::value::RawValue>>, Trouble> {
    let Some(row) = things::task(conn, None, id)?.filter(TaskRow::is_final) else {
        return Ok(None);
    };
    let session = session_of(conn, &row)?;
    let Some(seq) = row.seqs.last().copied() else { return Ok(None) };
    super::log::held(conn, session, seq)?.thing_if_any(session, seq, "message")
}

/// Tasks: those that are not final in their order, then final ones, newest first.
pub(super) fn tasks(conn: &Connection, filter: &TaskFilter) -> Result<Vec<Members>, Trouble> {
    let no = match filter.session {
        Some(id) => match query_session::known(conn, id)? {
            Some(session) => Some(session.no),
            None => return Ok(Vec::new()),
        },
        None => None,
    };
    let wanted = |row: &TaskRow| filter.status.is_none_or(|it| is_word(it, &row.status));
    let limit = filter.limit as usize;
    let behind = filter.behind.map(|id| things::task(conn, no, id)).transpose()?.flatten();
    let mut rows = Vec::new();
    if behind.as_ref().is_none_or(|it| !it.is_final()) {
        rows = query_session::live_tasks(conn, no)?;
        rows.sort_by_key(|it| (it.status == "queued", it.ord, it.id));
        if let Some(behind) = &behind {
            let place = rows.iter().position(|it| it.id == behind.id).map_or(0, |it| it + 1);
            rows.drain(..place);
        }
        rows.retain(wanted);
        rows.truncate(limit);
    }
    if rows.len() < limit && filter.status.is_none_or(sess_protocol::things::TaskStatus::is_final) {
        let below = behind.filter(TaskRow::is_final).map_or(TaskId(u128::MAX), |it| it.id);
        final_tasks(conn, no, below, |row| {
            if wanted(&row) {
                rows.push(row);
            }
            rows.len() < limit
        })?;
    }
    rows.iter().map(|row| things::folded(conn, session_of(conn, row)?, "task", &row.seqs)).collect()
}

fn final_tasks(
    conn: &Connection,
    no: Option<i64>,
    below: TaskId,
    mut take: impl FnMut(TaskRow) -> bool,
) -> Result<(), Trouble> {
    let own = if no.is_some() { "session = ?2" } else { SEEN };
    let sql = format!("SELECT {TASK_COLUMNS} FROM tasks WHERE {own} AND id < ?1 ORDER BY id DESC");
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = match no {
        Some(no) => statement.query(params![below.bytes(), no])?,
        None => statement.query([below.bytes()])?,
    };
    while let Some(row) = rows.next()? {
        let row = TaskRow::read(row)?;
        if row.is_final() && !take(row) {
            break;
        }
    }
    Ok(())
}

/// What an id names.
pub(super) fn place(conn: &Connection, id: &str) -> Result<Option<Place>, Trouble> {
    if let Ok(task) = id.parse::<TaskId>() {
        let Some(row) = things::task(conn, None, task)? else { return Ok(None) };
        return Ok(Some(Place::Task(session_of(conn, &row)?.id)));
    }
    let Ok(message) = id.parse::<MessageId>() else { return Ok(None) };
    let no: Option<i64> = conn
        .prepare_cached(&format!(
            "SELECT session FROM message_rows WHERE id = ? AND {SEEN} LIMIT 1"
        ))?
        .query_row([message.bytes()], |row| row.get(0))
        .optional()?;
    let Some(no) = no else { return Ok(None) };
    let row = sessions::numbered(conn, no)?.ok_or(Trouble::Stale(no, "sessions"))?;
    Ok(Some(Place::Message(row.session.id)))
}

/// The greatest id of those that grow with time.
pub(super) fn newest_id(conn: &Connection, until: u128) -> Result<Option<u128>, Trouble> {
    let found: Option<[u8; 16]> = conn
        .prepare_cached(
            "SELECT max(id) FROM (
               SELECT max(id) AS id FROM tasks WHERE id <= ?1
               UNION ALL SELECT max(id) FROM message_rows WHERE id <= ?1
               UNION ALL SELECT max(message) FROM partials WHERE message <= ?1)",
        )?
        .query_row([until.to_be_bytes()], |row| row.get(0))?;
    Ok(found.map(u128::from_be_bytes))
}

/// A piece of a blob, and the bytes of the whole.
pub(super) fn blob(
    conn: &Connection,
    hash: Hash,
    (offset, length): (u64, u64),
) -> Result<Option<(Vec<u8>, u64)>, Trouble> {
    let sql = format!("SELECT b.data FROM blobs b WHERE b.hash = ? AND {SEEN_BLOB}");
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query([hash.0])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let bad = |_| Trouble::Damaged(format!("the blob `sha256:{hash}` is damaged"));
    let data = row.get_ref(0)?.as_blob().map_err(|_| bad(()))?;
    if Hash::of(data) != hash {
        return Err(bad(()));
    }
    let whole = data.len() as u64;
    let from = usize::try_from(offset.min(whole)).unwrap_or(data.len());
    let to = usize::try_from(offset.saturating_add(length).min(whole)).unwrap_or(data.len());
    Ok(Some((data[from..to].to_vec(), whole)))
}

/// Sums; the bytes on disk are the caller's to add.
pub(super) fn counts(conn: &Connection) -> Result<Counts, Trouble> {
    let sessions: i64 = conn
        .prepare_cached("SELECT count(*) FROM sessions WHERE id <> zeroblob(16)")?
        .query_row((), |row| row.get(0))?;
    let mut counts = Counts { sessions: rows::count(sessions), ..Counts::default() };
    for task in query_session::live_tasks(conn, None)? {
        match task.status.as_str() {
            "running" => counts.running += 1,
            "queued" => counts.queued += 1,
            _ => counts.waiting += 1,
        }
    }
    Ok(counts)
}
