//! `scope/*`: from one workspace to another.

use std::sync::Arc;

use serde_json::{Value, json};
use sess_protocol::error::Error;
use sess_protocol::id::{SessionId, TaskId};
use sess_protocol::methods as m;
use sess_protocol::view::Members;

use super::super::find;
use super::super::router::{Call, Routed, later};
use super::super::views::view_of;
use super::session::put;
use crate::session::command::Intent;
use crate::shared::Shared;
use crate::store::SessionFilter;

/// The most tasks that are named as going on elsewhere.
const RUNNING_NAMED_MAX: u32 = 500;

pub(in crate::server) async fn switch(call: Call<'_, m::ScopeSwitch>) -> Routed {
    let shared = call.shared();
    let from = call.params.from.or_else(|| call.client.workspace());
    let from = find::workspace_path(from).await?;
    let to = find::workspace(&call.params.workspace).await?.path;
    let loads = active(&shared, &to).await?;
    // From here on, in the order of lines, the connection means the new one.
    call.client.goes_to(to.clone());
    let mut activated = None;
    if let Some(session) = loads.filter(|_| !call.client.is_observer())
        && !shared.stop.is_stopping()
    {
        let origin = call.client.origin(call.common);
        activated = Some(put(&shared, session, Intent::Activate, origin).await?);
    }
    later(async move {
        // As with resume: one that another client holds is loaded all the same.
        if let Some(activated) = activated {
            let _ = activated.answer().await;
        }
        let left = from.filter(|it| *it != to);
        let (mut set_aside, mut running) = (Value::Null, Vec::new());
        if let Some(left) = left {
            set_aside = match active(&shared, &left).await? {
                Some(session) => members(&shared, session).await?,
                None => Value::Null,
            };
            running = goes_on(&shared, left).await?;
        }
        // What belongs to no project is there in every one, and so is set aside in none.
        if set_aside["scope"] != "project" {
            set_aside = Value::Null;
        }
        let loaded = match loads {
            Some(session) => members(&shared, session).await?,
            None => Value::Null,
        };
        Ok(json!({ "set_aside": set_aside, "loaded": loaded, "running": running }).to_string())
    })
}

async fn active(shared: &Shared, workspace: &str) -> Result<Option<SessionId>, Error> {
    shared.store.active(Some(workspace)).await.map_err(|err| shared.refusal(err))
}

async fn members(shared: &Arc<Shared>, session: SessionId) -> Result<Value, Error> {
    let mut now = view_of(shared, session).await?;
    Ok(now.snapshot.remove("session").unwrap_or_default())
}

/// The tasks at work in a workspace.
async fn goes_on(shared: &Shared, workspace: String) -> Result<Vec<Members>, Error> {
    let filter = SessionFilter {
        workspace: Some(workspace),
        unsettled: true,
        limit: RUNNING_NAMED_MAX,
        ..SessionFilter::default()
    };
    let sessions = shared.store.sessions(filter).await.map_err(|err| shared.refusal(err))?;
    let mut tasks = Vec::new();
    for session in sessions {
        let running = session.get("running").and_then(Value::as_str);
        let Some(task) = running.and_then(|it| it.parse::<TaskId>().ok()) else { continue };
        let found = shared.store.task(task).await.map_err(|err| shared.refusal(err))?;
        if let Some((_, mut task)) = found {
            task.insert("position".to_owned(), 0.into());
            tasks.push(task);
        }
    }
    Ok(tasks)
}
