//! What does a task look like to a front end: messages made into turns. Pure, and shared by all.
//!
//! A turn is computed and never stored. Its blocks are what a front end draws: the texts of a request
//! and of an answer, split at code, tables, pictures and the like ([`split`]). While an answer is being
//! written a block is given only when what is given of it never has to be taken back: text and code as
//! they come, whatever makes sense only when whole is held until it is ([`is_safe_while_streaming`]).

mod block;
mod line;
mod split;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use block::{RequestBlock, ResponseBlock, TurnBlock, is_safe_while_streaming};
pub use split::{Splitter, split};

use crate::id::{CallId, TaskId};
use crate::live::{Live, LiveBlock, LiveBlockType};
use crate::things::{
    Block, Message, MessageKind, MessageStatus, Role, Task, TaskReason, TaskStatus, words,
};
use crate::time::Timestamp;

/// Bytes of a tool's result in its block; the message has all of it.
pub const RESULT_BYTES_MAX: usize = 3_000;
/// Bytes of the blocks of one side of a turn; of what is longer, blocks are left out.
pub const SIDE_BYTES_MAX: usize = 512 * 1024;
/// Characters of a tool's title.
const TITLE_CHARS_MAX: usize = 80;
/// Members of a tool's input that say best what it does.
const TITLES: [&str; 6] = ["command", "path", "pattern", "query", "url", "name"];

words! {
    /// Where a turn stands.
    TurnStatus {
        /// Its task waits for its turn.
        Pending,
        /// Its task is at work.
        Streaming,
        /// Its task is completed.
        Done,
        /// Its task failed, was cancelled or interrupted.
        Error,
    }
}

/// A task as a front end draws it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Turn {
    /// Its task's.
    pub id: TaskId,
    /// What is asked: `text`, `image`, `file`.
    pub request: Vec<RequestBlock>,
    /// What is answered, as far as it is there.
    pub response: Vec<ResponseBlock>,
    /// Where it stands.
    pub status: TurnStatus,
    /// Why its task ended, or went back to the queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<TaskReason>,
    /// When its task was accepted.
    pub at: Timestamp,
}

impl Turn {
    /// The turn of a task: from its messages, oldest first, its request among them wherever that was
    /// first said, and from what is unfinished of it. Messages of other tasks are passed over.
    #[must_use]
    pub fn new(task: &Task, messages: &[Message], live: Option<&Live>) -> Self {
        let mut sides = Sides::default();
        for message in messages {
            sides.take(task, message);
        }
        if sides.request.is_empty()
            && let Some(content) = &task.request.content
        {
            sides.ask(content, &json!({ "message": task.request.message }));
        }
        for said in task.steering.iter().flatten() {
            let behind = sides.response.len();
            let meta = json!({ "message": said.message, "behind": behind, "unread": true });
            sides.ask(&said.content, &meta);
        }
        if let Some(live) = live.filter(|it| it.task == task.id) {
            sides.unfinished(live);
        }
        sides.end(task);
        Self {
            id: task.id,
            request: block::fitting(sides.request, SIDE_BYTES_MAX, false),
            response: block::fitting(sides.response, SIDE_BYTES_MAX, true),
            status: status_of(task.status),
            reason: task.reason,
            at: task.created_at,
        }
    }
}

const fn status_of(task: TaskStatus) -> TurnStatus {
    match task {
        TaskStatus::Queued => TurnStatus::Pending,
        TaskStatus::Running | TaskStatus::Waiting => TurnStatus::Streaming,
        TaskStatus::Completed => TurnStatus::Done,
        TaskStatus::Failed | TaskStatus::Cancelled | TaskStatus::Interrupted => TurnStatus::Error,
    }
}

/// Both sides of a turn, as they grow.
#[derive(Default)]
struct Sides {
    request: Vec<RequestBlock>,
    response: Vec<ResponseBlock>,
}

impl Sides {
    fn take(&mut self, task: &Task, message: &Message) {
        let is_request = message.id == task.request.message;
        if !is_request && message.task != Some(task.id) {
            return;
        }
        match message.role {
            Role::User if is_request => self.ask(&message.content, &place(message)),
            // Said while it was at work: `behind` is how much of the response was there before.
            Role::User => {
                let mut meta = place(message);
                meta["behind"] = self.response.len().into();
                self.ask(&message.content, &meta);
            }
            Role::Assistant => self.answer(message),
            Role::Tool => {
                for block in &message.content {
                    self.result(block);
                }
            }
            Role::System => self.note(message),
        }
    }

    fn ask(&mut self, content: &[Block], meta: &Value) {
        let blocks = content.iter().filter_map(block::asked);
        self.request.extend(blocks.map(|it| it.with_all(meta)));
    }

    fn note(&mut self, message: &Message) {
        if message.kind != MessageKind::Status {
            return;
        }
        let texts = message.content.iter().filter_map(block::text_of);
        let text: String = texts.collect();
        let note = TurnBlock::new("status", json!({ "state": "note", "message": text }));
        self.response.push(note.with_all(&place(message)));
    }

