//! `event/*`: a front end's own events.

use sess_protocol::methods as m;

use super::super::find;
use super::super::router::{Call, Routed, later};
use super::session::put;
use crate::session::command::Intent;

pub(in crate::server) async fn append(call: Call<'_, m::EventAppend>) -> Routed {
    let shared = call.shared();
    let session = find::session(&shared, &call.params.session).await?;
    let origin = call.client.origin(call.common);
    let answer = put(&shared, session, Intent::Own(Box::new(call.params)), origin).await?;
    later(async move { answer.answer().await? })
}
