//! What is a secret and must not get out? Known ones, also encoded, and what has the shape of a key.
//!
//! There is one set of known secrets in the process, since the log, events and errors share it. It
//! only grows: what was a secret once is one until the process ends.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Write;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

/// What stands in a secret's place.
pub const REDACTED: &str = "[redacted]";
/// A shorter text is no secret: hiding it would garble what is said.
pub const SECRET_BYTES_MIN: usize = 8;
/// The longest secret that is looked for.
const SECRET_BYTES_MAX: usize = 16 * 1024;
/// The most secrets that are known at a time.
const SECRETS_MAX: usize = 1_024;
/// So many bytes must agree before a piece of a stream is held back: less gives nothing away.
const BEGIN: usize = 3;
/// The longest private key that is swallowed.
const PEM_BYTES_MAX: usize = 32 * 1024;

/// A key that is known by how it looks.
struct Shape {
    begin: &'static str,
    /// So many more signs of a token must follow.
    more: usize,
    /// Whether one of them must be a digit: a word is no key.
    digit: bool,
}

const fn shape(begin: &'static str, more: usize) -> Shape {
    Shape { begin, more, digit: true }
}

const SHAPES: &[Shape] = &[
    shape("sk-", 20),
    Shape { begin: "AIza", more: 30, digit: false },
    shape("ghp_", 30),
    shape("gho_", 30),
    shape("ghu_", 30),
    shape("ghs_", 30),
    shape("ghr_", 30),
    shape("github_pat_", 30),
    shape("xoxb-", 12),
    shape("xoxp-", 12),
    shape("xoxa-", 12),
    shape("xoxr-", 12),
    shape("xoxs-", 12),
    Shape { begin: "AKIA", more: 16, digit: false },
    Shape { begin: "ASIA", more: 16, digit: false },
    shape("Bearer ", 20),
    shape("bearer ", 20),
];
/// The begin of a private key; its header ends within so many bytes more.
const PEM: &str = "-----BEGIN ";
const PEM_HEADER_MAX: usize = 40;
const PEM_END: &str = "PRIVATE KEY-----";

/// What is looked for.
#[derive(Clone, Copy)]
enum What {
    Known,
    Shape(&'static Shape),
    Pem,
}

/// What is looked for, and its bytes: the begin, of a shape.
type Pattern = (Zeroizing<Vec<u8>>, What);

/// All that is looked for, by its first bytes.
struct Known {
    secrets: Vec<Zeroizing<String>>,
    patterns: HashMap<[u8; BEGIN], Vec<Pattern>>,
    /// Which pairs of bytes stand first and second, and second and third, in a pattern: a look
    /// here decides for nearly every place.
    pairs: [Pairs; 2],
}

/// A set of pairs of bytes.
struct Pairs(Box<[u64; 1024]>);

impl Pairs {
    fn new() -> Self {
        Self(Box::new([0; 1024]))
    }

    fn add(&mut self, first: u8, second: u8) {
        let pair = usize::from(first) << 8 | usize::from(second);
        self.0[pair / 64] |= 1 << (pair % 64);
    }

    fn has(&self, first: u8, second: u8) -> bool {
        let pair = usize::from(first) << 8 | usize::from(second);
        self.0[pair / 64] & 1 << (pair % 64) != 0
    }
}

static KNOWN: LazyLock<RwLock<Arc<Known>>> =
    LazyLock::new(|| RwLock::new(Arc::new(Known::new(Vec::new()))));

fn known() -> Arc<Known> {
    Arc::clone(&KNOWN.read().unwrap_or_else(PoisonError::into_inner))
}

/// Adds to the secrets that are known.
pub fn learn(secrets: impl IntoIterator<Item = Zeroizing<String>>) {
    let old = known();
    let mut all = old.secrets.clone();
    for secret in secrets {
        let trimmed = secret.trim();
        let fits = (SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&trimmed.len());
        if fits && all.len() < SECRETS_MAX && !all.iter().any(|it| **it == *trimmed) {
            all.push(Zeroizing::new(trimmed.to_owned()));
        }
    }
    if all.len() > old.secrets.len() {
        *KNOWN.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Known::new(all));
    }
}

