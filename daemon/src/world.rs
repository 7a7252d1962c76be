//! Time, ids and randomness: passed in, so that the core runs in simulation.

use sess_protocol::time::Timestamp;

/// Where time and ids come from.
pub trait World: Send + Sync + std::fmt::Debug {
    /// What the wall clock says. Only a label: it may go back.
    fn now(&self) -> Timestamp;
    /// 128 random bits, for the ids that people type.
    fn random(&self) -> u128;
    /// 128 bits that grow with time, for all other ids.
    fn ordered(&self) -> u128;
    /// The number of the daemon's process.
    fn process(&self) -> u32;
}

/// The world outside.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealWorld;

impl World for RealWorld {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn random(&self) -> u128 {
        uuid::Uuid::new_v4().as_u128()
    }

    fn ordered(&self) -> u128 {
        uuid::Uuid::now_v7().as_u128()
    }

    fn process(&self) -> u32 {
        std::process::id()
    }
}
