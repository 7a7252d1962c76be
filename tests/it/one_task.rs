//! Does at most one task run in a session, and does the order hold?

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};
use sess_tests::harness::table::text;
use sess_tests::harness::{Daemon, Told, Wire, asked, stub, until_asked};

/// Clients that send at once.
const CLIENTS: usize = 16;

/// Follows a session from its start until all of `tasks` are final.
async fn history(wire: &mut Wire, session: &str, tasks: usize) -> Vec<Told> {
    wire.follow_from_start(session).await;
    let mut all = Vec::new();
    let mut open = tasks;
    while open > 0 {
        let told = wire.next_notification().await;
        let kind = told.kind();
        let finals = ["task.completed", "task.failed", "task.cancelled", "task.interrupted"];
        open -= usize::from(finals.contains(&kind));
        all.push(told);
    }
    all
}

/// Holds at every event: at most one task runs, and it is the one that the session names.
fn one_at_a_time(all: &[Told]) -> Vec<String> {
    let mut status = HashMap::<String, String>::new();
    let mut started = Vec::new();
    for told in all {
        let task = &told.params["data"]["task"];
        let Some(id) = task["id"].as_str() else { continue };
        if let Some(now) = task["status"].as_str() {
            status.insert(id.to_owned(), now.to_owned());
        }
        let running: Vec<_> = status.iter().filter(|(_, now)| *now == "running").collect();
        assert!(running.len() <= 1, "two at once at {}", told.params);
        if told.kind() == "task.started" {
            started.push(id.to_owned());
            assert_eq!(told.params["data"]["session"]["running"], id);
        }
    }
    assert!(started.iter().collect::<HashSet<_>>().len() == started.len(), "none starts twice");
    started
}

async fn sent_at_once(daemon: &Daemon, session: &str, if_busy: &str) -> Vec<Result<Value, Value>> {
    let mut started = Vec::new();
    for number in 0..CLIENTS {
        let mut wire = daemon.wire().await;
        let params =
            json!({"session": session, "content": format!("client {number}"), "if_busy": if_busy});
        let id = wire.start("chat/send", params).await;
        started.push((wire, id));
    }
    let mut answers = Vec::new();
    for (mut wire, id) in started {
        answers.push(wire.answer(id).await);
    }
    answers
}

async fn crowd(if_busy: &str) -> (Vec<Result<Value, Value>>, Vec<Told>) {
    let stub = stub().await;
    stub.script("stub", json!([{"pieces": 20, "every_ms": 1}])).await.unwrap();
    let daemon = Daemon::with_stub(&stub).await;
    let mut wire = daemon.wire().await;
    let session = wire.session().await;
    let answers = sent_at_once(&daemon, &session, if_busy).await;
    let accepted = answers.iter().filter(|it| it.is_ok()).count();
    let all = history(&mut wire, &session, accepted).await;
    let end = wire.get(&session).await;
    assert_eq!((&end["queued"], end.get("running")), (&json!(0), None));
    assert_eq!(end["tasks"], accepted);
    (answers, all)
}

#[tokio::test]
async fn sixteen_at_once_run_one_after_the_other_in_the_order_accepted() {
    let (answers, all) = crowd("queue").await;
    let started = one_at_a_time(&all);
    let mut accepted: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
    accepted.sort_by_key(|it| it["seq"].as_u64());
    assert_eq!(started, accepted.iter().map(|it| text(&it["task"])).collect::<Vec<_>>());
    assert_eq!(all.iter().filter(|it| it.kind() == "task.completed").count(), CLIENTS);
}

#[tokio::test]
async fn sixteen_at_once_that_do_not_wait_are_refused_but_for_those_that_run() {
    let (answers, all) = crowd("reject").await;
    let started = one_at_a_time(&all);
    let accepted: Vec<_> = answers.iter().flatten().map(|it| text(&it["task"])).collect();
    assert!(!accepted.is_empty() && accepted.len() < CLIENTS);
    assert_eq!(started.iter().collect::<HashSet<_>>(), accepted.iter().collect());
    for error in answers.iter().filter_map(|it| it.as_ref().err()) {
        assert_eq!(error["data"]["kind"], "busy");
        assert!(error["data"]["task"].is_string());
    }
}

#[tokio::test]
async fn sixteen_interrupts_at_once_leave_one_whole_answer_at_least() {
    let (answers, all) = crowd("interrupt").await;
    one_at_a_time(&all);
    assert!(answers.iter().all(Result::is_ok));
    let ended = |kind: &str| all.iter().filter(|it| it.kind() == kind).count();
    assert!(ended("task.completed") >= 1);
    assert_eq!(ended("task.completed") + ended("task.cancelled"), CLIENTS);
    assert_eq!(ended("task.failed"), 0);
}

#[tokio::test]
async fn the_order_of_a_queue_holds_over_kills_and_runs_without_a_client() {
    let stub = stub().await;
    stub.script_once("stub", json!([{"head": true}, {"hold": "h"}])).await.unwrap();
    let daemon = Daemon::with_stub(&stub).await;
    let mut wire = daemon.wire().await;
    let session = wire.session().await;
    let first = wire.say(&session, "held").await;
    until_asked(&stub, "held").await;
    let answers = sent_at_once(&daemon, &session, "queue").await;
    let mut accepted: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
    accepted.sort_by_key(|it| it["position"].as_u64());
    let positions: Vec<_> = accepted.iter().map(|it| it["position"].as_u64().unwrap()).collect();
    assert_eq!(positions, (1..=CLIENTS as u64).collect::<Vec<_>>());
    drop(wire);
    let daemon = daemon.killed_and_restarted().await;
    let mut wire = daemon.wire().await;
    let started = one_at_a_time(&history(&mut wire, &session, 1 + CLIENTS).await);
    let expected: Vec<_> =
        std::iter::once(&first).chain(&accepted).map(|it| text(&it["task"])).collect();
    assert_eq!(started, expected);
    assert_eq!(asked(&stub).await.len(), 1 + CLIENTS);
}

#[tokio::test]
async fn tasks_of_different_sessions_run_beside_each_other() {
    let stub = stub().await;
    stub.script("stub", json!([{"head": true}, {"hold": "h"}, {"text": "x"}])).await.unwrap();
    let daemon = Daemon::with_stub(&stub).await;
    let mut wire = daemon.wire().await;
    let mut sent = Vec::new();
    for number in 0..8 {
        let params = json!({"content": format!("session {number}")});
        sent.push(wire.ok("chat/send", params).await);
        until_asked(&stub, &format!("session {number}")).await;
    }
    assert_eq!(wire.ok("daemon/status", json!({})).await["tasks"]["running"], 8);
    stub.release("h").await.unwrap();
    for one in &sent {
        assert_eq!(wire.wait(one).await["task"]["status"], "completed");
    }
}
