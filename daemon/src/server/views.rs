//! Views and pages put together: what the session holds in memory with the messages from disk.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use sess_protocol::error::Error;
use sess_protocol::id::{MessageId, SessionId};
use sess_protocol::view::Members;

use super::beside::beside;
use crate::session::command::{Command, Moment, ViewNow};
use crate::session::state::State;
use crate::session::{Later, view};
use crate::shared::Shared;
use crate::store::{MessagePage, Messages};

/// Bytes of messages in one answer: under the limit of a line, with room for the rest of it.
pub(super) const ANSWER_BYTES_MAX: usize = 3 * 1024 * 1024;

/// The view of a session as it is: from memory when it is there, else from disk.
///
/// # Errors
/// The session is not there, or cannot be read.
pub(super) async fn view_of(shared: &Arc<Shared>, id: SessionId) -> Result<ViewNow, Error> {
    if let Some(handle) = shared.sessions.live(id) {
        let (command, later) = view();
        if handle.send(command).await.is_ok()
            && let Ok(now) = later.answer().await
        {
            return Ok(now);
        }
    }
    let loaded = shared.store.load(id).await.map_err(|err| shared.refusal(err))?;
    let loaded = loaded.ok_or_else(|| Error::not_found("session", &id.to_string()))?;
    let state = State::new(id, loaded.view);
    Ok(ViewNow {
        snapshot: state.snapshot(0),
        head: state.head(&state.thread()).flatten(),
        seq: state.seq(),
        hash: loaded.hash,
    })
}

/// The same with what is unfinished at that moment.
///
/// # Errors
/// The session is not there, or cannot be read.
pub(super) async fn moment_of(shared: &Arc<Shared>, id: SessionId) -> Result<Moment, Error> {
    if let Some(handle) = shared.sessions.live(id) {
        let (reply, later) = Later::new();
        if handle.send(Command::Moment(reply)).await.is_ok()
            && let Ok(moment) = later.answer().await
        {
            return Ok(*moment);
        }
    }
    Ok(Moment { now: view_of(shared, id).await?, live: None })
}

/// The whole view as JSON, with the newest messages of the path that ends at `head`.
///
/// # Errors
/// The messages cannot be read.
pub(super) async fn whole_view(
    shared: &Shared,
    id: SessionId,
    snapshot: Members,
    head: Option<MessageId>,
    count: u32,
) -> Result<String, Error> {
    let page = match head {
        Some(head) if count > 0 => {
            let page = MessagePage { head, before: None, after: None, limit: count };
            page_of(shared, id, page).await?
        }
        _ => Messages { messages: Vec::new(), more: head.is_some() },
    };
    let oldest = page.messages.first().filter(|_| page.more);
    let before = oldest.map(|it| format!(",\"before\":\"{}\"", id_of(it))).unwrap_or_default();
    let bytes = size_of(&page.messages);
    let whole = move || {
        let mut text = Value::Object(snapshot).to_string();
        text.pop();
        text.push_str(",\"messages\":");
        joined(&text, &page.messages, &format!("{before}}}"))
    };
    Ok(beside(bytes, whole).await)
}

/// A page of messages, cut to what fits in an answer.
///
/// # Errors
/// A message in its bounds is not there, or the store cannot read it.
pub(super) async fn page_of(
    shared: &Shared,
    id: SessionId,
    page: MessagePage,
) -> Result<Messages, Error> {
    let found = shared.store.messages(id, page).await.map_err(|err| shared.refusal(err))?;
    let mut found = found.ok_or_else(|| {
        let bound = page.before.or(page.after).unwrap_or(page.head);
        Error::not_found("message", &bound.to_string())
    })?;
    let newer = page.after.is_some();
    let count = found.messages.len();
    let sizes = found.messages.iter().map(|it| it.get().len() + 1);
    let fit = if newer { fitting(sizes) } else { fitting(sizes.rev()) };
    let fit = fit.max(1).min(count);
    if fit < count {
        found.more = true;
        if newer {
            found.messages.truncate(fit);
        } else {
            found.messages.drain(..count - fit);
        }
    }
    Ok(found)
}

/// How many of these sizes fit in an answer.
fn fitting(sizes: impl Iterator<Item = usize>) -> usize {
    let sums = sizes.scan(0, |sum, size| {
        *sum += size;
        Some(*sum)
    });
    sums.take_while(|it| *it <= ANSWER_BYTES_MAX).count()
}

/// Things between two texts, as one JSON array.
#[must_use]
pub(super) fn joined(before: &str, items: &[Box<RawValue>], behind: &str) -> String {
    let mut text = String::with_capacity(before.len() + size_of(items) + behind.len());
    text.push_str(before);
    text.push('[');
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        text.push_str(item.get());
    }
    text.push(']');
    text.push_str(behind);
    text
}

/// About how many bytes these are together.
pub(super) fn size_of(items: &[Box<RawValue>]) -> usize {
    items.iter().map(|it| it.get().len() + 1).sum::<usize>() + 2
}

/// The id of a raw thing.
#[must_use]
pub(super) fn id_of(raw: &RawValue) -> String {
    #[derive(Deserialize)]
    struct Named {
        id: String,
    }
    serde_json::from_str::<Named>(raw.get()).map(|it| it.id).unwrap_or_default()
}
