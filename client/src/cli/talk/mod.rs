//! A conversation in a terminal: lines in, answers out, whatever happens to the daemon meanwhile.

mod commands;
mod complete;
mod editor;
mod keys;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sess_client::follow::From;
use sess_client::{Caller, Dial, Told, socket};
use sess_protocol::methods::{
    ChatSendParams, IfBusy, ListParams, ModelList, SessionGet, SessionList, SessionListParams,
    SessionParams,
};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::attach::Screen;
use super::chat::{self, ChatArguments};
use super::output::{Output, Stop, may_style};
use super::transcript::short;
use super::{attachments, sessions};
use complete::Words;
use editor::{Prompt, Typed};
use keys::{Terminal, Watch};

/// The prompt, and the one while a task runs.
const PROMPT: &str = "> ";
const PROMPT_BUSY: &str = "queue> ";
/// How long the words for completion may take: it is a help and holds up nobody.
const WORDS_DEADLINE: Duration = Duration::from_millis(200);
/// Models and sessions that are offered as words.
const WORDS_MAX: u32 = 100;
/// Messages that are shown of a session that is gone on with.
const SHOWN: u32 = 10;

/// What comes behind a line.
enum Next {
    /// The next one.
    Go,
    /// The next one, written in `$EDITOR`, that begins with a text.
    Edit(String),
    /// Nothing.
    Leave,
}

/// What happened first.
enum Happened {
    Typed(Typed),
    Told(Told),
    Interrupt,
    Key,
}

struct Talk {
    caller: Caller,
    screen: Option<Screen>,
    /// The model that was named here.
    model: Option<String>,
    /// The agent that was named here.
    agent: Option<String>,
    /// Files for the next text.
    files: Vec<PathBuf>,
    words: Arc<Mutex<Words>>,
    /// What was last said of who else follows.
    others: String,
    /// Whether ctrl-c was the last that was pressed, on an empty line.
    leaving: bool,
}

pub(crate) async fn run(output: &mut Output, arguments: ChatArguments) -> Result<(), Stop> {
    let terminal = Terminal::take(may_style())
        .map_err(|err| Stop::failed(format_args!("cannot use this terminal: {err}")))?;
    let mut interrupts = signal(SignalKind::interrupt())?;
    let words = Arc::<Mutex<Words>>::default();
    let mut prompt = Prompt::start(history(), Arc::clone(&words))?;
    let mut talk = Talk {
        caller: Caller::new(super::dial_here()?),
        screen: None,
        model: arguments.model,
        agent: arguments.agent,
        files: arguments.attach,
        words,
        others: String::new(),
        leaving: false,
    };
    let session = match arguments.session {
        None if arguments.r#continue => Some(chat::active(&mut talk.caller).await?),
        session => session,
    };
    if let Some(session) = session {
        talk.follow(output, &session).await?;
    }
    output.note("what shall be said? /help lists the commands, ctrl-d leaves")?;
    let done = talk.go(output, &mut prompt, &terminal, &mut interrupts).await;
    output.go_direct()?;
    output.end_line()?;
    drop(terminal);
    done?;
    if let Some(session) = talk.session() {
        let busy = talk.screen.as_ref().is_some_and(Screen::is_busy);
        let goes_on = if busy { "its task goes on; " } else { "" };
        let id = short(&session);
        output.note(&format!("{goes_on}`sess chat -s {id}` comes back to it"))?;
    }
    Ok(())
}

/// The file of earlier lines, for its owner alone.
fn history() -> Option<PathBuf> {
    use std::os::unix::fs::DirBuilderExt as _;
    let folder = socket::state_folder_from(|name| std::env::var_os(name))?;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).ok()?;
    Some(folder.join("history"))
}

impl Talk {
    async fn go(
        &mut self,
        output: &mut Output,
        prompt: &mut Prompt,
        terminal: &Terminal,
        interrupts: &mut Signal,
    ) -> Result<(), Stop> {
        let printer = prompt.printer().map(|it| Arc::new(Mutex::new(it)));
        let mut watch: Option<Watch> = None;
        let mut begun = None;
        terminal.quiet()?;
        loop {
            let busy = self.screen.as_ref().is_some_and(Screen::is_busy);
            if !prompt.open && (!busy || begun.is_some()) {
                drop(watch.take());
                if !busy {
                    output.end_line()?;
                    self.look_around(output).await?;
                }
                if printer.is_none() {
                    // A dumb terminal edits its lines itself.
                    terminal.restore()?;
                }
                output.go_above(printer.clone())?;
                let text = begun.take().unwrap_or_default();
                prompt.ask(if busy { PROMPT_BUSY } else { PROMPT }, text).await;
            } else if !prompt.open && watch.is_none() {
                watch = Some(terminal.watch()?);
            }
            match self.happened(prompt, watch.as_ref(), interrupts).await? {
                Happened::Key => begun = Some(String::new()),
                Happened::Interrupt if busy => self.try_cancel(output).await?,
                Happened::Interrupt => {
                    if self.leaves(output)? {
                        return Ok(());
                    }
                }
                Happened::Told(told) => self.draw(output, told).await?,
                Happened::Typed(typed) => {
                    terminal.quiet()?;
                    output.go_direct()?;
                    let next = tokio::select! {
                        next = self.take(output, typed) => next,
                        // A daemon that is away is waited for, but not against one's will.
                        _ = interrupts.recv() => Err(Stop::failed("not waited for any longer")
                            .hint("whether it arrived is not known: /show or /ls tells")),
                    };
                    match or_said(output, next)?.unwrap_or(Next::Go) {
                        Next::Go => {}
                        Next::Edit(text) => {
                            terminal.restore()?;
                            begun = Some(elsewhere(output, &text)?);
                            terminal.quiet()?;
                        }
                        Next::Leave => return Ok(()),
                    }
                }
            }
        }
    }

