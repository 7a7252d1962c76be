//! `agent/*`: who can answer.

use sess_protocol::methods as m;
use sess_protocol::methods::AgentListResult;

use super::super::find;
use super::super::params::{bad_cursor, plain_limit};
use super::super::router::{Call, Routed, json_of, later};
use crate::agents;

pub(in crate::server) fn list(call: Call<'_, m::AgentList>) -> Routed {
    let limit = plain_limit(call.params.limit)? as usize;
    let skip = match call.params.cursor.as_deref() {
        Some(cursor) => cursor.parse().map_err(|_| bad_cursor())?,
        None => 0_usize,
    };
    let shared = call.shared();
    let workspace = call.params.workspace.or_else(|| call.client.workspace());
    later(async move {
        let workspace = find::workspace_path(workspace).await?;
        let all = agents::list(&shared.settings(workspace.as_deref()).await);
        let more = all.len() > skip.saturating_add(limit);
        let agents = all.into_iter().skip(skip).take(limit).collect();
        let next = more.then(|| (skip + limit).to_string());
        Ok(json_of(&AgentListResult { agents, next }))
    })
}
