//! A moment: RFC 3339 in UTC with milliseconds on the wire, milliseconds since 1970 inside.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const DAY_MS: i64 = 86_400_000;

/// A moment of the wall clock: a label, never used for order or for durations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// What the wall clock of this machine says.
    #[must_use]
    pub fn now() -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self(since.map_or(0, |it| i64::try_from(it.as_millis()).unwrap_or(i64::MAX)))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, ms) = (self.0.div_euclid(DAY_MS), self.0.rem_euclid(DAY_MS));
        let (year, month, day) = date_of(days);
        let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z",
            ms % 1000
        )
    }
}

impl FromStr for Timestamp {
    type Err = &'static str;

    /// Reads `YYYY-MM-DDTHH:MM:SS[.fff..]Z`, the only form that the daemon writes.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "a time has the form 2026-01-31T23:59:59.000Z";
        let bytes = text.as_bytes();
        let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
        let shaped = bytes.len() >= 20
            && text.is_ascii()
            && text.ends_with('Z')
            && marks.iter().all(|(at, mark)| bytes[*at] == *mark);
        if !shaped {
            return Err(FORM);
        }
        let number = |from: usize, to: usize| text[from..to].parse::<u32>().map_err(|_| FORM);
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        let fraction = &text[19..text.len() - 1];
        let ms = match fraction.strip_prefix('.') {
            Some(digits) if !digits.is_empty() => {
                let three: String = digits.chars().chain("00".chars()).take(3).collect();
                three.parse::<u32>().map_err(|_| FORM)?
            }
            None if fraction.is_empty() => 0,
            _ => return Err(FORM),
        };
        let valid = (1..=12).contains(&month)
            && (1..=31).contains(&day)
            && hour < 24
            && minute < 60
            && second < 61;
        if !valid {
            return Err(FORM);
        }
        let seconds = i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second);
        Ok(Self(days_of(i64::from(year), month, day) * DAY_MS + seconds * 1000 + i64::from(ms)))
    }
}

/// Year, month and day of a day counted from 1970. Years begin in March, so that the leap day is
/// the last of its year; 719,468 days lie between 0000-03-01 and 1970-01-01.
fn date_of(days: i64) -> (i64, u32, u32) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let small = |it: i64| u32::try_from(it).expect("a month or day is small");
    (year, small(month), small(day))
}

/// The day counted from 1970 of a date: the other way round.
fn days_of(year: i64, month: u32, day: u32) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = i64::from((month + 9) % 12);
    let day_of_year = (153 * month_from_march + 2) / 5 + i64::from(day) - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Timestamp {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Timestamp".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "date-time" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments_read_and_print() {
        for (text, ms) in [
            ("1970-01-01T00:00:00.000Z", 0),
            ("2000-02-29T12:30:45.678Z", 951_827_445_678),
            ("2026-11-21T00:00:00.001Z", 1_795_219_200_001),
            ("1969-12-31T23:59:59.999Z", -1),
        ] {
            assert_eq!(Timestamp(ms).to_string(), text);
            assert_eq!(text.parse(), Ok(Timestamp(ms)));
        }
        assert_eq!("2026-11-21T00:00:00Z".parse(), Ok(Timestamp(1_795_219_200_000)));
        assert!("2026-11-21".parse::<Timestamp>().is_err());
        assert!("2026-13-21T00:00:00Z".parse::<Timestamp>().is_err());
    }

    #[test]
    fn every_day_of_eight_centuries_comes_back() {
        for day in -150_000..150_000 {
            let (year, month, date) = date_of(day);
            assert_eq!(days_of(year, month, date), day);
        }
    }
}