    async fn happened(
        &mut self,
        prompt: &mut Prompt,
        watch: Option<&Watch>,
        interrupts: &mut Signal,
    ) -> Result<Happened, Stop> {
        let open = prompt.open;
        let told = async {
            match &mut self.screen {
                Some(screen) => screen.next().await,
                None => std::future::pending().await,
            }
        };
        let key = async {
            match watch {
                Some(watch) => watch.key().await,
                None => std::future::pending().await,
            }
        };
        Ok(tokio::select! {
            typed = prompt.typed(), if open => Happened::Typed(typed),
            told = told => Happened::Told(told?),
            _ = interrupts.recv() => Happened::Interrupt,
            key = key, if !open => {
                key?;
                Happened::Key
            }
        })
    }

    async fn draw(&mut self, output: &mut Output, told: Told) -> Result<(), Stop> {
        let ended = told == Told::Ended;
        if let Some(screen) = &mut self.screen {
            screen.draw(output, told).await?;
        }
        if ended {
            self.screen = None;
            output.hint("what is said next begins a new one")?;
        }
        Ok(())
    }

    /// What a line was meant for.
    async fn take(&mut self, output: &mut Output, typed: Typed) -> Result<Next, Stop> {
        let text = match typed {
            Typed::End => return Ok(Next::Leave),
            Typed::Elsewhere(text) => return Ok(Next::Edit(text)),
            Typed::Interrupt { .. } if self.screen.as_ref().is_some_and(Screen::is_busy) => {
                self.try_cancel(output).await?;
                return Ok(Next::Go);
            }
            Typed::Interrupt { empty: false } => return Ok(Next::Go),
            Typed::Interrupt { empty: true } => {
                return Ok(if self.leaves(output)? { Next::Leave } else { Next::Go });
            }
            Typed::Text(text) => text,
        };
        self.leaving = false;
        if text.trim().is_empty() {
            return Ok(Next::Go);
        }
        if let Some((name, rest)) = commands::verb(&text) {
            return self.command(output, name, rest).await;
        }
        let text = text.strip_prefix('/').filter(|it| it.starts_with('/')).unwrap_or(&text);
        self.send(output, text.to_owned(), None).await?;
        Ok(Next::Go)
    }

    /// Ctrl-c where nothing runs: the second one leaves.
    fn leaves(&mut self, output: &mut Output) -> Result<bool, Stop> {
        if std::mem::replace(&mut self.leaving, true) {
            return Ok(true);
        }
        output.note("nothing runs; ctrl-c again or ctrl-d leaves")?;
        Ok(false)
    }

    async fn try_cancel(&mut self, output: &mut Output) -> Result<(), Stop> {
        let cancelled = self.cancel(output).await;
        or_said(output, cancelled).map(|_| ())
    }

    /// Says something; the session is made by the first thing said.
    async fn send(
        &mut self,
        output: &mut Output,
        text: String,
        if_busy: Option<IfBusy>,
    ) -> Result<(), Stop> {
        let mut files = self.files.clone();
        files.extend(attachments::named_in(&text));
        let content = attachments::content(output, &mut self.caller, text, &files).await?;
        let session = match (self.session(), &self.model) {
            (Some(session), _) => Some(session),
            (None, Some(_)) => {
                Some(chat::create(&mut self.caller, &self.model, &self.agent).await?)
            }
            (None, None) => None,
        };
        let params = ChatSendParams {
            session,
            content,
            thread: None,
            model: None,
            agent: self.agent.clone(),
            if_busy,
            budget: None,
            schema: None,
        };
        let sent = self.caller.call::<sess_protocol::methods::ChatSend>(&params).await?;
        self.files.clear();
        let session = sent.session.to_string();
        if self.screen.is_none() {
            let mut screen = Screen::new(self.watching(), &session, From::Start);
            // Its beginning, of which nothing is shown.
            screen.next().await?;
            self.screen = Some(screen);
            let params = SessionParams { session: session.clone() };
            let model = self.caller.call::<SessionGet>(&params).await?.model;
            output.note(&format!("session {} · {model}", short(&session)))?;
        }
        if let Some(screen) = &mut self.screen {
            screen.said_here(&sent.message.to_string(), &sent.task.to_string());
        }
        if sent.position > 0 {
            output.note(&format!("queued at place {}; /queue lists what waits", sent.position))?;
        }
        Ok(())
    }

