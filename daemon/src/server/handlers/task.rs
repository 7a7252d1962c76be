//! `task/*`: look, wait, end.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sess_protocol::error::Error;
use sess_protocol::id::{MessageId, SessionId, TaskId};
use sess_protocol::methods as m;
use sess_protocol::methods::WAIT_MS_MAX;
use sess_protocol::view::Members;

use super::super::find;
use super::super::params::{bad_cursor, plain_limit};
use super::super::router::{Call, Routed, later};
use super::session::put;
use crate::session::Later;
use crate::session::again::{NewWords, Retry};
use crate::session::command::{Command, Intent, Outcome};
use crate::shared::Shared;
use crate::store::TaskFilter;

/// The task as it is: from its session when that is in memory, with its place in the line.
async fn now(shared: &Arc<Shared>, task: TaskId) -> Result<Members, Error> {
    let (_, session, members) = find::task(shared, &task.to_string()).await?;
    Ok(in_memory(shared, session, task).await.unwrap_or(members))
}

async fn in_memory(shared: &Shared, session: SessionId, task: TaskId) -> Option<Members> {
    let handle = shared.sessions.live(session)?;
    let (reply, answer) = Later::new();
    handle.send(Command::Task(task, reply)).await.ok()?;
    answer.answer().await.ok()?
}

pub(in crate::server) fn get(call: Call<'_, m::TaskGet>) -> Routed {
    let shared = call.shared();
    let text = call.params.task;
    later(async move {
        let (task, session, members) = find::task(&shared, &text).await?;
        let members = in_memory(&shared, session, task).await.unwrap_or(members);
        Ok(json!({ "task": members }).to_string())
    })
}

pub(in crate::server) fn list(call: Call<'_, m::TaskList>) -> Routed {
    let shared = call.shared();
    let params = call.params;
    let limit = plain_limit(params.limit)?;
    let behind = match params.cursor.as_deref() {
        Some(cursor) => Some(cursor.parse::<TaskId>().map_err(|_| bad_cursor())?),
        None => None,
    };
    later(async move {
        let session = match &params.session {
            Some(text) => Some(find::session(&shared, text).await?),
            None => None,
        };
        let filter = TaskFilter { session, status: params.status, limit: limit + 1, behind };
        let mut tasks = shared.store.tasks(filter).await.map_err(|err| shared.refusal(err))?;
        let mut next = None;
        if tasks.len() > limit as usize {
            tasks.truncate(limit as usize);
            next = tasks.last().and_then(|it| it.get("id")).cloned();
        }
        for task in &mut tasks {
            place(&shared, task).await;
        }
        let mut result = json!({ "tasks": tasks });
        if let Some(next) = next {
            result["next"] = next;
        }
        Ok(result.to_string())
    })
}

/// Shows a task's place in the line.
async fn place(shared: &Shared, members: &mut Members) {
    let text = |name: &str| members.get(name).and_then(Value::as_str);
    if !matches!(text("status"), Some("queued" | "running" | "waiting")) {
        return;
    }
    let ids = text("id").and_then(|it| it.parse().ok()).zip(text("session"));
    let ids = ids.and_then(|(task, session)| Some((task, session.parse().ok()?)));
    if let Some((task, session)) = ids
        && let Some(now) = in_memory(shared, session, task).await
    {
        *members = now;
    }
}

pub(in crate::server) async fn cancel(call: Call<'_, m::TaskCancel>) -> Routed {
    let shared = call.shared();
    let origin = call.client.origin(call.common);
    let (task, session, _) = find::task(&shared, &call.params.task).await?;
    let answer = put(&shared, session, Intent::Cancel(task), origin).await?;
    later(async move { answer.answer().await? })
}

pub(in crate::server) async fn update(call: Call<'_, m::TaskUpdate>) -> Routed {
    let shared = call.shared();
    let origin = call.client.origin(call.common);
    let (task, session, _) = find::task(&shared, &call.params.task).await?;
    let (content, position) = (call.params.content, call.params.position);
    let new = Intent::UpdateTask(Box::new(NewWords { task, content, position }));
    let answer = put(&shared, session, new, origin).await?;
    later(async move { answer.answer().await? })
}

pub(in crate::server) async fn retry(call: Call<'_, m::TaskRetry>) -> Routed {
    let shared = call.shared();
    let origin = call.client.origin(call.common);
    let (of, session, _) = find::task(&shared, &call.params.task).await?;
    let from = call.params.from.unwrap_or(m::RetryFrom::Start);
    let (task, message) = (TaskId(shared.world.ordered()), MessageId(shared.world.ordered()));
    let retry = Intent::Retry(Retry { of, from, task, message });
    let answer = put(&shared, session, retry, origin).await?;
    later(async move { answer.answer().await? })
}

pub(in crate::server) async fn wait(call: Call<'_, m::TaskWait>) -> Routed {
    let shared = call.shared();
    let wait =
        Duration::from_millis(call.params.timeout_ms.unwrap_or(WAIT_MS_MAX).min(WAIT_MS_MAX));
    let (task, session, members) = find::task(&shared, &call.params.task).await?;
    if is_final(&members) {
        return later(async move { answer_of(&shared, task, members).await });
    }
    let (reply, answer) = Later::new();
    shared.sessions.send(&shared, session, Command::Wait(task, reply)).await?;
    later(async move {
        if let Ok(ended) = tokio::time::timeout(wait, answer.answer()).await {
            ended??;
        }
        let members = now(&shared, task).await?;
        answer_of(&shared, task, members).await
    })
}

fn is_final(members: &Members) -> bool {
    let status = members.get("status").and_then(Value::as_str).unwrap_or("");
    matches!(status, "completed" | "failed" | "cancelled" | "interrupted")
}

async fn answer_of(shared: &Shared, task: TaskId, members: Members) -> Outcome {
    let mut result = json!({ "task": members }).to_string();
    let answer = shared.store.answer(task).await.map_err(|err| shared.refusal(err))?;
    if let Some(answer) = answer {
        result.pop();
        result.push_str(",\"answer\":");
        result.push_str(answer.get());
        result.push('}');
    }
    Ok(result)
}
