//! Does everyone who attaches, at any moment and however slowly, come to see the same session?
//!
//! [`stage`] is what a story plays on: a daemon that may be killed, and how far its model is. The followers are
//! [`strict`], which holds every line against the protocol, [`library`], which is the client library's, and
//! [`judge`], which is the client in Python. The stories: many followers ([`many`]), slow ones ([`slow`]), the
//! text that a kill leaves ([`kept`]), those who stop for long ([`stopped`]), and what is told of changes that were refused ([`refused`]). They run one after the other: what they measure is time.

#![allow(clippy::unwrap_used, reason = "a helper's failure is the failure of its test")]

mod judge;
mod kept;
mod library;
mod many;
mod refused;
mod slow;
mod stage;
mod stopped;
mod strict;

use serde_json::{Map, Value, json};
use tokio::sync::{Mutex, MutexGuard};

/// Waits until no other story runs.
async fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::const_new(());
    TURN.lock().await
}

/// All of it, or a tenth where `SESS_TENTH` says so.
fn full_or_tenth(count: u64) -> u64 {
    match std::env::var_os("SESS_TENTH") {
        Some(_) => count.div_ceil(10),
        None => count,
    }
}

/// A view as two are compared: absent is null, and what is computed for each answer is left out.
fn normal(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let counts = |name: &str| name != "followers" && name != "position";
            let kept = members.iter().filter(|(name, it)| !it.is_null() && counts(name));
            kept.map(|(name, it)| (name.clone(), normal(it))).collect::<Map<_, _>>().into()
        }
        Value::Array(values) => values.iter().map(normal).collect::<Vec<_>>().into(),
        other => other.clone(),
    }
}

/// The members in which two views differ, for the one who reads a failure.
fn difference(ours: &Value, theirs: &Value) -> Value {
    let mut found = Map::new();
    for (name, it) in theirs.as_object().unwrap() {
        if ours.get(name) != Some(it) {
            found.insert(name.clone(), json!({"ours": ours.get(name), "theirs": it}));
        }
    }
    found.into()
}
