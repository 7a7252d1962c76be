//! `blob/*`: large bytes by their hash.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sess_protocol::error::Error;
use sess_protocol::methods as m;
use sess_protocol::methods::{BLOB_PIECE_BYTES_MAX, BlobGetResult};

use super::super::router::{Call, Routed, json_of, later};
use crate::store::Hash;

pub(in crate::server) fn get(call: Call<'_, m::BlobGet>) -> Routed {
    let shared = call.shared();
    let params = call.params;
    let hash = params
        .blob
        .strip_prefix("sha256:")
        .and_then(Hash::from_hex)
        .ok_or_else(|| Error::invalid("blob", "a blob is named `sha256:` and 64 hex digits"))?;
    let offset = params.offset.unwrap_or(0);
    let length = params.length.unwrap_or(BLOB_PIECE_BYTES_MAX);
    if length > BLOB_PIECE_BYTES_MAX {
        let message = format!("`length` is at most {BLOB_PIECE_BYTES_MAX}");
        return Err(Error::invalid("length", message).with("limit_bytes", BLOB_PIECE_BYTES_MAX));
    }
    later(async move {
        let piece = shared.store.blob(hash, offset, length).await;
        let piece = piece.map_err(|err| shared.refusal(err))?;
        let (piece, bytes) = piece.ok_or_else(|| Error::not_found("blob", &params.blob))?;
        let last = offset.saturating_add(piece.len() as u64) >= bytes;
        Ok(json_of(&BlobGetResult { data: STANDARD.encode(piece), offset, bytes, last }))
    })
}
