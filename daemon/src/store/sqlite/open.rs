//! How the database is opened: refused untouched, or recovered and checked before anything is asked.

use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::checkpoint::BUSY_MS;
use super::marker::{Marker, State};
use super::{schema, sound, wal};

/// Bytes of a page of a new database.
pub(super) const PAGE_BYTES: u32 = 4096;
/// The first version of SQLite without the bug that loses commits when its log begins again.
const SQLITE_VERSION_MIN: i32 = 3_051_003;
/// Bytes of one value, so of one commit and of one blob.
const VALUE_BYTES_MAX: i32 = 256 << 20;
/// Bytes of one statement.
const SQL_BYTES_MAX: i32 = 64 << 10;
/// Bytes that SQLite's log keeps when it begins again.
const LOG_BYTES_MAX: i64 = 64 << 20;
/// KiB of pages that a connection which reads keeps: the system keeps them all, once for everybody.
const READER_CACHE_KIB: i64 = 512;
/// Prepared statements that a connection keeps.
const STATEMENTS_MAX: usize = 96;

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A later version of this program made the database; it was not touched.
    #[error("the database has schema {found}, this program knows {known}: use a newer one")]
    Newer {
        /// The number of the database's schema.
        found: u32,
        /// The newest number that is known here.
        known: u32,
    },
    /// What is stored is damaged or gone; nothing was made in its place.
    #[error("{0}")]
    Damaged(String),
    /// The file system refused.
    #[error("the store's folder: {0}")]
    Io(#[from] std::io::Error),
    /// SQLite refused.
    #[error("the database: {0}")]
    Sql(rusqlite::Error),
}

impl OpenError {
    /// Whether there was no room on the disk.
    pub(super) fn is_full(&self) -> bool {
        match self {
            Self::Io(err) => super::reserve::will_pass(err),
            // Where the shared memory finds no room, SQLite has a name of its own for it.
            Self::Sql(err) => err.sqlite_error().is_some_and(|it| {
                it.code == rusqlite::ErrorCode::DiskFull
                    || it.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE
            }),
            Self::Newer { .. } | Self::Damaged(_) => false,
        }
    }
}

impl From<rusqlite::Error> for OpenError {
    fn from(err: rusqlite::Error) -> Self {
        if super::rows::is_damage(&err) {
            Self::Damaged(format!("the database is damaged: {err}"))
        } else {
            Self::Sql(err)
        }
    }
}

/// Where the database lies.
pub(super) fn database_path(dir: &Path) -> PathBuf {
    dir.join("sess.db")
}

/// Where its log lies.
pub(super) fn log_path(dir: &Path) -> PathBuf {
    dir.join("sess.db-wal")
}

/// A file's length and time of change in nanoseconds.
pub(super) fn looks(path: &Path) -> std::io::Result<(u64, i64)> {
    let meta = std::fs::metadata(path)?;
    Ok((meta.len(), meta.mtime() * 1_000_000_000 + meta.mtime_nsec()))
}

/// Makes a folder that nobody else may enter.
pub(super) fn private_folder(dir: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Takes a file's access away from everybody else.
pub(super) fn make_private(path: &Path) -> std::io::Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
}

/// What was opened: the connection that writes, and the marker as it is on disk.
pub(super) struct Opened {
    pub(super) conn: Connection,
    pub(super) marker: Marker,
}

