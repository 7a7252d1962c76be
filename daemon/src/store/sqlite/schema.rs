//! What lies in the database: its tables and the numbered steps that made them.

use std::path::Path;

use rusqlite::limits::Limit;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::open::OpenError;
use super::{projection, short};
use crate::store::Hash;

/// What `file` and SQLite itself show as the kind of this database: `sess`.
pub(super) const APPLICATION_ID: i32 = 0x7365_7373;

/// One step from a schema to the next. Steps are only ever added.
#[derive(Debug, Clone, Copy)]
pub(super) struct Migration {
    /// What it does, for people.
    pub(super) name: &'static str,
    /// Its statements.
    pub(super) sql: &'static str,
    /// Whether all projections are made anew from the log behind it.
    pub(super) refolds: bool,
}

/// Every step there is; the number of a schema is how many of them were taken.
pub(super) const MIGRATIONS: &[Migration] = &[
    Migration { name: "first", sql: FIRST, refolds: false },
    Migration {
        name: "bodies may be kept as their events alone",
        sql: EVENTS_ALONE,
        refolds: false,
    },
    Migration {
        name: "what calls used, by session, day, model and agent",
        sql: USAGE,
        refolds: true,
    },
    Migration { name: "sessions on their way", sql: IMPORTING, refolds: false },
    Migration { name: "words that commits say again and again", sql: short::TABLE, refolds: false },
    Migration { name: "the log as JSON", sql: short::VIEWS, refolds: false },
];

