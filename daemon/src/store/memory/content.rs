//! What a store in memory holds: logs of commits, and beside them keys, blobs and partial texts.

use std::collections::{BTreeMap, BTreeSet};

use sess_protocol::event::Event;
use sess_protocol::id::{MessageId, SessionId, TaskId};
use sess_protocol::time::Timestamp;

use crate::store::{
    Commit, Hash, ImportSource, Imported, KeptKey, KeyRecord, PartialPiece, PartialText,
    StoreError, StoredCommit, StoredEvent,
};

/// All that survives a crash. Changed only by whole commits and by pieces of partial text.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    pub(super) logs: BTreeMap<SessionId, Vec<Commit>>,
    partials: BTreeMap<SessionId, Partial>,
    keys: BTreeMap<String, (SessionId, KeptKey)>,
    blobs: BTreeMap<[u8; 32], Vec<u8>>,
}

/// The text of an unfinished message, its blocks by their place.
#[derive(Debug, Clone)]
struct Partial {
    task: TaskId,
    message: MessageId,
    blocks: BTreeMap<u32, (bool, String)>,
}

/// When a commit happened.
fn moment(commit: &Commit) -> Timestamp {
    commit.events.last().map(|it| it.at).unwrap_or_default()
}

impl Content {
    /// Stores a commit whole, or refuses it and changes nothing.
    pub(super) fn commit(&mut self, commit: &Commit) -> Result<(), StoreError> {
        self.check(commit)?;
        for record in &commit.keys {
            let kept = KeptKey { record: record.clone(), at: moment(commit) };
            self.keys.insert(record.key.clone(), (commit.session, kept));
        }
        for blob in &commit.blobs {
            self.blobs.insert(blob.hash.0, blob.bytes.clone());
        }
        if self.partials.get(&commit.session).is_some_and(|it| it.ends_with(commit)) {
            self.partials.remove(&commit.session);
        }
        let deletes = commit.deletes;
        self.logs.entry(commit.session).or_default().push(commit.clone());
        if let Some(session) = deletes {
            self.delete(session);
        }
        Ok(())
    }

    /// Stores a session that comes from elsewhere, whole or not at all.
    pub(super) fn import(
        &mut self,
        session: SessionId,
        source: &dyn ImportSource,
        key: Option<KeptKey>,
    ) -> Result<(), StoreError> {
        if key.as_ref().is_some_and(|it| self.key(&it.record.key, it.at).is_some()) {
            return Err(StoreError::KeyTaken);
        }
        if self.logs.contains_key(&session) {
            return Err(StoreError::NotNext);
        }
        let mut new = self.clone();
        source.read(&mut |part| match part {
            Imported::Blob(blob) => {
                new.blobs.insert(blob.hash.0, blob.bytes);
                Ok(())
            }
            Imported::Commit(commit) => new.commit(&commit),
        })?;
        if let Some(kept) = key {
            new.keep_key(session, kept)?;
        }
        *self = new;
        Ok(())
    }

    /// The commits behind the one that ends with `after`.
    pub(super) fn commits(
        &self,
        session: SessionId,
        after: u64,
        bytes: usize,
    ) -> Vec<StoredCommit> {
        let mut read = 0;
        let behind = self.log(session).iter().filter(|it| it.first() > after);
        let fits = behind.take_while(|it| {
            let fits = read < bytes;
            read += it.body.len();
            fits
        });
        fits.map(|it| StoredCommit { last: it.last(), hash: it.hash, body: it.body.clone() })
            .collect()
    }

    fn check(&self, commit: &Commit) -> Result<(), StoreError> {
        let dense = (commit.first()..).zip(&commit.events).all(|(seq, it)| it.seq == seq);
        let follows = commit.first() == self.last_seq(commit.session) + 1;
        if !dense || !follows || commit.before != self.hash(commit.session) {
            return Err(StoreError::NotNext);
        }
        let mut new = BTreeSet::new();
        let now = moment(commit);
        if commit.keys.iter().any(|it| self.key(&it.key, now).is_some() || !new.insert(&it.key)) {
            return Err(StoreError::KeyTaken);
        }
        Ok(())
    }

    fn delete(&mut self, session: SessionId) {
        self.logs.remove(&session);
        self.partials.remove(&session);
        self.keys.retain(|_, (owner, _)| *owner != session);
        let used = self.used_blobs();
        self.blobs.retain(|hash, _| used.contains(hash));
    }

    /// The blobs that any commit brought or names.
    fn used_blobs(&self) -> BTreeSet<[u8; 32]> {
        let names = |commit: &Commit, hash: &[u8; 32]| {
            commit.blobs.iter().any(|it| it.hash.0 == *hash)
                || commit.body.contains(&format!("\"sha256:{}\"", Hash(*hash)))
        };
        let used = |hash: &&[u8; 32]| self.logs.values().flatten().any(|it| names(it, hash));
        self.blobs.keys().filter(used).copied().collect()
    }

