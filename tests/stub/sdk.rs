//! Does the client library that the world uses understand the stub?

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use sess_tests::bins::workspace;

use crate::start;

/// The version the test was written against; another one would make it a test of something else.
const OPENAI: &str = "openai==3.52.0";

/// A Python that can import the library. It is made once and kept beside the builds.
fn python() -> PathBuf {
    let directory = workspace().join("target/py").join(OPENAI);
    let python = directory.join("bin/python");
    let ready = directory.join("ready");
    if !ready.exists() {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&directory));
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet", OPENAI]));
        std::fs::write(ready, "").unwrap();
    }
    python
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
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("stub/openai_sdk.py");
    let base_url = stub.base_url();
    tokio::task::spawn_blocking(move || run(Command::new(python()).arg(script).arg(base_url)))
        .await
        .unwrap();
}
