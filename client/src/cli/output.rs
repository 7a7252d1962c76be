//! What goes to stdout, what to stderr, and what is the way out when something goes wrong?

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use serde_json::value::RawValue;
use sess_client::{CallError, Failure, FollowError, OpenError, visible};
use sess_protocol::error::Kind;

/// Refused or failed.
const EXIT_FAILED: u8 = 1;
/// Wrong usage.
const EXIT_USAGE: u8 = 2;
/// The daemon cannot be reached.
const EXIT_UNREACHABLE: u8 = 3;

/// Why a command ends before its end.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Whoever reads our output has enough.
    PipeClosed,
    /// All is said; the command did not do what was asked.
    Said,
    /// To be said, with the way out.
    Failed { message: String, hint: Option<String>, code: u8 },
}

impl Stop {
    pub(crate) fn failed(message: impl Display) -> Self {
        Self::Failed { message: message.to_string(), hint: None, code: EXIT_FAILED }
    }

    pub(crate) fn usage(message: impl Display) -> Self {
        Self::Failed { message: message.to_string(), hint: None, code: EXIT_USAGE }
    }

    pub(crate) fn hint(mut self, way_out: impl Display) -> Self {
        if let Self::Failed { hint, .. } = &mut self {
            *hint = Some(way_out.to_string());
        }
        self
    }

    /// Says why, and answers what the shell hears.
    pub(crate) fn report(self) -> ExitCode {
        match self {
            Self::PipeClosed => ExitCode::SUCCESS,
            Self::Said => EXIT_FAILED.into(),
            Self::Failed { message, hint, code } => {
                note(&message);
                if let Some(hint) = hint {
                    note_hint(&hint);
                }
                code.into()
            }
        }
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        // The commands call no method that is not in the manual: a daemon without it is older.
        if failure.kind() == Some(Kind::UnknownMethod) {
            return Self::failed(failure).hint(
                "the daemon is older than this `sess`: update `sessd`, then `sess daemon restart`",
            );
        }
        let code = if failure.is_unreachable() { EXIT_UNREACHABLE } else { EXIT_FAILED };
        Self::Failed { message: failure.to_string(), hint: failure.hint(), code }
    }
}

impl From<OpenError> for Stop {
    fn from(err: OpenError) -> Self {
        Failure::from(err).into()
    }
}

impl From<CallError> for Stop {
    fn from(err: CallError) -> Self {
        Failure::from(err).into()
    }
}

impl From<FollowError> for Stop {
    fn from(err: FollowError) -> Self {
        match err {
            FollowError::Failed(failure) => failure.into(),
            FollowError::Torn { .. } => Self::failed(err),
        }
    }
}

impl From<io::Error> for Stop {
    fn from(err: io::Error) -> Self {
        match err.kind() {
            io::ErrorKind::BrokenPipe => Self::PipeClosed,
            _ => Self::failed(format_args!("cannot write: {err}")),
        }
    }
}

/// A line for the person beside the output. Nobody may be reading it, which stops nothing.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr(), "sess: {}", visible::line(text));
}

/// The way out, below a line.
pub(crate) fn note_hint(text: &str) {
    let _ = writeln!(io::stderr(), "  hint: {}", visible::line(text));
}

/// Stdout, and how it may look.
#[derive(Debug)]
pub(crate) struct Output {
    /// Whether results are printed as JSON.
    pub(crate) json: bool,
    styled: bool,
    styled_notes: bool,
    /// Whether stdout and stderr end on one screen or in one file.
    meets_notes: bool,
    line_open: bool,
    thinking: bool,
}

fn same_place() -> bool {
    let place =
        |stat: nix::Result<nix::sys::stat::FileStat>| stat.ok().map(|it| (it.st_dev, it.st_ino));
    let stdout = place(nix::sys::stat::fstat(io::stdout()));
    stdout.is_some() && stdout == place(nix::sys::stat::fstat(io::stderr()))
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        let color = std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty());
        Self {
            json,
            styled: color && io::stdout().is_terminal(),
            styled_notes: color && io::stderr().is_terminal(),
            meets_notes: same_place(),
            line_open: false,
            thinking: false,
        }
    }

    /// Columns of the terminal; none when the output goes elsewhere.
    pub(crate) fn width(&self) -> Option<usize> {
        if !io::stdout().is_terminal() {
            return None;
        }
        let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
        (size.ws_col > 0).then_some(size.ws_col.into())
    }

    /// A method's result, as it came, on one line.
    pub(crate) fn result(&mut self, raw: &RawValue) -> Result<(), Stop> {
        self.json_line(raw.get())
    }

    /// JSON on one line.
    pub(crate) fn json_line(&mut self, json: &str) -> Result<(), Stop> {
        writeln!(io::stdout(), "{}", visible::json(json))?;
        self.flush()
    }

    /// A piece of text that others wrote, at once.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), Stop> {
        if text.is_empty() {
            return Ok(());
        }
        self.end_thinking();
        let mut stdout = io::stdout().lock();
        stdout.write_all(visible::text(text).as_bytes())?;
        stdout.flush()?;
        self.line_open = !text.ends_with('\n');
        Ok(())
    }

    /// A whole line; the text is made visible.
    pub(crate) fn line(&mut self, text: &str) -> Result<(), Stop> {
        self.end_line()?;
        writeln!(io::stdout(), "{}", visible::line(text))?;
        Ok(())
    }

    /// A line that stands out on a terminal.
    pub(crate) fn heading(&mut self, text: &str) -> Result<(), Stop> {
        self.end_line()?;
        let text = visible::line(text);
        if self.styled {
            writeln!(io::stdout(), "\x1b[1m{text}\x1b[0m")?;
        } else {
            writeln!(io::stdout(), "{text}")?;
        }
        Ok(())
    }

    /// Ends the line that is open, if one is.
    pub(crate) fn end_line(&mut self) -> Result<(), Stop> {
        self.end_thinking();
        if std::mem::take(&mut self.line_open) {
            writeln!(io::stdout())?;
        }
        self.flush()
    }

    pub(crate) fn flush(&mut self) -> Result<(), Stop> {
        Ok(io::stdout().flush()?)
    }

    /// A line beside the output, on a line of its own where both meet on one terminal.
    pub(crate) fn note(&mut self, text: &str) -> Result<(), Stop> {
        self.end_thinking();
        self.part_from_stderr()?;
        note(text);
        Ok(())
    }

    /// What the model thinks: beside the output, dim on a terminal.
    pub(crate) fn reasoning(&mut self, text: &str) -> Result<(), Stop> {
        self.part_from_stderr()?;
        let text = visible::text(text);
        let mut stderr = io::stderr().lock();
        let _ = if self.styled_notes {
            write!(stderr, "\x1b[2m{text}\x1b[0m")
        } else {
            stderr.write_all(text.as_bytes())
        };
        self.thinking = true;
        Ok(())
    }

    fn part_from_stderr(&mut self) -> Result<(), Stop> {
        if self.meets_notes && self.line_open {
            self.line_open = false;
            writeln!(io::stdout())?;
            self.flush()?;
        }
        Ok(())
    }

    fn end_thinking(&mut self) {
        if std::mem::take(&mut self.thinking) {
            let _ = writeln!(io::stderr());
        }
    }
}
