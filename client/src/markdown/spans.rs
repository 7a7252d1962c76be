//! The spans of a line: where does one open, and where does it close?

use super::{BOLD, CODE, DIM, RESET, SPAN_BYTES_MAX};

const ITALIC: &str = "\x1b[3m";
const STRUCK: &str = "\x1b[9m";
const LINK: &str = "\x1b[4m";

/// What stands at a place where a span may open.
enum Found {
    /// A span: so many bytes of the text.
    Span(usize),
    /// Nothing: the sign stands for itself.
    Plain,
    /// More of the text must come.
    Wait,
}

/// Renders as much of `text` as is decided, and answers how many bytes that is. `before` is the sign in
/// front of it, `ground` the style of the line around the spans.
pub(super) fn render(
    text: &str,
    before: char,
    whole: bool,
    ground: &str,
    out: &mut String,
) -> usize {
    let mut at = 0;
    while let Some(sign) = text[at..].chars().next() {
        let previous = text[..at].chars().next_back().unwrap_or(before);
        let rest = &text[at..];
        let found = match sign {
            '\\' => escape(rest, whole, out),
            '`' => code(rest, whole, ground, out),
            '[' => link(rest, whole, ground, out),
            '*' | '_' | '~' => emphasis(rest, sign, previous, whole, ground, out),
            _ => {
                out.push(sign);
                at += sign.len_utf8();
                continue;
            }
        };
        match found {
            Found::Span(bytes) => at += bytes,
            Found::Plain => {
                // The whole run: its second sign must not open what its first did not.
                let run = rest.chars().take_while(|it| *it == sign).count();
                let run = if sign == '[' { 1 } else { run };
                out.push_str(&rest[..run]);
                at += run;
            }
            Found::Wait => return at,
        }
    }
    at
}

/// A place that has no end yet: waits for it as long as one may still come.
fn unclosed(rest: &str, whole: bool) -> Found {
    if whole || rest.len() > SPAN_BYTES_MAX { Found::Plain } else { Found::Wait }
}

fn escape(rest: &str, whole: bool, out: &mut String) -> Found {
    match rest[1..].chars().next() {
        Some(it) if it.is_ascii_punctuation() => {
            out.push(it);
            Found::Span(2)
        }
        None if !whole => Found::Wait,
        _ => Found::Plain,
    }
}

fn code(rest: &str, whole: bool, ground: &str, out: &mut String) -> Found {
    let run = rest.len() - rest.trim_start_matches('`').len();
    let mut at = run;
    while let Some(tick) = rest[at..].find('`') {
        let begin = at + tick;
        let closing = rest[begin..].len() - rest[begin..].trim_start_matches('`').len();
        at = begin + closing;
        if closing == run {
            if at == rest.len() && !whole {
                return unclosed(rest, whole);
            }
            styled(CODE, &rest[run..begin], ground, out);
            return Found::Span(at);
        }
    }
    unclosed(rest, whole)
}

/// A link shows its words and where it leads: what a model wrote must not hide its target.
fn link(rest: &str, whole: bool, ground: &str, out: &mut String) -> Found {
    let Some(words) = rest.find(']') else { return unclosed(rest, whole) };
    match rest[words + 1..].chars().next() {
        None => return unclosed(rest, whole),
        Some('(') => {}
        Some(_) => return Found::Plain,
    }
    let Some(end) = rest[words..].find(')') else { return unclosed(rest, whole) };
    let (name, target) = (&rest[1..words], &rest[words + 2..words + end]);
    styled(LINK, name, ground, out);
    if target != name && !target.is_empty() {
        styled(DIM, &format!(" ({target})"), ground, out);
    }
    Found::Span(words + end + 1)
}

fn emphasis(
    rest: &str,
    sign: char,
    before: char,
    whole: bool,
    ground: &str,
    out: &mut String,
) -> Found {
    let run = rest.len() - rest.trim_start_matches(sign).len();
    let style = match (sign, run) {
        ('~', 2) => STRUCK.to_owned(),
        ('*' | '_', 1) => ITALIC.to_owned(),
        ('*' | '_', 2) => BOLD.to_owned(),
        ('*' | '_', 3) => format!("{BOLD}{ITALIC}"),
        _ if run == rest.len() && !whole => return unclosed(rest, whole),
        _ => return Found::Plain,
    };
    let Some(behind) = rest[run..].chars().next() else { return unclosed(rest, whole) };
    // `snake_case` and `2 * 3` are no emphasis.
    if behind.is_whitespace() || (sign != '*' && before.is_alphanumeric()) {
        return Found::Plain;
    }
    let mut at = run;
    while let Some(found) = rest[at..].find(sign) {
        let begin = at + found;
        let closing = rest[begin..].len() - rest[begin..].trim_start_matches(sign).len();
        at = begin + closing;
        let inner = &rest[run..begin];
        let behind = rest[at..].chars().next();
        if behind.is_none() && !whole {
            return unclosed(rest, whole);
        }
        let word_goes_on = sign != '*' && behind.is_some_and(char::is_alphanumeric);
        let closes = !inner.ends_with(char::is_whitespace) && !inner.ends_with('\\');
        if closing == run && closes && !word_goes_on {
            let inside = format!("{ground}{style}");
            out.push_str(&style);
            render(inner, sign, true, &inside, out);
            out.push_str(RESET);
            out.push_str(ground);
            return Found::Span(at);
        }
    }
    unclosed(rest, whole)
}

fn styled(style: &str, text: &str, ground: &str, out: &mut String) {
    out.push_str(style);
    out.push_str(text);
    out.push_str(RESET);
    out.push_str(ground);
}
