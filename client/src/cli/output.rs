//! What goes to stdout, what to stderr, and how may it look there?

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};

use rustyline::ExternalPrinter;
use serde_json::value::RawValue;
use sess_client::markdown::Markdown;
use sess_client::visible;

pub(crate) use super::stop::Stop;

/// A line for the person beside the output. Nobody may be reading it, which stops nothing.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr(), "sess: {}", visible::line(text));
}

/// The way out, below a line.
pub(crate) fn note_hint(text: &str) {
    let _ = writeln!(io::stderr(), "  hint: {}", visible::line(text));
}

/// Prints whole lines above a prompt that is open.
type Printer = Arc<Mutex<Box<dyn ExternalPrinter + Send>>>;

/// Bytes that wait for the end of a prompt above which nothing can be printed.
const HELD_BYTES_MAX: usize = 1024 * 1024;

/// Where things are shown while a prompt is open.
enum Above {
    /// Above it, line by line.
    Printer(Printer),
    /// Nowhere before it is gone: the terminal has no place above.
    Later,
}

/// Stdout and stderr, and how they may look.
pub(crate) struct Output {
    /// Whether results are printed as JSON.
    pub(crate) json: bool,
    /// Whether stdout is a terminal that shows styles.
    styled: bool,
    styled_notes: bool,
    /// Whether stdout and stderr end on one screen or in one file.
    meets_notes: bool,
    line_open: bool,
    thinking: bool,
    /// The answer that is being printed.
    markdown: Option<Markdown>,
    above: Option<Above>,
    /// The line that is not whole yet, while a prompt is open.
    open_line: String,
}

fn same_place() -> bool {
    let place =
        |stat: nix::Result<nix::sys::stat::FileStat>| stat.ok().map(|it| (it.st_dev, it.st_ino));
    let stdout = place(nix::sys::stat::fstat(io::stdout()));
    stdout.is_some() && stdout == place(nix::sys::stat::fstat(io::stderr()))
}

