//! What models, tools and other people wrote: how is it shown without letting it act on a terminal?

use std::borrow::Cow;
use std::fmt::Write as _;

/// A text of any lines with every control code as a visible mark; newline and tab stay.
#[must_use]
pub fn text(text: &str) -> Cow<'_, str> {
    marked(text, |it| it != '\n' && it != '\t' && acts(it))
}

/// The same for what belongs on one line: newline and tab become marks too.
#[must_use]
pub fn line(text: &str) -> Cow<'_, str> {
    marked(text, acts)
}

/// JSON in which such characters are escaped: the same value, safe to print.
#[must_use]
pub fn json(json: &str) -> Cow<'_, str> {
    if !json.chars().any(acts) {
        return Cow::Borrowed(json);
    }
    let mut escaped = String::with_capacity(json.len() + 16);
    for it in json.chars() {
        if acts(it) {
            let mut units = [0; 2];
            for unit in it.encode_utf16(&mut units) {
                write!(escaped, "\\u{unit:04x}").expect("a string takes everything");
            }
        } else {
            escaped.push(it);
        }
    }
    Cow::Owned(escaped)
}

fn marked(text: &str, bad: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(&bad) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for it in text.chars() {
        match it {
            _ if !bad(it) => shown.push(it),
            // Each C0 code has a picture of its own: ESC is `␛`.
            '\0'..='\x1f' => shown.extend(char::from_u32(0x2400 + u32::from(it))),
            '\x7f' => shown.push('␡'),
            _ => write!(shown, "<U+{:04X}>", u32::from(it)).expect("a string takes everything"),
        }
    }
    Cow::Owned(shown)
}

/// Whether a character acts instead of being seen: controls, changes of direction, and signs without
/// width in which text can be hidden. Joiners stay: scripts and emoji are written with them.
fn acts(it: char) -> bool {
    it.is_control()
        || matches!(
            it,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_codes_are_seen_and_everything_else_stays() {
        assert_eq!(text("\x1b[31mred\x07"), "␛[31mred␇");
        assert_eq!(text("a\n\tb"), "a\n\tb");
        assert_eq!(line("a\n\tb\r"), "a␊␉b␍");
        assert_eq!(text("\u{9b}2J\x7f\0"), "<U+009B>2J␡␀");
        assert_eq!(text("x\u{202e}y\u{2066}z\u{e0041}"), "x<U+202E>y<U+2066>z<U+E0041>");
        for plain in ["grüße 日本語 👩‍👩‍👧 é ✌️ שלום می‌خواهم", ""]
        {
            assert!(matches!(text(plain), Cow::Borrowed(it) if it == plain));
        }
    }

    #[test]
    fn json_stays_the_same_value() {
        let value = serde_json::json!({"a": "\u{9b}\u{202e}\u{e0041}\x7f\x1b\n", "ü": 1});
        let safe = json(&value.to_string()).into_owned();
        assert!(safe.chars().all(|it| !it.is_control()));
        assert!(safe.contains("\\u202e"));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).unwrap(), value);
    }
}
