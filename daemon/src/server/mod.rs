//! How clients reach the daemon: the socket, connections, and the one table of methods.

mod beside;
mod birth;
mod client;
pub mod connection;
pub mod ends;
mod find;
pub mod follow;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod handlers;
mod index;
mod lines;
mod making;
mod once;
mod out;
mod overview;
mod params;
mod room;
pub mod router;
pub mod socket;
mod views;

use std::sync::Arc;
use std::time::Duration;

use sess_protocol::things::By;
use tokio::net::{UnixListener, UnixStream};

use ends::Incoming;
use room::Room;
use router::Router;

/// How long to wait when the system gives no more connections.
const NO_MORE: Duration = Duration::from_millis(100);

/// Serves all who connect, until sessions have ended.
pub async fn serve(router: Router, listener: UnixListener) {
    let shared = Arc::clone(router.shared());
    let room = Room::behind(&listener, router.connections());
    let (mut next, mut is_out) = (1, false);
    loop {
        let stream = tokio::select! {
            // First: who comes once it is over waits for the successor, and is not told off by this one.
            biased;
            () = shared.stop.finished() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(err) => {
                    // Out of descriptors: those there are go on, new ones wait in the backlog. Said once,
                    // so that the log does not grow with the wait.
                    if !std::mem::replace(&mut is_out, true) {
                        tracing::warn!(%err, "no connection can be accepted");
                    }
                    tokio::time::sleep(NO_MORE).await;
                    continue;
                }
            },
        };
        is_out = false;
        welcome(&router, &room, stream, next);
        next += 1;
    }
}

fn welcome(router: &Router, room: &Room, stream: UnixStream, connection: u64) {
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
    let place = match room.place(&stream) {
        Ok(place) => place,
        Err(why) => return room::turn_away(stream, &why),
    };
    let pid = peer.pid.and_then(|it| u32::try_from(it).ok()).unwrap_or(0);
    let by = By { client: program_of(pid), pid };
    let (router, shared_here) = (router.clone(), Arc::clone(&shared));
    shared.tracker.spawn(async move {
        let (read, write) = stream.into_split();
        connection::serve(router, (Incoming(read), write), connection, by).await;
        shared_here.needed();
        drop(place);
    });
}

/// The name of a process's program.
fn program_of(pid: u32) -> String {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "unknown".to_owned() } else { name.to_owned() }
}
