//! Models that can be named.

use serde::{Deserialize, Serialize};

/// A model that can be named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ModelEntry {
    /// Its name, as `provider/name`.
    pub id: String,
    /// Its provider.
    pub provider: String,
    /// Whether it can be asked as things are.
    pub available: bool,
    /// Why not, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether requests go to it when none is named.
    pub default: bool,
}

/// Result of `model/list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ModelListResult {
    /// The models.
    pub models: Vec<ModelEntry>,
    /// Where the next page begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}
