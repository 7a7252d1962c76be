//! What was found of a store, wherever it lay: rows that prove themselves, gathered in a database beside it.
//!
//! Nothing here is believed because of its place. A commit is taken when the chain of hashes holds, a blob
//! when its bytes have its hash, any other row when its checksum is right.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};

use super::super::log;
use super::super::rows::{Sum, Trouble};
use super::cells::{self, Cell};
use super::pages::Pages;
use crate::store::Hash;

/// Rows that are stored in one transaction.
const ROWS_AT_ONCE: u64 = 4096;

/// Where a row was found; of two, the one with the smaller number is preferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// Where SQLite would look.
    Place = 0,
    /// In an older version of a page, in a free one, or behind damage in SQLite's log.
    Left = 1,
    /// In a backup.
    Backup = 2,
    /// In a log that is not known to be this database's.
    Doubtful = 3,
}

const TABLES: &str = "
CREATE TABLE found_log(
  no INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, hash BLOB NOT NULL,
  body TEXT NOT NULL, rank INTEGER NOT NULL, PRIMARY KEY(no, first, hash)
);
CREATE TABLE found_rows(no INTEGER PRIMARY KEY, id BLOB NOT NULL, seq INTEGER NOT NULL);
CREATE TABLE found_ids(no INTEGER NOT NULL, id BLOB NOT NULL, PRIMARY KEY(no, id)) WITHOUT ROWID;
CREATE TABLE found_ends(no INTEGER PRIMARY KEY, last INTEGER NOT NULL);
CREATE TABLE found_keys(
  key TEXT PRIMARY KEY, no INTEGER NOT NULL, at INTEGER NOT NULL, digest BLOB NOT NULL,
  answer TEXT NOT NULL, crc INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE found_partials(
  id INTEGER PRIMARY KEY, no INTEGER NOT NULL, task BLOB NOT NULL, message BLOB NOT NULL,
  pieces TEXT NOT NULL, crc INTEGER NOT NULL
);
CREATE TABLE found_blobs(hash BLOB PRIMARY KEY, data BLOB NOT NULL);
";

/// What was found, and what could not be read on the way.
pub(super) struct Found {
    pub(super) conn: Connection,
    /// The store's own id.
    pub(super) history: Option<String>,
    /// Numbers of sessions that were on their way.
    coming: HashSet<i64>,
    /// The root page of each table and index.
    roots: HashMap<String, u32>,
    /// Pages that should be there and cannot be read.
    pub(super) pages_unread: u64,
    /// Keys whose rows are there and damaged.
    pub(super) bad_keys: u64,
    /// Whether every session that there was has left its id, every key and every unfinished text its row.
    pub(super) lists: Lists,
    added: u64,
}

/// Of which tables all pages were read.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Lists {
    pub(super) sessions: bool,
    pub(super) keys: bool,
    pub(super) partials: bool,
}

impl Found {
    /// Nothing yet, in a database at this path.
    pub(super) fn at(path: &Path) -> Result<Self, Trouble> {
        let conn = Connection::open(path)?;
        conn.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; BEGIN")?;
        conn.execute_batch(TABLES)?;
        Ok(Self {
            conn,
            history: None,
            coming: HashSet::new(),
            roots: HashMap::new(),
            pages_unread: 0,
            bad_keys: 0,
            lists: Lists::default(),
            added: 0,
        })
    }

