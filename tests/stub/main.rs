//! Does the stub model server send what its script says, and log what it sent?

#![allow(clippy::unwrap_used, reason = "a helper's failure is the failure of its test")]

mod raw;
mod sdk;

use std::path::Path;

use raw::{Answer, Raw};
use serde_json::{Value, json};
use sess_tests::stub::{Entry, How, Options, Part, Stub, What};

async fn start() -> Stub {
    Stub::start_program(Path::new(env!("CARGO_BIN_EXE_sess-stub")), &[]).await.unwrap()
}

/// Scripts a model of a stub of its own and asks it once, as a stream.
async fn play(steps: Value) -> (Stub, Answer) {
    let stub = start().await;
    stub.script("m", steps).await.unwrap();
    let mut raw = Raw::connect(&stub).await;
    raw.ask("m", json!({"stream_options": {"include_usage": true}})).await;
    let answer = raw.answer().await;
    (stub, answer)
}

fn ended(how: How) -> impl Fn(&Entry) -> bool {
    move |entry| matches!(entry.what, What::Ended { how: it, .. } if it == how)
}

#[tokio::test]
async fn text_finish_usage_and_done_come_in_this_order() {
    let (stub, answer) = play(json!([{"text": "a\"b\n"}, {"text": "ß"}])).await;
    let events = answer.events();
    assert!(answer.whole);
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    assert_eq!(answer.field("content"), "a\"b\nß");
    assert_eq!(events[3]["choices"][0]["finish_reason"], "stop");
    assert_eq!(events[3].get("usage"), Some(&Value::Null));
    assert_eq!(events[4]["choices"], json!([]));
    let usage = json!({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5});
    assert_eq!(events[4]["usage"], usage);
    assert_eq!(events[5], "[DONE]");
    assert_eq!(events.len(), 6);
    assert_eq!(stub.text_sent(1).await.unwrap(), "a\"b\nß");
}

#[tokio::test]
async fn a_thousand_pieces_and_an_echo_need_no_script() {
    let stub = start().await;
    let mut raw = Raw::connect(&stub).await;
    raw.ask("pieces-1000", json!({})).await;
    let pieces = raw.answer().await;
    raw.ask("anything", json!({})).await;
    let echo = raw.answer().await;
    assert_eq!(pieces.events().len(), 1003);
    assert!(pieces.field("content").ends_with("w998 w999 "));
    assert_eq!(echo.field("content"), "grüße an alle");
    assert_eq!(echo.events().len(), 6, "a piece a word, and no usage that was not asked for");
    assert_eq!(stub.stats().await.unwrap().connections, 2, "both on one connection");
}

#[tokio::test]
async fn without_stream_the_answer_is_one_object() {
    let stub = start().await;
    let steps = json!([{"reasoning": "hm"}, {"pieces": 3}, {"finish": "length"}]);
    stub.script("m", steps).await.unwrap();
    let mut raw = Raw::connect(&stub).await;
    raw.ask("m", json!({"stream": false})).await;
    let answer = raw.answer().await.json();
    assert_eq!(answer["choices"][0]["message"]["content"], "w0 w1 w2 ");
    assert_eq!(answer["choices"][0]["message"]["reasoning_content"], "hm");
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert_eq!(answer["usage"]["total_tokens"], 7);
    assert_eq!(stub.text_sent(1).await.unwrap(), "w0 w1 w2 ");
}

#[tokio::test]
async fn reasoning_takes_either_field() {
    let steps =
        json!([{"reasoning": "a"}, {"reasoning": "b", "field": "reasoning"}, {"text": "c"}]);
    let (stub, answer) = play(steps).await;
    assert_eq!(answer.field("reasoning_content"), "a");
    assert_eq!(answer.field("reasoning"), "b");
    assert_eq!(answer.field("content"), "c");
    assert_eq!(stub.text_sent(1).await.unwrap(), "c");
}

