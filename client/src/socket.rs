//! Where does the daemon listen, and is it really this user's?

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::UnixStream;

use crate::connection::CallError;

/// Bytes of a socket's path that the system can take (`sun_path` with its closing zero).
pub const PATH_BYTES_MAX: usize = 107;
/// How long a daemon may take to accept a connection and to answer the first call on it.
pub const HELLO_DEADLINE: Duration = Duration::from_secs(10);
/// The pause before another try while more clients wait to be accepted than the system holds.
const FULL_PAUSE: Duration = Duration::from_millis(5);

/// Why the daemon cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Nothing listens there.
    #[error("no daemon runs at `{}`", .path.display())]
    NotRunning {
        /// The socket.
        path: PathBuf,
    },
    /// Something of another user listens there.
    #[error("the daemon at `{}` belongs to user {uid}, not to you", .path.display())]
    OtherUser {
        /// The socket.
        path: PathBuf,
        /// Whose it is.
        uid: u32,
    },
    /// The path cannot be a socket's, or the system refuses it.
    #[error("cannot connect to `{}`: {source}", .path.display())]
    Unusable {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Something listens there, and says nothing.
    #[error("the daemon at `{}` does not answer", .path.display())]
    Silent {
        /// The socket.
        path: PathBuf,
        /// Its process, as far as the system knows.
        pid: Option<i32>,
    },
    /// The environment does not say where the socket is.
    #[error("no place for the socket: none of SESS_SOCKET, XDG_RUNTIME_DIR and HOME is set")]
    NoPlace,
    /// The daemon was started and did not come up.
    #[error("{what}")]
    NotStarted {
        /// What happened.
        what: String,
        /// Where its log lies.
        log: PathBuf,
    },
    /// The daemon does not speak this protocol.
    #[error("the daemon speaks protocol {theirs}, this client speaks {ours}")]
    OtherProtocol {
        /// What it speaks.
        theirs: String,
        /// What this library speaks.
        ours: u64,
    },
    /// The first call failed.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl OpenError {
    /// The way out, for a person.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotRunning { .. } => Some("start it with `sess daemon start`".to_owned()),
            Self::OtherUser { .. } => {
                Some("set SESS_SOCKET to a path in a folder of your own".to_owned())
            }
            Self::Unusable { .. } => {
                Some("check that path and its folder, or set SESS_SOCKET to another".to_owned())
            }
            Self::Silent { pid, .. } => {
                let end = pid.map(|it| format!("; end it with `kill {it}`")).unwrap_or_default();
                Some(format!("see `sess daemon logs`{end}"))
            }
            Self::NoPlace => Some("set HOME".to_owned()),
            Self::NotStarted { log, .. } => {
                Some(format!("see `sess daemon logs` (`{}`)", log.display()))
            }
            Self::OtherProtocol { .. } => {
                Some("run `sess daemon restart` to start the `sessd` beside this `sess`".to_owned())
            }
            Self::Call(err) => err.hint(),
        }
    }
}

/// The daemon's socket as the environment names it.
///
/// # Errors
/// When the environment names none.
pub fn path() -> Result<PathBuf, OpenError> {
    path_from(|name| std::env::var_os(name)).ok_or(OpenError::NoPlace)
}

/// The same for any environment: `$SESS_SOCKET`, else in `$XDG_RUNTIME_DIR`, else in the state folder.
pub fn path_from(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |name: &str| variable(name).filter(|it| !it.is_empty()).map(PathBuf::from);
    set("SESS_SOCKET")
        .or_else(|| Some(set("XDG_RUNTIME_DIR")?.join("sess/sess.sock")))
        .or_else(|| Some(state_folder_from(variable)?.join("run/sess.sock")))
}

/// The folder of what the client and the daemon leave behind: `$XDG_STATE_HOME/sess`.
pub fn state_folder_from(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |name: &str| variable(name).filter(|it| !it.is_empty()).map(PathBuf::from);
    let home = || Some(set("HOME")?.join(".local/state"));
    Some(set("XDG_STATE_HOME").or_else(home)?.join("sess"))
}

/// Connects, and makes sure that the other side is a program of this user.
///
/// # Errors
/// When nothing listens there, or another user does.
pub async fn connect(path: &Path) -> Result<UnixStream, OpenError> {
    let unusable = |source| OpenError::Unusable { path: path.to_owned(), source };
    if path.as_os_str().len() > PATH_BYTES_MAX {
        let message = format!("the path is longer than {PATH_BYTES_MAX} bytes");
        return Err(unusable(io::Error::new(io::ErrorKind::InvalidInput, message)));
    }
    let stream = tokio::time::timeout(HELLO_DEADLINE, accepted(path))
        .await
        .map_err(|_| OpenError::Silent { path: path.to_owned(), pid: None })?
        .map_err(|err| match err.kind() {
            // Reset: it was killed with this connection waiting to be accepted.
            io::ErrorKind::NotFound
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset => OpenError::NotRunning { path: path.to_owned() },
            _ => unusable(err),
        })?;
    let uid = stream.peer_cred().map_err(unusable)?.uid();
    if uid != nix::unistd::geteuid().as_raw() {
        return Err(OpenError::OtherUser { path: path.to_owned(), uid });
    }
    Ok(stream)
}

/// The daemon's process, where the system knows it: of a socket that systemd handed over it names
/// systemd, which nobody should be told to end.
#[must_use]
pub fn process_of(stream: &UnixStream) -> Option<i32> {
    let pid = stream.peer_cred().ok()?.pid()?;
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    (name.trim_end() == "sessd").then_some(pid)
}

/// A connection, once the queue of those that wait to be accepted has room for it.
async fn accepted(path: &Path) -> io::Result<UnixStream> {
    loop {
        match UnixStream::connect(path).await {
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => {
                tokio::time::sleep(FULL_PAUSE).await;
            }
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path_with(variables: &[(&str, &str)]) -> Option<PathBuf> {
        path_from(|name| {
            variables.iter().find(|(it, _)| *it == name).map(|(_, value)| value.into())
        })
    }

    #[test]
    fn the_first_variable_that_says_something_names_the_socket() {
        let all = [("SESS_SOCKET", "/s"), ("XDG_RUNTIME_DIR", "/r"), ("HOME", "/h")];
        for (variables, path) in [
            (&all[..], Some("/s")),
            (&all[1..], Some("/r/sess/sess.sock")),
            (&all[2..], Some("/h/.local/state/sess/run/sess.sock")),
            (&[("XDG_STATE_HOME", "/x"), ("HOME", "/h")], Some("/x/sess/run/sess.sock")),
            (&[("SESS_SOCKET", ""), ("HOME", "/h")], Some("/h/.local/state/sess/run/sess.sock")),
            (&[], None),
        ] {
            assert_eq!(path_with(variables), path.map(PathBuf::from), "{variables:?}");
        }
    }

    #[tokio::test]
    async fn a_socket_without_a_daemon_is_told_from_a_path_that_cannot_be_one() {
        let folder = crate::scripted::Folder::new();
        let path = folder.path().join("nobody.sock");
        assert!(matches!(connect(&path).await, Err(OpenError::NotRunning { .. })));
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(matches!(connect(&path).await, Err(OpenError::NotRunning { .. })));
        let long = folder.path().join("x".repeat(PATH_BYTES_MAX));
        assert!(matches!(connect(&long).await, Err(OpenError::Unusable { .. })));
    }
}