    /// Takes what SQLite would read, and then all else that lies in the files.
    pub(super) fn take_store(&mut self, pages: &Pages, others: Rank) -> Result<(), Trouble> {
        let free = pages.free();
        let mut read = Read::default();
        self.find_roots(pages);
        let coming = self.root_pages(pages, "importing");
        for no in (1..=pages.count).filter(|no| !free.contains(no) && !pages.is_lock_page(*no)) {
            let Some(page) = pages.page(no) else { continue };
            let found = cells::rows(pages, no, &page);
            read.take(no, &found, page[if no == 1 { 100 } else { 0 }]);
            if coming.contains(&no) {
                self.coming.extend(found.rows.iter().filter_map(|it| it.0));
                continue;
            }
            for (rowid, cells) in &found.rows {
                self.take(Rank::Place, *rowid, cells)?;
            }
        }
        self.pages_unread = (1..=pages.count)
            .filter(|it| !free.contains(it) && !pages.is_lock_page(*it))
            .filter(|it| !read.sane.contains(it) && !read.beside.contains(it))
            .count() as u64;
        let whole = |name: &str| self.is_whole(pages, name, &read.sane);
        self.lists = Lists {
            sessions: whole("sessions") || whole("sqlite_autoindex_sessions_1"),
            keys: whole("keys"),
            partials: whole("partials"),
        };
        for no in free {
            if let Some(page) = pages.page(no) {
                self.take_page(pages, no, &page, Rank::Left)?;
            }
        }
        for spare in &pages.spares {
            if let Some(page) = pages.spare(*spare) {
                self.take_page(pages, spare.no, &page, others)?;
            }
        }
        Ok(())
    }

    /// Takes all commits and blobs of a backup.
    pub(super) fn take_backup(&mut self, pages: &Pages) -> Result<(), Trouble> {
        for no in (1..=pages.count).filter(|no| !pages.is_lock_page(*no)) {
            if let Some(page) = pages.page(no) {
                self.take_page(pages, no, &page, Rank::Backup)?;
            }
        }
        Ok(())
    }

    /// The history that a database says in its own table.
    pub(super) fn history_of(pages: &Pages) -> Option<String> {
        let pages_all = (1..=pages.count).filter_map(|no| Some((no, pages.page(no)?)));
        for (no, page) in pages_all {
            for (_, cells) in cells::rows(pages, no, &page).rows {
                if let [Cell::Text(key), Cell::Text(value)] = cells.as_slice()
                    && key == "history"
                {
                    return Some(value.clone());
                }
            }
        }
        None
    }

    fn take_page(
        &mut self,
        pages: &Pages,
        no: u32,
        page: &[u8],
        rank: Rank,
    ) -> Result<(), Trouble> {
        for (rowid, cells) in cells::rows(pages, no, page).rows {
            self.take(rank, rowid, &cells)?;
        }
        Ok(())
    }

    /// Reads the list of tables; it lies at the beginning and seldom spreads.
    fn find_roots(&mut self, pages: &Pages) {
        for no in pages.tree(1).0 {
            let Some(page) = pages.page(no) else { continue };
            for (_, cells) in cells::rows(pages, no, &page).rows {
                if let [_, Cell::Text(name), _, Cell::Int(root), _] = cells.as_slice()
                    && let Ok(root) = u32::try_from(*root)
                {
                    self.roots.insert(name.clone(), root);
                }
            }
        }
    }

    fn root_pages(&self, pages: &Pages, name: &str) -> HashSet<u32> {
        self.roots.get(name).map(|it| pages.tree(*it).0).unwrap_or_default()
    }

    fn is_whole(&self, pages: &Pages, name: &str, sane: &HashSet<u32>) -> bool {
        let Some(root) = self.roots.get(name) else { return false };
        let (all, whole) = pages.tree(*root);
        whole && all.is_subset(sane)
    }

    /// Takes a row that proves itself, whichever table it is of.
    fn take(&mut self, rank: Rank, rowid: Option<i64>, cells: &[Cell]) -> Result<(), Trouble> {
        self.added += 1;
        if self.added.is_multiple_of(ROWS_AT_ONCE) {
            self.conn.execute_batch("COMMIT; BEGIN")?;
        }
        match (rowid, cells) {
            (Some(_), [Cell::Null, Cell::Int(_), ..]) if cells.len() == 8 => {
                self.take_commit(rank, cells)
            }
            (Some(_), [Cell::Null, Cell::Blob(hash), Cell::Blob(data)]) => {
                if Hash::of(data).0[..] == hash[..] {
                    let sql = "INSERT OR IGNORE INTO found_blobs VALUES(?, ?)";
                    self.conn.prepare_cached(sql)?.execute(params![hash, data])?;
                }
                Ok(())
            }
            _ if rank != Rank::Place => Ok(()),
            (Some(no), [Cell::Null, Cell::Blob(id), ..]) if cells.len() == 16 && id.len() == 16 => {
                self.take_session(no, id, &cells[2..])
            }
            (Some(id), [Cell::Null, rest @ ..]) if rest.len() == 5 => self.take_partial(id, rest),
            (None, [Cell::Text(key), rest @ ..]) if rest.len() == 5 => self.take_key(key, rest),
            (None, [Cell::Text(key), Cell::Text(value)]) if key == "history" => {
                self.history = Some(value.clone());
                Ok(())
            }
            (None, [Cell::Blob(id), Cell::Int(no)]) if id.len() == 16 => self.note_id(*no, id),
            (None, [Cell::Int(no), Cell::Int(first), Cell::Int(_)]) => self.note_end(*no, *first),
            _ => Ok(()),
        }
    }

