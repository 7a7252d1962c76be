//! Which pages has a database file, read without SQLite, so that one bad page spoils no other?

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::super::{open, wal};

/// Pages of a list of free pages, and of a tree, that are followed.
const PAGES_MAX: u32 = 1 << 28;
/// The byte that SQLite locks; its page holds nothing.
const LOCK_BYTE: u64 = 1 << 30;
/// How deep a tree may be.
const DEPTH_MAX: usize = 32;

/// Where a version of a page lies.
#[derive(Debug, Clone, Copy)]
enum Place {
    Database,
    Log(u64),
}

/// A version of a page that is not the one which SQLite would read: older, or behind damage.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spare {
    pub(super) no: u32,
    place: Place,
}

/// The pages of a database with its log.
#[derive(Debug)]
pub(super) struct Pages {
    database: Option<File>,
    log: Option<File>,
    /// Bytes of a page.
    pub(super) bytes: usize,
    /// How many there should be.
    pub(super) count: u32,
    overlay: HashMap<u32, u64>,
    /// All other versions that there are.
    pub(super) spares: Vec<Spare>,
}

fn open_if_there(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

pub(super) fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

pub(super) fn half(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]))
}

/// Bytes of a page as the header says it, if that can be.
fn page_bytes(header: &[u8]) -> Option<u32> {
    let said = half(header, 16);
    let bytes = if said == 1 { 65_536 } else { said };
    (bytes.is_power_of_two() && bytes >= 512).then_some(bytes as u32)
}

impl Pages {
    /// Of a database and the log beside it. A log that is not believed is all spare.
    pub(super) fn of(database: &Path, log: &Path, believe: bool) -> io::Result<Self> {
        let (file, log_file) = (open_if_there(database)?, open_if_there(log)?);
        let mut header = [0; 100];
        let length = file.as_ref().map_or(Ok(0), |it| it.metadata().map(|it| it.len()))?;
        let has_header = file.as_ref().is_some_and(|it| it.read_exact_at(&mut header, 0).is_ok());
        let said = page_bytes(&header).filter(|_| has_header);
        let mut frames = wal::frames(log, said.unwrap_or(open::PAGE_BYTES))?;
        if !believe {
            frames.behind.splice(..0, std::mem::take(&mut frames.whole));
            frames.pages = None;
        }
        let bytes = said.or(frames.page_bytes).unwrap_or(open::PAGE_BYTES);
        let in_file = u32::try_from(length.div_ceil(bytes.into())).unwrap_or(PAGES_MAX);
        let in_header = if has_header { word(&header, 28) } else { 0 };
        // A number that a flipped bit made huge is no reason to look for so many.
        let plausible = in_header.min(in_file.saturating_mul(64).max(1024));
        let count = frames.pages.unwrap_or_else(|| plausible.max(in_file)).min(PAGES_MAX);
        let mut pages = Self {
            database: file,
            log: log_file,
            bytes: bytes as usize,
            count,
            overlay: HashMap::new(),
            spares: Vec::new(),
        };
        for (no, at) in frames.whole {
            let older = match pages.overlay.insert(no, at) {
                Some(at) => Place::Log(at),
                None => Place::Database,
            };
            pages.spares.push(Spare { no, place: older });
        }
        for (no, at) in frames.behind {
            pages.spares.push(Spare { no, place: Place::Log(at) });
        }
        Ok(pages)
    }

    /// A page as SQLite would read it; nothing where there is none.
    pub(super) fn page(&self, no: u32) -> Option<Vec<u8>> {
        let place = self.overlay.get(&no).map_or(Place::Database, |at| Place::Log(*at));
        self.read(no, place)
    }

    /// Another version of a page.
    pub(super) fn spare(&self, spare: Spare) -> Option<Vec<u8>> {
        self.read(spare.no, spare.place)
    }

    fn read(&self, no: u32, place: Place) -> Option<Vec<u8>> {
        let mut page = vec![0; self.bytes];
        let done = match place {
            Place::Log(at) => self.log.as_ref()?.read_exact_at(&mut page, at),
            Place::Database => {
                let at = u64::from(no.checked_sub(1)?) * self.bytes as u64;
                self.database.as_ref()?.read_exact_at(&mut page, at)
            }
        };
        done.ok().map(|()| page)
    }

    /// Whether a page has something to hold at all.
    pub(super) fn is_lock_page(&self, no: u32) -> bool {
        u64::from(no) == LOCK_BYTE / self.bytes as u64 + 1
    }

    /// The pages that are free, as far as their list can be read.
    pub(super) fn free(&self) -> HashSet<u32> {
        let mut free = HashSet::new();
        let mut trunk = self.page(1).map_or(0, |it| word(&it, 32));
        while trunk != 0 && trunk <= self.count && free.insert(trunk) {
            let Some(page) = self.page(trunk) else { break };
            let leaves = word(&page, 4) as usize;
            let most = self.bytes / 4 - 2;
            free.extend((0..leaves.min(most)).map(|it| word(&page, 8 + 4 * it)));
            trunk = word(&page, 0);
        }
        free
    }

    /// The pages of a tree, and whether all of them are there and are pages of a tree.
    pub(super) fn tree(&self, root: u32) -> (HashSet<u32>, bool) {
        let (mut seen, mut whole) = (HashSet::new(), root > 0);
        self.walk(root, 0, &mut seen, &mut whole);
        (seen, whole)
    }

    fn walk(&self, no: u32, depth: usize, seen: &mut HashSet<u32>, whole: &mut bool) {
        let page = self.page(no).filter(|_| depth < DEPTH_MAX && no > 0 && no <= self.count);
        let start = if no == 1 { 100 } else { 0 };
        let Some(page) = page.filter(|_| seen.insert(no)) else {
            *whole = false;
            return;
        };
        match page[start] {
            0x0a | 0x0d => {}
            0x02 | 0x05 => {
                for cell in 0..half(&page, start + 3) {
                    let pointer = start + 12 + 2 * cell;
                    let at = if pointer + 2 <= page.len() { half(&page, pointer) } else { 0 };
                    if at == 0 || at + 4 > page.len() {
                        *whole = false;
                        continue;
                    }
                    self.walk(word(&page, at), depth + 1, seen, whole);
                }
                self.walk(word(&page, start + 8), depth + 1, seen, whole);
            }
            _ => *whole = false,
        }
    }
}
