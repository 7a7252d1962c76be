//! `chat/*`: requests to a session's model.

use sess_protocol::error::{Error, Kind};
use sess_protocol::id::{MessageId, TaskId};
use sess_protocol::methods as m;

use super::super::find;
use super::super::router::{Call, Routed, later};
use super::session::put;
use crate::session::command::{Intent, SendAsk};

pub(in crate::server) async fn send(call: Call<'_, m::ChatSend>) -> Routed {
    let shared = call.shared();
    let params = call.params;
    for (param, given) in [("budget", params.budget.is_some()), ("schema", params.schema.is_some())]
    {
        if given {
            let message = format!("`{param}` of a request is not served in this version");
            return Err(Error::new(Kind::Unsupported, message).with("param", param));
        }
    }
    let Some(session) = &params.session else {
        let message = "the param `session` is missing";
        return Err(Error::invalid("session", message).hint("make one with `session/create`"));
    };
    let session = find::session(&shared, session).await?;
    let origin = call.client.origin(call.common);
    let (task, message) = (TaskId(shared.world.ordered()), MessageId(shared.world.ordered()));
    let ask = Intent::Send(Box::new(SendAsk { params, task, message }));
    let answer = put(&shared, session, ask, origin).await?;
    later(async move { answer.answer().await? })
}
