//! Whether the store in memory does what every store must, and fails only as planned.

use std::sync::Arc;

use futures_util::future::join_all;

use super::*;
use crate::store::conformance::{
    self,
    build::{Log, appended, kept, key, message, queued, session, started, task},
};

mod plain {
    use super::*;

    async fn memory() -> (Arc<dyn Store>, ()) {
        (Arc::new(MemoryStore::new(1)), ())
    }

    conformance::suite!(super::memory);
}

mod slow {
    use super::*;

    async fn memory() -> (Arc<dyn Store>, ()) {
        let plan = FaultPlan { yields_max: 7, ..FaultPlan::default() };
        (Arc::new(MemoryStore::with_faults(2, plan)), ())
    }

    conformance::suite!(super::memory);
}

mod reopened {
    use super::*;

    async fn memory() -> (Arc<dyn Store>, ()) {
        let store = MemoryStore::new(3);
        store.crash();
        (Arc::new(store.reopen()), ())
    }

    conformance::suite!(super::memory);
}

fn planned(seed: u64, faults: &[(u64, Fault)]) -> Arc<MemoryStore> {
    let at = faults.iter().copied().collect();
    Arc::new(MemoryStore::with_faults(seed, FaultPlan { at, ..FaultPlan::default() }))
}

fn door(store: &Arc<MemoryStore>) -> Arc<dyn Store> {
    Arc::clone(store) as Arc<dyn Store>
}

async fn is_stored(store: &MemoryStore, log: &Log, n: u128) -> bool {
    store.message(log.session, message(n)).await.expect("answers").is_some()
}

#[tokio::test]
async fn a_planned_refusal_stores_nothing_and_ends_nothing() {
    let store = planned(1, &[(2, Fault::Unavailable), (3, Fault::KeyTaken), (4, Fault::KeyTaken)]);
    let mut log = Log::created(&door(&store), session(1)).await;
    let mut commit = log.next(vec![appended(message(1), None, "said")]);
    commit.keys = vec![key("mine")];
    let full = store.commit(commit.clone()).await;
    assert!(matches!(full, Err(StoreError::Unavailable(_))), "{full:?}");
    assert_eq!(store.commit(commit.clone()).await, Err(StoreError::KeyTaken));
    assert!(!is_stored(&store, &log, 1).await);
    assert_eq!(kept(&door(&store), "mine").await, None);
    // Without a key none can be taken.
    commit.keys.clear();
    log.try_add(&door(&store), commit).await.expect("is stored");
    assert!(is_stored(&store, &log, 1).await);
}

#[tokio::test]
async fn an_unknown_outcome_is_either_and_ends_the_store_until_a_restart() {
    let mut stored = 0;
    for seed in 0..40 {
        let store = planned(seed, &[(2, Fault::Unknown)]);
        let log = Log::created(&door(&store), session(1)).await;
        let commit = log.next(vec![appended(message(1), None, "said")]);
        for _ in 0..2 {
            let result = store.commit(commit.clone()).await;
            assert!(matches!(result, Err(StoreError::Unknown(_))), "{result:?}");
        }
        assert!(matches!(store.load(log.session).await, Err(StoreError::Unknown(_))));
        let reopened = store.reopen();
        store.restart();
        let is_there = is_stored(&store, &log, 1).await;
        assert_eq!(is_stored(&reopened, &log, 1).await, is_there);
        let again = store.commit(commit).await;
        assert_eq!(again, if is_there { Err(StoreError::NotNext) } else { Ok(()) });
        stored += u32::from(is_there);
    }
    assert!((5..=35).contains(&stored), "both happen: {stored} of 40 were stored");
}

