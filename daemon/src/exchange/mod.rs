//! Sessions on their way out and in, and the files that carry them.
//!
//! A file lies in the spool, named by its hash, and lives for a day: that is how what is larger than
//! any line comes and goes, in pieces, without anybody holding it whole.

pub mod export;
#[cfg(feature = "fuzz")]
pub mod fuzz;
pub mod html;
pub mod import;
pub mod json;
pub mod page;
pub mod prose;
pub mod rebuild;
pub mod spool;

pub use spool::Spool;

/// What the text of every name of a blob begins with.
const BLOB_PREFIX: &str = "sha256:";
