//! `session/*`: make, find, change, hold, follow, delete.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use sess_protocol::error::{Error, Kind};
use sess_protocol::event::SessionCleared;
use sess_protocol::id::{CheckpointId, LockId, SessionId};
use sess_protocol::methods as m;
use sess_protocol::methods::{PAGE_MAX, USAGE_ROWS_MAX, VIEW_MESSAGES_DEFAULT, WAIT_MS_MAX};
use sess_protocol::things::Lock;
use sess_protocol::time::Timestamp;
use sess_protocol::view::Members;

use super::super::birth::birth;
use super::super::find;
use super::super::follow::{FollowAsk, place_of};
use super::super::params::{bad_cursor, plain_limit};
use super::super::router::{Call, Routed, Work, json_of, later};
use super::super::views::{view_of, whole_view};
use crate::session::command::{Intent, Origin, Outcome};
use crate::session::members::{check_sizes, locked};
use crate::session::{Later, intent};
use crate::shared::Shared;
use crate::store::{SessionFilter, UsageFilter};

/// After how long a session in which nobody spoke is no longer listed.
const EMPTY_SHOWN_MS: i64 = 3_600_000;

/// Puts a change into a session's mailbox; its outcome comes later.
pub(super) async fn put(
    shared: &Arc<Shared>,
    session: SessionId,
    what: Intent,
    origin: Origin,
) -> Result<Later<Outcome>, Error> {
    let (command, answer) = intent(what, origin);
    shared.sessions.send(shared, session, command).await?;
    Ok(answer)
}

fn wait_for(answer: Later<Outcome>) -> Routed {
    later(async move { answer.answer().await? })
}

pub(in crate::server) async fn create(call: Call<'_, m::SessionCreate>) -> Routed {
    let shared = call.shared();
    let params = call.params;
    check_sizes(
        params.title.as_deref(),
        &[params.description.as_deref(), params.system.as_deref()],
        params.metadata.as_ref(),
        params.tags.as_deref(),
    )?;
    let origin = call.client.origin(call.common);
    if let Some(key) = &origin.key
        && let Some(outcome) = shared.answered_before(key).await
    {
        return outcome.map(Work::Done);
    }
    let birth = birth(&shared, call.client, &params).await?;
    let id = birth.id;
    if params.ephemeral == Some(true) {
        call.client.holds(id);
    }
    let handle = shared.sessions.begin_new(&shared, id);
    let (command, answer) = intent(Intent::Create(Box::new((birth, params))), origin);
    handle.send(command).await.map_err(|_| shared.going_down())?;
    wait_for(answer)
}

pub(in crate::server) async fn update(call: Call<'_, m::SessionUpdate>) -> Routed {
    let shared = call.shared();
    if let Some(model) = &call.params.model {
        shared.model(model)?;
    }
    let session = find::session(&shared, &call.params.session).await?;
    let origin = call.client.origin(call.common);
    wait_for(put(&shared, session, Intent::Update(Box::new(call.params)), origin).await?)
}

pub(in crate::server) async fn persist(call: Call<'_, m::SessionPersist>) -> Routed {
    let shared = call.shared();
    let session = find::session(&shared, &call.params.session).await?;
    let id = CheckpointId(shared.world.ordered());
    let origin = call.client.origin(call.common);
    wait_for(put(&shared, session, Intent::Persist(id), origin).await?)
}

pub(in crate::server) async fn delete(call: Call<'_, m::SessionDelete>) -> Routed {
    let shared = call.shared();
    let origin = call.client.origin(call.common);
    if let Some(key) = &origin.key
        && let Some(outcome) = shared.answered_before(key).await
    {
        return outcome.map(Work::Done);
    }
    let key = origin.key.clone();
    let force = call.params.force.unwrap_or(false);
    let asked = match find::session(&shared, &call.params.session).await {
        Ok(session) => put(&shared, session, Intent::Delete { force }, origin).await,
        Err(none) => Err(none),
    };
    later(async move {
        let outcome = match asked {
            Ok(answer) => answer.answer().await.and_then(|it| it),
            Err(refusal) => Err(refusal),
        };
        match (outcome, key) {
            // The same request may have taken the session away meanwhile: its answer is this one's.
            (Err(refusal), Some(key)) => shared.answered_before(&key).await.unwrap_or(Err(refusal)),
            (outcome, _) => outcome,
        }
    })
}

