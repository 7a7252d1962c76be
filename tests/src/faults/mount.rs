//! How does a test get a disk of its own, that may be full or lose its power?

use super::tools::Tools;
use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system of a test's own, unmounted when dropped. Making one takes root.
#[derive(Debug)]
pub struct Mounted {
    at: PathBuf,
}

impl Mounted {
    /// A file system in memory with room for so many bytes.
    pub fn tmpfs(at: &Path, bytes: u64) -> Result<Self> {
        std::fs::create_dir_all(at)?;
        let size = format!("size={bytes},mode=0700");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at))?;
        Ok(Self { at: at.to_owned() })
    }

    /// A new ext4 of so many bytes in the file `disk`.
    pub fn ext4(disk: &Path, at: &Path, bytes: u64) -> Result<Self> {
        File::create(disk)?.set_len(bytes)?;
        run(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(disk))?;
        Self::again(disk, at)
    }

    /// The ext4 that is in the file `disk`.
    pub fn again(disk: &Path, at: &Path) -> Result<Self> {
        std::fs::create_dir_all(at)?;
        run(Command::new("mount").args(["-o", "loop"]).arg(disk).arg(at))
            .context("a mount takes root")?;
        Ok(Self { at: at.to_owned() })
    }

    /// Cuts the power: what was not synced is gone at the next mount, and nothing works until then.
    pub fn cut_power(&self) -> Result<()> {
        run(Command::new(&Tools::built()?.powercut).arg(&self.at))
    }

    /// Takes all the room that is left, to the last byte.
    pub fn fill(&self) -> Result<Ballast> {
        let path = self.at.join("ballast");
        let mut file = File::create(&path)?;
        // Large pieces first, then whatever still fits.
        for bytes in [1 << 16, 1 << 12, 1] {
            let piece = vec![b'b'; bytes];
            while file.write_all(&piece).and_then(|()| file.sync_data()).is_ok() {}
        }
        Ok(Ballast(path))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let done = run(Command::new("umount").arg(&self.at));
        if let Err(err) = done {
            // Somebody still works there, whose test has failed: it goes when they do.
            eprintln!("{err:#}");
            let _ = Command::new("umount").arg("-l").arg(&self.at).status();
        }
    }
}

/// What fills a disk, until it is dropped.
#[derive(Debug)]
pub struct Ballast(PathBuf);

impl Drop for Ballast {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("running {command:?}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}", errors.trim());
    Ok(())
}
