//! How a session from elsewhere lies in the tables while it comes in: bit by bit, and unseen until it is whole.
//!
//! A session is there when it has a row in `sessions`. Until then that row lies in `importing`, and all others
//! are written as ever, under its number: the last step moves the one row, and everything is seen at once.
//! Whatever asks over all sessions without their rows leaves out the numbers in `importing`.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, params};
use sess_protocol::id::SessionId;
use sess_protocol::view::Members;

use super::pieces::Piece;
use super::projection::Fold;
use super::rows::{Numbered, Trouble};
use super::sessions::{self, SessionRow};
use super::writer::{Abort, abort, is_refusal};
use super::{change, open};
use crate::store::{Commit, Hash, Imported, KeptKey, StoreError};

/// Rows of one table that are removed at a time, of what an import left.
const LEFT_ROWS_MAX: u32 = 256;
/// Bytes of bodies or blobs that are removed at a time, if it is more than one.
const LEFT_BYTES_MAX: i64 = 1 << 20;
/// The tables of what an import left, with what tells the rows of one session apart. The log and blobs, whose
/// rows may be long, are apart.
const LEFT: [(&str, &str); 4] = [
    ("message_rows", "seq"),
    ("tasks", "id"),
    ("things", "kind, key"),
    ("usage", "day, model, agent"),
];

/// What a row says whose column `session` names none that is still on its way.
pub(super) const SEEN: &str = "session NOT IN (SELECT no FROM importing)";

/// What a row `b` of `blobs` says that is not only there for a session on its way. The join goes over those, of
/// which there are few, and not over the many that may name the blob.
pub(super) const SEEN_BLOB: &str = "(NOT EXISTS (SELECT 1 FROM importing i \
     CROSS JOIN blob_refs r ON r.session = i.no AND r.blob = b.id) \
     OR EXISTS (SELECT 1 FROM blob_refs r JOIN sessions s ON s.no = r.session WHERE r.blob = b.id))";

/// A step of an import, each in a transaction of its own.
#[derive(Debug)]
pub(super) enum Step {
    /// A session is to come, and its key must be free.
    Begin(SessionId, Option<KeptKey>),
    /// More of it.
    Piece(Piece),
    /// It is whole: from here on it is there, and its key is decided.
    End(Option<KeptKey>),
    /// Nobody goes on with it. What it left, if it did not end, is removed by and by.
    Over,
}

impl Step {
    /// Whether it only says that nothing more comes.
    pub(super) fn is_over(&self) -> bool {
        matches!(self, Step::Over)
    }
}

/// The import that goes on, and what others left.
///
/// It has a connection of its own, which does not ask whether a row's session is there, and which is open
/// only while there is something to do.
pub(super) struct Imports {
    dir: PathBuf,
    conn: Option<Connection>,
    current: Option<i64>,
    left: bool,
}

impl Imports {
    /// Of the store in this folder, with what a crash may have left.
    pub(super) fn new(dir: &Path, left: bool) -> Self {
        Self { dir: dir.to_owned(), conn: None, current: None, left }
    }

    /// Whether something lies around that is to be removed.
    pub(super) fn has_left(&self) -> bool {
        self.left
    }

    /// Lets go of the connection, if nothing goes on.
    pub(super) fn rest(&mut self) {
        if self.current.is_none() {
            self.conn = None;
        }
    }

    /// Does a step.
    pub(super) fn step(&mut self, step: &Step) -> Result<(), StoreError> {
        let current = self.current;
        match step {
            Step::Begin(session, key) => {
                self.left |= current.is_some();
                self.current = None;
                let no = self.transaction(|conn| begin(conn, *session, key.as_ref()))?;
                self.current = Some(no);
                Ok(())
            }
            Step::Piece(piece) => self.transaction(|conn| take_in(conn, current, piece)),
            Step::End(key) => {
                self.transaction(|conn| end(conn, current, key.as_ref()))?;
                self.current = None;
                Ok(())
            }
            Step::Over => {
                self.left |= current.is_some();
                self.current = None;
                Ok(())
            }
        }
    }

    /// Removes a little of what lies around.
    pub(super) fn sweep(&mut self) -> Result<(), StoreError> {
        let current = self.current;
        let done = self.transaction(|conn| sweep(conn, current));
        // What cannot be removed is not seen either, and is tried again behind the next import.
        self.left = done.as_ref().is_ok_and(|is_more| *is_more);
        done.map(|_| ())
    }

    /// Does something whole or not at all. `Unknown` when it may be either.
    fn transaction<T>(
        &mut self,
        work: impl FnOnce(&Connection) -> Result<T, Trouble>,
    ) -> Result<T, StoreError> {
        let conn = match &mut self.conn {
            Some(conn) => conn,
            none => none.insert(
                open::importing(&self.dir)
                    .map_err(|err| StoreError::Unavailable(err.to_string()))?,
            ),
        };
        let done = conn.execute_batch("BEGIN IMMEDIATE").map_err(Trouble::from);
        let done = done.and_then(|()| work(conn)).and_then(|it| {
            conn.execute_batch("COMMIT")?;
            Ok(it)
        });
        let refusal = match done {
            Ok(done) => return Ok(done),
            Err(Trouble::Sql(err)) if !is_refusal(&err) => match abort(0, err) {
                Abort::Full(text) => StoreError::Unavailable(format!("nothing is stored: {text}")),
                Abort::Damaged(_, damaged) => damaged,
                Abort::Unknown(text) => {
                    let text = format!("a write to the database failed: {text}");
                    return Err(StoreError::Unknown(text));
                }
            },
            Err(trouble) => trouble.answer(),
        };
        if !conn.is_autocommit()
            && let Err(err) = conn.execute_batch("ROLLBACK")
        {
            return Err(StoreError::Unknown(format!("a roll-back failed: {err}")));
        }
        Err(refusal)
    }
}