    /// Keeps more of an unfinished message. What comes for a session or task that has ended is
    /// void, as the text is only worth something while nothing else holds it.
    pub(super) fn keep(&mut self, piece: PartialPiece) {
        let task = self.task_of(piece.session, piece.task);
        if task.is_none_or(|it| super::queries::is_final(&it)) {
            return;
        }
        let fresh =
            Partial { task: piece.task, message: piece.message, blocks: BTreeMap::default() };
        let partial = self.partials.entry(piece.session).or_insert_with(|| fresh.clone());
        let other = partial.task != piece.task || partial.message != piece.message;
        if piece.reset || other {
            *partial = fresh;
        }
        for (place, reasoning, text) in piece.pieces {
            let block = partial.blocks.entry(place).or_default();
            block.0 = reasoning;
            block.1.push_str(&text);
        }
    }

    /// The unfinished message of a session.
    pub(super) fn partial(&self, session: SessionId) -> Option<PartialText> {
        let partial = self.partials.get(&session)?;
        let blocks = partial.blocks.values().cloned().collect();
        Some(PartialText { task: partial.task, message: partial.message, blocks })
    }

    /// The hash of a session's last commit; zeros at first.
    pub(super) fn hash(&self, session: SessionId) -> Hash {
        self.log(session).last().map_or(Hash::default(), |it| it.hash)
    }

    fn last_seq(&self, session: SessionId) -> u64 {
        self.log(session).last().map_or(0, Commit::last)
    }

    /// The commits of a session; none of an unknown one.
    pub(super) fn log(&self, session: SessionId) -> &[Commit] {
        self.logs.get(&session).map_or(&[], Vec::as_slice)
    }

    /// The events of a session that are folded.
    pub(super) fn folded(&self, session: SessionId) -> impl Iterator<Item = &Event> {
        self.log(session).iter().flat_map(|it| &it.events).filter(|it| !it.is_foreign())
    }

    /// The events behind `after` until `last`, or until as many bytes are read.
    pub(super) fn events(
        &self,
        session: SessionId,
        after: u64,
        last: u64,
        bytes: usize,
    ) -> Vec<StoredEvent> {
        let mut events = Vec::new();
        let mut read = 0;
        for commit in self.log(session) {
            for (event, json) in commit.events.iter().zip(&commit.json) {
                if event.seq <= after {
                    continue;
                }
                if event.seq > last || (read >= bytes && !events.is_empty()) {
                    return events;
                }
                read += json.get().len();
                let mark = commit.hash.mark();
                events.push(StoredEvent { seq: event.seq, mark, json: json.clone() });
            }
        }
        events
    }

    /// The mark of the commit that holds an event.
    pub(super) fn mark(&self, session: SessionId, seq: u64) -> Option<String> {
        let holds = |it: &&Commit| (it.first()..=it.last()).contains(&seq);
        self.log(session).iter().find(holds).map(|it| it.hash.mark())
    }

    /// The record of a key whose time is not over.
    pub(super) fn key(&self, key: &str, now: Timestamp) -> Option<KeyRecord> {
        let kept = self.keys.get(key).filter(|(_, kept)| kept.stands(now));
        kept.map(|(_, kept)| kept.record.clone())
    }

    /// Keeps a key without a commit.
    pub(super) fn keep_key(&mut self, session: SessionId, kept: KeptKey) -> Result<(), StoreError> {
        if !self.logs.contains_key(&session) {
            return Err(StoreError::NotNext);
        }
        if self.key(&kept.record.key, kept.at).is_some() {
            return Err(StoreError::KeyTaken);
        }
        self.keys.insert(kept.record.key.clone(), (session, kept));
        Ok(())
    }

    /// A piece of a blob and the bytes of the whole.
    pub(super) fn blob(&self, hash: Hash, offset: u64, length: u64) -> Option<(Vec<u8>, u64)> {
        let whole = self.blobs.get(&hash.0)?;
        let at = |it: u64| usize::try_from(it).unwrap_or(usize::MAX).min(whole.len());
        let piece = whole[at(offset)..at(offset.saturating_add(length))].to_vec();
        Some((piece, whole.len() as u64))
    }

    /// The bytes of all that is held.
    pub(super) fn bytes(&self) -> u64 {
        let bodies = self.logs.values().flatten().map(|it| it.body.len());
        let texts = self.partials.values().flat_map(|it| it.blocks.values());
        let blobs = self.blobs.values().map(Vec::len);
        bodies.chain(texts.map(|(_, text)| text.len())).chain(blobs).map(|it| it as u64).sum()
    }
}

impl Partial {
    /// Whether a commit makes this text void: it has the message itself, or the task is final.
    fn ends_with(&self, commit: &Commit) -> bool {
        let (task, message) = (self.task.to_string(), self.message.to_string());
        let is = |event: &Event, kind: &str, id: &str| {
            event.data.get(kind).is_some_and(|it| it.get("id").is_some_and(|it| it == id))
        };
        let ends = |event: &Event| {
            let ended = event.data.get("task").and_then(|it| it.as_object());
            is(event, "message", &message)
                || (is(event, "task", &task) && ended.is_some_and(super::queries::is_final))
        };
        commit.events.iter().filter(|it| !it.is_foreign()).any(ends)
    }
}
