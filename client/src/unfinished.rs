//! The text that is being written at this moment: how do pieces become a whole, and when is one missing?

use std::collections::BTreeMap;

use serde_json::Value;
use sess_protocol::event::Event;
use sess_protocol::id::{CallId, MessageId, TaskId};
use sess_protocol::live::{Delta, DeltaKind, Live, LiveBlockType};

/// Bytes of unfinished text that are kept of one session.
pub const TEXT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes at the end of a running tool's output that are kept.
pub const TOOL_TEXT_BYTES_MAX: usize = 64 * 1024;
/// Blocks and tool calls that are kept, each.
const PARTS_MAX: usize = 4096;

/// A piece does not begin where the text held ends: something between is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a piece of the answer is missing")]
pub struct Gap;

/// One block of the unfinished message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// What it will be.
    pub kind: LiveBlockType,
    /// Of a tool's call: which one.
    pub id: Option<CallId>,
    /// Of a tool's call: the tool.
    pub name: Option<String>,
    /// The text so far.
    pub text: String,
}

/// The output of a running tool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ToolText {
    /// Where `text` begins in the output, in bytes.
    pub offset: u64,
    /// The end of the output.
    pub text: String,
}

/// All that is unfinished in a session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unfinished {
    task: Option<TaskId>,
    message: Option<MessageId>,
    blocks: BTreeMap<u64, Block>,
    tools: BTreeMap<CallId, ToolText>,
    bytes: usize,
}

impl Unfinished {
    /// The task that writes.
    #[must_use]
    pub fn task(&self) -> Option<TaskId> {
        self.task
    }

    /// The id that the message will have.
    #[must_use]
    pub fn message(&self) -> Option<MessageId> {
        self.message
    }

    /// The message's blocks by their place.
    pub fn blocks(&self) -> impl Iterator<Item = (u64, &Block)> {
        self.blocks.iter().map(|(index, block)| (*index, block))
    }

    /// The running tools' output.
    pub fn tools(&self) -> impl Iterator<Item = (CallId, &ToolText)> {
        self.tools.iter().map(|(call, text)| (*call, text))
    }

    /// Takes a `live` in the place of all that was held.
    pub fn replace(&mut self, live: Live) {
        *self = Self { task: Some(live.task), message: live.message, ..Self::default() };
        for block in live.blocks.into_iter().take(PARTS_MAX) {
            self.bytes += block.text.len();
            let kept = Block { kind: block.kind, id: block.id, name: block.name, text: block.text };
            self.blocks.insert(block.index, kept);
        }
        for tool in live.tools.into_iter().take(PARTS_MAX) {
            let mut text = ToolText { offset: tool.offset, text: tool.text };
            text.cut();
            self.tools.insert(tool.tool_call, text);
        }
    }

    /// Takes a piece, and answers what of it is new.
    ///
    /// # Errors
    /// When text before it is missing: the session is to be followed again.
    pub fn add(&mut self, delta: Delta) -> Result<Option<Delta>, Gap> {
        if self.task != Some(delta.task) {
            *self = Self { task: Some(delta.task), ..Self::default() };
        }
        if delta.kind == DeltaKind::ToolOutput {
            return self.add_output(delta);
        }
        if self.message != delta.message {
            self.message = delta.message;
            self.blocks.clear();
            self.bytes = 0;
        }
        let index = delta.block.unwrap_or(0);
        if self.bytes + delta.text.len() > TEXT_BYTES_MAX
            || (self.blocks.len() >= PARTS_MAX && !self.blocks.contains_key(&index))
        {
            // No model writes this much. The message itself will come as an event.
            return Ok(None);
        }
        let kind = match delta.kind {
            DeltaKind::Reasoning => LiveBlockType::Reasoning,
            DeltaKind::ToolInput => LiveBlockType::ToolUse,
            DeltaKind::Text | DeltaKind::ToolOutput => LiveBlockType::Text,
        };
        let block = self.blocks.entry(index).or_insert_with(|| Block {
            kind,
            id: delta.id,
            name: delta.name.clone(),
            text: String::new(),
        });
        let new = unseen(block.text.len() as u64, delta)?;
        if let Some(delta) = &new {
            block.text.push_str(&delta.text);
            self.bytes += delta.text.len();
        }
        Ok(new)
    }

    fn add_output(&mut self, delta: Delta) -> Result<Option<Delta>, Gap> {
        let Some(call) = delta.tool_call else { return Ok(None) };
        if self.tools.len() >= PARTS_MAX && !self.tools.contains_key(&call) {
            return Ok(None);
        }
        let tool = self.tools.entry(call).or_default();
        let new = unseen(tool.offset + tool.text.len() as u64, delta)?;
        if let Some(delta) = &new {
            tool.text.push_str(&delta.text);
            tool.cut();
        }
        Ok(new)
    }

