//! What is said, made ready to be kept: checked, and large texts put apart as blobs.

use sess_protocol::error::Error;
use sess_protocol::methods::{BLOCKS_MAX, Content};
use sess_protocol::things::{Block, TEXT_HEAD_BYTES, TEXT_INLINE_BYTES_MAX};

use crate::store::{Hash, NewBlob};

/// Checks what a client says and gives it back as blocks, with pictures and files as they came: nobody
/// has looked at them yet.
///
/// # Errors
/// Nothing said, or too many blocks.
pub(super) fn blocks_of(content: Content) -> Result<Vec<Block>, Error> {
    let blocks = match content {
        Content::Text(text) => vec![Block::text(text)],
        Content::Blocks(blocks) => blocks,
    };
    if blocks.len() > BLOCKS_MAX {
        let message = format!("`content` has at most {BLOCKS_MAX} blocks");
        return Err(Error::invalid("content", message).with("limit", BLOCKS_MAX));
    }
    let mut said = false;
    for block in &blocks {
        match block {
            Block::Text { blob: Some(_), .. } => {
                let message = "a text is given whole; the daemon makes a blob of a long one";
                return Err(Error::invalid("content", message));
            }
            Block::Text { text, .. } => said |= !text.trim().is_empty(),
            Block::Image { .. } | Block::File { .. } => said = true,
            Block::Reasoning { .. } | Block::ToolUse { .. } | Block::ToolResult { .. } => {
                let message = "a request is made of `text`, `image` and `file` blocks";
                return Err(Error::invalid("content", message));
            }
        }
    }
    if !said {
        return Err(Error::invalid("content", "`content` says nothing"));
    }
    Ok(blocks)
}

/// Takes secrets out, and puts texts over the limit apart: what stays of each is its beginning.
pub fn put_apart(blocks: &mut [Block]) -> Vec<NewBlob> {
    let mut blobs = Vec::new();
    for block in blocks {
        let (Block::Text { text, blob, bytes } | Block::Reasoning { text, blob, bytes }) = block
        else {
            continue;
        };
        if let std::borrow::Cow::Owned(clean) = crate::redact::text(text) {
            *text = clean;
        }
        if text.len() <= TEXT_INLINE_BYTES_MAX || blob.is_some() {
            continue;
        }
        let hash = Hash::of(text.as_bytes());
        *blob = Some(format!("sha256:{hash}"));
        *bytes = Some(text.len() as u64);
        let end = text.floor_char_boundary(TEXT_HEAD_BYTES);
        let head = text[..end].to_owned();
        let whole = std::mem::replace(text, head);
        blobs.push(NewBlob { hash, bytes: whole.into_bytes() });
    }
    blobs
}

#[cfg(test)]
mod tests {
    use sess_protocol::error::Kind;

    use super::*;

    #[test]
    fn a_long_text_is_put_apart_and_cut_at_a_character() {
        let text = "é".repeat(TEXT_INLINE_BYTES_MAX / 2 + 1);
        let mut blocks = vec![Block::text("short"), Block::text(text.clone())];
        let blobs = put_apart(&mut blocks);
        assert_eq!(blobs.len(), 1);
        assert_eq!(blobs[0].bytes, text.as_bytes());
        assert_eq!(blocks[0], Block::text("short"));
        let Block::Text { text: head, blob, bytes } = &blocks[1] else { panic!("a text") };
        assert_eq!(head.len(), TEXT_HEAD_BYTES);
        assert_eq!(*bytes, Some(text.len() as u64));
        assert_eq!(*blob, Some(format!("sha256:{}", Hash::of(text.as_bytes()))));
    }

    #[test]
    fn saying_nothing_is_refused() {
        for content in [Content::Text(" \n".to_owned()), Content::Blocks(Vec::new())] {
            assert_eq!(blocks_of(content).expect_err("refused").kind(), Kind::InvalidParams);
        }
    }
}
