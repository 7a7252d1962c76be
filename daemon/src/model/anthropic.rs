//! How does a prompt become a request of Anthropic's messages, and their answer pieces?

use std::collections::VecDeque;

use serde::Deserialize;
use serde_json::{Value, json};

use super::fault;
use super::parts::Shown;
use super::reader::{Answer, Flaw, Said};
use super::{Finish, Part, Piece, Prompt, PromptMessage, Speaker};

/// The version of the protocol, sent with every request.
pub(crate) const VERSION: &str = "2023-06-01";
/// The protocol wants a limit of each answer. These are what the families can do at the least, so that a
/// long answer is not cut by a number that nobody chose.
const OUTPUT_TOKENS: [(&str, u64); 3] =
    [("claude-3-5", 8_192), ("claude-3-7", 64_000), ("claude-3", 4_096)];
const OUTPUT_TOKENS_USUAL: u64 = 32_000;

/// The body of a request.
pub(crate) fn request_body(prompt: &Prompt) -> Vec<u8> {
    let known = OUTPUT_TOKENS.iter().find(|(family, _)| prompt.model.starts_with(family));
    let mut messages: Vec<Value> = prompt.messages.iter().map(message).collect();
    // What is the same in the next turn need not be paid for in full again: all up to here.
    if let Some(last) = messages.last_mut().and_then(|it| it["content"].as_array_mut()?.last_mut())
    {
        last["cache_control"] = json!({"type": "ephemeral"});
    }
    let mut body = json!({
        "model": prompt.model,
        "max_tokens": known.map_or(OUTPUT_TOKENS_USUAL, |(_, tokens)| *tokens),
        "messages": messages,
        "stream": true,
    });
    if let Some(system) = &prompt.system {
        body["system"] = json!(system);
    }
    body.to_string().into_bytes()
}

fn message(message: &PromptMessage) -> Value {
    let role = match message.role {
        Speaker::User => "user",
        Speaker::Assistant => "assistant",
    };
    let source = |media_type: &str, data: String| json!({"type": "base64", "media_type": media_type, "data": data});
    let part = |part: &Part| match part.shown() {
        Shown::Text(text) => json!({"type": "text", "text": text}),
        Shown::Image { media_type, base64 } => {
            json!({"type": "image", "source": source(media_type, base64)})
        }
        Shown::File { name, media_type, base64 } => {
            json!({"type": "document", "title": name, "source": source(media_type, base64)})
        }
    };
    // An empty text is refused.
    let parts = message.parts.iter().filter(|it| it.bytes() > 0).map(part);
    json!({"role": role, "content": parts.collect::<Vec<_>>()})
}

/// What is known of the answer so far.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    said: Said,
    usage: Usage,
    stop_reason: Option<String>,
    done: bool,
}

impl Answer for Messages {
    fn event(&mut self, data: &str, pieces: &mut VecDeque<Piece>) -> Result<(), Flaw> {
        if self.done {
            return Ok(());
        }
        let event: Event = match serde_json::from_str(data) {
            Ok(event) => event,
            Err(err) => {
                return Err(fault::of_object(data).map_or_else(|| Flaw::of_json(&err), Flaw::Said));
            }
        };
        match event.kind.as_str() {
            "message_start" => self.usage.take(event.message.unwrap_or_default().usage),
            "content_block_start" => self.block(event.content_block, pieces)?,
            "content_block_delta" => self.block(event.delta, pieces)?,
            "message_delta" => {
                self.usage.take(event.usage);
                let delta = event.delta.unwrap_or_default();
                if let Some(stop_reason) = delta.stop_reason {
                    self.stop_reason.get_or_insert(stop_reason);
                }
            }
            "message_stop" => self.done = true,
            "error" => {
                let fault = fault::of_object(data);
                let bad = || Flaw::Bad("an error without words".to_owned());
                return Err(fault.map_or_else(bad, Flaw::Said));
            }
            // New kinds of events may come at any time, says the protocol.
            _ => {}
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
        let stop_reason = self.stop_reason.take().unwrap_or_else(|| "end_turn".to_owned());
        if stop_reason == "refusal" && self.said.is_nothing() {
            return Err(Flaw::refused("the model would not answer this".to_owned()));
        }
        let Usage { input_tokens, output_tokens, cache_read, cache_write } = self.usage;
        let (cache_read_tokens, cache_write_tokens) =
            (cache_read.unwrap_or(0), cache_write.unwrap_or(0));
        Ok(Finish {
            // What was read from the cache or written to it is not in the provider's first number.
            input_tokens: input_tokens.unwrap_or(0) + cache_read_tokens + cache_write_tokens,
            output_tokens: output_tokens.unwrap_or(0),
            cache_read_tokens,
            cache_write_tokens,
            stop_reason,
            ..Finish::default()
        })
    }
}

impl Messages {
    fn block(&mut self, block: Option<Block>, pieces: &mut VecDeque<Piece>) -> Result<(), Flaw> {
        let Some(block) = block else { return Ok(()) };
        self.said.add(block.thinking, Piece::Reasoning, pieces)?;
        self.said.add(block.text, Piece::Text, pieces)?;
        Ok(())
    }
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    message: Option<Start>,
    content_block: Option<Block>,
    delta: Option<Block>,
    #[serde(default)]
    usage: Usage,
}

#[derive(Default, Deserialize)]
struct Start {
    #[serde(default)]
    usage: Usage,
}

#[derive(Default, Deserialize)]
struct Block {
    text: Option<String>,
    thinking: Option<String>,
    stop_reason: Option<String>,
}

/// Counted from the start and corrected at the end: the last number of each counts.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
struct Usage {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    #[serde(rename = "cache_read_input_tokens")]
    cache_read: Option<u64>,
    #[serde(rename = "cache_creation_input_tokens")]
    cache_write: Option<u64>,
}

impl Usage {
    fn take(&mut self, newer: Usage) {
        self.input_tokens = newer.input_tokens.or(self.input_tokens);
        self.output_tokens = newer.output_tokens.or(self.output_tokens);
        self.cache_read = newer.cache_read.or(self.cache_read);
        self.cache_write = newer.cache_write.or(self.cache_write);
    }
}
