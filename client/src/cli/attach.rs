//! A session watched live: draws what happens, changes nothing.

use serde_json::{Value, json};
use sess_client::follow::From;
use sess_client::{Caller, Dial, FollowError, Follower, Told};
use sess_protocol::event::ToldEvent;
use sess_protocol::live::Delta;
use sess_protocol::methods::{SessionGet, SessionParams};
use sess_protocol::view::Members;
use tokio::signal::unix::{SignalKind, signal};

use super::answer::{Answer, Show};
use super::caller;
use super::output::{Output, Stop};
use super::transcript::{self, short, show, texts, word};

/// Messages that are drawn anew of a session that was followed from its start.
const SHOWN_ANEW: u32 = 10;

pub(crate) async fn run(output: &mut Output, session: &str, limit: u32) -> Result<(), Stop> {
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut caller = caller()?;
    let session = caller.call::<SessionGet>(&SessionParams { session: session.to_owned() }).await?;
    // Who only watches does not start again what somebody stopped.
    let dial = Dial { start: false, ..caller.dial().clone() };
    let from = From::Now { messages: limit };
    let mut screen = Screen::new(dial, &session.id.to_string(), from);
    loop {
        let told = tokio::select! {
            told = screen.next() => told?,
            _ = interrupts.recv() => return output.end_line(),
        };
        let ended = told == Told::Ended;
        if output.json {
            screen.print(output, &told)?;
        } else {
            screen.draw(output, told).await?;
        }
        if ended {
            return Ok(());
        }
    }
}

/// A session on the screen.
pub(crate) struct Screen {
    session: String,
    caller: Caller,
    follower: Follower,
    answer: Answer,
    /// Messages that are shown when all is drawn.
    limit: u32,
    /// The message that was typed here last, and so stands on the screen.
    typed: Vec<String>,
    /// The task that was asked for here last: busy until the view knows better.
    asked: Option<String>,
}

impl Screen {
    /// A session that is followed for as long as it lives.
    pub(crate) fn new(dial: Dial, session: &str, from: From) -> Self {
        let limit = match from {
            From::Now { messages } => messages,
            From::Start => SHOWN_ANEW,
        };
        let caller = Caller::new(dial.clone());
        let follower = Follower::new(dial, session, from, None);
        let (session, answer) = (session.to_owned(), Answer::default());
        Self { session, caller, follower, answer, limit, typed: Vec::new(), asked: None }
    }

    /// Its id.
    pub(crate) fn session(&self) -> &str {
        &self.session
    }

    /// Waits for what happens next. Can be dropped at any moment without loss.
    pub(crate) async fn next(&mut self) -> Result<Told, FollowError> {
        self.follower.next().await
    }

    /// A message that stands on the screen already, and the task that it is for.
    pub(crate) fn said_here(&mut self, message: &str, task: &str) {
        self.typed.push(message.to_owned());
        self.asked = Some(task.to_owned());
    }

    /// The task that runs.
    pub(crate) fn running(&self) -> Option<String> {
        let running = self.follower.view().session().get("running").and_then(Value::as_str);
        running.map(ToOwned::to_owned).or_else(|| self.asked.clone())
    }

    /// Whether a task runs or waits.
    pub(crate) fn is_busy(&self) -> bool {
        let queued = self.follower.view().session().get("queued").and_then(Value::as_u64);
        self.running().is_some() || queued.is_some_and(|it| it > 0)
    }

    /// Shows what was told.
    pub(crate) async fn draw(&mut self, output: &mut Output, told: Told) -> Result<(), Stop> {
        match told {
            Told::Began => self.draw_all(output).await,
            Told::Anew => {
                output.end_line()?;
                output.note("connected again, to a store that was restored: all anew")?;
                self.draw_all(output).await
            }
            Told::Lost => output.note("connection lost, reconnecting"),
            Told::Back => output.note("connected again"),
            Told::Ended => {
                output.end_line()?;
                output.note("session ended: it was deleted")
            }
            Told::Event(told) => self.draw_event(output, &told).await,
            Told::Piece(delta) => self.draw_piece(output, &delta),
            Told::Live => self.catch_up(output),
        }
    }

