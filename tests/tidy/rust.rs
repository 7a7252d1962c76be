//! What of a Rust file runs, what is a string and what is a comment?
//!
//! No parser: it knows just enough of the language to tell these three apart and to find blocks.

/// A Rust file in three layers, each as long as the file and blank where another layer is.
pub(crate) struct Rust {
    /// What runs; strings are left as their quotes.
    pub(crate) code: String,
    /// What stands inside strings.
    pub(crate) strings: String,
    /// What stands inside comments.
    pub(crate) comments: String,
}

#[derive(Clone, Copy, PartialEq)]
enum Layer {
    Code,
    Strings,
    Comments,
}

struct Reader<'a> {
    text: &'a [char],
    at: usize,
    layers: Vec<Layer>,
}

impl Rust {
    /// Splits a file.
    pub(crate) fn read(text: &str) -> Self {
        let text: Vec<char> = text.chars().collect();
        let mut reader = Reader { text: &text, at: 0, layers: Vec::with_capacity(text.len()) };
        while reader.at < text.len() {
            reader.step();
        }
        let pick = |layer: Layer| -> String {
            let marks = text.iter().zip(&reader.layers);
            marks.map(|(it, of)| if *it == '\n' || *of == layer { *it } else { ' ' }).collect()
        };
        Self {
            code: pick(Layer::Code),
            strings: pick(Layer::Strings),
            comments: pick(Layer::Comments),
        }
    }

    /// What runs outside of `#[cfg(test)]` modules.
    pub(crate) fn shipped(&self) -> String {
        let mut code = self.code.clone();
        while let Some(start) = code.find("#[cfg(test)]") {
            let end = item_end(&code, start);
            let blank: String =
                code[start..end].chars().map(|it| if it == '\n' { it } else { ' ' }).collect();
            code.replace_range(start..end, &blank);
        }
        code
    }
}

/// Where the item that begins at `start` ends: behind its block, or behind its semicolon.
fn item_end(code: &str, start: usize) -> usize {
    match code[start..].find(['{', ';']).map(|it| start + it) {
        Some(at) if code.as_bytes()[at] == b'{' => block_end(code, at).unwrap_or(code.len()),
        Some(at) => at + 1,
        None => code.len(),
    }
}

/// The place right behind the block that opens at `open`.
pub(crate) fn block_end(code: &str, open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at + 1);
        }
    }
    None
}

/// The number of the line, from 1, in which `at` lies.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at].iter().filter(|it| **it == b'\n').count() + 1
}

/// Every place where `word` stands as a word or path of its own, not as a part of a longer one.
pub(crate) fn places_of<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_ident = |it: u8| it.is_ascii_alphanumeric() || it == b'_';
    let bytes = code.as_bytes();
    code.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let before = at.checked_sub(1).map(|it| bytes[it]);
        let after = bytes.get(at + word.len());
        let open = word.ends_with(|it: char| !it.is_alphanumeric() && it != '_');
        !before.is_some_and(is_ident) && (open || !after.is_some_and(|it| is_ident(*it)))
    })
}

