//! Does the daemon outlive its disk: full, failing, slow, without power, and its own end at any moment?
//!
//! [`full`] fills real file systems, [`sweep`] has each storage call fail in turn, [`power`] cuts the power of a
//! real disk, [`stop`] and [`start`] end and begin the daemon under load, [`healing`] lifts faults and waits for
//! nobody. What was told is judged by the real daemon on what is left.

#![allow(clippy::unwrap_used, reason = "a helper's failure is the failure of its test")]

mod full;
mod healing;
mod load;
mod power;
mod start;
mod stop;
mod sweep;
mod sweep_work;

use std::time::Duration;

use sess_tests::harness::within;

/// Between two looks at what nobody tells of: a file, or another process.
const LOOK: Duration = Duration::from_millis(5);

/// A number of rounds as the test says, or a tenth of it when the tests themselves are tested.
fn sized(rounds: u64) -> u64 {
    if std::env::var_os("SESS_TENTH").is_some() { rounds.div_ceil(10) } else { rounds }
}

/// Looks until something is so.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let mut looks = tokio::time::interval(LOOK);
    within(what, async {
        while !is_so() {
            looks.tick().await;
        }
    })
    .await;
}
