//! Are documents kept, told, and never read wrong?

use serde_json::{Value, json};
use sess_tests::harness::{Daemon, Plan, Wire, said, stub};

async fn started() -> (Daemon, Wire) {
    let daemon = Daemon::start().await;
    let wire = daemon.wire().await;
    (daemon, wire)
}

fn key(name: &str) -> Value {
    json!({"document": "settings", "key": name})
}

fn set(name: &str, value: Value) -> Value {
    json!({"document": "settings", "key": name, "value": value})
}

fn on_disk(plan: &Plan, document: &str) -> Value {
    let path = plan.state_folder().join(format!("{document}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|err| panic!("{path:?}: {err}"));
    serde_json::from_str(&text).unwrap()
}

#[tokio::test]
async fn a_key_that_is_set_can_be_read_and_is_on_disk_once_saved() {
    let (daemon, mut wire) = started().await;
    assert_eq!(wire.ok("state/set", set("theme", json!("dark"))).await["value"], "dark");
    assert_eq!(wire.ok("state/get", key("theme")).await["value"], "dark");
    let whole = wire.ok("state/get", json!({"document": "settings"})).await;
    assert_eq!(whole["value"]["theme"], "dark");
    wire.ok("state/save", json!({"document": "settings"})).await;
    assert_eq!(on_disk(daemon.plan(), "settings")["theme"], "dark");
    let daemon = daemon.killed_and_restarted().await;
    assert_eq!(daemon.wire().await.ok("state/get", key("theme")).await["value"], "dark");
}

#[tokio::test]
async fn a_key_that_is_not_there_is_null_and_deleting_it_is_no_error() {
    let (_daemon, mut wire) = started().await;
    assert_eq!(wire.ok("state/get", key("theme")).await["value"], Value::Null);
    wire.ok("state/set", set("theme", json!("dark"))).await;
    wire.ok("state/delete", key("theme")).await;
    assert_eq!(wire.ok("state/get", key("theme")).await["value"], Value::Null);
    wire.ok("state/delete", key("theme")).await;
}

#[tokio::test]
async fn a_whole_document_can_be_set_and_removed() {
    let (_daemon, mut wire) = started().await;
    let value = json!({"mine": {"kind": "echo"}});
    wire.ok("state/set", json!({"document": "providers", "value": value})).await;
    let all = wire.ok("state/all", json!({})).await;
    assert_eq!(all["documents"]["providers"], value);
    wire.ok("state/delete", json!({"document": "providers"})).await;
    let one = wire.ok("state/get", json!({"document": "providers", "key": "mine"})).await;
    assert_eq!(one["value"], Value::Null);
}

#[tokio::test]
async fn a_document_that_does_not_exist_is_refused() {
    let (_daemon, mut wire) = started().await;
    for method in ["state/get", "state/load", "state/save", "state/follow", "state/delete"] {
        let error = wire.call(method, json!({"document": "setings"})).await.unwrap_err();
        let kind = error["data"]["kind"].as_str().unwrap();
        assert!(["invalid_params", "not_found"].contains(&kind), "{method}: {error}");
    }
    for sly in ["../settings", "settings.json", "", "/etc/passwd"] {
        wire.call("state/get", json!({"document": sly})).await.unwrap_err();
    }
}

#[tokio::test]
async fn followers_of_a_document_hear_each_change() {
    let (daemon, mut wire) = started().await;
    let mut follower = daemon.wire().await;
    let first = follower.ok("state/follow", json!({"document": "settings"})).await;
    assert_eq!(first["value"].get("theme"), None);
    wire.ok("state/set", set("theme", json!("dark"))).await;
    let told = follower.next_notification().await;
    assert_eq!(told.method, "state");
    assert_eq!(told.params["document"], "settings");
    assert_eq!((&told.params["key"], &told.params["value"]), (&json!("theme"), &json!("dark")));
    wire.ok("state/delete", key("theme")).await;
    assert_eq!(follower.next_notification().await.params["value"], Value::Null);
}

#[tokio::test]
async fn a_file_changed_by_hand_is_read_again_when_asked_for() {
    let (daemon, mut wire) = started().await;
    wire.ok("state/set", set("theme", json!("dark"))).await;
    wire.ok("state/save", json!({"document": "settings"})).await;
    let path = daemon.plan().state_folder().join("settings.json");
    std::fs::write(&path, r#"{"theme": "light"}"#).unwrap();
    let loaded = wire.ok("state/load", json!({"document": "settings"})).await;
    assert_eq!(loaded["value"]["theme"], "light");
    assert_eq!(wire.ok("state/get", key("theme")).await["value"], "light");
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_set_aside_and_never_overwritten() {
    let (daemon, mut wire) = started().await;
    wire.ok("state/set", set("theme", json!("dark"))).await;
    wire.ok("state/save", json!({"document": "settings"})).await;
    let folder = daemon.plan().state_folder();
    let broken = r#"{"theme": "li"#;
    std::fs::write(folder.join("settings.json"), broken).unwrap();
    let _ = wire.call("state/load", json!({"document": "settings"})).await;
    let _ = wire.call("state/set", set("editor", json!("vi"))).await;
    let _ = wire.call("state/save", json!({"document": "settings"})).await;
    let kept = std::fs::read_dir(&folder)
        .unwrap()
        .any(|it| std::fs::read_to_string(it.unwrap().path()).is_ok_and(|text| text == broken));
    assert!(kept, "what a person wrote is still in {folder:?}");
}

#[tokio::test]
async fn a_setting_that_cannot_be_is_refused_and_the_old_one_stays() {
    let (_daemon, mut wire) = started().await;
    wire.ok("state/set", set("mode", json!("plan"))).await;
    let error = wire.call("state/set", set("mode", json!(7))).await.unwrap_err();
    assert_eq!(error["data"]["kind"], "invalid_params");
    assert_eq!(wire.ok("state/get", key("mode")).await["value"], "plan");
}

#[tokio::test]
async fn settings_and_providers_hold_from_the_next_task_on() {
    let stub = stub().await;
    stub.script("other", json!([{"text": "from the stub"}])).await.unwrap();
    let (_daemon, mut wire) = started().await;
    let before = wire.ok("session/create", json!({})).await;
    assert_eq!(before["model"], "echo/echo");
    let provider = json!({"document": "providers", "key": "new", "value": {"kind": "openai", "base_url": stub.base_url()}});
    wire.ok("state/set", provider).await;
    wire.ok("state/set", set("model", json!("new/other"))).await;
    let sent = wire.ok("chat/send", json!({"content": "hello"})).await;
    assert_eq!(said(&wire.wait(&sent).await["answer"]), "from the stub");
    assert_eq!(wire.get(before["id"].as_str().unwrap()).await["model"], "echo/echo");
}

#[tokio::test]
async fn the_models_are_those_of_the_providers_and_the_echo() {
    let provider =
        json!({"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "models": ["a", "b"]});
    let daemon = Plan::new()
        .document("providers", &json!({"mine": provider}))
        .document("settings", &json!({"model": "mine/b"}))
        .start()
        .await;
    let list = daemon.wire().await.ok("model/list", json!({})).await;
    let models = list["models"].as_array().unwrap();
    for id in ["mine/a", "mine/b", "echo/echo"] {
        let model =
            models.iter().find(|it| it["id"] == id).unwrap_or_else(|| panic!("{id}: {list}"));
        assert_eq!(model["default"], id == "mine/b");
    }
}

#[tokio::test]
async fn a_daemon_with_a_setting_that_cannot_be_does_not_start() {
    let text = r#"{"mode": 7}"#;
    let plan = Plan::new().text_document("settings", text);
    assert_eq!(plan.run().await, 78);
    assert!(plan.words().contains("mode"), "{}", plan.words());
    let path = plan.state_folder().join("settings.json");
    assert_eq!(std::fs::read_to_string(path).unwrap(), text, "a person is editing it");
}

#[tokio::test]
async fn half_a_document_is_set_aside_at_the_start() {
    let text = r#"{"model": "#;
    let daemon = Plan::new().text_document("settings", text).start().await;
    let folder = daemon.plan().state_folder();
    let mut kept = std::fs::read_dir(&folder).unwrap().map(|it| it.unwrap().path());
    assert!(kept.any(|it| std::fs::read_to_string(it).is_ok_and(|it| it == text)));
    assert!(daemon.plan().words().contains("settings"), "and that is said");
}
