//! Does the power cut take exactly what was not synced? On an ext4 of its own, where that is allowed.

use super::*;
use std::fs::{File, OpenOptions};
use std::io::{Seek, Write};

const DISK_BYTES: u64 = 16 << 20;
const FILE_BYTES: usize = 4 * 4096;

/// A loop mount, undone when dropped.
struct Mount(PathBuf);

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}", errors.trim());
    Ok(())
}

fn mount(disk: &Path, at: &Path) -> Result<Mount> {
    run(Command::new("mount").args(["-o", "loop"]).arg(disk).arg(at))?;
    Ok(Mount(at.to_owned()))
}

fn filled_with(letter: u8) -> Vec<u8> {
    vec![letter; FILE_BYTES]
}

#[test]
fn a_power_cut_takes_what_was_not_synced_and_no_more() -> Result<()> {
    let place = Place::new("powercut");
    let (disk, at) = (place.0.join("disk"), place.data());
    File::create(&disk)?.set_len(DISK_BYTES)?;
    run(Command::new("mkfs.ext4").arg("-q").arg(&disk))?;
    let mounted = mount(&disk, &at).context("a loop mount takes root")?;
    let mut file = OpenOptions::new().create_new(true).write(true).open(at.join("file"))?;
    file.write_all(&filled_with(b'o'))?;
    file.sync_all()?;
    File::open(&at)?.sync_all()?;
    file.rewind()?;
    file.write_all(&filled_with(b'n'))?;
    std::fs::write(at.join("never synced"), "x")?;
    run(Command::new(&Tools::built()?.powercut).arg(&at))?;
    assert!(file.sync_all().is_err(), "nothing works after the cut");
    drop((file, mounted));

    let _mounted = mount(&disk, &at)?;
    assert!(
        std::fs::read(at.join("file"))? == filled_with(b'o'),
        "synced and lost, or unsynced and kept"
    );
    assert!(!at.join("never synced").exists());
    Ok(())
}
