//! The harness: starts real daemons, stub models and clients for the suites.

pub mod faults;
