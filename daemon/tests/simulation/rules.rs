//! The rules that every event must keep, whatever led to it.

use serde_json::Value;
use sess_protocol::event::Event;
use sess_protocol::methods::QUEUE_MAX;
use sess_protocol::view::{Members, View};

use crate::model::{Blocks, Script};

/// States of a task that nothing follows.
const FINAL: [&str; 4] = ["completed", "failed", "cancelled", "interrupted"];

/// A member that is text.
pub(crate) fn text<'a>(members: &'a Members, name: &str) -> &'a str {
    members.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn number(members: &Members, name: &str) -> u64 {
    members.get(name).and_then(Value::as_u64).unwrap_or_default()
}

/// The texts of a content, as a model sees them.
fn text_of(content: &Value) -> Option<String> {
    let texts = content.as_array()?.iter().filter(|it| it["type"] == "text");
    let texts: Vec<&str> = texts.filter_map(|it| it.get("text")?.as_str()).collect();
    Some(texts.join("\n\n"))
}

/// What a message says.
pub(crate) fn said(message: &Members) -> Option<String> {
    text_of(message.get("content")?)
}

/// The blocks of a message.
pub(crate) fn blocks(message: &Members) -> Blocks {
    let content = message.get("content").and_then(Value::as_array).cloned().unwrap_or_default();
    let block =
        |it: &Value| (it["type"] == "reasoning", it["text"].as_str().unwrap_or("").to_owned());
    content.iter().map(block).collect()
}

/// What the request of an event says that brings one.
pub(crate) fn request_text(event: &Event) -> Option<String> {
    let task = event.data.get("task")?;
    let queued = task.get("request").and_then(|it| it.get("content")).and_then(text_of);
    let started = event
        .data
        .get("message")
        .and_then(Value::as_object)
        .filter(|_| event.kind == "task.started");
    queued.or_else(|| started.and_then(said))
}

/// Whether an event starts a task that waited.
pub(crate) fn is_next(event: &Event) -> bool {
    let task = event.data.get("task");
    event.kind == "task.started" && task.is_some_and(|it| it.get("created_at").is_none())
}

/// Whether a task is final.
pub(crate) fn is_final(task: &Members) -> bool {
    FINAL.contains(&text(task, "status"))
}

/// Checks an event against the view before it; answers the newest message there.
pub(crate) fn check_before(seed: u64, before: &View, event: &Event) -> Result<String, String> {
    if let Some(task) = event.data.get("task").and_then(Value::as_object) {
        task_change(before, event, task)?;
    }
    if let Some(message) = event.data.get("message").and_then(Value::as_object) {
        message_added(seed, before, event, message)?;
    }
    locks(before, event)?;
    Ok(head(before))
}

/// Checks an event against the view after it.
pub(crate) fn check_after(
    before: &str,
    asked: u64,
    event: &Event,
    after: &View,
) -> Result<(), String> {
    counters(after)?;
    let message = event.data.get("message").and_then(Value::as_object);
    let mut wanted = message.map_or(before, |it| text(it, "id"));
    if event.kind == "thread.moved" {
        moved(before, event, after)?;
        wanted = event.data["thread"]["head"].as_str().unwrap_or("");
    }
    if head(after) != wanted {
        return Err(format!("the newest message is `{}`, not `{wanted}`", head(after)));
    }
    let new = iterations(after);
    // A call that gave no message was counted by an event of its own, just before.
    let task = event.task.map(|it| it.to_string()).unwrap_or_default();
    let is_counted = message.is_none() && after.things("call").any(|it| text(it, "task") == task);
    if new != asked + 1 && (new != asked || (event.kind == "task.completed" && !is_counted)) {
        return Err(format!("`iterations` goes from {asked} to {new} at {}", event.kind));
    }
    Ok(())
}

/// A thread goes back along its path, by as many messages as it says.
fn moved(before: &str, event: &Event, after: &View) -> Result<(), String> {
    let (from, thread) = (event.data.get("from"), &event.data["thread"]);
    if from.and_then(Value::as_str) != Some(before) {
        return Err(format!("the thread moves from {from:?}, and was at `{before}`"));
    }
    let (mut at, mut left) = (thread["head"].as_str(), thread["messages"].as_u64());
    while let Some(id) = at {
        let message = after.thing("message", id).ok_or("the thread moves to no message")?;
        at = message.get("parent").and_then(Value::as_str);
        left = left.and_then(|it| it.checked_sub(1));
    }
    if left != Some(0) {
        return Err(format!("the thread has not {} messages", thread["messages"]));
    }
    Ok(())
}

/// How many model calls there were.
pub(crate) fn iterations(view: &View) -> u64 {
    number(view.session(), "iterations")
}

fn head(view: &View) -> String {
    view.thing("thread", "main").map_or("", |it| text(it, "head")).to_owned()
}

