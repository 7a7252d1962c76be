//! Sessions from outside: make, list, show, resume, rename, cancel, delete.

use serde_json::value::RawValue;
use serde_json::{Map, Value};
use sess_client::{Caller, Failure};
use sess_protocol::error::Kind;
use sess_protocol::methods::{
    Method, PAGE_MAX, SessionActive, SessionCreate, SessionCreateParams, SessionDelete,
    SessionDeleteParams, SessionGet, SessionList, SessionListParams, SessionParams, SessionResume,
    SessionResumeParams, SessionUpdate, SessionUpdateParams, TaskCancel, WorkspaceParams,
};
use sess_protocol::things::Session;
use sess_protocol::time::Timestamp;
use sess_protocol::view::Members;

use super::output::{Output, Stop, note, note_hint};
use super::table::{self, Column};
use super::transcript::{self, short, word};
use super::{ages, caller, dial_here};

/// Calls a method; with `--json` prints its result as it came and answers none.
async fn ask<M: Method>(
    output: &mut Output,
    caller: &mut Caller,
    params: &M::Params,
) -> Result<Option<M::Result>, Stop> {
    if !output.json {
        return Ok(Some(caller.call::<M>(params).await?));
    }
    let params = match serde_json::to_value(params) {
        Ok(Value::Object(params)) => params,
        _ => Map::new(),
    };
    let raw = caller.call_raw(M::NAME, params).await?;
    output.result(&raw)?;
    Ok(None)
}

pub(crate) async fn new(
    output: &mut Output,
    title: Option<String>,
    model: Option<String>,
) -> Result<(), Stop> {
    let mut caller = Caller::new(dial_here()?);
    let workspace = caller.dial().workspace.clone();
    let params = SessionCreateParams { title, model, workspace, ..Default::default() };
    let Some(session) = ask::<SessionCreate>(output, &mut caller, &params).await? else {
        return Ok(());
    };
    let id = session.id.to_string();
    note(&format!("session {} · {}", short(&id), session.model));
    note_hint(&format!("sess chat -s {} \"hello\"", short(&id)));
    output.line(&id)
}

const COLUMNS: [Column; 7] = [
    Column { heading: "ID", right: false, flexible: false, dispensable: 0 },
    Column { heading: "TITLE", right: false, flexible: true, dispensable: 0 },
    Column { heading: "STATUS", right: false, flexible: false, dispensable: 1 },
    Column { heading: "MODEL", right: false, flexible: false, dispensable: 3 },
    Column { heading: "TOKENS", right: true, flexible: false, dispensable: 4 },
    Column { heading: "ITER", right: true, flexible: false, dispensable: 5 },
    Column { heading: "ACTIVE", right: false, flexible: false, dispensable: 2 },
];

pub(crate) async fn list(
    output: &mut Output,
    limit: u32,
    text: Option<String>,
) -> Result<(), Stop> {
    let params = SessionListParams { limit: Some(limit), text, ..Default::default() };
    let Some(list) = ask::<SessionList>(output, &mut caller()?, &params).await? else {
        return Ok(());
    };
    if list.sessions.is_empty() {
        note("no sessions");
        note_hint("sess chat \"hello\"");
        return Ok(());
    }
    let now = Timestamp::now();
    let rows: Vec<Vec<String>> = list.sessions.iter().map(|it| row(it, now)).collect();
    for (at, line) in table::lines(&COLUMNS, &rows, output.width()).iter().enumerate() {
        if at == 0 { output.heading(line)? } else { output.line(line)? }
    }
    if list.next.is_some() {
        note(&format!("there are more than these {limit}"));
        note_hint("sess ls -n 500, or --text WORD");
    }
    Ok(())
}

fn row(session: &Session, now: Timestamp) -> Vec<String> {
    let status = match (session.running, session.approvals, session.queued) {
        (Some(_), 0, 0) => "running".to_owned(),
        (_, 1.., _) => "waiting".to_owned(),
        (Some(_), _, queued) => format!("running +{queued}"),
        _ => wire_word(&session.status),
    };
    vec![
        short(&session.id.to_string()),
        session.title.clone(),
        status,
        session.model.clone(),
        ages::count(session.usage.total_tokens),
        session.iterations.to_string(),
        ages::ago(now.0, session.updated_at.0),
    ]
}

/// A word of the protocol as it is written there.
fn wire_word(word: &impl serde::Serialize) -> String {
    let value = serde_json::to_value(word).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}

pub(crate) async fn show(output: &mut Output, session: String, limit: u32) -> Result<(), Stop> {
    let mut caller = caller()?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut pages: Vec<Vec<Value>> = Vec::new();
    let mut cursor = None;
    let mut count = 0;
    loop {
        let page = (limit - count).min(PAGE_MAX as usize);
        let mut params = Map::new();
        params.insert("session".to_owned(), session.clone().into());
        params.insert("limit".to_owned(), page.into());
        if let Some(cursor) = cursor.take() {
            params.insert("cursor".to_owned(), cursor);
        }
        let raw = caller.call_raw("message/list", params).await?;
        if output.json {
            return output.result(&raw);
        }
        let mut result = object(&raw);
        let Some(Value::Array(messages)) = result.remove("messages") else { break };
        count += messages.len();
        let empty = messages.is_empty();
        pages.push(messages);
        cursor = result.remove("next").filter(Value::is_string);
        if cursor.is_none() || count >= limit || empty {
            break;
        }
    }
    if cursor.is_some() {
        note(&format!("older messages are not shown; `sess show {session} -n {}`", count * 10));
    }
    for message in pages.iter().rev().flatten().filter_map(Value::as_object) {
        transcript::message(output, &mut caller, message).await?;
    }
    Ok(())
}

