//! An update without a closed door: the listening socket goes from this program to its successor.
//!
//! The old daemon stops as planned, lets its locks go and starts the program that now lies where its own
//! lay, with the socket as standard input. Who connects meanwhile waits in the socket's queue and is
//! refused by nobody. A successor that dies within [`TRIAL`] is followed by the old program, which
//! is still held open by its process.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt};

use crate::config::{Config, Exit, HANDOVER, HANDOVER_STDIN, StartError};
use crate::service::Notifier;

/// How long a successor is watched: one that dies earlier brings the old program back.
pub const TRIAL: Duration = Duration::from_secs(5);
/// The program of this process, also when its file was replaced since.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// Where the program lies that this process was started from: an update puts the new one there.
///
/// # Errors
/// When the kernel does not say.
pub fn program() -> Result<PathBuf, StartError> {
    std::env::current_exe().map_err(|err| StartError::io("the path of this program", err))
}

/// Hands the socket to the program at `program` and watches how it does. Returns when the successor is
/// on its own, or ended as it was asked to; does not return when the old program goes on.
///
/// # Errors
/// When neither the new nor the old program can be started.
pub fn hand_over(
    listener: UnixListener,
    program: &Path,
    notifier: &Notifier,
) -> Result<Exit, StartError> {
    let socket = OwnedFd::from(listener);
    let stdin = socket.try_clone().map_err(|err| StartError::io("the socket", err))?;
    tracing::info!(program = %program.display(), "handing the socket over");
    match succeed(program.as_os_str(), stdin).spawn() {
        Ok(mut child) => {
            notifier.main_process(child.id());
            let (done, ended) = sync_channel(1);
            let watch = std::thread::Builder::new().name("successor".to_owned());
            let started = watch.spawn(move || done.send(child.wait()));
            started.map_err(|err| StartError::io("a thread", err))?;
            match ended.recv_timeout(TRIAL) {
                Err(RecvTimeoutError::Timeout) => return Ok(Exit::Done),
                Ok(Ok(status)) if status.success() => return Ok(Exit::Done),
                Ok(Ok(status)) => {
                    tracing::error!(%status, "the new program failed: the old one goes on");
                }
                Ok(Err(err)) => tracing::error!(%err, "the new program cannot be watched"),
                Err(RecvTimeoutError::Disconnected) => {}
            }
            notifier.main_process(std::process::id());
        }
        Err(err) => {
            tracing::error!(%err, "the new program cannot be started: the old one goes on");
        }
    }
    // Replaces this process, or says why it cannot.
    let err = succeed(OsStr::new(OWN_PROGRAM), socket).arg0(program).exec();
    Err(StartError::io("the old program cannot be started again", err))
}

fn succeed(program: &OsStr, socket: OwnedFd) -> Command {
    let mut command = Command::new(program);
    command.env(HANDOVER, HANDOVER_STDIN).stdin(Stdio::from(socket)).stdout(Stdio::null());
    command
}

/// Takes the socket that the program before this one handed over, and puts nothing in its place.
///
/// # Errors
/// When standard input is no listening socket at the path of this daemon.
pub fn take(config: &Config) -> Result<UnixListener, StartError> {
    let wrong = |what: String| {
        StartError::new(Exit::Settings, format!("`{HANDOVER}` is set, but {what}; unset it"))
    };
    let stdin = std::io::stdin();
    let owned = stdin.as_fd().try_clone_to_owned();
    let listener = owned.map_err(|err| wrong(format!("standard input is closed: {err}")))?;
    if getsockopt(&listener, sockopt::AcceptConn) != Ok(true) {
        return Err(wrong("standard input is not a listening socket".to_owned()));
    }
    let listener = UnixListener::from(listener);
    let address = listener.local_addr().map_err(|err| wrong(err.to_string()))?;
    if address.as_pathname() != Some(&config.socket) {
        return Err(wrong(format!("it does not listen on `{}`", config.socket.display())));
    }
    let null = std::fs::File::open("/dev/null").map_err(|err| wrong(err.to_string()))?;
    nix::unistd::dup2_stdin(null).map_err(|err| wrong(err.to_string()))?;
    Ok(listener)
}
