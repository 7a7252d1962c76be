//! `state/*`: documents.

use sess_protocol::envelope::notification_line;
use sess_protocol::methods as m;
use sess_protocol::methods::StateDocumentParams;

use super::super::out::Line;
use super::super::router::{Call, Routed, Work, json_of, later};

pub(in crate::server) fn get(call: Call<'_, m::StateGet>) -> Routed {
    call.router.documents().get(&call.params).map(|it| Work::Done(json_of(&it)))
}

pub(in crate::server) fn all(call: Call<'_, m::StateAll>) -> Routed {
    call.router.documents().all(&call.params).map(|it| Work::Done(json_of(&it)))
}

pub(in crate::server) fn set(call: Call<'_, m::StateSet>) -> Routed {
    let (router, params) = (call.router.clone(), call.params);
    later(async move {
        let value = router.documents().set(params).await?;
        router.shared().take_settings(router.documents());
        Ok(json_of(&value))
    })
}

pub(in crate::server) fn delete(call: Call<'_, m::StateDelete>) -> Routed {
    let (router, params) = (call.router.clone(), call.params);
    later(async move {
        let empty = router.documents().delete(params).await?;
        router.shared().take_settings(router.documents());
        Ok(json_of(&empty))
    })
}

pub(in crate::server) fn load(call: Call<'_, m::StateLoad>) -> Routed {
    let (router, params) = (call.router.clone(), call.params);
    later(async move {
        let value = router.documents().load(&params).await?;
        router.shared().take_settings(router.documents());
        Ok(json_of(&value))
    })
}

pub(in crate::server) fn save(call: Call<'_, m::StateSave>) -> Routed {
    let (router, params) = (call.router.clone(), call.params);
    later(async move { Ok(json_of(&router.documents().save(&params).await?)) })
}

pub(in crate::server) fn reload(call: Call<'_, m::DaemonReload>) -> Routed {
    let router = call.router.clone();
    later(async move {
        for document in ["settings", "providers"] {
            let params = StateDocumentParams { document: document.to_owned(), workspace: None };
            router.documents().load(&params).await?;
        }
        router.shared().take_settings(router.documents());
        Ok("{}".to_owned())
    })
}

pub(in crate::server) fn follow(call: Call<'_, m::StateFollow>) -> Routed {
    let (value, mut changes) = call.router.documents().subscribe(&call.params)?;
    let out = call.client.out.clone();
    let shared = call.shared();
    let stop = call.shared();
    shared.tracker.spawn(async move {
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
            () = stop.stop.finished() => {}
        }
    });
    Ok(Work::Done(json_of(&value)))
}
