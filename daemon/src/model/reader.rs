//! Which events are in an answer, however it comes?
//!
//! Pure: bytes in, pieces out. Server-sent events, one JSON object where a server does not stream, or
//! one object a line: the form is told here, the words by the provider's own [`Answer`].

use std::collections::VecDeque;

use super::fault::Fault;
use super::sse::{Broken, Decoder, EVENT_BYTES_MAX};
use super::{Finish, Piece, Reason};

/// The longest answer, text and reasoning together.
pub(crate) const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Why an answer is not whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// It ended in the middle.
    Cut,
    /// It is not what the protocol allows.
    Bad(String),
    /// The provider says itself what went wrong.
    Said(Fault),
}

impl Flaw {
    /// The provider would not answer this.
    pub(crate) fn refused(words: String) -> Flaw {
        Flaw::Said(Fault { reason: Reason::Refused, passing: false, words, wanted_ms: None })
    }

    /// What was read is no JSON of an answer; half of it is a cut.
    pub(crate) fn of_json(err: &serde_json::Error) -> Flaw {
        if err.is_eof() { Flaw::Cut } else { Flaw::Bad(format!("not a chunk of an answer: {err}")) }
    }
}

impl From<Broken> for Flaw {
    fn from(broken: Broken) -> Self {
        Flaw::Bad(match broken {
            Broken::TooLong => format!("an event is longer than {EVENT_BYTES_MAX} bytes"),
            Broken::NotUtf8 => "an event is not UTF-8".to_owned(),
        })
    }
}

/// What one provider's events say, taken in one after the other.
pub(crate) trait Answer: Send + Sync {
    /// Takes one event and adds the pieces in it.
    fn event(&mut self, data: &str, pieces: &mut VecDeque<Piece>) -> Result<(), Flaw>;

    /// The text is whole; at most the usage is still to come.
    fn is_over(&self) -> bool;

    /// The provider has said that this was all.
    fn is_done(&self) -> bool;

    /// What is known once nothing more comes. Asked only when it is over, and once.
    fn finish(&mut self) -> Result<Finish, Flaw>;
}

/// Counts an answer's text on its way to the pieces.
#[derive(Debug, Default)]
pub(crate) struct Said {
    bytes: usize,
}

impl Said {
    /// Adds a piece; whether there was text in it.
    pub(crate) fn add(
        &mut self,
        text: Option<String>,
        piece: fn(String) -> Piece,
        pieces: &mut VecDeque<Piece>,
    ) -> Result<bool, Flaw> {
        let Some(text) = text.filter(|it| !it.is_empty()) else { return Ok(false) };
        self.bytes += text.len();
        if self.bytes > ANSWER_BYTES_MAX {
            return Err(too_long());
        }
        pieces.push_back(piece(text));
        Ok(true)
    }

    /// Nothing was said.
    pub(crate) fn is_nothing(&self) -> bool {
        self.bytes == 0
    }
}

/// Whether an answer that begins with a brace is one object or one a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Objects {
    /// The whole answer is one object.
    One,
    /// Each line is one.
    Lines,
}

/// The reader of one answer.
pub(crate) struct Reader {
    form: Form,
    objects: Objects,
    events: u64,
    answer: Box<dyn Answer>,
}

/// How the answer comes; its first byte tells.
enum Form {
    Unknown,
    Events(Decoder),
    /// The unfinished line.
    Lines(Vec<u8>),
    /// One JSON object: the server does not stream.
    Whole(Vec<u8>),
}

impl Reader {
    /// A reader that has seen nothing.
    pub(crate) fn new(answer: Box<dyn Answer>, objects: Objects) -> Reader {
        Reader { form: Form::Unknown, objects, events: 0, answer }
    }

