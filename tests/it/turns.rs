//! Does a front end get what it draws: each task with its request and its response, in blocks?

use serde_json::{Value, json};
use sess_tests::harness::table::text;
use sess_tests::harness::{Daemon, Wire, stub, until_held};
use sess_tests::stub::Stub;

async fn turns(wire: &mut Wire, params: Value) -> (Vec<Value>, Value) {
    let page = wire.ok("turn/list", params).await;
    (page["turns"].as_array().cloned().unwrap(), page["next"].clone())
}

async fn all(wire: &mut Wire, session: &str) -> Vec<Value> {
    turns(wire, json!({"session": session, "limit": 500})).await.0
}

/// What is asked and answered in a turn, and how it stands.
fn drawn(turn: &Value) -> (Vec<String>, Vec<String>, String) {
    let side = |name: &str| {
        let blocks = turn[name].as_array().into_iter().flatten();
        blocks.map(|it| it["content"].as_str().unwrap_or("{}").to_owned()).collect()
    };
    (side("request"), side("response"), text(&turn["status"]))
}

fn plain(request: &str, response: &[&str], status: &str) -> (Vec<String>, Vec<String>, String) {
    let response = response.iter().map(|it| (*it).to_owned()).collect();
    (vec![request.to_owned()], response, status.to_owned())
}

/// A session whose first task has said this and is held until `h` is released; the others echo.
async fn held(begun: &str) -> (Stub, Daemon, Wire, String, Value) {
    let stub = stub().await;
    let steps = json!([{"text": begun}, {"hold": "h"}, {"text": "done"}]);
    stub.script_once("stub", steps).await.unwrap();
    let daemon = Daemon::with_stub(&stub).await;
    let mut wire = daemon.wire().await;
    let session = wire.session().await;
    let mut watcher = daemon.wire().await;
    watcher.follow(&session).await;
    let first = wire.say(&session, "first").await;
    watcher.until_written(begun).await;
    until_held(&stub, "h").await;
    (stub, daemon, wire, session, first)
}

#[tokio::test]
async fn an_answer_comes_in_blocks() {
    let daemon = Daemon::start().await;
    let mut wire = daemon.wire().await;
    let session = wire.session().await;
    let said = "look:\n\n```rust\nfn main() {}\n```\n| a | b |\n|---|---|\n| 1 | 2 |\n\n\
        ```json\n{\"a\": 1}\n```\n- [x] done\n\nhttps://example.org\n";
    let sent = wire.say(&session, said).await;
    wire.wait(&sent).await;
    let turn = all(&mut wire, &session).await.remove(0);
    assert_eq!((&turn["id"], &turn["status"]), (&sent["task"], &json!("done")));
    assert_eq!(turn["request"].as_array().unwrap().len(), 1, "what a person says is not split");
    assert_eq!(turn["request"][0]["meta"]["message"], sent["message"]);
    let blocks = turn["response"].as_array().unwrap();
    let kinds: Vec<&Value> = blocks.iter().map(|it| &it["type"]).collect();
    assert_eq!(kinds, ["text", "code", "table", "json", "tasklist", "link"]);
    assert_eq!(blocks[1]["content"], "fn main() {}");
    assert_eq!(blocks[1]["meta"]["language"], "rust");
    assert_eq!(blocks[2]["content"], json!({"headers": ["a", "b"], "rows": [["1", "2"]]}));
    assert_eq!(blocks[5]["content"]["url"], "https://example.org");
}

#[tokio::test]
async fn what_is_at_work_and_what_waits_is_there_too() {
    let begun = "see\n```json\n{\"a\": ";
    let (stub, _daemon, mut wire, session, first) = held(begun).await;
    let second = wire.say(&session, "second").await;
    wire.say(&session, "third").await;
    let steer = json!({"session": session, "content": "faster", "if_busy": "steer"});
    wire.ok("chat/send", steer).await;
    let now = all(&mut wire, &session).await;
    let (request, response, status) = drawn(&now[0]);
    assert_eq!((request, status), (vec!["first".into(), "faster".into()], "streaming".into()));
    assert_eq!(now[0]["request"][1]["meta"]["unread"], true);
    assert_eq!(response, ["see"], "no half of JSON is shown");
    assert_eq!(drawn(&now[1]), plain("second", &[], "pending"));
    assert_eq!(drawn(&now[2]), plain("third", &[], "pending"));
    let (page, next) = turns(&mut wire, json!({"session": session, "limit": 2})).await;
    assert_eq!(page, now[1..]);
    assert_eq!(turns(&mut wire, json!({"session": session, "cursor": next})).await.0, now[..1]);
    let behind = json!({"session": session, "after": first["task"]});
    assert_eq!(turns(&mut wire, behind).await.0, now[1..]);
    let before = json!({"session": session, "before": second["task"]});
    assert_eq!(turns(&mut wire, before).await.0, now[..1]);
    stub.release("h").await.unwrap();
    wire.wait(&second).await;
    let done = all(&mut wire, &session).await;
    assert_eq!(done[0]["response"][1]["type"], "code", "what is no JSON is shown as it is");
    assert_eq!(done[0]["request"][1]["meta"]["behind"], 2, "said behind the first answer");
    assert_eq!(drawn(&done[1]), plain("second", &["second"], "done"));
}