    fn take_commit(&mut self, rank: Rank, cells: &[Cell]) -> Result<(), Trouble> {
        let [_, Cell::Int(no), Cell::Int(first), Cell::Int(last), hash, body, private, crc] = cells
        else {
            return Ok(());
        };
        let private = match private {
            Cell::Blob(bytes) => Some(bytes.as_slice()),
            _ => None,
        };
        if let (Cell::Blob(hash), Cell::Text(body), Cell::Int(crc)) = (hash, body, crc)
            && (log::sum(*no, *first, *last, (hash, body.as_bytes(), private)) == *crc
                || crate::sabotage::is("doctor_believes_all"))
            && let Some(body) = log::json(body)
        {
            let sql = "INSERT OR IGNORE INTO found_log VALUES(?, ?, ?, ?, ?, ?)";
            let row = params![no, first, last, hash, body, rank as i64];
            self.conn.prepare_cached(sql)?.execute(row)?;
            return if rank == Rank::Place { self.note_end(*no, *last) } else { Ok(()) };
        }
        // A damaged one still says that something was there.
        if rank == Rank::Place { self.note_end(*no, *first) } else { Ok(()) }
    }

    fn take_session(&mut self, no: i64, id: &[u8], rest: &[Cell]) -> Result<(), Trouble> {
        // One whose checksum is wrong says no more than that something was there.
        let (Some((sum, crc)), Cell::Int(seq)) = (session_sum(no, id, rest), &rest[0]) else {
            return self.note_end(no, 1);
        };
        if sum != crc {
            return self.note_end(no, 1);
        }
        let sql = "INSERT OR IGNORE INTO found_rows VALUES(?, ?, ?)";
        self.conn.prepare_cached(sql)?.execute(params![no, id, seq])?;
        self.note_id(no, id)
    }

    fn note_id(&mut self, no: i64, id: &[u8]) -> Result<(), Trouble> {
        let sql = "INSERT OR IGNORE INTO found_ids VALUES(?, ?)";
        self.conn.prepare_cached(sql)?.execute(params![no, id])?;
        Ok(())
    }

    /// Keeps the greatest number that is known of a session.
    fn note_end(&mut self, no: i64, last: i64) -> Result<(), Trouble> {
        let sql = "INSERT INTO found_ends VALUES(?, ?) \
                   ON CONFLICT(no) DO UPDATE SET last = max(last, excluded.last)";
        self.conn.prepare_cached(sql)?.execute(params![no, last])?;
        Ok(())
    }

    fn take_partial(&mut self, id: i64, rest: &[Cell]) -> Result<(), Trouble> {
        if let [
            Cell::Int(no),
            Cell::Blob(task),
            Cell::Blob(message),
            Cell::Text(pieces),
            Cell::Int(crc),
        ] = rest
            && super::super::change::partial_sum(*no, task, message, pieces) == *crc
        {
            let sql = "INSERT OR IGNORE INTO found_partials VALUES(?, ?, ?, ?, ?, ?)";
            let row = params![id, no, task, message, pieces, crc];
            self.conn.prepare_cached(sql)?.execute(row)?;
        }
        Ok(())
    }

