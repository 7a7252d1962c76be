//! How does a store come out of what was found: each session as far as its chain of hashes holds, and what is missing?

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::Write;
use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use serde_json::Value;
use sess_protocol::id::SessionId;
use sess_protocol::view::Members;

use super::super::open::{self, OpenError};
use super::super::projection::Fold;
use super::super::rows::{Numbered, Trouble};
use super::super::{change, log, schema};
use super::found::Found;
use super::{Missing, Part};
use crate::store::{Commit, Hash};

/// What the name of a blob stands behind in an event.
const BLOB_MEMBER: &str = "\"blob\":\"sha256:";
/// Digits of a hash.
const HASH_DIGITS: usize = 64;

/// A start of a session: its number, its id and where its first commit was found.
struct Start {
    no: i64,
    id: SessionId,
    rank: i64,
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Rebuilt {
    pub(super) sessions: u64,
    pub(super) commits: u64,
    pub(super) missing: Vec<Missing>,
    /// Sessions of which something came out of a backup.
    pub(super) from_backup: Vec<SessionId>,
}

/// Makes a store at `path` of what was found; what does not follow is written to `rest`.
pub(super) fn rebuild(
    found: &Found,
    path: &Path,
    history: &str,
    rest: &Path,
) -> Result<Rebuilt, OpenError> {
    let mut conn = open::connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    conn.pragma_update(None, "page_size", i64::from(open::PAGE_BYTES))?;
    conn.execute_batch("PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF")?;
    let folder = path.parent().unwrap_or(path);
    schema::migrate(&mut conn, folder, schema::MIGRATIONS)?;
    conn.execute("INSERT OR REPLACE INTO meta VALUES('history', ?)", [history])?;
    let mut work =
        Work { found, conn, deleted: HashSet::new(), rest: None, done: Rebuilt::default() };
    let damaged = |trouble: Trouble| OpenError::Damaged(trouble.answer().to_string());
    work.all(rest).map_err(damaged)?;
    let Work { conn, done, rest, .. } = work;
    if let Some(rest) = rest {
        rest.into_inner().map_err(|err| err.into_error())?.sync_all()?;
    }
    conn.close().map_err(|(_, err)| err)?;
    Ok(done)
}

struct Work<'f> {
    found: &'f Found,
    conn: Connection,
    /// Sessions that the global log says are deleted.
    deleted: HashSet<SessionId>,
    rest: Option<std::io::BufWriter<std::fs::File>>,
    done: Rebuilt,
}

