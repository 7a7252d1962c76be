//! Time, ids and randomness: passed in, so that the core runs in simulation.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use sess_protocol::time::Timestamp;
use uuid::{ContextV7, Uuid};

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
#[derive(Debug, Default)]
pub struct RealWorld {
    /// Goes on from the last id where the clock goes back.
    ids: Mutex<ContextV7>,
}

impl RealWorld {
    /// One whose ids come behind all that were made until this moment: tasks and messages are told in the order of
    /// their ids, and the clock may have gone back since the last daemon ended.
    #[must_use]
    pub fn behind(moment: Timestamp) -> Self {
        let world = Self::default();
        world.ordered_at(Duration::from_millis(moment.0.unsigned_abs().saturating_add(1)));
        world
    }

    fn ordered_at(&self, since_1970: Duration) -> u128 {
        let ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        let (seconds, nanos) = (since_1970.as_secs(), since_1970.subsec_nanos());
        Uuid::new_v7(uuid::Timestamp::from_unix(&*ids, seconds, nanos)).as_u128()
    }
}

impl World for RealWorld {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn random(&self) -> u128 {
        Uuid::new_v4().as_u128()
    }

    fn ordered(&self) -> u128 {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        if crate::sabotage::is("ids_by_clock") {
            return Self::default().ordered_at(now);
        }
        self.ordered_at(now)
    }

    fn process(&self) -> u32 {
        std::process::id()
    }
}