impl Known {
    fn new(secrets: Vec<Zeroizing<String>>) -> Self {
        let mut known = Self {
            secrets: Vec::new(),
            patterns: HashMap::new(),
            pairs: [Pairs::new(), Pairs::new()],
        };
        for secret in &secrets {
            encodings(secret).into_iter().for_each(|it| known.add(it, What::Known));
        }
        for shape in SHAPES {
            known.add(Zeroizing::new(shape.begin.into()), What::Shape(shape));
        }
        known.add(Zeroizing::new(PEM.into()), What::Pem);
        known.secrets = secrets;
        known
    }

    fn add(&mut self, pattern: Zeroizing<Vec<u8>>, what: What) {
        let Some(begin) = pattern.first_chunk::<BEGIN>() else { return };
        self.pairs[0].add(begin[0], begin[1]);
        self.pairs[1].add(begin[1], begin[2]);
        let same = self.patterns.entry(*begin).or_default();
        if !same.iter().any(|it| it.0 == pattern) {
            same.push((pattern, what));
        }
    }

    /// The patterns that a text at this place may be.
    fn at(&self, rest: &[u8]) -> &[Pattern] {
        let Some(begin) = rest.first_chunk::<BEGIN>() else { return &[] };
        self.patterns.get(begin).map_or(&[], Vec::as_slice)
    }
}

/// A secret as it may be written: as it is, in base64 at each of three places, in hexadecimal, and
/// with what JSON and URLs write in other ways.
fn encodings(secret: &str) -> Vec<Zeroizing<Vec<u8>>> {
    let mut all = vec![Zeroizing::new(secret.as_bytes().to_vec())];
    for before in 0..3_usize {
        let mut bytes = Zeroizing::new(vec![0; before]);
        bytes.extend_from_slice(secret.as_bytes());
        // The signs at both ends also depend on what stands beside the secret.
        let first = (before * 8).div_ceil(6);
        let last = bytes.len() * 8 / 6;
        for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
            let text = Zeroizing::new(engine.encode(&*bytes));
            all.push(Zeroizing::new(text.as_bytes()[first..last].to_vec()));
        }
    }
    let hex = |upper: bool| -> Vec<u8> {
        let digit = |it: u8| if upper { format!("{it:02X}") } else { format!("{it:02x}") };
        secret.bytes().flat_map(|it| digit(it).into_bytes()).collect()
    };
    all.extend([hex(false), hex(true)].map(Zeroizing::new));
    let json = Zeroizing::new(Value::from(secret).to_string());
    all.push(Zeroizing::new(json.as_bytes()[1..json.len() - 1].to_vec()));
    let url = |it: u8| match it {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => vec![it],
        _ => format!("%{it:02X}").into_bytes(),
    };
    all.push(Zeroizing::new(secret.bytes().flat_map(url).collect()));
    all
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.~+/=".contains(&byte)
}

/// What a place in a text is.
enum Found {
    Nothing,
    /// A secret of so many bytes, and whether what follows still belongs to it.
    Secret(usize, Tail),
    /// It may become one, once more is known.
    Open,
}

/// What is swallowed behind a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tail {
    None,
    Token,
    Pem,
}

