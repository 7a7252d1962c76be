//! How does a prompt become a request of OpenAI's responses, and their answer pieces?

use std::collections::VecDeque;

use serde::Deserialize;
use serde_json::{Value, json};

use super::fault;
use super::parts::{Shown, data_url};
use super::reader::{Answer, Flaw, Said};
use super::{Finish, Part, Piece, Prompt, PromptMessage, Speaker};

/// What stands between two parts of a summary of reasoning.
const BETWEEN_SUMMARIES: &str = "\n\n";

/// The body of a request. Nothing is kept at the provider: the daemon holds the conversation.
pub(crate) fn request_body(prompt: &Prompt) -> Vec<u8> {
    let input: Vec<Value> = prompt.messages.iter().map(message).collect();
    let mut body = json!({"model": prompt.model, "input": input, "stream": true, "store": false});
    if let Some(system) = &prompt.system {
        body["instructions"] = json!(system);
    }
    body.to_string().into_bytes()
}

fn message(message: &PromptMessage) -> Value {
    let (role, text_type) = match message.role {
        Speaker::User => ("user", "input_text"),
        Speaker::Assistant => ("assistant", "output_text"),
    };
    let part = |part: &Part| match part.shown() {
        Shown::Text(text) => json!({"type": text_type, "text": text}),
        Shown::Image { media_type, base64 } => {
            json!({"type": "input_image", "image_url": data_url(media_type, &base64)})
        }
        Shown::File { name, media_type, base64 } => json!({
            "type": "input_file", "filename": name, "file_data": data_url(media_type, &base64),
        }),
    };
    json!({"role": role, "content": message.parts.iter().map(part).collect::<Vec<_>>()})
}

/// What is known of the answer so far.
#[derive(Debug, Default)]
pub(crate) struct Response {
    said: Said,
    refusal: bool,
    reasoned: bool,
    end: Option<End>,
}

impl Answer for Response {
    fn event(&mut self, data: &str, pieces: &mut VecDeque<Piece>) -> Result<(), Flaw> {
        if self.end.is_some() || data.trim() == "[DONE]" {
            return Ok(());
        }
        let event: Event = match serde_json::from_str(data) {
            Ok(event) => event,
            Err(err) => {
                return Err(fault::of_object(data).map_or_else(|| Flaw::of_json(&err), Flaw::Said));
            }
        };
        match event.kind.as_str() {
            "response.output_text.delta" => {
                self.said.add(event.delta, Piece::Text, pieces)?;
            }
            "response.refusal.delta" => {
                self.refusal |= self.said.add(event.delta, Piece::Text, pieces)?;
            }
            "response.reasoning_summary_part.added" if self.reasoned => {
                self.said.add(Some(BETWEEN_SUMMARIES.to_owned()), Piece::Reasoning, pieces)?;
            }
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => {
                self.reasoned |= self.said.add(event.delta, Piece::Reasoning, pieces)?;
            }
            "response.completed" | "response.incomplete" => {
                self.end = Some(event.response.unwrap_or_default());
            }
            "response.failed" | "error" => return Err(failed(data, event.response)),
            _ => {}
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.end.is_some()
    }

    fn is_done(&self) -> bool {
        self.end.is_some()
    }

    fn finish(&mut self) -> Result<Finish, Flaw> {
        let end = self.end.take().ok_or(Flaw::Cut)?;
        let stop_reason = match end.incomplete_details.and_then(|it| it.reason) {
            Some(reason) => reason,
            None if self.refusal => "refusal".to_owned(),
            None => end.status.unwrap_or_else(|| "completed".to_owned()),
        };
        if stop_reason == "content_filter" && self.said.is_nothing() {
            let words = "the provider's content filter withheld the answer";
            return Err(Flaw::refused(words.to_owned()));
        }
        let usage = end.usage.unwrap_or_default();
        let input = usage.input_tokens_details.unwrap_or_default();
        Ok(Finish {
            input_tokens: usage.input_tokens.unwrap_or(0),
            output_tokens: usage.output_tokens.unwrap_or(0),
            cache_read_tokens: input.cached_tokens.unwrap_or(0),
            cache_write_tokens: input.cache_write_tokens.unwrap_or(0),
            reasoning_tokens: usage
                .output_tokens_details
                .and_then(|it| it.reasoning_tokens)
                .unwrap_or(0),
            stop_reason,
            ..Finish::default()
        })
    }
}

/// The error lies in the event itself, or in the response that failed.
fn failed(data: &str, response: Option<End>) -> Flaw {
    let inner = response.and_then(|it| it.error).map(|it| json!({"error": it}).to_string());
    let fault = fault::of_object(inner.as_deref().unwrap_or(data));
    fault.map_or_else(|| Flaw::Bad("an error without words".to_owned()), Flaw::Said)
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    delta: Option<String>,
    response: Option<End>,
}

#[derive(Debug, Default, Deserialize)]
struct End {
    status: Option<String>,
    error: Option<Value>,
    incomplete_details: Option<Incomplete>,
    usage: Option<Usage>,
}

#[derive(Debug, Deserialize)]
struct Incomplete {
    reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Usage {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    input_tokens_details: Option<InputDetails>,
    output_tokens_details: Option<OutputDetails>,
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
