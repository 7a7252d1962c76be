//! What is surely on the disk after a prefix of the log, and what is only on its way there?
//!
//! The rules, strict where file systems differ:
//! - A file's bytes and length are sure up to its last sync that succeeded, as far as they were
//!   written before that sync began.
//! - A name made, removed or changed is sure once its folder (for a rename: the new one) is synced.
//!   A new file's name is also sure once the file itself is synced: POSIX does not promise that,
//!   but ext4, XFS and Btrfs do.

use super::log::{Op, RecordLog};
use anyhow::{Context, Result, bail, ensure};
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

pub(super) type FileId = usize;

/// The disk of a running program, moved forward along the log.
pub(super) struct Disk<'log> {
    pub(super) log: &'log RecordLog,
    pub(super) at: usize,
    pub(super) files: Vec<File>,
    /// The names that are sure.
    pub(super) durable: HashMap<Arc<str>, FileId>,
    /// The changes of names that are not, in order.
    pub(super) name_changes: Vec<NameChange>,
    /// The names as the program sees them.
    names: HashMap<Arc<str>, FileId>,
    syncing: HashMap<usize, FileId>,
}

/// A file or folder, whatever its name.
#[derive(Default)]
pub(super) struct File {
    pub(super) is_folder: bool,
    pub(super) durable: Vec<u8>,
    /// What is not sure, in order.
    pub(super) pending: Vec<Pending>,
}

pub(super) struct Pending {
    pub(super) op: usize,
    pub(super) change: Change,
}

pub(super) enum Change {
    Write { offset: u64, data: Range<usize> },
    Truncate { length: u64 },
}

pub(super) struct NameChange {
    pub(super) op: usize,
    file: FileId,
    removed: Option<Arc<str>>,
    made: Option<Arc<str>>,
}

impl NameChange {
    pub(super) fn apply(&self, names: &mut HashMap<Arc<str>, FileId>) {
        // By now the name may be another file's, which was made sure earlier.
        if let Some(path) = self.removed.as_ref().filter(|it| names.get(*it) == Some(&self.file)) {
            names.remove(path);
        }
        if let Some(path) = &self.made {
            names.insert(path.clone(), self.file);
        }
    }

    fn folder(&self) -> &str {
        let path = self.made.as_ref().or(self.removed.as_ref());
        parent(path.expect("a change makes or removes a name"))
    }

