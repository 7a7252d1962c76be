//! Who answers, and what is the model told before all else?

use serde_json::{Value, json};
use sess_tests::harness::daemon::Folder;
use sess_tests::harness::{Daemon, Plan, Wire, stub};
use sess_tests::stub::{Stub, What};

/// What the model was told before the messages, of each request in its order.
async fn told(stub: &Stub) -> Vec<String> {
    let entries = stub.log().await.unwrap();
    let requests = entries.iter().filter_map(|it| match &it.what {
        What::Request { messages, .. } => Some(messages.value()),
        _ => None,
    });
    let system = |it: Value| match it[0]["role"] == "system" {
        true => it[0]["content"].as_str().unwrap().to_owned(),
        false => String::new(),
    };
    requests.map(system).collect()
}

async fn agents(wire: &mut Wire, params: Value) -> Vec<Value> {
    wire.ok("agent/list", params).await["agents"].as_array().unwrap().clone()
}

async fn set_agents(wire: &mut Wire, agents: Value, workspace: Value) {
    let params =
        json!({"document": "settings", "key": "agents", "value": agents, "workspace": workspace});
    wire.ok("state/set", params).await;
}

#[tokio::test]
async fn four_agents_are_built_in_each_with_its_scope() {
    let daemon = Daemon::start().await;
    let mut wire = daemon.wire().await;
    let found = agents(&mut wire, json!({})).await;
    let row = |it: &Value| {
        assert!(it["description"].is_string() && it["source"] == "built-in", "{it}");
        (it["name"].as_str().unwrap().to_owned(), it["scope"].as_str().unwrap().to_owned())
    };
    let rows: Vec<(String, String)> = found.iter().map(row).collect();
    let own = |(name, scope): (&str, &str)| (name.to_owned(), scope.to_owned());
    let wanted = [
        ("general", "global"),
        ("brainstorm", "assistant"),
        ("architect", "project"),
        ("coder", "project"),
    ];
    assert_eq!(rows, wanted.map(own));
    let first = wire.ok("agent/list", json!({"limit": 3})).await;
    let rest = json!({"cursor": first["next"]});
    assert_eq!(agents(&mut wire, rest).await, found[3..]);
}

#[tokio::test]
async fn an_agent_says_its_scope_and_a_scope_its_usual_agent() {
    let folder = Folder::new();
    let daemon = Daemon::start().await;
    let mut wire = daemon.wire().await;
    for (params, scope, agent) in [
        (json!({}), "global", "general"),
        (json!({"scope": "global"}), "global", "general"),
        (json!({"scope": "assistant"}), "assistant", "brainstorm"),
        (json!({"scope": "project"}), "project", "coder"),
        (json!({"agent": "architect"}), "project", "architect"),
        (json!({"agent": "brainstorm", "scope": "assistant"}), "assistant", "brainstorm"),
        (json!({"agent": "general", "workspace": folder.path()}), "global", "general"),
        (json!({"workspace": folder.path()}), "project", "general"),
    ] {
        let made = wire.ok("session/create", params.clone()).await;
        assert_eq!((&made["scope"], &made["agent"]), (&json!(scope), &json!(agent)), "{params}");
    }
    let other = json!({"scope": "global", "agent": "coder"});
    let error = wire.refused("invalid_params", "session/create", other).await;
    assert_eq!((&error["param"], &error["scope"]), (&json!("scope"), &json!("project")));
    for (method, content) in [("session/create", None), ("chat/send", Some("hello"))] {
        let mut params = json!({"agent": "codre"});
        content.iter().for_each(|it| params["content"] = json!(it));
        let error = wire.refused("not_found", method, params).await;
        assert_eq!((&error["nearest"], &error["what"]), (&json!("coder"), &json!("agent")));
        assert_eq!(error["known"], json!(["general", "brainstorm", "architect", "coder"]));
    }
    assert_eq!(wire.ok("session/list", json!({"empty": true})).await["sessions"][8], Value::Null);
}

#[tokio::test]
async fn the_agents_text_comes_before_the_sessions_own() {
    let stub = stub().await;
    let daemon = Plan::new()
        .stub(&stub)
        .document("settings", &json!({"model": "stub/stub", "agents": {
            "cook": {"scope": "assistant", "system": "you cook", "model": "stub/kitchen", "mode": "plan"},
            "mute": {"scope": "global"}}}))
        .start()
        .await;
    let mut wire = daemon.wire().await;
    let made = wire.ok("session/create", json!({"agent": "cook", "system": "be brief"})).await;
    assert_eq!((&made["model"], &made["mode"]), (&json!("stub/kitchen"), &json!("plan")));
    let session = made["id"].as_str().unwrap().to_owned();
    wire.turn(&session, "one").await;
    // Another agent for one request alone.
    let send = json!({"session": session, "content": "two", "agent": "coder"});
    let sent = wire.ok("chat/send", send).await;
    let task = wire.wait(&sent).await["task"].clone();
    assert_eq!((&task["agent"], &task["model"]), (&json!("coder"), &json!("stub/kitchen")));
    let mute = json!({"session": session, "content": "three", "agent": "mute"});
    let sent = wire.ok("chat/send", mute).await;
    wire.wait(&sent).await;
    let told = told(&stub).await;
    assert_eq!(told[0], "you cook\n\nbe brief");
    assert!(told[1].starts_with("You write code") && told[1].ends_with("\n\nbe brief"), "{told:?}");
    assert_eq!(told[2], "be brief");
    assert_eq!(wire.get(&session).await["agent"], "cook", "the session's own stays");
    let sent = wire.ok("chat/send", json!({"content": "new", "agent": "cook"})).await;
    assert_eq!(wire.wait(&sent).await["task"]["model"], "stub/kitchen");
    let made = wire.get(sent["session"].as_str().unwrap()).await;
    assert_eq!((&made["agent"], &made["scope"]), (&json!("cook"), &json!("assistant")));
}

#[tokio::test]
async fn an_agent_is_what_the_workspace_says_over_the_user_over_what_is_built_in() {
    let stub = stub().await;
    let folder = Folder::new();
    let daemon = Daemon::with_stub(&stub).await;
    let mut wire = daemon.wire().await;
    set_agents(
        &mut wire,
        json!({"coder": {"model": "stub/users", "description": "mine"}}),
        Value::Null,
    )
    .await;
    set_agents(&mut wire, json!({"coder": {"system": "here"}}), json!(folder.path())).await;
    let here = agents(&mut wire, json!({"workspace": folder.path()})).await.pop().unwrap();
    let wanted = json!({"name": "coder", "scope": "project", "description": "mine",
        "model": "stub/users", "source": "settings"});
    assert_eq!(here, wanted);
    let params = json!({"agent": "coder", "workspace": folder.path()});
    let session = wire.ok("session/create", params).await["id"].as_str().unwrap().to_owned();
    wire.turn(&session, "one").await;
    // It holds from the next task on, also in a session that is there, and when nothing is left of it.
    set_agents(&mut wire, json!({"coder": {"system": "there"}}), json!(folder.path())).await;
    wire.turn(&session, "two").await;
    set_agents(&mut wire, Value::Null, json!(folder.path())).await;
    wire.turn(&session, "three").await;
    let told = told(&stub).await;
    assert_eq!(told[..2], ["here", "there"]);
    assert!(told[2].starts_with("You write code"), "{told:?}");
    let bad = json!({"document": "settings", "key": "agents", "value": {"x": {"scop": "global"}}});
    wire.refused("invalid_params", "state/set", bad).await;
}