impl Reader<'_> {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.text.get(self.at + ahead).copied()
    }

    fn take(&mut self, count: usize, layer: Layer) {
        let count = count.min(self.text.len() - self.at);
        self.layers.extend(std::iter::repeat_n(layer, count));
        self.at += count;
    }

    fn step(&mut self) {
        let in_word = self.at > 0 && is_word(self.text[self.at - 1]);
        match (self.text[self.at], self.peek(1)) {
            ('/', Some('/')) => self.take_line(),
            ('/', Some('*')) => self.take_comment(),
            ('"', _) => self.take_string(),
            ('\'', next) => self.take_quote(next),
            ('r' | 'b' | 'c', _) if !in_word => self.take_prefixed(),
            _ => self.take(1, Layer::Code),
        }
    }

    fn take_line(&mut self) {
        while self.peek(0).is_some_and(|it| it != '\n') {
            self.take(1, Layer::Comments);
        }
    }

    /// Block comments lie in one another.
    fn take_comment(&mut self) {
        let mut depth = 0;
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some('/'), Some('*')) => depth += 1,
                (Some('*'), Some('/')) => depth -= 1,
                (Some(_), _) => {
                    self.take(1, Layer::Comments);
                    continue;
                }
                (None, _) => return,
            }
            self.take(2, Layer::Comments);
            if depth == 0 {
                return;
            }
        }
    }

    fn take_string(&mut self) {
        self.take(1, Layer::Code);
        loop {
            match self.peek(0) {
                Some('\\') => self.take(2, Layer::Strings),
                Some('"') => return self.take(1, Layer::Code),
                Some(_) => self.take(1, Layer::Strings),
                None => return,
            }
        }
    }

    /// A character, or the name of a lifetime.
    fn take_quote(&mut self, next: Option<char>) {
        self.take(1, Layer::Code);
        if next == Some('\\') {
            self.take(2, Layer::Strings);
            while self.peek(0).is_some_and(|it| it != '\'') {
                self.take(1, Layer::Strings);
            }
            self.take(1, Layer::Code);
        } else if self.peek(1) == Some('\'') {
            self.take(1, Layer::Strings);
            self.take(1, Layer::Code);
        }
    }

    /// Perhaps a raw string (`r#"`, `br"`), perhaps only a word that begins like one.
    fn take_prefixed(&mut self) {
        let mut behind = 0;
        while matches!(self.peek(behind), Some('r' | 'b' | 'c')) && behind < 2 {
            behind += 1;
        }
        let is_raw = (0..behind).any(|it| self.peek(it) == Some('r'));
        let mut hashes = 0;
        while is_raw && self.peek(behind + hashes) == Some('#') {
            hashes += 1;
        }
        if !is_raw || self.peek(behind + hashes) != Some('"') {
            return self.take(1, Layer::Code);
        }
        self.take(behind + hashes + 1, Layer::Code);
        let closes = |reader: &Self| {
            reader.peek(0) == Some('"') && (1..=hashes).all(|it| reader.peek(it) == Some('#'))
        };
        while self.at < self.text.len() && !closes(self) {
            self.take(1, Layer::Strings);
        }
        self.take(1 + hashes, Layer::Code);
    }
}

fn is_word(it: char) -> bool {
    it.is_alphanumeric() || it == '_'
}

#[test]
fn strings_and_comments_are_told_from_what_runs() {
    let rust = Rust::read(
        "a(\"{ \\\" sleep(\"); // one {\nb /* { /* } */ */ c r#\"raw \" {\"# d br\"\\\" 'x' '\\'' '{' 'life r#type \u{e9}",
    );
    let words: Vec<&str> = rust.code.split_whitespace().collect();
    let expected =
        ["a(\"", "\");", "b", "c", "r#\"", "\"#", "d", "br\"", "\"", "'", "'", "'", "'", "'"];
    assert_eq!(words[..14], expected);
    assert_eq!(words[14..], ["'", "'life", "r#type", "\u{e9}"]);
    assert!(rust.strings.contains("{ \\\" sleep(") && rust.strings.contains("raw \" {"));
    assert!(rust.comments.contains("// one {") && rust.comments.contains("} */ */"));
    assert_eq!(rust.code.chars().filter(|it| *it == '\n').count(), 1);
}

#[test]
fn what_only_tests_run_is_not_shipped() {
    let rust =
        Rust::read("use a;\n#[cfg(test)]\nuse b;\nfn c() {}\n#[cfg(test)]\nmod tests { { d } }\ne");
    let shipped = rust.shipped();
    assert_eq!(shipped.split_whitespace().collect::<String>(), "usea;fnc(){}e");
    assert_eq!(line_of(&shipped, shipped.find('e').unwrap_or(0)), 1);
    assert_eq!(line_of(&shipped, shipped.rfind('e').unwrap_or(0)), 7);
}

#[test]
fn a_word_is_no_part_of_a_longer_one() {
    let found = |word: &str| {
        places_of("sleep(; asleep(; sleep_on(; tokio::spawn_x tokio::spawn", word).count()
    };
    assert_eq!(found("sleep("), 1);
    assert_eq!(found("tokio::spawn"), 1);
    assert_eq!(found("tokio"), 2);
}