    /// Takes what came and adds the pieces in it.
    pub(crate) fn read(
        &mut self,
        mut bytes: &[u8],
        pieces: &mut VecDeque<Piece>,
    ) -> Result<(), Flaw> {
        if let Form::Unknown = self.form {
            // Space before the first byte means nothing, whether it comes with that byte or before it.
            bytes = bytes.trim_ascii_start();
            match bytes.first() {
                None => return Ok(()),
                Some(b'{' | b'[') if self.objects == Objects::Lines => {
                    self.form = Form::Lines(Vec::new());
                }
                Some(b'{' | b'[') => self.form = Form::Whole(Vec::new()),
                Some(_) => self.form = Form::Events(Decoder::default()),
            }
        }
        let Reader { form, events, answer, .. } = self;
        match form {
            Form::Whole(whole) if whole.len() + bytes.len() > ANSWER_BYTES_MAX => Err(too_long()),
            Form::Whole(whole) => {
                whole.extend_from_slice(bytes);
                Ok(())
            }
            Form::Lines(line) => lines(line, bytes, |it| {
                *events += 1;
                answer.event(it, pieces)
            }),
            Form::Events(decoder) => decoder.feed(bytes, |it| {
                *events += 1;
                answer.event(it, pieces)
            }),
            Form::Unknown => Ok(()),
        }
    }

    /// Nothing more will come: the answer is whole if its end has been seen.
    pub(crate) fn end(&mut self, pieces: &mut VecDeque<Piece>) -> Result<Finish, Flaw> {
        let Reader { form, events, answer, .. } = self;
        let mut last = |data: &str| {
            *events += 1;
            answer.event(data, pieces)
        };
        let tail = match form {
            Form::Unknown => return Err(Flaw::Cut),
            Form::Whole(whole) => {
                let text = std::str::from_utf8(whole).map_err(|_| Broken::NotUtf8)?;
                return last(text).and_then(|()| self.finish());
            }
            Form::Lines(line) => lines(line, b"\n", last),
            Form::Events(decoder) => decoder.end(last),
        };
        match tail {
            _ if self.answer.is_over() => self.answer.finish(),
            _ if crate::sabotage::is("cut_is_end") => self.answer.finish(),
            // A last event without its empty line counts if it is whole; half of one does not, though
            // what is left of it may look like anything.
            Ok(()) | Err(Flaw::Bad(_)) => Err(Flaw::Cut),
            Err(flaw) => Err(flaw),
        }
    }

    fn finish(&mut self) -> Result<Finish, Flaw> {
        if self.answer.is_over() { self.answer.finish() } else { Err(Flaw::Cut) }
    }

    /// The provider has said that this was all.
    pub(crate) fn is_done(&self) -> bool {
        self.answer.is_done()
    }

    /// The text is whole; at most the usage is still to come.
    pub(crate) fn is_over(&self) -> bool {
        self.answer.is_over()
    }

    /// Nothing came, not even a comment that keeps the connection alive.
    pub(crate) fn is_untouched(&self) -> bool {
        matches!(self.form, Form::Unknown)
    }

    /// Nothing that came was an event of a stream.
    pub(crate) fn saw_nothing(&self) -> bool {
        self.events == 0
    }
}

/// Calls `event` with each line that is whole and not empty.
fn lines(
    line: &mut Vec<u8>,
    bytes: &[u8],
    mut event: impl FnMut(&str) -> Result<(), Flaw>,
) -> Result<(), Flaw> {
    let mut rest = bytes;
    while let Some(end) = rest.iter().position(|it| *it == b'\n') {
        if line.len() + end > EVENT_BYTES_MAX {
            return Err(Broken::TooLong.into());
        }
        line.extend_from_slice(&rest[..end]);
        rest = &rest[end + 1..];
        let whole = std::mem::take(line);
        let text = std::str::from_utf8(&whole).map_err(|_| Broken::NotUtf8)?;
        if !text.trim().is_empty() {
            event(text)?;
        }
    }
    if line.len() + rest.len() > EVENT_BYTES_MAX {
        return Err(Broken::TooLong.into());
    }
    line.extend_from_slice(rest);
    Ok(())
}

fn too_long() -> Flaw {
    Flaw::Bad(format!("the answer is longer than {ANSWER_BYTES_MAX} bytes"))
}
