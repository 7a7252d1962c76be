//! `initialize` and `daemon/*`: who the daemon is, how it is, its end, all sessions at a glance.

use std::time::Duration;

use serde_json::{Value, json};
use sess_protocol::envelope::{
    CONNECTIONS_MAX, KEY_BYTES_MAX, PROTOCOL, REQUESTS_MAX, UNFINISHED_BYTES_MAX,
};
use sess_protocol::error::{Error, Kind};
use sess_protocol::line::{DEPTH_MAX, LINE_BYTES_MAX};
use sess_protocol::methods as m;
use sess_protocol::methods::{
    BLOB_PIECE_BYTES_MAX, Backup, BackupResult, DaemonInfo, DaemonStatusResult, InitializeResult,
    METHODS, PAGE_MAX, QUEUE_MAX, Role, SessionCounts, StoreInfo, StoreStatus, TaskCounts,
};

use super::super::overview;
use super::super::params::page_limit;
use super::super::router::{Call, Routed, Work, json_of, later};
use crate::documents::settings::BACKUPS_KEPT_MAX;
use crate::shared::{DRAIN, RESTART_DRAIN};

/// Bytes of a client's name.
const CLIENT_NAME_BYTES_MAX: usize = 128;
/// Sessions in the answer to `daemon/follow` when nothing else is asked for.
const OVERVIEW_DEFAULT: u32 = 200;

pub(in crate::server) fn initialize(call: Call<'_, m::Initialize>) -> Routed {
    let params = call.params;
    if params.protocol != PROTOCOL {
        let message = format!("this daemon speaks protocol {PROTOCOL}, not {}", params.protocol);
        return Err(Error::new(Kind::Unsupported, message)
            .with("supported", vec![PROTOCOL])
            .hint("use a client and a daemon of the same version"));
    }
    if params.client.name.is_empty() || params.client.name.len() > CLIENT_NAME_BYTES_MAX {
        let message = format!("`client.name` has 1 to {CLIENT_NAME_BYTES_MAX} bytes");
        return Err(Error::invalid("client", message));
    }
    if params.workspace.as_ref().is_some_and(|it| !it.starts_with('/')) {
        return Err(Error::invalid("workspace", "a workspace is named by an absolute path"));
    }
    let was_observer = call.client.is_observer();
    if was_observer && params.role == Some(Role::Driver) {
        let message = "an observer stays one as long as its connection lasts";
        return Err(Error::new(Kind::Denied, message).hint("open another connection"));
    }
    let role = if was_observer { Role::Observer } else { params.role.unwrap_or(Role::Driver) };
    call.client.introduce(params.client.name, role, params.workspace);
    let shared = call.router.shared();
    let store = &shared.store;
    let limits = json!({
        "line_bytes": LINE_BYTES_MAX,
        "depth": DEPTH_MAX,
        "unfinished_bytes": UNFINISHED_BYTES_MAX,
        "requests": REQUESTS_MAX,
        "connections": CONNECTIONS_MAX,
        "key_bytes": KEY_BYTES_MAX,
        "queue": QUEUE_MAX,
        "page": PAGE_MAX,
        "blob_piece_bytes": BLOB_PIECE_BYTES_MAX,
    });
    let Value::Object(limits) = limits else { unreachable!("limits are an object") };
    Ok(Work::Done(json_of(&InitializeResult {
        protocol: PROTOCOL,
        daemon: DaemonInfo {
            name: "sessd".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: shared.world.process(),
        },
        store: StoreInfo { kind: store.kind().to_owned(), history: store.history().to_owned() },
        capabilities: METHODS.iter().map(|it| it.name.to_owned()).collect(),
        limits,
    })))
}

pub(in crate::server) fn status(call: Call<'_, m::DaemonStatus>) -> Routed {
    let router = call.router.clone();
    later(async move {
        let shared = router.shared();
        let counts = shared.store.counts().await.map_err(|err| shared.refusal(err))?;
        let queues = json!({
            "mailboxes": shared.sessions.waiting(),
            "tasks": shared.slots.taken(),
        });
        let Value::Object(queues) = queues else { unreachable!("queues are an object") };
        let uptime = u64::try_from(router.started().elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(json_of(&DaemonStatusResult {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: shared.world.process(),
            uptime_ms: uptime,
            store: StoreStatus {
                kind: shared.store.kind().to_owned(),
                history: shared.store.history().to_owned(),
                path: shared.store.path(),
                bytes: counts.bytes,
            },
            sessions: SessionCounts {
                stored: counts.sessions,
                live: shared.sessions.count() as u64,
            },
            tasks: TaskCounts {
                running: counts.running,
                queued: counts.queued,
                waiting: counts.waiting,
            },
            clients: router.clients() as u64,
            rss_bytes: rss_bytes(),
            queues,
        }))
    })
}

fn rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|it| it.strip_prefix("VmRSS:")).unwrap_or("");
    let kib = line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0);
    kib * 1024
}

pub(in crate::server) fn shutdown(call: Call<'_, m::DaemonShutdown>) -> Routed {
    let drain = if call.params.drain.unwrap_or(true) { DRAIN } else { Duration::ZERO };
    tracing::info!(by = %call.client.by().client, "asked to stop");
    call.router.shared().stop.begin(drain);
    Ok(Work::Done("{}".to_owned()))
}

pub(in crate::server) fn restart(call: Call<'_, m::DaemonRestart>) -> Routed {
    tracing::info!(by = %call.client.by().client, "asked to restart");
    call.router.shared().stop.begin_restart(RESTART_DRAIN);
    Ok(Work::Done("{}".to_owned()))
}

pub(in crate::server) fn backup(call: Call<'_, m::DaemonBackup>) -> Routed {
    let set = || call.router.documents().settings().backups_kept();
    let keep = call.params.keep.map_or_else(set, |it| it as usize);
    if !(1..=BACKUPS_KEPT_MAX as usize).contains(&keep) {
        let message = format!("`keep` is {keep}: 1 to {BACKUPS_KEPT_MAX}");
        return Err(Error::new(Kind::InvalidParams, message).with("param", "keep"));
    }
    let shared = call.shared();
    later(async move {
        let made = shared.store.back_up(keep).await.map_err(|err| shared.refusal(err))?;
        tracing::info!(path = %made.path.display(), bytes = made.bytes, "backed up");
        Ok(json_of(&BackupResult {
            backup: Backup {
                path: made.path.display().to_string(),
                bytes: made.bytes,
                sessions: made.sessions,
                at: made.at,
            },
        }))
    })
}

pub(in crate::server) fn follow(call: Call<'_, m::DaemonFollow>) -> Routed {
    let limit = page_limit(call.params.limit, OVERVIEW_DEFAULT)?;
    let (shared, out) = (call.shared(), call.client.out.clone());
    later(async move { overview::begin(shared, out, limit).await })
}
