//! What does the daemon do by itself as time goes by: a copy of the store a day, and its own end when
//! nobody needs it?

use std::sync::Arc;
use std::time::Duration;

use sess_protocol::time::Timestamp;
use tokio::time::Instant;

use crate::documents::{Documents, Settings};
use crate::server::router::Router;
use crate::shared::{DRAIN, Shared};

/// How old the newest copy may be.
const BACKUP_EVERY_MS: i64 = 24 * 3_600 * 1_000;
/// How often it is looked whether a copy is due, and how long after one that failed. The clock of waits
/// stands still while a computer sleeps, so none is as long as a day.
const BACKUP_LOOK: Duration = Duration::from_secs(900);
/// In how many looks the time without anybody is measured.
const IDLE_LOOKS: u32 = 4;

/// Begins both; they end with the daemon.
pub fn begin(router: &Router) {
    let (shared, documents) = (Arc::clone(router.shared()), router.documents().clone());
    let own = Arc::clone(&shared);
    own.tracker.spawn(async move {
        tokio::select! { () = back_up(&shared, &documents) => {}, () = shared.stop.stopping() => {} }
    });
    let own = router.clone();
    router.shared().tracker.spawn(async move {
        tokio::select! { () = end_idle(&own) => {}, () = own.shared().stop.stopping() => {} }
    });
}

/// Makes a copy whenever the newest is a day old, as long as the settings say so.
async fn back_up(shared: &Shared, documents: &Documents) {
    let mut changed = documents.changed();
    loop {
        let settings = documents.settings();
        let newest = shared.store.backed_up_at();
        if settings.backs_up_daily() && is_due(newest, shared.world.now()) {
            match shared.store.back_up(settings.backups_kept()).await {
                Ok(made) => {
                    tracing::info!(path = %made.path.display(), bytes = made.bytes, "backed up for the day");
                }
                Err(err) => {
                    tracing::warn!(%err, "no backup was made for the day; it is tried again");
                    tokio::time::sleep(BACKUP_LOOK).await;
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(BACKUP_LOOK) => {}
            Ok(()) = changed.changed() => {}
        }
    }
}

/// Whether a day has passed since the newest copy. One that is of tomorrow was made by another clock, and
/// says nothing.
fn is_due(newest: Option<Timestamp>, now: Timestamp) -> bool {
    newest.is_none_or(|it| !(0..BACKUP_EVERY_MS).contains(&(now.0 - it.0)))
}

/// Ends the daemon when for as long as the settings say no client was connected and no task was there.
async fn end_idle(router: &Router) {
    let shared = router.shared();
    let mut changed = router.documents().changed();
    loop {
        let Some(limit) = idle_limit(&router.documents().settings()) else {
            if changed.changed().await.is_err() {
                return;
            }
            // What holds from now on is measured from now on.
            shared.needed();
            continue;
        };
        if router.clients() > 0 || has_tasks(shared).await {
            shared.needed();
        }
        if router.clients() == 0 && shared.needed_at().elapsed() >= limit {
            tracing::info!(idle_s = limit.as_secs(), "nobody needs the daemon; ending");
            shared.stop.begin(DRAIN);
            return;
        }
        let next = (shared.needed_at() + limit).min(Instant::now() + limit / IDLE_LOOKS);
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            Ok(()) = changed.changed() => {}
        }
    }
}

fn idle_limit(settings: &Settings) -> Option<Duration> {
    Some(settings.idle_exit()).filter(|it| !it.is_zero())
}

/// Whether anything runs, waits or is queued. What cannot be told counts as something.
async fn has_tasks(shared: &Shared) -> bool {
    let counts = shared.store.counts().await;
    counts.map_or(true, |it| it.running + it.queued + it.waiting > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_due_a_day_after_the_newest() {
        let day = BACKUP_EVERY_MS;
        for (newest, due) in [
            (None, true),
            (Some(0), true),
            (Some(1), false),
            (Some(day), false),
            (Some(day + 1), true),
        ] {
            assert_eq!(is_due(newest.map(Timestamp), Timestamp(day)), due, "{newest:?}");
        }
    }
}
