//! What the daemon is told at its start: arguments and environment, checked, as one value.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

/// What is logged when nothing is said about it.
const LOG_FILTER_DEFAULT: &str = "info";

/// What `--help` prints, and a wrong call on stderr.
const USAGE: &str = "\
usage: sessd [--check | --doctor [-n] | --restore FILE | --version | --help]

Owns the chat sessions of one user and serves them on a Unix socket, in the foreground.

  --check    look at settings and store, start nothing
  --doctor [-n]
             say how everything is, as a line of JSON, and save what can be saved of a damaged store;
             with -n only say it; `sess doctor` says it in words
  --restore FILE
             put a backup in the place of the store, which is set aside; with no daemon running
  --version  print the version
  --help     print this

environment:
  SESS_SOCKET     the socket (default $XDG_RUNTIME_DIR/sess/sess.sock,
                  else $XDG_STATE_HOME/sess/run/sess.sock)
  SESS_DATA_DIR   the store (default $XDG_DATA_HOME/sess)
  SESS_STATE_DIR  the documents (default $XDG_CONFIG_HOME/sess)
  SESS_LOG        what is logged on stderr, as `info` or `sess_daemon=debug` (default info)
";

/// The variable by which a daemon tells its successor that the socket is handed over to it.
pub const HANDOVER: &str = "SESS_HANDOVER";
/// Its one value: the socket is standard input.
pub const HANDOVER_STDIN: &str = "stdin";

/// How the daemon ends, for scripts and service managers: a closed list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Exit {
    /// It did what it was asked to.
    Done = 0,
    /// Something of the store is missing, and it was said what.
    Missing = 1,
    /// It was called in a wrong way.
    Usage = 2,
    /// The store is damaged.
    Damaged = 65,
    /// Another daemon owns the socket or the store.
    OtherOwner = 73,
    /// Reading or writing went wrong.
    Io = 74,
    /// A folder or the socket is open to others.
    Unsafe = 77,
    /// The store is of a newer version, or the settings or the environment are wrong.
    Settings = 78,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why the daemon cannot start: what to tell a person, and the code to end with.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct StartError {
    /// The code to end with.
    pub exit: Exit,
    /// What happened and what to do.
    pub message: String,
}

impl StartError {
    /// An error that ends the start with this code.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// Reading or writing went wrong.
    pub fn io(what: impl std::fmt::Display, err: impl std::fmt::Display) -> Self {
        Self::new(Exit::Io, format!("{what}: {err}"))
    }
}

/// What the daemon is asked to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// To serve.
    Run(Config),
    /// To look at settings and store without starting.
    Check(Config),
    /// To say how everything is and to save what can be saved; or only to say it.
    Doctor(Config, bool),
    /// To put a backup in the place of the store.
    Restore(Config, PathBuf),
    /// To print this on stdout.
    Print(String),
}

/// Where things are and how the start goes. All paths are absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The socket to own.
    pub socket: PathBuf,
    /// The folder of the store.
    pub data_dir: PathBuf,
    /// The folder of the documents.
    pub state_dir: PathBuf,
    /// Where the service manager put what is secret.
    pub credentials_dir: Option<PathBuf>,
    /// What is logged: a filter that parses.
    pub log_filter: String,
    /// Whether the service manager passed a socket as descriptor 3.
    pub socket_passed: bool,
    /// Whether the program before this one handed its socket over as standard input.
    pub handed_over: bool,
    /// Where the service manager wants to hear of readiness.
    pub notify_socket: Option<OsString>,
    /// How often at least the service manager wants a sign of life.
    pub watchdog: Option<Duration>,
}

