//! How is a session made, changed and deleted?

use serde_json::{Value, json};
use sess_tests::harness::daemon::Folder;
use sess_tests::harness::table::text;
use sess_tests::harness::{Daemon, Wire, stub, until_held};

async fn started() -> (Daemon, Wire) {
    let daemon = Daemon::start().await;
    let wire = daemon.wire().await;
    (daemon, wire)
}

fn of(session: &str) -> Value {
    json!({"session": session})
}

#[tokio::test]
async fn a_new_session_has_all_that_was_said_and_a_default_for_the_rest() {
    let (_daemon, mut wire) = started().await;
    let params = json!({"title": "a title", "description": "about", "system": "be brief",
        "scope": "project", "agent": "coder", "mode": "plan", "model": "echo/echo",
        "metadata": {"a": [1, {"b": null}]}, "tags": ["x", "y"]});
    let session = wire.ok("session/create", params.clone()).await;
    for (name, value) in params.as_object().unwrap() {
        assert_eq!(session[name], *value, "{name}");
    }
    assert!(session["id"].as_str().is_some_and(|it| it.len() == "sess_".len() + 32));
    assert_eq!(session["thread"], "main");
    assert_eq!(session["status"], "active");
    assert_eq!((&session["messages"], &session["tasks"]), (&json!(0), &json!(0)));
    assert_eq!(session["usage"]["cost_usd"], Value::Null, "never `0` for unknown");
    assert_eq!(wire.get(&text(&session["id"])).await, session);
}

#[tokio::test]
async fn without_params_a_session_has_the_model_of_the_settings_and_no_title() {
    let stub = stub().await;
    let daemon = Daemon::with_stub(&stub).await;
    let mut wire = daemon.wire().await;
    let session = wire.ok("session/create", json!({})).await;
    assert_eq!(session["model"], "stub/stub");
    assert_eq!(session["title"], "");
    assert_eq!((&session["scope"], &session["mode"]), (&json!("global"), &json!("ask")));
    assert_eq!(session["metadata"], json!({}));
    assert_eq!(session["tags"], json!([]));
    assert_eq!(session.get("workspace"), None);
}

#[tokio::test]
async fn the_title_is_the_first_user_text_on_one_line_until_one_is_set() {
    let (_daemon, mut wire) = started().await;
    let session = wire.session().await;
    let long = format!("two\nlines   and {}", "wörd ".repeat(20));
    wire.turn(&session, &long).await;
    let title = text(&wire.get(&session).await["title"]);
    assert!(title.starts_with("two lines"), "{title}");
    assert!(!title.contains('\n') && title.chars().count() <= 60, "{title}");
    wire.turn(&session, "something else").await;
    assert_eq!(wire.get(&session).await["title"], title);
    wire.ok("session/update", json!({"session": session, "title": "mine"})).await;
    wire.turn(&session, "and on").await;
    assert_eq!(wire.get(&session).await["title"], "mine");
}

#[tokio::test]
async fn an_update_replaces_what_is_given_and_keeps_the_rest() {
    let (_daemon, mut wire) = started().await;
    let made = wire
        .ok(
            "session/create",
            json!({"title": "t", "tags": ["a", "b"], "metadata": {"a": 1, "b": {"c": 2}}}),
        )
        .await;
    let update = json!({"session": made["id"], "tags": ["c"], "description": "d",
        "metadata": {"a": null, "b": {"d": 3}, "e": 4}, "budget": {"tokens": 5}});
    let session = wire.ok("session/update", update).await;
    assert_eq!(session["title"], "t");
    assert_eq!(session["tags"], json!(["c"]));
    assert_eq!(session["metadata"], json!({"b": {"d": 3}, "e": 4}));
    assert_eq!(session["description"], "d");
    assert_eq!(session["budget"], json!({"tokens": 5}));
    assert_eq!(session["seq"], made["seq"].as_u64().unwrap() + 1);
    let update = json!({"session": made["id"], "description": null, "budget": null});
    let session = wire.ok("session/update", update).await;
    assert_eq!((session.get("description"), session.get("budget")), (None, None));
}

#[tokio::test]
async fn an_update_is_an_event_with_who_made_it() {
    let (_daemon, mut wire) = started().await;
    let session = wire.session().await;
    wire.follow(&session).await;
    let client = json!({"protocol": 1, "client": {"name": "an editor"}});
    wire.ok("initialize", client).await;
    let answer = wire.ok("session/update", json!({"session": session, "title": "x"})).await;
    let event = wire.event("session.updated").await;
    assert_eq!(event["data"]["session"]["title"], "x");
    assert_eq!(event["by"], json!({"client": "an editor", "pid": std::process::id()}));
    assert_eq!((&event["seq"], &event["at"]), (&answer["seq"], &answer["updated_at"]));
}

