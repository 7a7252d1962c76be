//! What does a story about the daemon need: a daemon of its own, raw connections to it, a model that is scripted?
//!
//! [`Daemon`] starts and ends the program, [`Wire`] speaks to it line by line without the client library,
//! [`transcript`] holds whole conversations against files, [`table`] has an example of each method's params.
//! Everything that waits has one deadline, [`deadline`]; nothing here sleeps.

pub mod daemon;
pub mod table;
pub mod talk;
pub mod terminal;
pub mod transcript;
pub mod wire;

use std::time::Duration;

pub use daemon::{Daemon, Plan};
pub use talk::{asked, held, said, until_asked, until_held};
pub use terminal::Terminal;
pub use wire::{Told, Wire};

use crate::stub::{Options, Stub};

/// The longest that anything is waited for before a story counts as broken.
const DEADLINE: Duration = Duration::from_secs(30);
/// The same at a tenth of all sizes, as when the tests themselves are tested: what hangs is soon red.
const DEADLINE_TENTH: Duration = Duration::from_secs(8);

/// The longest that anything is waited for before a story counts as broken.
pub fn deadline() -> Duration {
    if std::env::var_os("SESS_TENTH").is_some() { DEADLINE_TENTH } else { DEADLINE }
}

/// Waits for `future`, at most [`deadline`].
///
/// # Panics
/// When the time is over, saying what was waited for.
pub async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(deadline(), future).await {
        Ok(output) => output,
        Err(_) => panic!("{what}: nothing came within {:?}", deadline()),
    }
}

/// A model server inside this process.
///
/// # Panics
/// When no port can be taken.
pub async fn stub() -> Stub {
    Stub::start_here(Options::default()).await.expect("a loopback port is free")
}
