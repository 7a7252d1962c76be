//! What does each part of an answer look like in Ollama's words?

use serde_json::{Value, json};

use super::dialect::{Counts, End, Whole, Words};
use super::log::Part;

/// When every line says it was made: nobody reads it.
const CREATED: &str = "2026-01-01T00:00:00.000000Z";

/// Writes the lines of one answer.
pub(super) struct Lines {
    model: String,
}

impl Lines {
    pub(super) fn new(model: &str) -> Lines {
        Lines { model: model.to_owned() }
    }

    fn line(&self, message: Value, end: Option<&End>) -> Value {
        let mut line = json!({
            "model": self.model, "created_at": CREATED, "message": message, "done": end.is_some(),
        });
        if let Some(end) = end {
            let counts = Counts::of(&end.usage);
            line["done_reason"] = json!(end.finish);
            line["total_duration"] = json!(1_000_000);
            line["load_duration"] = json!(1_000);
            line["prompt_eval_count"] = json!(counts.input);
            line["prompt_eval_duration"] = json!(1_000);
            line["eval_count"] = json!(counts.output);
            line["eval_duration"] = json!(1_000);
        }
        line
    }
}

impl Words for Lines {
    fn content_type(&self) -> &'static str {
        "application/x-ndjson"
    }

    fn piece(&mut self, body: &mut Vec<u8>, part: Part, _field: &str, text: &str) {
        let message = match part {
            Part::Text => json!({"role": "assistant", "content": text}),
            Part::Reasoning => json!({"role": "assistant", "content": "", "thinking": text}),
        };
        write(body, &self.line(message, None));
    }

    fn end(&mut self, body: &mut Vec<u8>, end: &End) {
        if end.finish.is_some() {
            write(body, &self.line(json!({"role": "assistant", "content": ""}), Some(end)));
        }
    }

    /// An error is a text here.
    fn error(&mut self, body: &mut Vec<u8>, error: &Value) {
        write(body, &json!({"error": error["message"].as_str().unwrap_or("scripted")}));
    }

    fn whole(&self, whole: &Whole<'_>) -> Value {
        let mut message = json!({"role": "assistant", "content": whole.text});
        if !whole.reasoning.is_empty() {
            message["thinking"] = json!(whole.reasoning);
        }
        self.line(message, Some(&whole.end))
    }
}

fn write(body: &mut Vec<u8>, line: &Value) {
    body.extend_from_slice(format!("{line}\n").as_bytes());
}
