//! Documents: named JSON, owned by the daemon, kept as files for people.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Names a document, and perhaps one key of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct StateParams {
    /// The document, as `settings`.
    pub document: String,
    /// One key of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The workspace whose document is meant: the connection's without, the user's own with null.
    #[serde(
        default,
        deserialize_with = "crate::things::given",
        skip_serializing_if = "Option::is_none"
    )]
    pub workspace: Option<Option<String>>,
}

/// Params of `state/set`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct StateSetParams {
    /// The document.
    pub document: String,
    /// One key of it; the whole document without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Its new value.
    pub value: Value,
    /// The workspace whose document is meant: the connection's without, the user's own with null.
    #[serde(
        default,
        deserialize_with = "crate::things::given",
        skip_serializing_if = "Option::is_none"
    )]
    pub workspace: Option<Option<String>>,
}

/// Names a whole document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct StateDocumentParams {
    /// The document.
    pub document: String,
    /// The workspace whose document is meant: the connection's without, the user's own with null.
    #[serde(
        default,
        deserialize_with = "crate::things::given",
        skip_serializing_if = "Option::is_none"
    )]
    pub workspace: Option<Option<String>>,
}

/// Params of `state/all`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct StateAllParams {
    /// Only this document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<String>,
    /// The workspace whose documents are meant: the connection's without, the user's own with null.
    #[serde(
        default,
        deserialize_with = "crate::things::given",
        skip_serializing_if = "Option::is_none"
    )]
    pub workspace: Option<Option<String>>,
}

/// The value of a document or of one key of it; null where there is none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StateValue {
    /// The value.
    pub value: Value,
}

/// Result of `state/all`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StateAllResult {
    /// The documents by name.
    pub documents: Map<String, Value>,
    /// Where `settings` alone was asked for: each setting there is, with `meaning`, `default`, `type`
    /// and whether a `workspace` may have its own.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub described: Map<String, Value>,
}
