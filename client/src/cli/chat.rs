//! One thing said and its answer streamed, whatever happens to the daemon meanwhile.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::{Map, Value};
use sess_client::caller::PATIENCE;
use sess_client::follow::From;
use sess_client::{Caller, Follower, Told};
use sess_protocol::error::Kind;
use sess_protocol::event::ToldEvent;
use sess_protocol::methods::{
    ChatSend, ChatSendParams, ChatSendResult, IfBusy, SessionActive, SessionCreate,
    SessionCreateParams, SessionGet, SessionParams, TaskCancel, TaskGet, TaskParams,
    WorkspaceParams,
};
use sess_protocol::things::{Task, TaskStatus};
use sess_protocol::view::{Members, merge};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::answer::Answer;
use super::attachments;
use super::output::{Output, Stop, note_hint};
use super::transcript::{short, show, texts, word};
use super::{dial_here, rpc, talk};

/// What happens to a request when a task runs already.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Busy {
    /// It waits for its turn.
    Queue,
    /// It is refused.
    Reject,
    /// It goes into the running task.
    Steer,
    /// The running task is cancelled, then it runs.
    Interrupt,
    /// The running task is cancelled and its request taken back, then it runs.
    Rollback,
}

impl Busy {
    fn word(self) -> IfBusy {
        match self {
            Self::Queue => IfBusy::Queue,
            Self::Reject => IfBusy::Reject,
            Self::Steer => IfBusy::Steer,
            Self::Interrupt => IfBusy::Interrupt,
            Self::Rollback => IfBusy::Rollback,
        }
    }
}

/// What is said, and where.
#[derive(Debug, Args)]
pub(crate) struct ChatArguments {
    /// What to say, in which @FILE attaches a file; - reads stdin. Without it: on a terminal a
    /// conversation, else stdin.
    pub(crate) text: Option<String>,
    /// In this session, not a new one: its id, or at least 4 digits of it.
    #[arg(short, long, conflicts_with = "continue")]
    pub(crate) session: Option<String>,
    /// In the active session, not a new one.
    #[arg(short, long)]
    pub(crate) r#continue: bool,
    /// Ask this model, as provider/name.
    #[arg(short, long)]
    pub(crate) model: Option<String>,
    /// Have this agent answer; `sess agents` lists them.
    #[arg(long)]
    pub(crate) agent: Option<String>,
    /// Attach a file or a picture; may be given several times.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) attach: Vec<PathBuf>,
    /// When a task runs already.
    #[arg(long, value_enum)]
    if_busy: Option<Busy>,
}

/// The model that is there when no other is.
const ECHO: &str = "echo/";

pub(crate) async fn run(output: &mut Output, arguments: ChatArguments) -> Result<(), Stop> {
    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    if arguments.text.is_none() && terminal && !output.json {
        return talk::run(output, arguments).await;
    }
    let (text, mut files) = (read_text(&arguments.text)?, arguments.attach);
    // Only what a person typed here names files: what comes through a pipe may be anybody's.
    if arguments.text.as_deref().is_some_and(|it| it != "-") {
        files.extend(attachments::named_in(&text));
    }
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut caller = Caller::new(dial_here()?);
    let content = attachments::content(output, &mut caller, text, &files).await?;
    let session = match arguments.session {
        Some(session) => Some(session),
        None if arguments.r#continue => Some(active(&mut caller).await?),
        // A model named for a new session is that of the session, not of this request alone.
        None if arguments.model.is_some() => {
            Some(create(&mut caller, &arguments.model, &arguments.agent).await?)
        }
        None => None,
    };
    let mut follower = None;
    if let (Some(session), false) = (&session, output.json) {
        follower = Some(follow(&caller, session, From::Now { messages: 0 }).await?);
    }
    let params = ChatSendParams {
        session,
        content,
        thread: None,
        model: arguments.model,
        agent: arguments.agent,
        if_busy: arguments.if_busy.map(Busy::word),
        budget: None,
        schema: None,
    };
    let (sent, cancel) = send(&mut caller, &params, &mut interrupts).await?;
    let follower = match follower {
        Some(follower) => follower,
        None if output.json => return wait(output, caller, &sent, interrupts, cancel).await,
        // The session was made by the request itself: its first event is where it begins.
        None => follow(&caller, &sent.session.to_string(), From::Start).await?,
    };
    let chat = Chat {
        task: sent.task.to_string(),
        sent,
        caller,
        follower,
        interrupts,
        answer: Answer::default(),
        known: Members::new(),
        introduced: false,
    };
    chat.stream(output, cancel).await
}

