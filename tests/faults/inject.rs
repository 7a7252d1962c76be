//! Does each fault do what its name says? Each is fired at the writer and seen by its effect.

use super::*;
use sess_tests::faults::{CrashStates, Op};
use std::time::Duration;

const RECORDS: usize = 8;

#[test]
fn an_error_reaches_the_program_at_the_nth_call() -> Result<()> {
    let place = Place::new("eio");
    let faults = place.faults().rule("fsync:records:5:EIO");
    let run = write(&place, RECORDS, "sync", |it| faults.command(it))?;
    assert_eq!(run.status.code(), Some(3));
    assert_eq!(run.acknowledged(), 4);
    assert_eq!(run.lines[4], r#"{"id":4,"error":"fsync"}"#);
    let fired = faults.fired()?;
    assert_eq!((fired.len(), fired[0].call.as_str(), fired[0].nth), (1, "fsync", 5));
    assert_eq!(fired[0].path, place.data().join("records"));
    Ok(())
}

#[test]
fn a_full_disk_refuses_a_write_and_leaves_nothing_of_it() -> Result<()> {
    let place = Place::new("enospc");
    let faults = place.faults().rule("pwrite:records:3:ENOSPC:-1");
    let run = write(&place, RECORDS, "sync", |it| faults.command(it))?;
    assert_eq!(run.lines[2], r#"{"id":2,"error":"pwrite"}"#);
    assert_eq!(place.records()?.len(), 2 * RECORD_BYTES);
    Ok(())
}

#[test]
fn a_short_write_takes_half_and_the_program_goes_on() -> Result<()> {
    let place = Place::new("short");
    let faults = place.faults().rule("pwrite:records:3:SHORT");
    let run = write(&place, RECORDS, "sync", |it| faults.command(it))?;
    assert_eq!(run.acknowledged(), RECORDS);
    assert!((0..RECORDS).all(|n| has_record(&place.records().unwrap(), n)));
    let log = RecordLog::read(&place.log())?;
    let sizes: Vec<usize> = log.ops().iter().filter_map(written).collect();
    assert_eq!(sizes[1..5], [RECORD_BYTES, RECORD_BYTES / 2, RECORD_BYTES / 2, RECORD_BYTES]);
    Ok(())
}

fn written(op: &Op) -> Option<usize> {
    match op {
        Op::Write { data, .. } => Some(data.len()),
        _ => None,
    }
}

#[test]
fn a_kill_comes_before_the_call_or_after_it() -> Result<()> {
    for (effect, records_left) in [("KILL", 4), ("KILLAFTER", 5)] {
        let place = Place::new(effect);
        let faults = place.faults().rule(&format!("pwrite:records:5:{effect}"));
        let run = write(&place, RECORDS, "sync", |it| faults.command(it))?;
        assert!(run.was_killed());
        assert_eq!(run.acknowledged(), 4, "{effect}");
        assert_eq!(place.records()?.len(), records_left * RECORD_BYTES, "{effect}");
        assert_eq!(faults.fired()?[0].effect, effect);
        // The log of a killed program is whole up to the kill.
        RecordLog::read(&place.log())?.check_complete(&place.data(), None)?;
    }
    Ok(())
}

#[test]
fn a_disk_that_lies_about_a_sync_loses_what_was_told() -> Result<()> {
    let place = Place::new("lose");
    let faults = place.faults().rule("fsync:records:1:LOSE:-1");
    let run = write(&place, RECORDS, "sync", |it| faults.command(it))?;
    assert!(run.status.success() && run.acknowledged() == RECORDS);
    assert_eq!(faults.fired()?.len(), RECORDS);
    let log = RecordLog::read(&place.log())?;
    let at_the_end = vec![log.ops().len(); 40];
    let mut losing = 0;
    for state in CrashStates::new(&log, at_the_end, 1, &place.0.join("states"))? {
        let records = std::fs::read(state?.folder.join("records"))?;
        losing += usize::from(!(0..RECORDS).all(|n| has_record(&records, n)));
    }
    assert!(losing > 10, "{losing}");
    Ok(())
}

#[test]
fn a_sync_that_failed_is_not_recorded_as_one() -> Result<()> {
    let place = Place::new("failed");
    let faults = place.faults().rule("fsync:records:5:EIO");
    let run = write(&place, RECORDS, "sync", |command| {
        faults.command(command)?;
        // The other way round than usual, so that the recorder sees the failure.
        let tools = Tools::built()?;
        let both = [tools.record.as_os_str(), tools.shim.as_os_str()];
        command.env("LD_PRELOAD", both.join(":".as_ref()));
        Ok(())
    })?;
    assert_eq!(run.acknowledged(), 4);
    let log = RecordLog::read(&place.log())?;
    let begun = log.ops().iter().filter(|op| matches!(op, Op::SyncBegun { .. })).count();
    let synced = log.ops().iter().filter(|op| matches!(op, Op::Synced { .. })).count();
    // The folder's, five of the file; the last of these never ended.
    assert_eq!((begun, synced), (6, 5));
    Ok(())
}

#[test]
fn a_slow_disk_is_slow_at_every_sync() -> Result<()> {
    let place = Place::new("delay");
    let faults = place.faults().slow_fsync("records", 20);
    let begun = std::time::Instant::now();
    let run = write(&place, RECORDS, "sync", |it| faults.command(it))?;
    assert!(run.status.success());
    assert!(begun.elapsed() >= Duration::from_millis(20 * RECORDS as u64));
    Ok(())
}

#[test]
fn other_calls_fail_too() -> Result<()> {
    for (rule, error) in [
        ("rename:latest:1:EACCES", "rename"),
        ("open:records:1:EMFILE", "open"),
        ("fsync:data/:3:EIO", "fsync"),
        ("fsync:data$:2:EIO", "fsync of the folder"),
    ] {
        let place = Place::new("other-calls");
        let faults = place.faults().rule(rule);
        let run = write(&place, 10, "sync", |it| faults.command(it))?;
        assert!(run.lines.last().unwrap().ends_with(&format!("\"error\":\"{error}\"}}")), "{rule}");
        assert_eq!(faults.fired()?.len(), 1, "{rule}");
    }
    Ok(())
}

#[test]
fn past_the_last_call_nothing_fires() -> Result<()> {
    let place = Place::new("past-last");
    let faults = place.faults().rule(&format!("fsync:records:{}:EIO", RECORDS + 1));
    assert!(write(&place, RECORDS, "sync", |it| faults.command(it))?.status.success());
    assert_eq!(faults.fired()?, []);
    Ok(())
}

#[test]
fn a_rule_that_cannot_be_read_ends_the_program() -> Result<()> {
    for rule in ["fsync", "fsink::1:EIO", "fsync::0:EIO", "fsync::1:EWHAT", "fsync::1:EIO:1:1"] {
        let place = Place::new("typo");
        let faults = place.faults().rule(rule);
        let run = write(&place, RECORDS, "sync", |it| faults.command(it))?;
        assert_eq!((run.status.code(), run.lines.len()), (Some(2), 0), "{rule}");
    }
    Ok(())
}
