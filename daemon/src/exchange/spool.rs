//! Files by their hash, kept for a day: what clients put, and what was exported for them.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sess_protocol::error::{Error, Kind};
use sess_protocol::methods::UPLOAD_BYTES_MAX;
use sha2::{Digest, Sha256};

use crate::store::Hash;

/// How long a file is kept that nothing names.
const KEPT: Duration = Duration::from_secs(86_400);
/// Uploads that are not whole yet.
const UPLOADS_MAX: usize = 64;
/// How the name of a file ends that is not whole.
const PART: &str = "part";

/// A folder of files, each named by its hash. Nothing is touched before the first use.
#[derive(Debug, Clone)]
pub struct Spool {
    dir: Arc<PathBuf>,
    uploads: Arc<Mutex<HashMap<String, Option<Draft>>>>,
}

/// A file that is being written.
#[derive(Debug)]
pub struct Draft {
    file: File,
    path: PathBuf,
    hasher: Sha256,
    bytes: u64,
    /// Whether it has its name, so that dropping it removes nothing.
    named: bool,
}

impl Draft {
    /// Adds to it.
    ///
    /// # Errors
    /// The disk is full, or fails.
    pub fn add(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// How much is written.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn hash(&self) -> Hash {
        Hash(self.hasher.clone().finalize().into())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.named {
            // One that cannot be removed goes with the next look for old files.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Spool {
    /// Files in this folder.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self { dir: Arc::new(dir), uploads: Arc::default() }
    }

    /// The folder beside a store.
    #[must_use]
    pub fn beside(store: &str) -> Self {
        let folder = Path::new(store).parent().filter(|it| it.is_absolute());
        Self::new(folder.map_or_else(std::env::temp_dir, Path::to_owned).join("blobs"))
    }

    /// The path of a file that is there.
    #[must_use]
    pub fn find(&self, hash: Hash) -> Option<PathBuf> {
        let path = self.dir.join(hash.to_string());
        path.is_file().then_some(path)
    }

    /// Begins a file. Takes the chance to remove old ones.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn draft(&self, name: &str) -> io::Result<Draft> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&*self.dir)?;
        self.remove_old();
        let path = self.dir.join(format!("{name}.{PART}"));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Draft { file, path, hasher: Sha256::new(), bytes: 0, named: false })
    }

    /// Gives a whole file its name; it is on disk when this answers.
    ///
    /// # Errors
    /// The disk fails.
    pub fn keep(&self, mut draft: Draft) -> io::Result<(Hash, u64)> {
        let hash = draft.hash();
        draft.file.sync_all()?;
        std::fs::rename(&draft.path, self.dir.join(hash.to_string()))?;
        draft.named = true;
        File::open(&*self.dir)?.sync_all()?;
        Ok((hash, draft.bytes))
    }

    /// A piece of a file and its size.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn piece(
        &self,
        hash: Hash,
        offset: u64,
        length: u64,
    ) -> io::Result<Option<(Vec<u8>, u64)>> {
        let Some(path) = self.find(hash) else { return Ok(None) };
        let mut file = File::open(path)?;
        let bytes = file.metadata()?.len();
        file.seek(SeekFrom::Start(offset))?;
        let mut piece = Vec::new();
        file.take(length).read_to_end(&mut piece)?;
        Ok(Some((piece, bytes)))
    }

    fn remove_old(&self) {
        let Ok(entries) = std::fs::read_dir(&*self.dir) else { return };
        for entry in entries.flatten() {
            let age = entry.metadata().and_then(|it| it.modified()).ok();
            if age.and_then(|it| it.elapsed().ok()).is_some_and(|it| it > KEPT) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    /// Begins an upload under a new name.
    ///
    /// # Errors
    /// Too many are open, or the folder cannot be written.
    pub fn open_upload(&self, name: &str) -> Result<(), Error> {
        if self.uploads().len() >= UPLOADS_MAX {
            let message = format!("{UPLOADS_MAX} uploads are not whole yet");
            let error = Error::new(Kind::Overloaded, message).with("limit", UPLOADS_MAX);
            return Err(error.with("retry_after_ms", 1000));
        }
        let draft = self.draft(name).map_err(|err| failed(&err))?;
        self.uploads().insert(name.to_owned(), Some(draft));
        Ok(())
    }

    fn uploads(&self) -> std::sync::MutexGuard<'_, HashMap<String, Option<Draft>>> {
        self.uploads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a piece to an upload; the last one answers the file.
    ///
    /// # Errors
    /// There is no such upload, the piece does not follow, or the disk fails.
    pub fn put(
        &self,
        name: &str,
        (offset, piece): (Option<u64>, &[u8]),
        last: bool,
    ) -> Result<Option<(Hash, u64)>, Error> {
        let slot = self.uploads().get_mut(name).map(Option::take);
        let Some(draft) = slot else { return Err(Error::not_found("upload", name)) };
        let Some(mut draft) = draft else {
            return Err(Error::new(Kind::Conflict, "another piece of this upload is on its way"));
        };
        let done = add(&mut draft, offset, piece);
        if done.is_ok() && last {
            self.uploads().remove(name);
            return self.keep(draft).map(Some).map_err(|err| failed(&err));
        }
        self.uploads().insert(name.to_owned(), Some(draft));
        done.map(|()| None)
    }
}

fn add(draft: &mut Draft, offset: Option<u64>, piece: &[u8]) -> Result<(), Error> {
    let offset = offset.unwrap_or(draft.bytes);
    let end = offset.saturating_add(piece.len() as u64);
    if end > UPLOAD_BYTES_MAX {
        let message = format!("a file has at most {UPLOAD_BYTES_MAX} bytes");
        return Err(Error::invalid("data", message).with("limit_bytes", UPLOAD_BYTES_MAX));
    }
    // One that is put again, since its answer was lost, is there already.
    if end <= draft.bytes && !piece.is_empty() {
        return Ok(());
    }
    if offset != draft.bytes {
        let message = format!("the next piece begins at {}, not at {offset}", draft.bytes);
        return Err(Error::new(Kind::Conflict, message).with("offset", draft.bytes));
    }
    draft.add(piece).map_err(|err| failed(&err))
}

/// What a client hears of a file that cannot be written or read.
#[must_use]
pub fn failed(err: &io::Error) -> Error {
    Error::new(Kind::Storage, format!("nothing was changed: {err}"))
        .hint("free space or repair the disk, then ask again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_become_a_file_by_their_hash() {
        let dir = tempfile::tempdir().expect("a folder");
        let spool = Spool::new(dir.path().join("blobs"));
        spool.open_upload("up_1").expect("opened");
        assert_eq!(spool.put("up_1", (Some(0), b"hello "), false).expect("put"), None);
        // The answer was lost, and the piece comes again.
        assert_eq!(spool.put("up_1", (Some(0), b"hello "), false).expect("put"), None);
        let gap = spool.put("up_1", (Some(7), b"x"), false).expect_err("a gap");
        assert_eq!(gap.kind(), Kind::Conflict);
        let (hash, bytes) = spool.put("up_1", (None, b"world"), true).expect("put").expect("whole");
        assert_eq!((hash, bytes), (Hash::of(b"hello world"), 11));
        let piece = spool.piece(hash, 6, 3).expect("read").expect("there");
        assert_eq!(piece, (b"wor".to_vec(), 11));
        assert!(spool.put("up_1", (None, b"x"), true).is_err(), "it is closed");
    }

    #[test]
    fn what_is_not_whole_leaves_no_file() {
        let dir = tempfile::tempdir().expect("a folder");
        let spool = Spool::new(dir.path().to_owned());
        let mut draft = spool.draft("one").expect("begun");
        draft.add(b"half").expect("written");
        drop(draft);
        assert_eq!(std::fs::read_dir(dir.path()).expect("read").count(), 0);
    }
}