#[tokio::test]
async fn an_expectation_that_does_not_hold_changes_nothing() {
    let (_daemon, mut wire) = started().await;
    let session = wire.session().await;
    let seq = wire.get(&session).await["seq"].as_u64().unwrap();
    for wrong in [0, seq - 1, seq + 1] {
        let update = json!({"session": session, "title": "x", "expect_seq": wrong});
        let data = wire.refused("conflict", "session/update", update).await;
        assert_eq!(data["seq"], seq);
    }
    let update = json!({"session": session, "title": "x", "expect_seq": seq});
    assert_eq!(wire.ok("session/update", update).await["seq"], seq + 1);
}

#[tokio::test]
async fn a_paused_session_queues_and_goes_on_when_it_is_active() {
    let (_daemon, mut wire) = started().await;
    let session = wire.session().await;
    wire.ok("session/update", json!({"session": session, "status": "paused"})).await;
    let sent = wire.say(&session, "hello").await;
    assert_eq!(wire.get(&session).await["queued"], 1);
    let still = wire.ok("task/wait", json!({"task": sent["task"], "timeout_ms": 30})).await;
    assert_eq!(still["task"]["status"], "queued");
    assert_eq!(wire.get(&session).await["status"], "paused", "a send does not end it");
    wire.ok("session/update", json!({"session": session, "status": "active"})).await;
    assert_eq!(wire.wait(&sent).await["task"]["status"], "completed");
}

#[tokio::test]
async fn a_send_turns_a_completed_session_into_an_active_one() {
    let (_daemon, mut wire) = started().await;
    let session = wire.session().await;
    let completed = json!({"session": session, "status": "completed"});
    wire.ok("session/update", completed.clone()).await;
    wire.turn(&session, "hello").await;
    assert_eq!(wire.get(&session).await["status"], "active");
    wire.ok("session/update", completed).await;
    assert_eq!(wire.ok("session/resume", of(&session)).await["session"]["status"], "active");
}

#[tokio::test]
async fn a_workspace_is_absolute_with_symbolic_links_resolved() {
    let (_daemon, mut wire) = started().await;
    let folder = Folder::new();
    let (real, link) = (folder.path().join("real"), folder.path().join("link"));
    std::fs::create_dir(&real).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let session = wire.ok("session/create", json!({"workspace": link})).await;
    assert_eq!(session["workspace"]["path"], json!(real));
    assert_eq!(session["workspace"]["name"], "real");
    let missing = json!({"workspace": folder.path().join("none")});
    let data = wire.refused("invalid_params", "session/create", missing).await;
    assert_eq!(data["param"], "workspace");
}

#[tokio::test]
async fn a_deleted_session_is_gone_for_everyone() {
    let (daemon, mut wire) = started().await;
    let (mut follower, mut waiter) = (daemon.wire().await, daemon.wire().await);
    let session = wire.session().await;
    let task = wire.turn(&session, "hello").await["task"]["id"].clone();
    follower.follow(&session).await;
    let seq = wire.get(&session).await["seq"].as_u64().unwrap();
    let deleted = wire.ok("session/delete", of(&session)).await;
    assert_eq!(deleted["deleted"], session);
    assert_eq!(deleted["backups"], json!([]));
    let event = follower.event("session.deleted").await;
    assert_eq!((&event["seq"], event.get("cursor")), (&json!(seq + 1), None));
    for (method, params) in [
        ("session/get", of(&session)),
        ("session/resume", of(&session)),
        ("session/follow", of(&session)),
        ("message/list", of(&session)),
        ("chat/send", json!({"session": session, "content": "x"})),
        ("task/get", json!({"task": task})),
        ("task/wait", json!({"task": task})),
    ] {
        waiter.refused("not_found", method, params).await;
    }
    assert_eq!(wire.ok("session/list", json!({"empty": true})).await["sessions"], json!([]));
    let daemon = daemon.killed_and_restarted().await;
    daemon.wire().await.refused("not_found", "session/get", of(&session)).await;
}