/// Opens the database of a folder, or makes one where there never was one.
pub(super) fn open(dir: &Path) -> Result<Opened, OpenError> {
    if rusqlite::version_number() < SQLITE_VERSION_MIN {
        let text = format!("SQLite {} loses commits", rusqlite::version());
        return Err(std::io::Error::other(text).into());
    }
    private_folder(dir)?;
    warn_of_network(dir);
    let (path, marker) = (database_path(dir), Marker::read(dir)?);
    let looked = look(&path, dir, marker.as_ref())?;
    let was_new = matches!(looked, Looked::New);
    if was_new {
        // Made here so that it never has any other mode; SQLite gives its log the same.
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    }
    let mut conn = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    writing(&conn)?;
    // Without a marker the first start ended before it was whole, so nothing was answered yet.
    let empty = is_empty(&conn)?;
    if empty && marker.is_some() {
        return Err(OpenError::Damaged(format!("`{}` is empty", path.display())));
    }
    if let Some(marker) = &marker {
        // From here until the end of the start SQLite's log may be empty, or a new one whose salt
        // follows from no other, and a crash must not make either look like damage.
        let history = marker.history.clone();
        Marker { history, state: State::Emptying, salt: None, file: None }.write(dir)?;
    }
    if let Looked::Unclean = looked {
        conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()))?;
    }
    let bytes = std::fs::metadata(&path)?.len();
    schema::is_as_made(&conn)?;
    if !empty {
        sound::prove(&conn, bytes, matches!(looked, Looked::Unclean))?;
    }
    schema::migrate(&mut conn, dir, schema::MIGRATIONS)?;
    if marker.is_none() {
        let history = uuid::Uuid::new_v4().simple().to_string();
        conn.execute("INSERT OR IGNORE INTO meta VALUES('history', ?)", [&history])?;
    }
    let marker = begin(&conn, dir, marker.as_ref())?;
    Ok(Opened { conn, marker })
}

/// Writes down that the store is open, once SQLite's log is there for good: from here on, a log
/// that is missing is damage.
fn begin(conn: &Connection, dir: &Path, old: Option<&Marker>) -> Result<Marker, OpenError> {
    let now = sess_protocol::time::Timestamp::now();
    super::change::drop_old_keys(conn, now.0)?;
    conn.execute("INSERT OR REPLACE INTO meta VALUES('opened_at', ?)", [now.to_string()])?;
    let history = history(conn)?;
    if old.is_some_and(|it| it.history != history) {
        let text = "the database is another one than was here before (its history differs)";
        return Err(OpenError::Damaged(text.to_owned()));
    }
    let salt = wal::salt(&log_path(dir))?;
    let marker = Marker { history, state: State::Open, salt, file: None };
    marker.write(dir)?;
    Ok(marker)
}

/// The store's own id.
pub(super) fn history(conn: &Connection) -> Result<String, OpenError> {
    let history: Option<String> = conn
        .query_row("SELECT value FROM meta WHERE key = 'history'", (), |row| row.get(0))
        .optional()?;
    history.ok_or_else(|| OpenError::Damaged("the history's id is gone".into()))
}

/// How the database was found.
pub(super) enum Looked {
    /// There never was one.
    New,
    /// As it was left by a close.
    Clean,
    /// After a crash, or changed by somebody else.
    Unclean,
}

/// Looks at the files without changing a byte of them.
pub(super) fn look(path: &Path, dir: &Path, marker: Option<&Marker>) -> Result<Looked, OpenError> {
    let damaged = |text: String| Err(OpenError::Damaged(text));
    match std::fs::symlink_metadata(path) {
        Ok(meta) if !meta.is_file() || meta.nlink() > 1 => {
            return damaged(format!("`{}` has to be a file with one name", path.display()));
        }
        Ok(_) => {}
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => {
            if marker.is_some() || log_path(dir).exists() {
                return damaged(format!(
                    "`{}` is gone: it was here before; bring it back, or run `sess doctor`, which \
                     restores what backups have",
                    path.display()
                ));
            }
            return Ok(Looked::New);
        }
        Err(err) => return Err(err.into()),
    }
    header(path, &log_path(dir), marker.is_some())?;
    match marker {
        Some(it) if it.state == State::Clean && it.file == Some(looks(path)?) => {
            match wal::examine(&log_path(dir), None)? {
                wal::Found::Missing | wal::Found::Empty => Ok(Looked::Clean),
                _ => damaged("the database's log is another database's".to_owned()),
            }
        }
        Some(it) if it.state == State::Clean => match wal::examine(&log_path(dir), None)? {
            wal::Found::Missing | wal::Found::Empty => Ok(Looked::Unclean),
            _ => damaged("the database's log is another database's".to_owned()),
        },
        Some(it) => match wal::examine(&log_path(dir), it.salt)? {
            wal::Found::Missing | wal::Found::Empty if it.state == State::Open => damaged(format!(
                "`{}` is gone or empty: what was last stored is in it",
                log_path(dir).display()
            )),
            wal::Found::Damaged(text) => damaged(text),
            wal::Found::Missing | wal::Found::Empty | wal::Found::Whole(_) => Ok(Looked::Unclean),
        },
        // The first start ended before it was whole: nothing can have been answered.
        None => match wal::examine(&log_path(dir), None)? {
            wal::Found::Damaged(text) => damaged(text),
            _ => Ok(Looked::Unclean),
        },
    }
}