fn read_text(text: &Option<String>) -> Result<String, Stop> {
    let text = match text {
        Some(text) if text != "-" => text.clone(),
        None if std::io::stdin().is_terminal() => {
            return Err(Stop::usage("nothing to say").hint("sess chat \"hello\""));
        }
        _ => rpc::read_stdin()?,
    };
    if text.trim().is_empty() {
        return Err(Stop::usage("nothing to say: the text is empty"));
    }
    Ok(text)
}

/// The active session: of this folder, else of all.
pub(crate) async fn active(caller: &mut Caller) -> Result<String, Stop> {
    let here = caller.dial().workspace.clone();
    for workspace in [here, None] {
        if let Some(session) = caller.call::<SessionActive>(&WorkspaceParams { workspace }).await? {
            return Ok(session.id.to_string());
        }
    }
    Err(Stop::failed("no session is active")
        .hint("name one with -s (see `sess ls`), or leave -c out for a new one"))
}

/// Who follows the session beside this program, as what is said behind its name.
pub(crate) async fn others(caller: &mut Caller, session: &str) -> Result<String, Stop> {
    let params = SessionParams { session: session.to_owned() };
    let followers = match caller.call::<SessionGet>(&params).await {
        Ok(session) => session.followers,
        // Deleted meanwhile: its follow says so.
        Err(failure) if failure.kind() == Some(Kind::NotFound) => 0,
        Err(failure) => return Err(failure.into()),
    };
    Ok(match followers {
        0 | 1 => String::new(),
        2 => " · 1 other follows it".to_owned(),
        count => format!(" · {} others follow it", count - 1),
    })
}

pub(crate) async fn create(
    caller: &mut Caller,
    model: &Option<String>,
    agent: &Option<String>,
) -> Result<String, Stop> {
    let workspace = caller.dial().workspace.clone();
    // Gone again with the connection unless the request is accepted: one that is refused leaves nothing.
    let ephemeral = Some(true);
    let (model, agent) = (model.clone(), agent.clone());
    let params = SessionCreateParams { model, agent, workspace, ephemeral, ..Default::default() };
    Ok(caller.call::<SessionCreate>(&params).await?.id.to_string())
}

async fn follow(caller: &Caller, session: &str, from: From) -> Result<Follower, Stop> {
    let mut follower = Follower::new(caller.dial().clone(), session, from, Some(PATIENCE));
    follower.next().await?;
    Ok(follower)
}

/// Sends; also whether ctrl-c was pressed meanwhile. What is on its way is not called back: whether it
/// arrived is known only from its answer.
async fn send(
    caller: &mut Caller,
    params: &ChatSendParams,
    interrupts: &mut Signal,
) -> Result<(ChatSendResult, bool), Stop> {
    let mut cancel = false;
    let mut sending = std::pin::pin!(caller.call::<ChatSend>(params));
    loop {
        tokio::select! {
            sent = &mut sending => return Ok((sent?, cancel)),
            _ = interrupts.recv() => {
                if cancel {
                    return Err(Stop::Said);
                }
                cancel = true;
            }
        }
    }
}

