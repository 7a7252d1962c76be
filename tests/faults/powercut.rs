//! Does the power cut take exactly what was not synced? On an ext4 of its own, where that is allowed.

use super::*;
use sess_tests::faults::Mounted;
use std::fs::{File, OpenOptions};
use std::io::{Seek, Write};

const DISK_BYTES: u64 = 16 << 20;
const FILE_BYTES: usize = 4 * 4096;

fn filled_with(letter: u8) -> Vec<u8> {
    vec![letter; FILE_BYTES]
}

#[test]
fn a_power_cut_takes_what_was_not_synced_and_no_more() -> Result<()> {
    let place = Place::new("powercut");
    let (disk, at) = (place.0.join("disk"), place.data());
    let mounted = Mounted::ext4(&disk, &at, DISK_BYTES)?;
    let mut file = OpenOptions::new().create_new(true).write(true).open(at.join("file"))?;
    file.write_all(&filled_with(b'o'))?;
    file.sync_all()?;
    File::open(&at)?.sync_all()?;
    file.rewind()?;
    file.write_all(&filled_with(b'n'))?;
    std::fs::write(at.join("never synced"), "x")?;
    mounted.cut_power()?;
    assert!(file.sync_all().is_err(), "nothing works after the cut");
    drop((file, mounted));

    let _mounted = Mounted::again(&disk, &at)?;
    assert!(
        std::fs::read(at.join("file"))? == filled_with(b'o'),
        "synced and lost, or unsynced and kept"
    );
    assert!(!at.join("never synced").exists());
    Ok(())
}
