//! A front end's own events.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::event::Event;

/// Bytes of the data of a front end's own event.
pub const EVENT_DATA_BYTES_MAX: usize = 64 * 1024;
/// Bytes of the type, and of the stream, of a front end's own event.
pub const EVENT_NAME_BYTES_MAX: usize = 128;

/// Params of `event/append`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct EventAppendParams {
    /// The session.
    pub session: String,
    /// The type: `<namespace>:<name>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// A name for the events that belong together, kept with the event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// Its data, at most 64 KiB as JSON. No fold takes it in.
    pub data: Map<String, Value>,
}

/// Result of `event/append`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EventAppendResult {
    /// The event as it is kept.
    pub event: Event,
    /// Its number.
    pub seq: u64,
}
