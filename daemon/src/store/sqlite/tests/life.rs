//! What holds from the first start to the last close.

use super::*;

#[tokio::test]
async fn what_was_answered_is_there_after_any_end() {
    let folder = Folder::new();
    let store = folder.open();
    let mut story = told(&store, 1, 3).await;
    agrees(&store, &story).await.unwrap();
    drop(store);
    let store = folder.open();
    agrees(&store, &story).await.unwrap();
    let [begin, _] = story.turn("more", "text");
    story.view = View::default();
    store.commit(begin).await.unwrap();
    store.close().await.unwrap();
    assert!(!folder.log().exists());
    drop(store);
    let store = folder.open();
    let found = store.sessions(SessionFilter { limit: 9, unsettled: true, ..Default::default() });
    assert_eq!(found.await.unwrap()[0]["seq"], 8);
    assert_eq!(store.counts().await.unwrap().running, 1);
}

#[tokio::test]
async fn refused_commits_change_nothing_and_spoil_no_other_of_their_batch() {
    let folder = Folder::new();
    let store = folder.open();
    let mut story = told(&store, 1, 1).await;
    let [begin, end] = story.turn("question", "answer");
    let mut keyed = begin.clone();
    let digest = Hash::of(b"params");
    keyed.keys.push(KeyRecord { key: "k".into(), digest, answer: "{}".into() });
    let mut twice = end.clone();
    twice.keys = keyed.keys.clone();
    let mut torn = end.clone();
    torn.hash = Hash::of(b"other");
    let answers = futures_util::future::join_all([
        store.commit(end.clone()),
        store.commit(keyed),
        store.commit(begin),
        store.commit(twice),
        store.commit(torn),
        store.commit(end),
    ]);
    let refused = Err(StoreError::NotNext);
    let taken = Err(StoreError::KeyTaken);
    assert_eq!(answers.await, [refused.clone(), Ok(()), refused.clone(), taken, refused, Ok(())]);
    assert_eq!(store.key("k", NOW).await.unwrap().unwrap().digest, digest);
    agrees(&store, &story).await.unwrap();
}

#[tokio::test]
async fn deleting_a_session_frees_its_blobs_and_keys_but_not_shared_ones() {
    let folder = Folder::new();
    let store = folder.open();
    let blob = |text: &str| NewBlob { hash: Hash::of(text.as_bytes()), bytes: text.into() };
    for (n, own) in [(1, "first"), (2, "second")] {
        let mut story = told(&store, n, 1).await;
        let names = [own, "shared"].map(|it| format!("sha256:{}", blob(it).hash));
        let mut commit = story.commit(&[("notice", json!({"thing": {"id": "x", "blobs": names}}))]);
        commit.blobs = vec![blob(own), blob("shared")];
        let key = KeyRecord { key: own.into(), digest: Hash::default(), answer: "1".into() };
        commit.keys.push(key);
        store.commit(commit).await.unwrap();
    }
    let mut global = Story::new(0);
    global.id = SessionId::GLOBAL;
    let mut commit = global.commit(&[("session.deleted", json!({"deleted": session(1)}))]);
    commit.deletes = Some(session(1));
    store.commit(commit).await.unwrap();
    assert!(store.load(session(1)).await.unwrap().is_none());
    assert!(store.key("first", NOW).await.unwrap().is_none());
    assert!(store.key("second", NOW).await.unwrap().is_some());
    assert!(store.blob(blob("first").hash, 0, 9).await.unwrap().is_none());
    let shared = store.blob(blob("shared").hash, 2, 3).await.unwrap().unwrap();
    assert_eq!(shared, (b"are".to_vec(), 6));
    assert_eq!(store.counts().await.unwrap().sessions, 1);
    let late = Story { hash: Hash::default(), ..Story::new(1) }.create();
    store.commit(late).await.unwrap();
}

#[tokio::test]
async fn unfinished_text_is_kept_until_its_message_comes() {
    let folder = Folder::new();
    let store = folder.open();
    let mut story = told(&store, 1, 0).await;
    let [begin, end] = story.turn("question", "one two");
    let (task, message) = (task((1 << 32) + 1), message((1 << 32) + 2));
    store.commit(begin).await.unwrap();
    for (reset, text) in [(false, "void"), (true, "one"), (false, " two")] {
        let pieces = vec![(0, true, "hm".to_owned()), (1, false, text.to_owned())];
        let piece = PartialPiece { session: story.id, task, message, reset, pieces };
        store.keep_partial(piece).await.unwrap();
    }
    drop(store);
    let store = folder.open();
    let partial = store.load(story.id).await.unwrap().unwrap().partial.unwrap();
    assert_eq!(partial.blocks, [(true, "hmhm".to_owned()), (false, "one two".to_owned())]);
    assert_eq!((partial.task, partial.message), (task, message));
    store.commit(end).await.unwrap();
    let pieces = vec![(0, false, "late".to_owned())];
    let late = PartialPiece { session: story.id, task, message, reset: false, pieces };
    store.keep_partial(late).await.unwrap();
    assert!(store.load(story.id).await.unwrap().unwrap().partial.is_none());
}

