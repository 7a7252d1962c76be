//! No daemon runs: how is one started so that it outlives us, whoever else starts one too?

use std::ffi::{CString, OsStr, OsString};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::libc;
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tokio::net::UnixStream;

use crate::socket::{self, OpenError, state_folder_from};

/// How long a daemon may take from its start to its first answer.
pub const START_DEADLINE: Duration = Duration::from_secs(10);
/// Bytes of the log; a longer one is set aside when a daemon is started.
pub const LOG_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// The exit code of a daemon that finds another owner of its folder.
const EXIT_OTHER_OWNER: i32 = 73;
/// The pause between two looks at the socket: first and longest.
const POLL_MS: (u64, u64) = (1, 50);
/// The pause before another start when the owner that was in the way does not answer either: it may
/// be about to end.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Where a daemon that was started here logs to.
///
/// # Errors
/// When the environment does not say where.
pub fn log_path() -> Result<PathBuf, OpenError> {
    let folder = state_folder_from(|name| std::env::var_os(name)).ok_or(OpenError::NoPlace)?;
    Ok(folder.join("log/sessd.log"))
}

/// Starts a daemon and connects to it, or to the one that another starter was quicker with.
///
/// # Errors
/// When none answers within [`START_DEADLINE`].
pub async fn start(path: &Path) -> Result<UnixStream, OpenError> {
    let log_path = log_path()?;
    let not_started = |what: String| OpenError::NotStarted { what, log: log_path.clone() };
    let program = find_program().ok_or_else(|| {
        not_started("there is no `sessd` beside `sess` and none in PATH".to_owned())
    })?;
    let log = open_log(&log_path)
        .map_err(|err| not_started(format!("cannot write `{}`: {err}", log_path.display())))?;
    let spawn = || {
        spawn(&program, &log)
            .map_err(|err| not_started(format!("cannot run `{}`: {err}", program.display())))
    };
    let begun = Instant::now();
    let mut child = Some(spawn()?);
    let mut ended_at = begun;
    let mut pause_ms = POLL_MS.0;
    while begun.elapsed() < START_DEADLINE {
        match socket::connect(path).await {
            Err(OpenError::NotRunning { .. }) => {}
            other => return other,
        }
        if let Some(pid) = child {
            match end_of(pid) {
                None => {}
                Some(EXIT_OTHER_OWNER) => {
                    child = None;
                    ended_at = Instant::now();
                }
                Some(code) => {
                    let what = format!("`{}` ended with code {code}", program.display());
                    return Err(not_started(what + &last_words(&log_path)));
                }
            }
        } else if ended_at.elapsed() > AGAIN_AFTER {
            child = Some(spawn()?);
        }
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        pause_ms = (pause_ms * 2).min(POLL_MS.1);
    }
    let what = format!("no daemon answers at `{}` after 10 s", path.display());
    Err(not_started(what))
}

/// The daemon beside this program, else the first in PATH.
#[must_use]
pub fn find_program() -> Option<PathBuf> {
    let is_program = |path: &PathBuf| {
        path.metadata().is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
    };
    let own = std::env::current_exe().ok();
    let beside = own.and_then(|it| Some(it.parent()?.join("sessd"))).filter(is_program);
    beside.or_else(|| {
        let folders = std::env::var_os("PATH")?;
        std::env::split_paths(&folders).map(|it| it.join("sessd")).find(is_program)
    })
}

/// Opens the log to add to it, for its owner alone; a full one is set aside first.
fn open_log(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    if path.symlink_metadata().is_ok_and(|it| it.len() > LOG_BYTES_MAX) {
        std::fs::rename(path, path.with_extension("log.1"))?;
    }
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(path)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    Ok(file)
}

