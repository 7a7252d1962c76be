//! Whether all that is stored is as it was written, and if not, which session and where. Reads only.

use std::collections::HashSet;
use std::path::Path;

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use sess_protocol::id::SessionId;
use sess_protocol::view::Members;

use super::log::Chain;
use super::marker::Marker;
use super::open::{self, Looked, OpenError};
use super::projection::Fold;
use super::rows::{Numbered, Trouble, int};
use super::{change, importing, log, schema};
use crate::store::Hash;

/// Faults that are told; a store with more is told by these well enough.
const FAULTS_MAX: usize = 200;
/// Of these, what SQLite says of its own structure: one bad page gives a line for each of its rows, and
/// the sessions that they belong to have to be named too.
const STRUCTURE_FAULTS_MAX: usize = 50;

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The session that it belongs to, where there is one.
    pub session: Option<SessionId>,
    /// What is wrong, and where.
    pub text: String,
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Sessions that were looked at, the log of facts of no session among them.
    pub sessions: u64,
    /// Commits that were looked at.
    pub commits: u64,
    /// What is wrong, at most 200 of it.
    pub faults: Vec<Fault>,
}

impl Report {
    fn fault(&mut self, session: Option<SessionId>, text: impl Into<String>) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(Fault { session, text: text.into() });
        }
    }

    fn trouble(&mut self, session: Option<SessionId>, trouble: Trouble) {
        self.fault(session, trouble.answer().to_string());
    }
}

/// Checks the store of a folder: SQLite's own structure, every chain of hashes, every projection
/// against the fold of its log, keys and blobs.
///
/// # Errors
/// When there is no store, or it is too new, or cannot be opened at all.
pub fn check(dir: &Path) -> Result<Report, OpenError> {
    let path = open::database_path(dir);
    let mut report = Report::default();
    let marker = Marker::read(dir)?;
    match open::look(&path, dir, marker.as_ref()) {
        Ok(Looked::New) => return Ok(report),
        Ok(Looked::Clean | Looked::Unclean) => {}
        Err(OpenError::Damaged(text)) if path.exists() => report.fault(None, text),
        Err(err) => return Err(err),
    }
    all(&path, marker.as_ref(), &mut report)?;
    Ok(report)
}

/// The same while a daemon has the store open: of its files only what SQLite shows as one moment.
///
/// # Errors
/// As [`check`].
pub fn check_in_use(dir: &Path) -> Result<Report, OpenError> {
    let mut report = Report::default();
    all(&open::database_path(dir), None, &mut report)?;
    Ok(report)
}

fn all(path: &Path, marker: Option<&Marker>, report: &mut Report) -> Result<(), OpenError> {
    let conn = open::connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    conn.pragma_update(None, "query_only", "ON")?;
    conn.execute_batch("BEGIN")?;
    if let Err(err) = structure(&conn, report) {
        report.trouble(None, err.into());
    }
    if let Err(err) = schema::is_as_made(&conn) {
        report.fault(None, err.to_string());
    }
    match open::history(&conn) {
        Ok(history) if marker.is_some_and(|it| it.history != history) => {
            report.fault(None, "the database is another one than was here before");
        }
        Ok(_) => {}
        Err(err) => report.fault(None, err.to_string()),
    }
    if let Err(trouble) = sessions(&conn, report) {
        report.trouble(None, trouble);
    }
    if let Err(trouble) = beside(&conn, report) {
        report.trouble(None, trouble);
    }
    Ok(())
}

fn structure(conn: &Connection, report: &mut Report) -> rusqlite::Result<()> {
    let mut statement = conn.prepare(&format!("PRAGMA integrity_check({STRUCTURE_FAULTS_MAX})"))?;
    let mut rows = statement.query(())?;
    while let Some(row) = rows.next()? {
        let text: String = row.get(0)?;
        if text != "ok" {
            report.fault(None, text);
        }
    }
    Ok(())
}