impl Known {
    /// What begins at `place`; `in_word` says what stood before the text.
    fn look(&self, text: &[u8], place: usize, in_word: bool) -> Found {
        let in_word = place.checked_sub(1).map_or(in_word, |it| text[it].is_ascii_alphanumeric());
        let rest = &text[place..];
        let mut found = Found::Nothing;
        for (pattern, what) in self.at(rest) {
            let this = match what {
                What::Known if rest.starts_with(pattern) => {
                    Found::Secret(pattern.len(), Tail::None)
                }
                _ if rest.len() < pattern.len() && pattern.starts_with(rest) => Found::Open,
                _ if !rest.starts_with(pattern) => Found::Nothing,
                What::Known => Found::Nothing,
                _ if in_word => Found::Nothing,
                What::Shape(shape) => token(rest, shape),
                What::Pem => pem(rest),
            };
            found = match (found, this) {
                (Found::Secret(old, tail), Found::Secret(new, _)) if old >= new => {
                    Found::Secret(old, tail)
                }
                (_, Found::Secret(new, tail)) => Found::Secret(new, tail),
                (Found::Secret(old, tail), _) => Found::Secret(old, tail),
                (Found::Open, _) | (_, Found::Open) => Found::Open,
                (Found::Nothing, Found::Nothing) => Found::Nothing,
            };
        }
        found
    }

    /// The first place of a text that is, or may become, a secret.
    fn first(&self, text: &[u8], from: usize, in_word: bool) -> Option<(usize, Found)> {
        let [first, second] = &self.pairs;
        let rest = text.get(from..)?;
        rest.windows(BEGIN).enumerate().find_map(|(place, it)| {
            if !first.has(it[0], it[1]) || !second.has(it[1], it[2]) {
                return None;
            }
            let place = from + place;
            match self.look(text, place, in_word) {
                Found::Nothing => None,
                found => Some((place, found)),
            }
        })
    }
}

fn token(rest: &[u8], shape: &Shape) -> Found {
    let more = &rest[shape.begin.len()..];
    let length = more.iter().take_while(|it| is_token(**it)).count();
    let has_digit = more[..length].iter().any(u8::is_ascii_digit);
    if length >= shape.more && (has_digit || !shape.digit) {
        return Found::Secret(shape.begin.len() + length, Tail::Token);
    }
    // A long word without a digit is no key; waiting for one must end.
    if length == more.len() && length < 2 * shape.more { Found::Open } else { Found::Nothing }
}

fn pem(rest: &[u8]) -> Found {
    let header = &rest[PEM.len()..rest.len().min(PEM.len() + PEM_HEADER_MAX)];
    let end = PEM_END.as_bytes();
    match header.windows(end.len()).position(|it| it == end) {
        Some(place) => Found::Secret(PEM.len() + place + end.len(), Tail::Pem),
        None if header.len() == PEM_HEADER_MAX || header.contains(&b'\n') => Found::Nothing,
        None => Found::Open,
    }
}

/// A text that comes in pieces, with what is a secret taken out. What may be the begin of one is
/// held back until that is decided.
#[derive(Debug)]
pub struct Pieces {
    /// What is told already and may be the begin of a secret, then what is held back.
    text: String,
    told: usize,
    /// Whether a letter or digit stood before all that.
    in_word: bool,
    tail: Tail,
    swallowed: usize,
}

impl Default for Pieces {
    fn default() -> Self {
        Self { text: String::new(), told: 0, in_word: false, tail: Tail::None, swallowed: 0 }
    }
}

impl Pieces {
    /// Takes a piece in and answers what may be told.
    pub fn take(&mut self, piece: &str) -> String {
        if crate::sabotage::is("no_redaction") {
            return piece.to_owned();
        }
        self.text.push_str(piece);
        self.go(&known(), false)
    }

    /// Answers what was held back: no more comes.
    pub fn end(&mut self) -> String {
        if self.text.len() == self.told {
            return String::new();
        }
        self.go(&known(), true)
    }

