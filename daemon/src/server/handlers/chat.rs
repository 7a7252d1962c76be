//! `chat/*`: requests to a session's model.

use sess_protocol::id::{MessageId, TaskId};
use sess_protocol::methods as m;

use super::super::birth::birth;
use super::super::find;
use super::super::router::{Call, Routed, Work, later};
use super::session::put;
use crate::session::command::{Intent, SendAsk};
use crate::session::intent;

pub(in crate::server) async fn send(call: Call<'_, m::ChatSend>) -> Routed {
    let shared = call.shared();
    let params = call.params;
    let origin = call.client.origin(call.common);
    let (task, message) = (TaskId(shared.world.ordered()), MessageId(shared.world.ordered()));
    let Some(session) = &params.session else {
        if let Some(key) = &origin.key
            && let Some(outcome) = shared.answered_before(key).await
        {
            return outcome.map(Work::Done);
        }
        // Whoever names a model or an agent with the first request means it for the session.
        let asked = m::SessionCreateParams {
            model: params.model.clone(),
            agent: params.agent.clone(),
            ..Default::default()
        };
        let birth = birth(&shared, call.client, &asked).await?;
        let id = birth.id;
        let ask = SendAsk { birth: Some(birth), params, task, message };
        let ask = Intent::Send(Box::new(ask));
        let handle = shared.sessions.begin_new(&shared, id);
        let (command, answer) = intent(ask, origin);
        handle.send(command).await.map_err(|_| shared.going_down())?;
        return later(async move { answer.answer().await? });
    };
    let session = find::session(&shared, session).await?;
    let ask = Intent::Send(Box::new(SendAsk { birth: None, params, task, message }));
    let answer = put(&shared, session, ask, origin).await?;
    later(async move { answer.answer().await? })
}