fn sessions(conn: &Connection, report: &mut Report) -> Result<(), Trouble> {
    let scratch = Connection::open_in_memory()?;
    scratch
        .execute_batch(schema::MIGRATIONS.iter().map(|it| it.sql).collect::<String>().as_str())?;
    let mut numbers = HashSet::new();
    for sql in
        ["SELECT no FROM sessions NOT INDEXED", "SELECT DISTINCT session FROM log NOT INDEXED"]
    {
        let mut statement = conn.prepare(sql)?;
        for no in statement.query_map((), |row| row.get::<_, i64>(0))? {
            numbers.insert(no?);
        }
    }
    let some_come = importing::are_there(conn)?;
    for no in numbers {
        // A session on its way is none yet, and what its import left is removed at the next start.
        if some_come && importing::is_one(conn, no)? {
            continue;
        }
        report.sessions += 1;
        let id: Option<[u8; 16]> = conn
            .query_row("SELECT id FROM sessions WHERE no = ?", [no], |row| row.get(0))
            .optional()
            .unwrap_or_default();
        let Some(id) = id.map(SessionId::from_bytes) else {
            report.fault(None, format!("session number {no} has a log but no row"));
            continue;
        };
        let session = Numbered { no, id };
        scratch.execute_batch("BEGIN")?;
        if let Err(trouble) = one(conn, &scratch, session, report) {
            report.trouble(Some(id), trouble);
        }
        scratch.execute_batch("ROLLBACK")?;
    }
    Ok(())
}

/// Folds a session's log anew, beside the database, and compares row by row.
fn one(
    conn: &Connection,
    scratch: &Connection,
    session: Numbered,
    report: &mut Report,
) -> Result<(), Trouble> {
    scratch.execute(
        "INSERT INTO sessions(no, id, seq, head, updated_at, active_at, created_at, status, scope, \
         agent, title, spoken, unsettled, thing, crc) \
         VALUES(?, ?, 0, zeroblob(32), 0, 0, 0, '', '', '', '', 0, 0, '', 0)",
        params![session.no, session.id.bytes()],
    )?;
    let mut chain = Chain::from(conn, session, 1)?;
    let mut fold = Fold::of(scratch, session, Members::new());
    while let Some(entry) = chain.step()? {
        report.commits += 1;
        // A thing that changes very often looks its older events up while it is folded.
        log::append(scratch, session, (entry.first, entry.last), (entry.hash, &entry.body))?;
        for event in entry.events(session)? {
            fold.apply(&event)?;
        }
    }
    let (hash, next) = chain.end();
    let last: Option<i64> =
        conn.query_row("SELECT max(last) FROM log WHERE session = ?", [session.no], |row| {
            row.get(0)
        })?;
    if last != Some(int(next - 1)) {
        return Err(session.damaged(next, "the event is missing"));
    }
    fold.finish((next - 1, hash), None)?;
    for (table, column) in [
        ("sessions", "no"),
        ("tasks", "session"),
        ("things", "session"),
        ("message_rows", "session"),
        ("usage", "session"),
    ] {
        if contents(conn, table, column, session.no)?
            != contents(scratch, table, column, session.no)?
        {
            let text =
                format!("table `{table}` of session `{}` is not what its log says", session.id);
            report.fault(Some(session.id), text);
        }
    }
    Ok(())
}

fn contents(
    conn: &Connection,
    table: &str,
    column: &str,
    no: i64,
) -> rusqlite::Result<Vec<Vec<Value>>> {
    let sql = format!("SELECT * FROM {table} WHERE {column} = ? ORDER BY 1, 2, 3, 4");
    let mut statement = conn.prepare(&sql)?;
    let width = statement.column_count();
    let rows = statement.query_map([no], |row| (0..width).map(|it| row.get(it)).collect())?;
    rows.collect()
}

/// Keys and blobs, which no log can bring back.
fn beside(conn: &Connection, report: &mut Report) -> Result<(), Trouble> {
    let mut statement = conn.prepare("SELECT key FROM keys NOT INDEXED")?;
    let keys: Vec<String> =
        statement.query_map((), |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    for key in keys {
        match change::key(conn, &key) {
            Ok(Some(_)) => {}
            Ok(None) => report.fault(None, format!("the idempotency key `{key}` is not found")),
            Err(trouble) => report.trouble(None, trouble),
        }
    }
    let mut statement = conn.prepare("SELECT id, hash, data FROM blobs NOT INDEXED")?;
    let mut rows = statement.query(())?;
    while let Some(row) = rows.next()? {
        let hash = Hash(row.get(1)?);
        let whole = row.get_ref(2)?.as_blob().is_ok_and(|it| Hash::of(it) == hash);
        if !whole {
            let session: Option<[u8; 16]> = conn
                .query_row(
                    "SELECT s.id FROM blob_refs r JOIN sessions s ON s.no = r.session \
                     WHERE r.blob = ? LIMIT 1",
                    [row.get::<_, i64>(0)?],
                    |row| row.get(0),
                )
                .optional()?;
            let text = format!("the blob `sha256:{hash}` is damaged");
            report.fault(session.map(SessionId::from_bytes), text);
        }
    }
    Ok(())
}
