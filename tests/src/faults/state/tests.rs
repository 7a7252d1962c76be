//! Do the rules hold? Hand-made logs, and every state that the dice can make of them.

use super::super::log::handmade::LogBytes;
use super::*;
use std::collections::BTreeSet;

const ROLLS: u64 = 300;

/// Everything that `path` can be after the whole log, over many rolls of the dice.
fn outcomes(log: LogBytes, mode: Mode, path: &str) -> BTreeSet<Option<Vec<u8>>> {
    let log = log.log();
    let mut disk = Disk::new(&log, None).unwrap();
    disk.advance(log.ops().len()).unwrap();
    let outcome = |seed| {
        let image = Image::choose(&disk, mode, &mut Rng::new(seed));
        image.file(path).map(<[u8]>::to_vec)
    };
    (0..ROLLS).map(outcome).collect()
}

fn only(bytes: &[u8]) -> BTreeSet<Option<Vec<u8>>> {
    BTreeSet::from([Some(bytes.to_vec())])
}

fn old_sectors(count: usize) -> LogBytes {
    LogBytes::new().new_file("f").write("f", 0, &vec![b'o'; count * SECTOR_BYTES]).sync("f")
}

#[test]
fn what_was_synced_stays_in_every_mode() {
    for mode in Mode::ALL {
        let log = LogBytes::new().new_file("f").write("f", 2, b"sure").sync("f");
        assert_eq!(outcomes(log, mode, "f"), only(b"\0\0sure"), "{mode:?}");
    }
}

#[test]
fn what_was_not_synced_is_gone_or_there_as_the_mode_says() {
    let log = || old_sectors(1).write("f", 0, b"new");
    let (old, new) = (vec![b'o'; SECTOR_BYTES], [b"new".as_slice(), &[b'o'; 509]].concat());
    assert_eq!(outcomes(log(), Mode::None, "f"), only(&old));
    assert_eq!(outcomes(log(), Mode::All, "f"), only(&new));
}

#[test]
fn a_write_that_ran_beside_the_sync_is_not_sure() {
    let log = LogBytes::new()
        .new_file("f")
        .write("f", 0, b"before")
        .record('B', "f", 9, b"")
        .write("f", 0, b"beside")
        .record('S', "f", 9, b"");
    assert_eq!(outcomes(log, Mode::None, "f"), only(b"before"));
}

#[test]
fn a_sync_that_never_ended_makes_nothing_sure() {
    let log = old_sectors(1).write("f", 0, b"new").record('B', "f", 9, b"");
    assert_eq!(outcomes(log, Mode::None, "f"), only(&[b'o'; SECTOR_BYTES]));
}

#[test]
fn a_sync_of_one_file_says_nothing_of_another() {
    let log = old_sectors(1).new_file("g").write("f", 0, b"new").write("g", 0, b"g").sync("g");
    assert_eq!(outcomes(log, Mode::None, "f"), only(&[b'o'; SECTOR_BYTES]));
}

#[test]
fn sectors_fall_each_for_itself_and_some_are_torn() {
    let seen = outcomes(old_sectors(2).write("f", 0, &[b'n'; 1024]), Mode::Sectors, "f");
    let kind = |sector: &[u8]| match (sector.contains(&b'o'), sector.contains(&b'n')) {
        (true, true) => "torn",
        (true, false) => "old",
        _ => "new",
    };
    let kinds: BTreeSet<_> = seen
        .iter()
        .map(|bytes| bytes.as_ref().unwrap())
        .map(|bytes| (kind(&bytes[..512]), kind(&bytes[512..])))
        .collect();
    assert_eq!(kinds.len(), 9, "{kinds:?}");
    let tears = |bytes: &[u8]| bytes[..512].windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!(seen.iter().all(|bytes| tears(bytes.as_ref().unwrap()) <= 1));
}

#[test]
fn a_sector_holds_a_later_write_without_the_earlier_only_where_it_is_torn() {
    let log = old_sectors(1).write("f", 100, b"a").write("f", 101, b"b").log();
    let mut disk = Disk::new(&log, None).unwrap();
    disk.advance(log.ops().len()).unwrap();
    let mut seen = HashMap::new();
    for seed in 0..ROLLS {
        let image = Image::choose(&disk, Mode::Sectors, &mut Rng::new(seed));
        *seen.entry(image.file("f").unwrap()[100..102].to_vec()).or_insert(0) += 1;
    }
    // One of 511 tears falls between the two; were they dropped apart, it would be a quarter.
    assert!(seen.get(b"ob".as_slice()).is_none_or(|count| *count <= 3), "{seen:?}");
    assert!([b"oo", b"ao", b"ab"].iter().all(|it| seen[it.as_slice()] > 60), "{seen:?}");
}

