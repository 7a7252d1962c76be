//! Does the explorer convict a program that promises too much, and only that one?

use super::*;
use sess_tests::faults::{CrashState, CrashStates, Mode};
use std::time::Instant;

const STATES: usize = 400;
const RECORDS: usize = 300;
const SEED: u64 = 11;

/// How many told records a state has lost; `latest` counts as one more.
fn lost(state: &CrashState) -> usize {
    let records = std::fs::read(state.folder.join("records")).unwrap_or_default();
    let told: Vec<usize> = state
        .told
        .answers()
        .iter()
        .map(|answer| answer.id.as_u64().expect("the writer counts") as usize)
        .collect();
    let records_lost = told.iter().filter(|n| !has_record(&records, **n)).count();
    let Some(newest) = told.iter().rev().find(|n| **n % 10 == 9) else { return records_lost };
    let latest = std::fs::read(state.folder.join("latest")).unwrap_or_default();
    // One that was not told yet may have taken its place, whole.
    let is_whole = [*newest, newest + 10].iter().any(|n| {
        latest.len() == RECORD_BYTES && latest.iter().all(|it| *it == b'a' + (n % 26) as u8)
    });
    records_lost + usize::from(!is_whole)
}

/// States with losses, of how many, and the modes that were seen.
fn explore(place: &Place, log: &RecordLog) -> Result<(usize, Vec<Mode>)> {
    let (mut losing, mut modes) = (0, Vec::new());
    let states = CrashStates::new(log, log.cuts(STATES, SEED), SEED, &place.0.join("states"))?;
    for state in states {
        let state = state?;
        losing += usize::from(lost(&state) > 0);
        modes.push(state.mode);
    }
    assert_eq!(modes.len(), STATES);
    Ok((losing, modes))
}

#[test]
fn a_program_that_syncs_before_it_tells_loses_nothing() -> Result<()> {
    let place = Place::new("sync");
    let log = recorded(&place, RECORDS, "sync")?;
    log.check_complete(&place.data(), None)?;
    let (losing, modes) = explore(&place, &log)?;
    println!("states with losses: {losing}/{STATES}");
    assert_eq!(losing, 0);
    assert!(Mode::ALL.iter().all(|mode| modes.contains(mode)));
    Ok(())
}

#[test]
fn a_program_that_does_not_sync_loses_in_most_states() -> Result<()> {
    let place = Place::new("nosync");
    let log = recorded(&place, RECORDS, "nosync")?;
    log.check_complete(&place.data(), None)?;
    let (losing, _) = explore(&place, &log)?;
    println!("states with losses: {losing}/{STATES}");
    // Where nothing synced, only the states that keep everything lose nothing.
    assert!(losing > STATES / 2 && losing < STATES, "{losing}");
    Ok(())
}

#[test]
fn a_state_can_be_made_again_and_goes_unless_kept() -> Result<()> {
    let place = Place::new("again");
    let log = recorded(&place, 20, "nosync")?;
    let records = |root: &str| -> Result<Vec<_>> {
        let states = CrashStates::new(&log, log.cuts(20, SEED), SEED, &place.0.join(root))?;
        states.map(|it| Ok(std::fs::read(it?.keep().join("records")).ok())).collect()
    };
    assert_eq!(records("one")?, records("two")?);
    assert_eq!(std::fs::read_dir(place.0.join("one"))?.count(), 20);
    CrashStates::new(&log, log.cuts(20, SEED), SEED, &place.0.join("three"))?
        .try_for_each(|state| state.map(drop))?;
    assert_eq!(std::fs::read_dir(place.0.join("three"))?.count(), 0);
    Ok(())
}

#[test]
fn a_program_that_goes_on_from_an_old_folder_needs_a_copy_of_it() -> Result<()> {
    let place = Place::new("base");
    recorded(&place, 20, "sync")?;
    let base = place.0.join("base");
    std::fs::create_dir(&base)?;
    for name in ["records", "latest"] {
        std::fs::copy(place.data().join(name), base.join(name))?;
    }
    let log = recorded(&place, 10, "sync")?;
    assert!(log.check_complete(&place.data(), None).is_err());
    log.check_complete(&place.data(), Some(&base))?;
    let root = place.0.join("states");
    for state in CrashStates::starting_from(Some(&base), &log, log.cuts(50, SEED), SEED, &root)? {
        let records = std::fs::read(state?.folder.join("records"))?;
        assert!((10..20).all(|n| has_record(&records, n)));
    }
    Ok(())
}

#[test]
fn a_change_that_went_past_the_recorder_is_noticed() -> Result<()> {
    let place = Place::new("past");
    let log = recorded(&place, 10, "sync")?;
    std::fs::write(place.data().join("other"), "x")?;
    assert!(log.check_complete(&place.data(), None).is_err());
    std::fs::remove_file(place.data().join("other"))?;
    let mut records = place.records()?;
    records[5] ^= 1;
    std::fs::write(place.data().join("records"), records)?;
    assert!(log.check_complete(&place.data(), None).is_err());
    Ok(())
}

#[test]
fn a_thousand_states_of_a_long_log_take_seconds() -> Result<()> {
    let place = Place::new("long");
    let log = recorded(&place, 11_000, "sync")?;
    assert!(log.ops().len() > 50_000, "{}", log.ops().len());
    let begun = Instant::now();
    let states = CrashStates::new(&log, log.cuts(1_000, SEED), SEED, &place.0.join("states"))?;
    assert_eq!(states.filter(Result::is_ok).count(), 1_000);
    let took = begun.elapsed();
    println!("1,000 states of {} ops: {took:?}", log.ops().len());
    assert!(took.as_secs() < 60, "{took:?}");
    Ok(())
}
