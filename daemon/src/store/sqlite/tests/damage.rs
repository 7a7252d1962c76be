//! Whatever happens to the files: what is read is right, or it is an error.

use super::*;

/// The damage of a test is chosen by a fixed sequence, so that a failure can be seen again.
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// A store of three sessions, closed, and what is in it.
async fn golden(folder: &Folder) -> Vec<Story> {
    let store = folder.open();
    let mut stories = Vec::new();
    for n in 1..4 {
        stories.push(told(&store, n, 12).await);
    }
    store.close().await.unwrap();
    stories
}

/// Opens what is left and reads all of it: everything right, or an error.
async fn right_or_error(folder: &Folder, stories: &[Story]) -> bool {
    let Ok(store) = SqliteStore::open(folder.path()) else { return false };
    let mut right = true;
    for story in stories {
        right &= agrees(&store, story).await.is_ok();
    }
    if let Ok(found) = store.sessions(SessionFilter { limit: 9, ..Default::default() }).await {
        let mut theirs: Vec<_> = found.into_iter().map(Value::Object).collect();
        let mut mine: Vec<_> =
            stories.iter().map(|it| Value::Object(it.view.session().clone())).collect();
        theirs.sort_by_key(|it| it["id"].to_string());
        mine.sort_by_key(|it| it["id"].to_string());
        assert_eq!(theirs, mine);
    }
    right
}

#[tokio::test]
async fn after_any_flipped_bit_what_is_read_is_right_or_an_error() {
    let folder = Folder::new();
    let stories = golden(&folder).await;
    let whole = std::fs::read(folder.database()).unwrap();
    let marker = std::fs::read(folder.path().join("store.json")).unwrap();
    let (mut state, mut refused) = (0x5e55_1234, 0);
    for _ in 0..300 {
        let mut bytes = whole.clone();
        let bit = usize::try_from(random(&mut state)).unwrap() % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let _ = std::fs::remove_file(folder.log());
        let _ = std::fs::remove_file(folder.path().join("sess.db-shm"));
        std::fs::write(folder.database(), &bytes).unwrap();
        std::fs::write(folder.path().join("store.json"), &marker).unwrap();
        refused += u32::from(!right_or_error(&folder, &stories).await);
    }
    println!("300 bits flipped, {refused} met with an error, all others read right");
    assert!(refused > 0 && refused < 300);
}

#[tokio::test]
async fn a_zeroed_page_and_a_cut_file_are_seen() {
    let folder = Folder::new();
    let stories = golden(&folder).await;
    let whole = std::fs::read(folder.database()).unwrap();
    let marker = std::fs::read(folder.path().join("store.json")).unwrap();
    let page = open::PAGE_BYTES as usize;
    for at in 0..whole.len() / page {
        for cut in [false, true] {
            let mut bytes = whole.clone();
            if cut {
                bytes.truncate(at * page)
            } else {
                bytes[at * page..][..page].fill(0)
            }
            let _ = std::fs::remove_file(folder.log());
            std::fs::write(folder.database(), &bytes).unwrap();
            std::fs::write(folder.path().join("store.json"), &marker).unwrap();
            let right = right_or_error(&folder, &stories).await;
            assert!(!(cut && right), "cut at page {at} and nothing seen");
        }
    }
}

#[tokio::test]
async fn a_database_that_is_gone_is_not_made_anew() {
    let folder = Folder::new();
    let store = folder.open();
    told(&store, 1, 1).await;
    drop(store);
    let log = std::fs::read(folder.log()).unwrap();
    std::fs::remove_file(folder.log()).unwrap();
    let refused = SqliteStore::open(folder.path()).unwrap_err();
    assert!(matches!(refused, OpenError::Damaged(_)), "{refused}");
    assert!(!folder.log().exists());
    std::fs::write(folder.log(), log).unwrap();
    folder.open().close().await.unwrap();
    std::fs::remove_file(folder.database()).unwrap();
    let refused = SqliteStore::open(folder.path()).unwrap_err();
    assert!(matches!(refused, OpenError::Damaged(_)), "{refused}");
    assert!(!folder.database().exists());
}

#[tokio::test]
async fn another_databases_log_is_refused() {
    let (folder, other) = (Folder::new(), Folder::new());
    for it in [&folder, &other] {
        told(&it.open(), 1, 1).await;
    }
    std::fs::copy(other.log(), folder.log()).unwrap();
    let refused = SqliteStore::open(folder.path()).unwrap_err();
    assert!(matches!(refused, OpenError::Damaged(_)), "{refused}");
}