#[tokio::test]
async fn pages_of_any_size_give_the_same_turns() {
    let daemon = Daemon::start().await;
    let mut wire = daemon.wire().await;
    let session = wire.session().await;
    for number in 0..7 {
        wire.turn(&session, &format!("turn {number}")).await;
    }
    let whole = all(&mut wire, &session).await;
    assert_eq!(whole.len(), 7);
    for limit in [1, 2, 3, 7] {
        let (mut back, mut cursor) = (Vec::new(), Value::Null);
        loop {
            let mut params = json!({"session": session, "limit": limit});
            if !cursor.is_null() {
                params["cursor"] = cursor;
            }
            let (page, next) = turns(&mut wire, params).await;
            back.splice(0..0, page);
            cursor = next;
            if cursor.is_null() {
                break;
            }
        }
        assert_eq!(back, whole, "back by {limit}");
        let mut on = vec![whole[0].clone()];
        let mut params = json!({"session": session, "after": whole[0]["id"], "limit": limit});
        loop {
            let (page, next) = turns(&mut wire, params).await;
            on.extend(page);
            if next.is_null() {
                break;
            }
            params = json!({"session": session, "cursor": next, "limit": limit});
        }
        assert_eq!(on, whole, "on by {limit}");
    }
}

#[tokio::test]
async fn a_request_that_is_asked_again_is_one_turn() {
    let (stub, _daemon, mut wire, session, first) = held("begun ").await;
    wire.ok("task/cancel", json!({"task": first["task"]})).await;
    let cancelled = all(&mut wire, &session).await.remove(0);
    assert_eq!(drawn(&cancelled), plain("first", &["begun ", "{}"], "error"));
    assert_eq!(cancelled["response"][0]["meta"]["partial"], true);
    assert_eq!(cancelled["response"][1]["content"]["state"], "cancelled");
    let again = wire.ok("task/retry", json!({"task": first["task"]})).await["task"].clone();
    wire.ok("task/wait", json!({"task": again["id"]})).await;
    let now = all(&mut wire, &session).await;
    assert_eq!(now.len(), 1, "the first try is off the path: {now:#?}");
    assert_eq!((&now[0]["id"], drawn(&now[0])), (&again["id"], plain("first", &["first"], "done")));
    wire.turn(&session, "last").await;
    let before = json!({"session": session, "before": again["id"]});
    assert_eq!(turns(&mut wire, before).await.0, Vec::<Value>::new());
    let behind = json!({"session": session, "after": again["id"]});
    assert_eq!(drawn(&turns(&mut wire, behind).await.0[0]), plain("last", &["last"], "done"));
    drop(stub);
}

#[tokio::test]
async fn a_task_that_goes_on_from_here_is_a_turn_of_its_own() {
    let (_stub, _daemon, mut wire, session, first) = held("begun ").await;
    wire.ok("task/cancel", json!({"task": first["task"]})).await;
    let retry = json!({"task": first["task"], "from": "here"});
    let again = wire.ok("task/retry", retry).await["task"].clone();
    wire.ok("task/wait", json!({"task": again["id"]})).await;
    let now = all(&mut wire, &session).await;
    let status = |at: usize| (now[at]["id"].clone(), text(&now[at]["status"]));
    assert_eq!(now.len(), 2);
    assert_eq!(status(0), (first["task"].clone(), "error".into()));
    assert_eq!(status(1), (again["id"].clone(), "done".into()));
    assert_eq!(now[1]["request"][0]["content"], "first", "both answer the same request");
    let before = json!({"session": session, "before": again["id"]});
    assert_eq!(turns(&mut wire, before).await.0, now[..1]);
    let behind = json!({"session": session, "after": first["task"]});
    assert_eq!(turns(&mut wire, behind).await.0, now[1..]);
}

#[tokio::test]
async fn a_turn_that_is_nowhere_on_the_thread_is_not_found() {
    let (_stub, _daemon, mut wire, session, first) = held("begun ").await;
    let never = wire.say(&session, "never").await;
    wire.ok("task/cancel", json!({"task": never["task"]})).await;
    let before = json!({"session": session, "before": never["task"]});
    assert_eq!(wire.refused("not_found", "turn/list", before).await["what"], "turn");
    let other = wire.session().await;
    let before = json!({"session": other, "before": first["task"]});
    wire.refused("not_found", "turn/list", before).await;
    assert_eq!(all(&mut wire, &other).await, Vec::<Value>::new());
    let bad = json!({"session": session, "cursor": "before:nothing"});
    wire.refused("invalid_params", "turn/list", bad).await;
    let bad = json!({"session": session, "thread": "fork-00000000"});
    wire.refused("not_found", "turn/list", bad).await;
}

#[tokio::test]
async fn a_page_ends_before_it_passes_a_line() {
    let daemon = Daemon::start().await;
    let mut wire = daemon.wire().await;
    let session = wire.session().await;
    // Each text stays under what is put apart, so that it is in the turn with all of its bytes.
    let long = "x".repeat(60_000);
    for _ in 0..30 {
        wire.turn(&session, &long).await;
    }
    let (page, next) = turns(&mut wire, json!({"session": session, "limit": 500})).await;
    assert!(page.len() > 20 && page.len() < 30, "{}", page.len());
    let (rest, end) = turns(&mut wire, json!({"session": session, "cursor": next})).await;
    assert_eq!((page.len() + rest.len(), end), (30, Value::Null));
}