    fn answer(&mut self, message: &Message) {
        for (index, block) in message.content.iter().enumerate() {
            let mut meta = place(message);
            meta["block"] = index.into();
            let blocks = match block {
                // Of a text that lies apart only the beginning is here: it is no whole to split.
                Block::Text { text, blob: None, .. } => split(text),
                Block::ToolUse { id, name, input } => vec![tool(*id, name, Some(input))],
                Block::ToolResult { .. } => Vec::new(),
                other => block::answered(other).into_iter().collect(),
            };
            self.response.extend(blocks.into_iter().map(|it| it.with_all(&meta)));
        }
        if message.status == MessageStatus::Partial
            && let Some(last) = self.response.last_mut()
        {
            last.meta.insert("partial".to_owned(), true.into());
        }
    }

    /// What a tool gave back goes to its call; pictures stand behind it.
    fn result(&mut self, result: &Block) {
        let Block::ToolResult { tool_use_id, content, is_error } = result else { return };
        let texts: Vec<&str> = content.iter().filter_map(block::text_of).collect();
        let state = if *is_error { "error" } else { "done" };
        let Some(at) = self.place_of(*tool_use_id) else { return };
        let call = &mut self.response[at].content;
        call["result"] = cut(&texts.join("\n"), RESULT_BYTES_MAX).into();
        call["state"] = state.into();
        let pictures = content.iter().filter(|it| matches!(it, Block::Image { .. }));
        let pictures: Vec<TurnBlock> = pictures.filter_map(block::answered).collect();
        self.response.splice(at + 1..at + 1, pictures);
    }

    fn place_of(&self, call: CallId) -> Option<usize> {
        let call = json!(call);
        self.response.iter().rposition(|it| it.kind == "tool" && it.content["call"] == call)
    }

    /// What is being written at this moment, as far as it never has to be taken back.
    fn unfinished(&mut self, live: &Live) {
        for (at, block) in live.blocks.iter().enumerate() {
            let is_whole = at + 1 < live.blocks.len();
            let meta = json!({ "message": live.message, "block": block.index });
            let blocks = unfinished_block(block, is_whole);
            self.response.extend(blocks.into_iter().map(|it| it.with_all(&meta)));
        }
        for running in &live.tools {
            if let Some(at) = self.place_of(running.tool_call) {
                self.response[at].content["result"] = end_of(&running.text).into();
            }
        }
    }

    fn end(&mut self, task: &Task) {
        if !task.status.is_final() {
            return;
        }
        // One without a result is not known to be done.
        for call in self.response.iter_mut().filter(|it| it.content["state"] == "running") {
            call.content["state"] = "error".into();
        }
        let end = match task.status {
            TaskStatus::Failed => {
                let error = task.error.as_ref();
                let text = error.map_or("the task failed", |it| it.message.as_str());
                let block = TurnBlock::new("error", text.into());
                block.with("reason", error.and_then(|it| it.reason).map(|it| json!(it)))
            }
            TaskStatus::Cancelled => ended("cancelled", "stopped"),
            TaskStatus::Interrupted => ended("interrupted", "cut off by the end of the daemon"),
            _ => return,
        };
        self.response.push(end);
    }
}

fn ended(state: &str, message: &str) -> ResponseBlock {
    TurnBlock::new("status", json!({ "state": state, "message": message }))
}

fn place(message: &Message) -> Value {
    json!({ "message": message.id })
}

fn unfinished_block(block: &LiveBlock, is_whole: bool) -> Vec<ResponseBlock> {
    match block.kind {
        LiveBlockType::Text if is_whole => split(&block.text),
        LiveBlockType::Text => {
            let mut splitter = Splitter::default();
            splitter.push(&block.text);
            splitter.shown()
        }
        LiveBlockType::Reasoning => vec![TurnBlock::new("reasoning", block.text.as_str().into())],
        // Its input is JSON, which is nothing before it is whole.
        LiveBlockType::ToolUse => {
            let call = block.id.map(|id| tool(id, block.name.as_deref().unwrap_or(""), None));
            call.into_iter().collect()
        }
    }
}

fn tool(id: CallId, name: &str, input: Option<&Value>) -> ResponseBlock {
    let text = |it: &&str| input.and_then(|all| all.get(*it)).and_then(Value::as_str);
    let title: String =
        TITLES.iter().find_map(text).unwrap_or("").chars().take(TITLE_CHARS_MAX).collect();
    let title = title.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut content = json!({ "tool": name, "title": title, "call": id, "state": "running" });
    if let Some(input) = input {
        content["input"] = input.clone();
    }
    TurnBlock::new("tool", content)
}

/// The beginning of a text, with a sign that it is not all.
fn cut(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(bytes)])
}

/// The end of a text that still grows.
fn end_of(text: &str) -> String {
    if text.len() <= RESULT_BYTES_MAX {
        return text.to_owned();
    }
    format!("…{}", &text[text.ceil_char_boundary(text.len() - RESULT_BYTES_MAX)..])
}