#[tokio::test]
async fn damage_in_the_log_of_sqlite_is_not_taken_for_its_end() {
    let folder = Folder::new();
    let store = folder.open();
    let story = told(&store, 1, 4).await;
    drop(store);
    let whole = std::fs::read(folder.log()).unwrap();
    let marker = std::fs::read(folder.path().join("store.json")).unwrap();
    let database = std::fs::read(folder.database()).unwrap();
    let (mut state, mut refused, mut lost) = (0x5e55_4321, 0, 0);
    for _ in 0..200 {
        let mut bytes = whole.clone();
        let bit = usize::try_from(random(&mut state)).unwrap() % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(folder.database(), &database).unwrap();
        std::fs::write(folder.path().join("store.json"), &marker).unwrap();
        let _ = std::fs::remove_file(folder.path().join("sess.db-shm"));
        std::fs::write(folder.log(), &bytes).unwrap();
        match SqliteStore::open(folder.path()) {
            Err(_) => refused += 1,
            Ok(store) => {
                let seq = store.load(story.id).await.unwrap().unwrap().view.seq();
                assert!(seq >= story.view.seq() - 1, "bit {bit}: {seq}");
                lost += u32::from(seq < story.view.seq());
            }
        }
    }
    println!("200 bits of the log flipped: {refused} refused, {lost} taken for a crash's end");
    assert!(refused > 100);
}

#[tokio::test]
async fn a_damaged_projection_is_made_anew_and_a_damaged_commit_is_named() {
    let folder = Folder::new();
    let store = folder.open();
    let mut stories = Vec::new();
    for n in 1..4 {
        stories.push(told(&store, n, 3).await);
    }
    let hand = folder.by_hand();
    for change in [
        "UPDATE sessions SET thing = replace(thing, 'active', 'paused') WHERE no = 1",
        "UPDATE sessions SET title = 'other' WHERE no = 2",
        "UPDATE tasks SET seqs = '[4]' WHERE session = 1",
        "UPDATE things SET thing = '{}' WHERE session = 2",
        "UPDATE message_rows SET parent = NULL WHERE session = 3",
    ] {
        hand.execute(change, ()).unwrap();
        assert!(!check(folder.path()).unwrap().faults.is_empty(), "{change}");
        for story in &stories {
            agrees(&store, story).await.unwrap();
        }
        assert_eq!(check(folder.path()).unwrap().faults, [], "{change}");
    }
    hand.execute("UPDATE sessions SET status = 'paused' WHERE no = 3", ()).unwrap();
    let [begin, end] = stories[2].turn("after", "damage");
    store.commit(begin).await.unwrap();
    store.commit(end).await.unwrap();
    agrees(&store, &stories[2]).await.unwrap();
    let body = "UPDATE log SET body = replace(body, 'answer 1', 'answer 9') WHERE session = 2";
    hand.execute(body, ()).unwrap();
    let read = store.events(session(2), 0, 99, usize::MAX).await.unwrap_err();
    let named =
        format!("session `{}` is damaged at seq 5: the checksum does not match", session(2));
    assert_eq!(read, StoreError::Damaged(named.clone()));
    agrees(&store, &stories[0]).await.unwrap();
    let report = check(folder.path()).unwrap();
    assert_eq!(report.faults[0], Fault { session: Some(session(2)), text: named });
    assert_eq!(report.sessions, 3);
}

#[tokio::test]
async fn a_commit_taken_out_or_changed_with_its_checksum_breaks_the_chain() {
    let folder = Folder::new();
    let store = folder.open();
    let story = told(&store, 1, 3).await;
    let hand = folder.by_hand();
    let (no, first, last, hash, body): (i64, i64, i64, [u8; 32], String) = hand
        .query_row("SELECT session, first, last, hash, body FROM log WHERE first = 4", (), |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
        })
        .unwrap();
    let forged = body.replace("question", "no words");
    let crc = log::sum(no, first, last, (&hash, forged.as_bytes(), None));
    let sql = "UPDATE log SET body = ?, crc = ? WHERE first = 4";
    hand.execute(sql, rusqlite::params![forged, crc]).unwrap();
    let read = store.events(story.id, 0, 99, usize::MAX).await.unwrap_err();
    assert!(read.to_string().contains("seq 4: the chain of hashes is broken"), "{read}");
    hand.execute("DELETE FROM log WHERE first = 4", ()).unwrap();
    let read = store.events(story.id, 0, 99, usize::MAX).await.unwrap_err();
    assert!(read.to_string().contains("seq 4: the event is missing"), "{read}");
    assert!(store.events(story.id, 3, 99, usize::MAX).await.is_err());
}
