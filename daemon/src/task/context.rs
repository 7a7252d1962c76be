//! What the model sees: the newest whole messages of a path that fit.

use std::sync::Arc;

use sess_protocol::id::{MessageId, SessionId};
use sess_protocol::things::{Block, Message, Role};

use crate::model::{Part, PromptMessage, Speaker};
use crate::store::{Hash, MessagePage, Store, StoreError};

/// Bytes of text that a model is shown.
pub(super) const CONTEXT_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of pictures and files that a model is shown: the newest that fit.
const ATTACHED_BYTES_MAX: usize = 24 * 1024 * 1024;
/// Messages that are read at a time.
const PAGE: u32 = 200;
/// What stands between two blocks of text.
const BETWEEN_BLOCKS: &str = "\n\n";
/// Bytes of a blob that are read at a time.
const BLOB_PIECE: u64 = 1024 * 1024;

/// The messages of a path up to its head, as a model sees them.
#[derive(Debug, Clone, Default)]
pub struct Context {
    head: Option<MessageId>,
    messages: Vec<PromptMessage>,
    bytes: usize,
}

impl Context {
    /// The messages, oldest first.
    #[must_use]
    pub fn messages(&self) -> &[PromptMessage] {
        &self.messages
    }

    /// Goes on with a message that was just appended, without asking the store. Answers whether it
    /// did: not for one that lies on another path, or whose text is kept apart.
    pub fn extend(&mut self, message: &Message) -> bool {
        if self.head != message.parent {
            return false;
        }
        let Some(parts) = plain_parts(message) else { return false };
        self.head = Some(message.id);
        if let Some(role) = speaker(message.role) {
            self.bytes += text_bytes(&parts);
            self.messages.push(PromptMessage { role, parts });
        }
        self.cut();
        true
    }

    /// Goes on to another head: reads what lies between, or all anew when the path is another.
    ///
    /// # Errors
    /// The store cannot read it.
    pub async fn reach(
        self,
        store: &dyn Store,
        session: SessionId,
        head: MessageId,
    ) -> Result<Self, StoreError> {
        if self.head == Some(head) {
            return Ok(self);
        }
        let mut newest_first: Vec<PromptMessage> = Vec::new();
        let mut bytes = 0;
        let mut attached = 0;
        let mut before = None;
        let mut whole = false;
        let mut joined = false;
        while !whole && !joined && bytes < CONTEXT_BYTES_MAX {
            // The few messages since the last turn are read first: mostly they are all it takes.
            let limit = if before.is_none() && self.head.is_some() { 4 } else { PAGE };
            let page = MessagePage { head, before, after: None, limit };
            // A session that is deleted at this moment is not to be asked about with an empty prompt.
            let gone = || StoreError::Damaged(format!("a message of {session} is not there"));
            let page = store.messages(session, page).await?.ok_or_else(gone)?;
            whole = !page.more;
            for raw in page.messages.iter().rev() {
                let message: Message = serde_json::from_str(raw.get())
                    .map_err(|err| StoreError::Damaged(format!("a message of {session}: {err}")))?;
                if self.head == Some(message.id) {
                    joined = true;
                    break;
                }
                before = Some(message.id);
                let parts = parts_of(store, &message, ATTACHED_BYTES_MAX - attached).await?;
                bytes += text_bytes(&parts);
                attached += parts.iter().map(Part::bytes).sum::<usize>() - text_bytes(&parts);
                if let Some(role) = speaker(message.role) {
                    newest_first.push(PromptMessage { role, parts });
                }
            }
            whole |= page.messages.is_empty();
        }
        let mut messages = if joined { self.messages } else { Vec::new() };
        let bytes = if joined { self.bytes + bytes } else { bytes };
        messages.extend(newest_first.into_iter().rev());
        let mut context = Self { head: Some(head), messages, bytes };
        context.cut();
        Ok(context)
    }

    /// Leaves out the oldest turns that do not fit.
    fn cut(&mut self) {
        let mut gone = 0;
        while self.bytes > CONTEXT_BYTES_MAX && gone + 1 < self.messages.len() {
            self.bytes -= text_bytes(&self.messages[gone].parts);
            gone += 1;
        }
        if gone > 0 {
            let turn = self.messages[gone..].iter().position(|it| it.role == Speaker::User);
            self.messages.drain(..gone + turn.unwrap_or(0));
            self.bytes = self.messages.iter().map(|it| text_bytes(&it.parts)).sum();
        }
        self.cut_attached();
    }