    fn touches(&self, path: &Arc<str>) -> bool {
        self.made.as_ref() == Some(path) || self.removed.as_ref() == Some(path)
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// Writes into a file's bytes; a gap before them reads as zeros.
pub(super) fn overwrite(bytes: &mut Vec<u8>, offset: u64, data: &[u8]) {
    let from = offset as usize;
    let end = from + data.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[from..end].copy_from_slice(data);
}

impl<'log> Disk<'log> {
    /// The disk before the first op: empty, or a copy of the folder `base`.
    pub(super) fn new(log: &'log RecordLog, base: Option<&Path>) -> Result<Self> {
        let mut disk = Self {
            log,
            at: 0,
            files: Vec::new(),
            durable: HashMap::new(),
            name_changes: Vec::new(),
            names: HashMap::new(),
            syncing: HashMap::new(),
        };
        let root = disk.add(File { is_folder: true, ..File::default() });
        disk.names.insert("".into(), root);
        if let Some(base) = base {
            disk.load(base, "").with_context(|| format!("reading {}", base.display()))?;
        }
        disk.durable = disk.names.clone();
        Ok(disk)
    }

    fn load(&mut self, base: &Path, folder: &str) -> Result<()> {
        for entry in std::fs::read_dir(base.join(folder))? {
            let entry = entry?;
            let name = entry.file_name().into_string().ok().context("a name that is not UTF-8")?;
            let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            let kind = entry.file_type()?;
            if kind.is_dir() {
                self.load(base, &path)?;
            }
            if kind.is_dir() || kind.is_file() && !path.ends_with("-shm") {
                let durable = if kind.is_dir() { vec![] } else { std::fs::read(entry.path())? };
                let file = File { is_folder: kind.is_dir(), durable, pending: vec![] };
                let id = self.add(file);
                self.names.insert(path.into(), id);
            }
        }
        Ok(())
    }

    fn add(&mut self, file: File) -> FileId {
        self.files.push(file);
        self.files.len() - 1
    }

    /// Moves on to where the first `cut` ops have happened.
    pub(super) fn advance(&mut self, cut: usize) -> Result<()> {
        assert!(cut >= self.at, "a disk only moves forward");
        let log = self.log;
        while self.at < cut {
            let op = log.ops().get(self.at).context("a cut past the end of the log")?;
            self.step(op).with_context(|| format!("op {}: {op:?}", self.at))?;
            self.at += 1;
        }
        Ok(())
    }

    fn step(&mut self, op: &Op) -> Result<()> {
        match op {
            Op::NewFile { path } => self.make(path, false),
            Op::NewFolder { path } => self.make(path, true),
            Op::Write { path, offset, data } => {
                let change = Change::Write { offset: *offset, data: data.clone() };
                self.change(path, change)?;
            }
            Op::Truncate { path, length } => {
                self.change(path, Change::Truncate { length: *length })?;
            }
            Op::SyncBegun { path } => {
                let file = self.id(path)?;
                self.syncing.insert(self.at, file);
            }
            Op::Synced { begun } => self.synced(*begun)?,
            Op::Unlink { path } => {
                let file = self.id(path)?;
                self.name_change(file, Some(path), None);
            }
            Op::Rename { from, to } => {
                let file = self.id(from)?;
                ensure!(!self.files[file].is_folder, "a renamed folder is not modelled");
                self.name_change(file, Some(from), Some(to));
            }
            Op::Told { .. } => {}
        }
        Ok(())
    }

    fn id(&self, path: &Arc<str>) -> Result<FileId> {
        match self.names.get(path) {
            Some(id) => Ok(*id),
            None => bail!("`{path}` was there before the log began: give a copy of the folder"),
        }
    }

    fn make(&mut self, path: &Arc<str>, is_folder: bool) {
        let file = self.add(File { is_folder, ..File::default() });
        self.name_change(file, None, Some(path));
    }

    fn name_change(&mut self, file: FileId, old: Option<&Arc<str>>, new: Option<&Arc<str>>) {
        let (removed, made) = (old.cloned(), new.cloned());
        let change = NameChange { op: self.at, file, removed, made };
        change.apply(&mut self.names);
        self.name_changes.push(change);
    }

    fn change(&mut self, path: &Arc<str>, change: Change) -> Result<()> {
        let file = self.id(path)?;
        self.files[file].pending.push(Pending { op: self.at, change });
        Ok(())
    }

    fn synced(&mut self, begun: usize) -> Result<()> {
        let id = self.syncing.remove(&begun).context("a sync that never began")?;
        if self.files[id].is_folder {
            let path = self.names.iter().find(|(_, it)| **it == id).map(|(path, _)| path.clone());
            let path = path.context("a folder that is gone was synced")?;
            self.settle_names(|change| change.op < begun && change.folder() == &*path);
            return Ok(());
        }
        let file = &mut self.files[id];
        let sure = file.pending.partition_point(|pending| pending.op < begun);
        for pending in file.pending.drain(..sure) {
            match pending.change {
                Change::Write { offset, data } => {
                    overwrite(&mut file.durable, offset, self.log.data(&data));
                }
                Change::Truncate { length } => file.durable.resize(length as usize, 0),
            }
        }
        self.settle_creation(id, begun);
        Ok(())
    }

    fn settle_creation(&mut self, file: FileId, begun: usize) {
        let creates = |it: &&NameChange| it.file == file && it.removed.is_none() && it.op < begun;
        let Some(creation) = self.name_changes.iter().find(creates) else { return };
        let (op, Some(path)) = (creation.op, creation.made.clone()) else { return };
        // What became of that name before goes with it, or it could undo the creation later.
        self.settle_names(|change| change.op <= op && change.touches(&path));
    }

    fn settle_names(&mut self, is_sure: impl Fn(&NameChange) -> bool) {
        let durable = &mut self.durable;
        self.name_changes.retain(|change| {
            if is_sure(change) {
                change.apply(durable);
            }
            !is_sure(change)
        });
    }
}
