//! How is a session found again: by id, prefix, title, place, or as the active one?

use std::collections::HashMap;

use serde_json::{Value, json};
use sess_tests::harness::daemon::Folder;
use sess_tests::harness::table::text;
use sess_tests::harness::{Daemon, Wire};

/// Sessions after which two share four hex digits for sure enough: with 3,000 of 65,536 the odds against are e^-68.
const CROWD: usize = 3_000;

async fn started() -> (Daemon, Wire) {
    let daemon = Daemon::start().await;
    let wire = daemon.wire().await;
    (daemon, wire)
}

fn of(session: &str) -> Value {
    json!({"session": session})
}

fn ids(list: &Value) -> Vec<String> {
    list["sessions"].as_array().unwrap().iter().map(|it| text(&it["id"])).collect()
}

#[tokio::test]
async fn four_digits_find_a_session_with_or_without_the_prefix() {
    let (_daemon, mut wire) = started().await;
    let session = wire.session().await;
    for name in [&session[..9], &session[5..9], &session[5..], &session[..20], &session] {
        assert_eq!(wire.get(name).await["id"], session, "{name}");
    }
    wire.turn(&session[5..9], "hello").await;
    assert_eq!(wire.texts(&session).await.len(), 2);
    let error = wire.call("session/get", of(&session[5..8])).await.unwrap_err();
    let kind = error["data"]["kind"].as_str().unwrap();
    assert!(["not_found", "invalid_params"].contains(&kind), "three are not enough: {error}");
}

#[tokio::test]
async fn a_prefix_of_several_is_ambiguous_and_they_are_named() {
    let (_daemon, mut wire) = started().await;
    let mut seen = HashMap::<String, String>::new();
    let (mut prefix, mut pair) = (String::new(), Vec::new());
    for _ in 0..CROWD / 100 {
        let mut started = Vec::new();
        for _ in 0..100 {
            started.push(wire.start("session/create", json!({})).await);
        }
        for id in started {
            let session = text(&wire.answer(id).await.unwrap()["id"]);
            if let Some(other) = seen.insert(session[5..9].to_owned(), session.clone()) {
                prefix = session[5..9].to_owned();
                pair = vec![other, session];
            }
        }
        if !pair.is_empty() {
            break;
        }
    }
    let data = wire.refused("ambiguous", "session/get", of(&prefix)).await;
    let candidates = data["candidates"].to_string();
    assert!(pair.iter().all(|it| candidates.contains(it)), "{candidates}");
    assert!(data["candidates"].as_array().unwrap().len() <= 6);
}

#[tokio::test]
async fn an_id_of_another_kind_says_what_it_is_and_whose() {
    let (_daemon, mut wire) = started().await;
    let session = wire.session().await;
    let sent = wire.say(&session, "hello").await;
    wire.wait(&sent).await;
    for (what, id) in [("task", &sent["task"]), ("message", &sent["message"])] {
        let error = wire.call("session/get", json!({"session": id})).await.unwrap_err();
        assert_eq!(error["data"]["kind"], "not_found");
        assert_eq!(error["data"]["id"], *id);
        let said = error.to_string();
        assert!(said.contains(what) && said.contains(&session), "{said}");
    }
    let error = wire.call("task/get", json!({"task": session})).await.unwrap_err();
    assert_eq!(error["data"]["kind"], "not_found", "{error}");
    assert_eq!(error["data"]["what"], "task");
}

#[tokio::test]
async fn resume_also_takes_an_exact_title_and_answers_a_view() {
    let (_daemon, mut wire) = started().await;
    let made = wire.ok("session/create", json!({"title": "the plan"})).await;
    let session = text(&made["id"]);
    wire.turn(&session, "one").await;
    wire.turn(&session, "two").await;
    let view = wire.ok("session/resume", json!({"session": "the plan", "messages": 3})).await;
    assert_eq!(view["session"]["id"], session);
    assert_eq!(view["messages"].as_array().unwrap().len(), 3);
    assert_eq!(view["before"], view["messages"][0]["id"]);
    assert_eq!(view["threads"][0]["id"], "main");
    for list in ["goals", "plans", "notes", "tasks", "approvals", "tool_calls"] {
        assert_eq!(view[list], json!([]), "{list}");
    }
    let older = json!({"session": session, "before": view["before"]});
    let older = wire.ok("message/list", older).await;
    assert_eq!(older["messages"].as_array().unwrap().len(), 1);
    wire.refused("not_found", "session/resume", of("the pla")).await;
}

#[tokio::test]
async fn resume_of_nothing_takes_the_active_one_and_else_the_latest() {
    let (_daemon, mut wire) = started().await;
    wire.refused("not_found", "session/resume", json!({})).await;
    let (first, second) = (wire.session().await, wire.session().await);
    assert_eq!(wire.ok("session/resume", json!({})).await["session"]["id"], second);
    wire.ok("session/activate", of(&first)).await;
    assert_eq!(wire.ok("session/resume", json!({})).await["session"]["id"], first);
    wire.ok("session/activate", json!({"session": null})).await;
    assert_eq!(wire.ok("session/active", json!({})).await, Value::Null);
    // What changed in one millisecond is told apart by its id only.
    let before = wire.get(&first).await["updated_at"].clone();
    let latest = json!({"session": second, "title": "latest"});
    while wire.ok("session/update", latest.clone()).await["updated_at"] == before {}
    assert_eq!(wire.ok("session/resume", json!({})).await["session"]["id"], second);
}

