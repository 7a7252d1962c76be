//! How long ago, how long, how much: in few letters.

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// The time between two moments in milliseconds: `3m ago`.
pub(crate) fn ago(now_ms: i64, then_ms: i64) -> String {
    match now_ms.saturating_sub(then_ms) / 1000 {
        // Clocks of two programs may differ a bit.
        ..=1 => "now".to_owned(),
        seconds => format!("{} ago", lasting(seconds)),
    }
}

/// A duration in its largest unit: `3m`.
pub(crate) fn lasting(seconds: i64) -> String {
    match seconds {
        _ if seconds < MINUTE => format!("{seconds}s"),
        _ if seconds < HOUR => format!("{}m", seconds / MINUTE),
        _ if seconds < DAY => format!("{}h", seconds / HOUR),
        _ if seconds < 60 * DAY => format!("{}d", seconds / DAY),
        _ if seconds < 730 * DAY => format!("{}mo", seconds / (30 * DAY)),
        _ => format!("{}y", seconds / (365 * DAY)),
    }
}

/// A count in three or four signs: `12k`.
pub(crate) fn count(n: u64) -> String {
    match n {
        0..1_000 => n.to_string(),
        1_000..10_000 => format!("{}.{}k", n / 1_000, n % 1_000 / 100),
        10_000..1_000_000 => format!("{}k", n / 1_000),
        1_000_000..10_000_000 => format!("{}.{}M", n / 1_000_000, n % 1_000_000 / 100_000),
        _ => format!("{}M", n / 1_000_000),
    }
}

/// Bytes in the largest unit: `12 MiB`.
pub(crate) fn bytes(n: u64) -> String {
    match n {
        0..1_024 => format!("{n} B"),
        1_024..1_048_576 => format!("{} KiB", n / 1_024),
        1_048_576..1_073_741_824 => format!("{} MiB", n / 1_048_576),
        _ => format!("{} GiB", n / 1_073_741_824),
    }
}

/// A sum of US dollars: `$0.0123`; `?` where a price is not known, `-` where nothing was asked.
pub(crate) fn money(sum: Option<&str>, asked: bool) -> String {
    let Some(dollars) = sum.and_then(|it| it.parse::<f64>().ok()) else {
        return if asked { "?" } else { "-" }.to_owned();
    };
    match dollars {
        0.0 => "$0".to_owned(),
        ..0.0001 => "<$0.0001".to_owned(),
        ..1.0 => format!("${dollars:.4}"),
        _ => format!("${dollars:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_price_is_not_a_price_of_nothing() {
        for (sum, asked, text) in [
            (None, true, "?"),
            (None, false, "-"),
            (Some("0"), true, "$0"),
            (Some("0.00001"), true, "<$0.0001"),
            (Some("0.01234"), true, "$0.0123"),
            (Some("12.345"), true, "$12.35"),
        ] {
            assert_eq!(money(sum, asked), text);
        }
    }

    #[test]
    fn ages_counts_and_sizes_are_short() {
        for (seconds, text) in [
            (-5, "now"),
            (1, "now"),
            (59, "59s ago"),
            (60, "1m ago"),
            (3 * MINUTE + 59, "3m ago"),
            (HOUR, "1h ago"),
            (DAY, "1d ago"),
            (59 * DAY, "59d ago"),
            (90 * DAY, "3mo ago"),
            (800 * DAY, "2y ago"),
        ] {
            assert_eq!(ago(seconds * 1000, 0), text);
        }
        for (n, text) in
            [(0, "0"), (999, "999"), (1_234, "1.2k"), (12_345, "12k"), (1_250_000, "1.2M")]
        {
            assert_eq!(count(n), text);
        }
        assert_eq!((bytes(1023).as_str(), bytes(5 << 20).as_str()), ("1023 B", "5 MiB"));
    }
}