impl Work<'_> {
    fn all(&mut self, rest: &Path) -> Result<(), Trouble> {
        self.conn.execute_batch("BEGIN")?;
        self.blobs()?;
        let mut starts = self.starts()?;
        self.note_deleted()?;
        // The log of facts of no session first: it says what was deleted.
        starts.sort_by_key(|it| (it.id != SessionId::GLOBAL, it.no));
        let (mut built, mut next) = (BTreeMap::new(), 1 + self.greatest()?);
        for start in starts {
            if self.deleted.contains(&start.id) || built.contains_key(&start.id) {
                continue;
            }
            let free = !built.values().any(|it| *it == start.no);
            let no = if free { start.no } else { next };
            next += i64::from(!free);
            let number = Numbered { no, id: start.id };
            self.session(number, start.no, rest)?;
            built.insert(start.id, no);
        }
        self.gone(&built)?;
        self.beside()?;
        self.lost_blobs()?;
        self.conn.execute(
            "DELETE FROM blobs WHERE NOT EXISTS (SELECT 1 FROM blob_refs WHERE blob = id)",
            (),
        )?;
        self.conn.execute_batch("COMMIT")?;
        Ok(())
    }

    fn blobs(&self) -> Result<(), Trouble> {
        let mut statement = self.found.conn.prepare("SELECT hash, data FROM found_blobs")?;
        let mut rows = statement.query(())?;
        let mut into = self.conn.prepare("INSERT OR IGNORE INTO blobs(hash, data) VALUES(?, ?)")?;
        while let Some(row) = rows.next()? {
            let (hash, data): ([u8; 32], Vec<u8>) = (row.get(0)?, row.get(1)?);
            into.execute(params![hash, data])?;
        }
        Ok(())
    }

    fn greatest(&self) -> Result<i64, Trouble> {
        let sql = "SELECT max(no) FROM found_log WHERE rank != 3";
        let greatest: Option<i64> = self.found.conn.query_row(sql, (), |row| row.get(0))?;
        Ok(greatest.unwrap_or(0).max(self.found.numbers()?.last().copied().unwrap_or(0)))
    }

    /// Each first commit that proves whose it is, of the numbers that stand for a session.
    fn starts(&self) -> Result<Vec<Start>, Trouble> {
        let listed: HashSet<i64> = self.found.numbers()?.into_iter().collect();
        let mut starts = Vec::new();
        let sql = "SELECT no, hash, body, rank FROM found_log WHERE first = 1 AND rank != 3 ORDER BY rank, no";
        let mut statement = self.found.conn.prepare(sql)?;
        let mut rows = statement.query(())?;
        while let Some(row) = rows.next()? {
            let (no, hash): (i64, [u8; 32]) = (row.get(0)?, row.get(1)?);
            let (body, rank): (String, i64) = (row.get(2)?, row.get(3)?);
            let Some(id) = log::proven_id(&body, Hash(hash)) else { continue };
            // What only lies around may be a session that is long deleted, under a number that is another's now.
            let known = self.found.ids(no)?;
            let is_listed = known.contains(&id.bytes());
            let may_be = if self.found.lists.sessions { is_listed } else { rank != 1 || is_listed };
            if listed.contains(&no) && may_be {
                starts.push(Start { no, id, rank });
            }
        }
        starts.sort_by_key(|it| it.rank);
        Ok(starts)
    }

    /// Walks all facts of no session that were found, also those which do not follow any more.
    fn note_deleted(&mut self) -> Result<(), Trouble> {
        let sql =
            "SELECT body FROM found_log WHERE rank IN (0, 1) AND body LIKE '%session.deleted%'";
        let mut statement = self.found.conn.prepare(sql)?;
        let mut rows = statement.query(())?;
        while let Some(row) = rows.next()? {
            let body: String = row.get(0)?;
            let body: Value = serde_json::from_str(&body).unwrap_or_default();
            let events = body.as_array().or_else(|| body.get("events")?.as_array());
            for event in events.into_iter().flatten() {
                if event["type"] == "session.deleted"
                    && let Some(id) =
                        event["data"]["deleted"].as_str().and_then(|it| it.parse().ok())
                {
                    self.deleted.insert(id);
                }
            }
        }
        Ok(())
    }

    /// Builds a session whose commits were found under the number `old`.
    fn session(&mut self, session: Numbered, old: i64, rest: &Path) -> Result<(), Trouble> {
        self.conn.execute(
            "INSERT INTO sessions(no, id, seq, head, updated_at, active_at, created_at, status, scope, \
             agent, title, spoken, unsettled, thing, crc) \
             VALUES(?, ?, 0, zeroblob(32), 0, 0, 0, '', '', '', '', 0, 0, '', 0)",
            params![session.no, session.id.bytes()],
        )?;
        let conn = &self.conn;
        let mut fold = Fold::of(conn, session, Members::new());
        let (mut head, mut next, mut ranks) = (Hash::default(), 1, BTreeSet::new());
        while let Some((hash, body, rank)) = following(self.found, session.id, old, (head, next))? {
            let Ok(commit) = Commit::read(head, body) else { break };
            let is_same = commit.hash == hash || crate::sabotage::is("doctor_believes_all");
            if !is_same || commit.session != session.id || commit.first() != next {
                break;
            }
            change::take_in(conn, session, &commit, &mut fold)?;
            (head, next) = (hash, commit.last() + 1);
            self.done.commits += 1;
            ranks.insert(rank);
        }
        if next == 1 {
            self.conn.execute("DELETE FROM sessions WHERE no = ?", [session.no])?;
            return self.missing_of(session.id, old, next);
        }
        fold.finish((next - 1, head), None)?;
        self.done.sessions += u64::from(session.id != SessionId::GLOBAL);
        if ranks.contains(&2) {
            self.done.from_backup.push(session.id);
        }
        self.missing_of(session.id, old, next)?;
        self.keep_rest(session.id, old, next, rest)
    }

    /// Says what is missing behind the end of a session's chain.
    fn missing_of(&mut self, id: SessionId, old: i64, next: u64) -> Result<(), Trouble> {
        let said = self.found.said_end(old)?;
        let last = said.map_or_else(|| self.found.seen_end(old), Ok)?.unsigned_abs();
        if last >= next {
            let what = Part::Events { first: next, last: said.map(|it| it.unsigned_abs()) };
            self.done.missing.push(Missing { session: Some(id), what });
        }
        Ok(())
    }

    /// Keeps the commits behind a gap for people: no chain proves them, so that they are in no session.
    fn keep_rest(
        &mut self,
        id: SessionId,
        old: i64,
        next: u64,
        path: &Path,
    ) -> Result<(), Trouble> {
        let sql = "SELECT first, last, hash, body FROM found_log \
                   WHERE no = ? AND first >= ? AND rank = 0 ORDER BY first";
        let mut statement = self.found.conn.prepare(sql)?;
        let mut rows = statement.query(params![old, next.cast_signed()])?;
        while let Some(row) = rows.next()? {
            let (first, last): (i64, i64) = (row.get(0)?, row.get(1)?);
            let (hash, body): ([u8; 32], String) = (row.get(2)?, row.get(3)?);
            let line = serde_json::json!({
                "session": id, "first": first, "last": last, "hash": Hash(hash).to_string(), "body": body,
            });
            let bad =
                |err: std::io::Error| Trouble::Damaged(format!("`{}`: {err}", path.display()));
            let file = match &mut self.rest {
                Some(file) => file,
                none => {
                    none.insert(std::io::BufWriter::new(super::private_file(path).map_err(bad)?))
                }
            };
            writeln!(file, "{line}").map_err(bad)?;
        }
        Ok(())
    }

    /// Names the sessions of which nothing can be saved.
    fn gone(&mut self, built: &BTreeMap<SessionId, i64>) -> Result<(), Trouble> {
        let taken: HashSet<i64> = built.values().copied().collect();
        for no in self.found.numbers()?.into_iter().filter(|it| !taken.contains(it)) {
            let ids = self.found.ids(no)?;
            let known = ids.into_iter().map(SessionId::from_bytes);
            let known: Vec<_> = known
                .filter(|it| !self.deleted.contains(it) && !built.contains_key(it))
                .map(Some)
                .collect();
            let last = self.found.said_end(no)?.map(|it| it.unsigned_abs());
            // A number that only rows of a deleted session have is nobody's.
            let nameless = known.is_empty() && self.found.ids(no)?.is_empty();
            let is_left = nameless && self.found.seen_end(no)? == 0;
            let whose = if nameless { vec![None] } else { known };
            for session in whose.into_iter().filter(|_| !is_left) {
                let what = Part::Events { first: 1, last };
                self.done.missing.push(Missing { session, what });
            }
        }
        Ok(())
    }

    /// Keys and unfinished texts, of sessions that are there.
    fn beside(&self) -> Result<(), Trouble> {
        let there = |no: i64| -> rusqlite::Result<bool> {
            let sql = "SELECT EXISTS(SELECT 1 FROM sessions WHERE no = ?)";
            self.conn.prepare_cached(sql)?.query_row([no], |row| row.get(0))
        };
        for (from, into) in [
            (
                "SELECT key, no, at, digest, answer, crc FROM found_keys",
                "INSERT INTO keys(key, session, at, digest, answer, crc) VALUES(?, ?, ?, ?, ?, ?)",
            ),
            (
                "SELECT id, no, task, message, pieces, crc FROM found_partials ORDER BY id",
                "INSERT INTO partials(id, session, task, message, pieces, crc) VALUES(?, ?, ?, ?, ?, ?)",
            ),
        ] {
            let mut statement = self.found.conn.prepare(from)?;
            let mut rows = statement.query(())?;
            let mut into = self.conn.prepare(into)?;
            while let Some(row) = rows.next()? {
                if there(row.get(1)?)? {
                    let columns: Vec<rusqlite::types::Value> =
                        (0..6).map(|it| row.get(it)).collect::<rusqlite::Result<_>>()?;
                    into.execute(rusqlite::params_from_iter(columns))?;
                }
            }
        }
        Ok(())
    }

    /// Names the blobs that saved events name and that are not there.
    fn lost_blobs(&mut self) -> Result<(), Trouble> {
        let mut lost = BTreeSet::new();
        {
            let mut statement = self
                .conn
                .prepare("SELECT s.id, l.body FROM log l JOIN sessions s ON s.no = l.session")?;
            let mut rows = statement.query(())?;
            let mut has = self.conn.prepare("SELECT 1 FROM blobs WHERE hash = ?")?;
            while let Some(row) = rows.next()? {
                let id = SessionId::from_bytes(row.get(0)?);
                let kept: String = row.get(1)?;
                let body = log::json(&kept).unwrap_or_default();
                for after in body.split(BLOB_MEMBER).skip(1) {
                    let Some(hash) = after.get(..HASH_DIGITS).and_then(Hash::from_hex) else {
                        continue;
                    };
                    let there: Option<i64> =
                        has.query_row([hash.0], |row| row.get(0)).optional()?;
                    if there.is_none() {
                        lost.insert((id, hash.0));
                    }
                }
            }
        }
        let named = lost
            .into_iter()
            .map(|(id, hash)| Missing { session: Some(id), what: Part::Blob(Hash(hash)) });
        self.done.missing.extend(named);
        Ok(())
    }
}

/// The commit that goes on behind this hash, by the chain; of several places the best.
fn following(
    found: &Found,
    id: SessionId,
    no: i64,
    (head, next): (Hash, u64),
) -> Result<Option<(Hash, String, i64)>, Trouble> {
    let mut statement = found.conn.prepare_cached(
        "SELECT hash, body, rank FROM found_log WHERE no = ? AND first = ? ORDER BY rank",
    )?;
    let mut rows = statement.query(params![no, next.cast_signed()])?;
    while let Some(row) = rows.next()? {
        let (hash, body): ([u8; 32], String) = (row.get(0)?, row.get(1)?);
        let body = log::whole(id, &body);
        let follows = Hash::chained(head, body.as_bytes()) == Hash(hash);
        if follows || crate::sabotage::is("doctor_believes_all") {
            return Ok(Some((Hash(hash), body, row.get(2)?)));
        }
    }
    Ok(None)
}
