//! How a follower hears of every change of a document, or of the whole when it was too slow.

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::place::Place;
use super::shared::Shared;

/// How many changes a follower may be behind before it is given the whole document instead.
pub(super) const CHANGES_MAX: usize = 16;

/// One change: the params of a `state` notification.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// The document.
    pub document: &'static str,
    /// The key; none when the value is the whole document.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// What holds from now on; null when the key was removed.
    pub value: Value,
    /// The workspace whose document it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspace: Option<String>,
}

/// The changes of one document. To stop following, drop it.
#[derive(Debug)]
pub struct Follow {
    shared: Arc<Shared>,
    place: Place,
    changes: Receiver<Arc<Change>>,
}

impl Follow {
    /// `None` where the document is not in memory.
    pub(super) fn begin(shared: &Arc<Shared>, place: &Place) -> Option<(Value, Self)> {
        let documents = shared.held();
        let held = documents.get(place)?;
        let value = Arc::clone(&held.value);
        let changes = held.changes.subscribe();
        drop(documents);
        let value = shared.shown(place, &value);
        Some((value, Self { shared: Arc::clone(shared), place: place.clone(), changes }))
    }

    /// Waits for the next change. May be dropped at any moment without losing one.
    pub async fn next(&mut self) -> Arc<Change> {
        match self.changes.recv().await {
            Ok(change) => change,
            Err(RecvError::Lagged(_)) => {
                let (value, again) = Self::begin(&self.shared, &self.place)
                    .expect("what is followed stays in memory");
                *self = again;
                let document = self.shared.kinds[self.place.kind].name;
                let workspace = self.place.workspace.as_deref().map(str::to_owned);
                Arc::new(Change { document, key: None, value, workspace })
            }
            Err(RecvError::Closed) => {
                unreachable!("the sender lives as long as the store, which this holds")
            }
        }
    }
}
