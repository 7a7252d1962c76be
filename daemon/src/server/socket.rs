//! The one socket of the one daemon: bound or adopted, held for life, for its own user only.
//!
//! Two locks decide who is the owner, and the kernel frees both however the owner ends. One lies
//! beside the socket, so that nobody else takes the path away; one in the data folder, so that two
//! daemons with different sockets never write one store. Only who holds both touches the socket's
//! file. The lock files stay for ever: to remove one would let two hold "the" lock.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use listenfd::ListenFd;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::libc::O_NOFOLLOW;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, socket, sockopt,
};
use nix::unistd::geteuid;

use crate::config::{Config, Exit, StartError};
use crate::folder::{Others, own_folder};
use crate::handover;

/// What the kernel takes as a socket's path: 108 bytes with the closing zero.
const SOCKET_PATH_BYTES_MAX: usize = 107;
/// What is read of a lock file: a pid and a line's end.
const LOCK_FILE_BYTES_MAX: u64 = 16;
/// How long a successor waits for the locks, and the pause between two tries.
const LOCKS_WAIT: Duration = Duration::from_secs(2);
const LOCKS_POLL: Duration = Duration::from_millis(5);
/// The mode of the socket and of the lock files.
const FILE_MODE: u32 = 0o600;
/// The lock of the store, in the data folder.
const STORE_LOCK: &str = "sessd.lock";

/// The daemon's socket with the right to it and to the store. To drop it is to give all up.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    // Before the locks: the file goes while they are held.
    bound: Option<Bound>,
    _socket_lock: Option<Lock>,
    _store_lock: Lock,
}

impl Socket {
    /// Takes the store and the socket, or says who has them. To be called before any thread is
    /// started: adopting removes the service manager's variables from the environment, so that no
    /// child is misled by them.
    pub fn take(config: &Config) -> Result<Self, StartError> {
        if config.socket_passed {
            let store_lock = lock_store(config)?;
            return Ok(Self {
                listener: adopt()?,
                bound: None,
                _socket_lock: None,
                _store_lock: store_lock,
            });
        }
        let folder = folder_of(&config.socket)?;
        own_folder(folder, Others::Nothing)?;
        if config.handed_over {
            let listener = handover::take(config)?;
            let (socket_lock, store_lock) = patiently(|| lock_both(config))?;
            return Ok(Self {
                listener,
                bound: Some(Bound::at(&config.socket)?),
                _socket_lock: Some(socket_lock),
                _store_lock: store_lock,
            });
        }
        let (socket_lock, store_lock) = lock_both(config)?;
        remove_stale(&config.socket)?;
        let (listener, bound) = bind(&config.socket)?;
        Ok(Self {
            listener,
            bound: Some(bound),
            _socket_lock: Some(socket_lock),
            _store_lock: store_lock,
        })
    }

    /// Gives up the right to socket and store, but leaves the socket's file and its queue of
    /// connections to whom the listener is handed.
    #[must_use]
    pub fn give_up(mut self) -> UnixListener {
        if let Some(bound) = &mut self.bound {
            bound.stays = !crate::sabotage::is("closed_handover");
        }
        self.listener
    }

    /// The listener, for the runtime that this is called in.
    pub fn listener(&self) -> io::Result<tokio::net::UnixListener> {
        let listener = self.listener.try_clone()?;
        listener.set_nonblocking(true)?;
        tokio::net::UnixListener::from_std(listener)
    }

    /// Whether the socket came from the service manager, which keeps its file.
    #[must_use]
    pub fn is_adopted(&self) -> bool {
        self.bound.is_none()
    }
}

/// Who is at the other end, by the kernel's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The user.
    pub uid: u32,
    /// The process that connected; it may have handed the connection on since.
    pub pid: Option<i32>,
}

impl Peer {
    /// Whether it is the daemon's own user. Nobody else is served, root included.
    #[must_use]
    pub fn is_own_user(&self) -> bool {
        self.uid == geteuid().as_raw() || crate::sabotage::is("no_uid_check")
    }
}

