//! What did the program do? The recorder's log, read; `tests/faults/record.c` defines the format.

use super::disk::Disk;
use super::rng::Rng;
use super::state::{Image, Mode};
use super::told::Told;
use anyhow::{Context, Result, bail, ensure};
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

const MAGIC: &[u8] = b"SESSREC1";
const HEADER_BYTES: usize = 16;
const TAKEN_UNKNOWN: u32 = u32::MAX;

/// One entry of the log. Paths are relative to the recorded folder, which itself is `""`; data is
/// a range of the log, see [`RecordLog::data`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of the fields say all there is")]
pub enum Op {
    NewFile {
        path: Arc<str>,
    },
    NewFolder {
        path: Arc<str>,
    },
    Write {
        path: Arc<str>,
        offset: u64,
        data: Range<usize>,
    },
    Truncate {
        path: Arc<str>,
        length: u64,
    },
    SyncBegun {
        path: Arc<str>,
    },
    /// It made durable what came before its begin, which is the op of that index.
    Synced {
        begun: usize,
    },
    Unlink {
        path: Arc<str>,
    },
    Rename {
        from: Arc<str>,
        to: Arc<str>,
    },
    Told {
        connection: u32,
        data: Range<usize>,
    },
}

/// A whole log in memory.
#[derive(Debug)]
pub struct RecordLog {
    bytes: Vec<u8>,
    ops: Vec<Op>,
}

impl RecordLog {
    /// Reads a log. Its last record may be cut short by a kill; it is then left out.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        Self::from_bytes(bytes)
    }

    /// Reads a log that is in memory.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self> {
        ensure!(bytes.starts_with(MAGIC), "not a recorder's log");
        let mut reader = Reader::default();
        let mut ops = Vec::new();
        let mut at = MAGIC.len();
        while let Some((record, next)) = Record::at(&bytes, at) {
            let op = reader
                .op(&bytes, record, ops.len())
                .with_context(|| format!("record {} at byte {at}", ops.len()))?;
            ops.push(op);
            at = next;
        }
        Ok(Self { bytes, ops })
    }

    /// All entries in order.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// The bytes of a write or of what was told.
    pub fn data(&self, range: &Range<usize>) -> &[u8] {
        &self.bytes[range.clone()]
    }

    /// Reads what clients were told.
    pub fn told(&self) -> Result<Told> {
        Told::read(self)
    }

    /// `n` moments to cut the power at, in order: a cut at `c` comes after the first `c` ops. Half
    /// are uniform over the log; half come right after something was told, where a promise that is
    /// not kept shows first.
    pub fn cuts(&self, n: usize, seed: u64) -> Vec<usize> {
        let mut rng = Rng::new(seed);
        let is_told = |at: &usize| matches!(self.ops[*at], Op::Told { .. });
        let told: Vec<usize> = (0..self.ops.len()).filter(is_told).collect();
        let mut cuts: Vec<usize> = (0..n)
            .map(|i| match i % 2 {
                1 if !told.is_empty() => rng.pick(&told) + 1,
                _ => rng.below(self.ops.len() + 1),
            })
            .collect();
        cuts.sort_unstable();
        cuts
    }

    /// Checks that the log explains every byte of the folder as the program left it, so that no
    /// change went past the recorder. `base` is a copy of the folder from before the program ran.
    pub fn check_complete(&self, folder: &Path, base: Option<&Path>) -> Result<()> {
        let mut disk = Disk::new(self, base)?;
        disk.advance(self.ops.len())?;
        Image::choose(&disk, Mode::All, &mut Rng::new(0)).check_equal(folder)
    }
}

struct Record {
    kind: u8,
    path: Range<usize>,
    data: Range<usize>,
    number: u64,
}

impl Record {
    // `None` at the end, and where the rest is too short to be a record.
    fn at(bytes: &[u8], at: usize) -> Option<(Self, usize)> {
        let header = bytes.get(at..at + HEADER_BYTES)?;
        let path_bytes = usize::from(u16::from_le_bytes([header[2], header[3]]));
        let data_bytes = u32::from_le_bytes(header[4..8].try_into().ok()?) as usize;
        let number = u64::from_le_bytes(header[8..16].try_into().ok()?);
        let path = at + HEADER_BYTES..at + HEADER_BYTES + path_bytes;
        let data = path.end..path.end + data_bytes;
        let next = data.end;
        (next <= bytes.len()).then_some((Self { kind: header[0], path, data, number }, next))
    }
}

#[derive(Default)]
struct Reader {
    paths: HashSet<Arc<str>>,
    begun: HashMap<u64, usize>,
}

impl Reader {
    fn op(&mut self, bytes: &[u8], record: Record, index: usize) -> Result<Op> {
        let Record { kind, path, data, number } = record;
        let path = self.path(&bytes[path])?;
        Ok(match kind {
            b'N' => Op::NewFile { path },
            b'D' => Op::NewFolder { path },
            b'W' => Op::Write { path, offset: number, data },
            b'T' => Op::Truncate { path, length: number },
            b'B' => {
                self.begun.insert(number, index);
                Op::SyncBegun { path }
            }
            b'S' => {
                let begun = self.begun.remove(&number).context("a sync that never began")?;
                Op::Synced { begun }
            }
            b'U' => Op::Unlink { path },
            b'R' => Op::Rename { from: path, to: self.path(&bytes[data])? },
            b'A' => Op::Told { connection: number as u32, data: taken(data, number) },
            _ => bail!("unknown kind {kind}"),
        })
    }

