//! What all lists have in common.

use serde::{Deserialize, Serialize};

/// Things of a page when nothing else is asked for.
pub const PAGE_DEFAULT: u32 = 50;
/// The most things of a page.
pub const PAGE_MAX: u32 = 500;

/// Params of a list without further choices.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ListParams {
    /// Things of a page: 1 to 500, 50 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Where to go on: the `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}
