//! A session as lines: the body of each commit as it was first written, and the blobs it names.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sess_protocol::id::SessionId;

use super::BLOB_PREFIX;
use super::spool::{Draft, failed};
use crate::shared::Shared;
use crate::store::{Hash, StoreError};
use sess_protocol::error::Error;

/// Bytes of commits that are read at a time.
const PAGE_BYTES: usize = 1024 * 1024;
/// Bytes of a blob in one line: in base64 and with its frame under 1 MiB.
const PIECE_BYTES: u64 = 512 * 1024;

/// Writes a session, up to an event that its last commit ends with.
///
/// # Errors
/// It cannot be read, or the file cannot be written.
pub async fn write(
    shared: &Shared,
    session: SessionId,
    last: u64,
    mut file: Draft,
) -> Result<Draft, Error> {
    file.add(first_line(session).as_bytes()).map_err(|err| failed(&err))?;
    let mut named = HashSet::new();
    let mut after = 0;
    while after < last {
        let page = shared.store.commits(session, after, PAGE_BYTES).await;
        let page = page.map_err(|err| shared.refusal(err))?;
        if page.is_empty() {
            let missing = StoreError::Damaged(format!("event {} of {session}", after + 1));
            return Err(shared.refusal(missing));
        }
        for commit in page {
            if after >= last {
                break;
            }
            for blob in blobs_in(&commit.body) {
                if named.insert(blob.0) {
                    write_blob(shared, blob, &mut file).await?;
                }
            }
            after = commit.last;
            file.add(line(&commit.body, &commit.hash).as_bytes()).map_err(|err| failed(&err))?;
        }
    }
    Ok(file)
}

/// What the file says of itself.
pub(super) fn first_line(session: SessionId) -> String {
    format!("{{\"sess\":\"jsonl\",\"version\":1,\"session\":\"{session}\"}}\n")
}

/// The members of the body, then the hash.
pub(super) fn line(body: &str, hash: &Hash) -> String {
    let members = body.strip_suffix('}').unwrap_or(body);
    format!("{members},\"hash\":\"{hash}\"}}\n")
}

/// The blobs that a body names, in their order.
fn blobs_in(body: &str) -> Vec<Hash> {
    let names = body.split(BLOB_PREFIX).skip(1);
    names.filter_map(|it| it.get(..64).and_then(Hash::from_hex)).collect()
}

async fn write_blob(shared: &Shared, blob: Hash, file: &mut Draft) -> Result<(), Error> {
    let mut offset = 0;
    loop {
        let piece = shared.store.blob(blob, offset, PIECE_BYTES).await;
        // A text may look like the name of a blob, and be none.
        let Some((piece, whole)) = piece.map_err(|err| shared.refusal(err))? else { return Ok(()) };
        let end = offset + piece.len() as u64;
        let last = if end >= whole { ",\"last\":true" } else { "" };
        let data = STANDARD.encode(&piece);
        let line = format!(
            "{{\"blob\":\"{BLOB_PREFIX}{blob}\",\"offset\":{offset},\"data\":\"{data}\"{last}}}\n"
        );
        file.add(line.as_bytes()).map_err(|err| failed(&err))?;
        offset = end;
        if end >= whole || piece.is_empty() {
            return Ok(());
        }
    }
}