    /// Leaves out the oldest pictures and files that do not fit.
    fn cut_attached(&mut self) {
        let mut attached = 0;
        for part in self.messages.iter_mut().rev().flat_map(|it| it.parts.iter_mut().rev()) {
            if !matches!(part, Part::Text(_)) {
                attached += part.bytes();
                if attached > ATTACHED_BYTES_MAX {
                    *part = part.left_out();
                }
            }
        }
    }
}

fn text_bytes(parts: &[Part]) -> usize {
    parts.iter().filter(|it| matches!(it, Part::Text(_))).map(Part::bytes).sum()
}

fn speaker(role: Role) -> Option<Speaker> {
    match role {
        Role::User => Some(Speaker::User),
        Role::Assistant => Some(Speaker::Assistant),
        Role::System | Role::Tool => None,
    }
}

/// A message's parts when all of it lies in the message.
fn plain_parts(message: &Message) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    for block in &message.content {
        match block {
            Block::Text { blob: Some(_), .. } | Block::Image { .. } | Block::File { .. } => {
                return None;
            }
            Block::Text { text, .. } => add_text(&mut parts, text),
            _ => {}
        }
    }
    Some(parts)
}

/// The same, with what lies apart; pictures and files only as far as there is room for them.
async fn parts_of(
    store: &dyn Store,
    message: &Message,
    mut room: usize,
) -> Result<Vec<Part>, StoreError> {
    let mut parts = Vec::new();
    for block in &message.content {
        match block {
            Block::Text { text, blob: None, .. } => add_text(&mut parts, text),
            Block::Text { blob: Some(blob), .. } => {
                let whole = String::from_utf8(blob_bytes(store, blob).await?);
                add_text(&mut parts, &whole.map_err(|_| not_whole(blob))?);
            }
            Block::Image { media_type, blob: Some(blob), bytes, .. } => {
                let part = |data| Part::Image { media_type: media_type.clone(), data };
                parts.push(attached(store, blob, *bytes, &mut room, part).await?);
            }
            Block::File { name, media_type, blob: Some(blob), bytes, .. } => {
                let (name, media_type) = (name.clone(), media_type.clone());
                let part = |data| Part::File { name, media_type, data };
                parts.push(attached(store, blob, *bytes, &mut room, part).await?);
            }
            _ => {}
        }
    }
    Ok(parts)
}

fn add_text(parts: &mut Vec<Part>, text: &str) {
    match parts.last_mut() {
        Some(Part::Text(whole)) => {
            whole.push_str(BETWEEN_BLOCKS);
            whole.push_str(text);
        }
        _ => parts.push(Part::Text(text.to_owned())),
    }
}

async fn attached(
    store: &dyn Store,
    blob: &str,
    bytes: Option<u64>,
    room: &mut usize,
    part: impl FnOnce(Arc<[u8]>) -> Part,
) -> Result<Part, StoreError> {
    let bytes = bytes.and_then(|it| usize::try_from(it).ok()).unwrap_or(0);
    if bytes > *room {
        return Ok(part(Arc::default()).left_out());
    }
    *room -= bytes;
    Ok(part(blob_bytes(store, blob).await?.into()))
}

fn not_whole(name: &str) -> StoreError {
    StoreError::Damaged(format!("the blob `{name}` is not there whole"))
}

/// The whole of a blob by its name.
pub(crate) async fn blob_bytes(store: &dyn Store, name: &str) -> Result<Vec<u8>, StoreError> {
    let damaged = || not_whole(name);
    let hash = name.strip_prefix("sha256:").and_then(Hash::from_hex).ok_or_else(damaged)?;
    let mut bytes: Vec<u8> = Vec::new();
    loop {
        let piece = store.blob(hash, bytes.len() as u64, BLOB_PIECE).await?;
        let (piece, total) = piece.ok_or_else(damaged)?;
        bytes.extend_from_slice(&piece);
        if bytes.len() as u64 >= total {
            return Ok(bytes);
        }
        if piece.is_empty() {
            return Err(damaged());
        }
    }
}
