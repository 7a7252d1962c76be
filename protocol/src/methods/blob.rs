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

/// Bytes of a file that is put in pieces.
pub const UPLOAD_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;

/// Params of `blob/put`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct BlobPutParams {
    /// The piece in base64, at most 1 MiB.
    pub data: String,
    /// The upload that it goes on with; a new one without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<String>,
    /// Where the piece begins: the bytes put so far. A piece that was put before is answered again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Whether it is the last; without `upload` and `last: false` it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<bool>,
}

/// Result of `blob/put`: `upload` until the last piece, then `blob` and `bytes`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BlobPutResult {
    /// What the next piece names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<String>,
    /// The blob: `sha256:` and 64 hex digits. What nothing names is gone after a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blob: Option<String>,
    /// Its bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}
