//! What runs in a session: wait for it, cancel it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sess_client::Caller;
use sess_protocol::methods::{
    SessionActive, SessionGet, SessionParams, TaskCancel, TaskList, TaskListParams, TaskParams,
    WorkspaceParams,
};
use sess_protocol::things::Session;
use sess_protocol::view::Members;

use super::ask::{ask, members, object};
use super::dial_here;
use super::output::{Output, Stop, note};
use super::transcript::{short, texts, wire_word, word};

/// The longest that one `task/wait` is asked to take; then it is asked again.
const WAIT_MS_MAX: u64 = 60_000;

/// A task, or the session whose work is meant.
enum What {
    Task(String),
    Session(Box<Session>),
}

/// What an argument means; the active session without one.
async fn meant(caller: &mut Caller, what: Option<String>) -> Result<What, Stop> {
    match what {
        Some(task) if task.starts_with("task_") => Ok(What::Task(task)),
        Some(session) => {
            let session = caller.call::<SessionGet>(&SessionParams { session }).await?;
            Ok(What::Session(Box::new(session)))
        }
        None => {
            let active = caller.call::<SessionActive>(&WorkspaceParams::default()).await?;
            let none = || Stop::failed("no session is active").hint("see `sess ls`");
            Ok(What::Session(Box::new(active.ok_or_else(none)?)))
        }
    }
}

pub(crate) async fn cancel(output: &mut Output, what: Option<String>) -> Result<(), Stop> {
    let mut caller = Caller::new(dial_here()?);
    let task = match meant(&mut caller, what).await? {
        What::Task(task) => task,
        What::Session(session) => {
            let id = short(&session.id.to_string());
            let nothing = || Stop::failed(format_args!("nothing runs in session {id}"));
            session.running.ok_or_else(nothing)?.to_string()
        }
    };
    let params = TaskParams { task };
    let Some(cancelled) = ask::<TaskCancel>(output, &mut caller, &params).await? else {
        return Ok(());
    };
    let status = wire_word(&cancelled.task.status);
    note(&format!("the task {} is {status}", cancelled.task.id));
    Ok(())
}

/// Waits for a task, or until a session has neither a task nor a queue; prints the last answer, also where
/// nothing runs any more.
pub(crate) async fn wait(
    output: &mut Output,
    what: Option<String>,
    timeout_s: Option<u64>,
) -> Result<(), Stop> {
    let mut caller = Caller::new(dial_here()?);
    let until = timeout_s.map(|it| Instant::now() + Duration::from_secs(it));
    let session = match meant(&mut caller, what).await? {
        What::Task(task) => {
            let waited = wait_task(&mut caller, &task, until).await?;
            return end(output, &mut caller, &waited).await;
        }
        What::Session(session) => *session,
    };
    let id = session.id.to_string();
    let mut running = session.running;
    let mut last = None;
    if running.is_none() {
        // What ended just before is what was meant: whoever waits must not have to be quick.
        let params = TaskListParams { session: Some(id.clone()), ..Default::default() };
        let tasks = caller.call::<TaskList>(&params).await?.tasks;
        running = tasks.first().map(|it| it.id);
    }
    while let Some(task) = running {
        last = Some(wait_task(&mut caller, &task.to_string(), until).await?);
        let params = SessionParams { session: id.clone() };
        running = caller.call::<SessionGet>(&params).await?.running;
    }
    match last {
        Some(waited) => end(output, &mut caller, &waited).await,
        None if output.json => output.json_line("{}"),
        None => {
            note(&format!("nothing was ever asked in session {}", short(&id)));
            Ok(())
        }
    }
}

/// Asks again and again until the task is final: answers what `task/wait` does.
async fn wait_task(
    caller: &mut Caller,
    task: &str,
    until: Option<Instant>,
) -> Result<Members, Stop> {
    loop {
        let left = until.map(|it| it.saturating_duration_since(Instant::now()).as_millis());
        let left = left.map_or(WAIT_MS_MAX, |it| it.min(WAIT_MS_MAX.into()) as u64);
        let params = members([("task", Some(json!(task))), ("timeout_ms", Some(json!(left)))]);
        let waited = object("task/wait", &caller.call_raw("task/wait", params).await?)?;
        let status = waited.get("task").and_then(Value::as_object).map(|it| word(it, "status"));
        if matches!(status, Some("completed" | "failed" | "cancelled" | "interrupted")) {
            return Ok(waited);
        }
        if until.is_some_and(|it| Instant::now() >= it) {
            return Err(Stop::failed("the time is over, the task is not")
                .hint(format_args!("it goes on; `sess wait {task}` waits again")));
        }
    }
}

/// Prints the answer; what did not complete is a failure.
async fn end(output: &mut Output, caller: &mut Caller, waited: &Members) -> Result<(), Stop> {
    let none = Members::new();
    let task = waited.get("task").and_then(Value::as_object).unwrap_or(&none);
    let status = word(task, "status");
    if output.json {
        output.json_line(&Value::Object(waited.clone()).to_string())?;
        return if status == "completed" { Ok(()) } else { Err(Stop::Said) };
    }
    if let Some(answer) = waited.get("answer").and_then(Value::as_object) {
        let (_, text) = texts(caller, answer).await?;
        output.text(&text)?;
        output.end_line()?;
    }
    let error = task.get("error").and_then(Value::as_object);
    match (status, error) {
        ("completed", _) => Ok(()),
        ("failed", Some(error)) => {
            Err(Stop::failed(format_args!("the task failed: {}", word(error, "message"))))
        }
        _ => Err(Stop::failed(format_args!("the task was {status}"))),
    }
}
