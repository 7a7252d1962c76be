//! A session watched live: draws what happens, changes nothing.

use serde_json::{Value, json};
use sess_client::follow::From;
use sess_client::{Caller, Dial, Follower, Told};
use sess_protocol::event::ToldEvent;
use sess_protocol::live::Delta;
use sess_protocol::methods::{SessionGet, SessionParams};
use sess_protocol::view::Members;
use tokio::signal::unix::{SignalKind, signal};

use super::answer::{Answer, Show};
use super::caller;
use super::output::{Output, Stop};
use super::transcript::{self, short, show, texts, word};

pub(crate) async fn run(output: &mut Output, session: &str, limit: u32) -> Result<(), Stop> {
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut caller = caller()?;
    let session = caller.call::<SessionGet>(&SessionParams { session: session.to_owned() }).await?;
    // Who only watches does not start again what somebody stopped.
    let dial = Dial { start: false, ..caller.dial().clone() };
    let from = From::Now { messages: limit };
    let follower = Follower::new(dial, &session.id.to_string(), from, None);
    let mut screen = Screen { caller, follower, answer: Answer::default(), limit };
    loop {
        let told = tokio::select! {
            told = screen.follower.next() => told?,
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

struct Screen {
    caller: Caller,
    follower: Follower,
    answer: Answer,
    limit: u32,
}

impl Screen {
    async fn draw(&mut self, output: &mut Output, told: Told) -> Result<(), Stop> {
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
        output.note(&format!("session {id} · {title} · ctrl-c leaves"))?;
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let (path, _) = self.follower.view().path(limit);
        let path: Vec<Members> = path.into_iter().cloned().collect();
        for message in &path {
            transcript::message(output, &mut self.caller, message).await?;
        }
        self.answer = Answer::default();
        self.catch_up(output)
    }

    async fn draw_event(&mut self, output: &mut Output, told: &ToldEvent) -> Result<(), Stop> {
        let data = &told.event.data;
        if let Some(Value::Object(message)) = data.get("message") {
            if word(message, "role") == "assistant" {
                let (reasoning, text) = texts(&mut self.caller, message).await?;
                let shows = self.answer.finish(&reasoning, &text);
                if shows.contains(&Show::Begin) {
                    transcript::heading(output, message)?;
                }
                show(output, shows)?;
                output.end_line()?;
            } else {
                transcript::message(output, &mut self.caller, message).await?;
            }
        }
        if let Some(Value::Object(approval)) = data.get("approval")
            && word(approval, "status") == "pending"
        {
            output.note(&format!("waits for an answer: {}", word(approval, "title")))?;
        }
        let Some(Value::Object(task)) = data.get("task") else { return Ok(()) };
        let status = word(task, "status");
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
            transcript::heading(output, &speaker)?;
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