/// Reads arguments (without the program's name) and environment, once.
pub fn read(
    args: impl IntoIterator<Item = OsString>,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Asked, StartError> {
    let mut args = args.into_iter();
    let first = args.next();
    let environment = Environment { variable };
    if first.as_deref().is_some_and(|it| it == "--restore") {
        return match (args.next(), args.next()) {
            (Some(file), None) => Ok(Asked::Restore(environment.config()?, file.into())),
            _ => Err(StartError::new(Exit::Usage, format!("`--restore` takes one file\n{USAGE}"))),
        };
    }
    if first.as_deref().is_some_and(|it| it == "--doctor") {
        return match (args.next(), args.next()) {
            (None, _) => Ok(Asked::Doctor(environment.config()?, false)),
            (Some(dry), None) if dry == "-n" => Ok(Asked::Doctor(environment.config()?, true)),
            (Some(extra), _) => Err(usage(&extra)),
        };
    }
    if let Some(extra) = args.next() {
        return Err(usage(&extra));
    }
    match first {
        None => Ok(Asked::Run(environment.config()?)),
        Some(arg) if arg == "--check" => Ok(Asked::Check(environment.config()?)),
        Some(arg) if arg == "--help" || arg == "-h" => Ok(Asked::Print(USAGE.to_owned())),
        Some(arg) if arg == "--version" || arg == "-V" => {
            Ok(Asked::Print(format!("sessd {}\n", env!("CARGO_PKG_VERSION"))))
        }
        Some(arg) => Err(usage(&arg)),
    }
}

fn usage(arg: &OsStr) -> StartError {
    StartError::new(Exit::Usage, format!("argument `{}` is not known\n{USAGE}", arg.display()))
}

fn wrong(message: String) -> StartError {
    StartError::new(Exit::Settings, message)
}

struct Environment<F> {
    variable: F,
}

impl<F: Fn(&str) -> Option<OsString>> Environment<F> {
    fn config(&self) -> Result<Config, StartError> {
        Ok(Config {
            socket: self.socket()?,
            data_dir: self.folder("SESS_DATA_DIR", "XDG_DATA_HOME", ".local/share")?,
            state_dir: self.folder("SESS_STATE_DIR", "XDG_CONFIG_HOME", ".config")?,
            credentials_dir: self.xdg_path("CREDENTIALS_DIRECTORY"),
            log_filter: self.log_filter()?,
            socket_passed: self.socket_passed()?,
            handed_over: self.value(HANDOVER).is_some_and(|it| it == HANDOVER_STDIN),
            notify_socket: self.value("NOTIFY_SOCKET"),
            watchdog: self.watchdog(),
        })
    }

    /// An empty variable counts as one that is not set, as the XDG paper has it.
    fn value(&self, name: &str) -> Option<OsString> {
        (self.variable)(name).filter(|it| !it.is_empty())
    }

    /// A variable of ours: a relative path is refused, since it would mean another place in each
    /// working directory.
    fn own_path(&self, name: &str) -> Result<Option<PathBuf>, StartError> {
        match self.value(name).map(PathBuf::from) {
            Some(path) if path.is_relative() => {
                Err(wrong(format!("`{name}` is `{}`: an absolute path is needed", path.display())))
            }
            path => Ok(path),
        }
    }

    /// A variable of the XDG paper, which says to ignore relative paths.
    fn xdg_path(&self, name: &str) -> Option<PathBuf> {
        self.value(name).map(PathBuf::from).filter(|it| it.is_absolute())
    }

    fn xdg_or_home(&self, xdg: &str, below_home: &str) -> Result<PathBuf, StartError> {
        if let Some(path) = self.xdg_path(xdg) {
            return Ok(path);
        }
        match self.xdg_path("HOME") {
            Some(home) => Ok(home.join(below_home)),
            None => Err(wrong(format!(
                "neither `{xdg}` nor `HOME` is an absolute path: set one of them"
            ))),
        }
    }

    fn folder(&self, own: &str, xdg: &str, below_home: &str) -> Result<PathBuf, StartError> {
        match self.own_path(own)? {
            Some(path) => Ok(path),
            None => Ok(self.xdg_or_home(xdg, below_home)?.join("sess")),
        }
    }

    fn socket(&self) -> Result<PathBuf, StartError> {
        if let Some(path) = self.own_path("SESS_SOCKET")? {
            return Ok(path);
        }
        if let Some(runtime) = self.xdg_path("XDG_RUNTIME_DIR") {
            return Ok(runtime.join("sess/sess.sock"));
        }
        Ok(self.xdg_or_home("XDG_STATE_HOME", ".local/state")?.join("sess/run/sess.sock"))
    }

    fn log_filter(&self) -> Result<String, StartError> {
        let Some(filter) = self.value("SESS_LOG") else {
            return Ok(LOG_FILTER_DEFAULT.to_owned());
        };
        let filter = filter.to_string_lossy().into_owned();
        match EnvFilter::try_new(&filter) {
            Ok(_) => Ok(filter),
            Err(err) => Err(wrong(format!("`SESS_LOG` is `{filter}`: {err}"))),
        }
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.value(name)?.to_str()?.parse().ok()
    }

    /// The variables of a service manager may be left over from a parent, hence the pid.
    fn socket_passed(&self) -> Result<bool, StartError> {
        if self.number("LISTEN_PID") != Some(u64::from(std::process::id())) {
            return Ok(false);
        }
        match self.number("LISTEN_FDS") {
            Some(0) => Ok(false),
            Some(1) => Ok(true),
            _ => Err(wrong("`LISTEN_FDS` must be 1: exactly one socket is adopted".to_owned())),
        }
    }

    fn watchdog(&self) -> Option<Duration> {
        let meant =
            self.number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let period = self.number("WATCHDOG_USEC").filter(|it| *it > 0 && meant)?;
        Some(Duration::from_micros(period))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(args: &[&str], variables: &[(&str, &str)]) -> Result<Asked, StartError> {
        let variables: Vec<(String, OsString)> =
            variables.iter().map(|(name, value)| ((*name).into(), value.into())).collect();
        read(args.iter().map(OsString::from), |name| {
            variables.iter().find(|it| it.0 == name).map(|it| it.1.clone())
        })
    }

    fn config(variables: &[(&str, &str)]) -> Config {
        match with(&[], variables).unwrap() {
            Asked::Run(config) => config,
            asked => panic!("{asked:?}"),
        }
    }

    fn refused(variables: &[(&str, &str)], words: &str) {
        let err = with(&[], variables).unwrap_err();
        assert_eq!(err.exit, Exit::Settings);
        assert!(err.to_string().contains(words), "{err}");
    }

    #[test]
    fn paths_follow_the_variables_in_the_order_of_the_manual() {
        let home = ("HOME", "/h");
        let bare = config(&[home]);
        assert_eq!(bare.socket, PathBuf::from("/h/.local/state/sess/run/sess.sock"));
        assert_eq!(bare.data_dir, PathBuf::from("/h/.local/share/sess"));
        assert_eq!(bare.state_dir, PathBuf::from("/h/.config/sess"));

        let state = ("XDG_STATE_HOME", "/s");
        assert_eq!(config(&[home, state]).socket, PathBuf::from("/s/sess/run/sess.sock"));
        let runtime = ("XDG_RUNTIME_DIR", "/r");
        assert_eq!(config(&[home, state, runtime]).socket, PathBuf::from("/r/sess/sess.sock"));
        let own = config(&[
            ("SESS_SOCKET", "/o/x"),
            ("SESS_DATA_DIR", "/o/d"),
            ("SESS_STATE_DIR", "/o/s"),
            runtime,
        ]);
        assert_eq!(own.socket, PathBuf::from("/o/x"));
        assert_eq!(own.data_dir, PathBuf::from("/o/d"));
        assert_eq!(own.state_dir, PathBuf::from("/o/s"));
        let xdg = config(&[home, ("XDG_DATA_HOME", "/d"), ("XDG_CONFIG_HOME", "/c")]);
        assert_eq!(xdg.data_dir, PathBuf::from("/d/sess"));
        assert_eq!(xdg.state_dir, PathBuf::from("/c/sess"));
    }

    #[test]
    fn relative_and_empty_xdg_paths_are_ignored_and_own_ones_refused() {
        let odd = config(&[("HOME", "/h"), ("XDG_DATA_HOME", "rel"), ("XDG_RUNTIME_DIR", "")]);
        assert_eq!(odd.data_dir, PathBuf::from("/h/.local/share/sess"));
        assert_eq!(odd.socket, PathBuf::from("/h/.local/state/sess/run/sess.sock"));
        for own in ["SESS_SOCKET", "SESS_DATA_DIR", "SESS_STATE_DIR"] {
            refused(&[("HOME", "/h"), (own, "rel")], own);
        }
    }

    #[test]
    fn a_missing_home_is_told_only_where_it_is_needed() {
        refused(&[], "`XDG_STATE_HOME` nor `HOME`");
        refused(&[("HOME", "rel"), ("SESS_SOCKET", "/s")], "`XDG_DATA_HOME` nor `HOME`");
        let all = [("SESS_SOCKET", "/s"), ("SESS_DATA_DIR", "/d"), ("SESS_STATE_DIR", "/c")];
        assert_eq!(config(&all).socket, PathBuf::from("/s"));
    }

    #[test]
    fn arguments_are_one_of_three() {
        let home = [("HOME", "/h")];
        assert!(matches!(with(&["--check"], &home), Ok(Asked::Check(_))));
        let version = format!("sessd {}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!(with(&["--version"], &[]).unwrap(), Asked::Print(version));
        assert!(matches!(with(&["--help"], &[]), Ok(Asked::Print(_))));
        for args in [&["--chekc"][..], &["x"], &["--check", "x"]] {
            let err = with(args, &home).unwrap_err();
            assert_eq!(err.exit, Exit::Usage);
            assert!(err.to_string().contains("usage: sessd"), "{err}");
        }
    }

    #[test]
    fn the_log_filter_is_checked_before_it_is_used() {
        assert_eq!(config(&[("HOME", "/h")]).log_filter, "info");
        assert_eq!(config(&[("HOME", "/h"), ("SESS_LOG", "a=debug")]).log_filter, "a=debug");
        refused(&[("HOME", "/h"), ("SESS_LOG", "a=loud")], "SESS_LOG");
    }

    #[test]
    fn the_service_manager_is_believed_only_when_it_means_this_process() {
        let me = std::process::id().to_string();
        let home = ("HOME", "/h");
        let (mine, other) = (("LISTEN_PID", me.as_str()), ("LISTEN_PID", "1"));
        assert!(config(&[home, mine, ("LISTEN_FDS", "1")]).socket_passed);
        assert!(!config(&[home, other, ("LISTEN_FDS", "1")]).socket_passed);
        assert!(!config(&[home, ("LISTEN_FDS", "1")]).socket_passed);
        refused(&[home, mine, ("LISTEN_FDS", "2")], "LISTEN_FDS");

        let period = ("WATCHDOG_USEC", "3000000");
        assert_eq!(config(&[home, period]).watchdog, Some(Duration::from_secs(3)));
        assert_eq!(config(&[home, period, ("WATCHDOG_PID", "1")]).watchdog, None);
        assert_eq!(config(&[home]).watchdog, None);
    }

    #[test]
    fn exit_codes_are_those_of_the_manual() {
        let codes = [
            Exit::Done,
            Exit::Usage,
            Exit::Damaged,
            Exit::OtherOwner,
            Exit::Io,
            Exit::Unsafe,
            Exit::Settings,
        ];
        assert_eq!(codes.map(|it| it as u8), [0, 2, 65, 73, 74, 77, 78]);
    }
}
