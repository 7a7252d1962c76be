//! What does the daemon say of all sessions in the end, and is that what everybody was told?

use std::collections::HashMap;
use std::process::Command;

use serde_json::{Value, json};
use sess_tests::bins;
use sess_tests::harness::within;

use crate::line::{Line, Pen};
use crate::world::World;

/// Time between two looks at what still runs.
const LOOK_MS: u64 = 100;

/// Ends all tasks and waits until none is left.
pub(crate) async fn quiet(line: &mut Line) {
    within("the end of all tasks", async {
        loop {
            let status = line.ok("daemon/status", json!({})).await;
            let of = |name: &str| status["tasks"][name].as_u64().unwrap();
            if of("running") + of("queued") + of("waiting") == 0 {
                return;
            }
            for status in ["running", "queued", "waiting"] {
                let open = line.ok("task/list", json!({"status": status, "limit": 500})).await;
                for task in open["tasks"].as_array().unwrap() {
                    // It may be over, with its session, by then.
                    line.call("task/cancel", &json!({"task": task["id"]})).await.unwrap();
                }
            }
            crate::world::pass(std::time::Duration::from_millis(LOOK_MS)).await;
        }
    })
    .await;
}

/// Every session that is there.
pub(crate) async fn sessions(line: &mut Line) -> Vec<String> {
    let (mut found, mut cursor) = (Vec::new(), Value::Null);
    loop {
        let mut params = json!({"limit": 100, "empty": true});
        if cursor.is_string() {
            params["cursor"] = cursor;
        }
        let page = line.ok("session/list", params).await;
        let ids = page["sessions"].as_array().unwrap().iter();
        found.extend(ids.map(|it| it["id"].as_str().unwrap().to_owned()));
        cursor = page["next"].clone();
        if cursor.is_null() {
            return found;
        }
    }
}

/// Writes down what the daemon says of every session; the number of the last event of each.
pub(crate) async fn write(world: &World, line: &mut Line) -> HashMap<String, u64> {
    let mut pen = Pen::new(&world.folder.join("truth.jsonl"));
    let mut last = HashMap::new();
    for session in sessions(line).await {
        let of = json!({"session": session, "messages": 500});
        let view = line.ok("session/follow", of).await["view"].take();
        let seq = view["session"]["seq"].as_u64().unwrap();
        let mut reader = Line::connect(&world.socket).await;
        let start = json!({"session": session, "after": "start"});
        reader.ok("session/follow", start).await;
        let mut events = Vec::new();
        while events.last().is_none_or(|it: &Value| it["seq"].as_u64() < Some(seq)) {
            let told = within("the events from the first on", reader.next()).await.unwrap();
            if told["method"] == "event" {
                events.push(told["params"].clone());
            }
        }
        line.ok("session/unfollow", json!({"session": session})).await;
        pen.write(&json!({"session": session, "view": view, "events": events}));
        last.insert(session, seq);
    }
    last
}

/// Holds the histories against the truth, by the fold in Python; what it counted.
pub(crate) fn judge(world: &World) -> Value {
    let output = Command::new("python3")
        .arg(bins::workspace().join("tests/soak/check.py"))
        .arg(&world.folder)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONPATH", bins::workspace().join("protocol/examples"))
        .output()
        .expect("python3 is installed");
    let said = String::from_utf8_lossy(&output.stdout);
    let faults = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let kept = bins::workspace().join("target/soak-failed");
        let _ = std::fs::remove_dir_all(&kept);
        let copied = Command::new("cp").arg("-r").arg(&world.folder).arg(&kept).status();
        assert!(copied.unwrap().success());
        panic!("the histories in {}, judged by tests/soak/check.py:\n{faults}", kept.display());
    }
    serde_json::from_str(&said).unwrap()
}