#[tokio::test]
async fn the_active_session_is_the_one_made_resumed_activated_or_spoken_in_last() {
    let (daemon, mut wire) = started().await;
    let (first, second) = (wire.session().await, wire.session().await);
    assert_eq!(wire.ok("session/active", json!({})).await["id"], second);
    wire.ok("session/resume", of(&first)).await;
    assert_eq!(wire.ok("session/active", json!({})).await["id"], first);
    assert_eq!(wire.ok("session/activate", of(&second)).await["id"], second);
    assert_eq!(wire.ok("session/active", json!({})).await["id"], second);
    wire.turn(&first, "hello").await;
    assert_eq!(wire.ok("session/active", json!({})).await["id"], first);
    let mut wire = daemon.killed_and_restarted().await;
    assert_eq!(wire.wire().await.ok("session/active", json!({})).await["id"], first);
    wire = wire.killed_and_restarted().await;
    wire.wire().await.ok("session/delete", of(&first)).await;
    assert_eq!(wire.wire().await.ok("session/active", json!({})).await["id"], second);
}

#[tokio::test]
async fn each_workspace_has_its_own_active_session() {
    let (_daemon, mut wire) = started().await;
    let (one, two) = (Folder::new(), Folder::new());
    let in_one = wire.ok("session/create", json!({"workspace": one.path()})).await["id"].clone();
    let in_two = wire.ok("session/create", json!({"workspace": two.path()})).await["id"].clone();
    let active = async |wire: &mut Wire, folder: &Folder| {
        wire.ok("session/active", json!({"workspace": folder.path()})).await["id"].clone()
    };
    assert_eq!(active(&mut wire, &one).await, in_one);
    assert_eq!(active(&mut wire, &two).await, in_two);
    assert_eq!(wire.ok("session/active", json!({})).await["id"], in_two);
    let resumed = wire.ok("session/resume", json!({"workspace": one.path()})).await;
    assert_eq!(resumed["session"]["id"], in_one);
    let clear = json!({"session": null, "workspace": one.path()});
    wire.ok("session/activate", clear).await;
    assert_eq!(active(&mut wire, &one).await, Value::Null);
    assert_eq!(active(&mut wire, &two).await, in_two);
    let elsewhere = Folder::new();
    let nothing = json!({"workspace": elsewhere.path()});
    wire.refused("not_found", "session/resume", nothing).await;
}

#[tokio::test]
async fn pages_hold_every_session_exactly_once_latest_first() {
    let (_daemon, mut wire) = started().await;
    let mut made = Vec::new();
    for _ in 0..12 {
        made.push(wire.session().await);
    }
    let mut found = Vec::new();
    let mut params = json!({"limit": 5});
    let mut sizes = Vec::new();
    loop {
        let page = wire.ok("session/list", params.clone()).await;
        sizes.push(ids(&page).len());
        found.extend(page["sessions"].as_array().unwrap().clone());
        let Some(next) = page.get("next") else { break };
        params["cursor"] = next.clone();
    }
    assert_eq!(sizes, [5, 5, 2]);
    let times: Vec<_> = found.iter().map(|it| text(&it["updated_at"])).collect();
    assert!(times.is_sorted_by(|a, b| a >= b), "{times:?}");
    let mut found: Vec<_> = found.iter().map(|it| text(&it["id"])).collect();
    found.sort();
    made.sort();
    assert_eq!(found, made);
    wire.refused("invalid_params", "session/list", json!({"cursor": "x"})).await;
}

#[tokio::test]
async fn a_list_is_narrowed_by_what_sessions_have() {
    let (_daemon, mut wire) = started().await;
    let folder = Folder::new();
    let plain = json!({});
    let marked = json!({"title": "Grüße to all", "agent": "coder", "scope": "project",
        "tags": ["a", "b"], "workspace": folder.path()});
    wire.ok("session/create", plain).await;
    let session = text(&wire.ok("session/create", marked).await["id"]);
    wire.ok("session/update", json!({"session": session, "status": "completed"})).await;
    for by in [
        json!({"status": "completed"}),
        json!({"workspace": folder.path()}),
        json!({"scope": "project"}),
        json!({"agent": "coder"}),
        json!({"tag": "b"}),
        json!({"text": "to all"}),
    ] {
        assert_eq!(
            ids(&wire.ok("session/list", by.clone()).await),
            std::slice::from_ref(&session),
            "{by}"
        );
    }
    let none = wire.ok("session/list", json!({"tag": "b", "agent": "cook"})).await;
    assert_eq!(none["sessions"], json!([]));
}

