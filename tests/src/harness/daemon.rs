//! How is a daemon started, killed, started again, and left without a trace?

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::net::UnixDatagram;
use tokio::process::Child;

use super::{Wire, within};
use crate::bins;
use crate::stub::Stub;

/// The variable that has a promise broken on purpose; it reaches every daemon of a run for that.
pub const SABOTAGE_VARIABLE: &str = "SESS_SABOTAGE";
/// Bytes of the daemon's own words that are shown when a story fails.
const SHOWN_BYTES_MAX: usize = 16 * 1024;
/// Bytes of one notification to the service manager.
const NOTE_BYTES_MAX: usize = 4 * 1024;

/// A change to the command that starts the daemon, as the environment of a recorder.
type Hook = Arc<dyn Fn(&mut Command) + Send + Sync>;

/// A folder of its own below `/tmp`: the path of a socket has room for 107 bytes only. Removed when dropped.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Makes an empty one, for this user only.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Relaxed);
        let path = PathBuf::from(format!("/tmp/sess-{}-{number}", std::process::id()));
        // What is there was left by a killed process of the same number.
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).expect("a folder can be made below /tmp");
        let mode = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(&path, mode).expect("the folder is ours");
        Folder(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Default for Folder {
    fn default() -> Self {
        Folder::new()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What a daemon is started with; it may be started again and again.
#[derive(Clone)]
pub struct Plan {
    folder: Arc<Folder>,
    environment: Vec<(OsString, OsString)>,
    arguments: Vec<OsString>,
    program: Option<PathBuf>,
    hook: Option<Hook>,
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plan").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Default for Plan {
    fn default() -> Self {
        Plan::new()
    }
}

impl Plan {
    /// A daemon in an empty folder, with nothing of this process's environment but `PATH` and a chosen sabotage.
    pub fn new() -> Plan {
        let folder = Arc::new(Folder::new());
        let (environment, arguments) = (Vec::new(), Vec::new());
        Plan { folder, environment, arguments, program: None, hook: None }
    }

    /// One variable more.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Plan {
        self.environment.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// One argument more.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Plan {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Another `sessd` than the one under test.
    #[must_use]
    pub fn program(mut self, path: &Path) -> Plan {
        self.program = Some(path.to_owned());
        self
    }

    /// Changes the command just before each start, as a recorder must.
    #[must_use]
    pub fn hook(mut self, hook: impl Fn(&mut Command) + Send + Sync + 'static) -> Plan {
        self.hook = Some(Arc::new(hook));
        self
    }

    /// Makes `stub/stub` the model of all sessions.
    #[must_use]
    pub fn stub(self, stub: &Stub) -> Plan {
        let timeouts = json!({
            "connect_ms": 2_000, "first_byte_ms": 20_000, "idle_ms": 20_000, "total_ms": 60_000,
        });
        self.stub_with(stub, timeouts)
    }

    /// The same with other deadlines.
    #[must_use]
    pub fn stub_with(self, stub: &Stub, timeouts: Value) -> Plan {
        let provider = json!({"kind": "openai", "base_url": stub.base_url(), "timeouts": timeouts});
        self.document("providers", &json!({"stub": provider}))
            .document("settings", &json!({"model": "stub/stub"}))
    }

    /// Writes a document before the start.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn document(self, name: &str, value: &Value) -> Plan {
        self.text_document(name, &value.to_string())
    }

    /// Writes the file of a document as it is given, JSON or not.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn text_document(self, name: &str, text: &str) -> Plan {
        let folder = self.state_folder();
        std::fs::create_dir_all(&folder).expect("the folder of documents can be made");
        std::fs::write(folder.join(format!("{name}.json")), text).expect("it can be written");
        self
    }

    /// The temporary folder, which is also the daemon's home.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where the socket will be.
    pub fn socket(&self) -> PathBuf {
        self.folder().join("run").join("s")
    }

    /// Where the documents are.
    pub fn state_folder(&self) -> PathBuf {
        self.folder().join("state")
    }

    /// Where the store is.
    pub fn data_folder(&self) -> PathBuf {
        self.folder().join("data")
    }

    /// The command that starts the daemon, for who starts it in another way.
    ///
    /// # Panics
    /// When the file for its own words cannot be opened.
    pub fn command(&self) -> Command {
        let words = File::options().create(true).append(true).open(self.words_path());
        let program = self.program.clone().unwrap_or_else(|| bins::bin("sessd"));
        let mut command = Command::new(program);
        command
            .args(&self.arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder())
            .env("SESS_SOCKET", self.socket())
            .env("SESS_DATA_DIR", self.data_folder())
            .env("SESS_STATE_DIR", self.state_folder())
            // What happens to run on this machine is no part of any story.
            .env("OLLAMA_HOST", "127.0.0.1:1")
            // Only a program built to be broken on purpose reads it.
            .envs(std::env::var_os(SABOTAGE_VARIABLE).map(|it| (SABOTAGE_VARIABLE, it)))
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(self.folder())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(words.expect("the file for its words can be opened"));
        if let Some(hook) = &self.hook {
            hook(&mut command);
        }
        command
    }

    /// What the daemon said on stderr, all starts together.
    pub fn words(&self) -> String {
        let bytes = std::fs::read(self.words_path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn words_path(&self) -> PathBuf {
        self.folder().join("stderr")
    }

    /// Starts the daemon and waits until it says that it is ready.
    ///
    /// # Panics
    /// When it ends before, or says nothing in time.
    pub async fn start(&self) -> Daemon {
        match self.try_start().await {
            Ok(daemon) => daemon,
            Err(status) => {
                panic!("the daemon ended before it was ready: {status}\n{}", self.words())
            }
        }
    }

    /// Starts the daemon and waits until it says that it is ready.
    ///
    /// # Errors
    /// How it ended, when it did not come so far.
    ///
    /// # Panics
    /// When it says nothing in time.
    pub async fn try_start(&self) -> Result<Daemon, ExitStatus> {
        let notes = Notes::bind(self.folder());
        let mut command = tokio::process::Command::from(self.command());
        command.env("NOTIFY_SOCKET", &notes.path).kill_on_drop(true);
        let child = command.spawn().expect("the program can be started");
        let mut daemon = Daemon { plan: self.clone(), child, notes };
        match daemon.ended_before_ready().await {
            None => Ok(daemon),
            Some(status) => Err(status),
        }
    }

    /// Starts a daemon that shall end by itself, and waits for its exit code.
    ///
    /// # Panics
    /// When it does not end, or ends by a signal.
    pub async fn run(&self) -> i32 {
        let mut command = tokio::process::Command::from(self.command());
        let mut child = command.kill_on_drop(true).spawn().expect("the program can be started");
        let status = within("the daemon's end", child.wait()).await.expect("it is our child");
        status.code().unwrap_or_else(|| panic!("it ended with {status}: {}", self.words()))
    }
}

/// The other end of the daemon's words to its service manager.
#[derive(Debug)]
struct Notes {
    path: PathBuf,
    socket: UnixDatagram,
}

impl Notes {
    fn bind(folder: &Path) -> Notes {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let path = folder.join(format!("notify-{}", COUNT.fetch_add(1, Relaxed)));
        let socket = UnixDatagram::bind(&path).expect("the path is free and short");
        Notes { path, socket }
    }

    async fn until(&self, wanted: &str) {
        let mut buffer = [0; NOTE_BYTES_MAX];
        loop {
            let count = self.socket.recv(&mut buffer).await.expect("the socket is open");
            let text = String::from_utf8_lossy(&buffer[..count]);
            if text.lines().any(|line| line == wanted) {
                return;
            }
        }
    }
}

/// A running daemon. Dropping it kills it; if a story fails, its own words are shown.
#[derive(Debug)]
pub struct Daemon {
    plan: Plan,
    child: Child,
    notes: Notes,
}

impl Daemon {
    /// Starts one in an empty folder, whose only model is the built-in echo.
    pub async fn start() -> Daemon {
        Plan::new().start().await
    }

    /// Starts one whose model is the stub.
    pub async fn with_stub(stub: &Stub) -> Daemon {
        Plan::new().stub(stub).start().await
    }

    async fn ended_before_ready(&mut self) -> Option<ExitStatus> {
        let Daemon { child, notes, .. } = self;
        within("READY", async {
            tokio::select! {
                () = notes.until("READY=1") => None,
                status = child.wait() => Some(status.expect("it is our child")),
            }
        })
        .await
    }

    /// What it was started with.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// A new connection.
    pub async fn wire(&self) -> Wire {
        Wire::connect(&self.plan.socket()).await
    }

    /// Its process.
    ///
    /// # Panics
    /// When it has ended.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("it was not waited for yet")
    }

    /// Ends it at once, as a power cut would, and starts it again.
    #[must_use]
    pub async fn killed_and_restarted(self) -> Daemon {
        self.kill().await.start().await
    }

    /// Sends it SIGKILL and waits until the process is gone.
    pub async fn kill(mut self) -> Plan {
        self.child.start_kill().expect("it is our child");
        self.exit().await;
        self.plan.clone()
    }

    /// Asks it to stop and waits for its exit code.
    pub async fn terminate(self) -> i32 {
        self.signal(Signal::SIGTERM);
        self.exit_code().await
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When the process is gone.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid().cast_signed()), signal).expect("it is our child");
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// When it does not, or ends by a signal.
    pub async fn exit_code(mut self) -> i32 {
        let status = self.exit().await;
        status.code().unwrap_or_else(|| panic!("it ended with {status}"))
    }

    /// Waits until it ends, however it does.
    pub async fn ended(mut self) -> ExitStatus {
        self.exit().await
    }

    /// Waits until it says that it stops.
    pub async fn stopping(&self) {
        within("STOPPING", self.notes.until("STOPPING=1")).await;
    }

    async fn exit(&mut self) -> ExitStatus {
        within("the daemon's end", self.child.wait()).await.expect("it is our child")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.child.start_kill().is_ok()
            && let Some(pid) = self.child.id()
        {
            // Its folder goes next, and nobody may write there then; the runtime reaps it.
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
            let _ = waitid(Id::Pid(Pid::from_raw(pid.cast_signed())), flags);
        }
        if std::thread::panicking() {
            let words = self.plan.words();
            let mut from = words.len().saturating_sub(SHOWN_BYTES_MAX);
            while !words.is_char_boundary(from) {
                from += 1;
            }
            eprintln!("--- the daemon said\n{}---", &words[from..]);
        }
    }
}
