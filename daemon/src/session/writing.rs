//! The unfinished answer: its text so far, what of it is told, and what of it is kept.

use sess_protocol::id::{MessageId, SessionId, TaskId};
use sess_protocol::live::{Delta, DeltaKind, Live, LiveBlock, LiveBlockType};
use sess_protocol::things::Block;

use crate::model::Piece;
use crate::redact::Pieces;
use crate::store::{PartialPiece, PartialText};

/// An answer that is being written.
#[derive(Debug)]
pub struct Writing {
    session: SessionId,
    task: TaskId,
    message: MessageId,
    blocks: Vec<Part>,
    /// Whether what is kept on disk is of an attempt that is void.
    reset: bool,
}

#[derive(Debug)]
struct Part {
    reasoning: bool,
    text: String,
    /// What came, and may be the begin of a secret.
    held: Pieces,
    /// Bytes of the text that are kept on disk.
    kept: usize,
}

impl Writing {
    /// An answer of which nothing is written.
    #[must_use]
    pub fn new(session: SessionId, task: TaskId, message: MessageId) -> Self {
        Self { session, task, message, blocks: Vec::new(), reset: false }
    }

    /// The id that the message will have.
    #[must_use]
    pub fn message(&self) -> MessageId {
        self.message
    }

    /// Whether nothing is written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Takes in a piece; answers the delta to tell, joined to `deltas`' last where it goes on.
    pub fn take(&mut self, piece: &Piece, deltas: &mut Vec<Delta>) {
        let (reasoning, new) = match piece {
            Piece::Text(text) => (false, text),
            Piece::Reasoning(text) => (true, text),
            Piece::Restart | Piece::Finish(_) => return,
        };
        if new.is_empty() {
            return;
        }
        if self.blocks.last().is_none_or(|it| it.reasoning != reasoning) {
            self.flush(deltas);
            let (text, held) = (String::new(), Pieces::default());
            self.blocks.push(Part { reasoning, text, held, kept: 0 });
        }
        let part = self.blocks.last_mut().expect("it was just pushed");
        let new = part.held.take(new);
        self.add(new, deltas);
    }

    /// Takes in what was held back: nothing more comes that could decide what it is.
    pub fn flush(&mut self, deltas: &mut Vec<Delta>) {
        let rest = self.blocks.last_mut().map(|it| it.held.end());
        self.add(rest.unwrap_or_default(), deltas);
    }

    /// Adds to the last block.
    fn add(&mut self, new: String, deltas: &mut Vec<Delta>) {
        if new.is_empty() {
            return;
        }
        let place = self.blocks.len() - 1;
        let part = &mut self.blocks[place];
        let offset = part.text.len() as u64;
        part.text.push_str(&new);
        match deltas.last_mut() {
            Some(last) if last.block == Some(place as u64) => last.text.push_str(&new),
            _ => deltas.push(Delta {
                session: self.session,
                task: self.task,
                message: Some(self.message),
                block: Some(place as u64),
                tool_call: None,
                kind: if part.reasoning { DeltaKind::Reasoning } else { DeltaKind::Text },
                offset,
                id: None,
                name: None,
                text: new,
            }),
        }
    }

    /// Forgets all: the model is asked again.
    pub fn restart(&mut self) {
        self.blocks.clear();
        self.reset = true;
    }

    /// All that is unfinished, as told to one who comes in the middle.
    #[must_use]
    pub fn live(&self) -> Live {
        let block = |(index, part): (usize, &Part)| LiveBlock {
            index: index as u64,
            kind: if part.reasoning { LiveBlockType::Reasoning } else { LiveBlockType::Text },
            id: None,
            name: None,
            text: part.text.clone(),
        };
        Live {
            session: self.session,
            task: self.task,
            message: Some(self.message),
            blocks: self.blocks.iter().enumerate().map(block).collect(),
            tools: Vec::new(),
        }
    }

    /// What is not kept on disk yet; it counts as kept from here on.
    pub fn unkept(&mut self) -> Option<PartialPiece> {
        let mut pieces = Vec::new();
        for (place, part) in self.blocks.iter_mut().enumerate() {
            if part.kept < part.text.len() {
                let place = u32::try_from(place).expect("an answer has few blocks");
                pieces.push((place, part.reasoning, part.text[part.kept..].to_owned()));
                part.kept = part.text.len();
            }
        }
        if pieces.is_empty() && !self.reset {
            return None;
        }
        let reset = std::mem::take(&mut self.reset);
        let (session, task, message) = (self.session, self.task, self.message);
        Some(PartialPiece { session, task, message, reset, pieces })
    }

    /// The answer's content as far as it is written.
    #[must_use]
    pub fn content(&self) -> Vec<Block> {
        self.blocks.iter().map(|it| block_of(it.reasoning, it.text.clone())).collect()
    }
}

fn block_of(reasoning: bool, text: String) -> Block {
    if reasoning { Block::reasoning(text) } else { Block::text(text) }
}

/// The content of an answer that was being written when the daemon ended.
#[must_use]
pub fn content_of(partial: PartialText) -> Vec<Block> {
    partial.blocks.into_iter().map(|(reasoning, text)| block_of(reasoning, text)).collect()
}
