//! The daemon that owns every session. `run` starts every part, waits, and stops them in reverse.

pub mod model;
pub mod sabotage;
pub mod session;
pub mod shared;
pub mod store;
pub mod task;
pub mod world;
