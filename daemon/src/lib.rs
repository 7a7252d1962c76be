//! The daemon that owns every session.

pub mod model;
