//! What does each part of an answer look like in Anthropic's words?

use serde_json::{Value, json};

use super::dialect::{Counts, End, Whole, Words, named_event};
use super::log::Part;

/// Writes the events of one answer.
pub(super) struct Message {
    id: String,
    model: String,
    /// The block that is open, and how many were before it.
    open: Option<Part>,
    index: u64,
}

impl Message {
    pub(super) fn new(number: u64, model: &str) -> Message {
        Message { id: format!("msg_{number}"), model: model.to_owned(), open: None, index: 0 }
    }

    fn message(&self, content: Value, stop_reason: Value, usage: Value) -> Value {
        json!({
            "id": self.id, "type": "message", "role": "assistant", "model": self.model,
            "content": content, "stop_reason": stop_reason, "stop_sequence": null, "usage": usage,
        })
    }

    fn close(&mut self, body: &mut Vec<u8>) {
        if self.open.take().is_some() {
            named_event(body, &json!({"type": "content_block_stop", "index": self.index}));
            self.index += 1;
        }
    }
}

impl Words for Message {
    fn start(&mut self, body: &mut Vec<u8>) {
        let usage = json!({"input_tokens": 1, "output_tokens": 1});
        let message = self.message(json!([]), Value::Null, usage);
        named_event(body, &json!({"type": "message_start", "message": message}));
        named_event(body, &json!({"type": "ping"}));
    }

    fn piece(&mut self, body: &mut Vec<u8>, part: Part, _field: &str, text: &str) {
        if self.open != Some(part) {
            self.close(body);
            self.open = Some(part);
            let block = match part {
                Part::Text => json!({"type": "text", "text": ""}),
                Part::Reasoning => json!({"type": "thinking", "thinking": "", "signature": ""}),
            };
            let start =
                json!({"type": "content_block_start", "index": self.index, "content_block": block});
            named_event(body, &start);
        }
        let delta = match part {
            Part::Text => json!({"type": "text_delta", "text": text}),
            Part::Reasoning => json!({"type": "thinking_delta", "thinking": text}),
        };
        named_event(
            body,
            &json!({"type": "content_block_delta", "index": self.index, "delta": delta}),
        );
    }

    fn end(&mut self, body: &mut Vec<u8>, end: &End) {
        if let Some(finish) = &end.finish {
            self.close(body);
            let delta = json!({"stop_reason": word(finish), "stop_sequence": null});
            let usage = usage(&end.usage);
            named_event(body, &json!({"type": "message_delta", "delta": delta, "usage": usage}));
        }
        if end.done {
            named_event(body, &json!({"type": "message_stop"}));
        }
    }

    fn error(&mut self, body: &mut Vec<u8>, error: &Value) {
        named_event(body, &json!({"type": "error", "error": error}));
    }

    fn whole(&self, whole: &Whole<'_>) -> Value {
        let mut content = Vec::new();
        if !whole.reasoning.is_empty() {
            content.push(json!({"type": "thinking", "thinking": whole.reasoning, "signature": ""}));
        }
        content.push(json!({"type": "text", "text": whole.text}));
        let stop = whole.end.finish.as_deref().map(word);
        self.message(json!(content), json!(stop), usage(&whole.end.usage))
    }
}

fn word(finish: &str) -> &str {
    match finish {
        "stop" => "end_turn",
        "length" => "max_tokens",
        other => other,
    }
}

fn usage(usage: &Value) -> Value {
    let counts = Counts::of(usage);
    json!({
        "input_tokens": counts.input.saturating_sub(counts.cache_read + counts.cache_write),
        "output_tokens": counts.output,
        "cache_read_input_tokens": counts.cache_read,
        "cache_creation_input_tokens": counts.cache_write,
    })
}