#[tokio::test]
async fn a_hold_keeps_the_rest_back_until_it_is_released() {
    let stub = start().await;
    stub.script("m", json!([{"text": "one"}, {"hold": "h"}, {"text": "two"}])).await.unwrap();
    let mut raw = Raw::connect(&stub).await;
    raw.ask("m", json!({})).await;
    raw.read_until("one").await;
    stub.wait_for(|it| matches!(&it.what, What::Held { hold } if hold == "h")).await.unwrap();
    assert_eq!(stub.text_sent(1).await.unwrap(), "one");
    assert_eq!(stub.stats().await.unwrap().running, 1);
    stub.release("h").await.unwrap();
    assert_eq!(raw.answer().await.field("content"), "onetwo");
    assert_eq!(stub.stats().await.unwrap().running, 0);
}

#[tokio::test]
async fn a_counted_release_lets_only_so_many_through() {
    let stub = start().await;
    stub.script("m", json!([{"hold": "h"}, {"text": "x"}])).await.unwrap();
    stub.release_times("h", 1).await.unwrap();
    let (mut first, mut second) = (Raw::connect(&stub).await, Raw::connect(&stub).await);
    first.ask("m", json!({})).await;
    first.answer().await;
    second.ask("m", json!({})).await;
    stub.wait_for(|it| it.request == 2 && matches!(it.what, What::Held { .. })).await.unwrap();
    assert_eq!(stub.stats().await.unwrap().running, 1);
    stub.release("h").await.unwrap();
    assert_eq!(second.answer().await.field("content"), "x");
}

#[tokio::test]
async fn delays_and_paced_pieces_are_kept_to() {
    let (stub, _) =
        play(json!([{"text": "a"}, {"delay_ms": 40}, {"pieces": 4, "every_ms": 10}])).await;
    let entries = stub.log().await.unwrap();
    let times: Vec<_> = entries
        .iter()
        .filter(|it| matches!(it.what, What::Piece { .. }))
        .map(|it| it.at_ns)
        .collect();
    assert_eq!(times.len(), 5);
    assert!(times[1] - times[0] >= 40_000_000, "{times:?}");
    assert!(times[4] - times[1] >= 29_000_000, "{times:?}");
    assert!(times.is_sorted() && entries.is_sorted_by_key(|it| it.at_us));
}

#[tokio::test]
async fn a_status_takes_the_place_of_an_answer() {
    let body = json!({"error": {"message": "slow down", "type": "rate"}});
    let steps = json!([{"status": 429, "headers": {"retry-after": "1"}, "body": body}]);
    let (stub, answer) = play(steps).await;
    assert_eq!(answer.status, 429);
    assert!(answer.head.contains("\r\nretry-after: 1\r\n"), "{}", answer.head);
    assert_eq!(answer.json(), body);
    let entries = stub.log().await.unwrap();
    assert!(matches!(entries[1].what, What::Status { status: 429 }));
}

#[tokio::test]
async fn an_error_in_the_stream_is_the_last_event() {
    let (_, answer) = play(json!([{"text": "a"}, {"error": {"message": "boom"}}])).await;
    assert_eq!(answer.events().last(), Some(&json!({"error": {"message": "boom"}})));
    assert!(answer.whole);
}

#[tokio::test]
async fn raw_bytes_are_the_body_as_they_are() {
    let steps = json!([
        {"raw": ": comment\r\n\r\n"}, {"raw_base64": "/wD+"}, {"finish": null}, {"done": false},
    ]);
    let (_, answer) = play(steps).await;
    assert_eq!(answer.body, b": comment\r\n\r\n\xff\x00\xfe");
    assert!(answer.whole);
}

