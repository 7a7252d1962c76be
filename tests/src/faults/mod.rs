//! Storage faults: what is left of a program's files when the power fails, a call fails or lies?
//!
//! Crash states. A program runs under [`Recorder`]; its log says in one order what it did to its
//! files and what it told its clients. [`CrashStates`] then makes any number of folders as a power
//! cut could have left them, each with what the clients had been told by then:
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use sess_tests::faults::{CrashStates, RecordLog, Recorder};
//! use std::{path::Path, process::Command};
//!
//! let mut command = Command::new("target/release/sessd");
//! Recorder::command(&mut command, Path::new("/tmp/data"), Path::new("/dev/shm/log"))?;
//! command.status()?; // clients talk to it meanwhile
//!
//! let log = RecordLog::read(Path::new("/dev/shm/log"))?;
//! log.check_complete(Path::new("/tmp/data"), None)?; // the recorder saw every change
//! for state in CrashStates::new(&log, log.cuts(1_000, 7), 7, Path::new("/dev/shm/states"))? {
//!     let state = state?; // its folder goes when it is dropped; `state.keep()` spares it
//!     // Start the program on `state.folder`, then: nothing told may be lost.
//!     for answer in state.told.answers() { /* answer.connection, answer.id, answer.value */ }
//!     for event in state.told.events() { /* event.session, event.seq, event.params */ }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Failing calls. [`Faults`] makes chosen calls fail, lie, linger or be the last one.
//! Disks of a test's own, full or without power: [`Mounted`].
//!
//! The C sources, and what they see and do not see, are in `tests/faults/`.

mod disk;
mod explore;
mod log;
mod mount;
mod preload;
mod rng;
mod state;
mod told;
mod tools;

pub use explore::{CrashState, CrashStates};
pub use log::{Op, RecordLog};
pub use mount::{Ballast, Mounted};
pub use preload::{Faults, Fired, Recorder};
pub use rng::Rng;
pub use state::Mode;
pub use told::{Answer, Event, Gone, Told, ToldSoFar};
pub use tools::Tools;
