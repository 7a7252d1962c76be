//! What may a power cut leave behind? What is sure, and of the rest whatever the dice choose.
//!
//! A disk writes sectors of 512 bytes, in any order. So each sector of a file holds any of the
//! versions that it had since the last sync, or, torn, one version up to some byte and another from
//! there on. A truncate is kept or dropped. Changes of names are kept up to some point in their
//! order: file systems journal them one after the other.

use super::disk::{Change, Disk, File, FileId, Pending, overwrite};
use super::log::RecordLog;
use super::rng::Rng;
use anyhow::{Context, Result, bail, ensure};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

const SECTOR_BYTES: usize = 512;
const TORN_ONE_IN: usize = 4;

/// How a crash treats what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// All of it is gone: the machine never got to write any.
    None,
    /// All of it is there: the program crashed, the machine did not.
    All,
    /// It is there up to a byte, in the order in which the program wrote it.
    Prefix,
    /// Each sector of each file falls for itself: old, new, in between, or torn.
    Sectors,
}

impl Mode {
    /// All four.
    pub const ALL: [Self; 4] = [Self::None, Self::All, Self::Prefix, Self::Sectors];
}

/// One crash state, in memory.
pub(super) struct Image<'disk> {
    nodes: BTreeMap<Arc<str>, Node<'disk>>,
}

enum Node<'disk> {
    Folder,
    File(Cow<'disk, [u8]>),
}

impl<'disk> Image<'disk> {
    /// Chooses what is left of `disk`.
    pub(super) fn choose(disk: &'disk Disk<'_>, mode: Mode, rng: &mut Rng) -> Self {
        let point = match mode {
            Mode::None => Point { op: 0, bytes: 0 },
            Mode::All => Point { op: usize::MAX, bytes: 0 },
            Mode::Prefix => Point::choose(disk, rng),
            Mode::Sectors => Point { op: choose_op(name_ops(disk), rng), bytes: 0 },
        };
        let mut names: BTreeMap<Arc<str>, FileId> = BTreeMap::new();
        let mut kept = disk.durable.clone();
        for change in disk.name_changes.iter().filter(|change| change.op < point.op) {
            change.apply(&mut kept);
        }
        names.extend(kept);
        // In the order of the names, so that the dice fall the same way every time.
        let node = |(path, id): (Arc<str>, FileId)| {
            let file = &disk.files[id];
            let node = match mode {
                _ if file.is_folder => Node::Folder,
                Mode::Sectors => Node::File(keep_sectors(disk.log, file, rng)),
                _ => Node::File(point.keep(disk.log, file)),
            };
            (path, node)
        };
        Self { nodes: names.into_iter().map(node).collect() }
    }

    /// Writes the state into a new folder that only its owner may enter.
    pub(super) fn write_to(&self, folder: &Path) -> Result<()> {
        make_folder(folder)?;
        for (path, node) in &self.nodes {
            let at = folder.join(&**path);
            match node {
                Node::Folder => make_folder(&at)?,
                Node::File(bytes) => {
                    make_folder(at.parent().context("a file without a folder")?)?;
                    let mut file =
                        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&at)?;
                    file.write_all(bytes)?;
                }
            }
        }
        Ok(())
    }

    /// Checks that `folder` holds this and nothing else; `*-shm`, sockets and symlinks are left out.
    pub(super) fn check_equal(&self, folder: &Path) -> Result<()> {
        for (path, node) in &self.nodes {
            let at = folder.join(&**path);
            let is_there = match node {
                Node::Folder => at.is_dir(),
                Node::File(bytes) => match std::fs::read(&at) {
                    Ok(found) => found == **bytes,
                    Err(_) => false,
                },
            };
            ensure!(is_there, "`{path}` is not as the log says");
        }
        self.check_no_other(folder, "")
    }

    fn check_no_other(&self, folder: &Path, below: &str) -> Result<()> {
        for entry in std::fs::read_dir(folder.join(below))? {
            let entry = entry?;
            let path = Path::new(below).join(entry.file_name());
            let path = path.to_str().context("a name that is not UTF-8")?;
            let kind = entry.file_type()?;
            let is_seen = kind.is_dir() || kind.is_file() && !path.ends_with("-shm");
            if is_seen && !self.nodes.contains_key(path) {
                bail!("`{path}` is not in the log");
            }
            if kind.is_dir() {
                self.check_no_other(folder, path)?;
            }
        }
        Ok(())
    }

    #[cfg(test)]
    fn file(&self, path: &str) -> Option<&[u8]> {
        match self.nodes.get(path)? {
            Node::File(bytes) => Some(bytes),
            Node::Folder => None,
        }
    }
}

