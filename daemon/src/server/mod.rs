//! How clients reach the daemon.

pub mod socket;
