//! Does `sessd --check` name what is damaged, and only that?

use std::os::unix::fs::FileExt;

use serde_json::json;
use sess_tests::harness::{Daemon, Plan};

/// A store with one session that says something to be found in the file; the event that does.
async fn store(words: &str) -> (Plan, String, u64) {
    let daemon = Daemon::start().await;
    let mut wire = daemon.wire().await;
    let session = wire.session().await;
    wire.turn(&session, "before").await;
    let update = json!({"session": session, "description": words});
    let seq = wire.ok("session/update", update).await["seq"].as_u64().unwrap();
    let plan = daemon.plan().clone();
    assert_eq!(daemon.terminate().await, 0);
    (plan, session, seq)
}

#[tokio::test]
async fn a_whole_store_is_fine() {
    let (plan, ..) = store("all is well").await;
    assert_eq!(plan.clone().arg("--check").run().await, 0, "{}", plan.words());
}

#[tokio::test]
async fn a_changed_word_is_named_with_its_session_and_place() {
    let (plan, session, seq) = store("a word to be found").await;
    let path = plan.data_folder().join("sess.db");
    let bytes = std::fs::read(&path).unwrap();
    let mut places = 0;
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    for at in 0..bytes.len() {
        if bytes[at..].starts_with(b"a word to be found") {
            file.write_all_at(b"A", at as u64).unwrap();
            places += 1;
        }
    }
    assert!(places > 0);
    assert_eq!(plan.clone().arg("--check").run().await, 65);
    let words = plan.words();
    let named = words.lines().any(|it| it.contains(&session) && it.contains(&format!("seq {seq}")));
    assert!(named, "the session and the place are named: {words}");
}

#[tokio::test]
async fn a_newer_store_is_left_alone() {
    let (plan, ..) = store("of the future").await;
    let file = std::fs::File::options().write(true).open(plan.data_folder().join("sess.db"));
    // The schema's number lies at byte 60 of SQLite's header.
    file.unwrap().write_all_at(&9_999_u32.to_be_bytes(), 60).unwrap();
    assert_eq!(plan.clone().arg("--check").run().await, 78, "{}", plan.words());
    assert_eq!(plan.run().await, 78, "{}", plan.words());
}