    /// Lets go of what an event made final.
    pub fn settle(&mut self, event: &Event) {
        let id_in = |kind: &str| event.data.get(kind)?.get("id")?.as_str();
        if let Some(message) = self.message
            && id_in("message") == Some(message.to_string().as_str())
        {
            self.message = None;
            self.blocks.clear();
            self.bytes = 0;
        }
        if event.kind == "tool.finished"
            && let Some(call) = id_in("tool_call").and_then(|it| it.parse().ok())
        {
            self.tools.remove(&call);
        }
        let task = event.data.get("task");
        let status = task.and_then(|it| it.get("status")).and_then(Value::as_str);
        let over =
            matches!(status, Some("completed" | "failed" | "cancelled" | "interrupted" | "queued"));
        if over && self.task.is_some_and(|it| id_in("task") == Some(it.to_string().as_str())) {
            *self = Self::default();
        }
    }
}

impl ToolText {
    fn cut(&mut self) {
        if self.text.len() <= TOOL_TEXT_BYTES_MAX {
            return;
        }
        let mut at = self.text.len() - TOOL_TEXT_BYTES_MAX;
        while !self.text.is_char_boundary(at) {
            at += 1;
        }
        self.text.drain(..at);
        self.offset += at as u64;
    }
}

/// The part of a piece behind `held` bytes; none when all of it is known.
fn unseen(held: u64, mut delta: Delta) -> Result<Option<Delta>, Gap> {
    let known = held.checked_sub(delta.offset).ok_or(Gap)?;
    let known = usize::try_from(known).unwrap_or(usize::MAX);
    if known >= delta.text.len() {
        return Ok(None);
    }
    if !delta.text.is_char_boundary(known) {
        return Err(Gap);
    }
    delta.text.drain(..known);
    delta.offset = held;
    Ok(Some(delta))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const TASK: &str = "task_01998f2e4c0070008000000000000001";
    const MESSAGE: &str = "msg_01998f2e4c0070008000000000000003";
    const CALL: &str = "call_01998f2e4c0070008000000000000004";
    const SESSION: &str = "sess_1f2e3d4c5b6a49788796a5b4c3d2e1f0";

    fn piece(offset: u64, text: &str) -> Delta {
        let delta = json!({
            "session": SESSION, "task": TASK, "message": MESSAGE, "block": 0,
            "kind": "text", "offset": offset, "text": text,
        });
        serde_json::from_value(delta).unwrap()
    }

    fn output(offset: u64, text: &str) -> Delta {
        let delta = json!({
            "session": SESSION, "task": TASK, "tool_call": CALL,
            "kind": "tool_output", "offset": offset, "text": text,
        });
        serde_json::from_value(delta).unwrap()
    }

    fn text(unfinished: &Unfinished) -> String {
        unfinished.blocks().map(|(_, it)| it.text.as_str()).collect()
    }

    #[test]
    fn pieces_are_put_together_by_their_place_in_bytes() {
        let mut unfinished = Unfinished::default();
        for (offset, part, new) in [
            (0, "grü", Some("grü")),
            (4, "ße", Some("ße")),
            (0, "grüße", None),
            (4, "ße dich", Some(" dich")),
        ] {
            let added = unfinished.add(piece(offset, part)).unwrap().map(|it| it.text);
            assert_eq!(added.as_deref(), new);
        }
        assert_eq!(text(&unfinished), "grüße dich");
        assert_eq!(unfinished.add(piece(99, "x")), Err(Gap));
        assert_eq!(unfinished.add(piece(11, "üü")), Err(Gap));
    }

    #[test]
    fn a_live_replaces_and_the_message_ends_it() {
        let mut unfinished = Unfinished::default();
        unfinished.add(piece(0, "first try")).unwrap();
        let live = json!({
            "session": SESSION, "task": TASK, "message": MESSAGE, "tools": [],
            "blocks": [{"index": 0, "type": "text", "text": "sec"}],
        });
        unfinished.replace(serde_json::from_value(live).unwrap());
        unfinished.add(piece(3, "ond")).unwrap();
        assert_eq!(text(&unfinished), "second");
        let event = |kind: &str, data: Value| -> Event {
            let event =
                json!({"seq": 1, "at": "2026-11-21T10:00:00.000Z", "type": kind, "data": data});
            serde_json::from_value(event).unwrap()
        };
        unfinished.settle(&event("message.appended", json!({"message": {"id": MESSAGE}})));
        assert_eq!((text(&unfinished).as_str(), unfinished.message()), ("", None));
        unfinished.add(output(0, "out")).unwrap();
        let other = json!({"task": {"id": TASK, "status": "running"}});
        unfinished.settle(&event("task.updated", other));
        assert_eq!(unfinished.tools().count(), 1);
        let done = json!({"task": {"id": TASK, "status": "completed"}});
        unfinished.settle(&event("task.completed", done));
        assert_eq!(unfinished, Unfinished::default());
    }

    #[test]
    fn of_a_tools_output_the_end_is_kept() {
        let mut unfinished = Unfinished::default();
        let long = "ü".repeat(TOOL_TEXT_BYTES_MAX / 2);
        unfinished.add(output(0, &long)).unwrap();
        unfinished.add(output(long.len() as u64, "x")).unwrap();
        let (_, tool) = unfinished.tools().next().unwrap();
        assert_eq!((tool.offset, tool.text.len()), (2, TOOL_TEXT_BYTES_MAX - 1));
        assert!(tool.text.ends_with('x'));
        assert_eq!(unfinished.add(output(99_999_999, "x")), Err(Gap));
    }
}