fn counters(view: &View) -> Result<(), String> {
    let session = view.session();
    let with =
        |status: &'static str| view.things("task").filter(move |it| text(it, "status") == status);
    let running: Vec<&str> = with("running").map(|it| text(it, "id")).collect();
    if running.len() > 1 {
        return Err(format!("{} tasks run at once", running.len()));
    }
    if text(session, "running") != running.first().copied().unwrap_or_default() {
        return Err("`running` is not the task that runs".to_owned());
    }
    let counted = [
        ("messages", view.things("message").count()),
        ("tasks", view.things("task").count()),
        ("queued", with("queued").count()),
    ];
    for (name, count) in counted {
        if number(session, name) != count as u64 {
            return Err(format!("`{name}` is {}, there are {count}", number(session, name)));
        }
    }
    Ok(())
}

fn task_change(before: &View, event: &Event, task: &Members) -> Result<(), String> {
    let id = text(task, "id");
    let old = before.thing("task", id);
    let was = old.map_or("", |it| text(it, "status"));
    let is = text(task, "status");
    let fits = match event.kind.as_str() {
        "task.queued" => is == "queued" && ["", "running"].contains(&was),
        "task.started" => is == "running" && ["", "queued"].contains(&was),
        "task.completed" | "task.failed" => was == "running",
        "task.interrupted" => was == "running",
        "task.cancelled" => ["queued", "running"].contains(&was),
        _ => true,
    };
    if !fits {
        return Err(format!("{}: the task was `{was}`", event.kind));
    }
    let queued: Vec<&Members> =
        before.things("task").filter(|it| text(it, "status") == "queued").collect();
    let order = |it: &Members| it.get("order").and_then(Value::as_i64).unwrap_or(i64::MAX);
    if event.kind == "task.started" {
        let first = queued.iter().map(|it| order(it)).min();
        if old.is_some_and(|it| Some(order(it)) != first) {
            return Err(format!("`{id}` starts before its turn"));
        }
        let waits = request_text(event)
            .is_some_and(|it| it.starts_with("queue") || it.starts_with("reject"));
        if old.is_none() && waits && !queued.is_empty() {
            return Err(format!("`{id}` starts past the queue"));
        }
    }
    if event.kind == "task.queued" && old.is_none() {
        if queued.len() >= QUEUE_MAX {
            return Err(format!("{} tasks wait", queued.len() + 1));
        }
        let orders = before.things("task").filter(|it| !is_final(it)).map(order);
        let said = request_text(event).unwrap_or_default();
        let front = said.starts_with("interrupt") || said.starts_with("rollback");
        let new = order(task);
        let in_line = match front {
            true => orders.min().is_none_or(|it| new < it),
            false => orders.max().is_none_or(|it| new > it),
        };
        if !in_line {
            return Err(format!("`{id}` is put into the queue at the wrong place"));
        }
    }
    Ok(())
}

fn message_added(seed: u64, before: &View, event: &Event, message: &Members) -> Result<(), String> {
    if text(message, "parent") != head(before) {
        return Err("a message does not follow the newest one".to_owned());
    }
    if number(message, "seq") != event.seq {
        return Err("a message has not the number of its event".to_owned());
    }
    if text(message, "role") != "assistant" {
        return Ok(());
    }
    let task = before.thing("task", text(message, "task")).ok_or("an answer is of no task")?;
    let request = task.get("request").map_or("", |it| it["message"].as_str().unwrap_or(""));
    let asked = task.get("head").and_then(Value::as_str).unwrap_or(request);
    let request = before.thing("message", asked).and_then(said).ok_or("an answer to no request")?;
    let script = Script::of(seed, &request);
    let says = blocks(message);
    let whole = script.whole && script.attempts.last() == Some(&says);
    if ["task.completed", "message.appended"].contains(&event.kind.as_str()) && !whole {
        return Err(format!("the model said {:?}, stored is {says:?}", script.attempts));
    }
    if !script.begins(&says) {
        return Err(format!("stored is {says:?}, which the model did not say"));
    }
    Ok(())
}

/// A lock keeps others out, and is taken only when it is free.
fn locks(before: &View, event: &Event) -> Result<(), String> {
    let Some(lock) = before.session().get("lock") else { return Ok(()) };
    let holder = lock["holder"]["client"].as_str().unwrap_or("");
    let by = event.by.as_ref().map_or("", |it| it.client.as_str());
    let kind = event.kind.as_str();
    if kind == "session.locked" {
        return Err(format!("`{by}` takes the lock that `{holder}` holds"));
    }
    let new_task = event.data.get("task").is_some_and(|it| it.get("created_at").is_some());
    let kinds = ["session.updated", "checkpoint.created", "task.updated"];
    // What a task did not read becomes tasks without anybody's doing.
    let changes = kinds.contains(&kind) || (new_task && event.by.is_some());
    if changes && by != holder {
        return Err(format!("`{by}` does {kind} past the lock of `{holder}`"));
    }
    Ok(())
}
