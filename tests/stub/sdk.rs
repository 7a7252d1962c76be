//! Does the client library that the world uses understand the stub?

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use sess_tests::bins::workspace;

use crate::start;

/// The version the test was written against; another one would make it a test of something else.
const OPENAI: &str = "openai==3.52.0";

/// The same for the other vendors' own libraries.
const VENDORS: [&str; 4] =
    ["anthropic==2.12.0", "google-genai==3.4.0", "ollama==0.6.3", "openai==3.52.0"];

/// A Python that can import the libraries. It is made once and kept beside the builds.
fn python(name: &str, libraries: &[&str]) -> PathBuf {
    let directory = workspace().join("target/py").join(name);
    let python = directory.join("bin/python");
    let ready = directory.join("ready");
    // What stands there was made for these versions, or is made anew.
    if std::fs::read_to_string(&ready).ok().as_deref() != Some(&libraries.join(" ")) {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&directory));
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args(libraries));
        std::fs::write(ready, libraries.join(" ")).unwrap();
    }
    python
}

/// Runs a script of this folder against a stub's address.
async fn check(script: &str, python: PathBuf, address: String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("stub").join(script);
    let mut command = Command::new(python);
    command.arg(script).arg(address);
    tokio::task::spawn_blocking(move || run(&mut command)).await.unwrap();
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|err| panic!("{command:?}: {err}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_openai_library_understands_every_answer() {
    let stub = start().await;
    let error = |kind: &str| json!({"error": {"message": kind, "type": kind, "code": kind}});
    let limited = json!({"status": 429, "headers": {"retry-after": "1"}, "body": error("rate")});
    for (model, steps) in [
        ("text", json!([{"text": "Grüße, "}, {"split": 1}, {"text": "ä€😀"}])),
        ("paced", json!([{"pieces": 20, "every_ms": 2}])),
        (
            "usage",
            json!([{"text": "x"}, {"usage": {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}}]),
        ),
        ("unauthorized", json!([{"status": 401, "body": error("key")}])),
        ("bad", json!([{"status": 400, "body": error("context_length_exceeded")}])),
        ("limited", json!([limited])),
        ("retried", json!([limited])),
        ("retried", json!([{"text": "at last"}])),
        (
            "reasoning",
            json!([{"reasoning": "think"}, {"reasoning": "ing", "field": "reasoning"}, {"text": "said"}]),
        ),
        ("cut", json!([{"text": "half"}, {"cut": true}])),
        (
            "broken",
            json!([{"text": "half"}, {"error": {"message": "boom", "type": "server_error"}}]),
        ),
        ("length", json!([{"text": "x"}, {"finish": "length"}])),
    ] {
        stub.script(model, steps).await.unwrap();
    }
    let python = tokio::task::spawn_blocking(|| python(OPENAI, &[OPENAI])).await.unwrap();
    check("openai_sdk.py", python, stub.base_url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_vendors_libraries_understand_every_answer() {
    let stub = start().await;
    let usage = json!({"prompt_tokens": 9, "completion_tokens": 7, "total_tokens": 16,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 3}});
    let full = json!([{"reasoning": "think"}, {"reasoning": "ing"}, {"text": "Grüße, "},
        {"split": 1}, {"text": "ä€😀"}, {"usage": usage}]);
    stub.script("full", full).await.unwrap();
    stub.script("length", json!([{"text": "x"}, {"finish": "length"}])).await.unwrap();
    stub.script("cut", json!([{"text": "half"}, {"cut": true}])).await.unwrap();
    let error = json!({"message": "boom", "type": "api_error", "code": 500, "status": "INTERNAL"});
    stub.script("broken", json!([{"text": "half"}, {"error": error}])).await.unwrap();
    for status in [400, 401, 429, 500] {
        stub.script(&format!("status-{status}"), json!([{"status": status}])).await.unwrap();
    }
    let python = tokio::task::spawn_blocking(|| python("vendors", &VENDORS)).await.unwrap();
    check("vendors_sdk.py", python, stub.origin()).await;
}