/// Asks the kernel who is at the other end.
pub fn peer(stream: &tokio::net::UnixStream) -> io::Result<Peer> {
    let credentials = stream.peer_cred()?;
    Ok(Peer { uid: credentials.uid(), pid: credentials.pid() })
}

fn unsafe_socket(message: String) -> StartError {
    StartError::new(Exit::Unsafe, message)
}

fn folder_of(socket: &Path) -> Result<&Path, StartError> {
    let bytes = socket.as_os_str().as_bytes();
    if bytes.len() > SOCKET_PATH_BYTES_MAX {
        return Err(unsafe_socket(format!(
            "socket path `{}` has {} bytes, the kernel takes {SOCKET_PATH_BYTES_MAX}; \
             set `SESS_SOCKET` to a shorter one",
            socket.display(),
            bytes.len()
        )));
    }
    match (socket.file_name(), socket.parent()) {
        (Some(_), Some(folder)) if !bytes.ends_with(b"/") => Ok(folder),
        _ => Err(unsafe_socket(format!("`{}` cannot be a socket's path", socket.display()))),
    }
}

/// An exclusive lock on a file, with the owner's pid in it for people.
#[derive(Debug)]
pub struct Lock(Flock<File>);

impl Lock {
    fn take(path: &Path, what: &str, of: &Path) -> Result<Self, StartError> {
        let io = |err: io::Error| StartError::io(format!("lock `{}`", path.display()), err);
        // Close on exec is what the standard library always sets: no child holds the lock on.
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .custom_flags(O_NOFOLLOW)
            .open(path)
            .map_err(io)?;
        let meta = file.metadata().map_err(io)?;
        if !meta.is_file() || meta.uid() != geteuid().as_raw() {
            return Err(unsafe_socket(format!("lock `{}` is not a file of ours", path.display())));
        }
        let two = crate::sabotage::is("two_owners");
        let alone =
            if two { FlockArg::LockSharedNonblock } else { FlockArg::LockExclusiveNonblock };
        let mut lock = match Flock::lock(file, alone) {
            Ok(lock) => Self(lock),
            Err((held, Errno::EWOULDBLOCK)) => {
                file = held;
                let owner = match pid_in(&mut file) {
                    Some(pid) => format!("another sessd (pid {pid})"),
                    None => "another sessd".to_owned(),
                };
                let message = format!("{owner} owns {what} `{}`", of.display());
                return Err(StartError::new(Exit::OtherOwner, message));
            }
            Err((_, err)) => return Err(io(err.into())),
        };
        lock.write_pid().map_err(io)?;
        Ok(lock)
    }

    fn write_pid(&mut self) -> io::Result<()> {
        self.0.set_len(0)?;
        self.0.write_all(format!("{}\n", std::process::id()).as_bytes())
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // So that the next owner, in the moment between its lock and its own pid, is not taken
        // for this process. Nothing depends on it.
        drop(self.0.set_len(0));
    }
}

