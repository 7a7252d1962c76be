//! What a new session is where its client does not say: by the settings of its workspace, else the user's.

use std::sync::Arc;

use sess_protocol::error::Error;
use sess_protocol::id::SessionId;
use sess_protocol::methods::SessionCreateParams;

use super::client::Client;
use super::find;
use crate::agents;
use crate::session::members::Birth;
use crate::shared::Shared;

/// What a session is that is made with these params by this client.
///
/// # Errors
/// The workspace, the agent or the model cannot be used.
pub(super) async fn birth(
    shared: &Arc<Shared>,
    client: &Client,
    params: &SessionCreateParams,
) -> Result<Birth, Error> {
    let workspace = match params.workspace.clone().or_else(|| client.workspace()) {
        Some(path) => Some(find::workspace(&path).await?),
        None => None,
    };
    let settings = shared.settings(workspace.as_ref().map(|it| it.path.as_str())).await;
    let asked = (params.scope, params.agent.as_deref());
    let (scope, agent) = agents::choose(&settings, asked, workspace.is_some())?;
    let model = params.model.clone().or(agent.model).or_else(|| settings.model());
    let model = model.unwrap_or_else(|| shared.default_model());
    shared.model(&model)?;
    let mode = params.mode.or(agent.mode).unwrap_or_else(|| settings.mode());
    let id = SessionId(shared.world.random());
    Ok(Birth { id, model, mode, scope, agent: agent.name, workspace })
}
