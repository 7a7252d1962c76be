//! Does a secret ever get out: to disk, to a socket, to the log?

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::{Value, json};
use sess_tests::harness::{Daemon, Plan, Wire, said, stub};

/// None of them has the shape of a key: they are known or not found at all.
const IN_ENVIRONMENT: &str = "canary/environment/77aa11bb22cc33dd";
const IN_SETTINGS: &str = "canary/settings/88ee99ff00aa11bb22cc";
const SEALED: &str = "canary/sealed/c0ffee00c0ffee11c0ffee22";
/// Known to nobody, but of the shape of a key.
const SHAPED: &str = "sk-proj-canaryshape0123456789ABCDEFGHIJ";
const ALL: [&str; 4] = [IN_ENVIRONMENT, IN_SETTINGS, SEALED, SHAPED];

/// Every spelling that must not be found.
fn spellings(secret: &str) -> Vec<Vec<u8>> {
    let middle = |text: String| text.as_bytes()[4..text.len() - 4].to_vec();
    let mut all = vec![secret.as_bytes().to_vec(), secret.replace('/', "\\/").into_bytes()];
    if secret != SHAPED {
        for before in ["", "a", "ab"] {
            all.push(middle(STANDARD.encode(format!("{before}{secret}"))));
            all.push(middle(URL_SAFE.encode(format!("{before}{secret}"))));
        }
    }
    all
}

fn assert_clean(what: &str, bytes: &[u8]) {
    for secret in ALL {
        for spelling in spellings(secret) {
            let found = bytes.windows(spelling.len()).any(|it| it == spelling);
            assert!(!found, "{what} has `{secret}` as {:?}", String::from_utf8_lossy(&spelling));
        }
    }
}

fn assert_clean_below(folder: &Path, own: &[&Path]) -> usize {
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if own.contains(&path.as_path()) {
            continue;
        }
        if path.is_dir() {
            files += assert_clean_below(&path, own);
        } else if let Ok(bytes) = std::fs::read(&path) {
            assert_clean(&path.display().to_string(), &bytes);
            files += 1;
        }
    }
    files
}

/// All secrets in two pieces each, in base64, and in one that is never ended.
fn leaks() -> Value {
    let mut steps = Vec::new();
    for secret in ALL {
        let (first, second) = secret.split_at(secret.len() / 2);
        steps.extend([
            json!({"text": format!("here: {first}")}),
            json!({"text": format!("{second} there. ")}),
        ]);
        steps.push(json!({"reasoning": format!("I think {first}")}));
        steps.push(json!({"reasoning": format!("{second} it is")}));
        if secret != SHAPED {
            let encoded = STANDARD.encode(format!("x{secret}"));
            let (first, second) = encoded.split_at(11);
            steps.extend([json!({"text": first}), json!({"text": format!("{second} ")})]);
        }
    }
    Value::Array(steps)
}

async fn daemon_with_secrets(base_url: &str) -> Daemon {
    let provider = |more: Value| {
        let mut it = json!({"kind": "openai", "base_url": base_url});
        it.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        it
    };
    let providers = json!({
        "env": provider(json!({"api_key_env": "CANARY_KEY"})),
        "set": provider(json!({"headers": {"x-api-key": IN_SETTINGS}})),
        "cred": provider(json!({"credential": "canary"})),
    });
    let plan = Plan::new()
        .env("CANARY_KEY", IN_ENVIRONMENT)
        .env("SESS_LOG", "debug")
        .document("providers", &providers);
    plan.start().await
}

#[tokio::test]
async fn a_canary_in_environment_settings_and_credentials_gets_nowhere() {
    let stub = stub().await;
    stub.script("leaks", leaks()).await.unwrap();
    let daemon = daemon_with_secrets(&stub.base_url()).await;
    let mut wire = daemon.wire().await;
    let mut told: Vec<String> = Vec::new();
    let key = json!({"document": "credentials", "key": "canary", "value": SEALED});
    told.push(wire.ok("state/set", key).await.to_string());
    let session = wire.session().await;
    let mut follower = daemon.wire().await;
    follower.ok("session/follow", json!({"session": session})).await;
    for provider in ["env", "set", "cred"] {
        let model = format!("{provider}/leaks");
        wire.ok("session/update", json!({"session": session, "model": model})).await;
        let said_by_user = format!("my key is {SEALED}, {SHAPED} and {}", "long ".repeat(20_000));
        let sent = wire.say(&session, &said_by_user).await;
        told.push(sent.to_string());
        let done = wire.wait(&sent).await;
        assert_eq!(done["task"]["status"], "completed", "{done}");
        assert!(said(&done["answer"]).contains("[redacted]"), "{done}");
        told.push(done.to_string());
    }
    told.extend(until_done(&mut follower, 3).await);
    for method in ["state/all", "session/list", "model/list", "daemon/status"] {
        told.push(wire.ok(method, json!({})).await.to_string());
    }
    told.push(wire.ok("state/get", json!({"document": "credentials"})).await.to_string());
    for params in [json!({"session": SEALED}), json!({"session": session, "model": SHAPED})] {
        told.push(wire.call("session/update", params).await.unwrap_err().to_string());
    }
    assert_clean("the socket", told.concat().as_bytes());

    let provided = stub.log().await.unwrap();
    assert!(format!("{provided:?}").contains("authorization"), "the provider itself gets a key");
    let plan = daemon.kill().await;
    assert_clean("stderr", plan.words().as_bytes());
    let own = plan.state_folder().join("providers.json");
    assert!(assert_clean_below(plan.folder(), &[&own]) > 3);
}

