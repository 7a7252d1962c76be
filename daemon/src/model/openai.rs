//! How does a prompt become a request of OpenAI's chat completions, and their answer pieces?
//!
//! Pure: bytes in, pieces out. Lenient where servers differ (no `[DONE]`, no usage, an answer in one
//! JSON object, reasoning under either name), strict where the text itself is at stake.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::fault::{self, Fault};
use super::sse::{Broken, Decoder, EVENT_BYTES_MAX};
use super::{Finish, Piece, Prompt, Reason, Speaker};

/// The path beneath a provider's base URL.
pub(crate) const PATH: &str = "chat/completions";
/// The longest answer, text and reasoning together.
pub(crate) const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The body of a request.
pub(crate) fn request_body(prompt: &Prompt) -> Vec<u8> {
    #[derive(Serialize)]
    struct Body<'a> {
        model: &'a str,
        messages: Vec<Message<'a>>,
        stream: bool,
        stream_options: Options,
    }
    #[derive(Serialize)]
    struct Options {
        include_usage: bool,
    }
    #[derive(Serialize)]
    struct Message<'a> {
        role: &'a str,
        content: &'a str,
    }
    let system = prompt.system.as_deref().map(|content| Message { role: "system", content });
    let said = prompt.messages.iter().map(|it| {
        let role = match it.role {
            Speaker::User => "user",
            Speaker::Assistant => "assistant",
        };
        Message { role, content: &it.text }
    });
    let body = Body {
        model: &prompt.model,
        messages: system.into_iter().chain(said).collect(),
        stream: true,
        stream_options: Options { include_usage: true },
    };
    serde_json::to_vec(&body).expect("strings and booleans are always JSON")
}

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

impl From<Broken> for Flaw {
    fn from(broken: Broken) -> Self {
        Flaw::Bad(match broken {
            Broken::TooLong => format!("an event is longer than {EVENT_BYTES_MAX} bytes"),
            Broken::NotUtf8 => "an event is not UTF-8".to_owned(),
        })
    }
}

/// The reader of one answer.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    form: Form,
    answer: Answer,
}

/// How the answer comes; its first byte tells.
#[derive(Debug, Default)]
enum Form {
    #[default]
    Unknown,
    Events(Decoder),
    /// One JSON object: the server does not stream.
    Whole(Vec<u8>),
}

/// What is known of the answer so far.
#[derive(Debug, Default)]
struct Answer {
    bytes: usize,
    events: u64,
    done: bool,
    refusal: bool,
    stop_reason: Option<String>,
    usage: Option<Usage>,
}

impl Reader {
    /// Takes what came and adds the pieces in it.
    pub(crate) fn read(&mut self, bytes: &[u8], pieces: &mut VecDeque<Piece>) -> Result<(), Flaw> {
        if let Form::Unknown = self.form {
            match bytes.iter().find(|it| !it.is_ascii_whitespace()) {
                None => return Ok(()),
                Some(b'{' | b'[') => self.form = Form::Whole(Vec::new()),
                Some(_) => self.form = Form::Events(Decoder::default()),
            }
        }
        match &mut self.form {
            Form::Whole(whole) if whole.len() + bytes.len() > ANSWER_BYTES_MAX => Err(too_long()),
            Form::Whole(whole) => {
                whole.extend_from_slice(bytes);
                Ok(())
            }
            Form::Events(decoder) => decoder.feed(bytes, |it| self.answer.event(it, pieces)),
            Form::Unknown => Ok(()),
        }
    }

    /// Nothing more will come: the answer is whole if its end has been seen.
    pub(crate) fn end(&mut self, pieces: &mut VecDeque<Piece>) -> Result<Finish, Flaw> {
        match &mut self.form {
            Form::Unknown => return Err(Flaw::Cut),
            Form::Whole(whole) => {
                let text = std::str::from_utf8(whole).map_err(|_| Broken::NotUtf8)?;
                self.answer.event(text, pieces)?;
            }
            Form::Events(decoder) => {
                // A last event without its empty line counts if it is whole; half of one does not.
                let tail = decoder.end(|it| match self.answer.event(it, pieces) {
                    Err(Flaw::Bad(_)) => Err(Flaw::Cut),
                    other => other,
                });
                if !self.answer.is_over() {
                    tail?;
                }
            }
        }
        self.answer.finish()
    }

    /// The provider has said that this was all.
    pub(crate) fn is_done(&self) -> bool {
        self.answer.done
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
        self.answer.events == 0
    }
}

impl Answer {
    fn event(&mut self, data: &str, pieces: &mut VecDeque<Piece>) -> Result<(), Flaw> {
        self.events += 1;
        if self.done {
            return Ok(());
        }
        if data.trim() == "[DONE]" {
            self.done = true;
            return Ok(());
        }
        let chunk: Chunk = match serde_json::from_str(data) {
            Ok(chunk) => chunk,
            // Errors come in shapes of their own, which need not be those of a chunk.
            Err(err) => return Err(fault::of_object(data).map_or_else(|| bad(&err), Flaw::Said)),
        };
        if (chunk.error.is_some() || chunk.choices.is_none())
            && let Some(fault) = fault::of_object(data)
        {
            return Err(Flaw::Said(fault));
        }
        self.usage = chunk.usage.or(self.usage.take());
        // Only one choice is ever asked for.
        let choices = chunk.choices.into_iter().flatten();
        for choice in choices.filter(|it| it.index.unwrap_or(0) == 0) {
            if let Some(words) = choice.delta.or(choice.message) {
                self.words(words, pieces)?;
            }
            if let Some(stop_reason) = choice.finish_reason.filter(|it| !it.is_empty()) {
                self.stop_reason.get_or_insert_with(|| stop_reason.into_owned());
            }
        }
        Ok(())
    }

