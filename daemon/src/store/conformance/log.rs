//! Whether commits, keys and blobs come back as they went in, or not at all.

use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::json;
use sess_protocol::time::Timestamp;

use super::build::{
    Log, appended, blob, by, completed, kept, key, message, queued, raw, session, started, task,
    updated,
};
use crate::store::{Commit, Hash, KeptKey, Store, StoreError, StoredEvent};

/// How long the answer of a key is kept, as the manual says.
const WEEK_MS: i64 = 7 * 24 * 3600 * 1000;
/// More than all events of a case.
const ALL: u64 = 1_000_000;
/// More than all bytes of a case.
const ALL_BYTES: usize = 1 << 30;

async fn all(store: &Arc<dyn Store>, log: &Log) -> Vec<StoredEvent> {
    store.events(log.session, 0, ALL, ALL_BYTES).await.expect("events are read")
}

fn texts(events: &[StoredEvent]) -> Vec<String> {
    events.iter().map(|it| it.json.get().to_owned()).collect()
}

async fn five_commits(store: &Arc<dyn Store>) -> Log {
    let mut log = Log::created(store, session(1)).await;
    for n in 1..5 {
        let title = format!("title {n} \u{1f9e6} \"quoted\" \\ \u{2028}");
        let said = vec![
            updated(|it| it.title = Some(title)),
            appended(message(n), None, "text"),
            raw("unheard.of", json!({"z": 1.5e300, "a": [null, {"b": ""}]})),
        ];
        log.add(store, said).await;
    }
    log
}

pub(crate) async fn a_commit_comes_back_byte_for_byte(store: Arc<dyn Store>) {
    let log = five_commits(&store).await;
    let events = all(&store, &log).await;
    assert_eq!(texts(&events), log.json());
    assert!(events.iter().map(|it| it.seq).eq(1..=log.seq()));
    let loaded = store.load(log.session).await.expect("loads").expect("is there");
    assert_eq!(loaded.hash, log.hash);
    assert_eq!(loaded.view.seq(), log.seq());
    assert!(store.load(session(9)).await.expect("answers").is_none());
    assert!(store.events(session(9), 0, ALL, ALL_BYTES).await.expect("answers").is_empty());
}

pub(crate) async fn events_come_in_pages_without_gap_or_double(store: Arc<dyn Store>) {
    let mut log = five_commits(&store).await;
    let large = "x".repeat(50_000);
    for n in 10..14 {
        log.add(&store, vec![appended(message(n), None, &large)]).await;
    }
    let mut read = Vec::new();
    while read.len() < log.json().len() {
        let after = read.len() as u64;
        let page = store.events(log.session, after, ALL, 1).await.expect("events are read");
        assert!(!page.is_empty(), "a page has an event when there is one");
        assert!(page.len() < 13, "a page ends at about its bytes");
        read.extend(texts(&page));
    }
    assert_eq!(read, log.json());
    let middle = store.events(log.session, 2, 5, ALL_BYTES).await.expect("events are read");
    assert!(middle.iter().map(|it| it.seq).eq(3..=5));
    assert!(store.events(log.session, log.seq(), ALL, 1).await.expect("answers").is_empty());
    assert!(store.events(log.session, 5, 5, 1).await.expect("answers").is_empty());
}

pub(crate) async fn each_event_has_the_mark_of_its_commit(store: Arc<dyn Store>) {
    let log = five_commits(&store).await;
    let events = all(&store, &log).await;
    for commit in &log.commits {
        let mark = commit.hash.to_string()[..16].to_owned();
        for seq in commit.first()..=commit.last() {
            let place = usize::try_from(seq - 1).expect("a small number");
            assert_eq!(events[place].mark, mark);
            assert_eq!(store.mark(log.session, seq).await, Ok(Some(mark.clone())));
        }
    }
    assert_eq!(store.mark(log.session, 0).await, Ok(None));
    assert_eq!(store.mark(log.session, log.seq() + 1).await, Ok(None));
    assert_eq!(store.mark(session(9), 1).await, Ok(None));
}