#[test]
fn a_prefix_ends_at_any_byte_and_never_skips_one() {
    let log = old_sectors(1).write("f", 0, b"abc").write("f", 3, b"def");
    let mut cut_at = BTreeSet::new();
    for bytes in outcomes(log, Mode::Prefix, "f") {
        let bytes = bytes.unwrap();
        let kept = bytes.iter().take_while(|byte| **byte != b'o').count();
        assert_eq!(bytes[..kept], b"abcdef"[..kept]);
        assert_eq!(bytes.len(), SECTOR_BYTES);
        cut_at.insert(kept);
    }
    assert_eq!(cut_at, (0..=6).collect());
}

#[test]
fn a_truncate_is_kept_or_dropped_and_sure_once_synced() {
    let log = || LogBytes::new().new_file("f").write("f", 0, b"abcdef").sync("f").truncate("f", 2);
    let either = BTreeSet::from([Some(b"ab".to_vec()), Some(b"abcdef".to_vec())]);
    assert_eq!(outcomes(log(), Mode::Sectors, "f"), either);
    assert_eq!(outcomes(log(), Mode::Prefix, "f"), either);
    assert_eq!(outcomes(log(), Mode::None, "f"), only(b"abcdef"));
    assert_eq!(outcomes(log().sync("f"), Mode::None, "f"), only(b"ab"));
    let grown = log().truncate("f", 4).sync("f");
    assert_eq!(outcomes(grown, Mode::None, "f"), only(b"ab\0\0"));
}

#[test]
fn a_new_name_is_sure_with_its_folder_or_its_file() {
    let made = || LogBytes::new().new_file("f");
    let (gone, empty) = (BTreeSet::from([None]), only(b""));
    assert_eq!(outcomes(made(), Mode::None, "f"), gone);
    assert_eq!(outcomes(made().sync(""), Mode::None, "f"), empty);
    assert_eq!(outcomes(made().sync("f"), Mode::None, "f"), empty);
    assert_eq!(outcomes(made(), Mode::Sectors, "f"), &gone | &empty);
}

#[test]
fn an_unlink_may_come_back_until_its_folder_is_synced() {
    let log = || LogBytes::new().new_file("f").write("f", 0, b"x").sync("f").unlink("f");
    let (gone, back) = (BTreeSet::from([None]), only(b"x"));
    assert_eq!(outcomes(log(), Mode::None, "f"), back);
    assert_eq!(outcomes(log(), Mode::Sectors, "f"), &gone | &back);
    assert_eq!(outcomes(log().sync(""), Mode::None, "f"), gone);
    assert_eq!(outcomes(log(), Mode::All, "f"), gone);
}

#[test]
fn a_file_made_and_synced_under_a_freed_name_stays_its_own() {
    let log = || {
        let old = LogBytes::new().new_file("f").write("f", 0, b"old").sync("f").unlink("f");
        old.new_file("f").write("f", 0, b"new").sync("f")
    };
    for mode in Mode::ALL {
        assert_eq!(outcomes(log(), mode, "f"), only(b"new"), "{mode:?}");
    }
}

#[test]
fn a_file_synced_under_a_name_that_another_was_given_before_stays_its_own() {
    let log = || {
        let given = LogBytes::new().new_file("n").write("n", 0, b"old").sync("n").rename("n", "f");
        given.unlink("f").new_file("f").write("f", 0, b"new").sync("f")
    };
    for mode in Mode::ALL {
        assert_eq!(outcomes(log(), mode, "f"), only(b"new"), "{mode:?}");
    }
}

#[test]
fn a_rename_replaces_whole_or_not_at_all() {
    let log = || {
        let first = LogBytes::new().new_file("f").write("f", 0, b"old").sync("f");
        first.new_file("n").write("n", 0, b"new").sync("n").rename("n", "f")
    };
    let either = BTreeSet::from([Some(b"old".to_vec()), Some(b"new".to_vec())]);
    assert_eq!(outcomes(log(), Mode::Sectors, "f"), either);
    assert_eq!(outcomes(log(), Mode::None, "f"), only(b"old"));
    assert_eq!(outcomes(log().sync(""), Mode::None, "f"), only(b"new"));
    assert_eq!(outcomes(log().sync(""), Mode::None, "n"), BTreeSet::from([None]));
    // Without the sync before the rename the name can be new and the bytes missing.
    let unsynced = LogBytes::new().new_file("n").write("n", 0, b"new").rename("n", "f").sync("");
    assert_eq!(outcomes(unsynced, Mode::None, "f"), only(b""));
}

#[test]
fn a_file_from_before_the_log_is_asked_for() {
    let log = LogBytes::new().write("f", 0, b"x").log();
    let err = Disk::new(&log, None).unwrap().advance(1).unwrap_err();
    assert!(format!("{err:#}").contains("copy of the folder"), "{err:#}");
}
