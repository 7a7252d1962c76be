//! The client library: reach the daemon, call it, follow a session whatever happens to the connection.
//!
//! In reading order: [`socket`] says where the daemon listens and that it is ours, [`start`] starts
//! it, [`connection`] is one connection with typed calls, [`caller`] repeats a call safely when the
//! connection is lost in the middle, [`follow`] keeps a session's view and its [`unfinished`] text
//! live over any number of connections, [`blob`] fetches what is too large for a line, [`visible`] makes what
//! others wrote safe to show, [`markdown`] shows it with its look.

pub mod blob;
pub mod caller;
pub mod connection;
pub mod follow;
pub mod markdown;
pub mod socket;
pub mod start;
pub mod unfinished;
pub mod visible;

#[cfg(test)]
mod scripted;

pub use caller::{Caller, Dial, Failure};
pub use connection::{CallError, Connection, Notification, Notifications};
pub use follow::{FollowError, Follower, Told};
pub use socket::OpenError;
