//! What is too large for a line lies beside the events: how is it fetched, and how given?

use std::io::{self, Read};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use sess_protocol::methods::{BLOB_PIECE_BYTES_MAX, BlobGet, BlobGetParams};

use crate::caller::{Caller, Failure};
use crate::connection::CallError;

/// Bytes of a blob that are fetched as one text.
pub const BLOB_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The whole of a text that is kept as a blob, at most [`BLOB_BYTES_MAX`] of it.
///
/// # Errors
/// When the daemon does not answer it, or not as a blob.
pub async fn text(caller: &mut Caller, blob: &str) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    loop {
        let (piece, last) = piece(caller, blob, bytes.len() as u64).await?;
        bytes.extend_from_slice(&piece);
        if last || bytes.len() as u64 >= BLOB_BYTES_MAX {
            return Ok(String::from_utf8_lossy(&bytes).into_owned());
        }
    }
}

/// Fetches a blob of any size, and gives it on piece by piece. Answers how many bytes it has.
///
/// # Errors
/// When the daemon does not answer it; inside, when a piece could not be given on.
pub async fn copy(
    caller: &mut Caller,
    blob: &str,
    mut give: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<io::Result<u64>, Failure> {
    let mut bytes = 0;
    loop {
        let (piece, last) = piece(caller, blob, bytes).await?;
        if let Err(err) = give(&piece) {
            return Ok(Err(err));
        }
        bytes += piece.len() as u64;
        if last {
            return Ok(Ok(bytes));
        }
    }
}

async fn piece(caller: &mut Caller, blob: &str, offset: u64) -> Result<(Vec<u8>, bool), Failure> {
    let params = BlobGetParams { blob: blob.to_owned(), offset: Some(offset), length: None };
    let piece = caller.call::<BlobGet>(&params).await?;
    let strange = |what: String| CallError::Strange { method: "blob/get".to_owned(), what };
    let data = STANDARD.decode(&piece.data).map_err(|err| strange(err.to_string()))?;
    if data.is_empty() && !piece.last {
        return Err(strange("a piece is empty and not the last".to_owned()).into());
    }
    Ok((data, piece.last))
}

/// Gives the daemon bytes of any number, piece by piece, and answers the blob's name.
///
/// # Errors
/// When the daemon does not take them; inside, when the source cannot be read.
pub async fn put(
    caller: &mut Caller,
    source: &mut dyn Read,
) -> Result<io::Result<String>, Failure> {
    let mut upload: Option<Value> = None;
    let mut offset: u64 = 0;
    loop {
        let mut piece = Vec::new();
        if let Err(err) = (&mut *source).take(BLOB_PIECE_BYTES_MAX).read_to_end(&mut piece) {
            return Ok(Err(err));
        }
        // A whole piece may be followed by nothing: an empty last one says so.
        let last = (piece.len() as u64) < BLOB_PIECE_BYTES_MAX;
        let mut params = Map::new();
        params.insert("data".to_owned(), STANDARD.encode(&piece).into());
        if let Some(upload) = &upload {
            params.insert("upload".to_owned(), upload.clone());
            params.insert("offset".to_owned(), offset.into());
        }
        params.insert("last".to_owned(), last.into());
        offset += piece.len() as u64;
        let raw = caller.call_raw("blob/put", params).await?;
        let answer: Map<String, Value> = serde_json::from_str(raw.get()).unwrap_or_default();
        match (last, answer.get("blob").and_then(Value::as_str), answer.get("upload")) {
            (true, Some(blob), _) => return Ok(Ok(blob.to_owned())),
            (false, _, Some(name)) => upload = Some(name.clone()),
            _ => {
                let what = "it names neither the upload nor the blob".to_owned();
                return Err(CallError::Strange { method: "blob/put".to_owned(), what }.into());
            }
        }
    }
}
