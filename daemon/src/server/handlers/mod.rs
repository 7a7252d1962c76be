//! What serves each method: one file a noun.

pub(super) mod agent;
pub(super) mod blob;
pub(super) mod chat;
pub(super) mod cleanup;
pub(super) mod daemon;
pub(super) mod event;
pub(super) mod exchange;
pub(super) mod import;
pub(super) mod message;
pub(super) mod model;
pub(super) mod scope;
pub(super) mod session;
pub(super) mod state;
pub(super) mod task;
pub(super) mod turn;
