//! How does a story say the usual things in few words?

use serde_json::{Value, json};

use super::table::text;
use super::{Daemon, Wire, stub};
use crate::stub::Stub;
use crate::stub::log::What;

impl Wire {
    /// Makes a session and answers its id.
    pub async fn session(&mut self) -> String {
        text(&self.ok("session/create", json!({})).await["id"])
    }

    /// Sends a request and answers what `chat/send` did.
    pub async fn say(&mut self, session: &str, content: &str) -> Value {
        self.ok("chat/send", json!({"session": session, "content": content})).await
    }

    /// Waits until the task of such an answer is final; answers what `task/wait` did.
    pub async fn wait(&mut self, sent: &Value) -> Value {
        self.ok("task/wait", json!({"task": sent["task"]})).await
    }

    /// Says something and waits for the answer to it.
    pub async fn turn(&mut self, session: &str, content: &str) -> Value {
        let sent = self.say(session, content).await;
        self.wait(&sent).await
    }

    /// The session.
    pub async fn get(&mut self, session: &str) -> Value {
        self.ok("session/get", json!({"session": session})).await
    }

    /// What was said in a session, one text a message.
    pub async fn texts(&mut self, session: &str) -> Vec<String> {
        let list = self.ok("message/list", json!({"session": session, "limit": 500})).await;
        list["messages"].as_array().into_iter().flatten().map(said).collect()
    }

    /// Follows a session from now on; answers the view.
    pub async fn follow(&mut self, session: &str) -> Value {
        self.ok("session/follow", json!({"session": session})).await
    }

    /// Waits, as a follower, until the unfinished answer reads like this: then the daemon has it, not only the network.
    pub async fn until_written(&mut self, text: &str) {
        let mut so_far = String::new();
        while so_far != text {
            let told = self.next_notification().await;
            let new = match told.method.as_str() {
                "live" => {
                    so_far.clear();
                    told.params["blocks"][0]["text"].clone()
                }
                "delta" => told.params["text"].clone(),
                _ => Value::Null,
            };
            so_far.push_str(new.as_str().unwrap_or_default());
        }
    }

    /// Follows a session from its first event on, without pieces.
    pub async fn follow_from_start(&mut self, session: &str) -> Value {
        let params = json!({"session": session, "after": "start", "deltas": false});
        self.ok("session/follow", params).await
    }
}

/// The text of a message.
pub fn said(message: &Value) -> String {
    let blocks = message["content"].as_array().into_iter().flatten();
    blocks.filter(|it| it["type"] == "text").filter_map(|it| it["text"].as_str()).collect()
}

/// The last user messages of all requests that the stub got, in the order in which they came.
///
/// # Panics
/// When the stub is gone.
pub async fn asked(stub: &Stub) -> Vec<String> {
    let entries = stub.log().await.expect("the stub runs");
    entries.iter().filter_map(|it| last_words(&it.what)).collect()
}

/// Waits until the stub was asked this.
///
/// # Panics
/// When it is not.
pub async fn until_asked(stub: &Stub, content: &str) {
    let asked = stub.wait_for(|it| last_words(&it.what).is_some_and(|it| it == content)).await;
    asked.unwrap_or_else(|err| panic!("the model was not asked `{content}`: {err:#}"));
}

/// Waits until an answer of the stub is held.
///
/// # Panics
/// When none is.
pub async fn until_held(stub: &Stub, name: &str) {
    let held = stub.wait_for(|it| matches!(&it.what, What::Held { hold } if hold == name)).await;
    held.unwrap_or_else(|err| panic!("no answer is held at `{name}`: {err:#}"));
}

/// A session whose first answer has begun and stays unfinished until `h` is let go; with what its
/// request was answered.
///
/// # Panics
/// When it does not come so far.
pub async fn held() -> (Stub, Daemon, Wire, String, Value) {
    let stub = stub().await;
    let steps = json!([{"text": "begun "}, {"hold": "h"}, {"text": "done"}]);
    stub.script_once("stub", steps).await.expect("the stub runs");
    let daemon = Daemon::with_stub(&stub).await;
    let mut wire = daemon.wire().await;
    let session = wire.session().await;
    let mut watcher = daemon.wire().await;
    watcher.follow(&session).await;
    let first = wire.say(&session, "first").await;
    watcher.until_written("begun ").await;
    until_held(&stub, "h").await;
    (stub, daemon, wire, session, first)
}

fn last_words(what: &What) -> Option<String> {
    let What::Request { messages, .. } = what else { return None };
    let messages = messages.value();
    let content = &messages.as_array()?.last()?["content"];
    match content.as_str() {
        Some(text) => Some(text.to_owned()),
        None => Some(content.as_array()?.iter().filter_map(|it| it["text"].as_str()).collect()),
    }
}