#[tokio::test]
async fn a_cut_ends_the_connection_without_the_last_chunk() {
    let (stub, answer) = play(json!([{"pieces": 5}, {"cut": true}, {"text": "never"}])).await;
    assert_eq!(answer.field("content"), "w0 w1 w2 w3 w4 ");
    assert!(!answer.whole);
    let end = stub.wait_for(ended(How::Cut)).await.unwrap();
    assert!(matches!(end.what, What::Ended { pieces: 5, .. }));
}

#[tokio::test]
async fn an_answer_can_be_cut_at_each_byte() {
    let (_, whole) = play(json!([{"text": "ä€😀"}])).await;
    let stub = start().await;
    let mut told = Vec::new();
    for at in 0..whole.body.len() {
        stub.script_once("m", json!([{"text": "ä€😀"}, {"cut_at_byte": at}])).await.unwrap();
        let mut raw = Raw::connect(&stub).await;
        raw.ask("m", json!({"stream_options": {"include_usage": true}})).await;
        let answer = raw.answer().await;
        assert_eq!((answer.body.len(), answer.whole), (at, false));
        let body = String::from_utf8_lossy(&answer.body);
        if body.split_once("ä€😀").is_some_and(|(_, rest)| rest.contains("\n\n")) {
            told.push(at as u64 + 1);
        }
    }
    let entries = stub.log().await.unwrap();
    let pieces = entries.iter().filter(|it| matches!(it.what, What::Piece { .. }));
    let logged: Vec<_> = pieces.map(|it| it.request).collect();
    assert!(!told.is_empty() && told.len() < whole.body.len());
    assert_eq!(logged, told, "a piece counts as sent with its last byte");
}

