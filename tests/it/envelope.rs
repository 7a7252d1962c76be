//! What may a line be, and what is each other line answered with?

use serde_json::{Value, json};
use sess_tests::harness::wire::LINE_BYTES_MAX;
use sess_tests::harness::{Daemon, Wire, stub};

/// Requests that one connection may have unanswered.
const REQUESTS_MAX: u64 = 256;

async fn started() -> (Daemon, Wire) {
    let daemon = Daemon::start().await;
    let wire = daemon.wire().await;
    (daemon, wire)
}

/// Sends a line and answers the next line that comes.
async fn exchange(wire: &mut Wire, line: &str) -> Value {
    wire.send_line(line).await;
    wire.next_line().await.unwrap()
}

async fn still_works(wire: &mut Wire) {
    assert!(wire.ok("daemon/status", json!({})).await["pid"].is_u64());
}

#[tokio::test]
async fn a_line_that_is_not_json_is_answered_and_the_connection_lives() {
    let (_daemon, mut wire) = started().await;
    for line in ["hello", "{\"id\":1,", "{\"id\":1}}", "{'id':1}", "\u{0}"] {
        let answer = exchange(&mut wire, line).await;
        assert_eq!(answer["id"], Value::Null, "{line}");
        assert_eq!(answer["error"]["code"], -32700, "{line}: {answer}");
        assert_eq!(answer["error"]["data"]["kind"], "parse");
    }
    still_works(&mut wire).await;
}

#[tokio::test]
async fn a_line_that_is_not_utf8_is_no_json() {
    let (_daemon, mut wire) = started().await;
    wire.send_bytes(b"{\"id\":1,\"method\":\"daemon/status\xff\"}\n").await;
    let answer = wire.next_line().await.unwrap();
    assert_eq!(answer["error"]["data"]["kind"], "parse");
    assert_eq!(answer["id"], Value::Null);
    still_works(&mut wire).await;
}

