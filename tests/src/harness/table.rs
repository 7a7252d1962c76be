//! What is an example of each method's params, for tests made from the method table?

use base64::Engine;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Daemon, Wire};
use crate::stub::Stub;

/// Bytes of the first request of a world: more than stays in an event.
const LONG_TEXT_BYTES: usize = 70 * 1024;

/// Things for params to name: a session with a task that runs, held at the stub, and one that waits.
#[derive(Debug, Clone)]
pub struct World {
    /// The session.
    pub session: String,
    /// A task that is final.
    pub done: String,
    /// The task that runs until the hold `world` is released.
    pub running: String,
    /// The task behind it.
    pub queued: String,
    /// The blob of the running task's request.
    pub blob: String,
    /// A page that can be imported.
    pub page: String,
}

/// A session as a page, made by hand.
const PAGE: &str = "# a page\n\n**Created:** 2026-11-21T10:00:00.000Z\n**Messages:** 1\n\n---\n\n\
    ## User\n\n*2026-11-21T10:00:00.000Z*\n\nhello\n\n---\n\n";

impl World {
    /// Makes one. The stub's model `stub` is held at `world` from here on.
    ///
    /// # Panics
    /// When the daemon refuses.
    pub async fn new(stub: &Stub, wire: &mut Wire) -> World {
        let steps = json!([{"head": true}, {"hold": "world"}, {"echo": true}]);
        stub.script("stub", steps).await.expect("the script is one");
        let session = wire.ok("session/create", json!({"title": "a world"})).await;
        let session = text(&session["id"]);
        let long = "x".repeat(LONG_TEXT_BYTES);
        let short = json!({"session": session, "content": "done", "model": "echo/echo"});
        let done = wire.ok("chat/send", short).await;
        let done = text(&wire.ok("task/wait", json!({"task": done["task"]})).await["task"]["id"]);
        let first = json!({"session": session, "content": long});
        let running = text(&wire.ok("chat/send", first).await["task"]);
        let second = json!({"session": session, "content": "second"});
        let queued = text(&wire.ok("chat/send", second).await["task"]);
        let hash: String =
            Sha256::digest(long.as_bytes()).iter().map(|it| format!("{it:02x}")).collect();
        let data = base64::engine::general_purpose::STANDARD.encode(PAGE);
        let page = text(&wire.ok("blob/put", json!({"data": data})).await["blob"]);
        World { session, done, running, queued, blob: format!("sha256:{hash}"), page }
    }

    /// Params with which `method` does something in this world.
    ///
    /// # Panics
    /// When the method is new here: give it an example.
    pub fn example(&self, method: &str) -> Value {
        let session = &self.session;
        match method {
            "initialize" => json!({"protocol": 1, "client": {"name": "example"}}),
            "daemon/shutdown" => json!({"drain": false}),
            "daemon/status" | "daemon/reload" | "daemon/restart" | "daemon/backup"
            | "daemon/follow" | "session/list" | "session/active" | "state/all" | "agent/list"
            | "model/list" => {
                json!({})
            }
            "session/create" => json!({"title": "an example"}),
            "session/update" => json!({"session": session, "title": "another title"}),
            "session/delete" => json!({"session": session, "force": true}),
            "session/resume" | "session/get" | "session/activate" | "session/lock"
            | "session/release" | "session/persist" | "session/follow" | "session/unfollow"
            | "task/list" | "message/list" | "turn/list" | "thread/list" => {
                json!({"session": session})
            }
            "chat/send" => json!({"session": session, "content": "an example"}),
            "scope/switch" => json!({"workspace": "/"}),
            "model/check" => json!({"model": "echo/echo"}),
            "task/get" | "task/cancel" => json!({"task": self.queued}),
            "task/wait" => json!({"task": self.queued, "timeout_ms": 1}),
            "state/get" | "state/load" | "state/save" | "state/follow" => {
                json!({"document": "settings"})
            }
            "state/set" => json!({"document": "settings", "key": "theme", "value": "dark"}),
            "state/delete" => json!({"document": "settings", "key": "theme"}),
            "task/update" => json!({"task": self.queued, "content": "asked otherwise"}),
            "task/retry" => json!({"task": self.done}),
            "event/append" => json!({"session": session, "type": "it:example", "data": {"a": 1}}),
            "session/cleanup" => json!({"before": "2000-01-01T00:00:00.000Z"}),
            "session/usage" => json!({}),
            "session/export" => json!({"session": session}),
            "session/import" => json!({"blob": self.page, "format": "markdown"}),
            "blob/put" => json!({"data": "aGVsbG8="}),
            "blob/get" => json!({"blob": self.blob}),
            _ => panic!("`{method}` has no example"),
        }
    }

    /// The same params changed so that they ask for something else.
    ///
    /// # Panics
    /// When the example has no text to change.
    pub fn other_example(&self, method: &str) -> Value {
        let mut params = self.example(method);
        match method {
            "session/create" | "session/update" => params["title"] = json!("a third title"),
            "chat/send" => params["content"] = json!("something else"),
            "task/cancel" => params["task"] = json!(self.running),
            "task/update" => params["content"] = json!("asked yet otherwise"),
            "task/retry" => params["from"] = json!("here"),
            "event/append" => params["data"] = json!({"a": 2}),
            "session/cleanup" => params["dry_run"] = json!(true),
            "session/import" => params["format"] = json!("json"),
            "session/delete" => params["force"] = json!(false),
            "session/persist" => params["session"] = json!(&self.session["sess_".len()..]),
            _ => panic!("`{method}` has no other example"),
        }
        params
    }
}

/// A daemon with a stub and a world in it.
pub async fn daemon_with_world() -> (Stub, Daemon, Wire, World) {
    let stub = super::stub().await;
    let daemon = Daemon::with_stub(&stub).await;
    let mut wire = daemon.wire().await;
    let world = World::new(&stub, &mut wire).await;
    (stub, daemon, wire, world)
}

/// A text out of an answer.
///
/// # Panics
/// When it is none.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("`{value}` is not a text")).to_owned()
}

/// The bytes that a piece of a blob stands for.
///
/// # Panics
/// When it is not base64.
pub fn bytes(value: &Value) -> Vec<u8> {
    let data = base64::engine::general_purpose::STANDARD.decode(text(value));
    data.expect("a piece of a blob is base64")
}
