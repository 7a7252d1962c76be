//! Pictures and files of a request: may this model see them, and what is kept of them?
//!
//! Asked before anything is saved: what the model cannot be shown is refused, what it can is kept once
//! by its hash, and the message only names it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sess_protocol::error::{Error, Kind};
use sess_protocol::methods::Content;
use sess_protocol::things::Block;

use super::content::{blocks_of, put_apart};
use crate::model::Part;
use crate::shared::Shared;
use crate::store::{Hash, NewBlob};
use crate::task::blob_bytes;

/// Bytes of one picture or file that is shown to a model.
pub const ATTACHED_BYTES_MAX: u64 = 20 * 1024 * 1024;

/// What is said to a model, pictures and files included, ready to be kept: the blocks, and what lies
/// apart from them.
///
/// # Errors
/// It says nothing, or what a person cannot say; or the model cannot be shown a picture or file, or it
/// is none, or too large, or its blob is not there.
pub async fn content_of(
    shared: &Shared,
    model: &str,
    content: Content,
) -> Result<(Vec<Block>, Vec<NewBlob>), Error> {
    let mut blocks = blocks_of(content)?;
    let mut blobs = put_attached(shared, model, &mut blocks).await?;
    blobs.extend(put_apart(&mut blocks));
    Ok((blocks, blobs))
}

/// Checks the pictures and files among these blocks, and puts their bytes apart.
async fn put_attached(
    shared: &Shared,
    model: &str,
    blocks: &mut [Block],
) -> Result<Vec<NewBlob>, Error> {
    let mut blobs = Vec::new();
    for block in blocks {
        let Some((bytes, is_new)) = bytes_of(shared, block).await? else { continue };
        let hash = Hash::of(&bytes);
        judge(shared, model, block, &bytes).await?;
        name(block, hash, bytes.len() as u64);
        if is_new {
            blobs.push(NewBlob { hash, bytes });
        }
    }
    Ok(blobs)
}

/// The bytes of a picture or file, and whether they came with the request.
async fn bytes_of(shared: &Shared, block: &Block) -> Result<Option<(Vec<u8>, bool)>, Error> {
    let (text, data, blob) = match block {
        Block::Image { data, blob, media_type, .. } => {
            if !media_type.starts_with("image/") {
                let message = format!("`{media_type}` is no picture's media type; send a `file`");
                return Err(Error::invalid("content", message));
            }
            (None, data, blob)
        }
        Block::File { text, data, blob, .. } => (text.as_ref(), data, blob),
        _ => return Ok(None),
    };
    let bytes = match (text, data, blob) {
        (Some(text), None, None) => (text.clone().into_bytes(), true),
        (None, Some(data), None) => {
            let bytes = STANDARD.decode(data);
            let bytes = bytes
                .map_err(|err| Error::invalid("content", format!("`data` is not base64: {err}")))?;
            (bytes, true)
        }
        (None, None, Some(blob)) => (stored(shared, blob).await?, false),
        _ => {
            let message = "a picture or file has either `data`, or `blob`, or, a file, `text`";
            return Err(Error::invalid("content", message));
        }
    };
    check_size(bytes.0.len() as u64)?;
    Ok(Some(bytes))
}

async fn stored(shared: &Shared, blob: &str) -> Result<Vec<u8>, Error> {
    let hash = blob.strip_prefix("sha256:").and_then(Hash::from_hex);
    let hash = hash
        .ok_or_else(|| Error::invalid("content", "a blob is named `sha256:` and 64 hex digits"))?;
    let found = shared.store.blob(hash, 0, 1).await.map_err(|err| shared.refusal(err))?;
    let (_, bytes) = found.ok_or_else(|| Error::not_found("blob", blob))?;
    check_size(bytes)?;
    blob_bytes(&*shared.store, blob).await.map_err(|err| shared.refusal(err))
}

fn check_size(bytes: u64) -> Result<(), Error> {
    match bytes {
        0 => Err(Error::invalid("content", "an attached picture or file is empty")),
        1..=ATTACHED_BYTES_MAX => Ok(()),
        _ => {
            let message =
                format!("{bytes} bytes are attached at once, {ATTACHED_BYTES_MAX} can be shown");
            Err(Error::invalid("content", message).with("limit_bytes", ATTACHED_BYTES_MAX))
        }
    }
}

/// Refuses what the model cannot be shown.
async fn judge(shared: &Shared, model: &str, block: &Block, bytes: &[u8]) -> Result<(), Error> {
    let part = match block {
        Block::Image { media_type, .. } => {
            Part::Image { media_type: media_type.clone(), data: bytes.into() }
        }
        Block::File { name, media_type, .. } => {
            let (name, media_type) = (name.clone(), media_type.clone());
            Part::File { name, media_type, data: bytes.into() }
        }
        _ => return Ok(()),
    };
    let Some(media_type) = part.media_type() else { return Ok(()) };
    let (asked, name) = shared.model(model)?;
    let blind = crate::sabotage::is("blind_send");
    if blind || asked.takes(&name, media_type) && asked.sees(name).await {
        return Ok(());
    }
    let message = format!("the model `{model}` cannot be shown `{media_type}`");
    Err(Error::new(Kind::Unsupported, message)
        .with("param", "content")
        .with("model", model)
        .hint("name a model that can with `model`, or leave it out"))
}

/// Leaves of a block only the name of its bytes.
fn name(block: &mut Block, hash: Hash, count: u64) {
    if let Block::File { text, .. } = block {
        *text = None;
    }
    if let Block::Image { data, blob, bytes, .. } | Block::File { data, blob, bytes, .. } = block {
        *data = None;
        *blob = Some(format!("sha256:{hash}"));
        *bytes = Some(count);
    }
}
