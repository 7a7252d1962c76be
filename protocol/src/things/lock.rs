//! A client's exclusive hold of a session.

use serde::{Deserialize, Serialize};

use crate::id::LockId;
use crate::time::Timestamp;

/// A client's exclusive right to a session's input. It ends with its connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Lock {
    /// The id.
    pub id: LockId,
    /// Who holds the session.
    pub holder: Holder,
}

/// Who holds a lock.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Holder {
    /// The client's name.
    pub client: String,
    /// Its process.
    pub pid: u32,
    /// Since when.
    pub since: Timestamp,
}