pub(crate) async fn a_commit_that_does_not_follow_leaves_nothing(store: Arc<dyn Store>) {
    let log = five_commits(&store).await;
    let follows =
        log.next(vec![appended(message(90), None, "no"), queued(log.session, task(1), 1)]);
    let wrong_hash = Hash::of(b"another history");
    let renumbered = |by: i64| {
        let mut events = follows.events.clone();
        for event in &mut events {
            event.seq = event.seq.saturating_add_signed(by);
        }
        Commit::new(log.session, log.hash, events)
    };
    let again = log.commits[4].clone();
    let new = Log::of(session(2)).next(vec![appended(message(91), None, "no")]);
    let wrongs = [
        Commit::new(log.session, wrong_hash, follows.events.clone()),
        Commit::new(log.session, Hash::default(), follows.events.clone()),
        renumbered(1),
        renumbered(-1),
        again,
        Commit::new(session(2), wrong_hash, new.events),
    ];
    for mut wrong in wrongs {
        wrong.keys = vec![key("refused")];
        wrong.blobs = vec![blob(b"refused")];
        assert_eq!(store.commit(wrong).await, Err(StoreError::NotNext));
    }
    assert_eq!(texts(&all(&store, &log).await), log.json());
    assert_eq!(kept(&store, "refused").await, None);
    assert_eq!(store.blob(Hash::of(b"refused"), 0, 9).await, Ok(None));
    assert!(store.message(log.session, message(90)).await.expect("answers").is_none());
    assert_eq!(store.task(task(1)).await, Ok(None));
    assert!(store.load(session(2)).await.expect("answers").is_none());
    store.commit(follows).await.expect("what follows is stored behind refusals");
}

pub(crate) async fn a_key_brings_its_record_back(store: Arc<dyn Store>) {
    let mut log = Log::created(&store, session(1)).await;
    let mut commit = log.next(vec![updated(|it| it.title = Some("named".to_owned()))]);
    commit.keys = vec![key("one"), key("two")];
    log.try_add(&store, commit).await.expect("is stored");
    assert_eq!(kept(&store, "one").await, Some(key("one")));
    assert_eq!(kept(&store, "two").await, Some(key("two")));
    assert_eq!(kept(&store, "On").await, None);
    assert_eq!(kept(&store, "ONE").await, None);
}

pub(crate) async fn a_taken_key_refuses_the_whole_commit(store: Arc<dyn Store>) {
    let mut log = Log::created(&store, session(1)).await;
    let mut other = Log::created(&store, session(2)).await;
    let mut first = log.next(vec![updated(|it| it.title = Some("first".to_owned()))]);
    first.keys = vec![key("taken")];
    log.try_add(&store, first).await.expect("is stored");
    let mut second = other.next(vec![appended(message(1), None, "no")]);
    let mut record = key("taken");
    record.answer = "\"another\"".to_owned();
    second.keys = vec![key("free"), record];
    second.blobs = vec![blob(b"refused")];
    assert_eq!(other.try_add(&store, second).await, Err(StoreError::KeyTaken));
    assert_eq!(kept(&store, "taken").await, Some(key("taken")));
    assert_eq!(kept(&store, "free").await, None);
    assert_eq!(store.blob(Hash::of(b"refused"), 0, 9).await, Ok(None));
    assert_eq!(texts(&all(&store, &other).await), other.json());
    other.add(&store, vec![updated(|it| it.title = Some("goes on".to_owned()))]).await;
}