fn pid_in(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(LOCK_FILE_BYTES_MAX).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Takes the right to the store alone, for work on it without a daemon.
///
/// # Errors
/// Another has it.
pub fn lock_store(config: &Config) -> Result<Lock, StartError> {
    own_folder(&config.data_dir, Others::Look)?;
    Lock::take(&config.data_dir.join(STORE_LOCK), "store", &config.data_dir)
}

fn lock_both(config: &Config) -> Result<(Lock, Lock), StartError> {
    let mut lock_path = OsString::from(&config.socket);
    lock_path.push(".lock");
    let socket_lock = Lock::take(Path::new(&lock_path), "socket", &config.socket)?;
    Ok((socket_lock, lock_store(config)?))
}

/// Asks again for a while when another has the locks: one who wants to start a daemon holds them
/// until it sees that the socket is alive.
fn patiently<T>(take: impl Fn() -> Result<T, StartError>) -> Result<T, StartError> {
    let begun = Instant::now();
    loop {
        match take() {
            Err(err) if err.exit == Exit::OtherOwner && begun.elapsed() < LOCKS_WAIT => {
                std::thread::sleep(LOCKS_POLL);
            }
            done => return done,
        }
    }
}

/// Takes descriptor 3, after a look at what it is.
fn adopt() -> Result<UnixListener, StartError> {
    let wrong = |err: &dyn std::fmt::Display| {
        unsafe_socket(format!("descriptor 3 is not a listening Unix stream socket: {err}"))
    };
    let listener = ListenFd::from_env()
        .take_unix_listener(0)
        .map_err(|err| wrong(&err))?
        .ok_or_else(|| wrong(&"none was passed"))?;
    match getsockopt(&listener, sockopt::AcceptConn) {
        Ok(true) => Ok(listener),
        Ok(false) => Err(wrong(&"it does not listen")),
        Err(err) => Err(wrong(&err)),
    }
}

/// Removes what a dead owner left. What answers is never removed, even though we hold the lock: a
/// service manager listens on behalf of a daemon not yet started, and holds none.
fn remove_stale(path: &Path) -> Result<(), StartError> {
    let io = |err: io::Error| StartError::io(format!("socket `{}`", path.display()), err);
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(err) => return Err(io(err)),
    };
    if !meta.file_type().is_socket() {
        let message = format!("`{}` is in the way and is not a socket", path.display());
        return Err(unsafe_socket(message));
    }
    match probe(path) {
        Err(Errno::ECONNREFUSED) => fs::remove_file(path).map_err(io),
        // A full queue of connections is a sign of life, too.
        Ok(()) | Err(Errno::EAGAIN) => {
            let message = format!(
                "something else listens on `{}`; is it the service manager's socket?",
                path.display()
            );
            Err(StartError::new(Exit::OtherOwner, message))
        }
        Err(err) => Err(io(err.into())),
    }
}

/// Connects without waiting.
fn probe(path: &Path) -> Result<(), Errno> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let end = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(std::os::fd::AsRawFd::as_raw_fd(&end), &UnixAddr::new(path)?)
}

/// The file of a socket that this process made, or the one before it.
#[derive(Debug)]
struct Bound {
    path: PathBuf,
    /// Device and inode.
    file: (u64, u64),
    /// Whether it is another's from now on.
    stays: bool,
}

impl Bound {
    fn at(path: &Path) -> Result<Self, StartError> {
        let meta = fs::symlink_metadata(path)
            .map_err(|err| StartError::io(format!("socket `{}`", path.display()), err))?;
        Ok(Self { path: path.to_owned(), file: (meta.dev(), meta.ino()), stays: false })
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if self.stays {
            return;
        }
        // Someone may have put another socket there, by force: that one is not ours to remove.
        let now = fs::symlink_metadata(&self.path).map(|it| (it.dev(), it.ino()));
        if now.is_ok_and(|it| it == self.file)
            && let Err(err) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %err, "the socket's file stays");
        }
    }
}

fn bind(path: &Path) -> Result<(UnixListener, Bound), StartError> {
    let io = |err: io::Error| StartError::io(format!("socket `{}`", path.display()), err);
    let listener = UnixListener::bind(path).map_err(io)?;
    // The mode at birth depends on the umask, which belongs to the whole process. Until it is
    // set, the folder keeps others out.
    fs::set_permissions(path, Permissions::from_mode(FILE_MODE)).map_err(io)?;
    let meta = fs::symlink_metadata(path).map_err(io)?;
    let ours = meta.file_type().is_socket() && meta.uid() == geteuid().as_raw();
    if !ours || meta.mode() & 0o7777 != FILE_MODE {
        let message = format!(
            "socket `{}` got uid {} and mode {:o}, not ours and 600; its file system cannot hold it",
            path.display(),
            meta.uid(),
            meta.mode() & 0o7777
        );
        return Err(unsafe_socket(message));
    }
    Ok((listener, Bound::at(path)?))
}

#[cfg(test)]
mod tests;