    fn go(&mut self, known: &Known, ends: bool) -> String {
        let mut out = String::new();
        let mut from = 0;
        loop {
            self.swallow();
            let Some((place, found)) = known.first(self.text.as_bytes(), from, self.in_word) else {
                // The last bytes stay, told as they are: a secret may begin in them.
                let keep = self.text.floor_char_boundary(self.text.len().saturating_sub(BEGIN - 1));
                self.tell(self.text.len(), &mut out);
                self.drop_before(keep);
                return out;
            };
            match found {
                Found::Secret(length, tail) => {
                    self.tell(place, &mut out);
                    out.push_str(REDACTED);
                    self.drop_before(place + length);
                    self.in_word = false;
                    (self.told, self.tail, self.swallowed, from) = (0, tail, 0, 0);
                }
                Found::Open if !ends => {
                    self.tell(place, &mut out);
                    self.drop_before(place);
                    return out;
                }
                // The begin of a known secret is as good as most of it; of a shape it is nothing.
                Found::Open if self.is_begin_of_known(known, place) => {
                    self.tell(place, &mut out);
                    out.push_str(REDACTED);
                    self.drop_before(self.text.len());
                    return out;
                }
                Found::Open | Found::Nothing => from = place + 1,
            }
        }
    }

    fn is_begin_of_known(&self, known: &Known, place: usize) -> bool {
        let rest = &self.text.as_bytes()[place..];
        let begins = |it: &Pattern| {
            matches!(it.1, What::Known) && it.0.len() > rest.len() && it.0.starts_with(rest)
        };
        rest.len() >= SECRET_BYTES_MIN && known.at(rest).iter().any(begins)
    }

    /// Tells what lies before `place` and is not told yet.
    fn tell(&mut self, place: usize, out: &mut String) {
        if place > self.told {
            out.push_str(&self.text[self.told..place]);
            self.told = place;
        }
    }

    fn drop_before(&mut self, place: usize) {
        if let Some(last) = place.checked_sub(1) {
            self.in_word = self.text.as_bytes()[last].is_ascii_alphanumeric();
        }
        self.text.drain(..place);
        self.told = self.told.saturating_sub(place);
    }

    /// Takes away what belongs to the secret before it.
    fn swallow(&mut self) {
        let bytes = self.text.as_bytes();
        let count = match self.tail {
            Tail::None => return,
            Tail::Token => bytes.iter().take_while(|it| is_token(**it)).count(),
            Tail::Pem => {
                let of_key = |it: &u8| {
                    is_token(*it) || it.is_ascii_whitespace() || matches!(it, b'\\' | b':' | b',')
                };
                bytes.iter().take_while(|it| of_key(it)).count()
            }
        };
        let end = self.text[..count].find(PEM_END).filter(|_| self.tail == Tail::Pem);
        let count = end.map_or(count, |it| it + PEM_END.len());
        self.swallowed += count;
        let is_over = end.is_some() || count < bytes.len() || self.swallowed > PEM_BYTES_MAX;
        if is_over {
            self.tail = Tail::None;
        }
        self.text.drain(..count);
    }
}

/// A text without secrets.
#[must_use]
pub fn text(text: &str) -> Cow<'_, str> {
    if text.len() < SECRET_BYTES_MIN || crate::sabotage::is("no_redaction") {
        return Cow::Borrowed(text);
    }
    let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
    if known.first(text.as_bytes(), 0, false).is_none() {
        return Cow::Borrowed(text);
    }
    let mut pieces = Pieces { text: text.to_owned(), ..Pieces::default() };
    let mut out = pieces.go(&known, false);
    out.push_str(&pieces.go(&known, true));
    Cow::Owned(out)
}

/// Takes secrets out of all texts of a value.
pub fn value(value: &mut Value) {
    match value {
        Value::String(it) => {
            if let Cow::Owned(clean) = text(it) {
                *it = clean;
            }
        }
        Value::Array(list) => list.iter_mut().for_each(self::value),
        Value::Object(map) => members(map),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Takes secrets out of all members, their names included.
pub fn members(map: &mut Map<String, Value>) {
    map.values_mut().for_each(value);
    if map.keys().any(|it| matches!(text(it), Cow::Owned(_))) {
        let old = std::mem::take(map);
        map.extend(old.into_iter().map(|(key, value)| (text(&key).into_owned(), value)));
    }
}

/// The log's way to stderr.
#[derive(Debug)]
pub struct Log;

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        let said = String::from_utf8_lossy(line);
        std::io::stderr().write_all(text(&said).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

#[cfg(test)]
mod tests;
