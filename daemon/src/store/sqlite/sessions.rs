//! The row of a session: all its members, folded, beside the columns that queries look at.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::Value;
use sess_protocol::id::SessionId;
use sess_protocol::time::Timestamp;
use sess_protocol::view::Members;

use super::rows::{Columns, Numbered, Sum, Trouble, count, int};
use crate::store::Hash;

pub(super) const COLUMNS: &str = "no, id, seq, head, updated_at, active_at, created_at, status, \
     scope, agent, workspace, title, spoken, unsettled, thing, crc";

/// A session as its row says it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SessionRow {
    /// Its number and id.
    pub(super) session: Numbered,
    /// The number of its last event.
    pub(super) seq: u64,
    /// The hash of its last commit.
    pub(super) head: Hash,
    /// When it last changed.
    pub(super) updated_at: i64,
    /// When it was last made the active one; 0 if never.
    pub(super) active_at: i64,
    /// When it was made.
    pub(super) created_at: i64,
    /// Its members `status, scope, agent` and `title`.
    pub(super) words: [String; 4],
    /// The path of its workspace.
    pub(super) workspace: Option<String>,
    /// Whether somebody spoke in it.
    pub(super) spoken: bool,
    /// Whether it has a lock, a task that is not final, or goes with its creator.
    pub(super) unsettled: bool,
    /// All its members as compact JSON.
    pub(super) thing: String,
}

fn moment(members: &Members, name: &str) -> i64 {
    let text = members.get(name).and_then(Value::as_str);
    text.and_then(|it| it.parse::<Timestamp>().ok()).map_or(0, |it| it.0)
}

