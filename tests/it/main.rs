//! Does the daemon do through its socket what the protocol promises?
//!
//! One module a noun. Each test is a story with a daemon of its own; nothing here knows how the daemon is made.

#![allow(clippy::unwrap_used, reason = "a helper's failure is the failure of its test")]

mod again;
mod agents;
mod backup;
mod chat;
mod clock;
mod command;
mod documents;
mod envelope;
mod exchange;
mod failing;
mod find;
mod follow;
mod front_end;
mod handover;
mod keys;
mod lifecycle;
mod limits;
mod lock;
mod oauth;
mod observer;
mod one_task;
mod others;
mod program;
mod prompt;
mod providers;
mod restart;
mod secrets;
mod service;
mod session;
mod socket;
mod state;
mod steer;
mod terminal;
mod transcripts;
mod turns;
mod upkeep;
mod usage;
mod workspace;
