//! What may one line of an answer begin, and can that be told before the line is whole?
//!
//! Each question has two forms that must agree: of a whole line, and of one that is still being
//! written, where the answer is no only when nothing that may follow makes it yes.

/// Bytes of a line that is a picture or a link alone; a longer one is text.
const ALONE_BYTES_MAX: usize = 4_096;
/// What a link may lead to.
const LINKS: [&str; 3] = ["http://", "https://", "mailto:"];
/// What a picture may come from.
const PICTURES: [&str; 3] = ["http://", "https://", "data:image/"];

/// The opening line of a block of code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fence {
    sign: char,
    count: usize,
    indent: usize,
    /// The first word behind it.
    pub(super) language: String,
    /// What else stands behind it.
    pub(super) rest: String,
}

fn indent_of(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

fn run_of(text: &str, sign: char) -> usize {
    text.chars().take_while(|it| *it == sign).count()
}

impl Fence {
    /// The fence that a whole line opens.
    pub(super) fn of(line: &str) -> Option<Self> {
        let indent = indent_of(line);
        let text = &line[indent..];
        let sign = text.chars().next().filter(|it| matches!(it, '`' | '~'))?;
        let count = run_of(text, sign);
        let info = text[count..].trim();
        if count < 3 || (sign == '`' && info.contains('`')) {
            return None;
        }
        let (language, rest) = info.split_once(char::is_whitespace).unwrap_or((info, ""));
        let (language, rest) = (language.to_owned(), rest.trim().to_owned());
        Some(Self { sign, count, indent, language, rest })
    }

    /// Whether a whole line closes it.
    pub(super) fn closes(&self, line: &str) -> bool {
        let text = line.trim();
        text.chars().all(|it| it == self.sign) && text.len() >= self.count
    }

    /// Whether a line that begins like this may come to close it.
    pub(super) fn may_close(&self, begun: &str) -> bool {
        begun.trim().chars().all(|it| it == self.sign)
    }

    /// A line without the indentation of the whole block.
    pub(super) fn inner<'a>(&self, line: &'a str) -> &'a str {
        &line[indent_of(line).min(self.indent)..]
    }
}

/// Whether a line that begins like this may come to be anything but text.
pub(super) fn may_be_special(begun: &str) -> bool {
    let text = begun.trim_start();
    let Some(first) = text.chars().next() else { return true };
    match first {
        '`' | '~' => run_of(text, first) >= 3.min(text.len()),
        '|' => true,
        '-' | '*' | '+' => may_be_item(text),
        '<' => may_be_svg(text) || !matches!(alone(text), Alone::No),
        _ => !matches!(alone(text), Alone::No),
    }
}

/// A line that is nothing but a picture or a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Alone<'a> {
    /// It is not, and cannot become one.
    No,
    /// It is not whole.
    Begun,
    /// A link with its title.
    Link(&'a str, &'a str),
    /// A picture with what stands for it.
    Picture(&'a str, &'a str),
}

/// What a line is, with nothing else on it.
pub(super) fn alone(line: &str) -> Alone<'_> {
    let text = line.trim();
    if line.len() > ALONE_BYTES_MAX {
        return Alone::No;
    }
    if let Some(rest) = text.strip_prefix("![") {
        return titled(rest, &PICTURES, Alone::Picture);
    }
    if let Some(rest) = text.strip_prefix('[') {
        return titled(rest, &LINKS, Alone::Link);
    }
    if text == "!" {
        return Alone::Begun;
    }
    let (address, closed) = match text.strip_prefix('<') {
        Some(rest) => match rest.strip_suffix('>') {
            Some(address) => (address, true),
            None => (rest, false),
        },
        None => (text, true),
    };
    let plain = !address.contains(|it: char| it.is_whitespace() || matches!(it, '<' | '>'));
    match (plain, leads(address, &LINKS), closed) {
        (true, Leads::There, true) => Alone::Link("", address),
        (true, Leads::There | Leads::Begun, _) => Alone::Begun,
        _ => Alone::No,
    }
}

