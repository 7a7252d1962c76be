//! What does each part of an answer look like in OpenAI's words?

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::dialect::{End, Whole, Words};
use super::log::Part;

/// Writes the chunks of one answer.
pub(super) struct Chunks {
    /// What every chunk starts with.
    start: String,
    /// What every chunk ends with.
    end: &'static str,
    id: String,
    model: String,
    created: u64,
    include_usage: bool,
}

impl Chunks {
    pub(super) fn new(request: u64, model: &str, include_usage: bool) -> Chunks {
        let id = format!("chatcmpl-{request}");
        let created = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let start = format!(
            r#"data: {{"id":"{id}","object":"chat.completion.chunk","created":{created},"model":{},"#,
            Value::from(model)
        );
        // As OpenAI does: who asks for the usage gets the member in every chunk.
        let end = if include_usage { ",\"usage\":null}\n\n" } else { "}\n\n" };
        Chunks { start, end, id, model: model.to_owned(), created, include_usage }
    }

    fn choice(&self, body: &mut Vec<u8>, delta: &[u8], finish: &[u8]) {
        body.extend_from_slice(self.start.as_bytes());
        body.extend_from_slice(br#""choices":[{"index":0,"delta":"#);
        body.extend_from_slice(delta);
        body.extend_from_slice(br#","finish_reason":"#);
        body.extend_from_slice(finish);
        body.extend_from_slice(b"}]");
        body.extend_from_slice(self.end.as_bytes());
    }
}

impl Words for Chunks {
    fn start(&mut self, body: &mut Vec<u8>) {
        self.choice(body, br#"{"role":"assistant","content":""}"#, b"null");
    }

    fn piece(&mut self, body: &mut Vec<u8>, _part: Part, field: &str, text: &str) {
        body.extend_from_slice(self.start.as_bytes());
        body.extend_from_slice(br#""choices":[{"index":0,"delta":{""#);
        body.extend_from_slice(field.as_bytes());
        body.extend_from_slice(br#"":"#);
        serde_json::to_writer(&mut *body, text).expect("a string is JSON");
        body.extend_from_slice(br#"},"finish_reason":null}]"#);
        body.extend_from_slice(self.end.as_bytes());
    }

    fn end(&mut self, body: &mut Vec<u8>, end: &End) {
        if let Some(finish) = &end.finish {
            self.choice(body, b"{}", Value::from(finish.as_str()).to_string().as_bytes());
            if self.include_usage {
                let usage = &end.usage;
                body.extend_from_slice(self.start.as_bytes());
                body.extend_from_slice(
                    format!("\"choices\":[],\"usage\":{usage}}}\n\n").as_bytes(),
                );
            }
        }
        if end.done {
            body.extend_from_slice(b"data: [DONE]\n\n");
        }
    }

    fn error(&mut self, body: &mut Vec<u8>, error: &Value) {
        body.extend_from_slice(format!("data: {}\n\n", json!({ "error": error })).as_bytes());
    }

    fn whole(&self, whole: &Whole<'_>) -> Value {
        let mut message = json!({"role": "assistant", "content": whole.text});
        if !whole.reasoning.is_empty() {
            message["reasoning_content"] = Value::from(whole.reasoning);
        }
        json!({
            "id": self.id,
            "object": "chat.completion",
            "created": self.created,
            "model": self.model,
            "choices": [{"index": 0, "message": message, "finish_reason": whole.end.finish}],
            "usage": whole.end.usage,
        })
    }
}

/// The body of a refusal of the stub itself.
pub(super) fn error_body(message: &str) -> Value {
    json!({"error": {"message": message, "type": "invalid_request_error", "param": null, "code": null}})
}

/// The usage of an answer that scripts none: words asked, pieces said.
pub(super) fn usage(messages: &Value, pieces: u64) -> Value {
    let texts = messages.as_array().into_iter().flatten().map(text_of);
    let prompt: u64 = texts.map(|text| text.split_whitespace().count() as u64).sum();
    json!({"prompt_tokens": prompt, "completion_tokens": pieces, "total_tokens": prompt + pieces})
}

/// The text of the last user message.
pub(super) fn last_user_text(messages: &Value) -> String {
    if let Value::String(text) = messages {
        return text.clone();
    }
    let messages = messages.as_array().map(Vec::as_slice).unwrap_or_default();
    // Who leaves the role out, as one protocol allows, is the user.
    let last = messages.iter().rev().find(|it| it["role"] == "user" || it["role"].is_null());
    last.map(text_of).unwrap_or_default()
}

/// A message's text, whether its content is a string or a list of parts, under either name.
fn text_of(message: &Value) -> String {
    match (&message["content"], &message["parts"]) {
        (Value::String(text), _) => text.clone(),
        (Value::Array(parts), _) | (_, Value::Array(parts)) => {
            parts.iter().filter_map(|it| it["text"].as_str()).collect()
        }
        _ => String::new(),
    }
}
