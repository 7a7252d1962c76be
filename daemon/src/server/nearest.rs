//! What a person may have meant: the nearest of several words.

/// The word that differs least, if it differs by little.
#[must_use]
pub fn nearest<'a>(given: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = given.chars().count().max(3) / 2;
    words
        .map(|word| (distance(given, word), word))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// How many characters must be added, removed or changed to make one word of the other.
fn distance(one: &str, other: &str) -> usize {
    const CHARS_MAX: usize = 64;
    let other: Vec<char> = other.chars().take(CHARS_MAX).collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().take(CHARS_MAX).enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let changed = corner + usize::from(a != *b);
            corner = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(corner + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_understood_and_nonsense_is_not() {
        let words = || ["session/list", "session/get", "chat/send"].into_iter();
        assert_eq!(nearest("sesion/list", words()), Some("session/list"));
        assert_eq!(nearest("chat/sned", words()), Some("chat/send"));
        assert_eq!(nearest("zzzzzzzz", words()), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
