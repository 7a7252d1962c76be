//! The oracle: what must be in the store by what was acknowledged, and what it must look like.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::Value;
use sess_daemon::model::{Prompt, PromptMessage};
use sess_daemon::store::{Commit, Hash, SessionFilter, Store, StoreError};
use sess_protocol::event::Event;
use sess_protocol::id::SessionId;
use sess_protocol::view::{Members, View};

use crate::rules;
use crate::trace::Trace;

/// Bytes that are read of a log at a time.
const READ_BYTES: usize = 1 << 20;
/// How long a lock may outlive its connection, in simulated milliseconds: 10 s of grace for a
/// half-closed connection, and some tries to save.
const LOCK_GRACE_MS: u64 = 30_000;
/// Refused commits of one session in one moment: more is one who tries again without waiting.
const REFUSED_AT_ONCE_MAX: u32 = 8;

/// What is known of all sessions.
#[derive(Debug)]
pub(crate) struct Oracle {
    pub(crate) seed: u64,
    trace: Arc<Trace>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    logs: BTreeMap<SessionId, Log>,
    deleted: BTreeSet<SessionId>,
    /// The logs of deleted sessions: followers may still be on their way to the end of them.
    buried: BTreeMap<SessionId, Log>,
    /// Keys that were stored, with their session.
    keys: BTreeMap<String, SessionId>,
    /// Keys that the store said were taken and are not: a planned fault.
    excused: u32,
    /// Connections that ended, and when.
    gone: BTreeMap<String, u64>,
    refused: BTreeMap<SessionId, (u64, u32)>,
    /// Answers of which the events must be found at the next start.
    owed: Vec<Owed>,
}

/// What a session's log must have at the next start: an event with all of these, some event
/// without a number, and without these too nothing at all, as the session was deleted.
#[derive(Debug)]
struct Owed {
    session: SessionId,
    seq: Option<u64>,
    has: Vec<String>,
}

/// The log of one session.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) events: Vec<Event>,
    pub(crate) json: Vec<String>,
    pub(crate) marks: Vec<String>,
    pub(crate) hash: Hash,
    /// The fold of all events, with all that is final.
    pub(crate) view: View,
}

impl Log {
    fn push(&mut self, seed: u64, event: &Event, json: &str, mark: &str) -> Result<(), String> {
        if event.seq != self.events.len() as u64 + 1 {
            return Err(format!("event {} comes behind {}", event.seq, self.events.len()));
        }
        let head = rules::check_before(seed, &self.view, event)?;
        let iterations = rules::iterations(&self.view);
        self.view.apply(event);
        self.events.push(event.clone());
        self.json.push(json.to_owned());
        self.marks.push(mark.to_owned());
        rules::check_after(&head, iterations, event, &self.view)
    }

    /// The view of so many messages at a number.
    pub(crate) fn snapshot_at(&self, seq: u64, count: usize) -> Value {
        if seq == self.view.seq() {
            return Value::Object(self.view.snapshot(count));
        }
        let mut view = View::default();
        self.events.iter().take_while(|it| it.seq <= seq).for_each(|it| view.apply(it));
        Value::Object(view.snapshot(count))
    }
}

