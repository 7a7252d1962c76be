//! What is known of the database from beside it: that it was there, and how it was left.

use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::open::OpenError;

const NAME: &str = "store.json";
/// Bytes of a marker.
const MARKER_BYTES_MAX: u64 = 4096;

/// How the store was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    /// Closed: all is in the database itself.
    Clean,
    /// Open, or ended without a word: what was last stored may be in the log of SQLite alone.
    Open,
    /// Open, and the log of SQLite was about to be emptied: it may be so, or gone, and nothing is
    /// missing then.
    Emptying,
}

/// The file `store.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Marker {
    /// The store's own id.
    pub(super) history: String,
    /// How it was left.
    pub(super) state: State,
    /// The first salt of SQLite's log, as it was before the last checkpoint. A checkpoint adds one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) salt: Option<u32>,
    /// The database's length and time of change when it was left clean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) file: Option<(u64, i64)>,
}

impl Marker {
    /// Reads the marker of a folder, if it has one.
    pub(super) fn read(dir: &Path) -> Result<Option<Self>, OpenError> {
        let mut text = String::new();
        match std::fs::File::open(dir.join(NAME)) {
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(err) => return Err(err.into()),
            Ok(file) => file.take(MARKER_BYTES_MAX).read_to_string(&mut text).map_err(|err| {
                OpenError::Damaged(format!("`{}` cannot be read: {err}", dir.join(NAME).display()))
            })?,
        };
        serde_json::from_str(&text).map(Some).map_err(|err| {
            OpenError::Damaged(format!("`{}` is damaged: {err}", dir.join(NAME).display()))
        })
    }

    /// Writes it so that a crash leaves the old one or the new one.
    pub(super) fn write(&self, dir: &Path) -> std::io::Result<()> {
        let draft: PathBuf = dir.join(format!("{NAME}.new"));
        let mut text = serde_json::to_string(self).expect("a marker is plain JSON");
        text.push('\n');
        // Opened first: where descriptors are short, that is found out before anything changes.
        let folder = std::fs::File::open(dir)?;
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&draft, dir.join(NAME))?;
        folder.sync_all()
    }
}