#[tokio::test]
async fn a_crash_forgets_what_waits_and_keeps_what_was_answered() {
    let store = Arc::new(MemoryStore::new(1));
    let mut log = Log::created(&door(&store), session(1)).await;
    log.add(&door(&store), vec![queued(log.session, task(1), 1), started(task(1))]).await;
    let waits = store.commit(log.next(vec![appended(message(1), None, "said")]));
    let piece = PartialPiece {
        session: log.session,
        task: task(1),
        message: message(2),
        reset: false,
        pieces: vec![(0, false, "so far".to_owned())],
    };
    let waits_too = store.keep_partial(piece.clone());
    store.crash();
    let refused = store.keep_partial(piece.clone()).await;
    assert!(matches!(refused, Err(StoreError::Unknown(_))), "{refused:?}");
    store.restart();
    for lost in [waits.await, waits_too.await] {
        assert!(matches!(lost, Err(StoreError::Unknown(_))), "{lost:?}");
    }
    let loaded = store.load(log.session).await.expect("loads").expect("is there");
    assert_eq!((loaded.hash, loaded.partial), (log.hash, None));
    store.keep_partial(piece).await.expect("is kept");
    let reopened = store.reopen();
    let loaded = reopened.load(log.session).await.expect("loads").expect("is there");
    assert_eq!(loaded.partial.expect("is kept").blocks, [(false, "so far".to_owned())]);
    assert_eq!(reopened.history(), store.history());
    // The one that goes on does not reach into the other.
    log.add(&door(&store), vec![appended(message(3), None, "here")]).await;
    assert!(!is_stored(&reopened, &log, 3).await);
}

#[tokio::test]
async fn a_write_whose_answer_nobody_waits_for_is_stored_with_the_next() {
    let store = Arc::new(MemoryStore::new(1));
    let mut log = Log::created(&door(&store), session(1)).await;
    let commit = log.next(vec![appended(message(1), None, "said")]);
    drop(store.commit(commit.clone()));
    assert!(!is_stored(&store, &log, 1).await);
    (log.hash, log.commits) = (commit.hash, [log.commits, vec![commit]].concat());
    log.add(&door(&store), vec![appended(message(2), None, "next")]).await;
    assert!(is_stored(&store, &log, 1).await);
}

#[tokio::test]
async fn too_many_waiting_writes_are_refused_and_those_before_are_stored() {
    let store = MemoryStore::new(1);
    let mut log = Log::of(session(1));
    let mut answers = Vec::new();
    for n in 0..=WRITES_WAITING_MAX as u128 {
        let commit = log.next(vec![appended(message(n), None, "one")]);
        answers.push(store.commit(commit.clone()));
        log.hash = commit.hash;
        log.commits = vec![commit];
    }
    let mut results = join_all(answers).await;
    let last = results.pop().expect("there are results");
    assert!(matches!(last, Err(StoreError::Unavailable(_))), "{last:?}");
    assert!(results.iter().all(Result::is_ok));
}

/// What several writers got answered, in the order in which they got it.
async fn course(seed: u64) -> Vec<String> {
    let plan = FaultPlan {
        at: [(30, Fault::Unknown)].into(),
        unavailable_permille: 100,
        unknown_permille: 10,
        key_taken_permille: 100,
        yields_max: 9,
    };
    let store = MemoryStore::with_faults(seed, plan);
    let heard = Mutex::new(Vec::new());
    let writer = async |n: u128| {
        let mut log = Log::of(session(n));
        for round in 0..20 {
            let mut commit = log.next(vec![appended(message(100 * n + round), None, "said")]);
            commit.keys = vec![key(&format!("{n} {round}"))];
            let result = store.commit(commit.clone()).await;
            heard.lock().expect("nobody panics").push(format!("{n} {round} {result:?}"));
            if matches!(result, Err(StoreError::Unknown(_))) {
                store.restart();
            }
            let loaded = store.load(log.session).await;
            if matches!(&loaded, Ok(Some(it)) if it.hash == commit.hash) {
                log.hash = commit.hash;
                log.commits.push(commit);
            }
        }
    };
    join_all((1..=4).map(writer)).await;
    heard.into_inner().expect("nobody panics")
}

#[tokio::test]
async fn the_same_seed_takes_the_same_course() {
    let first = course(5).await;
    assert_eq!(first, course(5).await);
    assert_ne!(first, course(6).await);
    for word in ["Ok", "Unavailable", "KeyTaken", "Unknown"] {
        assert!(first.iter().any(|it| it.contains(word)), "{word} happens");
    }
}
