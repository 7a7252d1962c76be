//! Room on the disk that is kept for the ends of tasks, so that they are recorded when nothing else fits.
//!
//! A file beside the database holds the room. When the disk is full it is emptied, and what it held goes
//! to the ends of tasks alone, until there is room enough to fill it again.

use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::writer::{Ending, Job, Writer};
use crate::store::StoreError;

const NAME: &str = "sess.reserve";
/// Bytes that are kept: some tens of commits that end a task.
const RESERVE_BYTES: u64 = 1 << 20;
/// Of a small file system one part in so many is kept at most.
const SHARE: u64 = 8;
/// Bytes that must be free beside it: who waits for room shall find some.
const BESIDE_BYTES: u64 = 128 << 10;
/// Bytes that a marker takes while it is written.
const MARKER_BYTES: u64 = 16 << 10;
/// How long until the log's own room is looked for once more on a disk that stays full.
const LOOK_AFTER: Duration = Duration::from_millis(500);
/// Bytes that are written at a time.
const PIECE_BYTES: usize = 64 << 10;

/// How the room stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stand {
    /// Nobody has looked yet, or there was no room to be kept.
    None,
    /// The file is there and holds its room.
    Kept,
    /// The room is given to the ends of tasks; nothing else is written.
    Spent,
}

/// The file that keeps the room.
#[derive(Debug)]
pub(super) struct Reserve {
    dir: PathBuf,
    stand: Stand,
    looked_at: Option<Instant>,
}

impl Reserve {
    /// Of the store in this folder.
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), stand: Stand::None, looked_at: None }
    }

    /// Keeps room if none is kept and there is enough; whether anything may be written.
    pub(super) fn keep(&mut self) -> bool {
        if self.stand == Stand::Kept || crate::sabotage::is("no_reserve") {
            return true;
        }
        match self.fill() {
            Ok(true) => self.stand = Stand::Kept,
            Ok(false) => {}
            Err(err) => {
                tracing::warn!(%err, "no room is kept for the ends of tasks");
                empty(&self.dir);
            }
        }
        self.stand != Stand::Spent
    }

    /// Whether only the ends of tasks may be written; where there is room again, all may.
    fn is_spent(&mut self) -> bool {
        self.stand == Stand::Spent && !self.keep()
    }

    /// Whether it is time to look for room once more, not at each request of who asks again and again.
    fn may_look(&mut self) -> bool {
        let may = self.looked_at.is_none_or(|it| it.elapsed() >= LOOK_AFTER);
        if may {
            self.looked_at = Some(Instant::now());
        }
        may
    }

    /// Gives the room away.
    fn spend(&mut self) {
        if self.stand != Stand::Spent && !crate::sabotage::is("no_reserve") {
            tracing::warn!("the disk is full: only the ends of tasks are recorded");
            empty(&self.dir);
            self.stand = Stand::Spent;
        }
    }

    /// Writes the file; whether there was room for it. What is only announced to a file system may
    /// not be there when it is needed, so that it is written, and not with bytes that can be packed.
    fn fill(&self) -> std::io::Result<bool> {
        let (size, free) = (size(&self.dir)?, free(&self.dir)?);
        let path = self.dir.join(NAME);
        if std::fs::metadata(&path).is_ok_and(|it| it.len() == size) {
            return Ok(true);
        }
        if free < size + BESIDE_BYTES {
            return Ok(false);
        }
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        let mut mixed = size;
        let mut left = usize::try_from(size).unwrap_or(0);
        while left > 0 {
            let mut piece = Vec::with_capacity(PIECE_BYTES);
            while piece.len() < PIECE_BYTES.min(left) {
                mixed =
                    mixed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
                piece.extend_from_slice(&mixed.to_be_bytes());
            }
            piece.truncate(left);
            file.write_all(&piece)?;
            left -= piece.len();
        }
        file.sync_all()?;
        Ok(true)
    }
}

