//! The daemon that owns every session.

pub mod sabotage;
pub mod store;
