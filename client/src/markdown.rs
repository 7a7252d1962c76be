//! Markdown that is still being written: how is it shown at once, and never taken back?
//!
//! An own renderer by lines, because a terminal cannot take back what it printed: a parser of whole
//! documents would have each paragraph wait for its end. Here text goes out as it comes; only what is
//! not decided yet waits: the first signs of a line, and a span (`**bold**`, `` `code` ``, a link) until
//! it closes, its line ends, or it passes [`SPAN_BYTES_MAX`]. What comes out does not depend on how the
//! text was cut into pieces.

mod spans;

use crate::visible;

/// Bytes of a span that wait for its end; what is longer is shown as it was written.
pub const SPAN_BYTES_MAX: usize = 512;
/// Signs at the beginning of a line that may decide what it is.
const MARK_CHARS_MAX: usize = 64;

const RESET: &str = "\x1b[0m";
const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const CODE: &str = "\x1b[36m";

/// What a line is, once its first signs have said it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// Nothing of it is decided.
    Undecided,
    /// Text with spans; `bold` for headings.
    Text { bold: bool },
    /// A line of a block of code, shown as it is.
    Code,
}

/// A block of code that is open: its fence, and how many times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fence {
    sign: char,
    count: usize,
}

/// Renders one text, piece by piece, with the codes of a terminal.
#[derive(Debug)]
pub struct Markdown {
    line: Line,
    fence: Option<Fence>,
    /// What has come and is not decided yet.
    held: String,
    /// The sign before what is held: whether a mark can open a span here.
    before: char,
}

impl Default for Markdown {
    fn default() -> Self {
        Self { line: Line::Undecided, fence: None, held: String::new(), before: '\n' }
    }
}

impl Markdown {
    /// Takes a piece; answers what can be printed. Control codes in it are made visible first.
    pub fn piece(&mut self, text: &str) -> String {
        let mut out = String::new();
        for part in visible::text(text).split_inclusive('\n') {
            match part.strip_suffix('\n') {
                Some(rest) => {
                    self.held.push_str(rest);
                    self.flow(true, &mut out);
                    self.end_line(&mut out);
                }
                None => {
                    self.held.push_str(part);
                    self.flow(false, &mut out);
                }
            }
        }
        out
    }

    /// The text is over: what was held is decided now.
    pub fn finish(&mut self) -> String {
        let mut out = String::new();
        self.flow(true, &mut out);
        if self.line == (Line::Text { bold: true }) {
            out.push_str(RESET);
        }
        *self = Self::default();
        out
    }

    /// Prints as much of what is held as is decided; all of it when the line is `whole`.
    fn flow(&mut self, whole: bool, out: &mut String) {
        if self.line == Line::Undecided && !self.decide(whole, out) {
            return;
        }
        match self.line {
            Line::Undecided => {}
            Line::Code => {
                let held = std::mem::take(&mut self.held);
                paint(CODE, &held, out);
            }
            Line::Text { bold } => {
                let ground = if bold { BOLD } else { "" };
                let done = spans::render(&self.held, self.before, whole, ground, out);
                self.before = self.held[..done].chars().next_back().unwrap_or(self.before);
                self.held.drain(..done);
            }
        }
    }

    fn end_line(&mut self, out: &mut String) {
        if self.line == (Line::Text { bold: true }) {
            out.push_str(RESET);
        }
        out.push('\n');
        self.held.clear();
        (self.line, self.before) = (Line::Undecided, '\n');
    }

    /// Finds out what the line is. False when more of it must come first.
    fn decide(&mut self, whole: bool, out: &mut String) -> bool {
        if let Some(fence) = self.fence {
            return self.decide_code(fence, whole, out);
        }
        let indent = self.held.len() - self.held.trim_start_matches(' ').len();
        let rest = &self.held[indent..];
        let Some(first) = rest.chars().next() else {
            return self.text_if(whole || indent >= MARK_CHARS_MAX);
        };
        let run = rest.chars().take_while(|it| *it == first).count();
        let behind = rest.chars().nth(run);
        let open = !whole && rest.chars().count() < MARK_CHARS_MAX;
        match first {
            // The rest of the line names the language: the whole line is needed.
            '`' | '~' if run >= 3 => {
                if open && !whole {
                    return false;
                }
                self.fence = Some(Fence { sign: first, count: run });
                let language = rest.trim_start_matches(first).trim().to_owned();
                self.shown_instead(&format!("{}╭─ {language}", " ".repeat(indent)), out)
            }
            '`' | '~' if open && behind.is_none() => false,
            '#' if run <= 6 => match behind {
                None if open => false,
                Some(' ') => {
                    let heading = rest[run..].trim_start();
                    if heading.is_empty() && open {
                        return false;
                    }
                    self.held = heading.to_owned();
                    self.line = Line::Text { bold: true };
                    out.push_str(BOLD);
                    true
                }
                _ => self.text_if(true),
            },
            '-' | '*' | '+' | '_' => self.decide_mark(indent, (first, run, behind), open, out),
            '>' => match behind {
                None if open => false,
                _ => {
                    let quoted = rest[run..].strip_prefix(' ').unwrap_or(&rest[run..]).to_owned();
                    paint(DIM, &"│ ".repeat(run), out);
                    self.held = quoted;
                    self.text_if(true)
                }
            },
            _ => self.text_if(true),
        }
    }

    /// A line that begins with a sign of lists, rules and emphasis.
    fn decide_mark(
        &mut self,
        indent: usize,
        (sign, run, behind): (char, usize, Option<char>),
        open: bool,
        out: &mut String,
    ) -> bool {
        let rest = &self.held[indent..];
        let ruled = rest.chars().all(|it| it == sign || it == ' ');
        let signs = rest.chars().filter(|it| *it == sign).count();
        if ruled && open {
            return false;
        }
        if ruled && signs >= 3 && sign != '+' {
            return self.shown_instead("────────", out);
        }
        if run == 1 && sign != '_' && behind == Some(' ') {
            out.push_str(&" ".repeat(indent));
            out.push_str("• ");
            let item = rest[2..].to_owned();
            self.held = item;
            self.before = ' ';
        }
        self.text_if(true)
    }

    /// A line inside of a block of code: is it the closing fence?
    fn decide_code(&mut self, fence: Fence, whole: bool, out: &mut String) -> bool {
        let rest = self.held.trim_start_matches(' ');
        let run = rest.chars().take_while(|it| *it == fence.sign).count();
        let blank = rest.chars().skip(run).all(|it| it == ' ');
        let indent = self.held.len() - rest.len();
        if blank && indent <= 3 && !whole {
            return false;
        }
        if blank && run >= fence.count {
            self.fence = None;
            return self.shown_instead("╰─", out);
        }
        paint(DIM, "│ ", out);
        self.line = Line::Code;
        true
    }

    fn text_if(&mut self, decided: bool) -> bool {
        if decided {
            self.line = Line::Text { bold: false };
        }
        decided
    }

    /// The line is a mark alone, for which something else is shown.
    fn shown_instead(&mut self, text: &str, out: &mut String) -> bool {
        paint(DIM, text.trim_end(), out);
        self.held.clear();
        self.line = Line::Code;
        true
    }
}

/// A text in a style of its own.
fn paint(style: &str, text: &str, out: &mut String) {
    if !text.is_empty() {
        out.push_str(style);
        out.push_str(text);
        out.push_str(RESET);
    }
}

#[cfg(test)]
mod tests;