/// Gives the room away before anything is open, for a start on a full disk.
pub(super) fn empty(dir: &Path) {
    // Cut first: the room of a removed file that somebody copies would stay taken.
    let path = dir.join(NAME);
    let cut = std::fs::OpenOptions::new().write(true).truncate(true).open(&path);
    if let Err(err) = cut.and_then(|_| std::fs::remove_file(&path))
        && err.kind() != ErrorKind::NotFound
    {
        tracing::warn!(%err, "the room that was kept cannot be given away");
    }
}

/// Whether an error of the file system changed nothing and will pass.
pub(super) fn will_pass(err: &std::io::Error) -> bool {
    let room = [ErrorKind::StorageFull, ErrorKind::QuotaExceeded].contains(&err.kind());
    let descriptors = [Errno::EMFILE, Errno::ENFILE].map(|it| Some(it as i32));
    room || descriptors.contains(&err.raw_os_error())
}

/// Bytes of the whole file system of a folder.
pub(super) fn disk_bytes(dir: &Path) -> std::io::Result<u64> {
    let disk = nix::sys::statvfs::statvfs(dir)?;
    Ok(disk.blocks() * disk.fragment_size())
}

fn size(dir: &Path) -> std::io::Result<u64> {
    let whole = disk_bytes(dir)?;
    // Whole blocks of any file system, so that the file's length says what it holds.
    Ok(RESERVE_BYTES.min(whole / SHARE) / PIECE_BYTES as u64 * PIECE_BYTES as u64)
}

fn free(dir: &Path) -> std::io::Result<u64> {
    let disk = nix::sys::statvfs::statvfs(dir)?;
    Ok(disk.blocks_available() * disk.fragment_size())
}

/// What holds for all that is refused while the room is given away.
const FULL: &str = "nothing is stored: the disk is full";

impl Writer {
    /// Does jobs in one transaction; where the disk is full, those alone that end tasks.
    pub(super) fn in_the_room_there_is(&mut self, jobs: &[Job]) -> Ending {
        let text = if !self.has_room() {
            FULL.to_owned()
        } else {
            match self.transaction(&jobs.iter().collect::<Vec<_>>()) {
                Ending::Full(text) => text,
                ending => return ending,
            }
        };
        let refused = || Err(StoreError::Unavailable(text.clone()));
        let ends: Vec<&Job> = jobs.iter().filter(|it| it.ends_task()).collect();
        if ends.is_empty() || crate::sabotage::is("no_reserve") {
            return Ending::RolledBack(jobs.iter().map(|_| refused()).collect());
        }
        self.reserve.spend();
        let mut ending = self.transaction(&ends);
        if let Ending::Full(_) = ending {
            self.make_room();
            ending = self.transaction(&ends);
        }
        let mut results = match ending {
            Ending::Stored(results) | Ending::RolledBack(results) => results.into_iter(),
            Ending::Full(_) => ends.iter().map(|_| refused()).collect::<Vec<_>>().into_iter(),
            Ending::Unknown(text) => return Ending::Unknown(text),
        };
        let mut result = |job: &Job| if job.ends_task() { results.next() } else { None };
        Ending::Stored(jobs.iter().map(|it| result(it).unwrap_or_else(refused)).collect())
    }

    /// Whether anything but the ends of tasks may be written. Where the room was given away, that of
    /// SQLite's log is had back, since it may be more than what is missing.
    pub(super) fn has_room(&mut self) -> bool {
        if !self.reserve.is_spent() {
            return true;
        }
        if !self.reserve.may_look() {
            return false;
        }
        self.make_room();
        !self.reserve.is_spent()
    }

    /// Has the room of SQLite's log back, where what it holds still fits into the database: one that is
    /// copied in part only has taken room and given none.
    fn make_room(&mut self) {
        let fits = self.keeper.growth(&self.conn).ok().zip(free(&self.reserve.dir).ok());
        if fits.is_some_and(|(growth, free)| growth + MARKER_BYTES <= free) {
            let done = self.keeper.cut(&self.conn);
            self.judge(done);
        }
    }

    /// Why a step of an import has to wait, if it has to.
    pub(super) fn has_no_room(&mut self) -> Option<StoreError> {
        (!self.has_room()).then(|| StoreError::Unavailable(FULL.to_owned()))
    }
}