fn make_folder(path: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("creating {}", path.display()))
}

fn name_ops(disk: &Disk<'_>) -> Vec<usize> {
    disk.name_changes.iter().map(|change| change.op).collect()
}

// An op before which all is kept: any of these, or behind the last.
fn choose_op(mut ops: Vec<usize>, rng: &mut Rng) -> usize {
    ops.push(usize::MAX);
    *rng.pick(&ops)
}

/// All ops before `op` are kept, and that many bytes of this one.
struct Point {
    op: usize,
    bytes: usize,
}

impl Point {
    fn choose(disk: &Disk<'_>, rng: &mut Rng) -> Self {
        let mut ops = name_ops(disk);
        ops.extend(disk.files.iter().flat_map(|file| &file.pending).map(|pending| pending.op));
        ops.sort_unstable();
        let op = choose_op(ops, rng);
        let bytes = match disk.log.ops().get(op) {
            Some(super::log::Op::Write { data, .. }) => rng.below(data.len() + 1),
            _ => 0,
        };
        Self { op, bytes }
    }

    fn keep<'disk>(&self, log: &RecordLog, file: &'disk File) -> Cow<'disk, [u8]> {
        let mut kept = Cow::Borrowed(file.durable.as_slice());
        for Pending { op, change } in &file.pending {
            match change {
                Change::Write { offset, data } if *op < self.op => {
                    overwrite(kept.to_mut(), *offset, log.data(data));
                }
                Change::Write { offset, data } if *op == self.op && self.bytes > 0 => {
                    overwrite(kept.to_mut(), *offset, &log.data(data)[..self.bytes]);
                }
                Change::Truncate { length } if *op < self.op => {
                    kept.to_mut().resize(*length as usize, 0);
                }
                _ => {}
            }
        }
        kept
    }
}

/// What becomes of a sector: `whole` writes of those that touched it are kept, and of those up to
/// `partly` the bytes in `part`.
struct Fate {
    seen: usize,
    whole: usize,
    partly: usize,
    part: Range<usize>,
}

impl Fate {
    fn choose(writes: usize, rng: &mut Rng) -> Self {
        let one = rng.below(writes + 1);
        if !rng.one_in(TORN_ONE_IN) {
            return Self { seen: 0, whole: one, partly: one, part: 0..0 };
        }
        let other = rng.below(writes + 1);
        let split = 1 + rng.below(SECTOR_BYTES - 1);
        let part = if rng.one_in(2) { 0..split } else { split..SECTOR_BYTES };
        Self { seen: 0, whole: one.min(other), partly: one.max(other), part }
    }

    // Which bytes of the sector the next write that touches it may change.
    fn next(&mut self) -> Range<usize> {
        self.seen += 1;
        match self.seen {
            seen if seen <= self.whole => 0..SECTOR_BYTES,
            seen if seen <= self.partly => self.part.clone(),
            _ => 0..0,
        }
    }
}

fn sectors(offset: u64, data: &Range<usize>) -> Range<usize> {
    let from = offset as usize;
    from / SECTOR_BYTES..(from + data.len()).div_ceil(SECTOR_BYTES)
}

fn keep_sectors<'disk>(log: &RecordLog, file: &'disk File, rng: &mut Rng) -> Cow<'disk, [u8]> {
    let mut kept = Cow::Borrowed(file.durable.as_slice());
    let mut touched: BTreeMap<usize, usize> = BTreeMap::new();
    for pending in &file.pending {
        if let Change::Write { offset, data } = &pending.change {
            sectors(*offset, data).for_each(|sector| *touched.entry(sector).or_default() += 1);
        }
    }
    let fate = |(sector, writes)| (sector, Fate::choose(writes, rng));
    let mut fates: HashMap<usize, Fate> = touched.into_iter().map(fate).collect();
    for pending in &file.pending {
        match &pending.change {
            Change::Write { offset, data } => {
                let (from, data) = (*offset as usize, log.data(data));
                for sector in sectors(*offset, &(0..data.len())) {
                    let fate = fates.get_mut(&sector).expect("every sector written has a fate");
                    let (start, may) = (sector * SECTOR_BYTES, fate.next());
                    let begin = (start + may.start).max(from);
                    let end = (start + may.end).min(from + data.len());
                    if begin < end {
                        overwrite(kept.to_mut(), begin as u64, &data[begin - from..end - from]);
                    }
                }
            }
            Change::Truncate { length } if rng.one_in(2) => {
                kept.to_mut().resize(*length as usize, 0);
            }
            Change::Truncate { .. } => {}
        }
    }
    kept
}

#[cfg(test)]
mod tests;
