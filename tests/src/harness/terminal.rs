//! How does a story sit at a terminal: type, and read what is on the screen?
//!
//! The terminal is tmux, so that what is read is what a person would see, escape codes worked in. Nothing
//! here looks again after a while: tmux copies what the programs print into a pipe, and each piece of it
//! is the sign to read the screen.

use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use super::Plan;
use crate::bins;

/// Bytes read at a time of what was printed.
const PIECE_BYTES: usize = 64 * 1024;

/// A terminal with a shell in it. Dropping it ends both.
#[derive(Debug)]
pub struct Terminal {
    /// Its folder stays while tmux is to be reached in it.
    _plan: Plan,
    socket: PathBuf,
    printed: pipe::Receiver,
    /// All that was printed since the last look, codes included.
    raw: Vec<u8>,
}

impl Terminal {
    /// Opens one of so many columns and lines, whose `sess` reaches the daemon of this plan.
    ///
    /// # Panics
    /// When there is no tmux.
    pub async fn open(plan: &Plan, columns: u32, lines: u32) -> Terminal {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let socket = plan.folder().join(format!("tmux-{number}"));
        let fifo = plan.folder().join(format!("printed-{number}"));
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("the folder is ours");
        // Also writing, so that it does not end when nobody prints.
        let options = std::fs::File::options()
            .read(true)
            .write(true)
            .custom_flags(nix::libc::O_NONBLOCK)
            .open(&fifo)
            .expect("it is there");
        let printed = pipe::Receiver::from_file(options).expect("it is a pipe");
        let terminal = Terminal { _plan: plan.clone(), socket, printed, raw: Vec::new() };
        let (columns, lines) = (columns.to_string(), lines.to_string());
        let mut command = terminal.command();
        command.args(["-u", "-f", "/dev/null", "new-session", "-d", "-x", &columns, "-y", &lines]);
        // By `env` and not by tmux, which sets PATH itself.
        command.arg("env");
        for (name, value) in environment(plan) {
            command.arg(format!("{name}={value}"));
        }
        run(command.arg("sh"));
        terminal.ask(&["set-option", "-g", "status", "off"]);
        let copy = format!("exec cat > '{}'", fifo.display());
        terminal.ask(&["pipe-pane", &copy]);
        terminal
    }

    fn command(&self) -> Command {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(&self.socket).env_clear().env("LC_ALL", "C.UTF-8");
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
    }

    fn ask(&self, args: &[&str]) -> String {
        run(self.command().args(args))
    }

    /// Types a text as it is.
    pub fn text(&self, text: &str) {
        self.ask(&["send-keys", "-l", "--", text]);
    }

    /// Presses keys by their names: `Enter`, `C-c`, `M-Enter`.
    pub fn keys(&self, keys: &[&str]) {
        self.ask(&[&["send-keys"], keys].concat());
    }

    /// Types a line.
    pub fn enter(&self, text: &str) {
        self.text(text);
        self.keys(&["Enter"]);
    }

    /// Pastes a text, marked as such where the program asked for it.
    pub fn paste(&self, text: &str) {
        self.ask(&["set-buffer", "--", text]);
        self.ask(&["paste-buffer", "-p"]);
    }

    /// What is on the screen, without what stood above.
    pub fn screen(&self) -> String {
        self.ask(&["capture-pane", "-p"])
    }

    /// The same with the codes of its styles.
    pub fn styled_screen(&self) -> String {
        self.ask(&["capture-pane", "-p", "-e"])
    }

    /// All bytes that were printed so far.
    pub fn raw(&self) -> String {
        String::from_utf8_lossy(&self.raw).into_owned()
    }

    /// Waits until the screen is as it should be, and answers it.
    ///
    /// # Panics
    /// When it never is.
    pub async fn until(&mut self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        loop {
            let screen = self.screen();
            if wanted(&screen) {
                return screen;
            }
            let mut piece = vec![0; PIECE_BYTES];
            let read = tokio::time::timeout(super::deadline(), self.printed.read(&mut piece)).await;
            let Ok(count) = read else { panic!("{what}: the screen stays\n{}", self.screen()) };
            self.raw.extend_from_slice(&piece[..count.expect("the pipe is open")]);
        }
    }

    /// Waits until this is on the screen, and answers the screen.
    ///
    /// # Panics
    /// When it never is.
    pub async fn until_shown(&mut self, text: &str) -> String {
        self.until(text, |screen| screen.contains(text)).await
    }

    /// Waits until so many lines begin as a prompt does, and answers the screen.
    ///
    /// # Panics
    /// When they never do.
    pub async fn until_prompts(&mut self, count: usize) -> String {
        let begun = |screen: &str| screen.lines().filter(|it| it.starts_with('>')).count();
        self.until("the next prompt", |screen| begun(screen) == count).await
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.command().arg("kill-server").output();
    }
}

/// What the shell in the terminal knows: the way to the daemon, and nothing of whoever runs the test.
fn environment(plan: &Plan) -> Vec<(&'static str, String)> {
    let sess = bins::bin("sess");
    let path = std::env::var("PATH").unwrap_or_default();
    let show = |it: &Path| it.display().to_string();
    vec![
        ("PATH", format!("{}:{path}", show(sess.parent().expect("it lies in a folder")))),
        ("HOME", show(plan.folder())),
        ("SESS_SOCKET", show(&plan.socket())),
        ("SESS_DATA_DIR", show(&plan.data_folder())),
        ("SESS_STATE_DIR", show(&plan.state_folder())),
        ("PS1", "$ ".to_owned()),
        ("LC_ALL", "C.UTF-8".to_owned()),
    ]
}

fn run(command: &mut Command) -> String {
    let output = command.output().expect("tmux is installed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A screen as it is kept in a file: ids, ages and processes are other ones each time.
pub fn scrubbed(screen: &str) -> String {
    let mut kept = String::new();
    for line in screen.lines().map(str::trim_end) {
        let line = aged(line).unwrap_or(line);
        let words: Vec<String> = line.split(' ').map(scrubbed_word).collect();
        kept.push_str(&words.join(" "));
        kept.push('\n');
    }
    kept.trim_end().to_owned() + "\n"
}

/// A line without the age at its end.
fn aged(line: &str) -> Option<&str> {
    let line = line.strip_suffix(" now").or_else(|| line.strip_suffix("s ago"))?;
    Some(line.trim_end_matches(|it: char| it.is_ascii_digit()).trim_end())
}

fn scrubbed_word(word: &str) -> String {
    let core = word.trim_matches(|it: char| !it.is_ascii_alphanumeric());
    let hex = core.len() == 8 && core.chars().all(|it| it.is_ascii_hexdigit());
    if hex { word.replace(core, "xxxxxxxx") } else { word.to_owned() }
}