enum Leads {
    No,
    Begun,
    There,
}

fn leads(address: &str, to: &[&str]) -> Leads {
    if to.iter().any(|it| address.len() > it.len() && address.starts_with(it)) {
        Leads::There
    } else if to.iter().any(|it| it.starts_with(address)) {
        Leads::Begun
    } else {
        Leads::No
    }
}

/// `title](address)`.
fn titled<'a>(text: &'a str, to: &[&str], found: fn(&'a str, &'a str) -> Alone<'a>) -> Alone<'a> {
    let Some((title, rest)) = text.split_once(']') else {
        return if text.contains('[') { Alone::No } else { Alone::Begun };
    };
    if title.contains('[') {
        return Alone::No;
    }
    let Some(rest) = rest.strip_prefix('(') else {
        return if rest.is_empty() { Alone::Begun } else { Alone::No };
    };
    let (address, behind) = match rest.split_once(')') {
        Some((address, behind)) => (address, Some(behind)),
        None => (rest, None),
    };
    let plain = !address.contains(|it: char| it.is_whitespace() || it == '(');
    match (plain, leads(address, to), behind) {
        (true, Leads::There, Some("")) => found(title, address),
        (true, Leads::There | Leads::Begun, None) => Alone::Begun,
        _ => Alone::No,
    }
}

/// An item of a list of tasks: whether it is done, and what it says.
pub(super) fn item(line: &str) -> Option<(bool, &str)> {
    let text = line.trim_start();
    let rest = text.strip_prefix(['-', '*', '+'])?.strip_prefix(" [")?;
    let done = rest.starts_with(['x', 'X']);
    let rest = rest.strip_prefix([' ', 'x', 'X'])?.strip_prefix("] ")?;
    Some((done, rest.trim()))
}

/// Whether a line that begins like this may come to be an item.
pub(super) fn may_be_item(begun: &str) -> bool {
    let text = begun.trim_start();
    let fits = |(at, sign): (usize, char)| match at {
        0 => matches!(sign, '-' | '*' | '+'),
        1 | 5 => sign == ' ',
        2 => sign == '[',
        3 => matches!(sign, ' ' | 'x' | 'X'),
        4 => sign == ']',
        _ => true,
    };
    text.chars().take(6).enumerate().all(fits)
}

/// Whether a line begins a drawing.
pub(super) fn is_svg(line: &str) -> bool {
    line.trim_start().strip_prefix("<svg").is_some_and(|it| it.starts_with([' ', '>']))
}

fn may_be_svg(text: &str) -> bool {
    is_svg(text) || "<svg".starts_with(text)
}

/// Whether a line may be one of a table.
pub(super) fn is_row(line: &str) -> bool {
    line.trim_start().starts_with('|')
}

/// The cells of a line of a table.
pub(super) fn cells(line: &str) -> Vec<String> {
    let text = line.trim();
    let text = text.strip_prefix('|').unwrap_or(text);
    let (mut cells, mut cell, mut escaped) = (Vec::new(), String::new(), false);
    for sign in text.chars() {
        match sign {
            '|' if escaped => {
                cell.pop();
                cell.push('|');
            }
            '|' => cells.push(std::mem::take(&mut cell).trim().to_owned()),
            other => cell.push(other),
        }
        escaped = sign == '\\' && !escaped;
    }
    if !cell.trim().is_empty() {
        cells.push(cell.trim().to_owned());
    }
    cells
}

/// Whether a line of a table is the one below its head, of as many columns.
pub(super) fn is_rule(line: &str, columns: usize) -> bool {
    let cells = cells(line);
    let rule = |it: &String| {
        let inner = it.strip_prefix(':').unwrap_or(it);
        let inner = inner.strip_suffix(':').unwrap_or(inner);
        !inner.is_empty() && inner.bytes().all(|it| it == b'-')
    };
    is_row(line) && columns > 0 && cells.len() == columns && cells.iter().all(rule)
}
