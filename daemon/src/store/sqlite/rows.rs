//! What a row must prove before it is believed: its checksum, and what is wrong if it cannot.

use rusqlite::types::{FromSql, ValueRef};
use rusqlite::{ErrorCode, Row};
use sess_protocol::id::SessionId;

use crate::store::{Hash, StoreError};

/// Why a query has no answer.
#[derive(Debug)]
pub(super) enum Trouble {
    /// SQLite could not do it.
    Sql(rusqlite::Error),
    /// A row of a projection of the session with this short number does not match its checksum.
    Stale(i64, &'static str),
    /// What is stored is damaged and nothing here can mend it.
    Damaged(String),
    /// The commit is refused; nothing is wrong with the store.
    Refused(StoreError),
}

impl From<rusqlite::Error> for Trouble {
    fn from(err: rusqlite::Error) -> Self {
        Self::Sql(err)
    }
}

impl Trouble {
    /// What the caller of the store is told when nothing was changed.
    pub(super) fn answer(self) -> StoreError {
        match self {
            Self::Refused(refusal) => refusal,
            Self::Damaged(text) => StoreError::Damaged(text),
            Self::Stale(no, table) => {
                StoreError::Damaged(format!("a row of `{table}` of session number {no} is damaged"))
            }
            Self::Sql(err) if is_damage(&err) => {
                StoreError::Damaged(format!("the database is damaged: {err}"))
            }
            Self::Sql(err) => StoreError::Unavailable(format!("the database: {err}")),
        }
    }
}

/// Whether SQLite says that what lies in the file is not what it wrote.
pub(super) fn is_damage(err: &rusqlite::Error) -> bool {
    match err {
        rusqlite::Error::SqliteFailure(code, _) => {
            matches!(code.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
        }
        // A value of a type that its column cannot hold was never written by us.
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::Utf8Error(..) => true,
        _ => false,
    }
}

/// A session by the number that stands for it in the tables, and by its name for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Numbered {
    /// The short number.
    pub(super) no: i64,
    /// The id.
    pub(super) id: SessionId,
}

impl Numbered {
    /// A bad row of the log, by session and seq.
    pub(super) fn damaged(self, seq: u64, what: &str) -> Trouble {
        Trouble::Damaged(format!("session `{}` is damaged at seq {seq}: {what}", self.id))
    }
}

/// A number as SQLite keeps it.
pub(super) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number that is never negative, as it comes back; a damaged one is caught by its checksum.
pub(super) fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// A checksum over the columns of a row, with their lengths, so that no two rows read alike.
#[derive(Debug)]
pub(super) struct Sum(crc32fast::Hasher);

impl Sum {
    /// The sum of a row of this table.
    pub(super) fn of(table: &str) -> Self {
        Self(crc32fast::Hasher::new()).text(table)
    }

    /// With a number.
    pub(super) fn int(mut self, value: i64) -> Self {
        self.0.update(&value.to_le_bytes());
        self
    }

    /// With bytes.
    pub(super) fn bytes(mut self, value: &[u8]) -> Self {
        self.0.update(&(value.len() as u64).to_le_bytes());
        self.0.update(value);
        self
    }

    /// With a text.
    pub(super) fn text(self, value: &str) -> Self {
        self.bytes(value.as_bytes())
    }

    /// With bytes that may be missing.
    pub(super) fn maybe(self, value: Option<&[u8]>) -> Self {
        match value {
            Some(value) => self.int(1).bytes(value),
            None => self.int(0),
        }
    }

    /// As it is stored: signed, since SQLite keeps that in four bytes.
    pub(super) fn done(self) -> i64 {
        i64::from(self.0.finalize().cast_signed())
    }
}

/// Reads the columns of one row in turn.
pub(super) struct Columns<'r, 'stmt> {
    row: &'r Row<'stmt>,
    at: usize,
}

impl<'r, 'stmt> Columns<'r, 'stmt> {
    /// From the first column on.
    pub(super) fn of(row: &'r Row<'stmt>) -> Self {
        Self { row, at: 0 }
    }

    fn step(&mut self) -> usize {
        self.at += 1;
        self.at - 1
    }

    /// The next column.
    pub(super) fn take<T: FromSql>(&mut self) -> rusqlite::Result<T> {
        let at = self.step();
        self.row.get(at)
    }

    /// The next column's bytes, of a text or a blob.
    pub(super) fn bytes(&mut self) -> rusqlite::Result<&'r [u8]> {
        let at = self.step();
        match self.row.get_ref(at)? {
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Ok(bytes),
            other => {
                let name = "a column of bytes".to_owned();
                Err(rusqlite::Error::InvalidColumnType(at, name, other.data_type()))
            }
        }
    }

    /// The next column as a hash.
    pub(super) fn hash(&mut self) -> rusqlite::Result<Hash> {
        self.take().map(Hash)
    }
}
