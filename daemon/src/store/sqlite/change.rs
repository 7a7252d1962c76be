//! What one commit changes: the log, keys, blobs and projections, or nothing.

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::Value;
use sess_protocol::id::SessionId;
use sess_protocol::time::Timestamp;
use sess_protocol::view::Members;

use super::importing::SEEN_BLOB;
use super::projection::Fold;
use super::rows::{Numbered, Sum, Trouble};
use super::{log, sessions, things};
use crate::store::{Commit, Hash, KEY_MS, KeptKey, KeyRecord, NewBlob, PartialPiece, StoreError};

/// What the text of every name of a blob begins with.
const BLOB_PREFIX: &str = "sha256:";

/// Stores a commit, or refuses it.
pub(super) fn store(conn: &Connection, commit: &Commit) -> Result<(), Trouble> {
    let now = commit.events.last().map_or(0, |it| it.at.0);
    if !crate::sabotage::is("no_key_check") {
        for key in &commit.keys {
            free(conn, &key.key, now)?;
        }
    }
    let old = sessions::find(conn, commit.session)?;
    let (seq, head) = old.as_ref().map_or((0, Hash::default()), |it| (it.seq, it.head));
    let is_whole = || commit.hash == Hash::chained(head, commit.body.as_bytes());
    if !follows(commit, (seq, head)) || !is_whole() {
        return Err(Trouble::Refused(StoreError::NotNext));
    }
    let (session, members) = match &old {
        Some(old) => (old.session, old.members()?),
        None => (sessions::insert(conn, commit.session)?, Members::new()),
    };
    for key in &commit.keys {
        add_key(conn, session.no, key, now)?;
    }
    let mut fold = Fold::of(conn, session, members);
    take_in(conn, session, commit, &mut fold)?;
    fold.finish((commit.last(), commit.hash), old.as_ref())?;
    if let Some(gone) = commit.deletes {
        delete(conn, gone)?;
    }
    Ok(())
}

/// Whether a commit goes on behind the event and the hash that a session ends with.
pub(super) fn follows(commit: &Commit, (seq, head): (u64, Hash)) -> bool {
    commit.first() == seq + 1
        && commit.before == head
        && commit.events.iter().zip(commit.first()..).all(|(event, seq)| event.seq == seq)
}

/// Adds a commit that follows to its session: all but the session's own row.
pub(super) fn take_in(
    conn: &Connection,
    session: Numbered,
    commit: &Commit,
    fold: &mut Fold<'_>,
) -> Result<(), Trouble> {
    let place = (commit.first(), commit.last());
    log::append(conn, session, place, (commit.hash, &commit.body))?;
    for blob in &commit.blobs {
        add_blob(conn, session.no, blob)?;
    }
    if commit.body.contains(BLOB_PREFIX) {
        for event in &commit.events {
            event.data.values().try_for_each(|it| refer(conn, session.no, it))?;
        }
    }
    commit.events.iter().try_for_each(|it| fold.apply(it))
}

/// Makes sure that a key is not taken. One whose answer is no longer kept is free again.
pub(super) fn free(conn: &Connection, key: &str, now: i64) -> Result<(), Trouble> {
    let at: Option<i64> = conn
        .prepare_cached("SELECT at FROM keys WHERE key = ?")?
        .query_row([key], |row| row.get(0))
        .optional()?;
    match at {
        Some(at) if at > now - KEY_MS => Err(Trouble::Refused(StoreError::KeyTaken)),
        Some(_) => {
            conn.execute("DELETE FROM keys WHERE key = ?", [key])?;
            Ok(())
        }
        None => Ok(()),
    }
}

fn key_sum(key: &KeyRecord, no: i64, at: i64) -> i64 {
    let sum = Sum::of("keys").text(&key.key).int(no).int(at);
    sum.bytes(&key.digest.0).text(&key.answer).done()
}

