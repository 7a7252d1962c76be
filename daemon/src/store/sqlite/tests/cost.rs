//! What a commit costs: time and bytes. Printed, for the numbers are of one machine.

use std::time::Instant;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_sessions_share_one_fsync() {
    let folder = Folder::new();
    let store = Arc::new(folder.open());
    let mut alone = Story::new(1);
    store.commit(alone.create()).await.unwrap();
    let mut times = Vec::new();
    for _ in 0..200 {
        for commit in alone.turn("hello", "hello") {
            let began = Instant::now();
            store.commit(commit).await.unwrap();
            times.push(began.elapsed());
        }
    }
    times.sort();
    let one = times[times.len() / 2];
    let mut bare = bare_commits(200);
    bare.sort();
    println!("one bare commit of a row {:?}", bare[bare.len() / 2]);
    let mut stories: Vec<Story> = (2..66).map(Story::new).collect();
    for story in &mut stories {
        store.commit(story.create()).await.unwrap();
    }
    let began = Instant::now();
    let each = stories.into_iter().map(|mut story| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for _ in 0..20 {
                for commit in story.turn("hello", "hello") {
                    store.commit(commit).await.unwrap();
                }
            }
        })
    });
    futures_util::future::join_all(each.collect::<Vec<_>>()).await;
    let many = began.elapsed() / (64 * 40);
    println!("one durable commit {one:?}; at 64 sessions {many:?} each");
    let began = Instant::now();
    for _ in 0..1000 {
        store.key("nothing", Timestamp::now()).await.unwrap();
    }
    println!("one look at a key {:?}", began.elapsed() / 1000);
    let began = Instant::now();
    for _ in 0..200 {
        store.load(alone.id).await.unwrap();
    }
    println!("one load {:?}", began.elapsed() / 200);
    assert!(many < one, "a shared commit is no cheaper: {many:?} against {one:?}");
}

#[tokio::test]
async fn a_turn_costs_fewer_bytes_than_its_json() {
    let folder = Folder::new();
    let store = folder.open();
    let mut story = told(&store, 1, 0).await;
    store.close().await.unwrap();
    drop(store);
    let size = || std::fs::metadata(folder.database()).unwrap().len();
    let before = size();
    let (store, mut bodies, turns) = (folder.open(), 0, 500);
    for _ in 0..turns {
        for commit in story.turn("hello", "hello") {
            bodies += commit.body.len() as u64;
            store.commit(commit).await.unwrap();
        }
    }
    store.close().await.unwrap();
    let (turn, json) = ((size() - before) / turns, bodies / turns);
    println!("bytes of a turn {turn}, of its JSON {json}");
    assert!(turn < json, "{turn} for {json}");
}

/// What SQLite itself needs to store one row for good.
fn bare_commits(count: usize) -> Vec<std::time::Duration> {
    let folder = Folder::new();
    std::fs::create_dir_all(folder.path()).unwrap();
    let conn = folder.by_hand();
    let settings = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE t(body)";
    conn.execute_batch(settings).unwrap();
    (0..count)
        .map(|_| {
            let began = Instant::now();
            conn.execute("INSERT INTO t VALUES(?)", ["x".repeat(1100)]).unwrap();
            began.elapsed()
        })
        .collect()
}
