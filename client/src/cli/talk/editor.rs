//! The line that a person types: how is it edited while all else goes on?
//!
//! The editor blocks, so it has a thread of its own, which reads only when it is asked for a line. What
//! is printed meanwhile goes above the line that is open.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rustyline::config::Configurer as _;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{
    Cmd, ConditionalEventHandler, Editor, Event, EventContext, EventHandler, ExternalPrinter,
    KeyCode, KeyEvent, Modifiers, RepeatCount,
};
use tokio::sync::mpsc;

use super::complete::{Helper, Words};
use crate::cli::output::Stop;

/// Lines that are kept for the next time.
const HISTORY_LINES_MAX: usize = 1_000;
/// Signs of a line that is kept for the next time.
const HISTORY_LINE_BYTES_MAX: usize = 64 * 1024;

/// Lines of one text that end with a backslash.
const CONTINUED_MAX: usize = 1_000;

/// How the editing of a line ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Typed {
    /// With this text.
    Text(String),
    /// The text so far shall be edited elsewhere.
    Elsewhere(String),
    /// By ctrl-c; on an empty line or on one that is thrown away.
    Interrupt { empty: bool },
    /// By ctrl-d on an empty line, or because the terminal is gone.
    End,
}

/// A line to be edited.
struct Ask {
    prompt: &'static str,
    begun: String,
}

/// What the keys of this program leave behind for the thread.
#[derive(Debug, Default)]
struct Pressed {
    elsewhere: bool,
    /// Ctrl-c, and whether the line was empty.
    interrupt: Option<bool>,
    /// Where enter was pressed behind a backslash: so many bytes stood before it.
    goes_on: Vec<usize>,
}

/// The other end of the editor's thread.
pub(super) struct Prompt {
    asks: mpsc::Sender<Ask>,
    typed: mpsc::Receiver<Typed>,
    printer: Option<Box<dyn ExternalPrinter + Send>>,
    /// Whether a line is open.
    pub(super) open: bool,
}

impl Prompt {
    /// Starts the thread; `history` is the file of earlier lines.
    pub(super) fn start(history: Option<PathBuf>, words: Arc<Mutex<Words>>) -> Result<Self, Stop> {
        let cannot = |err| Stop::failed(format_args!("cannot edit lines here: {err}"));
        let pressed = Arc::<Mutex<Pressed>>::default();
        let mut editor = editor(words, &pressed).map_err(cannot)?;
        if let Some(history) = &history {
            // None yet, or not readable: then there are no earlier lines.
            let _ = editor.load_history(history);
        }
        // A dumb terminal has no place above.
        let printer = editor.create_external_printer().ok();
        let printer = printer.map(|it| Box::new(it) as Box<dyn ExternalPrinter + Send>);
        let (asks, mut asked) = mpsc::channel::<Ask>(1);
        let (tell, typed) = mpsc::channel(1);
        std::thread::spawn(move || {
            while let Some(ask) = asked.blocking_recv() {
                let line = editor.readline_with_initial(ask.prompt, (&ask.begun, ""));
                let typed = ended(line, &pressed);
                keep(&mut editor, &typed, history.as_ref());
                if tell.blocking_send(typed).is_err() {
                    return;
                }
            }
        });
        Ok(Self { asks, typed, printer, open: false })
    }

    /// Opens a line that begins with a text.
    pub(super) async fn ask(&mut self, prompt: &'static str, begun: String) {
        // The thread is gone only when the program is about to be, too.
        self.open = self.asks.send(Ask { prompt, begun }).await.is_ok();
    }

    /// Waits for the end of the line. Can be dropped at any moment without loss.
    pub(super) async fn typed(&mut self) -> Typed {
        let typed = self.typed.recv().await.unwrap_or(Typed::End);
        self.open = false;
        typed
    }

    /// What prints above the open line; none where the terminal cannot.
    pub(super) fn printer(&mut self) -> Option<Box<dyn ExternalPrinter + Send>> {
        self.printer.take()
    }
}

