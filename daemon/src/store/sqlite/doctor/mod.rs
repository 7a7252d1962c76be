//! What can be saved of a damaged store, and what exactly cannot?
//!
//! The files are read as they are, without SQLite and without a change ([`pages`], [`cells`]); all that proves
//! itself is gathered ([`found`]), also out of backups of the same history; a new database is made of it
//! ([`rebuild`]), proved, and put in the place of the old one, which is set aside whole.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::OpenFlags;
use sess_protocol::id::SessionId;
use sess_protocol::time::Timestamp;

use super::marker::{Marker, State};
use super::open::{self, OpenError};
use super::rows::Trouble;
use super::{backup, wal};
use crate::store::Hash;
use found::{Found, Rank};
use pages::Pages;

mod cells;
mod found;
mod pages;
mod rebuild;

/// The newest backups that are looked into.
const BACKUPS_MAX: usize = 7;
/// What is worked on, in the folder of a run.
const FOUND: &str = "found.db";
const DRAFT: &str = "new.db";
/// What was said, for who looks into the folder later.
const REPORT: &str = "report.json";
/// Commits that are readable and that no chain proves, for people.
const REST: &str = "rest.jsonl";

/// What is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Of this session; of none where not even its id can be read.
    pub session: Option<SessionId>,
    /// What of it.
    pub what: Part,
}

/// A part of a session that is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Its events from this number on, to the last that it had, where that is known.
    Events {
        /// The first that is missing.
        first: u64,
        /// The last that there was.
        last: Option<u64>,
    },
    /// The bytes with this hash.
    Blob(Hash),
}

/// What was saved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Saved {
    /// Sessions in the new store.
    pub sessions: u64,
    /// Commits in it.
    pub commits: u64,
    /// What is known to be missing.
    pub missing: Vec<Missing>,
    /// What may be missing and cannot be named.
    pub unknown: Vec<String>,
    /// Sessions of which something came out of a backup.
    pub from_backup: Vec<SessionId>,
    /// Where the old store lies, if it was replaced.
    pub aside: Option<PathBuf>,
}

impl Saved {
    /// Whether nothing is missing, as far as anybody can know.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.missing.is_empty() && self.unknown.is_empty()
    }

    /// Whether there is nothing that a new store could be made of.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.commits == 0 && !self.is_all()
    }
}

/// Makes a file that nobody else may read.
fn private_file(path: &Path) -> io::Result<File> {
    File::options().write(true).create_new(true).mode(0o600).open(path)
}

/// Saves what can be saved of the store in a folder, which nobody may have open. Nothing of it is destroyed, and
/// nothing is replaced where nothing can be saved. `report` is called before anything is replaced, so that what is
/// missing is written down first; without it nothing is replaced.
///
/// # Errors
/// A store of a newer version is left alone; or the disk did not do it, and the store is as it was.
pub fn save(dir: &Path, report: Option<ReportTo<'_>>) -> Result<Saved, OpenError> {
    settle(dir)?;
    let folder = dir.join(format!("{}{}", backup::DOCTORED, Timestamp::now().0));
    open::private_folder(&folder)?;
    let saved = save_into(dir, &folder, report);
    for name in [FOUND, DRAFT, "new.db-journal"] {
        let _ = std::fs::remove_file(folder.join(name));
    }
    let was_replaced = saved.as_ref().is_ok_and(|it| it.aside.is_some());
    if !was_replaced {
        let _ = std::fs::remove_file(folder.join(REST));
        let _ = std::fs::remove_file(folder.join(REPORT));
        let _ = std::fs::remove_dir(&folder);
    }
    saved
}

/// Who is told what was saved, and where the old store will lie.
pub type ReportTo<'r> = &'r dyn Fn(&Saved, &Path) -> io::Result<()>;

/// Ends a change of stores that was killed, and removes what a killed run left of its own work. Nobody may have the
/// store open.
///
/// # Errors
/// The disk did not do it.
pub fn settle(dir: &Path) -> io::Result<()> {
    backup::settle(dir)?;
    for folder in backup::asides(dir)? {
        for name in [FOUND, DRAFT, "new.db-journal"] {
            let _ = std::fs::remove_file(folder.join(name));
        }
        // One in which a store lies stays, for it is not empty.
        if !folder.join("sess.db").exists() && !folder.join("store.json").exists() {
            let _ = std::fs::remove_file(folder.join(REST));
            let _ = std::fs::remove_file(folder.join(REPORT));
        }
        let _ = std::fs::remove_dir(&folder);
    }
    Ok(())
}

