//! When SQLite's log is copied into the database, and what is written down about it before.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::marker::{Marker, State};
use super::{open, reserve, wal};

/// Bytes of SQLite's log behind which it is copied into the database.
const COPY_BYTES: u64 = 16 << 20;
/// The same amid an import, which fills it fast: whoever waits meanwhile waits for less.
const PIECE_COPY_BYTES: u64 = 4 << 20;
/// Bytes of SQLite's log behind which it is also cut.
const CUT_BYTES: u64 = 64 << 20;
/// On a small disk it is copied behind one part in so many of the disk, and looked at after each batch.
const DISK_SHARE: u64 = 16;
/// Batches between two looks at the log's size.
const BATCHES_PER_LOOK: u32 = 16;
/// How long cutting the log waits for readers; writers wait with it.
const CUT_WAIT_MS: u64 = 50;
/// How long anything else waits for a lock. Nothing should ever have to.
pub(super) const BUSY_MS: u64 = 5_000;

/// Keeps the log of SQLite short and the marker true.
pub(super) struct Keeper {
    dir: PathBuf,
    marker: Marker,
    batches: u32,
    /// Bytes of the log behind which it is copied here, and batches between two looks.
    copy_bytes: u64,
    batches_per_look: u32,
}

impl Keeper {
    /// Of a store whose marker on disk is this one.
    pub(super) fn new(dir: &Path, marker: Marker) -> Self {
        let disk = reserve::disk_bytes(dir).unwrap_or(u64::MAX);
        let copy_bytes = COPY_BYTES.min(disk / DISK_SHARE);
        let batches_per_look = if copy_bytes < COPY_BYTES { 1 } else { BATCHES_PER_LOOK };
        Self { dir: dir.to_owned(), marker, batches: 0, copy_bytes, batches_per_look }
    }

    /// After each batch: looks now and then how long the log is.
    pub(super) fn after_batch(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        self.batches += 1;
        if self.batches < self.batches_per_look {
            return Ok(());
        }
        self.look(conn, self.copy_bytes)
    }

    /// After a piece of an import: looks each time.
    pub(super) fn after_piece(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        self.look(conn, PIECE_COPY_BYTES.min(self.copy_bytes))
    }

    fn look(&mut self, conn: &Connection, most: u64) -> rusqlite::Result<()> {
        self.batches = 0;
        if self.marker.state == State::Emptying {
            // There are commits in the log anew: from here on, an empty one is damage.
            self.note_salt()?;
        }
        let bytes = log_bytes(conn)?;
        if bytes > CUT_BYTES {
            self.cut(conn)
        } else if bytes > most {
            self.copy(conn)
        } else {
            Ok(())
        }
    }

    /// After a while of silence: copies what there is.
    pub(super) fn when_idle(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        self.batches = 0;
        if log_bytes(conn)? == 0 { Ok(()) } else { self.copy(conn) }
    }

    fn copy(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        self.note_salt()?;
        checkpoint(conn, "PASSIVE")
    }

    /// Bytes by which the database grows when the log is copied into it.
    pub(super) fn growth(&self, conn: &Connection) -> rusqlite::Result<u64> {
        let pages: i64 = conn.query_row("PRAGMA page_count", (), |row| row.get(0))?;
        let whole = u64::try_from(pages).unwrap_or(0) * u64::from(open::PAGE_BYTES);
        let (there, _) = open::looks(&open::database_path(&self.dir)).map_err(as_sql)?;
        Ok(whole.saturating_sub(there))
    }

    /// Copies all and gives the log's room back.
    pub(super) fn cut(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        self.note_emptying()?;
        conn.busy_timeout(Duration::from_millis(CUT_WAIT_MS))?;
        let done = checkpoint(conn, "TRUNCATE");
        conn.busy_timeout(Duration::from_millis(BUSY_MS))?;
        done
    }

    /// The log's first salt is written down before a checkpoint lets SQLite change it, so that the
    /// one found after a crash is at most a step away and another database's log is known.
    fn note_salt(&mut self) -> rusqlite::Result<()> {
        let salt = wal::salt(&open::log_path(&self.dir)).map_err(as_sql)?;
        let is_noted = salt == self.marker.salt && self.marker.state == State::Open;
        if salt.is_none() || is_noted {
            return Ok(());
        }
        self.note(salt, State::Open)
    }

    /// What is not on disk is not believed either: on a full one it is tried anew.
    fn note(&mut self, salt: Option<u32>, state: State) -> rusqlite::Result<()> {
        let marker = Marker { salt, state, ..self.marker.clone() };
        marker.write(&self.dir).map_err(as_sql)?;
        self.marker = marker;
        Ok(())
    }

    /// Written down before the log is emptied, or a crash right behind it would look like damage.
    fn note_emptying(&mut self) -> rusqlite::Result<()> {
        let salt = wal::salt(&open::log_path(&self.dir)).map_err(as_sql)?;
        self.note(salt, State::Emptying)
    }

    /// Copies everything, closes, and says that the store is clean.
    pub(super) fn close(mut self, conn: Connection) -> rusqlite::Result<()> {
        self.note_emptying()?;
        checkpoint(&conn, "TRUNCATE")?;
        if log_bytes(&conn)? > 0 {
            let text = Some("somebody still reads the database".to_owned());
            let busy = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
            return Err(rusqlite::Error::SqliteFailure(busy, text));
        }
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
        conn.close().map_err(|(_, err)| err)?;
        self.marker.state = State::Clean;
        self.marker.salt = None;
        let path = open::database_path(&self.dir);
        self.marker.file = Some(open::looks(&path).map_err(as_sql)?);
        self.marker.write(&self.dir).map_err(as_sql)
    }
}

/// A full disk is one here as it is for SQLite: it passes, and nothing was changed.
fn as_sql(err: std::io::Error) -> rusqlite::Error {
    use rusqlite::ffi::{Error, SQLITE_FULL, SQLITE_IOERR};
    let code = if reserve::will_pass(&err) { SQLITE_FULL } else { SQLITE_IOERR };
    rusqlite::Error::SqliteFailure(Error::new(code), Some(err.to_string()))
}

fn checkpoint(conn: &Connection, how: &str) -> rusqlite::Result<()> {
    conn.prepare_cached(&format!("PRAGMA wal_checkpoint({how})"))?.query_row((), |_| Ok(()))
}

/// Bytes in the log that are not copied yet.
fn log_bytes(conn: &Connection) -> rusqlite::Result<u64> {
    let frames: (i64, i64) = conn
        .prepare_cached("PRAGMA wal_checkpoint(NOOP)")?
        .query_row((), |row| Ok((row.get(1)?, row.get(2)?)))?;
    let waiting = if frames.0 == frames.1 { 0 } else { frames.0 };
    // The database may be older than the size that new ones have.
    let page: u64 =
        conn.prepare_cached("PRAGMA page_size")?.query_row((), |row| row.get::<_, u32>(0))?.into();
    Ok(u64::try_from(waiting).unwrap_or(0) * (page + wal::FRAME_BYTES as u64))
}
