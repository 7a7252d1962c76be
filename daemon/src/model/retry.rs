//! When is a failed attempt tried again, and after how long?
//!
//! The one policy for every provider: few attempts, growing pauses with jitter, the provider's own word
//! on when to come back above all. Pure: time and chance are passed in.

use std::time::Duration;

use super::ModelError;

/// How often one call is tried, the first time included.
pub(crate) const ATTEMPTS_MAX: u32 = 3;
/// The pause before the second attempt, before jitter; it doubles from there.
const PAUSE_MS: u64 = 500;
/// A provider that wants a longer pause fails the call: a person should know, and not wait unknowing.
const RETRY_AFTER_MS_MAX: u64 = 60_000;

/// An attempt that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// What the caller is told if this was the last attempt.
    pub(crate) error: ModelError,
    /// Another attempt may go better.
    pub(crate) passing: bool,
}

/// How often and how fast one call is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Policy {
    pub(crate) attempts_max: u32,
    pub(crate) pause: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Policy { attempts_max: ATTEMPTS_MAX, pause: Duration::from_millis(PAUSE_MS) }
    }
}

impl Policy {
    /// The pause before the attempt after `attempt` (from 1), or none when there is not to be another.
    /// `chance` is any number: callers that failed together should not come back together.
    pub(crate) fn pause(&self, attempt: u32, failure: &Failure, chance: u64) -> Option<Duration> {
        if !failure.passing || attempt >= self.attempts_max {
            return None;
        }
        let full = self.pause * 2_u32.saturating_pow(attempt.saturating_sub(1));
        let part = (chance % 1_000) as u32;
        let jittered = full / 2 + full * part / 1_000;
        match failure.error.retry_after_ms {
            Some(wanted_ms) if wanted_ms > RETRY_AFTER_MS_MAX => None,
            Some(wanted_ms) => Some(Duration::from_millis(wanted_ms).max(jittered)),
            None => Some(jittered),
        }
    }
}

/// Reads `Retry-After`: seconds, or a date. `now` is in seconds since 1970.
pub(crate) fn retry_after_ms(value: &str, now: u64) -> Option<u64> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<f64>() {
        return (seconds >= 0.0).then_some((seconds * 1_000.0).ceil() as u64);
    }
    Some(date_seconds(value)?.saturating_sub(now).saturating_mul(1_000))
}

/// The seconds since 1970 of a date as HTTP writes it: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn date_seconds(date: &str) -> Option<u64> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let mut parts = date.strip_suffix(" GMT")?.split_once(", ")?.1.split(' ');
    let day: u64 = parts.next()?.parse().ok()?;
    let name = parts.next().filter(|it| it.len() == 3)?;
    let month = MONTHS.find(name)? as u64 / 3 + 1;
    let year: u64 = parts.next()?.parse().ok().filter(|it| (1970..10_000).contains(it))?;
    let mut clock = parts.next()?.split(':').map(str::parse::<u64>);
    let (hour, minute, second) = (clock.next()?.ok()?, clock.next()?.ok()?, clock.next()?.ok()?);
    // Days from the civil date, in years that begin in March so that the leap day comes last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day;
    Some(days.checked_sub(719_469)? * 86_400 + hour * 3_600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::super::Reason;
    use super::*;

    fn failure(passing: bool, retry_after_ms: Option<u64>) -> Failure {
        let error =
            ModelError { reason: Reason::RateLimit, message: "slow down".into(), retry_after_ms };
        Failure { error, passing }
    }

    #[test]
    fn pauses_grow_and_stay_within_their_jitter() {
        let policy = Policy::default();
        for chance in [0, 1, 499, 999, u64::MAX] {
            let pause = |attempt| policy.pause(attempt, &failure(true, None), chance);
            assert!((250..750).contains(&pause(1).unwrap().as_millis()));
            assert!((500..1_500).contains(&pause(2).unwrap().as_millis()));
            assert_eq!(pause(3), None);
        }
        assert_eq!(policy.pause(1, &failure(false, None), 0), None);
    }

    #[test]
    fn the_provider_says_when_to_come_back() {
        let policy = Policy::default();
        let wanted = |ms| policy.pause(1, &failure(true, Some(ms)), 0);
        assert_eq!(wanted(3_000), Some(Duration::from_secs(3)));
        assert_eq!(wanted(0), Some(Duration::from_millis(250)));
        assert_eq!(wanted(60_000), Some(Duration::from_secs(60)));
        assert_eq!(wanted(60_001), None);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = 784_111_777;
        assert_eq!(retry_after_ms(" 7 ", now), Some(7_000));
        assert_eq!(retry_after_ms("0.25", now), Some(250));
        assert_eq!(retry_after_ms("Sun, 06 Nov 1994 08:49:47 GMT", now), Some(10_000));
        assert_eq!(retry_after_ms("Sun, 06 Nov 1994 08:49:30 GMT", now), Some(0));
        assert_eq!(date_seconds("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(date_seconds("Thu, 29 Feb 2024 12:00:00 GMT"), Some(1_709_208_000));
        for bad in ["", "-1", "soon", "NaN", "Sun, 06 nov 1994 08:49:37 GMT", "Sun, x GMT"] {
            assert_eq!(retry_after_ms(bad, now), None, "{bad}");
        }
    }
}
