//! Has a workspace settings of its own, found by every spelling of its path?

use serde_json::{Value, json};
use sess_tests::harness::daemon::Folder;
use sess_tests::harness::{Daemon, Plan, Wire};

/// A folder, and a link to it.
fn folder() -> (Folder, String, String) {
    let folder = Folder::new();
    let root = folder.path().canonicalize().unwrap();
    std::fs::create_dir(root.join("code")).unwrap();
    std::os::unix::fs::symlink(root.join("code"), root.join("link")).unwrap();
    let path = |name: &str| root.join(name).display().to_string();
    let (code, link) = (path("code"), path("link"));
    (folder, code, link)
}

async fn set(wire: &mut Wire, workspace: Value, key: &str, value: Value) -> Value {
    let params =
        json!({"document": "settings", "key": key, "value": value, "workspace": workspace});
    wire.ok("state/set", params).await
}

async fn made(wire: &mut Wire, params: Value) -> (Value, Value) {
    let session = wire.ok("session/create", params).await;
    (session["model"].clone(), session["mode"].clone())
}

#[tokio::test]
async fn a_workspaces_settings_hold_in_it_over_the_users() {
    let (_folder, code, link) = folder();
    let daemon = Plan::new()
        .document("settings", &json!({"model": "echo/users", "mode": "plan"}))
        .start()
        .await;
    let mut wire = daemon.wire().await;
    let here = || json!({ "workspace": link });
    let user = (json!("echo/users"), json!("plan"));
    assert_eq!(made(&mut wire, here()).await, user);
    set(&mut wire, json!(format!("{link}/")), "mode", json!("auto")).await;
    assert_eq!(made(&mut wire, here()).await, (json!("echo/users"), json!("auto")));
    set(&mut wire, json!(code), "model", json!("echo/here")).await;
    assert_eq!(made(&mut wire, here()).await, (json!("echo/here"), json!("auto")));
    assert_eq!(made(&mut wire, json!({})).await, user, "elsewhere nothing has changed");
    let asked = json!({"workspace": code, "model": "echo/asked", "mode": "full"});
    assert_eq!(made(&mut wire, asked).await, (json!("echo/asked"), json!("full")));
    // What is removed there is the user's again, also after a restart.
    set(&mut wire, json!(code), "mode", Value::Null).await;
    let daemon = daemon.killed_and_restarted().await;
    let mut wire = daemon.wire().await;
    assert_eq!(made(&mut wire, here()).await, (json!("echo/here"), json!("plan")));
    // A connection of that workspace makes its sessions there, also by the first thing said.
    let hello = json!({"protocol": 1, "client": {"name": "it"}, "workspace": code});
    wire.ok("initialize", hello).await;
    let sent = wire.ok("chat/send", json!({"content": "hello"})).await;
    assert_eq!(wire.wait(&sent).await["task"]["model"], "echo/here");
}

#[tokio::test]
async fn what_is_done_when_busy_is_a_workspaces_to_say() {
    let (_folder, code, _) = folder();
    let (_stub, daemon, mut wire) = held().await;
    set(&mut wire, json!(code), "if_busy", json!("reject")).await;
    for (params, refused) in [(json!({ "workspace": code }), true), (json!({}), false)] {
        let session = wire.ok("session/create", params).await["id"].clone();
        let send = json!({"session": session, "content": "a"});
        wire.ok("chat/send", send.clone()).await;
        assert_eq!(wire.call("chat/send", send).await.is_err(), refused);
    }
    drop(daemon);
}

/// A daemon whose model never comes to an end.
async fn held() -> (sess_tests::stub::Stub, Daemon, Wire) {
    let stub = sess_tests::harness::stub().await;
    stub.script("stub", json!([{"text": "begun"}, {"hold": "h"}])).await.unwrap();
    let daemon = Daemon::with_stub(&stub).await;
    let wire = daemon.wire().await;
    (stub, daemon, wire)
}

