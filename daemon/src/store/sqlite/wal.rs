//! Whether SQLite's log (`sess.db-wal`) is the one that was left, whole up to what a crash may take.
//!
//! SQLite believes a log up to its first bad frame and forgets the rest in silence. Only the frames
//! of the last transaction can be lost to a crash, since each transaction is synced before the
//! next is written; if more than one lies whole behind a bad frame, the log is damaged.

use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes of the log's header.
const HEADER_BYTES: usize = 32;
/// Bytes in front of each page.
pub(super) const FRAME_BYTES: usize = 24;
/// What a disk writes at once.
const SECTOR_BYTES: usize = 512;
/// The log is cut at 64 MiB; one that is longer than this was not left by us.
const WAL_BYTES_MAX: u64 = 1 << 30;
/// Checkpoints between a mark and the end: each adds one to the first salt.
const SALT_STEPS_MAX: u32 = 4;

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// There is no log.
    Missing,
    /// A log without a frame.
    Empty,
    /// A log with this first salt, whole or cut by a crash.
    Whole(u32),
    /// What is wrong with it.
    Damaged(String),
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The checksum of SQLite's log, which goes on from frame to frame.
fn summed(big: bool, mut sum: (u32, u32), bytes: &[u8]) -> (u32, u32) {
    for pair in bytes.chunks_exact(8) {
        let part = |at: usize| {
            let four = [pair[at], pair[at + 1], pair[at + 2], pair[at + 3]];
            if big { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) }
        };
        sum.0 = sum.0.wrapping_add(part(0)).wrapping_add(sum.1);
        sum.1 = sum.1.wrapping_add(part(4)).wrapping_add(sum.0);
    }
    sum
}

/// The first salt that the log has at this moment, if it has a header.
pub(super) fn salt(path: &Path) -> std::io::Result<Option<u32>> {
    let mut header = [0; HEADER_BYTES];
    let mut file = match std::fs::File::open(path) {
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    match file.read_exact(&mut header) {
        Err(err) if err.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
        Err(err) => Err(err),
        Ok(()) => Ok(Some(word(&header, 16))),
    }
}

/// Looks at the log that an unclean stop left.
pub(super) fn examine(path: &Path, marked: Option<u32>) -> std::io::Result<Found> {
    let file = match std::fs::File::open(path) {
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(Found::Missing),
        other => other?,
    };
    let mut bytes = Vec::new();
    file.take(WAL_BYTES_MAX).read_to_end(&mut bytes)?;
    if bytes.len() <= HEADER_BYTES {
        return Ok(Found::Empty);
    }
    Ok(judge(&bytes, marked))
}

/// Whether a log with this salt can follow from one with the salt that was marked.
pub(super) fn is_next(marked: u32, salt: u32) -> bool {
    salt.wrapping_sub(marked) <= SALT_STEPS_MAX
}

fn judge(bytes: &[u8], marked: Option<u32>) -> Found {
    let damaged = |text: &str| Found::Damaged(format!("the database's log is damaged: {text}"));
    let (magic, page) = (word(bytes, 0), word(bytes, 8) as usize);
    let big = magic & 1 == 1;
    let header = summed(big, (0, 0), &bytes[..24]);
    if magic & !1 != 0x377f_0682 || header != (word(bytes, 24), word(bytes, 28)) {
        return damaged("its header");
    }
    let salt = word(bytes, 16);
    if marked.is_some_and(|it| !is_next(it, salt)) {
        return damaged("it is another database's");
    }
    let whole_behind = transactions_behind_damage(bytes, big, FRAME_BYTES + page, header);
    if whole_behind > 1 {
        return damaged("a frame amid others that are whole");
    }
    Found::Whole(salt)
}

/// The frames of a log, for who reads pages without SQLite: each with its page and the place of the page's bytes.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// Bytes of a page, if the header says it.
    pub(super) page_bytes: Option<u32>,
    /// The frames of whole transactions, in their order.
    pub(super) whole: Vec<(u32, u64)>,
    /// What lies behind the first bad frame, or behind a bad header. It is whatever it is.
    pub(super) behind: Vec<(u32, u64)>,
    /// Pages of the database as the last whole transaction says it.
    pub(super) pages: Option<u32>,
}