/// The number of the schema as a database's first page says it.
pub(super) fn schema_in(path: &Path) -> Option<u32> {
    let mut bytes = [0; 64];
    std::fs::File::open(path).ok()?.read_exact(&mut bytes).ok()?;
    Some(u32::from_be_bytes([bytes[60], bytes[61], bytes[62], bytes[63]]))
}

/// Refuses a database of a later version, and nothing else.
pub(super) fn refuse_newer(path: &Path) -> Result<(), OpenError> {
    match header(path, &log_path(path.parent().unwrap_or(path)), false) {
        Err(newer @ OpenError::Newer { .. }) => Err(newer),
        _ => Ok(()),
    }
}

/// Reads the schema's number from the first page, before SQLite has a chance to write.
fn header(path: &Path, log: &Path, was_here: bool) -> Result<(), OpenError> {
    let mut bytes = [0; wal::DATABASE_HEADER_BYTES];
    let read = std::fs::File::open(path)?.read_exact(&mut bytes);
    if read.is_err() || &bytes[..16] != b"SQLite format 3\0" {
        // A first start may have ended amid its first page, which SQLite takes back by itself.
        let text = format!("`{}` is no SQLite database", path.display());
        return if was_here { Err(OpenError::Damaged(text)) } else { Ok(()) };
    }
    // What is in the log holds: of the file's own first page a power cut may have left a part.
    let bytes = wal::first_page(log, PAGE_BYTES)?.unwrap_or(bytes);
    let word =
        |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    // Until the first step is taken there is no table and no kind; SQLite counts changes of tables at byte 40.
    let (kind, is_bare) = (word(68), word(40) == 0);
    if kind != schema::APPLICATION_ID.cast_unsigned() && !(kind == 0 && is_bare) {
        let text = format!("`{}` is not a database of sess", path.display());
        return Err(OpenError::Damaged(text));
    }
    let found = word(60);
    let known = schema::number(schema::MIGRATIONS);
    if found > known {
        return Err(OpenError::Newer { found, known });
    }
    Ok(())
}

/// Whether the database is as SQLite makes it; any other program's is refused.
fn is_empty(conn: &Connection) -> Result<bool, OpenError> {
    let id: i32 = conn.query_row("PRAGMA application_id", (), |row| row.get(0))?;
    let tables: i64 = conn.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))?;
    match (id, tables) {
        (schema::APPLICATION_ID, 1..) => Ok(false),
        (0, 0) => Ok(true),
        _ => Err(OpenError::Damaged("the database is not one of sess".to_owned())),
    }
}