    fn path(&mut self, bytes: &[u8]) -> Result<Arc<str>> {
        let text = std::str::from_utf8(bytes).context("a path that is not UTF-8")?;
        if let Some(known) = self.paths.get(text) {
            return Ok(known.clone());
        }
        let path: Arc<str> = text.into();
        self.paths.insert(path.clone());
        Ok(path)
    }
}

// A program killed inside the call may have told all of it, so all of it counts.
fn taken(data: Range<usize>, number: u64) -> Range<usize> {
    match (number >> 32) as u32 {
        TAKEN_UNKNOWN => data,
        taken => data.start..data.start + (taken as usize).min(data.len()),
    }
}

#[cfg(test)]
pub(super) mod handmade {
    //! Logs written by hand, for tests of the rules.

    use super::*;

    pub(crate) struct LogBytes {
        bytes: Vec<u8>,
        tickets: u64,
    }

    impl LogBytes {
        pub(crate) fn new() -> Self {
            Self { bytes: MAGIC.to_vec(), tickets: 0 }
        }

        pub(crate) fn record(mut self, kind: char, path: &str, number: u64, data: &[u8]) -> Self {
            self.bytes.extend([kind as u8, 0]);
            self.bytes.extend((path.len() as u16).to_le_bytes());
            self.bytes.extend((data.len() as u32).to_le_bytes());
            self.bytes.extend(number.to_le_bytes());
            self.bytes.extend(path.as_bytes());
            self.bytes.extend(data);
            self
        }

        pub(crate) fn new_file(self, path: &str) -> Self {
            self.record('N', path, 0, b"")
        }

        pub(crate) fn write(self, path: &str, offset: u64, data: &[u8]) -> Self {
            self.record('W', path, offset, data)
        }

        pub(crate) fn truncate(self, path: &str, length: u64) -> Self {
            self.record('T', path, length, b"")
        }

        pub(crate) fn sync(mut self, path: &str) -> Self {
            self.tickets += 1;
            let ticket = self.tickets;
            self.record('B', path, ticket, b"").record('S', path, ticket, b"")
        }

        pub(crate) fn unlink(self, path: &str) -> Self {
            self.record('U', path, 0, b"")
        }

        pub(crate) fn rename(self, from: &str, to: &str) -> Self {
            self.record('R', from, 0, to.as_bytes())
        }

        pub(crate) fn told(self, connection: u32, taken: u32, data: &[u8]) -> Self {
            self.record('A', "", u64::from(connection) | u64::from(taken) << 32, data)
        }

        pub(crate) fn bytes(self) -> Vec<u8> {
            self.bytes
        }

        pub(crate) fn log(self) -> RecordLog {
            RecordLog::from_bytes(self.bytes).unwrap()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::handmade::LogBytes;
    use super::*;

    #[test]
    fn a_sync_names_the_op_where_it_began() {
        let log = LogBytes::new()
            .new_file("f")
            .record('B', "f", 9, b"")
            .write("f", 3, b"abc")
            .record('S', "f", 9, b"")
            .log();
        assert_eq!(log.ops()[3], Op::Synced { begun: 1 });
        let Op::Write { offset: 3, data, .. } = &log.ops()[2] else { panic!("a write") };
        assert_eq!(log.data(data), b"abc");
    }

    #[test]
    fn only_what_the_kernel_took_was_told_unless_nobody_knows() {
        let log = LogBytes::new().told(1, 2, b"abc").told(1, 0, b"abc").told(2, u32::MAX, b"abc");
        let log = log.log();
        let told: Vec<&[u8]> = log.ops().iter().map(|op| told_bytes(&log, op)).collect();
        assert_eq!(told, [b"ab".as_slice(), b"", b"abc"]);
    }

    fn told_bytes<'log>(log: &'log RecordLog, op: &Op) -> &'log [u8] {
        let Op::Told { data, .. } = op else { panic!("something told") };
        log.data(data)
    }

    #[test]
    fn a_record_cut_short_is_left_out_wherever_it_is_cut() {
        let whole = LogBytes::new().new_file("f").write("f", 0, b"abc").bytes();
        let first = MAGIC.len() + HEADER_BYTES + 1;
        for end in first..whole.len() {
            assert_eq!(RecordLog::from_bytes(whole[..end].to_vec()).unwrap().ops().len(), 1);
        }
    }

    #[test]
    fn what_is_no_log_is_refused() {
        assert!(RecordLog::from_bytes(b"something else".to_vec()).is_err());
        let unknown = LogBytes::new().record('?', "", 0, b"").bytes();
        assert!(RecordLog::from_bytes(unknown).is_err());
        let no_begin = LogBytes::new().record('S', "f", 1, b"").bytes();
        assert!(RecordLog::from_bytes(no_begin).is_err());
    }

    #[test]
    fn cuts_are_in_order_the_same_for_a_seed_and_half_follow_a_told() {
        let mut bytes = LogBytes::new().new_file("f");
        for _ in 0..50 {
            bytes = bytes.write("f", 0, b"x").write("f", 0, b"y").told(1, 1, b"\n");
        }
        let log = bytes.log();
        let cuts = log.cuts(200, 5);
        assert!(cuts.is_sorted() && cuts.len() == 200 && cuts[199] <= log.ops().len());
        assert_eq!(cuts, log.cuts(200, 5));
        assert_ne!(cuts, log.cuts(200, 6));
        let after_told =
            |cut: &&usize| **cut > 0 && matches!(log.ops()[**cut - 1], Op::Told { .. });
        assert!(cuts.iter().filter(after_told).count() >= 100);
    }
}