#[tokio::test]
async fn json_that_is_no_request_is_refused_and_there_are_no_batches() {
    let (_daemon, mut wire) = started().await;
    let batch = r#"[{"id":1,"method":"daemon/status"}]"#;
    for line in
        [batch, "[]", "1", "\"text\"", "null", "{}", r#"{"id":4}"#, r#"{"id":4,"method":5}"#]
    {
        let answer = exchange(&mut wire, line).await;
        assert_eq!(answer["error"]["data"]["kind"], "invalid_request", "{line}: {answer}");
        assert_eq!(answer["error"]["code"], -32600);
    }
    still_works(&mut wire).await;
}

#[tokio::test]
async fn an_id_is_a_string_or_an_integer_and_comes_back_as_it_went() {
    let (_daemon, mut wire) = started().await;
    for id in [json!(7), json!(-7), json!(0), json!("seven"), json!(""), json!(i64::MAX)] {
        let line = json!({"id": id, "method": "daemon/status"}).to_string();
        assert_eq!(exchange(&mut wire, &line).await["id"], id);
    }
    for id in [json!(1.5), json!([1]), json!({}), json!(true)] {
        let line = json!({"id": id, "method": "daemon/status"}).to_string();
        let answer = exchange(&mut wire, &line).await;
        assert_eq!(answer["error"]["data"]["kind"], "invalid_request", "{line}: {answer}");
        assert_eq!(answer["id"], Value::Null);
    }
}

#[tokio::test]
async fn a_client_may_leave_out_jsonrpc_and_params() {
    let (_daemon, mut wire) = started().await;
    let answer = exchange(&mut wire, r#"{"id":1,"method":"session/list"}"#).await;
    assert_eq!(answer["jsonrpc"], "2.0");
    assert_eq!(answer["result"]["sessions"], json!([]));
}

#[tokio::test]
async fn notifications_and_empty_lines_are_ignored() {
    let (_daemon, mut wire) = started().await;
    wire.send_line("").await;
    wire.send_line(r#"{"jsonrpc":"2.0","method":"session/create","params":{}}"#).await;
    wire.send_line("").await;
    wire.send_line(r#"{"jsonrpc":"2.0","method":"no/such"}"#).await;
    let answer = exchange(&mut wire, r#"{"id":"x","method":"session/list"}"#).await;
    assert_eq!(answer["id"], "x");
    assert_eq!(answer["result"]["sessions"], json!([]), "nothing was made");
}

#[tokio::test]
async fn a_line_of_four_mebibytes_is_taken_and_one_byte_more_is_skipped() {
    let (_daemon, mut wire) = started().await;
    let request = r#"{"id":1,"method":"session/list"}"#;
    let fits = request.to_owned() + &" ".repeat(LINE_BYTES_MAX - request.len());
    let answer = exchange(&mut wire, &fits).await;
    assert_eq!(answer["result"]["sessions"], json!([]));
    let answer = exchange(&mut wire, &(fits + " ")).await;
    assert_eq!(answer["id"], 1, "its id was at the front");
    assert_eq!(answer["error"]["data"]["kind"], "invalid_request");
    assert_eq!(answer["error"]["data"]["limit_bytes"], LINE_BYTES_MAX);
    still_works(&mut wire).await;
}

#[tokio::test]
async fn a_line_far_too_long_is_answered_once_and_skipped_to_its_end() {
    let (_daemon, mut wire) = started().await;
    wire.send_bytes(&vec![b'x'; 3 * LINE_BYTES_MAX]).await;
    wire.send_line("").await;
    let answer = exchange(&mut wire, r#"{"id":"after","method":"session/list"}"#).await;
    assert_eq!(answer["error"]["data"]["limit_bytes"], LINE_BYTES_MAX);
    assert_eq!(wire.next_line().await.unwrap()["id"], "after");
}

#[tokio::test]
async fn nesting_of_64_is_taken_and_of_65_is_refused() {
    let (_daemon, mut wire) = started().await;
    // The request, its params and `metadata` are three levels.
    let line = |depth: usize| {
        let (open, close) = ("[".repeat(depth - 3), "]".repeat(depth - 3));
        format!(
            r#"{{"id":1,"method":"session/create","params":{{"metadata":{{"deep":{open}{close}}}}}}}"#
        )
    };
    let answer = exchange(&mut wire, &line(64)).await;
    assert!(answer["result"]["id"].is_string(), "{answer}");
    let answer = exchange(&mut wire, &line(65)).await;
    assert_eq!(answer["error"]["data"]["kind"], "invalid_request");
    assert_eq!(answer["id"], 1);
    let brackets_in_a_text = format!(
        r#"{{"id":1,"method":"session/create","params":{{"title":"{}"}}}}"#,
        "[".repeat(99)
    );
    assert!(exchange(&mut wire, &brackets_in_a_text).await["result"]["id"].is_string());
}

#[tokio::test]
async fn an_unknown_method_is_answered_with_the_nearest() {
    let (_daemon, mut wire) = started().await;
    for (method, nearest) in [("session/creat", "session/create"), ("chat/sent", "chat/send")] {
        let data = wire.refused("unknown_method", method, json!({})).await;
        assert_eq!(data["nearest"], nearest);
    }
    let error = wire.call("nothing/at/all/like/it", json!({})).await.unwrap_err();
    assert_eq!(error["code"], -32601);
}

#[tokio::test]
async fn params_are_strict_and_the_refusal_names_the_one() {
    let (_daemon, mut wire) = started().await;
    for (method, params, param) in [
        ("session/create", json!({"titel": "x"}), "titel"),
        ("session/create", json!({"title": 1}), "title"),
        ("session/create", json!({"mode": "fast"}), "mode"),
        ("session/create", json!({"tags": ["a", 1]}), "tags"),
        ("session/get", json!({}), "session"),
        ("session/get", json!({"session": null}), "session"),
        ("session/list", json!({"limit": -1}), "limit"),
        ("session/list", json!({"limit": 0}), "limit"),
        ("session/list", json!({"limit": 501}), "limit"),
        ("chat/send", json!({"session": "x"}), "content"),
        ("chat/send", json!({"content": 5}), "content"),
        ("chat/send", json!({"content": [{"type": "texts"}]}), "content"),
        ("chat/send", json!({"content": "x", "if_busy": "later"}), "if_busy"),
    ] {
        let data = wire.refused("invalid_params", method, params.clone()).await;
        let named = data["param"].as_str().unwrap_or_default();
        // Of something inside a param the path may be told.
        assert!(
            named == param
                || named.starts_with(&format!("{param}["))
                || named.starts_with(&format!("{param}.")),
            "{params}: {data}"
        );
    }
    let data = wire.refused("invalid_params", "session/create", json!({"titel": "x"})).await;
    assert_eq!(data["nearest"], "title");
    assert_eq!(wire.ok("session/list", json!({})).await["sessions"], json!([]));
}

#[tokio::test]
async fn params_are_an_object() {
    let (_daemon, mut wire) = started().await;
    for params in [json!([]), json!("x"), json!(1)] {
        let error = wire.call("session/create", params.clone()).await.unwrap_err();
        let kind = error["data"]["kind"].as_str().unwrap();
        assert!(["invalid_params", "invalid_request"].contains(&kind), "{params}: {error}");
    }
    assert_eq!(wire.ok("session/list", json!({})).await["sessions"], json!([]));
}

#[tokio::test]
async fn an_error_says_what_a_program_and_a_person_need() {
    let (_daemon, mut wire) = started().await;
    let error = wire.call("session/get", json!({"session": "sess_ffffffff"})).await.unwrap_err();
    assert_eq!(error["code"], -32001);
    assert_eq!(error["data"]["kind"], "not_found");
    assert_eq!(error["data"]["what"], "session");
    assert_eq!(error["data"]["id"], "sess_ffffffff");
    assert_eq!(error["data"]["retryable"], false);
    assert!(error["message"].as_str().unwrap().contains("sess_ffffffff"), "{error}");
}

#[tokio::test]
async fn a_client_that_closes_its_sending_side_gets_all_answers_and_then_the_end() {
    let (_daemon, mut wire) = started().await;
    let mut ids = Vec::new();
    for number in 0..100 {
        ids.push(wire.start("session/create", json!({"title": format!("{number}")})).await);
    }
    wire.close_sending();
    let mut answered: Vec<u64> =
        wire.rest().await.iter().map(|it| it["id"].as_u64().unwrap()).collect();
    answered.sort_unstable();
    assert_eq!(answered, ids, "each exactly once");
}

#[tokio::test]
async fn what_waits_at_a_half_closed_connection_is_answered_too() {
    let stub = stub().await;
    stub.script("stub", json!([{"hold": "h"}, {"text": "x"}])).await.unwrap();
    let daemon = Daemon::with_stub(&stub).await;
    let mut wire = daemon.wire().await;
    let sent = wire.ok("chat/send", json!({"content": "hi"})).await;
    wire.start("task/wait", json!({"task": sent["task"]})).await;
    wire.close_sending();
    stub.release("h").await.unwrap();
    let lines = wire.rest().await;
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["result"]["task"]["status"], "completed");
}

#[tokio::test]
async fn changes_of_one_session_take_effect_in_the_order_sent() {
    let (_daemon, mut wire) = started().await;
    let session = wire.session().await;
    let mut ids = Vec::new();
    for number in 0..100 {
        let params = json!({"session": session, "title": format!("title {number}")});
        ids.push(wire.start("session/update", params).await);
    }
    let mut last = 0;
    for (number, id) in ids.into_iter().enumerate() {
        let answer = wire.answer(id).await.unwrap();
        assert_eq!(answer["title"], format!("title {number}"));
        let seq = answer["seq"].as_u64().unwrap();
        assert!(seq > last, "{seq} comes after {last}");
        last = seq;
    }
}

#[tokio::test]
async fn nothing_that_waits_holds_up_what_is_sent_after_it() {
    let stub = stub().await;
    stub.script("stub", json!([{"hold": "h"}, {"text": "x"}])).await.unwrap();
    let daemon = Daemon::with_stub(&stub).await;
    let (mut wire, mut other) = (daemon.wire().await, daemon.wire().await);
    let sent = wire.ok("chat/send", json!({"content": "hi"})).await;
    other.ok("session/lock", json!({"session": sent["session"]})).await;
    let lock = json!({"session": sent["session"], "wait_ms": 60_000});
    let waiting = wire.start("task/wait", json!({"task": sent["task"]})).await;
    let locking = wire.start("session/lock", lock).await;
    wire.ok("session/get", json!({"session": sent["session"]})).await;
    stub.release("h").await.unwrap();
    assert_eq!(wire.answer(waiting).await.unwrap()["task"]["status"], "completed");
    other.ok("session/release", json!({"session": sent["session"]})).await;
    assert!(wire.answer(locking).await.unwrap()["lock"]["id"].is_string());
}

#[tokio::test]
async fn one_more_than_256_unanswered_requests_is_refused_and_nothing_is_lost() {
    let stub = stub().await;
    stub.script("stub", json!([{"hold": "h"}, {"text": "x"}])).await.unwrap();
    let daemon = Daemon::with_stub(&stub).await;
    let mut wire = daemon.wire().await;
    let sent = wire.ok("chat/send", json!({"content": "hi"})).await;
    let mut ids = Vec::new();
    for _ in 0..REQUESTS_MAX {
        ids.push(wire.start("task/wait", json!({"task": sent["task"]})).await);
    }
    let data = wire.refused("overloaded", "session/create", json!({})).await;
    assert!(data["retry_after_ms"].is_u64(), "{data}");
    stub.release("h").await.unwrap();
    for id in ids {
        assert_eq!(wire.answer(id).await.unwrap()["task"]["status"], "completed");
    }
    let list = wire.ok("session/list", json!({})).await;
    assert_eq!(list["sessions"].as_array().unwrap().len(), 1, "nothing was done");
}

#[tokio::test]
async fn unfinished_lines_share_64_mebibytes() {
    let (daemon, mut wire) = started().await;
    let beginning = vec![b' '; LINE_BYTES_MAX - 1024];
    let mut wires = Vec::new();
    for _ in 0..20 {
        let mut wire = daemon.wire().await;
        wire.try_send_bytes(&beginning).await;
        wires.push(wire);
    }
    let mut refused = 0;
    for wire in &mut wires {
        wire.try_send_bytes(b"{\"id\":1,\"method\":\"daemon/status\"}\n").await;
        let line = wire.next_line().await;
        let kind = line.as_ref().map(|it| it["error"]["data"]["kind"].clone());
        refused += usize::from(kind == Some(json!("overloaded")));
        assert!(
            line.is_none_or(|it| it["result"].is_object() || kind == Some(json!("overloaded")))
        );
    }
    assert!((3..=10).contains(&refused), "{refused} of 20 lines of 4 MiB were refused");
    drop(wires);
    still_works(&mut wire).await;
}

#[tokio::test]
async fn initialize_says_who_is_there_and_what_it_can_do() {
    let (daemon, mut wire) = started().await;
    let params = json!({"protocol": 1, "client": {"name": "a test", "version": "1"}});
    let result = wire.ok("initialize", params).await;
    assert_eq!(result["protocol"], 1);
    assert_eq!(result["daemon"]["name"], "sessd");
    assert_eq!(result["daemon"]["pid"], daemon.pid());
    assert_eq!(result["store"]["kind"], "sqlite");
    assert!(result["store"]["history"].as_str().is_some_and(|it| !it.is_empty()));
    assert!(result["capabilities"].as_array().is_some_and(|it| !it.is_empty()));
    assert!(result["limits"].is_object());
}

#[tokio::test]
async fn a_protocol_that_nobody_speaks_is_refused_with_those_that_are() {
    let (_daemon, mut wire) = started().await;
    for protocol in [0, 2, 99] {
        let params = json!({"protocol": protocol, "client": {"name": "a test"}});
        let data = wire.refused("unsupported", "initialize", params).await;
        assert_eq!(data["supported"], json!([1]));
    }
}

#[tokio::test]
async fn every_request_of_a_crowd_is_answered_exactly_once() {
    let (_daemon, mut wire) = started().await;
    let methods = ["session/list", "session/create", "no/such", "session/get", "daemon/status"];
    let mut ids = Vec::new();
    for number in 0..250 {
        ids.push(wire.start(methods[number % methods.len()], json!({})).await);
    }
    for id in ids {
        let _ = wire.answer(id).await;
    }
    wire.close_sending();
    assert_eq!(wire.rest().await, Vec::<Value>::new());
}