#[tokio::test]
async fn things_of_any_kind_are_folded_as_the_view_folds_them() {
    let folder = Folder::new();
    let store = folder.open();
    let mut story = told(&store, 1, 1).await;
    for n in 0..70_u32 {
        let commit = story.commit(&[
            ("goal.changed", json!({"goal": {"n": 2, "text": "ever new", "progress": n}})),
            ("goal.changed", json!({"goal": {"n": 1, "text": "later", "done_at": null}})),
            ("own:event", json!({"goal": {"n": 1, "text": "not folded"}})),
            ("unheard.of", json!({"gadget": {"id": "g", "turn": n}, "why": "so"})),
        ]);
        store.commit(commit).await.unwrap();
    }
    let gone = story.commit(&[("goal.changed", json!({"goal": {"n": 1, "removed": true}}))]);
    store.commit(gone).await.unwrap();
    agrees(&store, &story).await.unwrap();
    let seqs: String = folder
        .by_hand()
        .query_row("SELECT seqs FROM things WHERE kind = 'goal'", (), |row| row.get(0))
        .unwrap();
    assert!(seqs.len() < 300, "{seqs}");
}

#[tokio::test]
async fn a_newer_database_is_refused_with_every_byte_as_it_was() {
    let folder = Folder::new();
    told(&folder.open(), 1, 1).await;
    folder.open().close().await.unwrap();
    folder.by_hand().pragma_update(None, "user_version", 7).unwrap();
    let all = || {
        let files = std::fs::read_dir(folder.path()).unwrap().map(|it| it.unwrap().path());
        let mut files: Vec<_> = files.map(|it| (it.clone(), std::fs::read(it).unwrap())).collect();
        files.sort();
        files
    };
    let before = all();
    let refused = SqliteStore::open(folder.path()).unwrap_err();
    let known = schema::number(schema::MIGRATIONS);
    let newer = matches!(refused, OpenError::Newer { found: 7, known: it } if it == known);
    assert!(newer, "{refused}");
    assert!(before == all());
}

/// It is compiled into SQLite, and nobody may ever switch it on: code from a file is no part of a database.
#[tokio::test]
async fn no_connection_loads_an_extension() {
    let folder = Folder::new();
    let store = folder.open();
    let library = folder.path().join("extension.so");
    std::fs::write(&library, "").unwrap();
    let own = open::connect(&folder.database(), rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE);
    for conn in [
        own.unwrap(),
        open::reading(folder.path()).unwrap(),
        open::importing(folder.path()).unwrap(),
    ] {
        let sql = "SELECT load_extension(?)";
        let err = conn.query_row(sql, [library.to_str()], |_| Ok(())).unwrap_err();
        let words = err.to_string();
        assert!(words.contains("not authorized") || words.contains("no such function"), "{words}");
        // Nor from the schema of a database that somebody else made.
        let sql = "CREATE VIEW evil AS SELECT load_extension('x')";
        let done = conn
            .execute_batch(sql)
            .and_then(|()| conn.query_row("SELECT * FROM evil", (), |_| Ok(())));
        assert!(done.is_err());
        let _ = conn.execute_batch("DROP VIEW evil");
    }
    store.close().await.unwrap();
}

#[test]
fn a_migration_keeps_a_backup_and_is_taken_once() {
    let folder = Folder::new();
    std::fs::create_dir_all(folder.path()).unwrap();
    let flags = rusqlite::OpenFlags::default();
    let mut conn = open::connect(&folder.database(), flags).unwrap();
    schema::migrate(&mut conn, folder.path(), &schema::MIGRATIONS[..1]).unwrap();
    let step = |name, sql| schema::Migration { name, sql, refolds: false };
    let more = step("more", "CREATE TABLE more(n INTEGER) STRICT");
    let steps = [schema::MIGRATIONS[0], more];
    for _ in 0..2 {
        schema::migrate(&mut conn, folder.path(), &steps).unwrap();
    }
    let version: i32 =
        conn.query_row("SELECT version FROM schema_version", (), |row| row.get(0)).unwrap();
    assert_eq!(version, 2);
    let backups: Vec<_> = std::fs::read_dir(folder.path().join("backups")).unwrap().collect();
    assert_eq!(backups.len(), 1);
    let bad = step("bad", "CREATE TABLE bad(n INTEGER); nonsense");
    let steps = [steps[0], steps[1], bad];
    assert!(schema::migrate(&mut conn, folder.path(), &steps).is_err());
    let count: i32 = conn
        .query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'bad'", (), |row| row.get(0))
        .unwrap();
    assert_eq!(count, 0);
    let other = step("first", "SELECT 1");
    assert!(matches!(
        schema::migrate(&mut conn, folder.path(), &[other, more]),
        Err(OpenError::Damaged(_))
    ));
}

