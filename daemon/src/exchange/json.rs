//! A session out of the JSON that an export wrote: its own members, and the messages of one thread.

use std::collections::HashMap;
use std::collections::HashSet;

use serde::Deserialize;
use sess_protocol::id::{MessageId, SessionId, TaskId};
use sess_protocol::things::{Block, Message, Session};

use super::rebuild::Heard;
use crate::world::World;

/// What is read of the file; the rest follows from it, or held only where it was written.
#[derive(Deserialize)]
struct File {
    session: Session,
    messages: Vec<Message>,
}

/// Reads a file.
///
/// # Errors
/// It is none, and where.
pub fn read(text: &str) -> Result<Heard, String> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let file: Result<File, _> = serde_path_to_error::deserialize(&mut reader);
    let File { session, messages } =
        file.map_err(|err| format!("`{}`: {}", err.path(), err.inner()))?;
    reader.end().map_err(|err| format!("behind its end: {err}"))?;
    if session.id == SessionId::GLOBAL {
        return Err("`session.id`: the log of facts of no session is no session".to_owned());
    }
    let mut seen = HashSet::new();
    let mut tasks = HashSet::new();
    let mut last = None;
    for (at, message) in messages.iter().enumerate() {
        if !seen.insert(message.id) {
            return Err(format!("`messages[{at}].id`: it is there twice"));
        }
        if message.task != last && message.task.is_some_and(|it| !tasks.insert(it)) {
            return Err(format!("`messages[{at}].task`: its other messages lie elsewhere"));
        }
        last = message.task;
    }
    Ok(Heard { session, messages, blobs: Vec::new() })
}

/// The blobs that a file names, with their places in it.
///
/// # Errors
/// A block holds bytes that should lie apart, and where.
pub fn blobs(heard: &Heard) -> Result<Vec<(String, String)>, String> {
    let mut named = Vec::new();
    for (at, message) in heard.messages.iter().enumerate() {
        for (index, block) in message.content.iter().enumerate() {
            let place = format!("messages[{at}].content[{index}]");
            collect(block, &place, &mut named)?;
        }
    }
    Ok(named)
}

fn collect(block: &Block, place: &str, named: &mut Vec<(String, String)>) -> Result<(), String> {
    match block {
        Block::Image { data: Some(_), .. } | Block::File { data: Some(_), .. } => {
            return Err(format!("`{place}.data`: bytes are named by `blob`"));
        }
        Block::Text { blob, .. }
        | Block::Reasoning { blob, .. }
        | Block::Image { blob, .. }
        | Block::File { blob, .. } => {
            named.extend(blob.iter().map(|it| (format!("{place}.blob"), it.clone())));
        }
        Block::ToolResult { content, .. } => {
            for (index, inner) in content.iter().enumerate() {
                collect(inner, &format!("{place}.content[{index}]"), named)?;
            }
        }
        Block::ToolUse { .. } => {}
    }
    Ok(())
}

/// Gives all of it new ids: there is a session of its id already.
pub fn renamed(heard: &mut Heard, world: &dyn World) {
    heard.session.id = SessionId(world.random());
    let mut tasks: HashMap<TaskId, TaskId> = HashMap::new();
    for message in &mut heard.messages {
        message.id = MessageId(world.ordered());
        if let Some(task) = &mut message.task {
            *task = *tasks.entry(*task).or_insert_with(|| TaskId(world.ordered()));
        }
    }
}
