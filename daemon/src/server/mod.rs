//! How clients reach the daemon: the socket, connections, and the one table of methods.

mod birth;
mod client;
pub mod connection;
mod find;
pub mod follow;
mod handlers;
mod index;
mod lines;
mod out;
mod overview;
mod params;
pub mod router;
pub mod socket;
mod views;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sess_protocol::envelope::{CONNECTIONS_MAX, error_line};
use sess_protocol::error::{Error, Kind};
use sess_protocol::things::By;
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};

use router::Router;

/// How long to wait when the system gives no more connections.
const NO_MORE: Duration = Duration::from_millis(100);
/// How long a client that is one too many is given to take its refusal.
const REFUSAL: Duration = Duration::from_secs(1);
/// When one too many may try again, in milliseconds.
const RETRY_MS: u64 = 1000;

/// Serves all who connect, until sessions have ended.
pub async fn serve(router: Router, listener: UnixListener) {
    let shared = Arc::clone(router.shared());
    let mut next = 1;
    loop {
        let stream = tokio::select! {
            // First: who comes once it is over waits for the successor, and is not told off by this one.
            biased;
            () = shared.stop.finished() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(err) => {
                    // Out of descriptors: those there are go on, new ones wait in the backlog.
                    tracing::warn!(%err, "no connection could be accepted");
                    tokio::time::sleep(NO_MORE).await;
                    continue;
                }
            },
        };
        welcome(&router, stream, next);
        next += 1;
    }
}

fn welcome(router: &Router, stream: UnixStream, connection: u64) {
    let shared = Arc::clone(router.shared());
    let peer = match socket::peer(&stream) {
        Ok(peer) if peer.is_own_user() => peer,
        Ok(peer) => {
            tracing::warn!(uid = peer.uid, pid = peer.pid, "another user was turned away unread");
            return;
        }
        Err(err) => {
            tracing::warn!(%err, "a client whose user is not known was turned away");
            return;
        }
    };
    let pid = peer.pid.and_then(|it| u32::try_from(it).ok()).unwrap_or(0);
    let by = By { client: program_of(pid), pid };
    let Some(counted) = Counted::one_more(router.connections()) else {
        shared.tracker.spawn(turn_away(stream));
        return;
    };
    let (router, shared_here) = (router.clone(), Arc::clone(&shared));
    shared.tracker.spawn(async move {
        connection::serve(router, stream.into_split(), connection, by).await;
        shared_here.needed();
        drop(counted);
    });
}

/// One connection among all; counted until dropped.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn one_more(count: &Arc<AtomicUsize>) -> Option<Self> {
        let counted = Self(Arc::clone(count));
        let before = count.fetch_add(1, Ordering::Relaxed);
        (before < CONNECTIONS_MAX).then_some(counted)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn turn_away(mut stream: UnixStream) {
    let message = format!("{CONNECTIONS_MAX} connections are open already");
    let error = Error::new(Kind::Overloaded, message).with("retry_after_ms", RETRY_MS);
    let line = error_line(None, &error);
    let _ = tokio::time::timeout(REFUSAL, stream.write_all(line.as_bytes())).await;
}

/// The name of a process's program.
fn program_of(pid: u32) -> String {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "unknown".to_owned() } else { name.to_owned() }
}