async fn until_done(follower: &mut Wire, tasks: usize) -> Vec<String> {
    let mut told = Vec::new();
    let mut done = 0;
    while done < tasks {
        let it = follower.next_notification().await;
        done += usize::from(it.params["type"] == "task.completed");
        told.push(it.params.to_string());
    }
    // Pieces joined as a client would join them.
    let text = |it: &String| serde_json::from_str::<Value>(it).unwrap()["text"].clone();
    let joined: String =
        told.iter().map(|it| text(it).as_str().unwrap_or_default().to_owned()).collect();
    told.push(joined);
    told
}

#[tokio::test]
async fn a_credential_goes_in_is_sealed_on_disk_and_never_comes_out() {
    let daemon = Daemon::start().await;
    let mut wire = daemon.wire().await;
    let mut follower = daemon.wire().await;
    follower.ok("state/follow", json!({"document": "credentials"})).await;
    let at = |value: Value| json!({"document": "credentials", "key": "mine", "value": value});
    for value in [json!(SEALED), json!({"access": SEALED, "refresh": IN_SETTINGS, "expires_at": 1})]
    {
        assert_eq!(wire.ok("state/set", at(value)).await, json!({"value": {"set": true}}));
        assert_eq!(follower.next_notification().await.params["value"], json!({"set": true}));
    }
    for wrong in [json!(""), json!(5), json!({"access": 5}), json!([SEALED])] {
        let refused = wire.refused("invalid_params", "state/set", at(wrong)).await;
        assert_clean("a refusal", refused.to_string().as_bytes());
    }
    let whole = json!({"document": "credentials", "value": {"mine": SEALED}});
    wire.refused("invalid_params", "state/set", whole).await;
    let get = json!({"document": "credentials"});
    assert_eq!(wire.ok("state/get", get.clone()).await["value"], json!({"mine": {"set": true}}));
    let plan = daemon.kill().await;
    assert_clean_below(plan.folder(), &[]);

    let daemon = plan.start().await;
    let mut wire = daemon.wire().await;
    assert_eq!(wire.ok("state/get", get.clone()).await["value"], json!({"mine": {"set": true}}));
    wire.ok("state/delete", json!({"document": "credentials", "key": "mine"})).await;
    assert_eq!(wire.ok("state/get", get).await["value"], json!({}));
}

#[tokio::test]
async fn a_flipped_bit_in_a_credential_is_named_and_the_others_still_open() {
    let stub = stub().await;
    stub.script("m", json!([{"text": "hello"}])).await.unwrap();
    let provider =
        |it: &str| json!({"kind": "openai", "base_url": stub.base_url(), "credential": it});
    let providers = json!({"good": provider("good"), "bad": provider("bad")});
    let daemon = Plan::new().document("providers", &providers).start().await;
    let mut wire = daemon.wire().await;
    for name in ["good", "bad"] {
        wire.ok("state/set", json!({"document": "credentials", "key": name, "value": SEALED}))
            .await;
    }
    let plan = daemon.kill().await;
    let path = plan.state_folder().join("credentials.json");
    let mut document: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let sealed = STANDARD.decode(document["bad"].as_str().unwrap()).unwrap();
    let mut flipped = sealed.clone();
    flipped[40] ^= 4;
    document["bad"] = STANDARD.encode(flipped).into();
    std::fs::write(&path, document.to_string()).unwrap();

    let daemon = plan.start().await;
    assert!(plan.words().contains("the credential `bad`"), "{}", plan.words());
    let mut wire = daemon.wire().await;
    let made = wire.ok("session/create", json!({"model": "good/m"})).await;
    let done = wire.turn(made["id"].as_str().unwrap(), "hi").await;
    assert_eq!(done["task"]["status"], "completed", "{done}");
    wire.refused("model", "session/create", json!({"model": "bad/m"})).await;
    drop(daemon);

    // Without the key, the file alone opens nothing.
    std::fs::remove_file(plan.data_folder().join("credentials.key")).unwrap();
    let daemon = plan.start().await;
    assert!(plan.words().contains("the credential `good`"), "{}", plan.words());
    drop(daemon);
}
