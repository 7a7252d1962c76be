//! `state/*`: documents.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde_json::json;
use sess_protocol::envelope::notification_line;
use sess_protocol::error::{Error, Kind};
use sess_protocol::methods as m;
use sess_protocol::methods::StateDocumentParams;

use super::super::find::workspace_path;
use super::super::index;
use super::super::out::{Line, Out};
use super::super::router::{Call, Routed, Router, Work, json_of, later};
use crate::documents::{Follow, SESSIONS};
use crate::shared::Shared;

pub(in crate::server) fn get(call: Call<'_, m::StateGet>) -> Routed {
    let (router, own, mut params) = (call.router.clone(), call.client.workspace(), call.params);
    later(async move {
        let workspace = meant(&router, Some(&params.document), params.workspace, own).await?;
        if params.document == SESSIONS {
            return index::get(router.shared(), params.key, workspace).await;
        }
        params.workspace = Some(workspace);
        Ok(json_of(&router.documents().get(&params).await?))
    })
}

pub(in crate::server) fn all(call: Call<'_, m::StateAll>) -> Routed {
    let (router, own, mut params) = (call.router.clone(), call.client.workspace(), call.params);
    later(async move {
        let document = params.document.as_deref();
        let workspace = meant(&router, document, params.workspace, own).await?;
        if document == Some(SESSIONS) {
            let index = index::whole(router.shared(), workspace).await?;
            return Ok(json!({"documents": {SESSIONS: index}}).to_string());
        }
        params.workspace = Some(workspace.clone());
        let mut all = router.documents().all(&params).await?;
        if params.document.is_none() {
            let index = index::whole(router.shared(), workspace).await?;
            all.documents.insert(SESSIONS.to_owned(), index);
        }
        Ok(json_of(&all))
    })
}

pub(in crate::server) fn set(call: Call<'_, m::StateSet>) -> Routed {
    let (router, own, mut params) = (call.router.clone(), call.client.workspace(), call.params);
    may_change(&params.document)?;
    later(async move {
        let document = Some(params.document.as_str());
        params.workspace = Some(meant(&router, document, params.workspace, own).await?);
        let value = router.documents().set(params).await?;
        router.shared().take_settings(router.documents());
        Ok(json_of(&value))
    })
}

pub(in crate::server) fn delete(call: Call<'_, m::StateDelete>) -> Routed {
    let (router, own, mut params) = (call.router.clone(), call.client.workspace(), call.params);
    may_change(&params.document)?;
    later(async move {
        let document = Some(params.document.as_str());
        params.workspace = Some(meant(&router, document, params.workspace, own).await?);
        let empty = router.documents().delete(params).await?;
        router.shared().take_settings(router.documents());
        Ok(json_of(&empty))
    })
}

pub(in crate::server) fn load(call: Call<'_, m::StateLoad>) -> Routed {
    let (router, own, mut params) = (call.router.clone(), call.client.workspace(), call.params);
    later(async move {
        let workspace = meant(&router, Some(&params.document), params.workspace, own).await?;
        if params.document == SESSIONS {
            return index::get(router.shared(), None, workspace).await;
        }
        params.workspace = Some(workspace);
        let value = router.documents().load(&params).await?;
        router.shared().take_settings(router.documents());
        Ok(json_of(&value))
    })
}

pub(in crate::server) fn save(call: Call<'_, m::StateSave>) -> Routed {
    let (router, own, mut params) = (call.router.clone(), call.client.workspace(), call.params);
    later(async move {
        if params.document == SESSIONS {
            return Ok("{}".to_owned());
        }
        let document = Some(params.document.as_str());
        params.workspace = Some(meant(&router, document, params.workspace, own).await?);
        Ok(json_of(&router.documents().save(&params).await?))
    })
}

pub(in crate::server) fn reload(call: Call<'_, m::DaemonReload>) -> Routed {
    let router = call.router.clone();
    later(async move {
        for document in router.documents().names() {
            let params = StateDocumentParams { document: document.to_owned(), workspace: None };
            router.documents().load(&params).await?;
        }
        router.shared().take_settings(router.documents());
        Ok("{}".to_owned())
    })
}

pub(in crate::server) fn follow(call: Call<'_, m::StateFollow>) -> Routed {
    let (router, own, mut params) = (call.router.clone(), call.client.workspace(), call.params);
    let out = call.client.out.clone();
    Ok(Work::LaterAndOn(Box::pin(async move {
        let workspace = meant(&router, Some(&params.document), params.workspace, own).await?;
        if params.document == SESSIONS {
            return index::follow(router.shared(), out, workspace).await;
        }
        params.workspace = Some(workspace);
        let (value, changes) = router.documents().subscribe(&params).await?;
        let on: BoxFuture<'static, ()> = Box::pin(tell(Arc::clone(router.shared()), out, changes));
        Ok((json_of(&value), on))
    })))
}

/// Tells a client of each change, until one of the two ends.
async fn tell(shared: Arc<Shared>, out: Out, mut changes: Follow) {
    let mut send = async || {
        loop {
            let params = json_of(&*changes.next().await);
            let line = notification_line("state", &params);
            if out.send(Line::Own(line)).await.is_none() {
                return;
            }
        }
    };
    tokio::select! {
        () = send() => {}
        () = out.closed() => {}
        () = shared.stop.finished() => {}
    }
}

/// Whose document is meant: that of the workspace that is named, else of the connection's, where a
/// workspace can have such a document; else the user's.
async fn meant(
    router: &Router,
    document: Option<&str>,
    named: Option<Option<String>>,
    own: Option<String>,
) -> Result<Option<String>, Error> {
    let of_workspaces = document.is_none_or(|it| router.documents().of_workspaces(it));
    workspace_path(named.unwrap_or_else(|| own.filter(|_| of_workspaces))).await
}

/// Refuses a change of what the daemon makes itself.
fn may_change(document: &str) -> Result<(), Error> {
    if document == SESSIONS {
        let message = "`sessions` is made by the daemon; use the methods `session/...`";
        return Err(Error::new(Kind::Denied, message));
    }
    Ok(())
}