/// At first a body was kept whole, and what was kept then is as good as ever.
#[tokio::test]
async fn a_database_of_the_first_step_is_read_as_before() {
    let folder = Folder::new();
    let store = folder.open();
    let mut story = told(&store, 1, 2).await;
    store.close().await.unwrap();
    drop(store);
    let hand = folder.by_hand();
    let rows: Vec<(i64, i64, i64, i64, [u8; 32], String)> = hand
        .prepare("SELECT id, session, first, last, hash, body FROM log")
        .unwrap()
        .query_map((), |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
        })
        .unwrap()
        .map(Result::unwrap)
        .collect();
    for (id, no, first, last, hash, kept) in rows {
        assert!(!kept.starts_with('['), "{kept}");
        let body = log::whole(story.id, &log::json(&kept).unwrap());
        let crc = log::sum(no, first, last, (&hash, body.as_bytes(), None));
        let sql = "UPDATE log SET body = ?, crc = ? WHERE id = ?";
        hand.execute(sql, rusqlite::params![body, crc, id]).unwrap();
    }
    let sql = "DELETE FROM migrations WHERE number > 1; DROP TABLE usage; DROP TABLE importing;
        DROP TABLE words; DROP VIEW log_json";
    hand.execute_batch(sql).unwrap();
    hand.pragma_update(None, "user_version", 1).unwrap();
    drop(hand);
    let store = folder.open();
    agrees(&store, &story).await.unwrap();
    for commit in story.turn("after", "the step") {
        store.commit(commit).await.unwrap();
    }
    agrees(&store, &story).await.unwrap();
    let hand = folder.by_hand();
    hand.execute("UPDATE sessions SET seq = 1", ()).unwrap();
    store.close().await.unwrap();
    drop((store, hand));
    agrees(&folder.open(), &story).await.unwrap();
    let text: String = folder
        .by_hand()
        .query_row("SELECT group_concat(text, '|') FROM messages", (), |row| row.get(0))
        .unwrap();
    assert_eq!(text, "question 0|answer 0|question 1|answer 1|after|the step");
    assert_eq!(std::fs::read_dir(folder.path().join("backups")).unwrap().count(), 1);
}

#[tokio::test]
async fn views_can_be_read_by_hand() {
    let folder = Folder::new();
    let store = folder.open();
    let mut story = told(&store, 1, 2).await;
    let call = json!({"tool_call": {"id": "call_1", "task": task(9), "name": "shell",
        "input": {"command": "ls"}, "status": "done"}});
    store.commit(story.commit(&[("tool.proposed", call)])).await.unwrap();
    let hand = folder.by_hand();
    let text: String = hand
        .query_row("SELECT group_concat(text, '|') FROM messages ORDER BY seq", (), |row| {
            row.get(0)
        })
        .unwrap();
    assert_eq!(text, "question 0|answer 0|question 1|answer 1");
    for (view, rows) in [
        ("tool_calls", 1),
        ("usage_logs", 2),
        ("pending_plans", 0),
        ("remembered_permissions", 0),
        ("compaction_history", 0),
        ("schema_version", 1),
        ("migrations", 6),
    ] {
        let sql = format!("SELECT count(*) FROM {view}");
        let count: i32 = hand.query_row(&sql, (), |row| row.get(0)).unwrap();
        assert_eq!(count, rows, "{view}");
    }
    let name: String = hand.query_row("SELECT name FROM tool_calls", (), |row| row.get(0)).unwrap();
    assert_eq!(name, "shell");
}

