//! How does a test go through many crash states? By this iterator: a folder and what was told, each.

use super::disk::Disk;
use super::log::RecordLog;
use super::rng::Rng;
use super::state::{Image, Mode};
use super::told::{Told, ToldSoFar};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;

// Numbers of states are far apart as seeds, so that neighbours have nothing in common.
const SEED_STEP: u64 = 0xd6e8_feb8_6659_fd93;

/// A folder as a power cut could have left it. The folder is removed with this value.
#[derive(Debug)]
pub struct CrashState {
    /// Counts from 0. Same log, cuts and seed: the same state under the same number.
    pub number: usize,
    /// The power was cut after that many ops of the log.
    pub cut: usize,
    /// How what was not synced has been treated.
    pub mode: Mode,
    /// Where the files lie.
    pub folder: PathBuf,
    /// What the clients had been told.
    pub told: ToldSoFar,
    keep: bool,
}

impl CrashState {
    /// Leaves the folder where it is, for a person to look at.
    pub fn keep(mut self) -> PathBuf {
        self.keep = true;
        self.folder.clone()
    }
}

impl Drop for CrashState {
    fn drop(&mut self) {
        if !self.keep {
            // What cannot be removed is in nobody's way: the next run begins by clearing it.
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// Makes the crash states of a log, one a cut, in the order of the cuts.
pub struct CrashStates<'log> {
    disk: Disk<'log>,
    told: Arc<Told>,
    cuts: std::iter::Enumerate<std::vec::IntoIter<usize>>,
    seed: u64,
    root: PathBuf,
}

impl<'log> CrashStates<'log> {
    /// States of `log` at `cuts` (see [`RecordLog::cuts`]), in new folders below `root`, best on a
    /// tmpfs such as `/dev/shm`: each state is written whole, without any sync.
    pub fn new(log: &'log RecordLog, cuts: Vec<usize>, seed: u64, root: &Path) -> Result<Self> {
        Self::starting_from(None, log, cuts, seed, root)
    }

    /// The same for a program that did not begin with an empty folder: `base` is a copy of the
    /// folder from before.
    pub fn starting_from(
        base: Option<&Path>,
        log: &'log RecordLog,
        mut cuts: Vec<usize>,
        seed: u64,
        root: &Path,
    ) -> Result<Self> {
        cuts.sort_unstable();
        std::fs::create_dir_all(root).with_context(|| format!("creating {}", root.display()))?;
        let disk = Disk::new(log, base)?;
        let told = Arc::new(log.told()?);
        let cuts = cuts.into_iter().enumerate();
        Ok(Self { disk, told, cuts, seed, root: root.to_owned() })
    }

    fn state(&mut self, number: usize, cut: usize) -> Result<CrashState> {
        self.disk.advance(cut)?;
        let mut rng = Rng::new(self.seed ^ (number as u64).wrapping_mul(SEED_STEP));
        let mode = *rng.pick(&Mode::ALL);
        let folder = self.root.join(format!("state-{number}"));
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        Image::choose(&self.disk, mode, &mut rng).write_to(&folder)?;
        Ok(CrashState { number, cut, mode, folder, told: self.told.until(cut), keep: false })
    }
}

impl Iterator for CrashStates<'_> {
    type Item = Result<CrashState>;

    fn next(&mut self) -> Option<Self::Item> {
        let (number, cut) = self.cuts.next()?;
        Some(self.state(number, cut).with_context(|| format!("state {number} at cut {cut}")))
    }
}
