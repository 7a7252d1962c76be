//! Copies of the whole store: made while it is used, proved before they count, put back.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::backup::Backup;
use rusqlite::{Connection, OpenFlags};
use sess_protocol::id::SessionId;
use sess_protocol::time::Timestamp;

use super::open::{
    self, OpenError, connect, database_path, log_path, make_private, private_folder,
};
use crate::store::{BackupMade, StoreError};

/// The folder of the copies, below the store's.
const FOLDER: &str = "backups";
/// How a copy's name begins and ends; between them is the time at which it was made.
const NAMED: (&str, &str) = ("sess-", ".db");
/// What an unfinished copy is called.
const DRAFT: &str = "draft.db";
/// What the folders are called into which a store is set aside; behind it stands when.
const REPLACED: &str = "replaced-";
pub(super) const DOCTORED: &str = "doctor-";
/// Pages that are copied at a time, and the pause until the next: the disk is for sessions first.
const STEP_PAGES: i32 = 4096;
const STEP_PAUSE: Duration = Duration::from_millis(1);
/// Tries to find a snapshot that is not written to meanwhile, before all is copied in one step.
const CALM_STEPS_MAX: usize = 64;

/// Makes a copy of the store in `dir`, checks it, and lets only the newest `keep` stay.
pub(super) fn make(dir: &Path, keep: usize) -> Result<BackupMade, StoreError> {
    let failed = |err: OpenError| StoreError::Unavailable(format!("no backup was made: {err}"));
    write(dir, keep).map_err(failed)
}

fn write(dir: &Path, keep: usize) -> Result<BackupMade, OpenError> {
    let folder = dir.join(FOLDER);
    private_folder(&folder)?;
    let draft = folder.join(DRAFT);
    remove(&draft)?;
    let at = Timestamp::now();
    copy(&database_path(dir), &draft)?;
    let sessions = verify(&draft)?;
    let bytes = std::fs::metadata(&draft)?.len();
    std::fs::File::open(&draft)?.sync_all()?;
    let name = format!("{}{}{}", NAMED.0, at.to_string().replace(':', "-"), NAMED.1);
    let path = folder.join(name);
    std::fs::rename(&draft, &path)?;
    std::fs::File::open(&folder)?.sync_all()?;
    let all = list(dir)?;
    for old in all.iter().rev().skip(keep.max(1)) {
        std::fs::remove_file(old)?;
    }
    Ok(BackupMade { path, bytes, sessions, at })
}

/// The copies there are, oldest first.
pub(super) fn list(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(dir.join(FOLDER)) {
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut all = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|it| it.to_str()).unwrap_or_default();
        if name.starts_with(NAMED.0) && name.ends_with(NAMED.1) {
            all.push(path);
        }
    }
    all.sort();
    Ok(all)
}

/// When the newest copy was made, as its name says it: a file's own time changes when it is moved.
pub(super) fn newest_at(dir: &Path) -> Option<Timestamp> {
    let all = list(dir).ok()?;
    all.iter().rev().find_map(|path| {
        let name = path.file_name()?.to_str()?;
        let (day, time) = name.strip_prefix(NAMED.0)?.strip_suffix(NAMED.1)?.split_once('T')?;
        format!("{day}T{}", time.replace('-', ":")).parse().ok()
    })
}

