//! What travels between `sessd` and every front end: types and words, no behaviour but the fold.
//!
//! One JSON object a line over a Unix socket ([`mod@line`]): requests with answers, and notifications
//! ([`envelope`]). A session is a list of numbered facts ([`event`]) that only grows; what the facts
//! are about are things ([`things`]); one fold ([`view`]) turns facts into the current view. What is
//! not finished travels beside them ([`live`]). `PROTOCOL.md` beside this crate is the manual for
//! people, `schema.json` the same for other languages.

pub mod envelope;
pub mod error;
pub mod event;
mod facts;
pub mod id;
pub mod line;
pub mod live;
pub mod methods;
pub mod money;
#[cfg(feature = "schema")]
pub mod schema;
pub mod things;
pub mod time;
pub mod turn;
pub mod view;
