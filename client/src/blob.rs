//! What is too large for an event lies beside it: how is it fetched?

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sess_protocol::methods::{BlobGet, BlobGetParams};

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
        let offset = bytes.len() as u64;
        let params = BlobGetParams { blob: blob.to_owned(), offset: Some(offset), length: None };
        let piece = caller.call::<BlobGet>(&params).await?;
        let strange = |what: String| CallError::Strange { method: "blob/get".to_owned(), what };
        let data = STANDARD.decode(&piece.data).map_err(|err| strange(err.to_string()))?;
        if data.is_empty() && !piece.last {
            return Err(strange("a piece is empty and not the last".to_owned()).into());
        }
        bytes.extend_from_slice(&data);
        if piece.last || bytes.len() as u64 >= BLOB_BYTES_MAX {
            return Ok(String::from_utf8_lossy(&bytes).into_owned());
        }
    }
}
