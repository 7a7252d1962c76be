//! `message/*` and `thread/*`: what was said, and on which paths.

use serde_json::{Value, json};
use sess_protocol::error::Error;
use sess_protocol::id::{MessageId, ThreadId};
use sess_protocol::methods as m;

use super::super::beside::beside;
use super::super::find;
use super::super::params::{bad_cursor, plain_limit};
use super::super::router::{Call, Routed, later};
use super::super::views::{id_of, joined, page_of, size_of, view_of};
use crate::session::command::ViewNow;
use crate::store::MessagePage;

/// Where a page of messages goes on.
enum Bound {
    Before(MessageId),
    After(MessageId),
}

fn read_cursor(text: &str) -> Result<Bound, Error> {
    let (way, id) = text.split_once(':').ok_or_else(bad_cursor)?;
    let id = id.parse().map_err(|_| bad_cursor())?;
    match way {
        "before" => Ok(Bound::Before(id)),
        "after" => Ok(Bound::After(id)),
        _ => Err(bad_cursor()),
    }
}

pub(in crate::server) fn list(call: Call<'_, m::MessageList>) -> Routed {
    let shared = call.shared();
    let params = call.params;
    let limit = plain_limit(params.limit)?;
    let given = [&params.before, &params.after, &params.cursor];
    if given.iter().filter(|it| it.is_some()).count() > 1 {
        let message = "give one of `before`, `after` and `cursor`";
        return Err(Error::invalid("cursor", message));
    }
    later(async move {
        let session = find::session(&shared, &params.session).await?;
        let bound = match (&params.before, &params.after, &params.cursor) {
            (Some(id), _, _) => Some(Bound::Before(find::message(&shared, id).await?)),
            (_, Some(id), _) => Some(Bound::After(find::message(&shared, id).await?)),
            (_, _, Some(cursor)) => Some(read_cursor(cursor)?),
            _ => None,
        };
        let now = view_of(&shared, session).await?;
        let Some(head) = head_of(&now, params.thread.as_deref())? else {
            return Ok(json!({ "messages": [] }).to_string());
        };
        let (before, after) = match bound {
            Some(Bound::Before(id)) => (Some(id), None),
            Some(Bound::After(id)) => (None, Some(id)),
            None => (None, None),
        };
        let page = page_of(&shared, session, MessagePage { head, before, after, limit }).await?;
        let next = match after {
            Some(_) => page.messages.last().map(|it| format!("after:{}", id_of(it))),
            None => page.messages.first().map(|it| format!("before:{}", id_of(it))),
        };
        let next = next.filter(|_| page.more);
        let behind = next.map(|it| format!(",\"next\":\"{it}\"")).unwrap_or_default() + "}";
        let (bytes, messages) = (size_of(&page.messages), page.messages);
        Ok(beside(bytes, move || joined("{\"messages\":", &messages, &behind)).await)
    })
}

/// The newest message of a thread, or of the current one.
pub(super) fn head_of(now: &ViewNow, thread: Option<&str>) -> Result<Option<MessageId>, Error> {
    let Some(thread) = thread else { return Ok(now.head) };
    let threads = now.snapshot.get("threads").and_then(Value::as_array);
    let named = |it: &&Value| it.get("id").and_then(Value::as_str) == Some(thread);
    let found = threads.and_then(|it| it.iter().find(named));
    let found = found.ok_or_else(|| Error::not_found("thread", thread))?;
    Ok(found.get("head").and_then(Value::as_str).and_then(|it| it.parse().ok()))
}

pub(in crate::server) fn threads(call: Call<'_, m::ThreadList>) -> Routed {
    let shared = call.shared();
    let params = call.params;
    let limit = plain_limit(params.limit)? as usize;
    later(async move {
        let session = find::session(&shared, &params.session).await?;
        let mut now = view_of(&shared, session).await?;
        let threads = now.snapshot.remove("threads").unwrap_or_default();
        let Value::Array(mut threads) = threads else { return Ok("{\"threads\":[]}".to_owned()) };
        threads.reverse();
        if let Some(cursor) = params.cursor.map(ThreadId) {
            let named = |it: &Value| it.get("id").and_then(Value::as_str) == Some(&cursor.0);
            let at = threads.iter().position(named).ok_or_else(bad_cursor)?;
            threads.drain(..=at);
        }
        let more = threads.len() > limit;
        threads.truncate(limit);
        let next = threads.last().and_then(|it| it.get("id")).cloned().filter(|_| more);
        let mut result = json!({ "threads": threads });
        if let Some(next) = next {
            result["next"] = next;
        }
        Ok(result.to_string())
    })
}
