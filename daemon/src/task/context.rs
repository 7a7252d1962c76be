//! What the model sees: the newest whole messages of a path that fit.

use sess_protocol::id::{MessageId, SessionId};
use sess_protocol::things::{Block, Message, Role};

use crate::model::{PromptMessage, Speaker};
use crate::store::{Hash, MessagePage, Store, StoreError};

/// Bytes of text that a model is shown.
pub(super) const CONTEXT_BYTES_MAX: usize = 1024 * 1024;
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
        let Some(text) = plain_text(message) else { return false };
        self.head = Some(message.id);
        if let Some(role) = speaker(message.role) {
            self.bytes += text.len();
            self.messages.push(PromptMessage { role, text });
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
                let text = text_of(store, &message).await?;
                bytes += text.len();
                if let Some(role) = speaker(message.role) {
                    newest_first.push(PromptMessage { role, text });
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
            self.bytes -= self.messages[gone].text.len();
            gone += 1;
        }
        if gone > 0 {
            let turn = self.messages[gone..].iter().position(|it| it.role == Speaker::User);
            self.messages.drain(..gone + turn.unwrap_or(0));
            self.bytes = self.messages.iter().map(|it| it.text.len()).sum();
        }
    }
}

fn speaker(role: Role) -> Option<Speaker> {
    match role {
        Role::User => Some(Speaker::User),
        Role::Assistant => Some(Speaker::Assistant),
        Role::System | Role::Tool => None,
    }
}

/// A message's text when all of it lies in the message.
fn plain_text(message: &Message) -> Option<String> {
    let mut whole = String::new();
    for block in &message.content {
        match block {
            Block::Text { blob: Some(_), .. } => return None,
            Block::Text { text, .. } => {
                if !whole.is_empty() {
                    whole.push_str(BETWEEN_BLOCKS);
                }
                whole.push_str(text);
            }
            _ => {}
        }
    }
    Some(whole)
}

async fn text_of(store: &dyn Store, message: &Message) -> Result<String, StoreError> {
    if let Some(plain) = plain_text(message) {
        return Ok(plain);
    }
    let mut whole = String::new();
    for block in &message.content {
        if let Block::Text { text, blob, .. } = block {
            if !whole.is_empty() {
                whole.push_str(BETWEEN_BLOCKS);
            }
            match blob {
                None => whole.push_str(text),
                Some(blob) => whole.push_str(&blob_text(store, blob).await?),
            }
        }
    }
    Ok(whole)
}

async fn blob_text(store: &dyn Store, name: &str) -> Result<String, StoreError> {
    let damaged = || StoreError::Damaged(format!("the blob `{name}` is not there whole"));
    let hash = name.strip_prefix("sha256:").and_then(Hash::from_hex).ok_or_else(damaged)?;
    let mut bytes: Vec<u8> = Vec::new();
    loop {
        let piece = store.blob(hash, bytes.len() as u64, BLOB_PIECE).await?;
        let (piece, total) = piece.ok_or_else(damaged)?;
        bytes.extend_from_slice(&piece);
        if bytes.len() as u64 >= total {
            return String::from_utf8(bytes).map_err(|_| damaged());
        }
        if piece.is_empty() {
            return Err(damaged());
        }
    }
}
