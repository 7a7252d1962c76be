//! What a start makes of what the last end left: tasks settled, locks let go, queues set going.

use std::sync::Arc;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use sess_protocol::error::Error;
use sess_protocol::event::{ReleaseReason, SessionDeleted};
use sess_protocol::id::SessionId;
use sess_protocol::things::{By, TaskReason, TaskStatus};
use sess_protocol::time::Timestamp;
use sess_protocol::view::Members;

use super::command::Origin;
use super::content::put_apart;
use super::ending::{Answer, Ending};
use super::state::{Change, State};
use super::writing::content_of;
use crate::shared::Shared;
use crate::store::{Commit, Loaded, NewBlob, PartialText, SessionFilter, Store, StoreError};
use crate::world::World;

/// Sessions that are looked at together.
const PAGE: u32 = 200;
/// Sessions that are settled at the same time: their commits share their fsyncs, and a start is short.
const SETTLED_AT_ONCE: usize = 32;

/// A label of the store that is further ahead of the clock says nothing of any clock: somebody wrote it.
const AHEAD_MS_MAX: i64 = 20 * 366 * 86_400_000;

/// An id of version 7 begins with its moment in milliseconds, and 80 bits stand behind it (RFC 9562).
const ID_MOMENT_SHIFT: u32 = 80;

/// The newest moments that the store knows: of an id, and of an activation or a clear. What is made from here on is to
/// come behind them, whatever the clock says.
///
/// # Errors
/// The store cannot read.
pub async fn newest(
    store: &dyn Store,
    now: Timestamp,
) -> Result<(Timestamp, Timestamp), StoreError> {
    let most = now.0.saturating_add(AHEAD_MS_MAX);
    let until = u128::from(most.unsigned_abs()) << ID_MOMENT_SHIFT;
    let id = store.newest_id(until).await?.unwrap_or(0);
    let mut made = i64::try_from(id >> ID_MOMENT_SHIFT).unwrap_or(0);
    if crate::sabotage::is("ids_start_anew") {
        made = 0;
    }
    let mut active = 0;
    // Clears lie in the log of facts of no session.
    let clear = (Some(SessionId::GLOBAL), "updated_at");
    for (session, label) in [clear, (store.active(None).await?, "active_at")] {
        let Some(session) = session else { continue };
        let Some(loaded) = store.load(session).await? else { continue };
        let at = loaded.view.session().get(label).and_then(|it| it.as_str()?.parse().ok());
        let at = at.map_or(0, |it: Timestamp| it.0);
        active = active.max(if at < most { at } else { 0 });
    }
    Ok((Timestamp(made), Timestamp(active)))
}

/// Settles every session that needs it, before any request is served; answers those whose queue
/// waits to be set going.
///
/// # Errors
/// The store cannot read or write.
pub async fn settle_all(shared: &Arc<Shared>) -> Result<Vec<SessionId>, StoreError> {
    let mut waiting = Vec::new();
    let mut behind = None;
    loop {
        let filter =
            SessionFilter { unsettled: true, limit: PAGE, behind, ..SessionFilter::default() };
        let page = shared.store.sessions(filter).await?;
        // What is settled changes its place in the order, so the next page starts behind the last
        // one as it was.
        let places: Vec<_> = page.iter().map(place_of).collect();
        behind = places.last().copied();
        let settling = places.iter().map(|(_, id)| async move {
            settle_at_start(shared, *id).await.map(|waits| waits.then_some(*id))
        });
        let settled = stream::iter(settling).buffered(SETTLED_AT_ONCE);
        waiting.extend(settled.try_collect::<Vec<_>>().await?.into_iter().flatten());
        if page.len() < PAGE as usize {
            return Ok(waiting);
        }
    }
}

fn place_of(members: &Members) -> (i64, SessionId) {
    let text = |name: &str| members.get(name).and_then(serde_json::Value::as_str).unwrap_or("");
    let at: Timestamp = text("updated_at").parse().unwrap_or_default();
    (at.0, text("id").parse().unwrap_or(SessionId::GLOBAL))
}

/// Settles one session at a start; answers whether its queue waits.
async fn settle_at_start(shared: &Arc<Shared>, id: SessionId) -> Result<bool, StoreError> {
    let Some(Loaded { view, .. }) = shared.store.load(id).await? else { return Ok(false) };
    let state = State::new(id, view);
    if state.view().session().contains_key("ephemeral") && !state.is_busy() {
        delete(shared, id).await;
        return Ok(false);
    }
    settle(shared, id, TaskReason::Crash).await
}

/// Settles one session that is in no memory; answers whether its queue waits.
pub(super) async fn settle(
    shared: &Arc<Shared>,
    id: SessionId,
    reason: TaskReason,
) -> Result<bool, StoreError> {
    let Some(Loaded { view, hash, partial }) = shared.store.load(id).await? else {
        return Ok(false);
    };
    let state = State::new(id, view);
    let mut change = state.change(shared.world.now());
    let blobs = settle_change(&mut change, partial, reason, &*shared.world);
    let waits = change.state.count("queued") > 0;
    if !change.events.is_empty() {
        let mut commit = Commit::new(id, hash, change.events);
        commit.blobs = blobs;
        shared.store.commit(commit).await?;
        tracing::info!(session = %id, "settled after the last end");
    }
    Ok(waits)
}

/// Adds what settles a session: the lock let go, the task that ran interrupted with its text.
fn settle_change(
    change: &mut Change,
    partial: Option<PartialText>,
    reason: TaskReason,
    world: &dyn World,
) -> Vec<NewBlob> {
    if change.state.lock().is_some() {
        change.release(ReleaseReason::Restart, None);
    }
    let running = change.state.running().filter(|_| !crate::sabotage::is("no_settling"));
    let Some(task) = running else { return Vec::new() };
    let status = change.state.task(task).map(|it| it.status);
    if status == Some(TaskStatus::Waiting) {
        return Vec::new();
    }
    let mut answer = Answer::default();
    let mut blobs = Vec::new();
    if let Some(partial) = partial.filter(|it| it.task == task) {
        answer.message = Some(partial.message);
        answer.content = content_of(partial);
        answer.asked = true;
        blobs = put_apart(&mut answer.content);
    }
    change.end(task, Ending::Interrupted(reason), answer, None, world);
    blobs
}

async fn delete(shared: &Arc<Shared>, id: SessionId) {
    let by = By { client: "sessd".to_owned(), pid: shared.world.process() };
    let (key, expect_seq, expect_head) = (None, None, None);
    let origin = Origin { connection: 0, by, key, expect_seq, expect_head };
    let fact = SessionDeleted { deleted: id, backups: Vec::new() };
    let outcome: Result<String, Error> = shared.append_global(fact.into(), origin).await;
    if let Err(err) = outcome {
        tracing::warn!(session = %id, %err, "a session made in passing could not be removed");
    }
}

/// Sets the queues going that wait from before the start.
pub async fn set_going(shared: &Arc<Shared>, waiting: Vec<SessionId>) {
    for id in waiting.into_iter().filter(|_| !crate::sabotage::is("no_requeue")) {
        if let Err(err) = shared.sessions.get(shared, id).await {
            tracing::warn!(session = %id, %err, "a queue could not be set going");
        }
    }
}