/// With `--json`: waits for the end and prints what `task/wait` answers.
async fn wait(
    output: &mut Output,
    mut caller: Caller,
    sent: &ChatSendResult,
    mut interrupts: Signal,
    mut cancel: bool,
) -> Result<(), Stop> {
    let task = sent.task.to_string();
    let params = Map::from_iter([("task".to_owned(), Value::from(task.clone()))]);
    loop {
        if cancel {
            cancel_task(&mut caller, &task, &mut interrupts).await?;
        }
        let result = tokio::select! {
            result = caller.call_raw("task/wait", params.clone()) => result?,
            _ = interrupts.recv() => {
                cancel = true;
                continue;
            }
        };
        let waited: Value = serde_json::from_str(result.get()).unwrap_or_default();
        match waited["task"]["status"].as_str() {
            Some("completed") => return output.result(&result),
            Some("failed" | "cancelled" | "interrupted") => {
                output.result(&result)?;
                return Err(Stop::Said);
            }
            // The longest that one call may wait is over.
            _ => {}
        }
    }
}

/// Cancels a task; another ctrl-c leaves without waiting for it.
async fn cancel_task(caller: &mut Caller, task: &str, interrupts: &mut Signal) -> Result<(), Stop> {
    let params = TaskParams { task: task.to_owned() };
    tokio::select! {
        cancelled = caller.call::<TaskCancel>(&params) => {
            cancelled?;
            Ok(())
        }
        _ = interrupts.recv() => Err(Stop::Said),
    }
}

/// A request that was accepted, until its end.
struct Chat {
    task: String,
    sent: ChatSendResult,
    caller: Caller,
    follower: Follower,
    interrupts: Signal,
    answer: Answer,
    /// The task as far as its events told.
    known: Members,
    introduced: bool,
}

impl Chat {
    async fn stream(mut self, output: &mut Output, cancel: bool) -> Result<(), Stop> {
        if cancel {
            self.cancel(output).await?;
        }
        let mut cancelled = cancel;
        loop {
            let told = tokio::select! {
                told = self.follower.next() => told?,
                _ = self.interrupts.recv() => {
                    if cancelled {
                        output.end_line()?;
                        return Err(Stop::Said);
                    }
                    cancelled = true;
                    self.cancel(output).await?;
                    continue;
                }
            };
            if let Some(end) = self.take(output, told).await? {
                return end;
            }
        }
    }

    async fn cancel(&mut self, output: &mut Output) -> Result<(), Stop> {
        output.end_line()?;
        output.note("cancelling; ctrl-c again leaves at once")?;
        cancel_task(&mut self.caller, &self.task, &mut self.interrupts).await
    }

    /// Shows what was told; answers the end when it is the end.
    async fn take(
        &mut self,
        output: &mut Output,
        told: Told,
    ) -> Result<Option<Result<(), Stop>>, Stop> {
        match told {
            Told::Began => {}
            Told::Lost => output.note("connection lost, reconnecting")?,
            Told::Back => output.note("connected again")?,
            Told::Ended => {
                output.end_line()?;
                return Ok(Some(Err(Stop::failed("session ended: it was deleted"))));
            }
            Told::Anew => return self.ask(output).await,
            Told::Piece(delta) if delta.task == self.sent.task => {
                let shows = self.answer.piece(&delta, self.follower.unfinished());
                show(output, shows)?;
            }
            Told::Live if self.follower.unfinished().task() == Some(self.sent.task) => {
                let shows = self.answer.catch_up(self.follower.unfinished());
                show(output, shows)?;
            }
            Told::Event(told) if told.event.task == Some(self.sent.task) => {
                return self.take_event(output, &told).await;
            }
            Told::Piece(_) | Told::Live | Told::Event(_) => {}
        }
        Ok(None)
    }

