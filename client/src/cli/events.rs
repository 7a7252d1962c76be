//! The facts of a session as they lie in its log: the newest, and those to come.

use std::collections::VecDeque;

use clap::Args;
use serde_json::{Value, json};
use sess_client::follow::From;
use sess_client::{Dial, Follower, Told};
use sess_protocol::event::ToldEvent;
use sess_protocol::methods::{SessionGet, SessionParams};
use tokio::signal::unix::{SignalKind, signal};

use super::caller;
use super::output::{Output, Stop, note};
use super::transcript::short;

/// Signs of an event's data that are shown.
const DATA_CHARS_MAX: usize = 400;

/// Which events are shown.
#[derive(Debug, Args)]
pub(crate) struct EventsArguments {
    /// The session: its id, or at least 4 digits of it.
    session: String,
    /// How many of the newest.
    #[arg(short = 'n', long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    limit: u32,
    /// Go on as they happen, until ctrl-c.
    #[arg(short, long)]
    follow: bool,
}

pub(crate) async fn run(output: &mut Output, arguments: EventsArguments) -> Result<(), Stop> {
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut caller = caller()?;
    let params = SessionParams { session: arguments.session };
    let session = caller.call::<SessionGet>(&params).await?;
    let dial = Dial { start: false, ..caller.dial().clone() };
    let mut follower = Follower::new(dial, &session.id.to_string(), From::Start, None);
    let limit = usize::try_from(arguments.limit).unwrap_or(usize::MAX);
    let mut newest = VecDeque::new();
    let mut caught_up = false;
    loop {
        let told = tokio::select! {
            told = follower.next() => told?,
            _ = interrupts.recv() => return output.end_line(),
        };
        match told {
            Told::Event(event) if caught_up => print(output, &event)?,
            Told::Event(event) => {
                caught_up = event.event.seq >= session.seq;
                newest.push_back(event);
                if newest.len() > limit {
                    newest.pop_front();
                }
                if caught_up {
                    for event in newest.drain(..) {
                        print(output, &event)?;
                    }
                    if !arguments.follow {
                        return output.flush();
                    }
                }
            }
            Told::Lost => note("connection lost, reconnecting"),
            Told::Back => note("connected again"),
            Told::Ended => {
                note("session ended: it was deleted");
                return Ok(());
            }
            Told::Anew => note("connected again, to a store that was restored"),
            Told::Began | Told::Piece(_) | Told::Live => {}
        }
    }
}

fn print(output: &mut Output, told: &ToldEvent) -> Result<(), Stop> {
    if output.json {
        let line = json!({"method": "event", "params": told}).to_string();
        return output.json_line(&line);
    }
    let event = &told.event;
    let by = event.by.as_ref().map(|it| format!(" by {}", it.client)).unwrap_or_default();
    let data: String = Value::Object(event.data.clone()).to_string();
    let mut shown: String = data.chars().take(DATA_CHARS_MAX).collect();
    if shown.len() < data.len() {
        shown.push('…');
    }
    let task = event.task.map(|it| format!(" {}", short(&it.to_string()))).unwrap_or_default();
    output.heading(&format!("{:>6}  {}  {}{task}{by}", event.seq, event.at, event.kind))?;
    output.line(&format!("        {shown}"))?;
    output.flush()
}
