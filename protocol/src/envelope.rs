//! Requests, answers and notifications: JSON-RPC 2.0, one object a line.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::error::Error;

/// The number of this protocol.
pub const PROTOCOL: u64 = 1;
/// Answers that one connection may have outstanding.
pub const REQUESTS_MAX: usize = 256;
/// Connections that a daemon serves at a time.
pub const CONNECTIONS_MAX: usize = 1024;
/// Bytes of all unfinished lines of all connections together.
pub const UNFINISHED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of all long answers together that are made and not yet in their client's queue.
pub const ANSWERS_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of an idempotency key.
pub const KEY_BYTES_MAX: usize = 128;

/// What a client calls a request by.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum Id {
    /// An integer.
    Number(i64),
    /// A string.
    Text(String),
}

/// A request: answered exactly once.
#[derive(Debug)]
pub struct Request {
    /// What the answer is matched by.
    pub id: Id,
    /// The method, as `session/list`.
    pub method: String,
    /// Its params, unread.
    pub params: Option<Box<RawValue>>,
}

/// What a daemon sends: an answer or a notification, as a client reads it.
#[derive(Debug, Deserialize)]
pub struct Outgoing {
    /// Of an answer; null where the request's could not be read.
    #[serde(default)]
    pub id: Option<Id>,
    /// Of an answer that is no error.
    #[serde(default)]
    pub result: Option<Box<RawValue>>,
    /// Of an answer that is one.
    #[serde(default)]
    pub error: Option<Error>,
    /// Of a notification.
    #[serde(default)]
    pub method: Option<String>,
    /// Of a notification.
    #[serde(default)]
    pub params: Option<Box<RawValue>>,
}

/// The line that answers `id` with a result, newline included.
#[must_use]
pub fn result_line(id: &Id, result: &str) -> String {
    let id = serde_json::to_string(id).expect("an id is plain");
    let mut line = String::with_capacity(result.len() + id.len() + 40);
    line.push_str(r#"{"jsonrpc":"2.0","id":"#);
    line.push_str(&id);
    line.push_str(r#","result":"#);
    line.push_str(result);
    line.push_str("}\n");
    line
}

/// The line that answers `id` with an error, newline included.
#[must_use]
pub fn error_line(id: Option<&Id>, error: &Error) -> String {
    let id = serde_json::to_string(&id).expect("an id is plain");
    let error = serde_json::to_string(error).expect("an error is plain");
    format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"error\":{error}}}\n")
}

/// The line of a notification, newline included.
#[must_use]
pub fn notification_line(method: &str, params: &str) -> String {
    format!("{{\"jsonrpc\":\"2.0\",\"method\":\"{method}\",\"params\":{params}}}\n")
}

/// The line of a request, newline included.
#[must_use]
pub fn request_line(id: &Id, method: &str, params: &str) -> String {
    let id = serde_json::to_string(id).expect("an id is plain");
    let method = serde_json::to_string(method).expect("a string is plain");
    format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":{method},\"params\":{params}}}\n")
}
