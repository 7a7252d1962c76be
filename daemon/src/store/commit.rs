//! What happened together in one session: its exact bytes and the chain of hashes.

use std::fmt;

use serde_json::value::RawValue;
use sess_protocol::event::Event;
use sess_protocol::id::SessionId;
use sess_protocol::time::Timestamp;
use sha2::{Digest, Sha256};

/// A SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// The hash of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The hash of a commit: of the 32 bytes of the hash before it, then its body.
    #[must_use]
    pub fn chained(before: Self, body: &[u8]) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(before.0);
        hasher.update(body);
        Self(hasher.finalize().into())
    }

    /// The first 16 hex digits: the last part of a cursor.
    #[must_use]
    pub fn mark(&self) -> String {
        self.to_string()[..16].to_owned()
    }

    /// Reads 64 hex digits.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let plain = text.len() == 64 && text.bytes().all(|it| it.is_ascii_hexdigit());
        if !plain {
            return None;
        }
        let mut bytes = [0; 32];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An idempotency key with the answer that it will get again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// The key.
    pub key: String,
    /// The digest of method and params.
    pub digest: Hash,
    /// The result, as JSON.
    pub answer: String,
}

/// How long the answer of a key is kept, in milliseconds.
pub const KEY_MS: i64 = 7 * 86_400_000;

/// A key's record, with the moment from which its time counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptKey {
    /// The record.
    pub record: KeyRecord,
    /// When its request was answered.
    pub at: Timestamp,
}

impl KeptKey {
    /// Whether its time is not over.
    #[must_use]
    pub fn stands(&self, now: Timestamp) -> bool {
        self.at.0 > now.0 - KEY_MS
    }
}

/// Bytes that an event of the commit names by their hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewBlob {
    /// The hash.
    pub hash: Hash,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// What happened together in one session: stored together or not at all.
#[derive(Debug, Clone)]
pub struct Commit {
    /// The session.
    pub session: SessionId,
    /// The hash of the session's last commit; zeros at first.
    pub before: Hash,
    /// The events, numbered one after another behind the session's last.
    pub events: Vec<Event>,
    /// The events as they lie in the body, byte for byte, in the same order.
    pub json: Vec<Box<RawValue>>,
    /// The exact bytes that are hashed and kept.
    pub body: String,
    /// The hash of `before` and `body`.
    pub hash: Hash,
    /// Keys that are decided by this commit.
    pub keys: Vec<KeyRecord>,
    /// Bytes that its events name.
    pub blobs: Vec<NewBlob>,
    /// In the global log: a session that is deleted in the same transaction.
    pub deletes: Option<SessionId>,
}

impl Commit {
    /// The commit of these events behind the one with the hash `before`.
    ///
    /// # Panics
    /// Without events: a commit says that something happened.
    #[must_use]
    pub fn new(session: SessionId, before: Hash, events: Vec<Event>) -> Self {
        assert!(!events.is_empty(), "a commit has events");
        let json: Vec<Box<RawValue>> = events
            .iter()
            .map(|it| serde_json::value::to_raw_value(it).expect("an event is plain JSON"))
            .collect();
        let size: usize = json.iter().map(|it| it.get().len() + 1).sum();
        let mut body = String::with_capacity(size + 80);
        body.push_str(&format!("{{\"session\":\"{session}\",\"epoch\":0,\"events\":["));
        for (at, event) in json.iter().enumerate() {
            if at > 0 {
                body.push(',');
            }
            body.push_str(event.get());
        }
        body.push_str("]}");
        let hash = Hash::chained(before, body.as_bytes());
        let (keys, blobs, deletes) = (Vec::new(), Vec::new(), None);
        Self { session, before, events, json, body, hash, keys, blobs, deletes }
    }

    /// The commit with this body, as it was first written, behind the one with the hash `before`.
    ///
    /// # Errors
    /// It is not a body, and why.
    pub fn read(before: Hash, body: String) -> Result<Self, String> {
        #[derive(serde::Deserialize)]
        struct Body {
            session: SessionId,
            events: Vec<Box<RawValue>>,
        }
        let whole: Body = serde_json::from_str(&body).map_err(|err| err.to_string())?;
        let events: Result<Vec<Event>, _> =
            whole.events.iter().map(|it| serde_json::from_str(it.get())).collect();
        let events = events.map_err(|err| err.to_string())?;
        let dense = events.windows(2).all(|it| it[1].seq == it[0].seq + 1);
        if events.is_empty() || !dense {
            return Err("its events are not numbered one after another".to_owned());
        }
        let hash = Hash::chained(before, body.as_bytes());
        let (keys, blobs, deletes) = (Vec::new(), Vec::new(), None);
        let (session, json) = (whole.session, whole.events);
        Ok(Self { session, before, events, json, body, hash, keys, blobs, deletes })
    }

    /// Whether a task is no longer at work by it: final, or back in its queue until a restart.
    #[must_use]
    pub fn ends_task(&self) -> bool {
        self.events.iter().any(|it| match it.kind.as_str() {
            "task.completed" | "task.failed" | "task.cancelled" | "task.interrupted" => true,
            "task.queued" => it.data.get("task").is_some_and(|it| it["reason"] == "restart"),
            _ => false,
        })
    }

    /// The number of the first event.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.events[0].seq
    }

    /// The number of the last event.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.events[self.events.len() - 1].seq
    }
}
