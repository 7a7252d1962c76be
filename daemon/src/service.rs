//! The daemon as a process among others: signals, the service manager, no leaks of its memory.

use std::ffi::OsStr;
use std::future::pending;
use std::io;
use std::os::fd::RawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, StartError};

/// How long a word to the service manager may wait for room.
const NOTIFY_WAIT_MS_MAX: u64 = 1_000;
/// Descriptors that are asked for: all connections and all else that is open beside them.
const DESCRIPTORS: u64 = 4096;
/// The first descriptor behind the standard ones: what a service manager passes begins there.
const FIRST_PASSED: RawFd = 3;
/// How the process ends at the second signal, as a shell names an interrupt.
const EXIT_AT_ONCE: i32 = 130;

/// Keeps the process's memory from core files and from other processes of the same user: there
/// are keys in it.
pub fn harden() -> Result<(), StartError> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)
        .map_err(|err| StartError::io("cannot turn core files off", err))?;
    prctl::set_dumpable(false)
        .map_err(|err| StartError::io("cannot close the process's memory", err))
}

/// Closes what whoever started the daemon left open for it by accident: a pipe that a shell waits at, a file on a disk
/// that is to be unmounted. The standard ones stay, and the socket of a service manager, if it passed one.
pub fn close_inherited(socket_passed: bool) {
    let first = FIRST_PASSED + RawFd::from(socket_passed);
    let Ok(open) = std::fs::read_dir("/proc/self/fd") else { return };
    let open = open.filter_map(|it| it.ok()?.file_name().to_str()?.parse().ok());
    let inherited: Vec<RawFd> =
        open.filter(|it| *it >= first && outlives_exec(*it) == Some(true)).collect();
    for descriptor in inherited {
        let _ = nix::unistd::close(descriptor);
    }
}

/// Whether a descriptor is handed on to a program that is started: so came all that are inherited. What a preloaded
/// library opened for itself is not.
fn outlives_exec(descriptor: RawFd) -> Option<bool> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}")).ok()?;
    let flags = info.lines().find_map(|it| it.strip_prefix("flags:"))?;
    let flags = i32::from_str_radix(flags.trim(), 8).ok()?;
    Some(flags & nix::libc::O_CLOEXEC == 0)
}

/// Takes as many descriptors as are needed and may be had: what a shell gives is often fewer than there may be
/// connections.
pub fn take_descriptors() {
    let taken = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        setrlimit(Resource::RLIMIT_NOFILE, soft.max(DESCRIPTORS.min(hard)), hard)
    });
    if let Err(err) = taken {
        tracing::warn!(%err, "the limit of open files stays as it is");
    }
}

/// Tells the service manager how the daemon is; without one it says nothing.
#[derive(Debug)]
pub struct Notifier {
    target: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// Ready to tell the service manager named in the environment, if there is one.
    pub fn new(config: &Config) -> Result<Self, StartError> {
        let target = match &config.notify_socket {
            None => None,
            Some(name) => Some(target(name).map_err(|err| {
                StartError::io(format!("`NOTIFY_SOCKET` `{}`", name.display()), err)
            })?),
        };
        Ok(Self { target, watchdog: config.watchdog })
    }

    /// The daemon answers on its socket.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// The daemon is on its way out.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// Another process is the daemon from now on.
    pub fn main_process(&self, pid: u32) {
        self.send(&format!("MAINPID={pid}"));
    }

    /// Gives a sign of life twice a period for as long as it is polled; for ever silent where
    /// nobody asked for it. Run it on the runtime that serves, so that it stops when that hangs.
    pub async fn keep_alive(&self) {
        let Some(period) = self.watchdog else { return pending().await };
        let mut ticks = tokio::time::interval(period / 2);
        loop {
            ticks.tick().await;
            self.send("WATCHDOG=1");
        }
    }

    /// A service manager that does not listen is its own trouble, not ours.
    fn send(&self, word: &str) {
        if let Some((socket, target)) = &self.target
            && let Err(err) = socket.send_to_addr(word.as_bytes(), target)
        {
            tracing::warn!(word, %err, "the service manager was not told");
        }
    }
}

fn target(name: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let target = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(name)?,
        _ => return Err(io::Error::other("neither a path nor an abstract name")),
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(Duration::from_millis(NOTIFY_WAIT_MS_MAX)))?;
    Ok((socket, target))
}

