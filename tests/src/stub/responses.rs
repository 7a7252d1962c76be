//! What does each part of an answer look like in the words of OpenAI's responses?

use serde_json::{Value, json};

use super::dialect::{Counts, End, Whole, Words, named_event};
use super::log::Part;

/// Writes the events of one answer.
pub(super) struct Response {
    id: String,
    model: String,
    sequence: u64,
    /// The item that is open, what it says so far, and the items before it.
    open: Option<(Part, String)>,
    items: Vec<Value>,
}

impl Response {
    pub(super) fn new(number: u64, model: &str) -> Response {
        let (id, model) = (format!("resp_{number}"), model.to_owned());
        Response { id, model, sequence: 0, open: None, items: Vec::new() }
    }

    fn event(&mut self, body: &mut Vec<u8>, mut data: Value) {
        data["sequence_number"] = json!(self.sequence);
        self.sequence += 1;
        named_event(body, &data);
    }

    fn response(&self, status: &str, output: &[Value], end: Option<&End>) -> Value {
        let reason = end.and_then(|it| it.finish.as_deref()).and_then(incomplete);
        json!({
            "id": self.id, "object": "response", "created_at": 1_767_225_600, "status": status,
            "error": null, "incomplete_details": reason.map(|it| json!({"reason": it})),
            "instructions": null, "metadata": {}, "model": self.model, "output": output,
            "parallel_tool_calls": true, "temperature": 1.0, "tool_choice": "auto", "tools": [],
            "top_p": 1.0, "usage": end.map(|it| usage(&it.usage)),
        })
    }

    fn close(&mut self, body: &mut Vec<u8>) {
        let Some((part, text)) = self.open.take() else { return };
        let index = self.items.len();
        let id = item_id(part, index);
        let item = item(part, &id, &text, "completed");
        match part {
            Part::Text => {
                let part = item["content"][0].clone();
                self.event(
                    body,
                    json!({"type": "response.output_text.done", "item_id": id,
                    "output_index": index, "content_index": 0, "text": text, "logprobs": []}),
                );
                self.event(
                    body,
                    json!({"type": "response.content_part.done", "item_id": id,
                    "output_index": index, "content_index": 0, "part": part}),
                );
            }
            Part::Reasoning => {
                let part = item["summary"][0].clone();
                self.event(
                    body,
                    json!({"type": "response.reasoning_summary_text.done",
                    "item_id": id, "output_index": index, "summary_index": 0, "text": text}),
                );
                self.event(
                    body,
                    json!({"type": "response.reasoning_summary_part.done",
                    "item_id": id, "output_index": index, "summary_index": 0, "part": part}),
                );
            }
        }
        self.event(
            body,
            json!({"type": "response.output_item.done", "output_index": index, "item": item}),
        );
        self.items.push(item);
    }

    fn open(&mut self, body: &mut Vec<u8>, part: Part) {
        self.open = Some((part, String::new()));
        let index = self.items.len();
        let id = item_id(part, index);
        let (empty, name, place) = match part {
            Part::Text => (
                json!({"type": "output_text", "text": "", "annotations": []}),
                "response.content_part.added",
                "content_index",
            ),
            Part::Reasoning => (
                json!({"type": "summary_text", "text": ""}),
                "response.reasoning_summary_part.added",
                "summary_index",
            ),
        };
        let mut item = item(part, &id, "", "in_progress");
        item[if part == Part::Text { "content" } else { "summary" }] = json!([]);
        self.event(
            body,
            json!({"type": "response.output_item.added", "output_index": index, "item": item}),
        );
        let mut added = json!({"type": name, "item_id": id, "output_index": index, "part": empty});
        added[place] = json!(0);
        self.event(body, added);
    }
}

impl Words for Response {
    fn start(&mut self, body: &mut Vec<u8>) {
        let response = self.response("in_progress", &[], None);
        self.event(body, json!({"type": "response.created", "response": response}));
        self.event(body, json!({"type": "response.in_progress", "response": response}));
    }

    fn piece(&mut self, body: &mut Vec<u8>, part: Part, _field: &str, text: &str) {
        if self.open.as_ref().is_none_or(|(open, _)| *open != part) {
            self.close(body);
            self.open(body, part);
        }
        if let Some((_, whole)) = &mut self.open {
            whole.push_str(text);
        }
        let index = self.items.len();
        let (name, place) = match part {
            Part::Text => ("response.output_text.delta", "content_index"),
            Part::Reasoning => ("response.reasoning_summary_text.delta", "summary_index"),
        };
        let mut delta = json!({
            "type": name, "item_id": item_id(part, index), "output_index": index, "delta": text,
        });
        delta[place] = json!(0);
        if part == Part::Text {
            delta["logprobs"] = json!([]);
        }
        self.event(body, delta);
    }

    fn end(&mut self, body: &mut Vec<u8>, end: &End) {
        let Some(finish) = &end.finish else { return };
        self.close(body);
        let status = if incomplete(finish).is_some() { "incomplete" } else { "completed" };
        let response = self.response(status, &self.items, Some(end));
        self.event(body, json!({"type": format!("response.{status}"), "response": response}));
    }

    fn error(&mut self, body: &mut Vec<u8>, error: &Value) {
        let code = error.get("code").or(error.get("type"));
        let data = json!({
            "type": "error", "code": code, "message": error["message"], "param": null,
        });
        self.event(body, data);
    }

    fn whole(&self, whole: &Whole<'_>) -> Value {
        let mut items = Vec::new();
        if !whole.reasoning.is_empty() {
            items.push(item(Part::Reasoning, "rs_0", whole.reasoning, "completed"));
        }
        items.push(item(Part::Text, "msg_1", whole.text, "completed"));
        let status = whole.end.finish.as_deref().and_then(incomplete);
        let status = if status.is_some() { "incomplete" } else { "completed" };
        self.response(status, &items, Some(&whole.end))
    }
}

fn item_id(part: Part, index: usize) -> String {
    match part {
        Part::Text => format!("msg_{index}"),
        Part::Reasoning => format!("rs_{index}"),
    }
}

fn item(part: Part, id: &str, text: &str, status: &str) -> Value {
    match part {
        Part::Text => json!({
            "type": "message", "id": id, "role": "assistant", "status": status,
            "content": [{"type": "output_text", "text": text, "annotations": []}],
        }),
        Part::Reasoning => json!({
            "type": "reasoning", "id": id, "summary": [{"type": "summary_text", "text": text}],
        }),
    }
}

/// Why an answer stopped before its end, in this protocol's word.
fn incomplete(finish: &str) -> Option<&str> {
    match finish {
        "stop" => None,
        "length" => Some("max_output_tokens"),
        other => Some(other),
    }
}

fn usage(usage: &Value) -> Value {
    let counts = Counts::of(usage);
    json!({
        "input_tokens": counts.input,
        "input_tokens_details": {
            "cached_tokens": counts.cache_read, "cache_write_tokens": counts.cache_write,
        },
        "output_tokens": counts.output,
        "output_tokens_details": {"reasoning_tokens": counts.reasoning},
        "total_tokens": counts.input + counts.output,
    })
}
