//! The harness: starts real daemons, stub models and clients for the suites.

pub mod bins;
pub mod faults;
pub mod figures;
pub mod harness;
pub mod judge;
pub mod sabotage;
pub mod stub;
