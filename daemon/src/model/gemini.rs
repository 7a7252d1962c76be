//! How does a prompt become a request of Google's `generateContent`, and its answer pieces?

use std::collections::VecDeque;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::fault;
use super::parts::Shown;
use super::reader::{Answer, Flaw, Said};
use super::{Finish, Part, Piece, Prompt, PromptMessage, Speaker};

/// Ends by which the provider, and not the model, kept an answer back.
const WITHHELD: [&str; 6] =
    ["SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY"];

/// The body of a request.
pub(crate) fn request_body(prompt: &Prompt) -> Vec<u8> {
    let contents: Vec<Value> = prompt.messages.iter().map(content).collect();
    let mut body = json!({"contents": contents});
    if let Some(system) = &prompt.system {
        body["systemInstruction"] = json!({"parts": [{"text": system}]});
    }
    if thinks(&prompt.model) {
        body["generationConfig"] = json!({"thinkingConfig": {"includeThoughts": true}});
    }
    body.to_string().into_bytes()
}

/// Whether thoughts can be asked for: models without them refuse the question.
fn thinks(model: &str) -> bool {
    let is = |part| model.contains(part);
    let family = model.rsplit('/').next().and_then(|it| it.strip_prefix("gemini-"));
    let able = family.is_some_and(|it| it.starts_with("2.5") || it.starts_with(['3', '4']));
    able && !["image", "tts", "audio", "live"].into_iter().any(is)
}

fn content(message: &PromptMessage) -> Value {
    let role = match message.role {
        Speaker::User => "user",
        Speaker::Assistant => "model",
    };
    let part = |part: &Part| match part.shown() {
        Shown::Text(text) => json!({"text": text}),
        Shown::Image { media_type, base64 } | Shown::File { media_type, base64, .. } => {
            json!({"inlineData": {"mimeType": media_type, "data": base64}})
        }
    };
    json!({"role": role, "parts": message.parts.iter().map(part).collect::<Vec<_>>()})
}

/// What is known of the answer so far.
#[derive(Debug, Default)]
pub(crate) struct Content {
    said: Said,
    usage: Option<Usage>,
    stop_reason: Option<String>,
}

impl Answer for Content {
    fn event(&mut self, data: &str, pieces: &mut VecDeque<Piece>) -> Result<(), Flaw> {
        let chunk: Chunk = match serde_json::from_str(data) {
            Ok(chunk) => chunk,
            Err(err) => {
                return Err(fault::of_object(data).map_or_else(|| Flaw::of_json(&err), Flaw::Said));
            }
        };
        if (chunk.error.is_some() || chunk.candidates.is_none())
            && let Some(fault) = fault::of_object(data)
        {
            return Err(Flaw::Said(fault));
        }
        self.usage = chunk.usage.or(self.usage.take());
        if let Some(reason) = chunk.feedback.and_then(|it| it.block_reason) {
            return Err(Flaw::refused(format!("the prompt was blocked: {reason}")));
        }
        let candidates = chunk.candidates.into_iter().flatten();
        for candidate in candidates.filter(|it| it.index.unwrap_or(0) == 0) {
            for part in candidate.content.and_then(|it| it.parts).into_iter().flatten() {
                let piece = if part.thought { Piece::Reasoning } else { Piece::Text };
                self.said.add(part.text, piece, pieces)?;
            }
            self.stop_reason = candidate.finish_reason.or(self.stop_reason.take());
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.stop_reason.is_some()
    }

    /// There is no word for the end: after a stop reason the connection says it.
    fn is_done(&self) -> bool {
        false
    }

    fn finish(&mut self) -> Result<Finish, Flaw> {
        let stop_reason = self.stop_reason.take().unwrap_or_default();
        if WITHHELD.contains(&stop_reason.as_str()) && self.said.is_nothing() {
            return Err(Flaw::refused(format!("the provider withheld the answer: {stop_reason}")));
        }
        let usage = self.usage.take().unwrap_or_default();
        Ok(Finish {
            input_tokens: usage.prompt + usage.tools,
            // The provider counts thoughts apart.
            output_tokens: usage.candidates + usage.thoughts,
            cache_read_tokens: usage.cached,
            reasoning_tokens: usage.thoughts,
            stop_reason,
            ..Finish::default()
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Chunk {
    candidates: Option<Vec<Candidate>>,
    #[serde(rename = "usageMetadata")]
    usage: Option<Usage>,
    #[serde(rename = "promptFeedback")]
    feedback: Option<Feedback>,
    error: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Feedback {
    block_reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Candidate {
    index: Option<u64>,
    content: Option<Parts>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Parts {
    parts: Option<Vec<TextPart>>,
}

#[derive(Deserialize)]
struct TextPart {
    text: Option<String>,
    #[serde(default)]
    thought: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Usage {
    #[serde(rename = "promptTokenCount")]
    prompt: u64,
    #[serde(rename = "toolUsePromptTokenCount")]
    tools: u64,
    #[serde(rename = "candidatesTokenCount")]
    candidates: u64,
    #[serde(rename = "thoughtsTokenCount")]
    thoughts: u64,
    #[serde(rename = "cachedContentTokenCount")]
    cached: u64,
}
