//! How does a prompt become a request of OpenAI's chat completions, and their answer pieces?
//!
//! Pure: bytes in, pieces out. Lenient where servers differ (no `[DONE]`, no usage, an answer in one
//! JSON object, reasoning under either name), strict where the text itself is at stake.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::fault::{self, Fault};
use super::parts::{Shown, data_url};
use super::reader::{Answer, Flaw, Said as Counted};
use super::{Finish, Part, Piece, Prompt, PromptMessage, Reason, Speaker};

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
        content: Content<'a>,
    }
    let system = prompt.system.as_deref();
    let system = system.map(|it| Message { role: "system", content: Content::Text(it) });
    let said = prompt.messages.iter().map(|it| {
        let role = match it.role {
            Speaker::User => "user",
            Speaker::Assistant => "assistant",
        };
        Message { role, content: content(it) }
    });
    let body = Body {
        model: &prompt.model,
        messages: system.into_iter().chain(said).collect(),
        stream: true,
        stream_options: Options { include_usage: true },
    };
    serde_json::to_vec(&body).expect("strings and booleans are always JSON")
}

/// What a message holds: a string wherever it can be one, as not every server takes parts.
#[derive(Serialize)]
#[serde(untagged)]
enum Content<'a> {
    Text(&'a str),
    Parts(Vec<Value>),
}

fn content(message: &PromptMessage) -> Content<'_> {
    if let [Part::Text(text)] = &message.parts[..] {
        return Content::Text(text);
    }
    let part = |part: &Part| match part.shown() {
        Shown::Text(text) => json!({"type": "text", "text": text}),
        Shown::Image { media_type, base64 } => {
            json!({"type": "image_url", "image_url": {"url": data_url(media_type, &base64)}})
        }
        Shown::File { name, media_type, base64 } => json!({
            "type": "file",
            "file": {"filename": name, "file_data": data_url(media_type, &base64)},
        }),
    };
    Content::Parts(message.parts.iter().map(part).collect())
}

/// What is known of the answer so far.
#[derive(Debug, Default)]
pub(crate) struct Completion {
    said: Counted,
    done: bool,
    refusal: bool,
    stop_reason: Option<String>,
    usage: Option<Usage>,
}

impl Answer for Completion {
    fn event(&mut self, data: &str, pieces: &mut VecDeque<Piece>) -> Result<(), Flaw> {
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
            Err(err) => {
                return Err(fault::of_object(data).map_or_else(|| Flaw::of_json(&err), Flaw::Said));
            }
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

    fn is_over(&self) -> bool {
        self.done || self.stop_reason.is_some()
    }

    fn is_done(&self) -> bool {
        self.done
    }

    fn finish(&mut self) -> Result<Finish, Flaw> {
        let stop_reason = match self.stop_reason.take() {
            _ if self.refusal => "refusal".to_owned(),
            Some(stop_reason) => stop_reason,
            None => "stop".to_owned(),
        };
        if stop_reason == "error" {
            let words = "the answer ended by an error that the provider does not name".to_owned();
            return Err(Flaw::Said(Fault {
                reason: Reason::Unavailable,
                passing: true,
                words,
                wanted_ms: None,
            }));
        }
        // A filter that left some text cut it, as `length` does; one that left none refused.
        if stop_reason == "content_filter" && self.said.is_nothing() {
            let words = "the provider's content filter withheld the answer";
            return Err(Flaw::refused(words.to_owned()));
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

impl Completion {
    fn words(&mut self, words: Words, pieces: &mut VecDeque<Piece>) -> Result<(), Flaw> {
        let mut add = |said: Said, piece| self.said.add(said.0, piece, pieces);
        // Some servers send the same reasoning under both names.
        if !add(words.reasoning_content, Piece::Reasoning)? {
            add(words.reasoning, Piece::Reasoning)?;
        }
        add(words.content, Piece::Text)?;
        self.refusal |= add(words.refusal, Piece::Text)?;
        Ok(())
    }
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