pub(crate) async fn a_key_is_free_again_after_seven_days(store: Arc<dyn Store>) {
    let mut log = Log::created(&store, session(1)).await;
    let mut first = log.next(vec![updated(|it| it.title = Some("first".to_owned()))]);
    first.keys = vec![key("old")];
    log.try_add(&store, first).await.expect("is stored");
    let begin = log.at.0;
    for (after_ms, stands) in [(0, true), (WEEK_MS - 1, true), (WEEK_MS, false)] {
        log.at = Timestamp(begin + after_ms);
        let found = store.key("old", log.at).await.expect("answers");
        assert_eq!(found.is_some(), stands, "{after_ms} ms later");
        let mut again = log.next(vec![updated(|it| it.title = Some("again".to_owned()))]);
        again.keys = vec![key("old")];
        let taken = log.try_add(&store, again).await;
        assert_eq!(taken, if stands { Err(StoreError::KeyTaken) } else { Ok(()) });
    }
    // Its time begins anew.
    let later = Timestamp(begin + WEEK_MS + WEEK_MS - 1);
    assert_eq!(store.key("old", later).await, Ok(Some(key("old"))));
}

pub(crate) async fn a_key_is_kept_without_a_change(store: Arc<dyn Store>) {
    let log = Log::created(&store, session(1)).await;
    let later = Timestamp(log.at.0 + WEEK_MS);
    let first = KeptKey { record: key("idle"), at: log.at };
    let mut second = first.clone();
    second.record.answer = "\"another\"".to_owned();
    assert_eq!(store.keep_key(log.session, first).await, Ok(()));
    let taken = store.keep_key(log.session, second.clone()).await;
    assert_eq!(taken, Err(StoreError::KeyTaken));
    assert_eq!(kept(&store, "idle").await, Some(key("idle")));
    assert_eq!(texts(&all(&store, &log).await), log.json(), "nothing happened");
    second.at = later;
    assert_eq!(store.keep_key(log.session, second.clone()).await, Ok(()));
    assert_eq!(store.key("idle", later).await, Ok(Some(second.record)));
    let lost = KeptKey { record: key("lost"), at: log.at };
    assert_eq!(store.keep_key(session(2), lost).await, Err(StoreError::NotNext));
    assert_eq!(kept(&store, "lost").await, None);
}

pub(crate) async fn of_many_commits_with_one_key_one_is_stored(store: Arc<dyn Store>) {
    let mut commits = Vec::new();
    for n in 1..=16 {
        let log = Log::created(&store, session(n)).await;
        let mut commit = log.next(vec![appended(message(n), None, "mine")]);
        commit.keys = vec![key("shared")];
        commits.push(commit);
    }
    let results = join_all(commits.into_iter().map(|it| store.commit(it))).await;
    assert_eq!(results.iter().filter(|it| it.is_ok()).count(), 1);
    let taken = |it: &&Result<(), StoreError>| **it == Err(StoreError::KeyTaken);
    assert_eq!(results.iter().filter(taken).count(), 15);
    let mut stored = 0;
    for n in 1..=16 {
        let found = store.message(session(n), message(n)).await.expect("answers");
        stored += u32::from(found.is_some());
    }
    assert_eq!(stored, 1);
}

pub(crate) async fn of_many_commits_behind_one_hash_one_is_stored(store: Arc<dyn Store>) {
    let log = Log::created(&store, session(1)).await;
    let titled = |n: u32| log.next(vec![updated(|it| it.title = Some(n.to_string()))]);
    let results = join_all((0..8).map(|n| store.commit(titled(n)))).await;
    assert_eq!(results.iter().filter(|it| it.is_ok()).count(), 1);
    let refused = |it: &&Result<(), StoreError>| **it == Err(StoreError::NotNext);
    assert_eq!(results.iter().filter(refused).count(), 7);
}

pub(crate) async fn a_hundred_commits_at_once_are_all_stored(store: Arc<dyn Store>) {
    const SESSIONS: u128 = 5;
    const ROUNDS: u128 = 20;
    let mut logs = Vec::new();
    for n in 1..=SESSIONS {
        logs.push(Log::created(&store, session(n)).await);
    }
    // Each session hands in its next commit before the one before is answered.
    let mut answers = Vec::new();
    for round in 0..ROUNDS {
        for log in &mut logs {
            let text = format!("{round} by {}", by().client);
            let commit = log.next(vec![appended(message(round + 1), None, &text)]);
            answers.push(store.commit(commit.clone()));
            log.hash = commit.hash;
            log.commits.push(commit);
        }
    }
    assert_eq!(answers.len(), 100);
    for answer in join_all(answers).await {
        answer.expect("each is stored");
    }
    for log in &logs {
        assert_eq!(texts(&all(&store, log).await), log.json());
        let loaded = store.load(log.session).await.expect("loads").expect("is there");
        assert_eq!(loaded.hash, log.hash);
    }
}

