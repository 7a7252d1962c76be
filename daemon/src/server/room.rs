//! Is there room for one more connection, and what is told to a client for whom there is none?

use std::io::Write;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::sys::resource::{Resource, getrlimit};
use sess_protocol::envelope::{CONNECTIONS_MAX, error_line};
use sess_protocol::error::{Error, Kind};
use tokio::net::{UnixListener, UnixStream};

/// Descriptors that no connection gets: one for the model of each task that may usually run, and some for
/// files that are opened for a moment.
const DESCRIPTORS_KEPT: RawFd = 64 + 16;
/// When one too many may try again, in milliseconds.
const RETRY_MS: u64 = 1000;

/// The places for connections.
pub(super) struct Room {
    connections: Arc<AtomicUsize>,
    /// Connections have descriptors below this one,
    below: RawFd,
    /// but for so many, whatever the daemon itself has opened since.
    sure: usize,
}

/// One connection among all; counted until dropped.
pub(super) struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Room {
    /// Room behind this listener, which was just opened: its descriptor tells how many there are.
    pub(super) fn behind(listener: &UnixListener, connections: &Arc<AtomicUsize>) -> Self {
        let most = getrlimit(Resource::RLIMIT_NOFILE).map_or(RawFd::MAX, |(soft, _)| {
            // What does not fit is no limit.
            RawFd::try_from(soft).unwrap_or(RawFd::MAX)
        });
        let below = below(listener.as_raw_fd(), most);
        if below < listener.as_raw_fd() + i32::try_from(CONNECTIONS_MAX).expect("few") {
            tracing::info!(
                descriptors = most,
                "there are few descriptors: fewer clients than usual"
            );
        }
        let sure = sure(listener.as_raw_fd(), below);
        Self { connections: Arc::clone(connections), below, sure }
    }

    /// A place for this connection, or why there is none.
    ///
    /// A new descriptor is the lowest that is free. So its number says how many are taken, whoever has them:
    /// those above the mark are left to tasks and to the store, also while a crowd wants in.
    pub(super) fn place(&self, stream: &UnixStream) -> Result<Place, Error> {
        let before = self.connections.fetch_add(1, Ordering::Relaxed);
        let place = Place(Arc::clone(&self.connections));
        let full = if before >= CONNECTIONS_MAX {
            format!("{CONNECTIONS_MAX} connections are open already")
        } else if before >= self.sure
            && stream.as_raw_fd() >= self.below
            && !crate::sabotage::is("no_kept_descriptors")
        {
            format!(
                "{before} connections are open already, and the process may not open more files"
            )
        } else {
            return Ok(place);
        };
        Err(Error::new(Kind::Overloaded, full).with("retry_after_ms", RETRY_MS))
    }
}

/// The mark, where the descriptors end at `most` and those up to `taken` are used: few as there may be, half
/// of what is free is for clients.
fn below(taken: RawFd, most: RawFd) -> RawFd {
    let free = (most - 1 - taken).max(0);
    most - DESCRIPTORS_KEPT.min((free + 1) / 2)
}

/// How many connections there is always room for: half of those that could be open at the start.
fn sure(taken: RawFd, below: RawFd) -> usize {
    let places = usize::try_from(below - 1 - taken).unwrap_or(0);
    places.div_ceil(2)
}

/// Tells a client why it is not served, and hangs up. Nobody waits: a line fits into a socket that is new.
pub(super) fn turn_away(stream: UnixStream, why: &Error) {
    let line = error_line(None, why);
    // One that has left already needs no word.
    let _ = stream.into_std().and_then(|mut it| it.write_all(line.as_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_descriptors_are_left_to_tasks_however_few_there_are() {
        assert_eq!(below(22, 4096), 4096 - DESCRIPTORS_KEPT);
        assert_eq!(below(22, 32), 27, "4 for clients, 5 for the daemon");
        assert_eq!(below(22, 24), 23, "none for clients, 1 for the daemon");
        assert_eq!(below(30, 24), 24);
    }

    #[test]
    fn some_clients_have_room_whatever_the_daemon_opens() {
        assert_eq!(sure(22, 27), 2);
        assert_eq!(sure(22, 23), 0);
        assert_eq!(sure(30, 24), 0);
    }
}
