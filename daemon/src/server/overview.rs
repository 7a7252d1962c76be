//! All sessions at a glance: each whole when it changes, at most four times a second.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sess_protocol::envelope::notification_line;
use sess_protocol::error::Kind;
use sess_protocol::id::SessionId;
use sess_protocol::view::Members;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use super::out::{Line, Out};
use super::views::view_of;
use crate::session::command::Outcome;
use crate::shared::Shared;
use crate::store::SessionFilter;

/// How long a session that was told is not told again.
const EACH: Duration = Duration::from_millis(250);

/// Answers with the sessions there are, and goes on telling those that change.
pub(super) async fn begin(shared: Arc<Shared>, out: Out, limit: u32) -> Outcome {
    // Listening begins first: what changes while the list is read is told behind it.
    let changes = shared.changes.subscribe();
    let sessions = list(&shared, limit).await?;
    let watch = Watch { shared: Arc::clone(&shared), out, limit, told: BTreeMap::new() };
    shared.tracker.spawn(watch.run(changes));
    Ok(json!({ "sessions": sessions, "approvals": [] }).to_string())
}

/// Sessions: those at work first, then the latest.
async fn list(
    shared: &Arc<Shared>,
    limit: u32,
) -> Result<Vec<Members>, sess_protocol::error::Error> {
    let filter = SessionFilter { limit, ..SessionFilter::default() };
    let unsettled = SessionFilter { unsettled: true, ..filter.clone() };
    let mut sessions = Vec::new();
    for filter in [unsettled, filter] {
        let found = shared.store.sessions(filter).await.map_err(|err| shared.refusal(err))?;
        for mut members in found {
            let id = members.get("id").and_then(Value::as_str).and_then(|it| it.parse().ok());
            let known = sessions.iter().any(|it: &Members| it.get("id") == members.get("id"));
            if known || sessions.len() >= limit as usize {
                continue;
            }
            let followers = id.map_or(0, |it| shared.sessions.followers(it));
            members.insert("followers".to_owned(), followers.into());
            sessions.push(members);
        }
    }
    sessions.sort_by_key(|it| !it.contains_key("running"));
    Ok(sessions)
}

/// One who follows all sessions.
struct Watch {
    shared: Arc<Shared>,
    out: Out,
    limit: u32,
    /// When each session was told last, and whether it changed since.
    told: BTreeMap<SessionId, (Instant, bool)>,
}

impl Watch {
    async fn run(mut self, mut changes: tokio::sync::broadcast::Receiver<SessionId>) {
        loop {
            let due = self.told.values().filter(|it| it.1).map(|it| it.0 + EACH).min();
            let changed = tokio::select! {
                biased;
                changed = changes.recv() => changed,
                () = self.out.closed() => return,
                () = self.shared.stop.finished() => return,
                () = at(due) => {
                    if self.tell_due().await.is_none() {
                        return;
                    }
                    continue;
                }
            };
            match changed {
                Ok(id) if id == SessionId::GLOBAL => {}
                Ok(id) => {
                    let now = Instant::now();
                    let at = now.checked_sub(EACH).unwrap_or(now);
                    self.told.entry(id).or_insert((at, true)).1 = true;
                }
                // Too much changed to know what: all of it is told.
                Err(RecvError::Lagged(_)) => self.all_changed().await,
                Err(RecvError::Closed) => return,
            }
        }
    }

    async fn all_changed(&mut self) {
        let now = Instant::now();
        for members in list(&self.shared, self.limit).await.unwrap_or_default() {
            let id = members.get("id").and_then(Value::as_str).and_then(|it| it.parse().ok());
            if let Some(id) = id {
                self.told.entry(id).or_insert((now, true)).1 = true;
            }
        }
    }

    /// Tells the sessions whose time has come. `None` when there is nobody to tell.
    async fn tell_due(&mut self) -> Option<()> {
        let now = Instant::now();
        let due =
            |(id, it): (&SessionId, &(Instant, bool))| (it.1 && it.0 + EACH <= now).then_some(*id);
        let due: Vec<SessionId> = self.told.iter().filter_map(due).collect();
        for id in due {
            let params = match view_of(&self.shared, id).await {
                Ok(mut now) => now.snapshot.remove("session").unwrap_or_default(),
                Err(err) if err.kind() == Kind::NotFound => {
                    json!({ "id": id, "deleted": true })
                }
                Err(_) => continue,
            };
            let line = notification_line("session", &params.to_string());
            self.out.send(Line::Own(line)).await?;
            self.told.insert(id, (now, false));
        }
        // What was told long ago and is quiet need not be remembered.
        self.told.retain(|_, it| it.1 || it.0 + EACH > now);
        Some(())
    }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