fn word(members: &Members, name: &str) -> String {
    members.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

impl SessionRow {
    /// The row that these members give.
    pub(super) fn of(
        session: Numbered,
        (seq, head): (u64, Hash),
        members: &Members,
        live_tasks: bool,
    ) -> Self {
        let some = |name: &str| members.get(name).and_then(Value::as_u64).unwrap_or(0) > 0;
        let workspace = members.get("workspace").and_then(|it| it.get("path"));
        let held =
            members.contains_key("lock") || members.get("ephemeral") == Some(&Value::Bool(true));
        Self {
            session,
            seq,
            head,
            updated_at: moment(members, "updated_at"),
            active_at: moment(members, "active_at"),
            created_at: moment(members, "created_at"),
            words: ["status", "scope", "agent", "title"].map(|name| word(members, name)),
            workspace: workspace.and_then(Value::as_str).map(ToOwned::to_owned),
            spoken: some("messages") || some("tasks"),
            unsettled: held || live_tasks,
            thing: serde_json::to_string(members).expect("members are plain JSON"),
        }
    }

    fn sum(&self) -> i64 {
        let mut sum = Sum::of("sessions").int(self.session.no).bytes(&self.session.id.bytes());
        sum = sum.int(int(self.seq)).bytes(&self.head.0);
        for moment in [self.updated_at, self.active_at, self.created_at] {
            sum = sum.int(moment);
        }
        for word in &self.words {
            sum = sum.text(word);
        }
        sum = sum.maybe(self.workspace.as_deref().map(str::as_bytes));
        sum.int(self.spoken.into()).int(self.unsettled.into()).text(&self.thing).done()
    }

    /// Reads a row that begins with [`COLUMNS`].
    pub(super) fn read(row: &Row<'_>) -> Result<Self, Trouble> {
        let no: i64 = row.get(0)?;
        match Self::columns(row) {
            Ok((read, crc)) if read.sum() == crc => Ok(read),
            _ => Err(Trouble::Stale(no, "sessions")),
        }
    }

    fn columns(row: &Row<'_>) -> rusqlite::Result<(Self, i64)> {
        let mut it = Columns::of(row);
        let session = Numbered { no: it.take()?, id: SessionId::from_bytes(it.take()?) };
        let (seq, head) = (count(it.take()?), it.hash()?);
        let [updated_at, active_at, created_at] = [it.take()?, it.take()?, it.take()?];
        let (status, scope, agent) = (it.take()?, it.take()?, it.take()?);
        let (workspace, title) = (it.take()?, it.take()?);
        let words = [status, scope, agent, title];
        let (spoken, unsettled) = (it.take()?, it.take()?);
        let (thing, crc) = (it.take()?, it.take()?);
        #[rustfmt::skip]
        let read = Self {
            session, seq, head, updated_at, active_at, created_at,
            words, workspace, spoken, unsettled, thing,
        };
        Ok((read, crc))
    }

    /// The members, read.
    pub(super) fn members(&self) -> Result<Members, Trouble> {
        serde_json::from_str(&self.thing).map_err(|_| Trouble::Stale(self.session.no, "sessions"))
    }
}

/// The row of the session with this id.
pub(super) fn find(conn: &Connection, id: SessionId) -> Result<Option<SessionRow>, Trouble> {
    let sql = format!("SELECT {COLUMNS} FROM sessions WHERE id = ?");
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query([id.bytes()])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let found = SessionRow::read(row)?;
    if found.session.id == id {
        Ok(Some(found))
    } else {
        Err(Trouble::Stale(found.session.no, "sessions"))
    }
}

/// The row of the session with this number.
pub(super) fn numbered(conn: &Connection, no: i64) -> Result<Option<SessionRow>, Trouble> {
    let sql = format!("SELECT {COLUMNS} FROM sessions WHERE no = ?");
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query([no])?;
    rows.next()?.map(SessionRow::read).transpose()
}

/// Number and id of a session, for those who need no more.
pub(super) fn number(conn: &Connection, id: SessionId) -> Result<Option<Numbered>, Trouble> {
    let no: Option<i64> = conn
        .prepare_cached("SELECT no FROM sessions WHERE id = ?")?
        .query_row([id.bytes()], |row| row.get(0))
        .optional()?;
    Ok(no.map(|no| Numbered { no, id }))
}

/// The next number of a session. It is not one that is taken by a session on its way.
pub(super) fn next_number(conn: &Connection) -> rusqlite::Result<i64> {
    conn.prepare_cached(
        "SELECT 1 + max(ifnull((SELECT max(no) FROM sessions), 0), \
         ifnull((SELECT max(no) FROM importing), 0))",
    )?
    .query_row((), |row| row.get(0))
}

/// Makes room for a session.
pub(super) fn insert(conn: &Connection, id: SessionId) -> Result<Numbered, Trouble> {
    let no = next_number(conn)?;
    conn.prepare_cached(
        "INSERT INTO sessions(no, id, seq, head, updated_at, active_at, created_at, status, scope, \
         agent, title, spoken, unsettled, thing, crc) \
         VALUES(?, ?, 0, zeroblob(32), 0, 0, 0, '', '', '', '', 0, 0, '', 0)",
    )?
    .execute(params![no, id.bytes()])?;
    Ok(Numbered { no, id })
}

/// The row that a session on its way will have.
pub(super) fn apart(conn: &Connection, no: i64) -> Result<Option<SessionRow>, Trouble> {
    let sql = format!("SELECT {COLUMNS} FROM importing WHERE no = ?");
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query([no])?;
    rows.next()?.map(SessionRow::read).transpose()
}

/// Writes it.
pub(super) fn write_apart(conn: &Connection, row: &SessionRow) -> Result<(), Trouble> {
    let sql = format!(
        "INSERT OR REPLACE INTO importing({COLUMNS}) \
         VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    );
    let [status, scope, agent, title] = &row.words;
    conn.prepare_cached(&sql)?.execute(params![
        row.session.no,
        row.session.id.bytes(),
        int(row.seq),
        row.head.0,
        row.updated_at,
        row.active_at,
        row.created_at,
        status,
        scope,
        agent,
        row.workspace,
        title,
        row.spoken,
        row.unsettled,
        row.thing,
        row.sum()
    ])?;
    Ok(())
}

/// Puts it where sessions are: from here on it is one.
pub(super) fn move_in(conn: &Connection, no: i64) -> Result<(), Trouble> {
    let sql =
        format!("INSERT INTO sessions({COLUMNS}) SELECT {COLUMNS} FROM importing WHERE no = ?");
    conn.execute(&sql, [no])?;
    conn.execute("DELETE FROM importing WHERE no = ?", [no])?;
    Ok(())
}

/// Writes a row. The columns that seldom change are left alone when they did not, since each index
/// over them costs a page of every commit.
pub(super) fn write(
    conn: &Connection,
    row: &SessionRow,
    old: Option<&SessionRow>,
) -> Result<(), Trouble> {
    let same = old.is_some_and(|old| {
        old.session == row.session
            && old.words == row.words
            && old.workspace == row.workspace
            && old.created_at == row.created_at
    });
    if !same {
        let [status, scope, agent, title] = &row.words;
        conn.prepare_cached(
            "UPDATE sessions SET id = ?, created_at = ?, status = ?, scope = ?, agent = ?, \
             workspace = ?, title = ? WHERE no = ?",
        )?
        .execute(params![
            row.session.id.bytes(),
            row.created_at,
            status,
            scope,
            agent,
            row.workspace,
            title,
            row.session.no
        ])?;
    }
    if old.is_none_or(|old| old.unsettled != row.unsettled) {
        conn.prepare_cached("UPDATE sessions SET unsettled = ? WHERE no = ?")?
            .execute(params![row.unsettled, row.session.no])?;
    }
    conn.prepare_cached(
        "UPDATE sessions SET seq = ?, head = ?, updated_at = ?, active_at = ?, spoken = ?, \
         thing = ?, crc = ? WHERE no = ?",
    )?
    .execute(params![
        int(row.seq),
        row.head.0,
        row.updated_at,
        row.active_at,
        row.spoken,
        row.thing,
        row.sum(),
        row.session.no
    ])?;
    Ok(())
}