/// Whether there are sessions on their way; none are where an older program left the tables.
pub(super) fn are_there(conn: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS(SELECT 1 FROM sqlite_schema WHERE name = 'importing')";
    let known: bool = conn.query_row(sql, (), |row| row.get(0))?;
    if !known {
        return Ok(false);
    }
    conn.query_row("SELECT EXISTS(SELECT 1 FROM importing)", (), |row| row.get(0))
}

/// Whether this is the number of a session on its way, once it is known that there are some.
pub(super) fn is_one(conn: &Connection, no: i64) -> rusqlite::Result<bool> {
    conn.prepare_cached("SELECT EXISTS(SELECT 1 FROM importing WHERE no = ?)")?
        .query_row([no], |row| row.get(0))
}

fn begin(conn: &Connection, id: SessionId, key: Option<&KeptKey>) -> Result<i64, Trouble> {
    may_come(conn, id, key)?;
    let session = Numbered { no: sessions::next_number(conn)?, id };
    let row = SessionRow::of(session, (0, Hash::default()), &Members::new(), false);
    sessions::write_apart(conn, &row)?;
    Ok(session.no)
}

fn may_come(conn: &Connection, id: SessionId, key: Option<&KeptKey>) -> Result<(), Trouble> {
    if let Some(kept) = key {
        change::free(conn, &kept.record.key, kept.at.0)?;
    }
    match sessions::number(conn, id)? {
        Some(_) => Err(Trouble::Refused(StoreError::NotNext)),
        None => Ok(()),
    }
}

/// The row of the session that comes, which is no session's yet.
fn coming(conn: &Connection, current: Option<i64>) -> Result<SessionRow, Trouble> {
    let gone = || Trouble::Refused(StoreError::Unavailable("the import is over".to_owned()));
    sessions::apart(conn, current.ok_or_else(gone)?)?.ok_or_else(gone)
}

fn take_in(conn: &Connection, current: Option<i64>, piece: &Piece) -> Result<(), Trouble> {
    let old = coming(conn, current)?;
    let session = old.session;
    let mut end = (old.seq, old.head);
    let mut fold = Fold::of(conn, session, old.members()?);
    for part in piece.parts() {
        match part {
            Imported::Blob(blob) => change::add_blob(conn, session.no, blob)?,
            Imported::Commit(commit) => {
                if commit.session != session.id || !change::follows(commit, end) {
                    return Err(Trouble::Refused(StoreError::NotNext));
                }
                change::take_in(conn, session, commit, &mut fold)?;
                end = (Commit::last(commit), commit.hash);
            }
        }
    }
    sessions::write_apart(conn, &fold.row(end, Some(&old))?)
}

fn end(conn: &Connection, current: Option<i64>, key: Option<&KeptKey>) -> Result<(), Trouble> {
    let row = coming(conn, current)?;
    may_come(conn, row.session.id, key)?;
    if row.seq == 0 {
        return Err(Trouble::Refused(StoreError::NotNext));
    }
    sessions::move_in(conn, row.session.no)?;
    match key {
        Some(kept) => change::keep_key(conn, row.session.id, kept),
        None => Ok(()),
    }
}

/// Removes a little of what others than this one left; says whether there may be more.
fn sweep(conn: &Connection, current: Option<i64>) -> Result<bool, Trouble> {
    let no: Option<i64> = conn
        .prepare_cached("SELECT no FROM importing WHERE no IS NOT ? LIMIT 1")?
        .query_row([current], |row| row.get(0))
        .optional()?;
    let Some(no) = no else { return Ok(false) };
    if sweep_log(conn, no)? || sweep_blobs(conn, no)? {
        return Ok(true);
    }
    for (table, key) in LEFT {
        let sql = format!(
            "DELETE FROM {table} WHERE session = ?1 AND ({key}) IN \
             (SELECT {key} FROM {table} WHERE session = ?1 LIMIT ?2)"
        );
        if conn.prepare_cached(&sql)?.execute(params![no, LEFT_ROWS_MAX])? > 0 {
            return Ok(true);
        }
    }
    // Last: until here its number must be nobody's.
    conn.execute("DELETE FROM importing WHERE no = ?", [no])?;
    Ok(true)
}

fn sweep_log(conn: &Connection, no: i64) -> Result<bool, Trouble> {
    let firsts = some(
        conn,
        "SELECT first, octet_length(body) FROM log WHERE session = ? ORDER BY first LIMIT ?",
        no,
    )?;
    let Some(last) = firsts.last() else { return Ok(false) };
    conn.prepare_cached("DELETE FROM log WHERE session = ? AND first <= ?")?
        .execute(params![no, last])?;
    Ok(true)
}

fn sweep_blobs(conn: &Connection, no: i64) -> Result<bool, Trouble> {
    let blobs = some(
        conn,
        "SELECT b.id, octet_length(b.data) FROM blob_refs r JOIN blobs b ON b.id = r.blob \
         WHERE r.session = ? LIMIT ?",
        no,
    )?;
    for blob in &blobs {
        conn.prepare_cached("DELETE FROM blob_refs WHERE session = ? AND blob = ?")?
            .execute(params![no, blob])?;
        change::drop_unnamed(conn, *blob)?;
    }
    Ok(!blobs.is_empty())
}

/// The first of what this finds, up to about so many bytes.
fn some(conn: &Connection, sql: &str, no: i64) -> Result<Vec<i64>, Trouble> {
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query(params![no, LEFT_ROWS_MAX])?;
    let (mut found, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        if bytes >= LEFT_BYTES_MAX {
            break;
        }
        found.push(row.get(0)?);
        bytes += row.get::<_, i64>(1)?;
    }
    Ok(found)
}