#[tokio::test]
async fn files_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let store = folder.open();
    told(&store, 1, 1).await;
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", file.path());
    }
    let mode = std::fs::metadata(folder.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[tokio::test]
async fn a_full_disk_refuses_and_the_store_goes_on_once_there_is_room() {
    let folder = Folder::new();
    let story = told(&folder.open(), 1, 3).await;
    let opened = open::open(folder.path()).unwrap();
    let pages: i64 = opened.conn.query_row("PRAGMA page_count", (), |row| row.get(0)).unwrap();
    opened.conn.pragma_update(None, "max_page_count", pages).unwrap();
    let store = SqliteStore::start(folder.path(), opened).unwrap();
    let mut long = Story { hash: story.hash, view: story.view.clone(), ..Story::new(1) };
    long.said = story.said;
    let [begin, _] = long.turn(&"word ".repeat(10_000), "answer");
    let mut other = Story::new(2);
    let answers = [store.commit(begin), store.commit(other.create())];
    let answers = futures_util::future::join_all(answers).await;
    assert!(matches!(answers[0], Err(StoreError::Unavailable(_))), "{answers:?}");
    assert!(futures_util::FutureExt::now_or_never(store.failed()).is_none());
    agrees(&store, &story).await.unwrap();
    drop(store);
    let store = folder.open();
    agrees(&store, &story).await.unwrap();
}

#[tokio::test]
async fn behind_a_failed_commit_nothing_is_stored_and_everybody_is_told() {
    use std::sync::atomic::AtomicBool;
    let folder = Folder::new();
    let mut story = told(&folder.open(), 1, 1).await;
    let mut opened = open::open(folder.path()).unwrap();
    let broken = Arc::new(AtomicBool::new(true));
    let fails = Arc::clone(&broken);
    opened.conn.commit_hook(Some(move || fails.load(Ordering::Relaxed))).unwrap();
    let store = SqliteStore::start(folder.path(), opened).unwrap();
    let [begin, end] = story.turn("question", "answer");
    let answer = store.commit(begin.clone()).await;
    assert!(matches!(answer, Err(StoreError::Unknown(_))), "{answer:?}");
    store.failed().await;
    broken.store(false, Ordering::Relaxed);
    for commit in [begin, end] {
        let answer = store.commit(commit).await;
        assert!(matches!(answer, Err(StoreError::Unknown(_))), "{answer:?}");
    }
    assert_eq!(store.load(story.id).await.unwrap().unwrap().view.seq(), 3);
    assert!(matches!(store.close().await, Err(StoreError::Unknown(_))));
}

#[tokio::test]
async fn pages_tasks_and_the_active_session_come_in_order() {
    let folder = Folder::new();
    let store = folder.open();
    let story = told(&store, 1, 5).await;
    let id = |n: u128| message((1 << 32) + n);
    let page = |before: Option<u128>, after: Option<u128>, limit| MessagePage {
        head: id(10),
        before: before.map(id),
        after: after.map(id),
        limit,
    };
    for (page, want, more) in [
        (page(None, None, 3), 8..=10, true),
        (page(Some(3), None, 9), 1..=2, false),
        (page(None, Some(6), 2), 7..=8, true),
        (page(None, Some(8), 2), 9..=10, false),
        (page(Some(5), Some(2), 9), 3..=4, false),
    ] {
        let found = store.messages(story.id, page).await.unwrap().unwrap();
        let ids: Vec<Value> = found
            .messages
            .iter()
            .map(|it| serde_json::from_str::<Value>(it.get()).unwrap()["id"].clone())
            .collect();
        let want: Vec<Value> = want.map(|it| json!(id(it))).collect();
        assert_eq!((ids, found.more), (want, more), "{page:?}");
    }
    assert!(store.messages(story.id, page(Some(99), None, 3)).await.unwrap().is_none());
    let filter = TaskFilter { limit: 2, ..TaskFilter::default() };
    let tasks = store.tasks(filter.clone()).await.unwrap();
    let newest: Vec<_> = tasks.iter().map(|it| it["id"].clone()).collect();
    let own = |n: u128| task((1 << 32) + n);
    assert_eq!(newest, [json!(own(9)), json!(own(7))]);
    let behind = TaskFilter { behind: Some(own(7)), ..filter };
    assert_eq!(store.tasks(behind).await.unwrap()[0]["id"], json!(own(5)));
    assert_eq!(store.active(None).await.unwrap(), Some(story.id));
    let mut global = Story { id: SessionId::GLOBAL, ..Story::new(0) };
    store.commit(global.commit(&[("session.cleared", json!({}))])).await.unwrap();
    assert_eq!(store.active(None).await.unwrap(), None);
    assert_eq!(store.sessions_by_prefix("1f2e", 9).await.unwrap(), [story.id]);
    let title = format!("story {}", story.id);
    assert_eq!(store.sessions_by_title(&title, 9).await.unwrap(), [story.id]);
    let mark = store.mark(story.id, story.view.seq()).await.unwrap();
    assert_eq!(mark, Some(story.hash.mark()));
    assert_eq!(store.mark(story.id, story.view.seq() + 1).await.unwrap(), None);
}
