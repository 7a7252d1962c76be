//! Whether tasks are rebuilt from their events and come in their order.

use std::sync::Arc;

use serde_json::{Value, json};
use sess_protocol::id::{MessageId, TaskId};
use sess_protocol::things::TaskStatus;
use sess_protocol::view::Members;

use super::build::{Log, completed, message, queued, raw, session, started, task};
use crate::store::{Store, TaskFilter};

/// More than a case has.
const MANY: u32 = 500;

fn any() -> TaskFilter {
    TaskFilter { limit: MANY, ..TaskFilter::default() }
}

async fn one(store: &Arc<dyn Store>, id: TaskId) -> Members {
    let (_, members) = store.task(id).await.expect("answers").expect("is there");
    members
}

async fn list(store: &Arc<dyn Store>, filter: TaskFilter) -> Vec<TaskId> {
    let tasks = store.tasks(filter).await.expect("lists");
    let id = |it: &Value| it.as_str().expect("an id").parse().expect("an id");
    tasks.iter().map(|it| id(&it["id"])).collect()
}

fn tasks(numbers: impl IntoIterator<Item = u128>) -> Vec<TaskId> {
    numbers.into_iter().map(task).collect()
}

fn changed(id: TaskId, members: Value) -> super::build::Said {
    let mut members = members;
    members["id"] = id.to_string().into();
    raw("task.updated", json!({ "task": members }))
}

pub(crate) async fn a_task_is_folded_from_its_events(store: Arc<dyn Store>) {
    let mut log = Log::created(&store, session(1)).await;
    assert_eq!(store.task(task(1)).await, Ok(None));
    log.add(&store, vec![queued(log.session, task(1), 1), queued(log.session, task(2), 2)]).await;
    let steps = [
        changed(task(1), json!({"order": -3})),
        started(task(1)),
        changed(task(1), json!({"status": "waiting"})),
        changed(task(1), json!({"status": "queued", "reason": "restart"})),
        changed(task(1), json!({"status": "running", "reason": null})),
        completed(task(1), message(1)),
    ];
    for step in steps {
        log.add(&store, vec![step]).await;
        let found = store.task(task(1)).await.expect("answers").expect("is there");
        let folded = log.view().thing("task", &task(1).to_string()).expect("folds").clone();
        assert_eq!(found, (log.session, folded));
    }
    let done = one(&store, task(1)).await;
    assert_eq!(done["status"], "completed");
    assert_eq!(done["order"], -3);
    assert_eq!(done["request"], json!({"message": MessageId(task(1).0).to_string()}));
    assert!(!done.contains_key("reason"));
    let waits = one(&store, task(2)).await;
    assert_eq!(waits["request"]["content"][0]["text"], "do it");
}

pub(crate) async fn steering_comes_and_goes(store: Arc<dyn Store>) {
    let mut log = Log::created(&store, session(1)).await;
    log.add(&store, vec![queued(log.session, task(1), 1), started(task(1))]).await;
    let said = json!([{"message": message(8).to_string(),
        "content": [{"type": "text", "text": "left"}], "by": {"client": "tester", "pid": 7},
        "at": "2026-11-21T10:00:00.000Z"}]);
    log.add(&store, vec![changed(task(1), json!({ "steering": said }))]).await;
    assert_eq!(one(&store, task(1)).await["steering"], said);
    let loaded = store.load(log.session).await.expect("loads").expect("is there");
    let running = loaded.view.thing("task", &task(1).to_string()).expect("is loaded");
    assert_eq!(running["steering"], said);
    log.add(&store, vec![changed(task(1), json!({"steering": null}))]).await;
    assert!(!one(&store, task(1)).await.contains_key("steering"));
}

/// Done are 1 to 4, 5 runs, queued are 6 to 9 in the order 8, 6, 9, 7.
async fn nine(store: &Arc<dyn Store>) -> Log {
    let mut log = Log::created(store, session(1)).await;
    for n in 1..=9 {
        let order = [0, 1, 2, 3, 4, 5, 20, 40, 10, 30][usize::try_from(n).expect("small")];
        log.add(store, vec![queued(log.session, task(n), order)]).await;
    }
    for n in 1..=4 {
        log.add(store, vec![started(task(n))]).await;
        log.add(store, vec![completed(task(n), message(100 + n))]).await;
    }
    log.add(store, vec![started(task(5))]).await;
    log
}

pub(crate) async fn tasks_come_running_then_queued_then_newest(store: Arc<dyn Store>) {
    let mut log = nine(&store).await;
    assert_eq!(list(&store, any()).await, tasks([5, 8, 6, 9, 7, 4, 3, 2, 1]));
    assert_eq!(list(&store, TaskFilter { limit: 3, ..any() }).await, tasks([5, 8, 6]));
    log.add(&store, vec![changed(task(5), json!({"status": "waiting"}))]).await;
    log.add(&store, vec![changed(task(7), json!({"order": -1}))]).await;
    assert_eq!(list(&store, any()).await, tasks([5, 7, 8, 6, 9, 4, 3, 2, 1]));
    let listed = store.tasks(any()).await.expect("lists");
    for members in listed {
        let id = members["id"].as_str().expect("an id");
        assert_eq!(Some(&members), log.view().thing("task", id), "a task is listed as it folds");
    }
}

pub(crate) async fn task_pages_cover_every_task_once(store: Arc<dyn Store>) {
    nine(&store).await;
    let whole = list(&store, any()).await;
    for limit in [1, 2, 4, 5, 9, 10] {
        for of in [None, Some(session(1))] {
            let (mut paged, mut behind) = (Vec::new(), None);
            loop {
                let page = list(&store, TaskFilter { session: of, limit, behind, ..any() }).await;
                let Some(last) = page.last() else { break };
                assert!(page.len() <= limit as usize);
                behind = Some(*last);
                paged.extend(page);
                assert!(paged.len() <= whole.len(), "none comes twice");
            }
            assert_eq!(paged, whole, "in pages of {limit}");
        }
    }
}

pub(crate) async fn task_filters_keep_what_they_name(store: Arc<dyn Store>) {
    nine(&store).await;
    let mut other = Log::created(&store, session(2)).await;
    other.add(&store, vec![queued(other.session, task(20), 1), started(task(20))]).await;
    other.add(&store, vec![completed(task(20), message(200))]).await;
    let of = |n: u128| TaskFilter { session: Some(session(n)), ..any() };
    assert_eq!(list(&store, of(2)).await, tasks([20]));
    assert_eq!(list(&store, of(3)).await, []);
    let status = |it: TaskStatus| TaskFilter { status: Some(it), ..any() };
    assert_eq!(list(&store, status(TaskStatus::Running)).await, tasks([5]));
    assert_eq!(list(&store, status(TaskStatus::Queued)).await, tasks([8, 6, 9, 7]));
    assert_eq!(list(&store, status(TaskStatus::Completed)).await, tasks([20, 4, 3, 2, 1]));
    assert_eq!(list(&store, status(TaskStatus::Failed)).await, []);
    let both = TaskFilter { status: Some(TaskStatus::Completed), ..of(1) };
    assert_eq!(list(&store, both.clone()).await, tasks([4, 3, 2, 1]));
    let next = TaskFilter { behind: Some(task(3)), limit: 1, ..both };
    assert_eq!(list(&store, next).await, tasks([2]));
}