fn add_key(conn: &Connection, no: i64, key: &KeyRecord, at: i64) -> Result<(), Trouble> {
    conn.prepare_cached(
        "INSERT OR REPLACE INTO keys(key, session, at, digest, answer, crc) \
         VALUES(?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![key.key, no, at, key.digest.0, key.answer, key_sum(key, no, at)])?;
    Ok(())
}

/// The record of a key. There is nothing to make a damaged one anew from.
pub(super) fn key(conn: &Connection, key: &str) -> Result<Option<KeptKey>, Trouble> {
    let bad = || Trouble::Damaged(format!("the idempotency key `{key}` is damaged"));
    let mut statement = conn
        .prepare_cached("SELECT key, digest, answer, session, at, crc FROM keys WHERE key = ?")?;
    let mut rows = statement.query([key])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let read = || -> rusqlite::Result<(KeyRecord, [i64; 3])> {
        let record = KeyRecord { key: row.get(0)?, digest: Hash(row.get(1)?), answer: row.get(2)? };
        Ok((record, [row.get(3)?, row.get(4)?, row.get(5)?]))
    };
    let (record, [no, at, crc]) = read().map_err(|_| bad())?;
    let whole = key_sum(&record, no, at) == crc && record.key == key;
    if whole { Ok(Some(KeptKey { record, at: Timestamp(at) })) } else { Err(bad()) }
}

/// Keeps a key without a commit.
pub(super) fn keep_key(
    conn: &Connection,
    session: SessionId,
    kept: &KeptKey,
) -> Result<(), Trouble> {
    free(conn, &kept.record.key, kept.at.0)?;
    let Some(session) = sessions::number(conn, session)? else {
        return Err(Trouble::Refused(StoreError::NotNext));
    };
    add_key(conn, session.no, &kept.record, kept.at.0)
}

/// Drops the keys whose time is over.
pub(super) fn drop_old_keys(conn: &Connection, now: i64) -> rusqlite::Result<usize> {
    conn.execute("DELETE FROM keys WHERE at <= ?", [now - KEY_MS])
}

/// Stores the bytes of a blob for a session: they stay as long as one is there for which they came or
/// which names them.
pub(super) fn add_blob(conn: &Connection, no: i64, blob: &NewBlob) -> Result<(), Trouble> {
    if Hash::of(&blob.bytes) != blob.hash {
        let text = format!("the bytes of blob `{BLOB_PREFIX}{}` are others", blob.hash);
        return Err(Trouble::Refused(StoreError::Unavailable(text)));
    }
    conn.prepare_cached("INSERT OR IGNORE INTO blobs(hash, data) VALUES(?, ?)")?
        .execute(params![blob.hash.0, blob.bytes])?;
    conn.prepare_cached(
        "INSERT OR IGNORE INTO blob_refs(session, blob) SELECT ?, id FROM blobs WHERE hash = ?",
    )?
    .execute(params![no, blob.hash.0])?;
    Ok(())
}

/// Notes every blob that this value names, so that a deletion frees those that nothing else names.
fn refer(conn: &Connection, no: i64, value: &Value) -> Result<(), Trouble> {
    match value {
        Value::String(text) => {
            if let Some(hash) = text.strip_prefix(BLOB_PREFIX).and_then(Hash::from_hex) {
                // One that another session on its way brings would stay when that one does not come.
                conn.prepare_cached(&format!(
                    "INSERT OR IGNORE INTO blob_refs(session, blob) \
                     SELECT ?, b.id FROM blobs b WHERE b.hash = ? AND {SEEN_BLOB}"
                ))?
                .execute(params![no, hash.0])?;
            }
            Ok(())
        }
        Value::Array(values) => values.iter().try_for_each(|it| refer(conn, no, it)),
        Value::Object(members) => members.values().try_for_each(|it| refer(conn, no, it)),
        _ => Ok(()),
    }
}

/// Removes a blob that no session names.
pub(super) fn drop_unnamed(conn: &Connection, blob: i64) -> Result<(), Trouble> {
    conn.prepare_cached(
        "DELETE FROM blobs WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM blob_refs WHERE blob = ?1)",
    )?
    .execute([blob])?;
    Ok(())
}

/// Removes all that belongs to a session, and the blobs that no other session names.
fn delete(conn: &Connection, session: SessionId) -> Result<(), Trouble> {
    let Some(gone) = sessions::number(conn, session)? else { return Ok(()) };
    let mut statement = conn.prepare_cached("SELECT blob FROM blob_refs WHERE session = ?")?;
    let blobs: Vec<i64> =
        statement.query_map([gone.no], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    conn.execute("DELETE FROM sessions WHERE no = ?", [gone.no])?;
    blobs.into_iter().try_for_each(|it| drop_unnamed(conn, it))
}

/// The checksum of a kept piece.
pub(super) fn partial_sum(no: i64, task: &[u8], message: &[u8], pieces: &str) -> i64 {
    Sum::of("partials").int(no).bytes(task).bytes(message).text(pieces).done()
}

/// Keeps a piece of an unfinished message. One that comes after its message, its task's end or its
/// session's deletion is of no use any more.
pub(super) fn keep_partial(conn: &Connection, piece: &PartialPiece) -> Result<(), Trouble> {
    let Some(session) = sessions::number(conn, piece.session)? else { return Ok(()) };
    let no = session.no;
    let over = things::task(conn, Some(no), piece.task)?.is_some_and(|it| it.is_final());
    if over || things::message(conn, no, piece.message)?.is_some() {
        return Ok(());
    }
    let (task, message) = (piece.task.bytes(), piece.message.bytes());
    if piece.reset {
        conn.prepare_cached("DELETE FROM partials WHERE session = ? AND task = ?")?
            .execute(params![no, task])?;
    }
    if piece.pieces.is_empty() {
        return Ok(());
    }
    let pieces = serde_json::to_string(&piece.pieces).expect("pieces are plain JSON");
    let crc = partial_sum(no, &task, &message, &pieces);
    conn.prepare_cached(
        "INSERT INTO partials(session, task, message, pieces, crc) VALUES(?, ?, ?, ?, ?)",
    )?
    .execute(params![no, task, message, pieces, crc])?;
    Ok(())
}
