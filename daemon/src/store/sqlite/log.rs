//! The log: commits in the order in which they were made, each proved before it is believed.

use std::borrow::Cow;
use std::collections::HashMap;

use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, params};
use serde::Deserialize;
use serde_json::value::RawValue;
use sess_protocol::event::Event;
use sess_protocol::id::SessionId;
use sess_protocol::view::Members;

use super::rows::{Columns, Numbered, Sum, Trouble, count, int};
use super::short;
use crate::store::{Hash, StoredCommit, StoredEvent};

const COLUMNS: &str = "session, first, last, hash, body, private, crc";

/// One commit as it lies in the log.
#[derive(Debug)]
pub(super) struct Entry {
    /// The number of its first event.
    pub(super) first: u64,
    /// The number of its last event.
    pub(super) last: u64,
    /// Its hash.
    pub(super) hash: Hash,
    /// Its body.
    pub(super) body: String,
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    session: Cow<'a, str>,
    #[serde(borrow)]
    events: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Numbers {
    seq: u64,
}

#[derive(Deserialize)]
struct Data<'a> {
    #[serde(borrow)]
    data: HashMap<Cow<'a, str>, &'a RawValue>,
}

/// The checksum of a row of the log.
pub(super) fn sum(no: i64, first: i64, last: i64, rest: (&[u8], &[u8], Option<&[u8]>)) -> i64 {
    let (hash, body, private) = rest;
    Sum::of("log").int(no).int(first).int(last).bytes(hash).bytes(body).maybe(private).done()
}

/// What stands around the events in the body of nearly every commit. It follows from the session, so
/// that the events alone are kept then.
fn around(session: SessionId) -> (String, &'static str) {
    (format!("{{\"session\":\"{session}\",\"epoch\":0,\"events\":"), "}")
}

/// What is kept of a body: its events, in a short form, or all of one that has more to say.
fn kept(session: SessionId, body: &str) -> Cow<'_, str> {
    let (before, behind) = around(session);
    let events = body.strip_prefix(before.as_str()).and_then(|it| it.strip_suffix(behind));
    // A body with further members behind its events ends in something else.
    let events = events.filter(|it| it.starts_with('[') && it.ends_with(']'));
    match events.map(|it| (it, short::shortened(it))) {
        None => Cow::Borrowed(body),
        Some((events, None)) => Cow::Borrowed(events),
        Some((_, Some(short))) => Cow::Owned(short),
    }
}

/// The JSON of which this was kept, or nothing where nobody can have kept it: events, or a whole body.
pub(super) fn json(kept: &str) -> Option<Cow<'_, str>> {
    if kept.as_bytes().first() == Some(&short::MARK) {
        return short::expanded(kept).map(Cow::Owned);
    }
    Some(Cow::Borrowed(kept))
}

/// The body, byte for byte, of which this JSON was kept.
pub(super) fn whole(session: SessionId, json: &str) -> String {
    if !json.starts_with('[') {
        return json.to_owned();
    }
    let (mut body, behind) = around(session);
    body.reserve_exact(json.len() + behind.len());
    body.push_str(json);
    body.push_str(behind);
    body
}

/// The id that a session's first commit, as it is kept, proves by its hash: its first event makes the session
/// and says its id; that of the reserved log says none.
pub(super) fn proven_id(kept: &str, hash: Hash) -> Option<SessionId> {
    let json = json(kept)?;
    let body: serde_json::Value = serde_json::from_str(&json).ok()?;
    let first = body.get(0).or_else(|| body.get("events")?.get(0));
    let named = first.and_then(|it| it.pointer("/data/session/id")?.as_str()?.parse().ok());
    [named, Some(SessionId::GLOBAL)]
        .into_iter()
        .flatten()
        .find(|id| Hash::chained(Hash::default(), whole(*id, &json).as_bytes()) == hash)
}

