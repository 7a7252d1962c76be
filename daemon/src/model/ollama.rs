//! How does a prompt become a request of Ollama's own chat, and its answer pieces?

use std::collections::VecDeque;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::fault;
use super::parts::Shown;
use super::reader::{Answer, Flaw, Said};
use super::{Finish, Piece, Prompt, PromptMessage, Speaker};

/// The body of a request.
pub(crate) fn request_body(prompt: &Prompt) -> Vec<u8> {
    let system = prompt.system.as_ref().map(|it| json!({"role": "system", "content": it}));
    let messages: Vec<Value> =
        system.into_iter().chain(prompt.messages.iter().map(message)).collect();
    json!({"model": prompt.model, "messages": messages, "stream": true}).to_string().into_bytes()
}

/// Ollama keeps pictures beside the text.
fn message(message: &PromptMessage) -> Value {
    let role = match message.role {
        Speaker::User => "user",
        Speaker::Assistant => "assistant",
    };
    let mut texts = Vec::new();
    let mut images = Vec::new();
    for part in &message.parts {
        match part.shown() {
            Shown::Text(text) => texts.push(text),
            Shown::Image { base64, .. } | Shown::File { base64, .. } => images.push(base64),
        }
    }
    let mut value = json!({"role": role, "content": texts.join("\n\n")});
    if !images.is_empty() {
        value["images"] = json!(images);
    }
    value
}

/// What is known of the answer so far.
#[derive(Debug, Default)]
pub(crate) struct Chat {
    said: Said,
    last: Option<Line>,
}

impl Answer for Chat {
    fn event(&mut self, data: &str, pieces: &mut VecDeque<Piece>) -> Result<(), Flaw> {
        if self.last.is_some() {
            return Ok(());
        }
        let mut line: Line = match serde_json::from_str(data) {
            Ok(line) => line,
            Err(err) => {
                return Err(fault::of_object(data).map_or_else(|| Flaw::of_json(&err), Flaw::Said));
            }
        };
        if line.error.is_some()
            && let Some(fault) = fault::of_object(data)
        {
            return Err(Flaw::Said(fault));
        }
        let words = std::mem::take(&mut line.message);
        self.said.add(words.thinking, Piece::Reasoning, pieces)?;
        self.said.add(words.content, Piece::Text, pieces)?;
        if line.done {
            self.last = Some(line);
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.last.is_some()
    }

    fn is_done(&self) -> bool {
        self.last.is_some()
    }

    fn finish(&mut self) -> Result<Finish, Flaw> {
        let last = self.last.take().ok_or(Flaw::Cut)?;
        Ok(Finish {
            input_tokens: last.prompt_eval_count.unwrap_or(0),
            output_tokens: last.eval_count.unwrap_or(0),
            cache_read_tokens: last.prompt_eval_cached_count.unwrap_or(0),
            stop_reason: last.done_reason.unwrap_or_else(|| "stop".to_owned()),
            ..Finish::default()
        })
    }
}

#[derive(Debug, Deserialize)]
struct Line {
    #[serde(default)]
    message: Words,
    #[serde(default)]
    done: bool,
    done_reason: Option<String>,
    prompt_eval_count: Option<u64>,
    prompt_eval_cached_count: Option<u64>,
    eval_count: Option<u64>,
    error: Option<IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
struct Words {
    content: Option<String>,
    thinking: Option<String>,
}
