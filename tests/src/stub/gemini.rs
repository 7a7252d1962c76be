//! What does each part of an answer look like in Gemini's words?

use serde_json::{Value, json};

use super::dialect::{Counts, End, Whole, Words};
use super::log::Part;

/// Writes the chunks of one answer.
pub(super) struct Content {
    id: String,
    model: String,
}

impl Content {
    pub(super) fn new(number: u64, model: &str) -> Content {
        Content { id: format!("resp-{number}"), model: model.to_owned() }
    }

    fn chunk(&self, candidate: Value, usage: Option<Value>) -> Value {
        let mut chunk =
            json!({"candidates": [candidate], "modelVersion": self.model, "responseId": self.id});
        if let Some(usage) = usage {
            chunk["usageMetadata"] = usage;
        }
        chunk
    }
}

impl Words for Content {
    fn piece(&mut self, body: &mut Vec<u8>, part: Part, _field: &str, text: &str) {
        let content = json!({"parts": [said(part, text)], "role": "model"});
        event(body, &self.chunk(json!({"content": content, "index": 0}), None));
    }

    fn end(&mut self, body: &mut Vec<u8>, end: &End) {
        if let Some(finish) = &end.finish {
            let candidate = json!({
                "content": {"parts": [{"text": ""}], "role": "model"},
                "finishReason": word(finish), "index": 0,
            });
            event(body, &self.chunk(candidate, Some(usage(&end.usage))));
        }
    }

    fn error(&mut self, body: &mut Vec<u8>, error: &Value) {
        event(body, &json!({ "error": error }));
    }

    fn whole(&self, whole: &Whole<'_>) -> Value {
        let mut parts = Vec::new();
        if !whole.reasoning.is_empty() {
            parts.push(said(Part::Reasoning, whole.reasoning));
        }
        parts.push(said(Part::Text, whole.text));
        let candidate = json!({
            "content": {"parts": parts, "role": "model"},
            "finishReason": whole.end.finish.as_deref().map(word), "index": 0,
        });
        self.chunk(candidate, Some(usage(&whole.end.usage)))
    }
}

fn said(part: Part, text: &str) -> Value {
    match part {
        Part::Text => json!({"text": text}),
        Part::Reasoning => json!({"text": text, "thought": true}),
    }
}

fn event(body: &mut Vec<u8>, data: &Value) {
    // The real server ends its lines so.
    body.extend_from_slice(format!("data: {data}\r\n\r\n").as_bytes());
}

fn word(finish: &str) -> &str {
    match finish {
        "stop" => "STOP",
        "length" => "MAX_TOKENS",
        other => other,
    }
}

fn usage(usage: &Value) -> Value {
    let counts = Counts::of(usage);
    json!({
        "promptTokenCount": counts.input,
        "candidatesTokenCount": counts.output.saturating_sub(counts.reasoning),
        "thoughtsTokenCount": counts.reasoning,
        "cachedContentTokenCount": counts.cache_read,
        "totalTokenCount": counts.input + counts.output,
    })
}