#[tokio::test]
async fn a_busy_session_is_deleted_only_by_force_and_who_waits_hears_of_it() {
    let stub = stub().await;
    stub.script("stub", json!([{"text": "a"}, {"hold": "h"}])).await.unwrap();
    let daemon = Daemon::with_stub(&stub).await;
    let (mut wire, mut waiter, mut locker) =
        (daemon.wire().await, daemon.wire().await, daemon.wire().await);
    let session = wire.session().await;
    wire.ok("session/lock", of(&session)).await;
    let sent = wire.say(&session, "hello").await;
    until_held(&stub, "h").await;
    let wait = waiter.start("task/wait", json!({"task": sent["task"]})).await;
    let lock = locker.start("session/lock", json!({"session": session, "wait_ms": 60_000})).await;
    let data = wire.refused("busy", "session/delete", of(&session)).await;
    assert_eq!(data["task"], sent["task"]);
    wire.ok("session/delete", json!({"session": session, "force": true})).await;
    let waited = waiter.answer(wait).await;
    // The wait may have seen the cancelled task just before the end of its session.
    assert!(
        waited.as_ref().is_ok_and(|it| it["task"]["status"] == "cancelled")
            || waited.as_ref().is_err_and(|it| it["data"]["kind"] == "not_found"),
        "{waited:?}"
    );
    assert_eq!(locker.answer(lock).await.unwrap_err()["data"]["kind"], "not_found");
    stub.wait_for(|it| matches!(it.what, sess_tests::stub::What::Ended { .. })).await.unwrap();
}

#[tokio::test]
async fn a_deletion_is_kept_in_the_global_log() {
    let (_daemon, mut wire) = started().await;
    let session = wire.session().await;
    wire.follow_from_start("global").await;
    let deleted = wire.ok("session/delete", of(&session)).await;
    let event = wire.event("session.deleted").await;
    assert_eq!((&event["session"], &event["seq"]), (&json!("global"), &deleted["seq"]));
    assert!(event["data"].to_string().contains(&session), "{event}");
}

#[tokio::test]
async fn a_blob_goes_with_the_last_session_that_uses_it() {
    let (_daemon, mut wire) = started().await;
    let long = "long ".repeat(20_000);
    let (first, second) = (wire.session().await, wire.session().await);
    for session in [&first, &second] {
        wire.turn(session, &long).await;
    }
    let messages = wire.ok("message/list", of(&first)).await;
    let blob = json!({"blob": messages["messages"][0]["content"][0]["blob"]});
    wire.ok("session/delete", of(&first)).await;
    wire.ok("blob/get", blob.clone()).await;
    wire.ok("session/delete", of(&second)).await;
    wire.refused("not_found", "blob/get", blob).await;
}

#[tokio::test]
async fn an_ephemeral_session_goes_with_its_creators_connection() {
    let (daemon, mut wire) = started().await;
    let mut creator = daemon.wire().await;
    let session = creator.ok("session/create", json!({"ephemeral": true})).await;
    assert_eq!(session["ephemeral"], true);
    wire.ok("daemon/follow", json!({})).await;
    drop(creator);
    let gone = json!({"id": session["id"], "deleted": true});
    wire.until(|it| it.method == "session" && it.params["session"] == gone || it.params == gone)
        .await;
    wire.refused("not_found", "session/get", of(&text(&session["id"]))).await;
}

#[tokio::test]
async fn an_ephemeral_session_that_is_spoken_in_stays() {
    let (daemon, mut wire) = started().await;
    let mut creator = daemon.wire().await;
    let spoken = text(&creator.ok("session/create", json!({"ephemeral": true})).await["id"]);
    let silent = text(&creator.ok("session/create", json!({"ephemeral": true})).await["id"]);
    creator.turn(&spoken, "hello").await;
    assert_eq!(wire.get(&spoken).await.get("ephemeral"), None);
    let daemon = daemon.killed_and_restarted().await;
    let mut wire = daemon.wire().await;
    assert_eq!(wire.texts(&spoken).await, ["hello", "hello"]);
    wire.refused("not_found", "session/get", of(&silent)).await;
}

#[tokio::test]
async fn a_manual_checkpoint_names_the_head() {
    let (_daemon, mut wire) = started().await;
    let session = wire.session().await;
    let answer = wire.turn(&session, "hello").await["answer"].clone();
    wire.follow(&session).await;
    let persisted = wire.ok("session/persist", of(&session)).await;
    let checkpoint = &persisted["checkpoint"];
    assert!(checkpoint["id"].as_str().unwrap().starts_with("cp_"));
    assert_eq!((&checkpoint["head"], &checkpoint["thread"]), (&answer["id"], &json!("main")));
    let event = wire.event("checkpoint.created").await;
    assert_eq!(event["seq"], persisted["seq"]);
    assert_eq!(event["data"]["checkpoint"], *checkpoint);
}

#[tokio::test]
async fn the_only_thread_is_main() {
    let (_daemon, mut wire) = started().await;
    let session = wire.session().await;
    let answer = wire.turn(&session, "hello").await["answer"].clone();
    let list = wire.ok("thread/list", of(&session)).await;
    assert_eq!(list["threads"].as_array().unwrap().len(), 1);
    assert_eq!(list["threads"][0]["id"], "main");
    assert_eq!(list["threads"][0]["head"], answer["id"]);
    assert_eq!(list["threads"][0]["messages"], 2);
}
