//! What does a follower hear, and does it miss anything?

use serde_json::{Value, json};
use sess_tests::harness::table::text;
use sess_tests::harness::{Daemon, Told, Wire, said, stub, until_held};
use sess_tests::stub::Stub;

async fn started() -> (Daemon, Wire, String) {
    let daemon = Daemon::start().await;
    let mut wire = daemon.wire().await;
    let session = wire.session().await;
    (daemon, wire, session)
}

/// A session whose answer is `one two ` so far, and held at `h` before `three`.
async fn held() -> (Stub, Daemon, Wire, String, Value) {
    let stub = stub().await;
    let steps = json!([{"text": "one "}, {"text": "two "}, {"hold": "h"}, {"text": "thrée"}]);
    stub.script("stub", steps).await.unwrap();
    let daemon = Daemon::with_stub(&stub).await;
    let mut wire = daemon.wire().await;
    let session = wire.session().await;
    wire.follow(&session).await;
    let sent = wire.say(&session, "count").await;
    wire.until_written("one two ").await;
    (stub, daemon, wire, session, sent)
}

fn events(all: &[Told]) -> Vec<&Value> {
    all.iter().filter(|it| it.method == "event").map(|it| &it.params).collect()
}

/// The same hex digits with another one first.
fn flipped(hex: &str) -> String {
    let first = if hex.starts_with('0') { "1" } else { "0" };
    first.to_owned() + &hex[1..]
}

fn of_kind(kind: &str) -> impl Fn(&Told) -> bool {
    move |told| told.kind() == kind
}