/// Whether the environment allows styles: `NO_COLOR` and a terminal that knows no codes forbid them.
pub(crate) fn may_style() -> bool {
    let set = |name: &str| std::env::var_os(name).filter(|it| !it.is_empty());
    set("NO_COLOR").is_none() && set("TERM").is_none_or(|it| it != "dumb")
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        let styles = may_style();
        Self {
            json,
            styled: styles && io::stdout().is_terminal(),
            styled_notes: styles && io::stderr().is_terminal(),
            meets_notes: same_place(),
            line_open: false,
            thinking: false,
            markdown: None,
            above: None,
            open_line: String::new(),
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

    /// From now on a prompt is open: all is shown above it, line by line.
    pub(crate) fn go_above(&mut self, printer: Option<Printer>) -> Result<(), Stop> {
        // The prompt stands on a line of its own.
        if std::mem::take(&mut self.line_open) || self.thinking {
            self.write("\n")?;
        }
        self.above = Some(printer.map_or(Above::Later, Above::Printer));
        Ok(())
    }

    /// The prompt is gone: what was not a whole line yet stands where it was.
    pub(crate) fn go_direct(&mut self) -> Result<(), Stop> {
        if self.above.take().is_some() {
            let open = std::mem::take(&mut self.open_line);
            self.write(&open)?;
        }
        Ok(())
    }

    /// All that goes to stdout, made visible and styled already.
    fn write(&mut self, text: &str) -> Result<(), Stop> {
        let Some(above) = &self.above else {
            let mut stdout = io::stdout().lock();
            stdout.write_all(text.as_bytes())?;
            return Ok(stdout.flush()?);
        };
        self.open_line.push_str(text);
        let ready = match above {
            Above::Printer(_) => self.open_line.rfind('\n').map(|it| it + 1),
            Above::Later => (self.open_line.len() > HELD_BYTES_MAX).then_some(self.open_line.len()),
        };
        let Some(ready) = ready else { return Ok(()) };
        let rest = self.open_line.split_off(ready);
        let lines = std::mem::replace(&mut self.open_line, rest);
        match above {
            Above::Printer(printer) => {
                let mut printer = printer.lock().unwrap_or_else(PoisonError::into_inner);
                printer.print(lines).map_err(|_| Stop::PipeClosed)
            }
            Above::Later => Ok(io::stdout().write_all(lines.as_bytes())?),
        }
    }

    /// All that goes to stderr; above a prompt both are one screen.
    fn write_beside(&mut self, text: &str) -> Result<(), Stop> {
        if self.above.is_some() {
            return self.write(text);
        }
        let _ = io::stderr().lock().write_all(text.as_bytes());
        Ok(())
    }

    /// A method's result, as it came, on one line.
    pub(crate) fn result(&mut self, raw: &RawValue) -> Result<(), Stop> {
        self.json_line(raw.get())
    }

    /// JSON on one line.
    pub(crate) fn json_line(&mut self, json: &str) -> Result<(), Stop> {
        self.write(&format!("{}\n", visible::json(json)))
    }

    /// A piece of text that others wrote, at once.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), Stop> {
        if text.is_empty() {
            return Ok(());
        }
        self.end_thinking()?;
        self.line_open = !text.ends_with('\n');
        self.write(&visible::text(text))
    }

    /// A piece of a model's answer: on a terminal its markdown is shown with its look.
    pub(crate) fn answer(&mut self, text: &str) -> Result<(), Stop> {
        if !self.styled {
            return self.text(text);
        }
        if text.is_empty() {
            return Ok(());
        }
        self.end_thinking()?;
        let shown = self.markdown.get_or_insert_default().piece(text);
        self.line_open = !text.ends_with('\n');
        self.write(&shown)
    }

    /// A whole line; the text is made visible.
    pub(crate) fn line(&mut self, text: &str) -> Result<(), Stop> {
        self.end_line()?;
        self.write(&format!("{}\n", visible::line(text)))
    }

    /// A line that stands out on a terminal.
    pub(crate) fn heading(&mut self, text: &str) -> Result<(), Stop> {
        self.end_line()?;
        let text = visible::line(text);
        if self.styled {
            self.write(&format!("\x1b[1m{text}\x1b[0m\n"))
        } else {
            self.write(&format!("{text}\n"))
        }
    }

    /// Ends the line that is open, if one is, and the answer that was printed.
    pub(crate) fn end_line(&mut self) -> Result<(), Stop> {
        self.end_thinking()?;
        if let Some(mut markdown) = self.markdown.take() {
            self.write(&markdown.finish())?;
        }
        if std::mem::take(&mut self.line_open) {
            self.write("\n")?;
        }
        self.flush()
    }

    pub(crate) fn flush(&mut self) -> Result<(), Stop> {
        Ok(io::stdout().flush()?)
    }

    /// A line beside the output, on a line of its own where both meet on one terminal.
    pub(crate) fn note(&mut self, text: &str) -> Result<(), Stop> {
        self.end_thinking()?;
        self.part_from_stderr()?;
        self.write_beside(&format!("sess: {}\n", visible::line(text)))
    }

    /// The way out, below a note.
    pub(crate) fn hint(&mut self, text: &str) -> Result<(), Stop> {
        self.write_beside(&format!("  hint: {}\n", visible::line(text)))
    }

    /// What the model thinks: beside the output, dim on a terminal.
    pub(crate) fn reasoning(&mut self, text: &str) -> Result<(), Stop> {
        self.part_from_stderr()?;
        let text = visible::text(text);
        if self.styled_notes {
            self.write_beside(&format!("\x1b[2m{text}\x1b[0m"))?;
        } else {
            self.write_beside(&text)?;
        }
        self.thinking = true;
        Ok(())
    }

    fn part_from_stderr(&mut self) -> Result<(), Stop> {
        if self.line_open && (self.meets_notes || self.above.is_some()) {
            self.line_open = false;
            self.write("\n")?;
        }
        Ok(())
    }

    fn end_thinking(&mut self) -> Result<(), Stop> {
        if std::mem::take(&mut self.thinking) {
            self.write_beside("\n")?;
        }
        Ok(())
    }
}