    /// How the session is followed: a daemon that was stopped is started by what is said next, not by
    /// who only watches.
    fn watching(&self) -> Dial {
        Dial { start: false, ..self.caller.dial().clone() }
    }

    /// The session's id, where there is one.
    fn session(&self) -> Option<String> {
        self.screen.as_ref().map(|it| it.session().to_owned())
    }

    fn here(&self) -> Result<String, Stop> {
        self.session().ok_or_else(|| {
            Stop::failed("there is no session yet").hint("say something, or /resume one")
        })
    }

    /// The next text begins another session.
    fn leave_session(&mut self, output: &mut Output) -> Result<(), Stop> {
        self.screen = None;
        self.others.clear();
        output.note("the next text begins a new session")
    }

    async fn resume(&mut self, output: &mut Output, session: Option<String>) -> Result<(), Stop> {
        let view = sessions::call_resume_here(&mut self.caller, session).await?;
        self.follow(output, &view).await
    }

    /// Shows a session and goes on in it.
    async fn follow(&mut self, output: &mut Output, session: &str) -> Result<(), Stop> {
        let params = SessionParams { session: session.to_owned() };
        let session = self.caller.call::<SessionGet>(&params).await?;
        let from = From::Now { messages: SHOWN };
        let mut screen = Screen::new(self.watching(), &session.id.to_string(), from);
        let told = screen.next().await?;
        screen.draw(output, told).await?;
        self.screen = Some(screen);
        self.others.clear();
        Ok(())
    }

    /// Before a line is opened: who else is there, and which words there are. Both are help, neither
    /// holds up the line.
    async fn look_around(&mut self, output: &mut Output) -> Result<(), Stop> {
        let looked = tokio::time::timeout(WORDS_DEADLINE, self.look()).await;
        let Ok(Some(others)) = looked else { return Ok(()) };
        if others != self.others {
            let who = if others.is_empty() { " · nobody else follows it" } else { &others };
            let id = self.session().unwrap_or_default();
            output.note(&format!("session {}{who}", short(&id)))?;
            self.others = others;
        }
        Ok(())
    }

    async fn look(&mut self) -> Option<String> {
        let params = ListParams { limit: Some(WORDS_MAX), ..Default::default() };
        let models = self.caller.call::<ModelList>(&params).await.ok()?.models;
        let params = SessionListParams { limit: Some(WORDS_MAX), ..Default::default() };
        let sessions = self.caller.call::<SessionList>(&params).await.ok()?.sessions;
        let named = |it: sess_protocol::things::Session| (short(&it.id.to_string()), it.title);
        *self.words.lock().unwrap_or_else(PoisonError::into_inner) = Words {
            models: models.into_iter().map(|it| it.id).collect(),
            sessions: sessions.into_iter().map(named).collect(),
        };
        let session = self.session()?;
        chat::others(&mut self.caller, &session).await.ok()
    }
}

/// What went wrong with a line is said, and the conversation goes on.
fn or_said<T>(output: &mut Output, done: Result<T, Stop>) -> Result<Option<T>, Stop> {
    match done {
        Ok(done) => Ok(Some(done)),
        Err(Stop::Failed { message, hint, .. }) => {
            output.note(&message)?;
            hint.map_or(Ok(()), |it| output.hint(&it))?;
            Ok(None)
        }
        Err(Stop::Said) => Ok(None),
        Err(stop @ Stop::PipeClosed) => Err(stop),
    }
}

/// Has a text written in `$VISUAL` or `$EDITOR`, and answers it.
fn elsewhere(output: &mut Output, text: &str) -> Result<String, Stop> {
    let set = |name: &str| std::env::var(name).ok().filter(|it| !it.trim().is_empty());
    let editor = set("VISUAL").or_else(|| set("EDITOR")).unwrap_or_else(|| "vi".to_owned());
    let edited = edit(&editor, text);
    match edited {
        Ok(edited) => Ok(edited.trim_end().to_owned()),
        Err(err) => {
            output.note(&format!("cannot edit with `{editor}`: {err}"))?;
            output.hint("set EDITOR to an editor that is installed")?;
            Ok(text.to_owned())
        }
    }
}

fn edit(editor: &str, text: &str) -> std::io::Result<String> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let name = format!("sess-{}.md", uuid::Uuid::new_v4().simple());
    let path = std::env::temp_dir().join(name);
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(&path)?;
    file.write_all(text.as_bytes())?;
    drop(file);
    // As a shell would: the variable may hold arguments.
    let command = format!("{editor} \"$1\"");
    let ended = std::process::Command::new("sh").args(["-c", &command, "sh"]).arg(&path).status();
    let edited = std::fs::read_to_string(&path);
    let _ = std::fs::remove_file(&path);
    let ended = ended?;
    if !ended.success() {
        return Err(std::io::Error::other(format!("it ended with {ended}")));
    }
    edited
}
