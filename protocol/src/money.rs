//! How is money added up without losing any of it?

use std::fmt;
use std::str::FromStr;

/// Decimals that are kept: enough for one token at a price of a billionth of a dollar a million.
const DECIMALS: usize = 15;
/// One dollar.
const DOLLAR: u128 = 10_u128.pow(DECIMALS as u32);
/// Digits before the point that are read: far beyond all that can be owed.
const WHOLE_DIGITS_MAX: usize = 18;

/// US dollars, exact to 15 decimals; never negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Money(u128);

/// What is no amount of money.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoMoney;

impl Money {
    /// So many millionths of a billionth of a dollar.
    #[must_use]
    pub const fn from_units(units: u128) -> Money {
        Money(units)
    }

    /// So many millionths of a billionth of a dollar.
    #[must_use]
    pub const fn units(self) -> u128 {
        self.0
    }

    /// Both together.
    #[must_use]
    pub const fn plus(self, that: Money) -> Money {
        Money(self.0.saturating_add(that.0))
    }
}

impl fmt::Display for Money {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / DOLLAR, self.0 % DOLLAR);
        if part == 0 {
            return write!(to, "{whole}");
        }
        let part = format!("{part:0DECIMALS$}");
        write!(to, "{whole}.{}", part.trim_end_matches('0'))
    }
}

impl FromStr for Money {
    type Err = NoMoney;

    fn from_str(text: &str) -> Result<Money, NoMoney> {
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |it: &str| !it.is_empty() && it.bytes().all(|it| it.is_ascii_digit());
        if !digits(whole) || !digits(part) {
            return Err(NoMoney);
        }
        if whole.len() > WHOLE_DIGITS_MAX || part.len() > DECIMALS {
            return Err(NoMoney);
        }
        let number = |it: &str| it.parse::<u128>().map_err(|_| NoMoney);
        let scale = 10_u128.pow((DECIMALS - part.len()) as u32);
        Ok(Money(number(whole)? * DOLLAR + number(part)? * scale))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_reads_as_it_is_written() {
        for text in ["0", "1", "0.1", "0.000000000000001", "12345.678", "999999999999999999.5"] {
            assert_eq!(text.parse::<Money>().unwrap().to_string(), text);
        }
        assert_eq!("1.500".parse::<Money>().unwrap().to_string(), "1.5");
        for text in ["", ".", "1.", ".5", "-1", "1e3", "1,5", "0.0000000000000001", "NaN"] {
            assert_eq!(text.parse::<Money>(), Err(NoMoney), "{text}");
        }
    }

    #[test]
    fn a_tenth_ten_times_is_one() {
        let tenth: Money = "0.1".parse().unwrap();
        let sum = (0..10).fold(Money::default(), |sum, _| sum.plus(tenth));
        assert_eq!(sum.to_string(), "1");
    }
}