#[tokio::test]
async fn what_is_the_users_alone_is_refused_in_a_workspace_and_has_no_effect_there() {
    let (_folder, code, _) = folder();
    let daemon = Daemon::start().await;
    let mut wire = daemon.wire().await;
    for key in ["tasks.max_running", "credentials.key_command", "store.kind", "retention.days"] {
        let params = json!({"document": "settings", "key": key, "value": 1, "workspace": code});
        let error = wire.call("state/set", params).await.unwrap_err();
        assert_eq!(error["data"]["kind"], "invalid_params", "{key}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(key) && message.contains("user"), "{message}");
    }
    for document in ["providers", "credentials"] {
        let params =
            json!({"document": document, "key": "a", "value": {"kind": "echo"}, "workspace": code});
        let error = wire.refused("invalid_params", "state/set", params).await;
        assert_eq!(error["param"], "workspace", "{document}");
    }
    let all = wire.ok("state/all", json!({"document": "settings"})).await;
    let of_workspaces = |key: &str| all["described"][key]["workspace"].clone();
    assert_eq!((of_workspaces("mode"), of_workspaces("store.kind")), (json!(true), json!(false)));
}

#[tokio::test]
async fn no_file_in_a_workspace_is_read_as_its_settings() {
    let (_folder, code, _) = folder();
    let stranger = json!({"model": "evil/x", "mode": "full"}).to_string();
    let own = std::path::Path::new(&code).join(".sess");
    std::fs::create_dir(&own).unwrap();
    for place in [own.join("settings.json"), own.with_file_name("settings.json")] {
        std::fs::write(place, &stranger).unwrap();
    }
    let daemon = Daemon::start().await;
    let mut wire = daemon.wire().await;
    let made = made(&mut wire, json!({ "workspace": code })).await;
    assert_eq!(made, (json!("echo/echo"), json!("ask")));
}

#[tokio::test]
async fn a_connection_means_the_documents_of_its_workspace() {
    let (_folder, code, link) = folder();
    let daemon = Daemon::start().await;
    let mut wire = daemon.wire().await;
    let hello = json!({"protocol": 1, "client": {"name": "it"}, "workspace": link});
    wire.ok("initialize", hello).await;
    let theme = |value: &str| json!({"document": "settings", "key": "theme", "value": value});
    wire.ok("state/set", theme("here")).await;
    let mut users = theme("mine");
    users["workspace"] = Value::Null;
    wire.ok("state/set", users).await;
    let get =
        |workspace: Value| json!({"document": "settings", "key": "theme", "workspace": workspace});
    let own = json!({"document": "settings", "key": "theme"});
    assert_eq!(wire.ok("state/get", own.clone()).await["value"], "here");
    assert_eq!(wire.ok("state/get", get(json!(code))).await["value"], "here");
    assert_eq!(wire.ok("state/get", get(Value::Null)).await["value"], "mine");
    assert_eq!(daemon.wire().await.ok("state/get", own).await["value"], "mine");
    // Those that no workspace has are the user's, whatever the connection.
    let provider = json!({"document": "providers", "key": "p", "value": {"kind": "echo"}});
    wire.ok("state/set", provider).await;
    let list = wire.ok("state/get", json!({"document": "providers"})).await;
    assert_eq!(list["value"]["p"]["kind"], "echo");
}

#[tokio::test]
async fn a_path_that_is_not_absolute_is_refused_and_one_that_is_gone_is_still_found() {
    let (folder, code, link) = folder();
    let daemon = Daemon::start().await;
    let mut wire = daemon.wire().await;
    let session = wire.ok("session/create", json!({ "workspace": code })).await["id"].clone();
    for method in ["session/active", "session/resume", "session/list", "session/create"] {
        let error = wire.refused("invalid_params", method, json!({"workspace": "code"})).await;
        assert_eq!(error["param"], "workspace", "{method}");
    }
    std::fs::remove_dir(&code).unwrap();
    std::os::unix::fs::symlink(folder.path(), folder.path().join("again")).unwrap();
    let through = folder.path().join("again/code/").display().to_string();
    for spelling in [code.clone(), format!("{code}//."), through] {
        let active = wire.ok("session/active", json!({ "workspace": spelling })).await;
        assert_eq!(active["id"], session, "{spelling}");
    }
    let dangling = wire.ok("session/active", json!({ "workspace": link })).await;
    assert_eq!(dangling, Value::Null, "a link to nowhere is a folder of its own");
}

/// Two workspaces, and a session of each.
async fn two(wire: &mut Wire) -> (Folder, [String; 2], [Value; 2]) {
    let folder = Folder::new();
    let root = folder.path().canonicalize().unwrap();
    let paths = ["one", "two"].map(|it| root.join(it).display().to_string());
    paths.iter().for_each(|it| std::fs::create_dir(it).unwrap());
    let mut sessions = [Value::Null, Value::Null];
    for (path, id) in paths.iter().zip(&mut sessions) {
        *id = wire.ok("session/create", json!({ "workspace": path })).await["id"].clone();
    }
    (folder, paths, sessions)
}

#[tokio::test]
async fn a_switch_sets_the_projects_session_aside_loads_the_others_and_tasks_go_on() {
    let (stub, _daemon, mut wire) = held().await;
    let (_folder, [one, two], [first, second]) = two(&mut wire).await;
    let hello = json!({"protocol": 1, "client": {"name": "it"}, "workspace": one});
    wire.ok("initialize", hello).await;
    let sent = wire.ok("chat/send", json!({"session": first, "content": "hello"})).await;
    sess_tests::harness::until_held(&stub, "h").await;
    let seq = wire.get(first.as_str().unwrap()).await["seq"].clone();
    let switched = wire.ok("scope/switch", json!({ "workspace": format!("{two}/../two/") })).await;
    assert_eq!((&switched["set_aside"]["id"], &switched["loaded"]["id"]), (&first, &second));
    assert_eq!(switched["set_aside"]["seq"], seq, "it is left as it is");
    let running = switched["running"].as_array().unwrap();
    assert_eq!(running.len(), 1);
    assert_eq!((&running[0]["id"], &running[0]["status"]), (&sent["task"], &json!("running")));
    // What names no workspace means the new one from here on.
    assert_eq!(wire.ok("session/active", json!({})).await["id"], second);
    assert_eq!(wire.ok("session/resume", json!({})).await["session"]["id"], second);
    let made = wire.ok("session/create", json!({})).await;
    assert_eq!(made["workspace"]["path"], json!(two));
    wire.ok("state/set", json!({"document": "settings", "key": "theme", "value": "x"})).await;
    let of = |path: &str| json!({"document": "settings", "key": "theme", "workspace": path});
    assert_eq!(wire.ok("state/get", of(&two)).await["value"], "x");
    // Back again, to what was set aside; its task went on and ends.
    let back = wire.ok("scope/switch", json!({ "workspace": one })).await;
    assert_eq!((&back["set_aside"]["id"], &back["loaded"]["id"]), (&made["id"], &first));
    assert_eq!(back["running"], json!([]), "nothing runs in the folder that was left");
    stub.release("h").await.unwrap();
    wire.wait(&sent).await;
}

#[tokio::test]
async fn what_belongs_to_no_project_is_not_set_aside_and_nothing_is_loaded_where_nothing_is() {
    let daemon = Daemon::start().await;
    let mut wire = daemon.wire().await;
    let (folder, [one, two], [_, second]) = two(&mut wire).await;
    let general = json!({"agent": "general", "workspace": one});
    let general = wire.ok("session/create", general).await;
    let nothing = json!({"set_aside": null, "loaded": null, "running": []});
    let empty = folder.path().canonicalize().unwrap();
    assert_eq!(wire.ok("scope/switch", json!({ "workspace": empty })).await, nothing);
    let from = json!({"from": one, "workspace": two});
    let switched = wire.ok("scope/switch", from).await;
    assert_eq!((&switched["set_aside"], &switched["loaded"]["id"]), (&Value::Null, &second));
    let stays = wire.ok("scope/switch", json!({ "workspace": two })).await;
    assert_eq!((&stays["set_aside"], &stays["loaded"]["id"]), (&Value::Null, &second));
    let back = wire.ok("scope/switch", json!({ "workspace": one })).await;
    assert_eq!((&back["set_aside"]["id"], &back["loaded"]["id"]), (&second, &general["id"]));
    for workspace in ["two", "/nowhere/at/all", ""] {
        let params = json!({ "workspace": workspace });
        let error = wire.refused("invalid_params", "scope/switch", params).await;
        assert_eq!(error["param"], "workspace");
    }
    let still = wire.ok("session/active", json!({})).await;
    assert_eq!(still["id"], general["id"], "a refused switch leads nowhere");
    let mut observer = daemon.wire().await;
    let hello = json!({"protocol": 1, "client": {"name": "it"}, "role": "observer"});
    observer.ok("initialize", hello).await;
    let seen = observer.ok("scope/switch", json!({ "workspace": two })).await;
    assert_eq!(
        (&seen["loaded"]["id"], &seen["loaded"]["seq"]),
        (&second, &back["set_aside"]["seq"])
    );
    let hello = json!({"protocol": 1, "client": {"name": "it"}, "workspace": "two"});
    daemon.wire().await.refused("invalid_params", "initialize", hello).await;
}
