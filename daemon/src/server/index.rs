//! The document `sessions`: an index of all sessions, made when it is asked for. Nobody can set it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use sess_protocol::envelope::notification_line;
use sess_protocol::error::{Error, Kind};
use sess_protocol::id::SessionId;
use sess_protocol::view::Members;
use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::find;
use super::out::{Line, Out};
use super::router::Begun;
use super::views::view_of;
use crate::documents::SESSIONS;
use crate::session::command::Outcome;
use crate::shared::Shared;
use crate::store::SessionFilter;

/// The most sessions in the index: the latest. `session/list` pages through all.
const SESSIONS_MAX: u32 = 1_000;
/// How long changes are gathered before they are told together.
const GATHER: Duration = Duration::from_millis(250);
/// What the index shows, and the session's own name of it.
const SHOWN: [(&str, &str); 6] = [
    ("id", "id"),
    ("agent", "agent"),
    ("title", "title"),
    ("created_at", "created_at"),
    ("updated_at", "updated_at"),
    ("turn_count", "tasks"),
];

/// The index, or one session of it by its id; null where there is none.
pub(super) async fn get(
    shared: &Arc<Shared>,
    key: Option<String>,
    workspace: Option<String>,
) -> Outcome {
    let value = match key {
        None => whole(shared, workspace).await?,
        Some(text) => match find::session(shared, &text).await {
            Ok(id) => one(shared, id, workspace.as_deref()).await?,
            Err(err) if err.kind() == Kind::NotFound => Value::Null,
            Err(err) => return Err(err),
        },
    };
    Ok(json!({ "value": value }).to_string())
}

/// The index: the latest sessions by their ids.
pub(super) async fn whole(shared: &Arc<Shared>, workspace: Option<String>) -> Result<Value, Error> {
    let filter = SessionFilter { workspace, limit: SESSIONS_MAX, ..SessionFilter::default() };
    let found = shared.store.sessions(filter).await.map_err(|err| shared.refusal(err))?;
    let entry = |it: Members| Some((it.get("id")?.as_str()?.to_owned(), shown(&it)));
    Ok(Value::Object(found.into_iter().filter_map(entry).collect()))
}

async fn one(shared: &Arc<Shared>, id: SessionId, workspace: Option<&str>) -> Result<Value, Error> {
    let now = match view_of(shared, id).await {
        Ok(now) => now,
        Err(err) if err.kind() == Kind::NotFound => return Ok(Value::Null),
        Err(err) => return Err(err),
    };
    let session = now.snapshot.get("session").and_then(Value::as_object);
    let of = |it: &&Members| {
        let path = it.get("workspace").and_then(|it| it.get("path")).and_then(Value::as_str);
        workspace.is_none() || path == workspace
    };
    Ok(session.filter(of).map(shown).unwrap_or_default())
}

fn shown(session: &Members) -> Value {
    let member =
        |(shown, own): &(&str, &str)| Some(((*shown).to_owned(), session.get(*own)?.clone()));
    Value::Object(SHOWN.iter().filter_map(member).collect::<Map<_, _>>())
}

/// The index, and then each session in it that changes.
pub(super) async fn follow(
    shared: &Arc<Shared>,
    out: Out,
    workspace: Option<String>,
) -> Result<Begun, Error> {
    // Listening begins first: what changes while the index is read is told behind it.
    let changes = shared.changes.subscribe();
    let value = whole(shared, workspace.clone()).await?;
    let shared = Arc::clone(shared);
    let tell = async move {
        tokio::select! {
            () = tell(&shared, &out, changes, workspace) => {}
            () = out.closed() => {}
            () = shared.stop.finished() => {}
        }
    };
    Ok((json!({ "value": value }).to_string(), Box::pin(tell)))
}

async fn tell(
    shared: &Arc<Shared>,
    out: &Out,
    mut changes: Receiver<SessionId>,
    workspace: Option<String>,
) {
    loop {
        let mut changed = BTreeSet::new();
        let mut is_all = false;
        match changes.recv().await {
            Ok(id) => drop(changed.insert(id)),
            Err(RecvError::Lagged(_)) => is_all = true,
            Err(RecvError::Closed) => return,
        }
        tokio::time::sleep(GATHER).await;
        loop {
            match changes.try_recv() {
                Ok(id) => drop(changed.insert(id)),
                Err(tokio::sync::broadcast::error::TryRecvError::Lagged(_)) => is_all = true,
                Err(_) => break,
            }
        }
        // Too much changed to know what: all of it is told.
        let told = if is_all {
            let Ok(value) = whole(shared, workspace.clone()).await else { continue };
            vec![json!({"document": SESSIONS, "value": value})]
        } else {
            changed.remove(&SessionId::GLOBAL);
            let mut told = Vec::new();
            for id in changed {
                let Ok(value) = one(shared, id, workspace.as_deref()).await else { continue };
                told.push(json!({"document": SESSIONS, "key": id.to_string(), "value": value}));
            }
            told
        };
        for mut params in told {
            if let Some(path) = &workspace {
                params["workspace"] = path.as_str().into();
            }
            if out.send(Line::Own(notification_line("state", &params.to_string()))).await.is_none()
            {
                return;
            }
        }
    }
}