#[tokio::test]
async fn a_split_goes_through_the_middle_of_characters() {
    let (stub, answer) = play(json!([{"text": "plain"}, {"split": 1}, {"text": "ä€😀"}])).await;
    assert!(answer.chunks[0] > 1);
    assert!(answer.chunks[1..].iter().all(|size| *size == 1));
    assert_eq!(answer.field("content"), "plainä€😀");
    assert_eq!(stub.text_sent(1).await.unwrap(), "plainä€😀");
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed_at_a_stall_and_under_a_full_pipe() {
    let stub = start().await;
    stub.script("stall", json!([{"text": "a"}, {"stall": true}])).await.unwrap();
    stub.script("full", json!([{"pieces": 1_000_000}])).await.unwrap();
    for (number, model) in ["stall", "full"].into_iter().enumerate() {
        let mut raw = Raw::connect(&stub).await;
        raw.ask(model, json!({})).await;
        raw.read_until("delta").await;
        drop(raw);
        stub.wait_for(|it| it.request == number as u64 + 1 && ended(How::Disconnected)(it))
            .await
            .unwrap();
    }
    let stats = stub.stats().await.unwrap();
    assert_eq!((stats.disconnects, stats.running, stats.requests), (2, 0, 2));
    assert_eq!(stats.open_connections, 1, "only the one that asks");
}

// The pipe is full when the stub learns that the client says no more; what the kernel took can still be read.
#[tokio::test]
async fn the_log_says_exactly_what_the_kernel_took() {
    let stub = start().await;
    stub.script("full", json!([{"pieces": 1_000_000}])).await.unwrap();
    let mut raw = Raw::connect(&stub).await;
    raw.ask("full", json!({})).await;
    raw.shut().await;
    let end = stub.wait_for(ended(How::Disconnected)).await.unwrap();
    let answer = raw.answer().await;
    let body = String::from_utf8(answer.body).unwrap();
    let told = body.matches("\n\n").count() as u64 - 1;
    let What::Ended { pieces, .. } = end.what else { panic!("{end:?}") };
    assert_eq!((pieces, answer.whole), (told, false));
    let sent = stub.text_sent(1).await.unwrap();
    assert!(sent.ends_with(&format!(" w{} ", told - 1)), "the last of {told} pieces");
}

#[tokio::test]
async fn each_request_takes_the_next_script_and_the_last_one_stays() {
    let stub = start().await;
    stub.script("m", json!([{"status": 500}])).await.unwrap();
    stub.script("m", json!([{"text": "ok"}])).await.unwrap();
    stub.script_once("once", json!([{"text": "1"}])).await.unwrap();
    stub.script("*", json!([{"text": "any"}])).await.unwrap();
    let mut raw = Raw::connect(&stub).await;
    let mut seen = Vec::new();
    for model in ["m", "m", "m", "once", "once", "other"] {
        raw.ask(model, json!({})).await;
        let answer = raw.answer().await;
        seen.push((answer.status, answer.field("content")));
    }
    let expected = [(500, ""), (200, "ok"), (200, "ok"), (200, "1"), (200, "any"), (200, "any")];
    assert_eq!(seen, expected.map(|(status, text)| (status, text.to_owned())));
}

#[tokio::test]
async fn what_no_script_can_be_is_refused_with_its_reason() {
    let stub = start().await;
    for (steps, reason) in [
        (json!([{"txt": "a"}]), "it has none of"),
        (json!([{"text": "a", "every_ms": 1}]), "unknown member `every_ms`"),
        (json!([{"text": "a"}, {"status": 500}]), "cannot come after"),
        (json!([{"delay_ms": "1"}]), "invalid type"),
        (json!([{"pieces": 1_000_001}]), "limited to 1000000"),
    ] {
        let err = stub.script("m", steps).await.unwrap_err().to_string();
        assert!(err.contains(reason), "{err}");
    }
    let mut raw = Raw::connect(&stub).await;
    raw.post("/v1/chat/completions", "{\"model\": 1}").await;
    assert_eq!(raw.answer().await.status, 400);
    raw.post("/v1/none", "").await;
    assert_eq!(raw.answer().await.status, 404);
}

#[tokio::test]
async fn the_log_has_the_request_without_its_secret_in_memory_and_in_the_file() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = directory.join(format!("stub-log-{}.jsonl", std::process::id()));
    let options = Options { log: Some(path.clone()), ..Options::default() };
    let stub = Stub::start_here(options).await.unwrap();
    let mut raw = Raw::connect(&stub).await;
    raw.ask("pieces-2", json!({})).await;
    raw.answer().await;
    let entries = stub.log().await.unwrap();
    let What::Request { model, messages, stream, headers } = &entries[0].what else {
        panic!("{entries:?}")
    };
    assert_eq!((model.as_str(), *stream), ("pieces-2", true));
    assert_eq!(messages.value()[0]["content"], "grüße an alle");
    assert_eq!(headers["authorization"], "(hidden)");
    assert_eq!(headers["host"], "stub");
    let piece = What::Piece { index: 1, part: Part::Text, bytes: 3, text: "w1 ".to_owned() };
    assert_eq!(json!(entries[3].what), json!(piece));
    assert!(matches!(entries[4].what, What::Ended { how: How::Complete, pieces: 2 }));
    assert_eq!(stub.log_since(3).await.unwrap().len(), 2);
    let file = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let lines: Vec<Value> = file.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
    assert_eq!(json!(lines), json!(entries));
}

#[tokio::test]
async fn the_program_takes_a_script_file_and_ends_with_its_stdin() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = directory.join(format!("stub-script-{}.json", std::process::id()));
    let script = json!([{"model": "m", "scripts": [[{"text": "from the file"}]]}]);
    std::fs::write(&path, script.to_string()).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_sess-stub"));
    let stub = Stub::start_program(program, &["--script", path.to_str().unwrap()]).await.unwrap();
    std::fs::remove_file(&path).unwrap();
    let mut raw = Raw::connect(&stub).await;
    raw.ask("m", json!({})).await;
    assert_eq!(raw.answer().await.field("content"), "from the file");

    let mut child = tokio::process::Command::new(program)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    drop(child.stdin.take());
    assert!(child.wait().await.unwrap().success());
}
