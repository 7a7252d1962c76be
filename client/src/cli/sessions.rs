//! Sessions from outside: make, list, show, resume, rename, delete, clean.

use clap::{Args, ValueEnum};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use sess_client::{Caller, Failure};
use sess_protocol::error::Kind;
use sess_protocol::methods::{
    Method, PAGE_MAX, SessionCreate, SessionCreateParams, SessionDelete, SessionDeleteParams,
    SessionList, SessionListParams, SessionResume, SessionResumeParams, SessionUpdate,
    SessionUpdateParams,
};
use sess_protocol::things::{Scope, Session};
use sess_protocol::time::Timestamp;
use sess_protocol::view::Members;

use super::ask::{ask, ask_raw, members, members_of, object};
use super::output::{Output, Stop, note, note_hint};
use super::table::{self, Column};
use super::transcript::{self, short, wire_word, word};
use super::{ages, caller, dial_here, since};

/// Which sessions go.
#[derive(Debug, Args)]
pub(crate) struct CleanArguments {
    /// Those not used since: an age as 30d or 12h, or a date as 2026-01-31.
    #[arg(long)]
    before: Option<String>,
    /// Of these only the ones in which nothing was said; without --before all of that kind.
    #[arg(long)]
    empty: bool,
    /// Also those with tags.
    #[arg(long)]
    tagged: bool,
    /// Only say which would go.
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// What a new session is.
#[derive(Debug, Args)]
pub(crate) struct NewArguments {
    /// Its title; else the first thing said will be it.
    title: Option<String>,
    /// Its model, as provider/name.
    #[arg(short, long)]
    model: Option<String>,
    /// Who answers in it; `sess agents` lists them.
    #[arg(long)]
    agent: Option<String>,
    /// What it belongs to; else what its agent does.
    #[arg(long, value_enum)]
    scope: Option<Belongs>,
}

/// What a session belongs to.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Belongs {
    /// To nothing: one for everything.
    Global,
    /// To its agent.
    Assistant,
    /// To the folder.
    Project,
}

impl Belongs {
    fn word(self) -> Scope {
        match self {
            Self::Global => Scope::Global,
            Self::Assistant => Scope::Assistant,
            Self::Project => Scope::Project,
        }
    }
}

pub(crate) async fn new(output: &mut Output, arguments: NewArguments) -> Result<(), Stop> {
    let mut caller = Caller::new(dial_here()?);
    let workspace = caller.dial().workspace.clone();
    let NewArguments { title, model, agent, scope } = arguments;
    let scope = scope.map(Belongs::word);
    let params =
        SessionCreateParams { title, model, agent, scope, workspace, ..Default::default() };
    let Some(session) = ask::<SessionCreate>(output, &mut caller, &params).await? else {
        return Ok(());
    };
    let id = session.id.to_string();
    note(&format!("session {} · {}", short(&id), session.model));
    note_hint(&format!("sess chat -s {} \"hello\"", short(&id)));
    output.line(&id)
}

const COLUMNS: [Column; 8] = [
    Column { heading: "ID", right: false, flexible: false, dispensable: 0 },
    Column { heading: "TITLE", right: false, flexible: true, dispensable: 0 },
    Column { heading: "STATUS", right: false, flexible: false, dispensable: 1 },
    Column { heading: "MODEL", right: false, flexible: false, dispensable: 3 },
    Column { heading: "TOKENS", right: true, flexible: false, dispensable: 4 },
    Column { heading: "COST", right: true, flexible: false, dispensable: 5 },
    Column { heading: "ITER", right: true, flexible: false, dispensable: 6 },
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
        ages::money(session.usage.cost_usd.as_deref(), session.iterations > 0),
        session.iterations.to_string(),
        ages::ago(now.0, session.active_at.0),
    ]
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
        let mut result = object("message/list", &raw)?;
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
        transcript::message(output, &mut caller, message, false).await?;
    }
    Ok(())
}

pub(crate) async fn resume(
    output: &mut Output,
    session: Option<String>,
    limit: u32,
) -> Result<(), Stop> {
    let mut caller = Caller::new(dial_here()?);
    let raw = resumed(&mut caller, session, limit).await?;
    if output.json {
        return output.result(&raw);
    }
    let view = object(SessionResume::NAME, &raw)?;
    let none = Members::new();
    let session = view.get("session").and_then(Value::as_object).unwrap_or(&none);
    let id = short(word(session, "id"));
    note(&format!("session {id} · {} · {}", word(session, "title"), word(session, "model")));
    let messages = view.get("messages").and_then(Value::as_array);
    for message in messages.into_iter().flatten().filter_map(Value::as_object) {
        transcript::message(output, &mut caller, message, false).await?;
    }
    output.flush()?;
    if session.get("running").is_some_and(Value::is_string) {
        note(&format!("a task runs; watch it with `sess attach {id}`"));
    } else {
        note("it is the active session; go on with `sess chat -c \"..\"`");
    }
    Ok(())
}

/// The session that is meant by a name, or the latest here.
async fn resumed(
    caller: &mut Caller,
    session: Option<String>,
    limit: u32,
) -> Result<Box<RawValue>, Stop> {
    let workspace = if session.is_some() { None } else { caller.dial().workspace.clone() };
    let named = session.is_some();
    let mut params =
        SessionResumeParams { session, workspace, messages: Some(limit), ..Default::default() };
    let mut resumed = call_resume(caller, &params).await;
    // Nothing was ever said in this folder: the latest of all is the next best.
    if !named && resumed.as_ref().is_err_and(|it| it.kind() == Some(Kind::NotFound)) {
        params.workspace = None;
        let mut everywhere = super::caller()?;
        resumed = call_resume(&mut everywhere, &params).await;
    }
    Ok(resumed?)
}

/// The same, as the session's id.
pub(crate) async fn call_resume_here(
    caller: &mut Caller,
    session: Option<String>,
) -> Result<String, Stop> {
    let raw = resumed(caller, session, 0).await?;
    let view = object(SessionResume::NAME, &raw)?;
    let session = view.get("session").and_then(Value::as_object);
    Ok(session.map_or("", |it| word(it, "id")).to_owned())
}

async fn call_resume(
    caller: &mut Caller,
    params: &SessionResumeParams,
) -> Result<Box<RawValue>, Failure> {
    caller.call_raw(SessionResume::NAME, members_of(params)).await
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

/// Removes sessions that nobody needs: those in which nothing was said, or those older than a date.
pub(crate) async fn clean(output: &mut Output, arguments: CleanArguments) -> Result<(), Stop> {
    let before = arguments.before.as_deref().map(since::moment).transpose()?;
    let params = members([
        ("empty", (before.is_none() || arguments.empty).then(|| true.into())),
        ("before", before.map(|it| it.to_string().into())),
        ("keep_tagged", (!arguments.tagged).then(|| true.into())),
        ("dry_run", arguments.dry_run.then(|| true.into())),
    ]);
    let Some(result) = ask_raw(output, &mut caller()?, "session/cleanup", params).await? else {
        return Ok(());
    };
    let sessions = result.get("sessions").and_then(Value::as_array);
    let ids: Vec<&str> = sessions.into_iter().flatten().filter_map(Value::as_str).collect();
    for id in &ids {
        output.line(id)?;
    }
    output.flush()?;
    let done = if arguments.dry_run { "would be removed" } else { "removed" };
    note(&format!("{} sessions {done}", ids.len()));
    Ok(())
}