fn object(raw: &RawValue) -> Members {
    serde_json::from_str(raw.get()).unwrap_or_default()
}

pub(crate) async fn resume(
    output: &mut Output,
    session: Option<String>,
    limit: u32,
) -> Result<(), Stop> {
    let mut caller = Caller::new(dial_here()?);
    let workspace = if session.is_some() { None } else { caller.dial().workspace.clone() };
    let named = session.is_some();
    let mut params =
        SessionResumeParams { session, workspace, messages: Some(limit), ..Default::default() };
    let mut resumed = call_resume(&mut caller, &params).await;
    // Nothing was ever said in this folder: the latest of all is the next best.
    if !named && resumed.as_ref().is_err_and(|it| it.kind() == Some(Kind::NotFound)) {
        params.workspace = None;
        let mut everywhere = super::caller()?;
        resumed = call_resume(&mut everywhere, &params).await;
    }
    let raw = resumed?;
    if output.json {
        return output.result(&raw);
    }
    let view = object(&raw);
    let none = Members::new();
    let session = view.get("session").and_then(Value::as_object).unwrap_or(&none);
    let id = short(word(session, "id"));
    note(&format!("session {id} · {} · {}", word(session, "title"), word(session, "model")));
    let messages = view.get("messages").and_then(Value::as_array);
    for message in messages.into_iter().flatten().filter_map(Value::as_object) {
        transcript::message(output, &mut caller, message).await?;
    }
    output.flush()?;
    if session.get("running").is_some_and(Value::is_string) {
        note(&format!("a task runs; watch it with `sess attach {id}`"));
    } else {
        note("it is the active session; go on with `sess chat -c \"..\"`");
    }
    Ok(())
}

async fn call_resume(
    caller: &mut Caller,
    params: &SessionResumeParams,
) -> Result<Box<RawValue>, Failure> {
    let params = match serde_json::to_value(params) {
        Ok(Value::Object(params)) => params,
        _ => Map::new(),
    };
    caller.call_raw(SessionResume::NAME, params).await
}

pub(crate) async fn cancel(output: &mut Output, what: Option<String>) -> Result<(), Stop> {
    let mut caller = Caller::new(dial_here()?);
    let task = match what {
        Some(task) if task.starts_with("task_") => task,
        what => running_of(&mut caller, what).await?,
    };
    let params = sess_protocol::methods::TaskParams { task };
    let Some(cancelled) = ask::<TaskCancel>(output, &mut caller, &params).await? else {
        return Ok(());
    };
    let status = wire_word(&cancelled.task.status);
    note(&format!("the task {} is {status}", cancelled.task.id));
    Ok(())
}

/// The running task of a session, or of the active one.
async fn running_of(caller: &mut Caller, session: Option<String>) -> Result<String, Stop> {
    let session = match session {
        Some(session) => caller.call::<SessionGet>(&SessionParams { session }).await?,
        None => caller
            .call::<SessionActive>(&WorkspaceParams::default())
            .await?
            .ok_or_else(|| Stop::failed("no session is active").hint("see `sess ls`"))?,
    };
    let id = short(&session.id.to_string());
    let nothing = || Stop::failed(format_args!("nothing runs in session {id}"));
    Ok(session.running.ok_or_else(nothing)?.to_string())
}

pub(crate) async fn rename(
    output: &mut Output,
    session: String,
    title: String,
) -> Result<(), Stop> {
    let params = SessionUpdateParams { session, title: Some(title), ..Default::default() };
    if let Some(session) = ask::<SessionUpdate>(output, &mut caller()?, &params).await? {
        note(&format!("session {} · {}", short(&session.id.to_string()), session.title));
    }
    Ok(())
}

pub(crate) async fn remove(
    output: &mut Output,
    sessions: Vec<String>,
    force: bool,
) -> Result<(), Stop> {
    let mut caller = caller()?;
    let mut failed = false;
    for session in sessions {
        let params = SessionDeleteParams { session, force: force.then_some(true) };
        match ask::<SessionDelete>(output, &mut caller, &params).await {
            Ok(Some(result)) => {
                note(&format!("session {} is deleted", short(&result.deleted)));
                for backup in result.backups {
                    note_hint(&format!("the backup `{backup}` still holds it"));
                }
            }
            Ok(None) => {}
            // What does not hold for one session may hold for the next.
            Err(stop @ Stop::Failed { code: 1, .. }) => {
                stop.report();
                failed = true;
            }
            Err(stop) => return Err(stop),
        }
    }
    if failed { Err(Stop::Said) } else { Ok(()) }
}
