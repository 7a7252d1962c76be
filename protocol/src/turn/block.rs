//! What is one block of a turn, and which may be shown before they are whole?

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::things::Block;

/// Types that make sense only when whole.
const HELD: [&str; 10] =
    ["question", "plan", "tasklist", "progress", "table", "json", "action", "diff", "svg", "link"];

/// Whether a block of this type may be shown while it is being written. The others, and every one of
/// a namespace (`architect:plan`), are held until they are whole.
#[must_use]
pub fn is_safe_while_streaming(kind: &str) -> bool {
    !kind.contains(':') && !HELD.contains(&kind)
}

/// One block of a turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TurnBlock {
    /// What it is: `text`, `code`, `table`, ...
    #[serde(rename = "type")]
    pub kind: String,
    /// What there is to draw: a text, or an object; by the type.
    pub content: Value,
    /// What else is known: where it comes from, its language, ...
    pub meta: Map<String, Value>,
}

/// One block of a request: `text`, `image`, `file`.
pub type RequestBlock = TurnBlock;
/// One block of a response.
pub type ResponseBlock = TurnBlock;

impl TurnBlock {
    /// A block of this type.
    #[must_use]
    pub fn new(kind: &str, content: Value) -> Self {
        Self { kind: kind.to_owned(), content, meta: Map::new() }
    }

    /// The same with one more known, where it is known.
    #[must_use]
    pub(super) fn with(mut self, name: &str, value: Option<Value>) -> Self {
        if let Some(value) = value {
            self.meta.insert(name.to_owned(), value);
        }
        self
    }

    /// The same with all that these members say.
    #[must_use]
    pub(super) fn with_all(mut self, members: &Value) -> Self {
        let known = members.as_object().into_iter().flatten().filter(|it| !it.1.is_null());
        self.meta.extend(known.map(|(name, value)| (name.clone(), value.clone())));
        self
    }

    /// How much it is on the wire, roughly.
    fn bytes(&self) -> usize {
        size(&self.content) + self.meta.values().map(size).sum::<usize>() + 64
    }
}

fn size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 2,
        Value::Array(items) => items.iter().map(|it| size(it) + 1).sum(),
        Value::Object(members) => members.iter().map(|(name, it)| name.len() + 4 + size(it)).sum(),
        _ => 8,
    }
}

/// As many blocks as fit, the newest or the oldest of them; the block beside those that are left out
/// says how many they are.
pub(super) fn fitting(
    mut blocks: Vec<TurnBlock>,
    bytes_max: usize,
    newest: bool,
) -> Vec<TurnBlock> {
    let fits = |sum: &mut usize, block: &TurnBlock| {
        *sum += block.bytes();
        Some(*sum)
    };
    let within = |it: &usize| *it <= bytes_max;
    let fit = if newest {
        blocks.iter().rev().scan(0, fits).take_while(within).count()
    } else {
        blocks.iter().scan(0, fits).take_while(within).count()
    };
    let left_out = blocks.len() - fit;
    if left_out == 0 {
        return blocks;
    }
    let beside = if newest {
        blocks.drain(..left_out);
        blocks.first_mut()
    } else {
        blocks.truncate(fit);
        blocks.last_mut()
    };
    let note = json!(left_out);
    match beside {
        Some(block) => {
            block.meta.insert("left_out".to_owned(), note);
        }
        None => blocks.push(TurnBlock::new("text", "".into()).with("left_out", Some(note))),
    }
    blocks
}

/// The text of a block that is one.
pub(super) fn text_of(block: &Block) -> Option<&str> {
    match block {
        Block::Text { text, .. } => Some(text),
        _ => None,
    }
}

/// A block of a request.
pub(super) fn asked(block: &Block) -> Option<RequestBlock> {
    match block {
        Block::File { name, media_type, text, blob, bytes, .. } => {
            let size = bytes.or_else(|| text.as_ref().map(|it| it.len() as u64));
            let mut content = json!({ "name": name });
            if let Some(size) = size {
                content["size"] = size.into();
            }
            let file = TurnBlock::new("file", content);
            Some(
                apart(file, blob.as_deref(), None)
                    .with("media_type", media_type.as_deref().map(Value::from)),
            )
        }
        Block::Text { .. } | Block::Image { .. } => answered(block),
        _ => None,
    }
}

/// A block of a response that is what it is in its message.
pub(super) fn answered(block: &Block) -> Option<ResponseBlock> {
    match block {
        Block::Text { text, blob, bytes } => {
            Some(apart(TurnBlock::new("text", text.as_str().into()), blob.as_deref(), *bytes))
        }
        Block::Reasoning { text, blob, bytes } => {
            Some(apart(TurnBlock::new("reasoning", text.as_str().into()), blob.as_deref(), *bytes))
        }
        Block::Image { media_type, data, blob, bytes } => {
            let inline = data.as_ref().map(|it| format!("data:{media_type};base64,{it}"));
            let src = blob.clone().or(inline)?;
            let picture = TurnBlock::new("image", json!({ "src": src }));
            let picture = apart(picture, blob.as_deref(), *bytes);
            Some(picture.with("media_type", Some(media_type.as_str().into())))
        }
        Block::File { .. } => asked(block),
        Block::ToolUse { .. } | Block::ToolResult { .. } => None,
    }
}

/// A block whose bytes lie apart: the blob's name, and how many there are.
fn apart(block: TurnBlock, blob: Option<&str>, bytes: Option<u64>) -> TurnBlock {
    block.with("blob", blob.map(Value::from)).with("bytes", bytes.map(Value::from))
}