/// The signals that ask the daemon to stop.
#[derive(Debug)]
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// From here on the signals are heard and do not end the process by themselves.
    pub fn listen() -> io::Result<Self> {
        // A file that may grow no further is an error of its write, and not the end: heard once, it
        // does not end the process any more.
        drop(signal(SignalKind::from_raw(nix::libc::SIGXFSZ))?);
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Cancels `stop` at the first signal and ends the process at once at the second. Returns
    /// never; to be dropped when the planned stop is done.
    pub async fn watch(mut self, stop: CancellationToken) {
        let name = self.next().await;
        tracing::info!(signal = name, "stopping");
        stop.cancel();
        let name = self.next().await;
        tracing::warn!(signal = name, "stopping at once");
        std::process::exit(EXIT_AT_ONCE);
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::path::PathBuf;
    use std::process::{Command, Stdio};

    use nix::sys::signal::{Signal as Number, kill};
    use nix::unistd::Pid;

    use super::*;

    fn config(notify_socket: Option<&OsStr>, watchdog: Option<Duration>) -> Config {
        Config {
            socket: PathBuf::from("/s"),
            data_dir: PathBuf::from("/d"),
            state_dir: PathBuf::from("/c"),
            credentials_dir: None,
            log_filter: "info".to_owned(),
            socket_passed: false,
            handed_over: false,
            notify_socket: notify_socket.map(OsStr::to_owned),
            watchdog,
        }
    }

    fn heard(manager: &UnixDatagram) -> String {
        let mut bytes = [0; 64];
        let length = manager.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    #[test]
    fn the_service_manager_hears_on_a_path_and_on_an_abstract_name() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("notify");
        let at_path = UnixDatagram::bind(&path).unwrap();
        let name = format!("sess-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let at_name = UnixDatagram::bind_addr(&address).unwrap();

        let abstract_name = format!("@{name}");
        for (manager, name) in [(at_path, path.as_os_str()), (at_name, abstract_name.as_ref())] {
            let notifier = Notifier::new(&config(Some(name), None)).unwrap();
            notifier.ready();
            notifier.stopping();
            assert_eq!([heard(&manager), heard(&manager)], ["READY=1", "STOPPING=1"]);
        }
    }

    #[test]
    fn without_a_service_manager_nothing_is_said_and_a_wrong_name_is_refused() {
        Notifier::new(&config(None, None)).unwrap().ready();
        let err = Notifier::new(&config(Some(OsStr::new("vsock:2:1")), None)).unwrap_err();
        assert!(err.to_string().contains("vsock:2:1"), "{err}");
        let gone = Notifier::new(&config(Some(OsStr::new("/nowhere/notify")), None)).unwrap();
        gone.ready();
    }

    #[tokio::test]
    async fn signs_of_life_come_twice_a_period() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("notify");
        let manager = tokio::net::UnixDatagram::bind(&path).unwrap();
        let period = Duration::from_millis(200);
        let notifier = Notifier::new(&config(Some(path.as_os_str()), Some(period))).unwrap();

        let start = std::time::Instant::now();
        let three = async {
            for _ in 0..3 {
                let mut bytes = [0; 64];
                let length = manager.recv(&mut bytes).await.unwrap();
                assert_eq!(&bytes[..length], b"WATCHDOG=1");
            }
        };
        tokio::select! {
            () = notifier.keep_alive() => unreachable!("it never ends by itself"),
            () = three => {}
        }
        assert!(start.elapsed() >= period - Duration::from_millis(5));
    }

    /// Set for a child of a test.
    const CHILD: &str = "SESS_TEST_SERVICE_CHILD";

    /// Runs one of the ignored tests as a process of its own.
    fn child(name: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", &format!("service::tests::{name}"), "--ignored", "--nocapture"])
            .env(CHILD, "1")
            .stdout(Stdio::piped());
        command
    }

    #[tokio::test]
    #[ignore = "run by another test as a process of its own"]
    async fn stoppable() {
        std::env::var_os(CHILD).expect("only run by another test, which ends it");
        let stop = CancellationToken::new();
        let signals = StopSignals::listen().unwrap();
        println!("\nlistening");
        let told = async {
            stop.cancelled().await;
            println!("\nplanned stop");
            pending::<()>().await;
        };
        tokio::select! { () = signals.watch(stop.clone()) => {}, () = told => {} }
    }

    #[test]
    fn the_first_signal_asks_for_a_planned_stop_and_the_second_ends_at_once() {
        for (first, second) in
            [(Number::SIGTERM, Number::SIGINT), (Number::SIGINT, Number::SIGTERM)]
        {
            let mut child = child("stoppable").spawn().unwrap();
            let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
            let mut lines =
                BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);

            assert!(lines.any(|it| it == "listening"));
            kill(pid, first).unwrap();
            assert!(lines.any(|it| it == "planned stop"));
            kill(pid, second).unwrap();
            assert_eq!(child.wait().unwrap().code(), Some(EXIT_AT_ONCE));
        }
    }

    #[test]
    #[ignore = "run by another test as a process of its own"]
    fn hardened() {
        harden().unwrap();
        let core = getrlimit(Resource::RLIMIT_CORE).unwrap();
        println!("\ncore {core:?} dumpable {}", prctl::get_dumpable().unwrap());
    }

    #[test]
    fn a_hardened_process_leaves_no_core_and_cannot_be_read() {
        let output = child("hardened").output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("core (0, 0) dumpable false"), "{output:?}");
    }
}
