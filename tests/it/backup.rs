//! Can all be had back from a copy that was made while it was used?

use serde_json::{Value, json};
use sess_tests::harness::{Daemon, Plan, asked, stub, until_held};

async fn back_up(daemon: &Daemon, keep: u32) -> Value {
    daemon.wire().await.ok("daemon/backup", json!({ "keep": keep })).await["backup"].clone()
}

#[tokio::test]
async fn a_backup_made_amid_an_answer_is_put_back_and_is_another_history() {
    let stub = stub().await;
    stub.script_once("stub", json!([{"text": "first"}])).await.unwrap();
    stub.script_once("stub", json!([{"text": "begun "}, {"hold": "h"}, {"text": "done"}]))
        .await
        .unwrap();
    let daemon = Plan::new().stub(&stub).start().await;
    let mut wire = daemon.wire().await;
    let session = wire.session().await;
    wire.turn(&session, "one").await;
    wire.say(&session, "two").await;
    until_held(&stub, "h").await;
    let cursor = wire.follow(&session).await["cursor"].clone();
    let backup = back_up(&daemon, 7).await;
    assert_eq!(backup["sessions"], 1);
    stub.release("h").await.unwrap();
    let later = wire.session().await;
    assert_eq!(asked(&stub).await.len(), 2);

    let plan = daemon.plan().clone();
    assert_eq!(daemon.terminate().await, 0);
    let restore = plan.clone().arg("--restore").arg(backup["path"].as_str().unwrap());
    assert_eq!(restore.run().await, 0, "{}", restore.words());
    let daemon = plan.start().await;
    let mut wire = daemon.wire().await;
    let texts = wire.texts(&session).await;
    assert_eq!(texts[..3], ["one", "first", "two"], "all that was there at that moment");
    wire.refused("not_found", "session/get", json!({ "session": later })).await;
    let follow = json!({"session": session, "after": cursor});
    wire.refused("conflict", "session/follow", follow).await;
    let aside = std::fs::read_dir(plan.data_folder()).unwrap().map(|it| it.unwrap().path());
    let aside = aside.filter(|it| it.to_string_lossy().contains("replaced-")).collect::<Vec<_>>();
    assert!(aside[0].join("sess.db").exists(), "what was replaced is still there");
    wire.turn(&session, "three").await;
}

#[tokio::test]
async fn only_the_newest_stay_and_a_deletion_names_those_that_are_left() {
    let daemon = Daemon::start().await;
    let mut wire = daemon.wire().await;
    let session = wire.session().await;
    let mut made = Vec::new();
    for _ in 0..3 {
        made.push(back_up(&daemon, 2).await["path"].clone());
    }
    let deleted = wire.ok("session/delete", json!({ "session": session })).await;
    assert_eq!(deleted["backups"], json!(made[1..]));
    for path in &made[1..] {
        assert!(std::path::Path::new(path.as_str().unwrap()).exists());
    }
    assert!(!std::path::Path::new(made[0].as_str().unwrap()).exists());
    wire.refused("invalid_params", "daemon/backup", json!({"keep": 0})).await;
}

#[tokio::test]
async fn what_is_no_sound_copy_is_refused_and_the_store_is_left_as_it_is() {
    let daemon = Daemon::start().await;
    let mut wire = daemon.wire().await;
    let session = wire.session().await;
    let backup = back_up(&daemon, 7).await;
    let path = backup["path"].as_str().unwrap().to_owned();
    let plan = daemon.plan().clone();
    let restore = plan.clone().arg("--restore").arg(&path);
    assert_eq!(restore.run().await, 73, "not while a daemon runs");
    assert_eq!(daemon.terminate().await, 0);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes.truncate(middle);
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(restore.run().await, 65, "{}", restore.words());
    let daemon = plan.start().await;
    assert_eq!(daemon.wire().await.get(&session).await["id"], session.as_str());
}
