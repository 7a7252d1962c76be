//! `blob/*`: large bytes by their hash.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sess_protocol::error::Error;
use sess_protocol::methods as m;
use sess_protocol::methods::{BLOB_PIECE_BYTES_MAX, BlobGetResult, BlobPutResult};

use super::super::router::{Call, Routed, Work, json_of, later};
use crate::exchange::spool::failed;
use crate::store::Hash;

/// The hash that a blob is named by.
pub(super) fn hash_of(name: &str) -> Result<Hash, Error> {
    let hash = name.strip_prefix("sha256:").and_then(Hash::from_hex);
    hash.ok_or_else(|| Error::invalid("blob", "a blob is named `sha256:` and 64 hex digits"))
}

pub(in crate::server) fn get(call: Call<'_, m::BlobGet>) -> Routed {
    let shared = call.shared();
    let params = call.params;
    let hash = hash_of(&params.blob)?;
    let spool = call.router.spool().clone();
    let offset = params.offset.unwrap_or(0);
    let length = params.length.unwrap_or(BLOB_PIECE_BYTES_MAX);
    if length > BLOB_PIECE_BYTES_MAX {
        let message = format!("`length` is at most {BLOB_PIECE_BYTES_MAX}");
        return Err(Error::invalid("length", message).with("limit_bytes", BLOB_PIECE_BYTES_MAX));
    }
    later(async move {
        let piece = shared.store.blob(hash, offset, length).await;
        let piece = piece.map_err(|err| shared.refusal(err))?;
        let piece = match piece {
            // What was put or exported, and lies in no session.
            None => {
                let read = move || spool.piece(hash, offset, length);
                let read = tokio::task::spawn_blocking(read).await;
                read.map_err(|err| shared.bug(&err.to_string()))?.map_err(|err| failed(&err))?
            }
            found => found,
        };
        let (piece, bytes) = piece.ok_or_else(|| Error::not_found("blob", &params.blob))?;
        let last = offset.saturating_add(piece.len() as u64) >= bytes;
        Ok(json_of(&BlobGetResult { data: STANDARD.encode(piece), offset, bytes, last }))
    })
}

pub(in crate::server) async fn put(call: Call<'_, m::BlobPut>) -> Routed {
    let shared = call.shared();
    let spool = call.router.spool().clone();
    let params = call.params;
    let piece = STANDARD.decode(&params.data);
    let piece = piece.map_err(|err| Error::invalid("data", format!("`data` is base64: {err}")))?;
    if piece.len() as u64 > BLOB_PIECE_BYTES_MAX {
        let message = format!("a piece has at most {BLOB_PIECE_BYTES_MAX} bytes");
        return Err(Error::invalid("data", message).with("limit_bytes", BLOB_PIECE_BYTES_MAX));
    }
    let is_first = params.upload.is_none();
    let upload = params.upload.unwrap_or_else(|| format!("up_{:032x}", shared.world.random()));
    let last = params.last.unwrap_or(is_first);
    // Pieces are put in the order in which they were sent.
    let put = tokio::task::spawn_blocking(move || {
        if is_first {
            spool.open_upload(&upload)?;
        }
        let done = spool.put(&upload, (params.offset, &piece), last)?;
        Ok(match done {
            Some((hash, bytes)) => BlobPutResult {
                upload: None,
                blob: Some(format!("sha256:{hash}")),
                bytes: Some(bytes),
            },
            None => BlobPutResult { upload: Some(upload), blob: None, bytes: None },
        })
    });
    let result = put.await.map_err(|err| call.router.shared().bug(&err.to_string()))??;
    Ok(Work::Done(json_of(&result)))
}
