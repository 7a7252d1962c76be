//! Large bytes, kept once by their hash.

use serde::{Deserialize, Serialize};

/// Bytes of a blob in one answer.
pub const BLOB_PIECE_BYTES_MAX: u64 = 1024 * 1024;

/// Params of `blob/get`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct BlobGetParams {
    /// The blob: `sha256:` and 64 hex digits.
    pub blob: String,
    /// Where the piece begins; 0 without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Bytes of the piece: at most, and without, 1 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
}

/// Result of `blob/get`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BlobGetResult {
    /// The piece in base64.
    pub data: String,
    /// Where it begins.
    pub offset: u64,
    /// Bytes of the whole blob.
    pub bytes: u64,
    /// Whether the piece is the last.
    pub last: bool,
}