    async fn draw_all(&mut self, output: &mut Output) -> Result<(), Stop> {
        let session = self.follower.view().session();
        let (id, title) = (short(word(session, "id")), word(session, "title"));
        output.note(&format!("session {id} · {title}"))?;
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let (path, _) = self.follower.view().path(limit);
        let path: Vec<Members> = path.into_iter().cloned().collect();
        for message in &path {
            transcript::message(output, &mut self.caller, message, false).await?;
        }
        self.answer = Answer::default();
        self.asked = None;
        self.catch_up(output)
    }

    async fn draw_event(&mut self, output: &mut Output, told: &ToldEvent) -> Result<(), Stop> {
        let data = &told.event.data;
        if let Some(Value::Object(message)) = data.get("message") {
            let typed = self.typed.iter().position(|it| it == word(message, "id"));
            if let Some(at) = typed {
                self.typed.swap_remove(at);
            } else if word(message, "role") == "assistant" {
                let (reasoning, text) = texts(&mut self.caller, message).await?;
                let shows = self.answer.finish(&reasoning, &text);
                if shows.contains(&Show::Begin) {
                    transcript::heading(output, message, true)?;
                }
                show(output, shows)?;
                output.end_line()?;
            } else {
                transcript::message(output, &mut self.caller, message, true).await?;
            }
        }
        if let Some(Value::Object(approval)) = data.get("approval")
            && word(approval, "status") == "pending"
        {
            output.note(&format!("waits for an answer: {}", word(approval, "title")))?;
        }
        let Some(Value::Object(task)) = data.get("task") else { return Ok(()) };
        let status = word(task, "status");
        // From here on the view says whether it runs.
        self.asked.take_if(|it| it == word(task, "id"));
        if matches!(status, "completed" | "failed" | "cancelled" | "interrupted") {
            let shows = self.answer.give_up();
            show(output, shows)?;
            output.end_line()?;
        }
        match status {
            "failed" => {
                let error = task.get("error").and_then(Value::as_object);
                let message = error.map_or("", |it| word(it, "message"));
                output.note(&format!("the task failed: {message}"))
            }
            "cancelled" | "interrupted" => output.note(&format!("the task was {status}")),
            _ => Ok(()),
        }
    }

    fn draw_piece(&mut self, output: &mut Output, delta: &Delta) -> Result<(), Stop> {
        let shows = self.answer.piece(delta, self.follower.unfinished());
        self.show(output, shows)
    }

    fn catch_up(&mut self, output: &mut Output) -> Result<(), Stop> {
        let shows = self.answer.catch_up(self.follower.unfinished());
        self.show(output, shows)
    }

    fn show(&self, output: &mut Output, shows: Vec<Show>) -> Result<(), Stop> {
        if shows.contains(&Show::Begin) {
            let task = self.follower.unfinished().task().map(|it| it.to_string());
            let view = self.follower.view();
            let task = task.and_then(|it| view.thing("task", &it));
            let mut speaker = Members::new();
            speaker.insert("role".to_owned(), "assistant".into());
            if let Some(model) = task.and_then(|it| it.get("model")) {
                speaker.insert("model".to_owned(), model.clone());
            }
            transcript::heading(output, &speaker, true)?;
        }
        show(output, shows)
    }

    /// With `--json`: a line for everything that is told, shaped as the daemon's notifications.
    fn print(&self, output: &mut Output, told: &Told) -> Result<(), Stop> {
        let line = match told {
            Told::Began | Told::Anew => {
                let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
                let view = self.follower.view().snapshot(limit);
                output.json_line(&json!({"method": "view", "params": view}).to_string())?;
                self.live()
            }
            Told::Event(told) => json!({"method": "event", "params": told}),
            Told::Piece(delta) => json!({"method": "delta", "params": delta}),
            Told::Live => self.live(),
            Told::Lost => json!({"method": "lost"}),
            Told::Back => json!({"method": "back"}),
            Told::Ended => json!({"method": "ended"}),
        };
        output.json_line(&line.to_string())
    }

    /// What is unfinished, shaped as the notification `live`.
    fn live(&self) -> Value {
        let unfinished = self.follower.unfinished();
        let blocks: Vec<Value> = unfinished
            .blocks()
            .map(|(index, it)| json!({"index": index, "type": it.kind, "text": it.text}))
            .collect();
        let (task, message) = (unfinished.task(), unfinished.message());
        json!({"method": "live", "params": {"task": task, "message": message, "blocks": blocks}})
    }
}
