//! Which moment is meant by `30d`, `12h` or `2026-01-31`?

use sess_protocol::time::Timestamp;

use super::output::Stop;

/// Reads an age or a date, in UTC.
pub(crate) fn moment(text: &str) -> Result<Timestamp, Stop> {
    let wrong = || {
        Stop::usage(format_args!("`{text}` is neither an age nor a date"))
            .hint("an age as 45m, 12h or 30d, or a date as 2026-01-31")
    };
    if let Some(age) = age_ms(text) {
        return Ok(Timestamp(Timestamp::now().0.saturating_sub(age)));
    }
    let day = format!("{text}T00:00:00Z");
    text.parse().or_else(|_| day.parse()).map_err(|_| wrong())
}

fn age_ms(text: &str) -> Option<i64> {
    let unit = text.chars().next_back()?;
    let number: i64 = text.strip_suffix(unit)?.parse().ok().filter(|it| *it >= 0)?;
    let unit_ms = match unit {
        's' => 1_000,
        'm' => 60_000,
        'h' => 3_600_000,
        'd' => 86_400_000,
        'w' => 7 * 86_400_000,
        _ => return None,
    };
    number.checked_mul(unit_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_dates_are_moments_and_nothing_else_is() {
        assert_eq!(moment("2026-01-31").unwrap().to_string(), "2026-01-31T00:00:00.000Z");
        assert_eq!(moment("2026-01-31T10:00:00Z").unwrap().0 % 86_400_000, 36_000_000);
        let ago = Timestamp::now().0 - moment("2h").unwrap().0;
        assert!((7_200_000..7_260_000).contains(&ago), "{ago}");
        for wrong in ["", "d", "-1d", "5", "5y", "yesterday", "2026-13-01", "9999999999999999w"] {
            assert!(moment(wrong).is_err(), "{wrong}");
        }
    }
}