    fn words(&mut self, words: Words, pieces: &mut VecDeque<Piece>) -> Result<(), Flaw> {
        let mut add = |said: Said, piece: fn(String) -> Piece| {
            let Some(text) = said.0.filter(|it| !it.is_empty()) else { return Ok(false) };
            self.bytes += text.len();
            if self.bytes > ANSWER_BYTES_MAX {
                return Err(too_long());
            }
            pieces.push_back(piece(text));
            Ok(true)
        };
        // Some servers send the same reasoning under both names.
        if !add(words.reasoning_content, Piece::Reasoning)? {
            add(words.reasoning, Piece::Reasoning)?;
        }
        add(words.content, Piece::Text)?;
        self.refusal |= add(words.refusal, Piece::Text)?;
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.done || self.stop_reason.is_some()
    }

    fn finish(&mut self) -> Result<Finish, Flaw> {
        if !self.is_over() {
            return Err(Flaw::Cut);
        }
        let stop_reason = match self.stop_reason.take() {
            _ if self.refusal => "refusal".to_owned(),
            Some(stop_reason) => stop_reason,
            None => "stop".to_owned(),
        };
        if stop_reason == "error" {
            let words = "the answer ended by an error that the provider does not name".to_owned();
            return Err(Flaw::Said(Fault { reason: Reason::Unavailable, passing: true, words }));
        }
        // A filter that left some text cut it, as `length` does; one that left none refused.
        if stop_reason == "content_filter" && self.bytes == 0 {
            let words = "the provider's content filter withheld the answer".to_owned();
            return Err(Flaw::Said(Fault { reason: Reason::Refused, passing: false, words }));
        }
        let usage = self.usage.take().unwrap_or_default();
        let input = usage.prompt_tokens_details.unwrap_or_default();
        let output = usage.completion_tokens_details.unwrap_or_default();
        Ok(Finish {
            input_tokens: usage.prompt_tokens.unwrap_or(0),
            output_tokens: usage.completion_tokens.unwrap_or(0),
            cache_read_tokens: input.cached_tokens.or(usage.prompt_cache_hit_tokens).unwrap_or(0),
            cache_write_tokens: input.cache_write_tokens.unwrap_or(0),
            reasoning_tokens: output.reasoning_tokens.unwrap_or(0),
            stop_reason,
            ..Finish::default()
        })
    }
}

fn too_long() -> Flaw {
    Flaw::Bad(format!("the answer is longer than {ANSWER_BYTES_MAX} bytes"))
}

fn bad(err: &serde_json::Error) -> Flaw {
    if err.is_eof() { Flaw::Cut } else { Flaw::Bad(format!("not a chunk of an answer: {err}")) }
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow)]
    choices: Option<Vec<Choice<'a>>>,
    usage: Option<Usage>,
    error: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    index: Option<u64>,
    delta: Option<Words>,
    /// In place of `delta` where a server does not stream.
    message: Option<Words>,
    #[serde(borrow)]
    finish_reason: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Words {
    content: Said,
    reasoning_content: Said,
    reasoning: Said,
    refusal: Said,
}

#[derive(Debug, Default, Deserialize)]
struct Usage {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    prompt_tokens_details: Option<InputDetails>,
    completion_tokens_details: Option<OutputDetails>,
    /// Another spelling of `cached_tokens`.
    prompt_cache_hit_tokens: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
struct InputDetails {
    cached_tokens: Option<u64>,
    cache_write_tokens: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
struct OutputDetails {
    reasoning_tokens: Option<u64>,
}

/// Text as servers send it: a string, nothing, or a list of parts that have a `text`. What has no text
/// is passed over: it is not for this reader.
#[derive(Debug, Default)]
struct Said(Option<String>);

impl<'de> Deserialize<'de> for Said {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SaidVisitor)
    }
}

struct SaidVisitor;

impl<'de> Visitor<'de> for SaidVisitor {
    type Value = Said;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("text, parts with text, or null")
    }

    fn visit_str<E>(self, text: &str) -> Result<Said, E> {
        Ok(Said(Some(text.to_owned())))
    }

    fn visit_string<E>(self, text: String) -> Result<Said, E> {
        Ok(Said(Some(text)))
    }

    fn visit_unit<E>(self) -> Result<Said, E> {
        Ok(Said(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Said, A::Error> {
        let mut text = String::new();
        while let Some(part) = parts.next_element::<Said>()? {
            text.push_str(part.0.as_deref().unwrap_or_default());
        }
        Ok(Said(Some(text)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut part: A) -> Result<Said, A::Error> {
        let mut text = Said(None);
        while let Some(name) = part.next_key::<Cow<'de, str>>()? {
            if name == "text" {
                text = part.next_value()?;
            } else {
                part.next_value::<IgnoredAny>()?;
            }
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests;