#[tokio::test]
async fn events_from_the_start_are_dense_and_end_where_the_session_does() {
    let (_daemon, mut wire, session) = started().await;
    for number in 0..3 {
        wire.turn(&session, &format!("{number}")).await;
    }
    let last = wire.get(&session).await["seq"].as_u64().unwrap();
    let answer = wire.follow_from_start(&session).await;
    assert_eq!(answer.as_object().unwrap().len(), 1, "the cursor alone: {answer}");
    let all = wire.until(|it| it.params["seq"] == last).await;
    let seqs: Vec<_> = events(&all).iter().map(|it| it["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..=last).collect::<Vec<_>>());
    assert_eq!(all[0].kind(), "session.created");
    assert!(
        all.iter().all(|it| it.params["cursor"].is_string() && it.params["session"] == session)
    );
    assert_eq!(all.iter().filter(|it| it.kind() == "task.completed").count(), 3);
}

#[tokio::test]
async fn a_follow_without_cursor_answers_the_view_of_one_moment_and_what_comes_after_it() {
    let (_daemon, mut wire, session) = started().await;
    wire.turn(&session, "before").await;
    let followed = wire.follow(&session).await;
    let view = &followed["view"];
    let seq = view["session"]["seq"].as_u64().unwrap();
    assert_eq!(view["messages"].as_array().unwrap().len(), 2);
    assert_eq!(followed.get("live"), None);
    wire.say(&session, "after").await;
    let all = wire.until(of_kind("task.completed")).await;
    let seqs: Vec<_> = events(&all).iter().map(|it| it["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs[0], seq + 1);
    assert!(seqs.is_sorted_by(|a, b| a + 1 == *b), "{seqs:?}");
}

#[tokio::test]
async fn a_cursor_goes_on_right_behind_its_event() {
    let (daemon, mut wire, session) = started().await;
    wire.turn(&session, "one").await;
    wire.follow_from_start(&session).await;
    let all = wire.until(of_kind("task.completed")).await;
    for (index, told) in all.iter().enumerate() {
        let mut other = daemon.wire().await;
        let after = json!({"session": session, "after": told.params["cursor"]});
        other.ok("session/follow", after).await;
        wire.ok("session/update", json!({"session": session, "title": format!("{index}")})).await;
        let next = other.next_notification().await;
        assert_eq!(next.params["seq"], told.params["seq"].as_u64().unwrap() + 1);
    }
}

#[tokio::test]
async fn the_cursor_of_an_answer_is_where_its_view_ends() {
    let (daemon, mut wire, session) = started().await;
    let followed = wire.follow(&session).await;
    wire.ok("session/update", json!({"session": session, "title": "x"})).await;
    let told = wire.event("session.updated").await;
    let daemon = daemon.killed_and_restarted().await;
    let mut other = daemon.wire().await;
    let after = json!({"session": session, "after": followed["cursor"]});
    other.ok("session/follow", after).await;
    assert_eq!(other.next_notification().await.params, told, "word for word, after a restart");
}

#[tokio::test]
async fn a_cursor_that_does_not_fit_is_a_conflict_with_where_the_session_stands() {
    let (_daemon, mut wire, session) = started().await;
    let seq = wire.get(&session).await["seq"].clone();
    let cursor = text(&wire.follow(&session).await["cursor"]);
    let parts: Vec<_> = cursor.rsplitn(3, ':').collect();
    let [hash, _, history] = parts[..] else { panic!("{cursor}") };
    let (other_hash, other_history) = (flipped(hash), flipped(history));
    for wrong in [
        format!("{history}:{}:{hash}", seq.as_u64().unwrap() + 1),
        format!("{history}:999999:{hash}"),
        format!("{history}:{seq}:{other_hash}"),
        format!("{other_history}:{seq}:{hash}"),
    ] {
        let params = json!({"session": session, "after": wrong});
        let data = wire.refused("conflict", "session/follow", params).await;
        assert_eq!(data["seq"], seq, "{wrong}");
    }
    for nonsense in ["", "x", "::", "a:b:c"] {
        let params = json!({"session": session, "after": nonsense});
        let error = wire.call("session/follow", params).await.unwrap_err();
        let kind = error["data"]["kind"].as_str().unwrap();
        assert!(["conflict", "invalid_params"].contains(&kind), "`{nonsense}`: {error}");
    }
    wire.ok("session/follow", json!({"session": session, "after": cursor})).await;
}

#[tokio::test]
async fn who_attaches_in_mid_stream_gets_the_text_so_far_and_then_each_byte() {
    let (stub, daemon, _wire, session, sent) = held().await;
    let mut late = daemon.wire().await;
    let followed = late.follow(&session).await;
    let live = &followed["live"];
    assert_eq!(live["task"], sent["task"]);
    assert_eq!(live["blocks"][0]["type"], "text");
    assert_eq!(live["blocks"][0]["text"], "one two ");
    assert_eq!(followed["view"]["tasks"][0]["status"], "running");
    stub.release("h").await.unwrap();
    let all = late.until(of_kind("task.completed")).await;
    let mut text = text(&live["blocks"][0]["text"]);
    for delta in all.iter().filter(|it| it.method == "delta").map(|it| &it.params) {
        assert_eq!(delta["offset"], text.len(), "{delta}");
        assert_eq!(delta["message"], live["message"]);
        text.push_str(delta["text"].as_str().unwrap());
    }
    let message = &all.last().unwrap().params["data"]["message"];
    assert_eq!((said(message), &message["id"]), ("one two thrée".to_owned(), &live["message"]));
    assert_eq!(text, "one two thrée");
}

#[tokio::test]
async fn deltas_begin_with_a_live_and_go_on_without_gap() {
    let stub = stub().await;
    stub.script(
        "stub",
        json!([{"reasoning": "hm "}, {"reasoning": "hm"}, {"pieces": 500, "text": "ä{i} "}]),
    )
    .await
    .unwrap();
    let daemon = Daemon::with_stub(&stub).await;
    let mut wire = daemon.wire().await;
    let session = wire.session().await;
    wire.follow(&session).await;
    wire.say(&session, "go").await;
    let all = wire.until(of_kind("task.completed")).await;
    let first = all.iter().position(|it| it.method == "live").unwrap();
    assert!(all[..first].iter().all(|it| it.method != "delta"));
    let mut blocks = [String::new(), String::new()];
    for told in &all {
        if told.method == "live" {
            for block in told.params["blocks"].as_array().unwrap() {
                blocks[block["index"].as_u64().unwrap() as usize] = text(&block["text"]);
            }
        }
        if told.method == "delta" {
            let block = &mut blocks[told.params["block"].as_u64().unwrap() as usize];
            assert_eq!(told.params["offset"], block.len());
            block.push_str(told.params["text"].as_str().unwrap());
        }
    }
    let content = &all.last().unwrap().params["data"]["message"]["content"];
    assert_eq!(blocks[0], text(&content[0]["text"]));
    assert_eq!(blocks[1], text(&content[1]["text"]));
}

#[tokio::test]
async fn without_deltas_only_events_come() {
    let (stub, daemon, _wire, session, _sent) = held().await;
    let mut quiet = daemon.wire().await;
    let followed = quiet.ok("session/follow", json!({"session": session, "deltas": false})).await;
    assert_eq!(followed.get("live"), None);
    stub.release("h").await.unwrap();
    let all = quiet.until(of_kind("task.completed")).await;
    assert!(all.iter().all(|it| it.method == "event"), "{all:?}");
}

#[tokio::test]
async fn behind_a_cursor_the_live_comes_once_caught_up() {
    let (stub, daemon, mut wire, session, _sent) = held().await;
    wire.ok("session/update", json!({"session": session, "title": "x"})).await;
    let mut other = daemon.wire().await;
    other.ok("session/follow", json!({"session": session, "after": "start"})).await;
    let all = other.until(|it| it.method == "live").await;
    assert!(all.iter().any(of_kind("session.updated")), "first what is on disk");
    assert_eq!(all.last().unwrap().params["blocks"][0]["text"], "one two ");
    stub.release("h").await.unwrap();
    let rest = other.until(of_kind("task.completed")).await;
    assert_eq!(said(&rest.last().unwrap().params["data"]["message"]), "one two thrée");
}

#[tokio::test]
async fn a_second_follow_on_one_connection_replaces_the_first() {
    let (_daemon, mut wire, session) = started().await;
    wire.follow(&session).await;
    wire.follow(&session).await;
    assert_eq!(wire.get(&session).await["followers"], 1);
    for title in ["a", "b"] {
        wire.ok("session/update", json!({"session": session, "title": title})).await;
    }
    let all = wire.until(|it| it.params["data"]["session"]["title"] == "b").await;
    assert_eq!(all.len(), 2, "each event once: {all:?}");
}

#[tokio::test]
async fn after_unfollow_nothing_comes() {
    let (_daemon, mut wire, session) = started().await;
    let other = wire.session().await;
    wire.follow(&session).await;
    wire.follow(&other).await;
    wire.ok("session/unfollow", json!({"session": session})).await;
    wire.ok("session/update", json!({"session": session, "title": "unheard"})).await;
    wire.ok("session/update", json!({"session": other, "title": "heard"})).await;
    let told = wire.next_notification().await;
    assert_eq!(told.params["data"]["session"]["title"], "heard");
    assert_eq!(wire.get(&session).await["followers"], 0);
}

#[tokio::test]
async fn a_follower_that_leaves_is_counted_out() {
    let (daemon, mut wire, session) = started().await;
    let mut other = daemon.wire().await;
    other.follow(&session).await;
    assert_eq!(wire.get(&session).await["followers"], 1);
    other.close_sending();
    assert_eq!(other.rest().await, Vec::<Value>::new(), "a follow does not keep it open");
    assert_eq!(wire.get(&session).await["followers"], 0);
}

#[tokio::test]
async fn who_never_reads_holds_up_nobody() {
    let stub = stub().await;
    stub.script("stub", json!([{"pieces": 50_000}])).await.unwrap();
    let daemon = Daemon::with_stub(&stub).await;
    let (mut wire, mut deaf) = (daemon.wire().await, daemon.wire().await);
    let session = wire.session().await;
    deaf.follow(&session).await;
    wire.turn(&session, "go").await;
    let done = wire.turn(&session, "again").await;
    assert_eq!(done["task"]["status"], "completed");
    // It reads at last, and no event is missing.
    let last = wire.get(&session).await["seq"].clone();
    let all = deaf.until(|it| it.method == "event" && it.params["seq"] == last).await;
    let seqs: Vec<_> = events(&all).iter().map(|it| it["seq"].as_u64().unwrap()).collect();
    assert!(seqs.is_sorted_by(|a, b| a + 1 == *b), "{seqs:?}");
}

#[tokio::test]
async fn the_request_travels_in_task_started_and_the_answer_in_the_final_event() {
    let (_daemon, mut wire, session) = started().await;
    wire.follow_from_start(&session).await;
    let sent = wire.say(&session, "hello").await;
    let all = wire.until(of_kind("task.completed")).await;
    let kinds: Vec<_> = all.iter().map(Told::kind).collect();
    assert_eq!(kinds, ["session.created", "task.started", "task.completed"]);
    let started = &all[1].params;
    assert_eq!(started["seq"], sent["seq"]);
    assert_eq!(started["data"]["message"]["id"], sent["message"]);
    assert_eq!(started["data"]["session"]["running"], sent["task"]);
    assert_eq!(started["data"]["session"]["title"], "hello");
    let completed = &all[2].params["data"];
    assert_eq!(completed["session"]["running"], Value::Null);
    assert_eq!(completed["message"]["parent"], sent["message"]);
    assert_eq!(completed["thread"]["head"], completed["message"]["id"]);
}

#[tokio::test]
async fn the_daemons_follow_tells_sessions_whole_and_not_too_often() {
    let (daemon, mut wire, session) = started().await;
    let mut list = daemon.wire().await;
    let first = list.ok("daemon/follow", json!({})).await;
    assert_eq!(first["sessions"][0]["id"], session);
    assert_eq!(first["approvals"], json!([]));
    let begin = std::time::Instant::now();
    for number in 0..60 {
        wire.turn(&session, &format!("{number}")).await;
    }
    let end = wire.get(&session).await;
    let all = list.until(|it| it.method == "session" && of(&it.params)["seq"] == end["seq"]).await;
    let seconds = begin.elapsed().as_secs_f64();
    assert!(all.len() as f64 <= 4.0 * seconds + 2.0, "{} in {seconds} s", all.len());
    assert_eq!(of(&all.last().unwrap().params)["title"], end["title"]);
    wire.ok("session/delete", json!({"session": session})).await;
    let gone = list.until(|it| of(&it.params)["deleted"] == true).await;
    assert_eq!(of(&gone.last().unwrap().params)["id"], session);
}

/// The session of a notification `session`, whether it is the params or a member of them.
fn of(params: &Value) -> &Value {
    params.get("session").filter(|it| it.is_object()).unwrap_or(params)
}

#[tokio::test]
async fn a_follow_of_nothing_is_not_found() {
    let (_daemon, mut wire, _session) = started().await;
    wire.refused("not_found", "session/follow", json!({"session": "sess_00000000"})).await;
    wire.ok("session/follow", json!({"session": "global"})).await;
}

#[tokio::test]
async fn the_view_shows_a_waiting_task_that_the_list_of_messages_does_not() {
    let (stub, daemon, mut wire, session, _sent) = held().await;
    until_held(&stub, "h").await;
    let queued = wire.say(&session, "later").await;
    let mut late = daemon.wire().await;
    let view = late.follow(&session).await["view"].clone();
    assert_eq!(view["tasks"][1]["id"], queued["task"]);
    assert_eq!(view["tasks"][1]["request"]["content"], json!([{"type": "text", "text": "later"}]));
    assert_eq!(wire.texts(&session).await, ["count"]);
}