pub(in crate::server) async fn lock(call: Call<'_, m::SessionLock>) -> Routed {
    let shared = call.shared();
    let session = find::session(&shared, &call.params.session).await?;
    let wait = call.params.wait_ms.map(|it| Duration::from_millis(it.min(WAIT_MS_MAX)));
    let id = LockId(shared.world.ordered());
    let origin = call.client.origin(call.common);
    call.client.holds(session);
    let intent = Intent::Lock { id, wait: wait.is_some() };
    let answer = put(&shared, session, intent, origin).await?;
    let Some(wait) = wait else { return wait_for(answer) };
    later(async move {
        if let Ok(outcome) = tokio::time::timeout(wait, answer.answer()).await {
            return outcome?;
        }
        let now = view_of(&shared, session).await?;
        let held = now.snapshot.get("session").and_then(|it| it.get("lock")).cloned();
        let lock: Option<Lock> = held.and_then(|it| serde_json::from_value(it).ok());
        let message = "the session was held by others all the time";
        Err(lock.map_or_else(|| Error::new(Kind::Locked, message), |it| locked(&it)))
    })
}

pub(in crate::server) async fn release(call: Call<'_, m::SessionRelease>) -> Routed {
    let shared = call.shared();
    let session = find::session(&shared, &call.params.session).await?;
    let force = call.params.force.unwrap_or(false);
    let origin = call.client.origin(call.common);
    wait_for(put(&shared, session, Intent::Release { force }, origin).await?)
}

pub(in crate::server) async fn get(call: Call<'_, m::SessionGet>) -> Routed {
    let shared = call.shared();
    let text = call.params.session;
    later(async move {
        let session = find::session(&shared, &text).await?;
        let mut now = view_of(&shared, session).await?;
        Ok(now.snapshot.remove("session").unwrap_or_default().to_string())
    })
}

pub(in crate::server) fn list(call: Call<'_, m::SessionList>) -> Routed {
    let shared = call.shared();
    let params = call.params;
    let limit = plain_limit(params.limit)?;
    let behind = params.cursor.as_deref().map(read_cursor).transpose()?;
    later(async move {
        let now = shared.world.now().0;
        let shows_empty = params.empty.unwrap_or(false);
        let filter = SessionFilter {
            status: params.status,
            workspace: find::workspace_path(params.workspace).await?,
            scope: params.scope,
            agent: params.agent,
            tag: params.tag,
            text: params.text,
            hide_empty_before: (!shows_empty).then_some(now - EMPTY_SHOWN_MS),
            unsettled: false,
            limit: limit + 1,
            behind,
        };
        let found = shared.store.sessions(filter).await.map_err(|err| shared.refusal(err))?;
        Ok(page(&shared, found, limit as usize))
    })
}

/// A page of sessions as JSON, ended early when it would not fit in an answer.
fn page(shared: &Shared, found: Vec<Members>, limit: usize) -> String {
    let mut text = String::from("{\"sessions\":[");
    let (mut last, mut next) = (None, None);
    for (place, mut members) in found.into_iter().enumerate() {
        let followers = id_of(&members).map_or(0, |it| shared.sessions.followers(it));
        members.insert("followers".to_owned(), followers.into());
        let session = json_of(&members);
        let is_full = text.len() + session.len() > super::super::views::ANSWER_BYTES_MAX;
        if place == limit || (is_full && place > 0) {
            next = last;
            break;
        }
        if place > 0 {
            text.push(',');
        }
        text.push_str(&session);
        last = Some(cursor_of(&members));
    }
    text.push(']');
    if let Some(next) = next {
        text.push_str(&format!(",\"next\":\"{next}\""));
    }
    text.push('}');
    text
}

pub(super) fn id_of(members: &Members) -> Option<SessionId> {
    members.get("id").and_then(Value::as_str)?.parse().ok()
}

fn cursor_of(members: &Members) -> String {
    let text = |name: &str| members.get(name).and_then(Value::as_str).unwrap_or("");
    let at: Timestamp = text("updated_at").parse().unwrap_or_default();
    format!("{}:{}", at.0, text("id"))
}

fn read_cursor(text: &str) -> Result<(i64, SessionId), Error> {
    let (at, id) = text.split_once(':').ok_or_else(bad_cursor)?;
    Ok((at.parse().map_err(|_| bad_cursor())?, id.parse().map_err(|_| bad_cursor())?))
}

pub(in crate::server) async fn resume(call: Call<'_, m::SessionResume>) -> Routed {
    let shared = call.shared();
    let params = call.params;
    let count = view_messages(params.messages)?;
    let session = match &params.session {
        Some(text) => by_name(&shared, text).await?,
        None => latest(&shared, &params, call.client.workspace()).await?,
    };
    let mut activated = None;
    if !call.client.is_observer() && !shared.stop.is_stopping() {
        let origin = call.client.origin(call.common);
        activated = Some(put(&shared, session, Intent::Activate, origin).await?);
    }
    later(async move {
        // That it could not be made the active one is no reason not to show it.
        if let Some(activated) = activated {
            let _ = activated.answer().await;
        }
        let now = view_of(&shared, session).await?;
        whole_view(&shared, session, now.snapshot, now.head, count).await
    })
}

