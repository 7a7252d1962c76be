//! The daemon that owns every session.