impl Oracle {
    /// Knows nothing yet.
    pub(crate) fn new(seed: u64, trace: Arc<Trace>) -> Arc<Self> {
        Arc::new(Self { seed, trace, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while holding the oracle")
    }

    /// A commit that the store says is stored.
    pub(crate) fn stored(&self, commit: &Commit) {
        let mut state = self.state();
        state.refused.remove(&commit.session);
        let found = state.take(self.seed, commit);
        let late = state.late_locks(self.trace.now_ms());
        drop(state);
        for wrong in found.err().into_iter().chain(late) {
            self.trace.broken(&format!("{} of {}: {wrong}", commit.first(), commit.session));
        }
    }

    /// A commit that the store refused.
    pub(crate) fn refused(&self, commit: &Commit, err: &StoreError) {
        let now_ms = self.trace.now_ms();
        let mut state = self.state();
        if *err == StoreError::KeyTaken
            && commit.keys.iter().all(|it| !state.keys.contains_key(&it.key))
        {
            state.excused += 1;
        }
        let deleted = state.deleted.contains(&commit.session);
        let own = commit.events.iter().all(|it| it.by.is_none() || rules::is_next(it));
        let entry = state.refused.entry(commit.session).or_default();
        *entry = if entry.0 == now_ms { (now_ms, entry.1 + u32::from(own)) } else { (now_ms, 0) };
        let spins = entry.1 > REFUSED_AT_ONCE_MAX;
        drop(state);
        if *err == StoreError::NotNext && !deleted {
            self.trace.broken(&format!("a commit of {} does not follow its last", commit.session));
        }
        if spins {
            self.trace.broken("a refused commit is tried again and again without a wait");
        }
    }

    /// Whether an `internal` error comes of a planned fault.
    pub(crate) fn excuse(&self) -> bool {
        let mut state = self.state();
        let excused = state.excused > 0;
        state.excused = state.excused.saturating_sub(1);
        excused
    }

    /// A connection that ended.
    pub(crate) fn connection_gone(&self, name: &str) {
        let now_ms = self.trace.now_ms();
        self.state().gone.insert(name.to_owned(), now_ms);
    }

    /// A life of the daemon ended, and all locks with it at the next start.
    pub(crate) fn life_ended(&self) {
        self.state().gone.clear();
    }

    /// Looks for locks that outlive their connections.
    pub(crate) fn look_at_locks(&self) {
        let late = self.state().late_locks(self.trace.now_ms());
        if let Some(late) = late {
            self.trace.broken(&late);
        }
    }

    /// Whether a session is there.
    pub(crate) fn has(&self, session: SessionId) -> bool {
        self.state().logs.contains_key(&session)
    }

    /// Looks at a log.
    pub(crate) fn with_log<T>(
        &self,
        session: SessionId,
        look: impl FnOnce(&Log) -> T,
    ) -> Option<T> {
        self.state().logs.get(&session).map(look)
    }

    /// An event, as it lies in the log, with its mark.
    pub(crate) fn event(&self, session: SessionId, seq: u64) -> Option<(String, String)> {
        let state = self.state();
        let log = state.logs.get(&session).or_else(|| state.buried.get(&session))?;
        let place = usize::try_from(seq.checked_sub(1)?).ok()?;
        Some((log.json.get(place)?.clone(), log.marks[place].clone()))
    }

    /// Whether a session was deleted.
    pub(crate) fn is_deleted(&self, session: SessionId) -> bool {
        self.state().deleted.contains(&session)
    }

    /// An answer of which nothing is known yet: another request with its key may be stored, and
    /// not have come back from the store.
    pub(crate) fn owe(&self, session: SessionId, seq: Option<u64>, has: &[&str]) {
        let has = has.iter().map(|it| (*it).to_owned()).collect();
        self.state().owed.push(Owed { session, seq, has });
    }

    /// The sessions that are there.
    pub(crate) fn sessions(&self) -> Vec<SessionId> {
        self.state().logs.keys().copied().filter(|it| *it != SessionId::GLOBAL).collect()
    }

    /// How many tasks with this status there are.
    pub(crate) fn tasks(&self, status: &[&str]) -> usize {
        let state = self.state();
        let has = |it: &&Members| status.contains(&rules::text(it, "status"));
        state.logs.values().map(|it| it.view.things("task").filter(has).count()).sum()
    }

    /// A prompt must be the path up to the request that is its last message.
    pub(crate) fn prompted(&self, prompt: &Prompt) {
        let request = prompt.messages.last().map(PromptMessage::said).unwrap_or_default();
        let state = self.state();
        let wanted = state.logs.values().find_map(|log| path_to(&log.view, &request));
        let texts: Vec<String> = prompt.messages.iter().map(PromptMessage::said).collect();
        if wanted.as_ref().is_none_or(|it| *it != texts) {
            self.trace.broken(&format!("a model saw {texts:?}, the path is {wanted:?}"));
        }
    }

    /// Reads the store whole: nothing of what is known may be missing, what is new must fit.
    pub(crate) async fn compare(&self, store: &dyn Store) -> Result<(), StoreError> {
        let filter = SessionFilter { limit: u32::MAX, ..SessionFilter::default() };
        let found = store.sessions(filter).await?;
        let ids = found.iter().filter_map(|it| rules::text(it, "id").parse().ok());
        let mut ids: Vec<SessionId> = ids.collect();
        ids.sort_unstable();
        // The log of deletions is read first.
        ids.insert(0, SessionId::GLOBAL);
        for id in &ids {
            let events = store.events(*id, 0, u64::MAX, READ_BYTES).await?;
            let hash = store.load(*id).await?.map(|it| it.hash).unwrap_or_default();
            let mut state = self.state();
            let wrong = state.compare(self.seed, *id, &events, hash).err();
            drop(state);
            if let Some(wrong) = wrong {
                self.trace.broken(&format!("after a start, {id}: {wrong}"));
            }
        }
        let missing: Vec<SessionId> =
            self.sessions().into_iter().filter(|it| !ids.contains(it)).collect();
        for id in missing {
            self.trace.broken(&format!("after a start, {id} is not there any more"));
        }
        let owed = std::mem::take(&mut self.state().owed);
        for owed in owed {
            if !self.state().is_paid(&owed) {
                self.trace.broken(&format!("answered, and not stored: {owed:?}"));
            }
        }
        Ok(())
    }
}

/// The texts of the path that ends with the message that says this.
fn path_to(view: &View, request: &str) -> Option<Vec<String>> {
    let says = |it: &&Members| {
        rules::text(it, "role") == "user" && rules::said(it).as_deref() == Some(request)
    };
    let mut next = view.things("message").find(says);
    next?;
    let mut texts = Vec::new();
    while let Some(message) = next {
        texts.push(rules::said(message).unwrap_or_default());
        let parent = message.get("parent").and_then(Value::as_str);
        next = parent.and_then(|it| view.thing("message", it));
    }
    texts.reverse();
    Some(texts)
}

impl State {
    fn take(&mut self, seed: u64, commit: &Commit) -> Result<(), String> {
        for record in &commit.keys {
            if self.keys.insert(record.key.clone(), commit.session).is_some() {
                return Err(format!("the key `{}` has a second effect", record.key));
            }
        }
        if self.deleted.contains(&commit.session) {
            return Err("the session was deleted before".to_owned());
        }
        let log = self.logs.entry(commit.session).or_default();
        if commit.before != log.hash {
            return Err("the chain of hashes is broken".to_owned());
        }
        log.hash = Hash::chained(log.hash, commit.body.as_bytes());
        let mark = log.hash.mark();
        for (event, json) in commit.events.iter().zip(&commit.json) {
            log.push(seed, event, json.get(), &mark)?;
        }
        if let Some(deleted) = commit.deletes {
            self.delete(deleted);
        }
        Ok(())
    }

    fn is_paid(&self, owed: &Owed) -> bool {
        if self.deleted.contains(&owed.session) {
            return true;
        }
        let place = owed.seq.and_then(|it| usize::try_from(it.checked_sub(1)?).ok());
        let log = self.logs.get(&owed.session);
        let has = |json: &String| owed.has.iter().all(|it| json.contains(it));
        match (log, place) {
            (Some(log), Some(place)) => log.json.get(place).is_some_and(has),
            (Some(log), None) => !owed.has.is_empty() && log.json.iter().any(has),
            (None, _) => false,
        }
    }

    fn delete(&mut self, session: SessionId) {
        if let Some(log) = self.logs.remove(&session) {
            self.buried.insert(session, log);
        }
        self.deleted.insert(session);
        self.keys.retain(|_, it| *it != session);
    }

    fn late_locks(&self, now_ms: u64) -> Option<String> {
        self.logs.iter().find_map(|(id, log)| {
            let holder = log.view.session().get("lock")?.get("holder")?.get("client")?.as_str()?;
            let gone = self.gone.get(holder)?;
            (now_ms > gone + LOCK_GRACE_MS)
                .then(|| format!("the lock of {id} outlives its connection `{holder}`"))
        })
    }

    fn compare(
        &mut self,
        seed: u64,
        id: SessionId,
        events: &[sess_daemon::store::StoredEvent],
        hash: Hash,
    ) -> Result<(), String> {
        let log = self.logs.entry(id).or_default();
        if events.len() < log.events.len() {
            return Err(format!(
                "{} events of {} are lost",
                log.events.len() - events.len(),
                log.events.len()
            ));
        }
        let known = log.events.len();
        for (stored, (json, mark)) in events.iter().zip(log.json.iter().zip(&log.marks)) {
            if stored.json.get() != json || stored.mark != *mark {
                return Err(format!("event {} is another one: {}", stored.seq, stored.json));
            }
        }
        let mut deleted = Vec::new();
        for stored in &events[known..] {
            let event: Event =
                serde_json::from_str(stored.json.get()).map_err(|err| err.to_string())?;
            log.push(seed, &event, stored.json.get(), &stored.mark)?;
            if event.kind == "session.deleted" {
                let id = event.data.get("deleted").and_then(Value::as_str).unwrap_or_default();
                deleted.extend(id.parse::<SessionId>());
            }
        }
        log.hash = hash;
        chain(id, log)?;
        deleted.into_iter().for_each(|it| self.delete(it));
        Ok(())
    }
}

/// Hashes a log anew, commit by commit, from its events alone.
fn chain(id: SessionId, log: &Log) -> Result<(), String> {
    let mut hash = Hash::default();
    let mut start = 0;
    while start < log.json.len() {
        let mark = &log.marks[start];
        let count = log.marks[start..].iter().take_while(|it| *it == mark).count();
        let events = log.json[start..start + count].join(",");
        let body = format!("{{\"session\":\"{id}\",\"epoch\":0,\"events\":[{events}]}}");
        hash = Hash::chained(hash, body.as_bytes());
        if hash.mark() != *mark {
            return Err(format!(
                "the hash of the commit at {} is not that of its bytes",
                start + 1
            ));
        }
        start += count;
    }
    if hash != log.hash {
        return Err("the last hash is not that of the chain".to_owned());
    }
    Ok(())
}