fn save_into(dir: &Path, folder: &Path, report: Option<ReportTo<'_>>) -> Result<Saved, OpenError> {
    let damaged = |trouble: Trouble| OpenError::Damaged(trouble.answer().to_string());
    let (database, log) = (open::database_path(dir), open::log_path(dir));
    open::refuse_newer(&database)?;
    let marker = Marker::read(dir).ok().flatten();
    let mut saved = Saved { unknown: said_of_files(dir, marker.as_ref())?, ..Saved::default() };
    let believed = is_ours(&log, marker.as_ref())?;
    drop(private_file(&folder.join(FOUND))?);
    let mut found = Found::at(&folder.join(FOUND)).map_err(damaged)?;
    let pages = Pages::of(&database, &log, believed)?;
    let others = if believed { Rank::Left } else { Rank::Doubtful };
    found.take_store(&pages, others).map_err(damaged)?;
    drop(pages);
    let history = found.history.clone().or(marker.map(|it| it.history));
    for path in backup::list(dir)?.into_iter().rev().take(BACKUPS_MAX) {
        let pages = Pages::of(&path, &folder.join("none"), false)?;
        let known = open::refuse_newer(&path).is_ok();
        if known && history.is_some() && Found::history_of(&pages) == history {
            found.take_backup(&pages).map_err(damaged)?;
        }
    }
    found.flush().map_err(damaged)?;
    saved.unknown.extend(said_of_pages(&found));
    let draft = folder.join(DRAFT);
    drop(private_file(&draft)?);
    // Where something is missing it is another history from here on: cursors of the old one may name what is gone.
    let new = || uuid::Uuid::new_v4().simple().to_string();
    let built = rebuild::rebuild(&found, &draft, &new(), &folder.join(REST))?;
    (saved.sessions, saved.commits) = (built.sessions, built.commits);
    (saved.missing, saved.from_backup) = (built.missing, built.from_backup);
    let is_listed = found.lists.sessions || database.exists();
    let is_empty = saved.is_nothing() || (saved.commits == 0 && !is_listed);
    let Some(report) = report.filter(|_| !is_empty) else { return Ok(saved) };
    if let Some(history) = history.filter(|_| saved.is_all()) {
        let conn = open::connect(&draft, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        conn.execute("UPDATE meta SET value = ? WHERE key = 'history'", [history])?;
    }
    backup::verify(&draft)?;
    File::open(&draft)?.sync_all()?;
    saved.aside = Some(folder.to_owned());
    report(&saved, &folder.join(REPORT))?;
    backup::replace(dir, &draft, folder)?;
    Ok(saved)
}

/// Whether SQLite's log is this database's, as far as the marker says it.
fn is_ours(log: &Path, marker: Option<&Marker>) -> io::Result<bool> {
    let Some(marker) = marker else { return Ok(true) };
    if marker.state == State::Clean {
        return Ok(false);
    }
    Ok(match (marker.salt, wal::salt(log)?) {
        (Some(marked), Some(salt)) => wal::is_next(marked, salt),
        _ => true,
    })
}

/// What the files say of what may be missing, before any is read.
fn said_of_files(dir: &Path, marker: Option<&Marker>) -> Result<Vec<String>, OpenError> {
    let (database, log) = (open::database_path(dir), open::log_path(dir));
    let mut said = Vec::new();
    if !database.exists() {
        said.push("the database is gone: what no backup has is missing".to_owned());
    }
    let Some(marker) = marker else {
        return Ok(said);
    };
    match wal::examine(&log, marker.salt)? {
        wal::Found::Missing | wal::Found::Empty if marker.state == State::Open => said.push(
            "SQLite's log is gone or empty: what was stored last, of any session, is missing"
                .to_owned(),
        ),
        wal::Found::Damaged(text) if marker.state != State::Clean => {
            said.push(format!("{text}: what was stored last, of any session, may be missing"));
        }
        wal::Found::Whole(_) | wal::Found::Damaged(_) if marker.state == State::Clean => {
            said.push("SQLite's log is another database's".to_owned());
        }
        _ => {}
    }
    Ok(said)
}

/// What cannot be told from the pages that were read.
fn said_of_pages(found: &Found) -> Vec<String> {
    let mut said = Vec::new();
    let pages = match found.pages_unread {
        1 => "a page of the database".to_owned(),
        count => format!("{count} pages of the database"),
    };
    if !found.lists.sessions {
        said.push(format!(
            "{pages} cannot be read: a session that left no other trace is not named here"
        ));
    }
    if !found.lists.keys || found.bad_keys > 0 {
        said.push("the answers of some idempotency keys may be forgotten: a request tried again may run again".to_owned());
    }
    if !found.lists.partials {
        said.push("the text of an answer that was being written may be missing".to_owned());
    }
    said
}

/// What can be said of a store at a glance.
#[derive(Debug, Clone, Default)]
pub struct About {
    /// Bytes of the database.
    pub bytes: u64,
    /// Bytes of SQLite's log.
    pub log_bytes: u64,
    /// The number of its schema, as its first page says it.
    pub schema: Option<u32>,
    /// The newest number that is known here.
    pub known: u32,
    /// The version of SQLite.
    pub sqlite: &'static str,
    /// The backups there are, oldest first.
    pub backups: Vec<PathBuf>,
    /// When the newest was made.
    pub backed_up_at: Option<Timestamp>,
    /// The folders into which stores were set aside.
    pub asides: Vec<PathBuf>,
}

/// Says what can be said of the store in a folder without opening it.
#[must_use]
pub fn about(dir: &Path) -> About {
    let bytes = |path: PathBuf| std::fs::metadata(path).map_or(0, |it| it.len());
    About {
        bytes: bytes(open::database_path(dir)),
        log_bytes: bytes(open::log_path(dir)),
        schema: open::schema_in(&open::database_path(dir)),
        known: super::schema::number(super::schema::MIGRATIONS),
        sqlite: rusqlite::version(),
        backups: backup::list(dir).unwrap_or_default(),
        backed_up_at: backup::newest_at(dir),
        asides: backup::asides(dir).unwrap_or_default(),
    }
}