#[tokio::test]
async fn a_session_that_changes_comes_first() {
    let (_daemon, mut wire) = started().await;
    let (first, second) = (wire.session().await, wire.session().await);
    assert_eq!(ids(&wire.ok("session/list", json!({})).await), [second.clone(), first.clone()]);
    wire.turn(&first, "hello").await;
    let list = wire.ok("session/list", json!({})).await;
    assert_eq!(ids(&list), [first.clone(), second]);
    assert_eq!(list["sessions"][0], wire.get(&first).await, "a list has whole sessions");
}

#[tokio::test]
async fn messages_are_paged_from_the_newest_to_the_oldest_and_behind_one() {
    let (_daemon, mut wire) = started().await;
    let session = wire.session().await;
    for number in 0..4 {
        wire.turn(&session, &format!("{number}")).await;
    }
    let all = wire.ok("message/list", of(&session)).await["messages"].clone();
    let page = async |wire: &mut Wire, more: Value| {
        let mut params = json!({"session": session, "limit": 3});
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        wire.ok("message/list", params).await
    };
    let newest = page(&mut wire, json!({})).await;
    assert_eq!(newest["messages"].as_array().unwrap()[..], all.as_array().unwrap()[5..]);
    let older = page(&mut wire, json!({"cursor": newest["next"]})).await;
    assert_eq!(older["messages"].as_array().unwrap()[..], all.as_array().unwrap()[2..5]);
    let oldest = page(&mut wire, json!({"cursor": older["next"]})).await;
    assert_eq!(oldest["messages"].as_array().unwrap()[..], all.as_array().unwrap()[..2]);
    assert_eq!(oldest.get("next"), None);
    let before = page(&mut wire, json!({"before": all[2]["id"]})).await;
    assert_eq!(before["messages"].as_array().unwrap()[..], all.as_array().unwrap()[..2]);
    let after = page(&mut wire, json!({"after": all[0]["id"]})).await;
    assert_eq!(after["messages"].as_array().unwrap()[..], all.as_array().unwrap()[1..4]);
    let newer = page(&mut wire, json!({"cursor": after["next"]})).await;
    assert_eq!(newer["messages"].as_array().unwrap()[..], all.as_array().unwrap()[4..7]);
}

#[tokio::test]
async fn tasks_are_listed_running_first_then_the_queue_then_the_newest_final() {
    let (_stub, _daemon, mut wire, world) = sess_tests::harness::table::daemon_with_world().await;
    let last = wire.say(&world.session, "third").await;
    wire.ok("task/cancel", json!({"task": last["task"]})).await;
    let list = wire.ok("task/list", of(&world.session)).await;
    let ids: Vec<_> = list["tasks"].as_array().unwrap().iter().map(|it| &it["id"]).collect();
    let [running, queued, done] = [&world.running, &world.queued, &world.done].map(|it| json!(it));
    assert_eq!(ids, [&running, &queued, &last["task"], &done]);
    assert_eq!(list["tasks"][0]["position"], 0);
    assert_eq!(list["tasks"][1]["position"], 1);
    assert_eq!(list["tasks"][1]["request"]["content"][0]["text"], "second");
    let queued = json!({"session": world.session, "status": "queued"});
    let list = wire.ok("task/list", queued).await;
    assert_eq!(list["tasks"].as_array().unwrap().len(), 1);
    assert_eq!(list["tasks"][0]["id"], world.queued);
}

#[tokio::test]
async fn a_workspace_says_what_is_checked_out_and_is_found_by_any_spelling() {
    let folder = Folder::new();
    let root = folder.path().canonicalize().unwrap();
    let commit = "1234567890123456789012345678901234567890";
    std::fs::create_dir_all(root.join("code/.git/refs/heads")).unwrap();
    std::fs::write(root.join("code/.git/HEAD"), "ref: refs/heads/main\n").unwrap();
    std::fs::write(root.join("code/.git/refs/heads/main"), format!("{commit}\n")).unwrap();
    std::os::unix::fs::symlink(root.join("code"), root.join("link")).unwrap();
    let daemon = Daemon::start().await;
    let mut wire = daemon.wire().await;
    let real = root.join("code").display().to_string();
    let link = root.join("link").display().to_string();
    let made = wire.ok("session/create", json!({"workspace": link})).await;
    let expected = json!({"path": real, "name": "code", "branch": "main", "commit": commit});
    assert_eq!(made["workspace"], expected);
    for spelling in [real.clone(), link, format!("{real}/"), format!("{real}/../code/.")] {
        let list = wire.ok("session/list", json!({"workspace": spelling, "empty": true})).await;
        assert_eq!(list["sessions"][0]["id"], made["id"], "{spelling}");
    }
    std::fs::write(root.join("code/.git/HEAD"), format!("{commit}\n")).unwrap();
    let made = wire.ok("session/create", json!({"workspace": real})).await;
    assert_eq!(
        (made["workspace"].get("branch"), &made["workspace"]["commit"]),
        (None, &json!(commit))
    );
}