pub(crate) async fn blobs_come_in_pieces(store: Arc<dyn Store>) {
    let mut log = Log::created(&store, session(1)).await;
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|it| it.to_le_bytes()[it as usize % 3]).collect();
    let large = blob(&bytes);
    let hash = large.hash;
    let mut commit = log.next(vec![appended(message(1), None, &format!("sha256:{hash}"))]);
    commit.blobs = vec![large, blob(b""), blob(b"small")];
    log.try_add(&store, commit).await.expect("is stored");
    let whole = bytes.len() as u64;
    assert_eq!(store.blob(hash, 0, whole).await, Ok(Some((bytes.clone(), whole))));
    let piece = bytes[1_000_000..1_000_007].to_vec();
    assert_eq!(store.blob(hash, 1_000_000, 7).await, Ok(Some((piece, whole))));
    let end = bytes[bytes.len() - 3..].to_vec();
    assert_eq!(store.blob(hash, whole - 3, u64::MAX).await, Ok(Some((end, whole))));
    assert_eq!(store.blob(hash, whole + 5, 9).await, Ok(Some((Vec::new(), whole))));
    assert_eq!(store.blob(Hash::of(b""), 0, 9).await, Ok(Some((Vec::new(), 0))));
    assert_eq!(store.blob(Hash::of(b"no"), 0, 9).await, Ok(None));
    // The same bytes again are kept once and are no reason to refuse.
    let mut again = log.next(vec![updated(|it| it.title = Some("again".to_owned()))]);
    again.blobs = vec![blob(b"small")];
    log.try_add(&store, again).await.expect("is stored");
    assert_eq!(store.blob(Hash::of(b"small"), 1, 2).await, Ok(Some((b"ma".to_vec(), 5))));
}

pub(crate) async fn counts_follow_what_there_is(store: Arc<dyn Store>) {
    let empty = store.counts().await.expect("counts");
    assert_eq!((empty.sessions, empty.running, empty.queued, empty.waiting), (0, 0, 0, 0));
    let mut log = Log::created(&store, session(1)).await;
    Log::created(&store, session(2)).await;
    for n in 1..=4 {
        log.add(&store, vec![queued(log.session, task(n), 1)]).await;
    }
    log.add(&store, vec![started(task(1))]).await;
    log.add(&store, vec![completed(task(1), message(1))]).await;
    log.add(&store, vec![started(task(2))]).await;
    Log::of(sess_protocol::id::SessionId::GLOBAL)
        .add(&store, vec![raw("notice", json!({"text": "no session"}))])
        .await;
    let counts = store.counts().await.expect("counts");
    assert_eq!((counts.sessions, counts.running, counts.queued, counts.waiting), (2, 1, 2, 0));
    let waits = json!({"task": {"id": task(2).to_string(), "status": "waiting"}});
    log.add(&store, vec![raw("task.waiting", waits)]).await;
    let counts = store.counts().await.expect("counts");
    assert_eq!((counts.running, counts.waiting), (0, 1));
    assert!(counts.bytes > 0);
}

pub(crate) async fn a_closed_store_takes_nothing(store: Arc<dyn Store>) {
    assert!(!store.history().is_empty() && !store.history().contains(':'));
    let log = Log::created(&store, session(1)).await;
    store.close().await.expect("closes");
    let late = store.commit(log.next(vec![appended(message(1), None, "late")])).await;
    assert!(matches!(late, Err(StoreError::Unavailable(_))), "{late:?}");
}
