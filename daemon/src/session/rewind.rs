//! Where a thread goes back to before a task starts: looked up, since a session holds no messages.

use serde::Deserialize;
use sess_protocol::id::{MessageId, TaskId, ThreadId};
use sess_protocol::things::Task;
use sess_protocol::view::Members;

use super::actor::Actor;
use super::state::{State, read};
use super::steering::Move;
use crate::store::{MessagePage, StoreError};

/// Messages that are read at a time: what is taken back lies near the end mostly.
const PAGE: u32 = 20;

/// What is read of a message.
#[derive(Deserialize)]
struct Link {
    id: MessageId,
    #[serde(default)]
    parent: Option<MessageId>,
}

impl Actor {
    /// The move that the next task of the queue begins with, if it begins with one.
    pub(super) async fn move_before_next(&self) -> Result<Option<Move>, StoreError> {
        self.move_before(&self.state).await
    }

    /// The same in a state that is not saved yet.
    pub(super) async fn move_before(&self, state: &State) -> Result<Option<Move>, StoreError> {
        let Some(next) = state.queue().first().and_then(|it| state.task(*it)) else {
            return Ok(None);
        };
        // One that goes on after a restart has moved its thread when it started.
        if next.started_at.is_some() {
            return Ok(None);
        }
        if next.retry_of.is_some() {
            return self.move_to_request(&next).await;
        }
        let Some(replaces) = next.replaces.filter(|it| it.rollback) else { return Ok(None) };
        let Some(replaced) = self.whole_task(replaces.task).await? else { return Ok(None) };
        let thread = replaced.thread.unwrap_or_else(|| self.state.thread());
        let Some((head, messages)) = self.before(&thread, replaced.request.message).await? else {
            return Ok(None);
        };
        Ok(Some(Move { task: next.id, thread, head, messages, why: "rollback" }))
    }

    async fn whole_task(&self, id: TaskId) -> Result<Option<Task>, StoreError> {
        let found: Option<(_, Members)> = self.shared.store.task(id).await?;
        Ok(found.and_then(|(_, members)| read(&members.into())))
    }

    /// The message before this one on a thread's path, and how many lie up to it; `None` when this
    /// one is not on the path.
    pub(super) async fn before(
        &self,
        thread: &ThreadId,
        message: MessageId,
    ) -> Result<Option<(Option<MessageId>, u64)>, StoreError> {
        let Some(head) = self.state.head(thread).flatten() else { return Ok(None) };
        let (mut left, mut before) = (self.state.path_length(thread), None);
        loop {
            let page = MessagePage { head, before, after: None, limit: PAGE };
            let Some(page) = self.shared.store.messages(self.state.id, page).await? else {
                return Ok(None);
            };
            for raw in page.messages.iter().rev() {
                let link: Link = serde_json::from_str(raw.get())
                    .map_err(|err| StoreError::Damaged(format!("a message: {err}")))?;
                left = left.saturating_sub(1);
                if link.id == message {
                    return Ok(Some((link.parent, left)));
                }
                before = Some(link.id);
            }
            if !page.more {
                return Ok(None);
            }
        }
    }
}