fn copy(from: &Path, to: &Path) -> Result<(), OpenError> {
    let from = connect(from, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    std::fs::OpenOptions::new().write(true).create_new(true).open(to)?;
    make_private(to)?;
    let mut into = Connection::open(to)?;
    let backup = Backup::new(&from, &mut into)?;
    // A writer makes a copy begin anew; after a while all is copied in one step, from one snapshot.
    for _ in 0..CALM_STEPS_MAX {
        if backup.step(STEP_PAGES)? == rusqlite::backup::StepResult::Done {
            return Ok(());
        }
        std::thread::sleep(STEP_PAUSE);
    }
    match backup.step(-1)? {
        rusqlite::backup::StepResult::Done => Ok(()),
        other => Err(std::io::Error::other(format!("the copy did not end: {other:?}")).into()),
    }
}

/// Checks a copy as the store itself is checked; answers how many sessions are in it.
pub(super) fn verify(path: &Path) -> Result<u64, OpenError> {
    let conn = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    // Read as one file: a copy that needs a second one beside it is none.
    open::set_journal(&conn, "DELETE")?;
    let sound: String = conn.query_row("PRAGMA integrity_check(1)", (), |row| row.get(0))?;
    if sound != "ok" {
        return Err(OpenError::Damaged(format!("the copy is damaged: {sound}")));
    }
    open::history(&conn)?;
    let sessions: i64 = conn.query_row(
        "SELECT count(*) FROM sessions WHERE id != ?",
        [SessionId::GLOBAL.bytes()],
        |row| row.get(0),
    )?;
    Ok(sessions.unsigned_abs())
}

/// Puts a copy in the place of the store, which is set aside whole. From then on it is another
/// history: what was said behind the copy's time is not in it.
///
/// Nobody may have the store open.
///
/// # Errors
/// What is no sound copy is refused, and the store is left as it is.
pub fn restore(dir: &Path, from: &Path) -> Result<PathBuf, OpenError> {
    private_folder(dir)?;
    settle(dir)?;
    let draft = dir.join("restored.db");
    remove(&draft)?;
    std::fs::copy(from, &draft)?;
    make_private(&draft)?;
    verify(&draft)?;
    let conn = connect(&draft, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let history = uuid::Uuid::new_v4().simple().to_string();
    conn.execute("UPDATE meta SET value = ? WHERE key = 'history'", [history])?;
    conn.close().map_err(|(_, err)| err)?;
    std::fs::File::open(&draft)?.sync_all()?;
    let aside = dir.join(format!("{REPLACED}{}", Timestamp::now().0));
    private_folder(&aside)?;
    replace(dir, &draft, &aside)?;
    Ok(aside)
}

/// Puts a database that is whole and on disk in the place of the store, which is set aside into a folder.
pub(super) fn replace(dir: &Path, draft: &Path, aside: &Path) -> std::io::Result<()> {
    // In this order the marker tells of the old store until the new one is whole: a start after a crash
    // in between refuses what it finds, rather than to begin an empty store or to go on without a log.
    let database = database_path(dir);
    if_there(std::fs::hard_link(&database, aside.join("sess.db")))?;
    for name in ["sess.db-shm", "sess.db-wal"] {
        if_there(std::fs::rename(dir.join(name), aside.join(name)))?;
    }
    std::fs::File::open(aside)?.sync_all()?;
    std::fs::rename(draft, &database)?;
    std::fs::File::open(dir)?.sync_all()?;
    if_there(std::fs::rename(dir.join("store.json"), aside.join("store.json")))?;
    std::fs::File::open(aside)?.sync_all()?;
    std::fs::File::open(dir)?.sync_all()
}

/// Ends what a crash amid [`replace`] left: a store that was not replaced yet gets its log back, one that was
/// loses the marker of the old one.
pub(super) fn settle(dir: &Path) -> std::io::Result<()> {
    let inode = |path: &Path| std::fs::symlink_metadata(path).ok().map(|it| it.ino());
    let database = database_path(dir);
    for aside in asides(dir)? {
        let (old, log) = (aside.join("sess.db"), aside.join("sess.db-wal"));
        let now = inode(&database);
        if aside.join("store.json").exists() || !(old.exists() || log.exists()) {
            continue;
        }
        if now == inode(&old) {
            for name in ["sess.db-shm", "sess.db-wal"] {
                if !dir.join(name).exists() {
                    if_there(std::fs::rename(aside.join(name), dir.join(name)))?;
                }
            }
            std::fs::File::open(dir)?.sync_all()?;
            // The other of the two names of one file.
            if_there(std::fs::remove_file(old))?;
        } else if now.is_some() && !log_path(dir).exists() {
            if_there(std::fs::rename(dir.join("store.json"), aside.join("store.json")))?;
        }
        std::fs::File::open(&aside)?.sync_all()?;
        std::fs::File::open(dir)?.sync_all()?;
    }
    Ok(())
}

/// The folders into which stores were set aside.
pub(super) fn asides(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let ours = name
            .to_str()
            .is_some_and(|it| [REPLACED, DOCTORED].iter().any(|of| it.starts_with(of)));
        if ours && entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// What is not there is no error.
fn if_there(done: std::io::Result<()>) -> std::io::Result<()> {
    match done {
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn remove(path: &Path) -> std::io::Result<()> {
    if_there(std::fs::remove_file(path))
}