/// Runs a program in a session of its own, with the environment and the log. What else was handed down to us, and lies
/// open, the daemon closes itself.
///
/// `posix_spawn` because it can do all of this without code between fork and exec.
fn spawn(program: &Path, log: &File) -> io::Result<Pid> {
    let mut files = PosixSpawnFileActions::init()?;
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    files.add_dup2(null.as_raw_fd(), 0)?;
    files.add_dup2(null.as_raw_fd(), 1)?;
    files.add_dup2(log.as_raw_fd(), 2)?;
    let mut attributes = PosixSpawnAttr::init()?;
    let flags = PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF
        | PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK
        | PosixSpawnFlags::from_bits_retain(libc::POSIX_SPAWN_SETSID.into());
    attributes.set_flags(flags)?;
    attributes.set_sigmask(&SigSet::empty())?;
    let default: SigSet = [
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGPIPE,
        Signal::SIGTERM,
        Signal::SIGCHLD,
    ]
    .into_iter()
    .collect();
    attributes.set_sigdefault(&default)?;
    let zero = |text: &OsStr| CString::new(text.as_bytes()).map_err(io::Error::other);
    let environment = std::env::vars_os()
        .map(|(name, value)| zero(&join(&name, &value)))
        .collect::<io::Result<Vec<_>>>()?;
    let arguments = [zero(OsStr::new("sessd"))?];
    Ok(posix_spawn(program, &files, &attributes, &arguments, &environment)?)
}

fn join(name: &OsStr, value: &OsStr) -> OsString {
    let bytes = [name.as_bytes(), b"=", value.as_bytes()].concat();
    OsString::from_vec(bytes)
}

/// The exit code of a child that has ended; a signal counts as 128 and its number, as in a shell.
fn end_of(pid: Pid) -> Option<i32> {
    match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::Exited(_, code)) => Some(code),
        Ok(WaitStatus::Signaled(_, signal, _)) => Some(128 + signal as i32),
        // Whoever took the exit code away, the child is gone.
        Err(_) => Some(EXIT_OTHER_OWNER),
        Ok(_) => None,
    }
}

/// The last line of the log, as what follows a message.
fn last_words(log: &Path) -> String {
    let lines = tail(log, 1).unwrap_or_default();
    lines.first().map_or_else(String::new, |line| format!(": {}", line.trim()))
}

/// Bytes at the end of a log that are looked at for its last lines.
const TAIL_BYTES_MAX: u64 = 256 * 1024;

/// The last lines of a log, oldest first.
///
/// # Errors
/// When it cannot be read.
pub fn tail(log: &Path, lines: usize) -> io::Result<Vec<String>> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = File::open(log)?;
    let from = file.metadata()?.len().saturating_sub(TAIL_BYTES_MAX);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES_MAX).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    // A cut first line is none.
    let whole = if from > 0 { text.split_once('\n').map_or("", |it| it.1) } else { &text };
    let all: Vec<&str> = whole.lines().collect();
    Ok(all[all.len().saturating_sub(lines)..].iter().map(|it| (*it).to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripted::Folder;

    #[test]
    fn a_full_log_is_set_aside_and_only_its_owner_reads_it() {
        let folder = Folder::new();
        let path = folder.path().join("log/sessd.log");
        drop(open_log(&path).unwrap());
        File::options().write(true).open(&path).unwrap().set_len(LOG_BYTES_MAX + 1).unwrap();
        drop(open_log(&path).unwrap());
        let aside = folder.path().join("log/sessd.log.1");
        assert_eq!(aside.metadata().unwrap().len(), LOG_BYTES_MAX + 1);
        assert_eq!(path.metadata().unwrap().len(), 0);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_is_started_has_a_session_of_its_own() {
        let folder = Folder::new();
        let told = folder.path().join("told");
        let program = folder.path().join("sessd");
        let script = format!(
            "#!/bin/sh\nexec 2>{}\ncut -d' ' -f6 /proc/$$/stat >&2\necho $$ >&2\n",
            told.display()
        );
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
        let log = open_log(&folder.path().join("log")).unwrap();
        let pid = spawn(&program, &log).unwrap();
        assert!(matches!(waitpid(pid, None), Ok(WaitStatus::Exited(_, 0))));
        let told = std::fs::read_to_string(told).unwrap();
        assert_eq!(told, format!("{pid}\n{pid}\n"));
    }

    #[test]
    fn the_tail_of_a_log_is_its_last_whole_lines() {
        let folder = Folder::new();
        let log = folder.path().join("log");
        std::fs::write(&log, "one\ntwo\nthree\n").unwrap();
        assert_eq!(tail(&log, 2).unwrap(), ["two", "three"]);
        assert_eq!(tail(&log, 9).unwrap().len(), 3);
        let long = format!("{}\nlast\n", "x".repeat(usize::try_from(TAIL_BYTES_MAX).unwrap()));
        std::fs::write(&log, long).unwrap();
        assert_eq!(tail(&log, 9).unwrap(), ["last"]);
    }
}