    fn take_key(&mut self, key: &str, rest: &[Cell]) -> Result<(), Trouble> {
        let [Cell::Int(no), Cell::Int(at), Cell::Blob(digest), Cell::Text(answer), Cell::Int(crc)] =
            rest
        else {
            return Ok(());
        };
        let sum = Sum::of("keys").text(key).int(*no).int(*at).bytes(digest).text(answer).done();
        if sum != *crc {
            self.bad_keys += 1;
            return Ok(());
        }
        let sql = "INSERT OR IGNORE INTO found_keys VALUES(?, ?, ?, ?, ?, ?)";
        let row = params![key, no, at, digest, answer, crc];
        self.conn.prepare_cached(sql)?.execute(row)?;
        Ok(())
    }

    /// Ends what is under way: all is there for who asks.
    pub(super) fn flush(&self) -> Result<(), Trouble> {
        Ok(self.conn.execute_batch("COMMIT; BEGIN")?)
    }

    /// All numbers that stand for a session. What was deleted may have left rows, and so has what was on its way:
    /// they count only where the list of sessions itself is not whole.
    pub(super) fn numbers(&self) -> Result<Vec<i64>, Trouble> {
        let listed = "SELECT no FROM found_ids";
        let all = "SELECT no FROM found_log WHERE rank != 3 UNION SELECT no FROM found_ids \
                   UNION SELECT no FROM found_ends";
        let mut statement = self.conn.prepare(if self.lists.sessions { listed } else { all })?;
        let mut numbers: Vec<i64> =
            statement.query_map((), |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        numbers.retain(|it| !self.coming.contains(it));
        numbers.sort_unstable();
        numbers.dedup();
        Ok(numbers)
    }

    /// The ids that a number was found with, the one that proves itself alone where there is such a one.
    pub(super) fn ids(&self, no: i64) -> Result<Vec<[u8; 16]>, Trouble> {
        let sql = "SELECT id FROM found_rows WHERE no = ?1 UNION SELECT id FROM found_ids \
                   WHERE no = ?1 AND NOT EXISTS (SELECT 1 FROM found_rows WHERE no = ?1)";
        let mut statement = self.conn.prepare_cached(sql)?;
        let ids = statement.query_map([no], |row| row.get(0))?;
        Ok(ids.collect::<rusqlite::Result<_>>()?)
    }

    /// The number that a session's own row says of its last event.
    pub(super) fn said_end(&self, no: i64) -> Result<Option<i64>, Trouble> {
        let mut statement = self.conn.prepare_cached("SELECT seq FROM found_rows WHERE no = ?")?;
        Ok(statement.query_row([no], |row| row.get(0)).optional()?)
    }

    /// The greatest number that anything says.
    pub(super) fn seen_end(&self, no: i64) -> Result<i64, Trouble> {
        let mut statement = self.conn.prepare_cached("SELECT last FROM found_ends WHERE no = ?")?;
        let seen: Option<i64> = statement.query_row([no], |row| row.get(0)).optional()?;
        Ok(seen.unwrap_or(0))
    }
}

/// The checksum that a session's row should have, and the one that it has.
fn session_sum(no: i64, id: &[u8], rest: &[Cell]) -> Option<(i64, i64)> {
    let int = |at: usize| match &rest[at] {
        Cell::Int(value) => Some(*value),
        _ => None,
    };
    let text = |at: usize| match &rest[at] {
        Cell::Text(value) => Some(value.as_str()),
        _ => None,
    };
    let Cell::Blob(head) = &rest[1] else { return None };
    let mut sum = Sum::of("sessions").int(no).bytes(id).int(int(0)?).bytes(head);
    for at in [2, 3, 4] {
        sum = sum.int(int(at)?);
    }
    // Status, scope, agent, title.
    for at in [5, 6, 7, 9] {
        sum = sum.text(text(at)?);
    }
    sum = sum.maybe(text(8).map(str::as_bytes));
    Some((sum.int(int(10)?).int(int(11)?).text(text(12)?).done(), int(13)?))
}

/// Which pages were read.
#[derive(Debug, Default)]
struct Read {
    sane: HashSet<u32>,
    beside: HashSet<u32>,
}

impl Read {
    fn take(&mut self, no: u32, found: &cells::Rows, kind: u8) {
        if found.whole && matches!(kind, 0x02 | 0x05 | 0x0a | 0x0d) {
            self.sane.insert(no);
        }
        self.beside.extend(&found.beside);
    }
}