/// Adds a commit.
pub(super) fn append(
    conn: &Connection,
    session: Numbered,
    (first, last): (u64, u64),
    (hash, body): (Hash, &str),
) -> rusqlite::Result<()> {
    let (first, last, body) = (int(first), int(last), kept(session.id, body));
    let crc = sum(session.no, first, last, (&hash.0, body.as_bytes(), None));
    conn.prepare_cached(
        "INSERT INTO log(session, first, last, hash, body, crc) VALUES(?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![session.no, first, last, hash.0, body, crc])?;
    Ok(())
}

fn entry(row: &Row<'_>, session: Numbered, seq: u64) -> Result<Entry, Trouble> {
    let bad = |_| session.damaged(seq, "a column cannot be read");
    let mut columns = Columns::of(row);
    let no: i64 = columns.take().map_err(bad)?;
    let first: i64 = columns.take().map_err(bad)?;
    let last: i64 = columns.take().map_err(bad)?;
    let hash = columns.hash().map_err(bad)?;
    let body = columns.bytes().map_err(bad)?;
    let private: Option<Vec<u8>> = columns.take().map_err(bad)?;
    let crc: i64 = columns.take().map_err(bad)?;
    let sound = sum(no, first, last, (&hash.0, body, private.as_deref())) == crc;
    if (!sound || no != session.no) && !crate::sabotage::is("no_hash_check") {
        return Err(session.damaged(seq, "the checksum does not match"));
    }
    let body =
        std::str::from_utf8(body).map_err(|_| session.damaged(seq, "the body is not UTF-8"))?;
    let json = json(body).ok_or_else(|| session.damaged(seq, "the body cannot be opened"))?;
    Ok(Entry { first: count(first), last: count(last), hash, body: whole(session.id, &json) })
}

/// The commit that holds this event.
pub(super) fn holding(
    conn: &Connection,
    session: Numbered,
    seq: u64,
) -> Result<Option<Entry>, Trouble> {
    let sql = format!(
        "SELECT {COLUMNS} FROM log WHERE session = ? AND first <= ? ORDER BY first DESC LIMIT 1"
    );
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query(params![session.no, int(seq)])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let entry = entry(row, session, seq)?;
    Ok(Some(entry).filter(|it| it.last >= seq))
}

/// The commit that holds an event which a projection names, so that it has to be there.
pub(super) fn held(conn: &Connection, session: Numbered, seq: u64) -> Result<Entry, Trouble> {
    holding(conn, session, seq)?.ok_or_else(|| session.damaged(seq, "the event is missing"))
}

impl Entry {
    fn body(&self, session: Numbered) -> Result<Body<'_>, Trouble> {
        let body: Body<'_> = serde_json::from_str(&self.body)
            .map_err(|_| session.damaged(self.first, "the body is not the JSON of a commit"))?;
        let dense = self.last.checked_sub(self.first).map(|it| it + 1);
        if dense != Some(body.events.len() as u64) {
            return Err(session.damaged(self.first, "the numbers of its events are not dense"));
        }
        Ok(body)
    }

    /// Its events as they lie in it.
    pub(super) fn raw_events(&self, session: Numbered) -> Result<Vec<&RawValue>, Trouble> {
        let body = self.body(session)?;
        if body.session != session.id.to_string() {
            return Err(session.damaged(self.first, "the commit is of another session"));
        }
        for (event, seq) in body.events.iter().zip(self.first..) {
            let numbers: Result<Numbers, _> = serde_json::from_str(event.get());
            if numbers.map_or(true, |it| it.seq != seq) {
                return Err(session.damaged(seq, "the event has another number"));
            }
        }
        Ok(body.events)
    }

    /// Its events, read.
    pub(super) fn events(&self, session: Numbered) -> Result<Vec<Event>, Trouble> {
        let raw = self.raw_events(session)?.into_iter().zip(self.first..);
        raw.map(|(raw, seq)| {
            serde_json::from_str(raw.get())
                .map_err(|_| session.damaged(seq, "the event cannot be read"))
        })
        .collect()
    }

    /// What an event says of the thing of this kind, byte for byte, if it says anything.
    pub(super) fn thing_if_any(
        &self,
        session: Numbered,
        seq: u64,
        kind: &str,
    ) -> Result<Option<Box<RawValue>>, Trouble> {
        let body = self.body(session)?;
        let place = seq.checked_sub(self.first).and_then(|it| usize::try_from(it).ok());
        let event = place.and_then(|it| body.events.get(it));
        let data: Option<Data<'_>> = event.and_then(|it| serde_json::from_str(it.get()).ok());
        Ok(data.and_then(|it| it.data.get(kind).map(|it| (*it).to_owned())))
    }

    /// What an event must say of the thing of this kind.
    pub(super) fn thing(
        &self,
        session: Numbered,
        seq: u64,
        kind: &str,
    ) -> Result<Box<RawValue>, Trouble> {
        let thing = self.thing_if_any(session, seq, kind)?;
        thing.ok_or_else(|| session.damaged(seq, &format!("the event has no `{kind}`")))
    }

    /// The same, read.
    pub(super) fn members(
        &self,
        session: Numbered,
        seq: u64,
        kind: &str,
    ) -> Result<Members, Trouble> {
        let raw = self.thing(session, seq, kind)?;
        serde_json::from_str(raw.get())
            .map_err(|_| session.damaged(seq, &format!("its `{kind}` cannot be read")))
    }
}

