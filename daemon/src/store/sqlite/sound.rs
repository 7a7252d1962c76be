//! Is what lies in a database sound enough to be served? What is not, and can be made anew, is.

use std::collections::BTreeSet;

use rusqlite::Connection;

use super::importing;
use super::open::OpenError;
use super::rows::Trouble;
use super::things::{MESSAGE_COLUMNS, MessageRow, TASK_COLUMNS, TaskRow};
use crate::store::Hash;

/// A database up to this size is checked whole after an unclean stop, a larger one page by page.
const WHOLE_CHECK_BYTES_MAX: u64 = 64 << 20;
/// A database up to this size has all its indexes checked after a clean stop, a larger one those that
/// lists of sessions rest on: a disk may change what nobody wrote, and a start must stay short.
const CLEAN_CHECK_BYTES_MAX: u64 = 8 << 20;
/// The tables that answers are looked up in. What else there is proves itself when it is read.
const LOOKED_UP: [&str; 8] =
    ["sessions", "keys", "things", "tasks", "message_rows", "usage", "blob_refs", "blobs"];

/// Proves a database of so many bytes at a start, behind an unclean stop or a clean one.
pub(super) fn prove(conn: &Connection, bytes: u64, was_unclean: bool) -> Result<(), OpenError> {
    let unclean = was_unclean || !lookups_are_sound(conn, bytes)?;
    let mended = unclean && check(conn, bytes)?;
    let most = if unclean { WHOLE_CHECK_BYTES_MAX } else { CLEAN_CHECK_BYTES_MAX };
    if bytes <= most {
        check_keyed_rows(conn)?;
    }
    if mended {
        check_message_rows(conn)?;
        check_blobs(conn)?;
    }
    Ok(())
}

/// Checks the rows that are only ever looked up by their key: one whose key is damaged would just not
/// be found. Tasks are made anew from their log; keys cannot be.
fn check_keyed_rows(conn: &Connection) -> Result<(), OpenError> {
    let damaged = |trouble: Trouble| OpenError::Damaged(trouble.answer().to_string());
    let mut stale = BTreeSet::new();
    let mut statement = conn.prepare(&format!("SELECT {TASK_COLUMNS} FROM tasks NOT INDEXED"))?;
    let mut rows = statement.query(())?;
    while let Some(row) = rows.next()? {
        match TaskRow::read(row) {
            Ok(_) => {}
            Err(Trouble::Stale(no, _)) => drop(stale.insert(no)),
            Err(trouble) => return Err(damaged(trouble)),
        }
    }
    make_anew(conn, stale)?;
    let mut statement = conn.prepare("SELECT key FROM keys NOT INDEXED")?;
    let mut rows = statement.query(())?;
    while let Some(row) = rows.next()? {
        let key: String = row.get(0)?;
        if super::change::key(conn, &key).map_err(damaged)?.is_none() {
            return Err(OpenError::Damaged(format!("the idempotency key `{key}` is damaged")));
        }
    }
    Ok(())
}

/// Checks the rows of messages where their index said otherwise: if it was the row that was damaged, its
/// message would not be found by the index that was made of it.
fn check_message_rows(conn: &Connection) -> Result<(), OpenError> {
    let mut stale = BTreeSet::new();
    let sql = format!("SELECT {MESSAGE_COLUMNS} FROM message_rows NOT INDEXED");
    let mut statement = conn.prepare(&sql)?;
    let mut rows = statement.query(())?;
    while let Some(row) = rows.next()? {
        match MessageRow::read(row) {
            Ok(_) => {}
            Err(Trouble::Stale(no, _)) => drop(stale.insert(no)),
            Err(trouble) => return Err(OpenError::Damaged(trouble.answer().to_string())),
        }
    }
    make_anew(conn, stale)
}

/// Checks that blobs are what their hashes say, for the same reason. A hash cannot be made anew: nobody knows
/// which of the two is damaged.
fn check_blobs(conn: &Connection) -> Result<(), OpenError> {
    let mut statement = conn.prepare("SELECT hash, data FROM blobs NOT INDEXED")?;
    let mut rows = statement.query(())?;
    while let Some(row) = rows.next()? {
        let hash: [u8; 32] = row.get(0)?;
        if Hash::of(row.get_ref(1)?.as_blob().unwrap_or_default()) != Hash(hash) {
            return Err(OpenError::Damaged(format!("the blob `sha256:{}` is damaged", Hash(hash))));
        }
    }
    Ok(())
}

/// Makes the projections of these sessions anew from their logs.
fn make_anew(conn: &Connection, sessions: BTreeSet<i64>) -> Result<(), OpenError> {
    let some_come = importing::are_there(conn)?;
    for no in sessions {
        // What an import left is removed, not mended.
        if some_come && importing::is_one(conn, no)? {
            continue;
        }
        tracing::warn!(session_number = no, "rows damaged, made anew");
        super::projection::rebuild(conn, no)
            .map_err(|trouble| OpenError::Damaged(trouble.answer().to_string()))?;
    }
    Ok(())
}

/// Checks the database after an unclean stop. Indexes say nothing that the tables do not, so bad
/// ones are made anew, and it is said that they were; anything else is refused.
fn check(conn: &Connection, bytes: u64) -> Result<bool, OpenError> {
    let complaint = complaint(conn, bytes)?;
    let Some(first) = complaint else { return Ok(false) };
    tracing::warn!(complaint = first, "the database has errors; its indexes are made anew");
    conn.execute_batch("REINDEX")?;
    match self::complaint(conn, bytes)? {
        None => Ok(true),
        Some(text) => Err(OpenError::Damaged(format!("the database is damaged: {text}"))),
    }
}

/// Whether each index says what its table does: a bad one would hide a row from those who ask for it.
fn lookups_are_sound(conn: &Connection, bytes: u64) -> rusqlite::Result<bool> {
    let all = if bytes <= CLEAN_CHECK_BYTES_MAX { LOOKED_UP.len() } else { 1 };
    for table in &LOOKED_UP[..all] {
        // One that a later step makes is not there yet.
        let sql = "SELECT count(*) FROM sqlite_schema WHERE name = ?";
        let known: i64 = conn.query_row(sql, [table], |row| row.get(0))?;
        if known == 0 {
            continue;
        }
        let sql = format!("PRAGMA integrity_check('{table}')");
        let text: String = conn.query_row(&sql, (), |row| row.get(0))?;
        if text != "ok" {
            tracing::warn!(table, complaint = text, "a table has errors");
            return Ok(false);
        }
    }
    Ok(true)
}

fn complaint(conn: &Connection, bytes: u64) -> rusqlite::Result<Option<String>> {
    let whole = bytes <= WHOLE_CHECK_BYTES_MAX;
    let sql = if whole { "PRAGMA integrity_check(1)" } else { "PRAGMA quick_check(1)" };
    let text: String = conn.query_row(sql, (), |row| row.get(0))?;
    Ok(Some(text).filter(|it| it != "ok"))
}