    async fn take_event(
        &mut self,
        output: &mut Output,
        told: &ToldEvent,
    ) -> Result<Option<Result<(), Stop>>, Stop> {
        let data = &told.event.data;
        if let Some(Value::Object(task)) = data.get("task") {
            merge(&mut self.known, task);
        }
        self.introduce(output).await?;
        if let Some(Value::Object(message)) = data.get("message")
            && word(message, "role") == "assistant"
        {
            let (reasoning, text) = texts(&mut self.caller, message).await?;
            let shows = self.answer.finish(&reasoning, &text);
            show(output, shows)?;
            output.end_line()?;
        }
        if let Some(Value::Object(approval)) = data.get("approval")
            && word(approval, "status") == "pending"
        {
            output.note(&format!("waits for an answer: {}", word(approval, "title")))?;
            note_hint("list the questions with `sess rpc approval/list`");
        }
        let status = Value::from(word(&self.known, "status"));
        match serde_json::from_value::<TaskStatus>(status) {
            Ok(status) if status.is_final() => self.end(output, status).map(Some),
            _ => Ok(None),
        }
    }

    /// Says once in which session and by which model.
    async fn introduce(&mut self, output: &mut Output) -> Result<(), Stop> {
        if self.introduced {
            return Ok(());
        }
        self.introduced = true;
        let model = word(&self.known, "model");
        let session = short(&self.sent.session.to_string());
        let others = others(&mut self.caller, &self.sent.session.to_string()).await?;
        output.note(&format!("session {session} · {model}{others}"))?;
        if model.starts_with(ECHO) {
            note_hint(
                "`echo` only repeats; set ANTHROPIC_API_KEY, OPENAI_API_KEY or GEMINI_API_KEY and `sess daemon restart`, or name a model with -m (`sess models`)",
            );
        }
        if self.sent.position > 0 {
            let place = self.sent.position;
            output.note(&format!("queued at place {place}; it runs also when you leave"))?;
        }
        Ok(())
    }

    /// The history went on from elsewhere: asks how the task stands.
    async fn ask(&mut self, output: &mut Output) -> Result<Option<Result<(), Stop>>, Stop> {
        let params = TaskParams { task: self.task.clone() };
        let task: Task = match self.caller.call::<TaskGet>(&params).await {
            Ok(result) => result.task,
            Err(failure) if failure.kind() == Some(Kind::NotFound) => {
                let message = "the request is not in the store any more: it was restored";
                return Ok(Some(Err(Stop::failed(message).hint("say it again"))));
            }
            Err(failure) => return Err(failure.into()),
        };
        if !task.status.is_final() {
            let shows = self.answer.catch_up(self.follower.unfinished());
            show(output, shows)?;
            return Ok(None);
        }
        if let Ok(Value::Object(members)) = serde_json::to_value(&task) {
            self.known = members;
        }
        let list = Map::from_iter([("task".to_owned(), Value::from(self.task.clone()))]);
        let raw = self.caller.call_raw("task/wait", list).await?;
        let waited: Value = serde_json::from_str(raw.get()).unwrap_or_default();
        if let Some(answer) = waited["answer"].as_object() {
            let (reasoning, text) = texts(&mut self.caller, answer).await?;
            let shows = self.answer.finish(&reasoning, &text);
            show(output, shows)?;
        }
        self.end(output, task.status).map(Some)
    }

    fn end(&mut self, output: &mut Output, status: TaskStatus) -> Result<Result<(), Stop>, Stop> {
        let shows = self.answer.give_up();
        show(output, shows)?;
        output.end_line()?;
        let session = short(&self.sent.session.to_string());
        let error = self.known.get("error").and_then(Value::as_object);
        let message = error.map_or("no reason was given", |it| word(it, "message"));
        let go_on = format!("go on with `sess chat -s {session} \"go on\"`");
        Ok(match status {
            TaskStatus::Failed => {
                let hint = format!("the session is kept: `sess chat -s {session} ..`");
                Err(Stop::failed(format_args!("the task failed: {message}")).hint(hint))
            }
            TaskStatus::Cancelled => Err(Stop::failed("cancelled; the text so far is kept")),
            TaskStatus::Interrupted => {
                let message = "interrupted: the daemon ended; the text so far is kept";
                Err(Stop::failed(message).hint(go_on))
            }
            _ => Ok(()),
        })
    }
}