/// Reads which pages a log has, as far as it can be believed and beyond.
pub(super) fn frames(path: &Path, otherwise_bytes: u32) -> std::io::Result<Frames> {
    let mut file = match std::fs::File::open(path) {
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(Frames::default()),
        other => std::io::BufReader::new(other?.take(WAL_BYTES_MAX)),
    };
    let (mut found, mut header) = (Frames::default(), [0; HEADER_BYTES]);
    if file.read_exact(&mut header).is_err() {
        return Ok(found);
    }
    let big = word(&header, 0) & 1 == 1;
    let mut sum = summed(big, (0, 0), &header[..24]);
    let mut sound =
        word(&header, 0) & !1 == 0x377f_0682 && sum == (word(&header, 24), word(&header, 28));
    found.page_bytes = sound.then(|| word(&header, 8));
    let page = found.page_bytes.unwrap_or(otherwise_bytes) as usize;
    let (mut frame, mut at) = (vec![0; FRAME_BYTES + page], HEADER_BYTES as u64);
    let mut pending = Vec::new();
    while file.read_exact(&mut frame).is_ok() {
        let place = (word(&frame, 0), at + FRAME_BYTES as u64);
        at += frame.len() as u64;
        sum = summed(big, summed(big, sum, &frame[..8]), &frame[FRAME_BYTES..]);
        sound &= frame[8..16] == header[16..24] && sum == (word(&frame, 16), word(&frame, 20));
        if !sound {
            found.behind.push(place);
            continue;
        }
        pending.push(place);
        if word(&frame, 4) != 0 {
            found.pages = Some(word(&frame, 4));
            found.whole.append(&mut pending);
        }
    }
    // What no commit ends is no transaction.
    found.behind.splice(..0, pending);
    Ok(found)
}

/// Bytes of the header with which a database's first page begins.
pub(super) const DATABASE_HEADER_BYTES: usize = 100;

/// How the database's first page begins as the log has it, if the log has it in a whole transaction.
pub(super) fn first_page(
    path: &Path,
    otherwise_bytes: u32,
) -> std::io::Result<Option<[u8; DATABASE_HEADER_BYTES]>> {
    let found = frames(path, otherwise_bytes)?;
    let Some((_, at)) = found.whole.iter().rfind(|it| it.0 == 1) else { return Ok(None) };
    let mut bytes = [0; DATABASE_HEADER_BYTES];
    std::fs::File::open(path)?.read_exact_at(&mut bytes, *at)?;
    Ok(Some(bytes))
}

/// How many transactions end behind the first bad frame, its own included.
fn transactions_behind_damage(bytes: &[u8], big: bool, size: usize, header: (u32, u32)) -> usize {
    // A frame's sum goes on from that of the frame before: from the one that is written there, or,
    // where that one is damaged, from the one that should be.
    let (mut before, mut broken, mut ends) = ([header; 2], false, 0);
    for (at, frame) in bytes[HEADER_BYTES..].chunks_exact(size).enumerate() {
        let stored = (word(frame, 16), word(frame, 20));
        let sums =
            before.map(|sum| summed(big, summed(big, sum, &frame[..8]), &frame[FRAME_BYTES..]));
        let current = frame[8..16] == bytes[16..24];
        let whole = current && sums.contains(&stored);
        // A header that lies across two sectors may be half that of an older frame.
        let one_sector = (HEADER_BYTES + at * size) % SECTOR_BYTES <= SECTOR_BYTES - FRAME_BYTES;
        let last_of_its_own = !broken && !whole && current && one_sector;
        broken |= !whole;
        if broken && word(frame, 4) != 0 && (whole || last_of_its_own) {
            ends += 1;
        }
        before = [stored, sums[0]];
    }
    ends
}