/// Short numbers (`sessions.no`) stand for sessions everywhere else, since bytes on disk matter.
/// `seqs` lists the events whose members make a thing: content lies in the log and nowhere else.
/// Each row of a projection ends in a checksum over all its columns.
const FIRST: &str = "
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE migrations(
  number INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, applied_at TEXT NOT NULL
) STRICT;
CREATE TABLE sessions(
  no INTEGER PRIMARY KEY,
  id BLOB NOT NULL UNIQUE CHECK(length(id) = 16),
  seq INTEGER NOT NULL, head BLOB NOT NULL,
  updated_at INTEGER NOT NULL, active_at INTEGER NOT NULL, created_at INTEGER NOT NULL,
  status TEXT NOT NULL, scope TEXT NOT NULL, agent TEXT NOT NULL,
  workspace TEXT, title TEXT NOT NULL,
  spoken INTEGER NOT NULL, unsettled INTEGER NOT NULL,
  thing TEXT NOT NULL, crc INTEGER NOT NULL
) STRICT;
CREATE INDEX sessions_latest ON sessions(updated_at, id, active_at, workspace);
CREATE INDEX sessions_title ON sessions(title);
CREATE INDEX sessions_unsettled ON sessions(no) WHERE unsettled = 1;
CREATE TABLE log(
  id INTEGER PRIMARY KEY,
  session INTEGER NOT NULL REFERENCES sessions(no) ON DELETE CASCADE,
  first INTEGER NOT NULL, last INTEGER NOT NULL,
  hash BLOB NOT NULL, body TEXT NOT NULL, private BLOB, crc INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX log_place ON log(session, first);
CREATE TABLE message_rows(
  session INTEGER NOT NULL REFERENCES sessions(no) ON DELETE CASCADE,
  seq INTEGER NOT NULL, id BLOB NOT NULL, parent INTEGER, crc INTEGER NOT NULL,
  PRIMARY KEY(session, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX message_ids ON message_rows(id);
CREATE TABLE tasks(
  id BLOB NOT NULL,
  session INTEGER NOT NULL REFERENCES sessions(no) ON DELETE CASCADE,
  first INTEGER NOT NULL, status TEXT NOT NULL, ord INTEGER NOT NULL,
  seqs TEXT NOT NULL, crc INTEGER NOT NULL,
  PRIMARY KEY(id, session)
) STRICT, WITHOUT ROWID;
CREATE INDEX tasks_session ON tasks(session);
CREATE INDEX tasks_live ON tasks(session, status) WHERE status IN ('queued', 'running', 'waiting');
CREATE TABLE things(
  session INTEGER NOT NULL REFERENCES sessions(no) ON DELETE CASCADE,
  kind TEXT NOT NULL, key TEXT NOT NULL,
  first INTEGER NOT NULL, status TEXT, live INTEGER NOT NULL,
  seqs TEXT, thing TEXT, crc INTEGER NOT NULL,
  PRIMARY KEY(session, kind, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX things_live ON things(session) WHERE live = 1;
CREATE TABLE keys(
  key TEXT PRIMARY KEY,
  session INTEGER NOT NULL REFERENCES sessions(no) ON DELETE CASCADE,
  at INTEGER NOT NULL, digest BLOB NOT NULL, answer TEXT NOT NULL, crc INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE partials(
  id INTEGER PRIMARY KEY,
  session INTEGER NOT NULL REFERENCES sessions(no) ON DELETE CASCADE,
  task BLOB NOT NULL, message BLOB NOT NULL, pieces TEXT NOT NULL, crc INTEGER NOT NULL
) STRICT;
CREATE INDEX partials_session ON partials(session);
CREATE TABLE blobs(
  id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE CHECK(length(hash) = 32), data BLOB NOT NULL
) STRICT;
CREATE TABLE blob_refs(
  session INTEGER NOT NULL REFERENCES sessions(no) ON DELETE CASCADE,
  blob INTEGER NOT NULL REFERENCES blobs(id),
  PRIMARY KEY(session, blob)
) STRICT, WITHOUT ROWID;
CREATE INDEX blob_refs_blob ON blob_refs(blob);

CREATE VIEW message_things AS
  SELECT s.id AS session_id, m.seq AS seq,
    json_extract(l.body, '$.events[' || (m.seq - l.first) || '].data.message') AS message
  FROM message_rows m JOIN sessions s ON s.no = m.session
  JOIN log l ON l.session = m.session AND l.first =
    (SELECT max(first) FROM log WHERE session = m.session AND first <= m.seq);
CREATE VIEW messages AS
  SELECT 'sess_' || lower(hex(session_id)) AS session, seq,
    message ->> 'id' AS id, message ->> 'parent' AS parent, message ->> 'thread' AS thread,
    message ->> 'role' AS role, message ->> 'at' AS at, message ->> 'status' AS status,
    (SELECT group_concat(json_extract(b.value, '$.text'), char(10))
      FROM json_each(message, '$.content') b
      WHERE json_extract(b.value, '$.type') = 'text') AS text
  FROM message_things;
CREATE VIEW usage_logs AS
  SELECT 'sess_' || lower(hex(session_id)) AS session, message ->> 'id' AS message,
    message ->> 'task' AS task, message ->> 'model' AS model, message ->> 'at' AS at,
    message -> 'usage' ->> 'input_tokens' AS input_tokens,
    message -> 'usage' ->> 'output_tokens' AS output_tokens,
    message -> 'usage' ->> 'total_tokens' AS total_tokens,
    message -> 'usage' ->> 'cost_usd' AS cost_usd
  FROM message_things WHERE message -> 'usage' IS NOT NULL;
CREATE VIEW thing_members AS
  SELECT 'sess_' || lower(hex(s.id)) AS session, t.kind AS kind, t.key AS key, t.status AS status,
    n.value AS seq,
    json_extract(l.body, '$.events[' || (n.value - l.first) || '].data.' || t.kind) AS members
  FROM things t JOIN sessions s ON s.no = t.session, json_each(t.seqs) n
  JOIN log l ON l.session = t.session AND l.first =
    (SELECT max(first) FROM log WHERE session = t.session AND first <= n.value);
CREATE VIEW tool_calls AS
  SELECT session, key AS id, status, max(members ->> 'name') AS name,
    max(members ->> 'task') AS task, max(members ->> 'input') AS input,
    max(members ->> 'duration_ms') AS duration_ms
  FROM thing_members WHERE kind = 'tool_call' GROUP BY session, key;
CREATE VIEW pending_plans AS
  SELECT session, key AS n, max(members ->> 'title') AS title, max(members ->> 'steps') AS steps
  FROM thing_members WHERE kind = 'plan' AND status = 'pending' GROUP BY session, key;
CREATE VIEW remembered_permissions AS
  SELECT session, key AS id, max(members ->> 'tool') AS tool, max(members ->> 'pattern') AS pattern,
    max(members ->> 'decision') AS decision
  FROM thing_members WHERE kind = 'grant' GROUP BY session, key;
CREATE VIEW compaction_history AS
  SELECT session, key AS id, max(members ->> 'summary') AS summary,
    max(members ->> 'before') AS before, max(members ->> 'after') AS after,
    max(members ->> 'saved_tokens') AS saved_tokens
  FROM thing_members WHERE kind = 'compaction' GROUP BY session, key;
CREATE VIEW schema_version AS
  SELECT number AS version, name, applied_at FROM migrations ORDER BY number DESC LIMIT 1;
";

/// From here on nearly every commit is kept without what stands around its events (see `log`); those
/// that were kept whole stay so.
const EVENTS_ALONE: &str = "
DROP VIEW message_things;
CREATE VIEW message_things AS
  SELECT s.id AS session_id, m.seq AS seq,
    json_extract(l.body, iif(substr(l.body, 1, 1) = '[', '$[', '$.events[') || (m.seq - l.first)
      || '].data.message') AS message
  FROM message_rows m JOIN sessions s ON s.no = m.session
  JOIN log l ON l.session = m.session AND l.first =
    (SELECT max(first) FROM log WHERE session = m.session AND first <= m.seq);
DROP VIEW thing_members;
CREATE VIEW thing_members AS
  SELECT 'sess_' || lower(hex(s.id)) AS session, t.kind AS kind, t.key AS key, t.status AS status,
    n.value AS seq,
    json_extract(l.body, iif(substr(l.body, 1, 1) = '[', '$[', '$.events[') || (n.value - l.first)
      || '].data.' || t.kind) AS members
  FROM things t JOIN sessions s ON s.no = t.session, json_each(t.seqs) n
  JOIN log l ON l.session = t.session AND l.first =
    (SELECT max(first) FROM log WHERE session = t.session AND first <= n.value);
";

/// Sums of what model calls used.
const USAGE: &str = "
CREATE TABLE usage(
  session INTEGER NOT NULL REFERENCES sessions(no) ON DELETE CASCADE,
  day INTEGER NOT NULL, model TEXT NOT NULL, agent TEXT NOT NULL, at INTEGER NOT NULL,
  calls INTEGER NOT NULL, unpriced INTEGER NOT NULL, cost TEXT NOT NULL,
  input INTEGER NOT NULL, output INTEGER NOT NULL, total INTEGER NOT NULL,
  cache_read INTEGER NOT NULL, cache_write INTEGER NOT NULL, reasoning INTEGER NOT NULL,
  crc INTEGER NOT NULL,
  PRIMARY KEY(session, day, model, agent)
) STRICT, WITHOUT ROWID;
";

/// The rows that `sessions` gets when an import is whole (see `importing`), with the same columns.
const IMPORTING: &str = "
CREATE TABLE importing(
  no INTEGER PRIMARY KEY,
  id BLOB NOT NULL CHECK(length(id) = 16),
  seq INTEGER NOT NULL, head BLOB NOT NULL,
  updated_at INTEGER NOT NULL, active_at INTEGER NOT NULL, created_at INTEGER NOT NULL,
  status TEXT NOT NULL, scope TEXT NOT NULL, agent TEXT NOT NULL,
  workspace TEXT, title TEXT NOT NULL,
  spoken INTEGER NOT NULL, unsettled INTEGER NOT NULL,
  thing TEXT NOT NULL, crc INTEGER NOT NULL
) STRICT;
";

/// Brings the schema to its newest step, all in one transaction, with a backup before the first
/// step of a database that holds something.
pub(super) fn migrate(
    conn: &mut Connection,
    dir: &Path,
    steps: &[Migration],
) -> Result<(), OpenError> {
    let found: u32 = conn.query_row("PRAGMA user_version", (), |row| row.get(0))?;
    let known = number(steps);
    if found > known {
        return Err(OpenError::Newer { found, known });
    }
    let numbered = || (1..).zip(steps);
    for (number, step) in numbered().take_while(|it| it.0 <= found) {
        known_step(conn, number, step)?;
    }
    if found == known {
        return Ok(());
    }
    if found > 0 {
        back_up(conn, dir, found)?;
    }
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for (number, step) in numbered().skip_while(|it| it.0 <= found) {
        tx.execute_batch(step.sql)?;
        tx.execute(
            "INSERT INTO migrations VALUES(?, ?, ?, strftime('%Y-%m-%dT%H:%M:%fZ'))",
            params![number, step.name, Hash::of(step.sql.as_bytes()).mark()],
        )?;
    }
    if steps[found as usize..].iter().any(|it| it.refolds) {
        refold(&tx)?;
    }
    tx.pragma_update(None, "user_version", known)?;
    tx.pragma_update(None, "application_id", APPLICATION_ID)?;
    tx.commit()?;
    Ok(())
}

/// Makes the projections of all sessions anew.
fn refold(conn: &Connection) -> Result<(), OpenError> {
    let numbers: Vec<i64> = conn
        .prepare("SELECT no FROM sessions")?
        .query_map((), |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for no in numbers {
        projection::rebuild(conn, no)
            .map_err(|trouble| OpenError::Damaged(trouble.answer().to_string()))?;
    }
    Ok(())
}

/// What the newest schema says of itself in the database: the hash of each statement that made something, by
/// name. A test says what it has to be.
const MARK: &str = "25a5925f5a97119e";

/// Whether a database of the newest schema says of itself what the steps made: SQLite believes each letter of it,
/// and a bit that flipped there is another column.
pub(super) fn is_as_made(conn: &Connection) -> Result<(), OpenError> {
    let found: u32 = conn.query_row("PRAGMA user_version", (), |row| row.get(0))?;
    if found == number(MIGRATIONS) && mark(conn)? != MARK {
        let text = "what the database says of its own tables is damaged";
        return Err(OpenError::Damaged(text.to_owned()));
    }
    Ok(())
}

fn mark(conn: &Connection) -> rusqlite::Result<String> {
    let sql = "SELECT type || ' ' || name || ' ' || tbl_name || ' ' || ifnull(sql, '') \
               FROM sqlite_schema WHERE name NOT LIKE 'sqlite_stat%' ORDER BY name, type";
    let mut all = String::new();
    let mut statement = conn.prepare(sql)?;
    let mut rows = statement.query(())?;
    while let Some(row) = rows.next()? {
        all.push_str(row.get_ref(0)?.as_str()?);
        all.push('\n');
    }
    Ok(Hash::of(all.as_bytes()).mark())
}

/// The number of the schema that these steps make.
pub(super) fn number(steps: &[Migration]) -> u32 {
    u32::try_from(steps.len()).expect("steps are few")
}

/// A database made by steps other than ours would be read wrongly, so it is not read at all.
fn known_step(conn: &Connection, number: u32, step: &Migration) -> Result<(), OpenError> {
    let sum: Option<String> = conn
        .query_row("SELECT checksum FROM migrations WHERE number = ?", [number], |row| row.get(0))
        .optional()?;
    if sum == Some(Hash::of(step.sql.as_bytes()).mark()) {
        return Ok(());
    }
    Err(OpenError::Damaged(format!("step {number} of the schema is not the one known here")))
}

fn back_up(conn: &Connection, dir: &Path, version: u32) -> Result<(), OpenError> {
    let folder = dir.join("backups");
    super::open::private_folder(&folder)?;
    let now = sess_protocol::time::Timestamp::now().0;
    let path = folder.join(format!("schema-{version}-{now}.db"));
    // A copy is written through an attached database, which nothing else may have.
    conn.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 1)?;
    conn.execute("VACUUM INTO ?", [path.to_string_lossy()])?;
    conn.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
    super::open::make_private(&path)?;
    std::fs::File::open(&path)?.sync_all()?;
    std::fs::File::open(&folder)?.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_is_that_of_what_the_steps_make() {
        let conn = Connection::open_in_memory().unwrap();
        MIGRATIONS.iter().for_each(|it| conn.execute_batch(it.sql).unwrap());
        assert_eq!(mark(&conn).unwrap(), MARK);
        conn.pragma_update(None, "user_version", number(MIGRATIONS)).unwrap();
        is_as_made(&conn).unwrap();
        conn.execute_batch("CREATE INDEX more ON log(last)").unwrap();
        is_as_made(&conn).unwrap_err();
    }
}