fn editor(
    words: Arc<Mutex<Words>>,
    pressed: &Arc<Mutex<Pressed>>,
) -> rustyline::Result<Editor<Helper, FileHistory>> {
    let mut editor = Editor::<Helper, FileHistory>::new()?;
    editor.set_helper(Some(Helper { words }));
    editor.set_max_history_size(HISTORY_LINES_MAX)?;
    editor.set_completion_type(rustyline::CompletionType::List);
    let handler = |it: Box<dyn ConditionalEventHandler>| EventHandler::Conditional(it);
    editor.bind_sequence(KeyEvent::ctrl('c'), handler(Box::new(OnInterrupt(Arc::clone(pressed)))));
    editor.bind_sequence(
        KeyEvent(KeyCode::Enter, Modifiers::NONE),
        handler(Box::new(OnEnter(Arc::clone(pressed)))),
    );
    editor.bind_sequence(KeyEvent(KeyCode::Enter, Modifiers::ALT), Cmd::Newline);
    editor.bind_sequence(
        Event::KeySeq(vec![KeyEvent::ctrl('x'), KeyEvent::ctrl('e')]),
        handler(Box::new(OnElsewhere(Arc::clone(pressed)))),
    );
    Ok(editor)
}

fn ended(line: rustyline::Result<String>, pressed: &Mutex<Pressed>) -> Typed {
    let pressed = std::mem::take(&mut *pressed.lock().unwrap_or_else(PoisonError::into_inner));
    if let (Ok(_), Some(empty)) = (&line, pressed.interrupt) {
        return Typed::Interrupt { empty };
    }
    match line {
        Ok(text) if pressed.elsewhere => Typed::Elsewhere(joined(text, pressed.goes_on)),
        Ok(text) => Typed::Text(joined(text, pressed.goes_on)),
        // By a terminal without keys of its own.
        Err(ReadlineError::Interrupted) => Typed::Interrupt { empty: true },
        Err(_) => Typed::End,
    }
}

/// A text without the backslashes that only said that it goes on. Those that were pasted stay.
fn joined(mut text: String, mut goes_on: Vec<usize>) -> String {
    goes_on.sort_unstable();
    goes_on.dedup();
    for end in goes_on.into_iter().rev() {
        // What was changed later may not stand there any more.
        let begin = end.saturating_sub(1);
        if text.get(begin..=end) == Some("\\\n") {
            text.remove(begin);
        }
    }
    text
}

/// Keeps a line for the next time, also when the program is killed.
fn keep(editor: &mut Editor<Helper, FileHistory>, typed: &Typed, history: Option<&PathBuf>) {
    let Typed::Text(text) = typed else { return };
    let fits = !text.trim().is_empty() && text.len() <= HISTORY_LINE_BYTES_MAX;
    // A history that cannot be written costs nobody the conversation.
    if fits && editor.add_history_entry(text.as_str()).unwrap_or(false) {
        let _ = history.map(|it| editor.append_history(it));
    }
}

/// Ctrl-c: tells an empty line from one that is thrown away. The line is accepted and not interrupted,
/// for with an interrupted one rustyline throws away what was typed behind it.
struct OnInterrupt(Arc<Mutex<Pressed>>);

impl ConditionalEventHandler for OnInterrupt {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, line: &EventContext) -> Option<Cmd> {
        let mut pressed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pressed.interrupt = Some(line.line().is_empty());
        Some(Cmd::AcceptLine)
    }
}

/// Enter behind a backslash goes on in the next line.
struct OnEnter(Arc<Mutex<Pressed>>);

impl ConditionalEventHandler for OnEnter {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, line: &EventContext) -> Option<Cmd> {
        let goes_on = line.pos() == line.line().len() && line.line().ends_with('\\');
        let mut pressed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (goes_on && pressed.goes_on.len() < CONTINUED_MAX).then(|| {
            pressed.goes_on.push(line.pos());
            Cmd::Newline
        })
    }
}

/// Ctrl-x ctrl-e: on with `$EDITOR`.
struct OnElsewhere(Arc<Mutex<Pressed>>);

impl ConditionalEventHandler for OnElsewhere {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, _: &EventContext) -> Option<Cmd> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).elsewhere = true;
        Some(Cmd::AcceptLine)
    }
}

#[cfg(test)]
mod tests {
    use super::joined;

    #[test]
    fn only_the_backslash_that_enter_was_pressed_behind_goes() {
        assert_eq!(joined("a\\\nb\\\nc\\\nd".to_owned(), vec![5, 2]), "a\nb\nc\\\nd");
        assert_eq!(joined("changed".to_owned(), vec![2, 40, 0]), "changed");
        assert_eq!(joined("日\\\n".to_owned(), vec![4, 2]), "日\n");
    }
}
