//! One document's file: read with a limit, replaced whole or not at all, set aside when damaged.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::libc::O_NONBLOCK;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde_json::{Map, Value};

/// The largest document, as it lies on disk.
pub const DOCUMENT_BYTES_MAX: usize = 1024 * 1024;
/// The most keys in one document.
pub const KEYS_MAX: usize = 4_096;
/// The longest key.
pub const KEY_BYTES_MAX: usize = 256;
/// The mode of all files here: there may be keys of providers in them.
const FILE_MODE: u32 = 0o600;
/// A file that is no JSON is not spoken of before it is so old.
const NEW_SECONDS: i64 = 1;
/// The end of the name of a file being written.
const UNFINISHED: &str = ".tmp";

/// What tells one version of a file from another, so that an edit by hand is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    file: (u64, u64),
    bytes: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(meta: &fs::Metadata) -> Self {
        Self {
            file: (meta.dev(), meta.ino()),
            bytes: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
        }
    }
}

impl Stamp {
    /// Whether who wrote this version may not have ended.
    pub(super) fn is_new(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        (now - NEW_SECONDS..=now).contains(&self.modified.0)
    }
}

/// What lies where a document should be.
#[derive(Debug)]
pub(super) enum Found {
    /// No file: the document is empty.
    Missing,
    /// A JSON object within the limits.
    Whole(Map<String, Value>, Stamp),
    /// Something else; what is wrong with it.
    Damaged(String),
}

/// Why a document was not written.
#[derive(Debug)]
pub(super) enum WriteError {
    /// The old file stands.
    Unchanged(io::Error),
    /// The new file is in place, but a power cut may still take it back.
    Unknown(io::Error),
}

/// The version of the file that is there.
pub(super) fn stamp(path: &Path) -> io::Result<Option<Stamp>> {
    match fs::metadata(path) {
        Ok(meta) => Ok(Some(Stamp::of(&meta))),
        Err(err) if err.kind() == ErrorKind::NotFound => Ok(None),
        Err(err) => Err(err),
    }
}

/// Reads a document.
pub(super) fn read(path: &Path) -> io::Result<Found> {
    // Non-blocking, so that a pipe in the file's place cannot hold the daemon.
    let file = match OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path) {
        Ok(file) => file,
        Err(err) if err.kind() == ErrorKind::NotFound => return Ok(Found::Missing),
        Err(err) => return Err(err),
    };
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::other("not a file"));
    }
    let mut bytes = Vec::new();
    file.take(DOCUMENT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > DOCUMENT_BYTES_MAX {
        return Ok(Found::Damaged(format!("it has more than {DOCUMENT_BYTES_MAX} bytes")));
    }
    match serde_json::from_slice(&bytes) {
        Err(err) => Ok(Found::Damaged(format!("it is not JSON: {err}"))),
        Ok(Value::Object(members)) => match beyond_limits(&members) {
            None => Ok(Found::Whole(members, Stamp::of(&meta))),
            Some(what) => Ok(Found::Damaged(what)),
        },
        Ok(_) => Ok(Found::Damaged("it is not a JSON object".to_owned())),
    }
}

/// What passes the limits of keys, if anything does.
pub(super) fn beyond_limits(members: &Map<String, Value>) -> Option<String> {
    if members.len() > KEYS_MAX {
        return Some(format!("it has {} keys, {KEYS_MAX} are allowed", members.len()));
    }
    let key = members.keys().find(|it| it.is_empty() || it.len() > KEY_BYTES_MAX)?;
    Some(format!("it has a key of {} bytes, 1 to {KEY_BYTES_MAX} are allowed", key.len()))
}

/// A document as people read it.
pub(super) fn text(members: &Map<String, Value>) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(members).expect("JSON values are always serialised");
    text.push(b'\n');
    text
}

/// Replaces the file. On disk when it returns.
pub(super) fn write(path: &Path, text: &[u8]) -> Result<Stamp, WriteError> {
    // A person may keep the file elsewhere, behind a link, which is to stay one.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let in_place = crate::sabotage::is("document_in_place");
    let unfinished = if in_place { target.clone() } else { unfinished(&target) };
    let written = (|| {
        remove_if_there(&unfinished)?;
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&unfinished)?;
        file.write_all(text)?;
        file.sync_all()?;
        let stamp = Stamp::of(&file.metadata()?);
        fs::rename(&unfinished, &target)?;
        Ok(stamp)
    })();
    match written {
        Ok(stamp) => sync_folder_of(&target).map(|()| stamp).map_err(WriteError::Unknown),
        Err(err) => {
            // What stays is removed at the next start.
            drop(remove_if_there(&unfinished));
            Err(WriteError::Unchanged(err))
        }
    }
}

/// Renames a damaged file, over nothing, and answers where it is kept.
pub(super) fn set_aside(path: &Path, mut unix_ms: u64) -> io::Result<PathBuf> {
    loop {
        let mut kept = OsString::from(path);
        kept.push(format!(".damaged-{unix_ms}"));
        let kept = PathBuf::from(kept);
        // Two in one millisecond: the later is moved on, not over the earlier.
        if fs::symlink_metadata(&kept).is_ok() {
            unix_ms += 1;
            continue;
        }
        fs::rename(path, &kept)?;
        sync_folder_of(path)?;
        return Ok(kept);
    }
}

/// Removes what writers that died left of their unfinished work.
pub(super) fn remove_leftovers(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let writer = name
            .to_str()
            .and_then(|it| it.strip_prefix('.')?.strip_suffix(UNFINISHED)?.rsplit_once(".json."))
            .and_then(|(_, pid)| pid.parse().ok());
        // Another daemon, with another store, may be writing a document here right now.
        let me = std::process::id().cast_signed();
        if writer
            .is_some_and(|pid| pid == me || kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH))
        {
            remove_if_there(&folder.join(name))?;
        }
    }
    Ok(())
}

/// `.<name>.<pid>.tmp` in the same folder, so that the rename stays in one file system.
fn unfinished(target: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(target.file_name().expect("a document's path ends in its name"));
    name.push(format!(".{}{UNFINISHED}", std::process::id()));
    target.with_file_name(name)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(err) if err.kind() != ErrorKind::NotFound => Err(err),
        _ => Ok(()),
    }
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    File::open(path.parent().expect("a document lies in a folder"))?.sync_all()
}
