//! `session/cleanup`: sessions that nobody needs.

use std::sync::Arc;

use sess_protocol::error::{Error, Kind};
use sess_protocol::event::Notice;
use sess_protocol::id::SessionId;
use sess_protocol::methods as m;
use sess_protocol::methods::CLEANUP_MAX;
use sess_protocol::time::Timestamp;
use sess_protocol::view::Members;

use super::super::router::{Call, Routed, Work, json_of, later};
use super::session::{id_of, put};
use crate::session::command::{Intent, Origin};
use crate::shared::Shared;
use crate::store::SessionFilter;

/// Sessions that are looked at together.
const PAGE: u32 = 200;

pub(in crate::server) async fn cleanup(call: Call<'_, m::SessionCleanup>) -> Routed {
    let shared = call.shared();
    let params = call.params;
    if params.before.is_none() && params.empty != Some(true) {
        let message = "say which: `before` a moment, `empty`, or both";
        return Err(Error::invalid("before", message));
    }
    let origin = call.client.origin(call.common);
    if let Some(key) = &origin.key
        && let Some(outcome) = shared.answered_before(key).await
    {
        return outcome.map(Work::Done);
    }
    later(async move {
        let found = candidates(&shared, &params).await?;
        let dry = params.dry_run == Some(true);
        let mut sessions = Vec::new();
        for id in found {
            if is_needed(&shared, id).await? {
                continue;
            }
            if dry || remove(&shared, id, unkeyed(&origin)).await? {
                sessions.push(id);
            }
        }
        let removed = if dry { 0 } else { sessions.len() as u64 };
        let answer = json_of(&m::SessionCleanupResult { removed, sessions });
        if dry && origin.key.is_none() {
            return Ok(answer);
        }
        // The global log is where the key outlives the sessions that went.
        let text = format!("a cleanup removed {removed} sessions");
        shared.append_global_as(Notice { text }.into(), origin, Some(answer)).await
    })
}

/// The key is that of the whole cleanup, and of no one deletion.
fn unkeyed(origin: &Origin) -> Origin {
    Origin { key: None, ..origin.clone() }
}

/// Those that the params name, latest first.
async fn candidates(
    shared: &Shared,
    params: &m::SessionCleanupParams,
) -> Result<Vec<SessionId>, Error> {
    let (mut found, mut behind) = (Vec::new(), None);
    if let Some(before) = params.before {
        behind = Some((before.0, SessionId(0)));
    }
    loop {
        let filter = SessionFilter { limit: PAGE, behind, ..SessionFilter::default() };
        let page = shared.store.sessions(filter).await.map_err(|err| shared.refusal(err))?;
        let fits = |it: &&Members| {
            let count = |name: &str| it.get(name).and_then(serde_json::Value::as_u64).unwrap_or(0);
            let tags = it.get("tags").and_then(serde_json::Value::as_array);
            let tagged = tags.is_some_and(|it| !it.is_empty());
            let empty = count("messages") == 0 && count("tasks") == 0;
            (params.empty != Some(true) || empty) && !(params.keep_tagged == Some(true) && tagged)
        };
        found.extend(page.iter().filter(fits).filter_map(id_of));
        behind = page.last().and_then(|it| {
            let at = it.get("updated_at").and_then(serde_json::Value::as_str)?;
            Some((at.parse::<Timestamp>().ok()?.0, id_of(it)?))
        });
        if page.len() < PAGE as usize || behind.is_none() || found.len() >= CLEANUP_MAX {
            found.truncate(CLEANUP_MAX);
            return Ok(found);
        }
    }
}

/// Whether it has a task, a lock or a follower.
async fn is_needed(shared: &Arc<Shared>, id: SessionId) -> Result<bool, Error> {
    if shared.sessions.followers(id) > 0 {
        return Ok(true);
    }
    let loaded = shared.store.load(id).await.map_err(|err| shared.refusal(err))?;
    Ok(loaded.is_none_or(|it| !crate::session::state::State::new(id, it.view).is_settled()))
}

/// Removes it unless somebody needs it by now.
async fn remove(shared: &Arc<Shared>, id: SessionId, origin: Origin) -> Result<bool, Error> {
    let outcome = match put(shared, id, Intent::CleanUp, origin).await {
        Ok(answer) => answer.answer().await.and_then(|it| it),
        Err(refusal) => Err(refusal),
    };
    match outcome {
        Ok(_) => Ok(true),
        Err(err) if [Kind::Busy, Kind::Locked, Kind::NotFound].contains(&err.kind()) => Ok(false),
        Err(err) => Err(err),
    }
}