/// Walks commits in order and proves that each follows the one before it.
pub(super) struct Chain<'c> {
    session: Numbered,
    before: Hash,
    next: u64,
    statement: CachedStatement<'c>,
}

impl<'c> Chain<'c> {
    /// From the commit that holds this event on.
    pub(super) fn from(conn: &'c Connection, session: Numbered, seq: u64) -> Result<Self, Trouble> {
        let start: Option<i64> = conn
            .prepare_cached("SELECT max(first) FROM log WHERE session = ? AND first <= ?")?
            .query_row(params![session.no, int(seq)], |row| row.get(0))?;
        let next = start.map_or(seq, count);
        let before = if next <= 1 { Hash::default() } else { hash_at(conn, session, next - 1)? };
        let sql = format!("SELECT {COLUMNS} FROM log WHERE session = ? AND first = ?");
        Ok(Self { session, before, next, statement: conn.prepare_cached(&sql)? })
    }

    /// The next commit, if the log goes on.
    pub(super) fn step(&mut self) -> Result<Option<Entry>, Trouble> {
        let mut rows = self.statement.query(params![self.session.no, int(self.next)])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let entry = entry(row, self.session, self.next)?;
        if !crate::sabotage::is("no_hash_check") {
            if entry.first != self.next || entry.last < entry.first {
                return Err(self.session.damaged(self.next, "the event is missing"));
            }
            if Hash::chained(self.before, entry.body.as_bytes()) != entry.hash {
                return Err(self.session.damaged(entry.first, "the chain of hashes is broken"));
            }
        }
        (self.before, self.next) = (entry.hash, entry.last + 1);
        Ok(Some(entry))
    }

    /// The hash of the commit that was walked over last, and the number of the event behind it.
    pub(super) fn end(&self) -> (Hash, u64) {
        (self.before, self.next)
    }
}

fn hash_at(conn: &Connection, session: Numbered, last: u64) -> Result<Hash, Trouble> {
    let found: Option<(i64, [u8; 32])> = conn
        .prepare_cached(
            "SELECT last, hash FROM log WHERE session = ? AND first <= ? ORDER BY first DESC LIMIT 1",
        )?
        .query_row(params![session.no, int(last)], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
        .map_err(|_| session.damaged(last, "a column cannot be read"))?;
    match found {
        Some((end, hash)) if count(end) == last => Ok(Hash(hash)),
        _ => Err(session.damaged(last, "the event is missing")),
    }
}

/// The events behind `after` until `last`, or until about `bytes` are read.
pub(super) fn events(
    conn: &Connection,
    session: Numbered,
    (after, last): (u64, u64),
    bytes: usize,
) -> Result<Vec<StoredEvent>, Trouble> {
    let mut found: Vec<StoredEvent> = Vec::new();
    if after >= last {
        return Ok(found);
    }
    let (mut chain, mut read) = (Chain::from(conn, session, after + 1)?, 0);
    loop {
        let Some(entry) = chain.step()? else {
            let next = found.last().map_or(after, |it| it.seq) + 1;
            return Err(session.damaged(next, "the event is missing"));
        };
        for (json, seq) in entry.raw_events(session)?.into_iter().zip(entry.first..) {
            if seq <= after {
                continue;
            }
            read += json.get().len();
            if seq > last || (read > bytes && !found.is_empty()) {
                return Ok(found);
            }
            found.push(StoredEvent { seq, mark: entry.hash.mark(), json: json.to_owned() });
            if seq == last {
                return Ok(found);
            }
        }
    }
}

/// The commits behind the one that ends with `after`, or until about `bytes` are read.
pub(super) fn commits(
    conn: &Connection,
    session: Numbered,
    after: u64,
    bytes: usize,
) -> Result<Vec<StoredCommit>, Trouble> {
    let (mut chain, mut found, mut read) = (Chain::from(conn, session, after + 1)?, Vec::new(), 0);
    while read < bytes {
        let Some(Entry { last, hash, body, .. }) = chain.step()? else { break };
        read += body.len();
        found.push(StoredCommit { last, hash, body });
    }
    Ok(found)
}