/// A connection with the limits and the caution that all of them have.
pub(super) fn connect(path: &Path, access: OpenFlags) -> rusqlite::Result<Connection> {
    let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(Duration::from_millis(BUSY_MS))?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    for (switch, on) in [
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, true),
        (DbConfig::SQLITE_DBCONFIG_DQS_DML, false),
        (DbConfig::SQLITE_DBCONFIG_DQS_DDL, false),
        // Only a close that was asked for may empty the log: a log that is gone is damage.
        (DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true),
    ] {
        conn.set_db_config(switch, on)?;
    }
    for (limit, most) in [
        (Limit::SQLITE_LIMIT_LENGTH, VALUE_BYTES_MAX),
        (Limit::SQLITE_LIMIT_SQL_LENGTH, SQL_BYTES_MAX),
        (Limit::SQLITE_LIMIT_ATTACHED, 0),
    ] {
        conn.set_limit(limit, most)?;
    }
    for (name, value) in [("mmap_size", "0"), ("cell_size_check", "ON"), ("temp_store", "MEMORY")] {
        conn.pragma_update(None, name, value)?;
    }
    Ok(conn)
}

/// What only the connection that writes needs.
fn writing(conn: &Connection) -> Result<(), OpenError> {
    let wrong = |text: String| OpenError::Io(std::io::Error::other(text));
    conn.pragma_update(None, "page_size", i64::from(PAGE_BYTES))?;
    let mode = set_journal(conn, "WAL")?;
    if mode != "wal" {
        return Err(wrong(format!("SQLite keeps its journal as `{mode}` here, not as `wal`")));
    }
    synchronous(conn).map_err(wrong)?;
    // The writer copies the log itself, when nobody waits for it.
    conn.pragma_update(None, "wal_autocheckpoint", 0)?;
    conn.pragma_update(None, "journal_size_limit", LOG_BYTES_MAX)?;
    conn.pragma_update(None, "secure_delete", "FAST")?;
    Ok(())
}

/// Sets how SQLite keeps its journal; answers how it does from here on.
pub(super) fn set_journal(conn: &Connection, mode: &str) -> rusqlite::Result<String> {
    let mut statement = conn.prepare(&format!("PRAGMA journal_mode = {mode}"))?;
    let mut rows = statement.query(())?;
    let mode = rows.next()?.map(|row| row.get(0)).transpose()?;
    // It answers first and writes then: whether that went well is known at the end.
    while rows.next()?.is_some() {}
    Ok(mode.unwrap_or_default())
}

/// Each commit is synced before its COMMIT returns: read back, for on this all promises rest.
fn synchronous(conn: &Connection) -> Result<(), String> {
    let level = if crate::sabotage::is("synchronous_normal") { 1 } else { 2 };
    let set = conn.pragma_update(None, "synchronous", level);
    let read: rusqlite::Result<i32> = conn.query_row("PRAGMA synchronous", (), |row| row.get(0));
    match (set, read) {
        (Ok(()), Ok(read)) if read == level => Ok(()),
        other => Err(format!("SQLite does not sync its commits: {other:?}")),
    }
}

/// A connection that writes the rows of a session which is not there yet.
pub(super) fn importing(dir: &Path) -> Result<Connection, OpenError> {
    let conn = connect(&database_path(dir), OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    writing(&conn)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, false)?;
    Ok(conn)
}

/// A connection that can only read.
pub(super) fn reading(dir: &Path) -> Result<Connection, OpenError> {
    let conn = connect(&database_path(dir), OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    conn.pragma_update(None, "query_only", "ON")?;
    conn.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
    Ok(conn)
}

/// SQLite's locks and shared memory do not work over a network.
fn warn_of_network(dir: &Path) {
    const NETWORK: [i64; 5] = [0x6969, 0x517b, 0xff53_4d42, 0xfe53_4d42, 0x0102_1997];
    let Ok(found) = nix::sys::statfs::statfs(dir) else { return };
    #[allow(clippy::unnecessary_cast, reason = "the width of this type differs between systems")]
    let kind = found.filesystem_type().0 as i64;
    if NETWORK.contains(&kind) {
        let path = dir.display();
        tracing::warn!(%path, "the store is on a network file system: commits may be lost there");
    }
}