/// How many messages a view has.
fn view_messages(asked: Option<u32>) -> Result<u32, Error> {
    let count = asked.unwrap_or(VIEW_MESSAGES_DEFAULT);
    if count > PAGE_MAX {
        return Err(Error::invalid("messages", format!("`messages` is 0 to {PAGE_MAX}")));
    }
    Ok(count)
}

async fn by_name(shared: &Shared, text: &str) -> Result<SessionId, Error> {
    let by_id = find::session(shared, text).await;
    if by_id.is_ok() {
        return by_id;
    }
    let found = shared.store.sessions_by_title(text, 7).await;
    let found = found.map_err(|err| shared.refusal(err))?;
    match found.as_slice() {
        [] => by_id,
        [one] => Ok(*one),
        several => {
            let names: Vec<String> = several.iter().take(6).map(SessionId::to_string).collect();
            let message = format!("several sessions have the title `{text}`");
            Err(Error::new(Kind::Ambiguous, message).with("candidates", names))
        }
    }
}

/// The active session of a workspace, else its latest; over all only without a workspace.
async fn latest(
    shared: &Shared,
    params: &m::SessionResumeParams,
    own_workspace: Option<String>,
) -> Result<SessionId, Error> {
    let workspace = find::workspace_path(params.workspace.clone().or(own_workspace)).await?;
    let fits_all = params.scope.is_none() && params.agent.is_none();
    if fits_all {
        let active = shared.store.active(workspace.as_deref()).await;
        if let Some(active) = active.map_err(|err| shared.refusal(err))? {
            return Ok(active);
        }
    }
    let filter = SessionFilter {
        workspace,
        scope: params.scope,
        agent: params.agent.clone(),
        limit: 1,
        ..SessionFilter::default()
    };
    let found = shared.store.sessions(filter).await.map_err(|err| shared.refusal(err))?;
    found.first().and_then(id_of).ok_or_else(|| {
        Error::new(Kind::NotFound, "there is no session to resume")
            .with("what", "session")
            .with("id", Value::Null)
            .hint("make one with `session/create`")
    })
}

pub(in crate::server) fn active(call: Call<'_, m::SessionActive>) -> Routed {
    let shared = call.shared();
    let workspace = call.params.workspace.or_else(|| call.client.workspace());
    later(async move { active_json(&shared, find::workspace_path(workspace).await?).await })
}

async fn active_json(shared: &Arc<Shared>, workspace: Option<String>) -> Outcome {
    let active = shared.store.active(workspace.as_deref()).await;
    let Some(id) = active.map_err(|err| shared.refusal(err))? else { return Ok("null".to_owned()) };
    let mut now = view_of(shared, id).await?;
    Ok(now.snapshot.remove("session").unwrap_or_default().to_string())
}

pub(in crate::server) async fn activate(call: Call<'_, m::SessionActivate>) -> Routed {
    let shared = call.shared();
    let origin = call.client.origin(call.common);
    match call.params.session {
        Some(text) => {
            let session = find::session(&shared, &text).await?;
            wait_for(put(&shared, session, Intent::Activate, origin).await?)
        }
        None => {
            let workspace = call.params.workspace.or_else(|| call.client.workspace());
            later(async move {
                let workspace = find::workspace_path(workspace).await?;
                let fact = SessionCleared { workspace };
                shared.append_global(fact.into(), origin).await
            })
        }
    }
}

pub(in crate::server) async fn follow(call: Call<'_, m::SessionFollow>) -> Routed {
    let shared = call.shared();
    let params = call.params;
    let session = find::log(&shared, &params.session).await?;
    let messages = view_messages(params.messages)?;
    let after = match &params.after {
        Some(cursor) => {
            let now = view_of(&shared, session).await?.seq;
            Some(place_of(&shared, session, cursor, now).await?)
        }
        None => None,
    };
    let deltas = params.deltas.unwrap_or(true);
    Ok(Work::Follow(FollowAsk { session, after, messages, deltas }))
}

pub(in crate::server) async fn unfollow(call: Call<'_, m::SessionUnfollow>) -> Routed {
    let shared = call.shared();
    let session = find::log(&shared, &call.params.session).await?;
    call.client.unfollow(&shared, session).await;
    Ok(Work::Done("{}".to_owned()))
}

pub(in crate::server) fn usage(call: Call<'_, m::SessionUsage>) -> Routed {
    let shared = call.shared();
    let params = call.params;
    later(async move {
        let session = match &params.session {
            Some(text) => Some(find::session(&shared, text).await?),
            None => None,
        };
        let by = params.by.unwrap_or(m::UsageBy::Model);
        let limit = USAGE_ROWS_MAX as usize;
        let filter = UsageFilter { session, since: params.since, by, limit };
        let sums = shared.store.usage(filter).await.map_err(|err| shared.refusal(err))?;
        Ok(json_of(&sums))
    })
}
