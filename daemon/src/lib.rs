//! The daemon that owns every session.

pub mod config;
pub mod documents;
pub mod folder;
pub mod server;
pub mod service;
pub mod store;
