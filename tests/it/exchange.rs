//! Does a session that goes out come back as it was?

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sess_tests::harness::table::{bytes, text};
use sess_tests::harness::{Daemon, Wire, stub};

/// Bytes of a piece: small, so that there are several.
const PIECE: usize = 100_000;

/// The whole file of a blob.
async fn file(wire: &mut Wire, blob: &Value) -> Vec<u8> {
    let mut whole = Vec::new();
    loop {
        let params = json!({"blob": blob, "offset": whole.len()});
        let piece = wire.ok("blob/get", params).await;
        whole.extend(bytes(&piece["data"]));
        if piece["last"] == true {
            return whole;
        }
    }
}

async fn exported(wire: &mut Wire, session: &str, format: &str) -> Vec<u8> {
    let params = json!({"session": session, "format": format});
    let out = wire.ok("session/export", params).await;
    let whole = file(wire, &out["blob"]).await;
    assert_eq!(out["bytes"], whole.len());
    whole
}

/// Puts a file in pieces; answers its name.
async fn put(wire: &mut Wire, whole: &[u8]) -> Value {
    let mut upload = Value::Null;
    for (at, piece) in whole.chunks(PIECE).enumerate() {
        let last = (at + 1) * PIECE >= whole.len();
        let mut params =
            json!({"data": STANDARD.encode(piece), "offset": at * PIECE, "last": last});
        if at > 0 {
            params["upload"] = upload;
        }
        let done = wire.ok("blob/put", params).await;
        if last {
            assert_eq!(done["bytes"], whole.len());
            return done["blob"].clone();
        }
        upload = done["upload"].clone();
    }
    panic!("the file is empty");
}

/// A session with turns, a text that is kept apart, an event of a front end's own.
async fn talked(wire: &mut Wire) -> String {
    let session = wire.session().await;
    wire.turn(&session, "hello").await;
    wire.turn(&session, &"a long text, ".repeat(20_000)).await;
    let own = json!({"session": session, "type": "it:note", "data": {"a": [1, 2.50, "\u{1F600}"]}});
    wire.ok("event/append", own).await;
    wire.turn(&session, "bye").await;
    session
}

#[tokio::test]
async fn what_goes_out_and_comes_in_goes_out_again_byte_for_byte() {
    let here = Daemon::start().await;
    let mut wire = here.wire().await;
    let session = talked(&mut wire).await;
    let first = exported(&mut wire, &session, "jsonl").await;
    let head = format!("{{\"sess\":\"jsonl\",\"version\":1,\"session\":\"{session}\"}}\n");
    assert!(first.starts_with(head.as_bytes()));
    let longest = first.split(|it| *it == b'\n').map(<[u8]>::len).max();
    assert!(longest.unwrap() <= 1024 * 1024, "{longest:?}");
    let there = Daemon::start().await;
    let mut other = there.wire().await;
    let blob = put(&mut other, &first).await;
    let came = other.ok("session/import", json!({"blob": blob})).await;
    assert_eq!((&came["imported"], &came["session"]["id"]), (&json!(true), &json!(session)));
    let mut views = [wire.get(&session).await, other.get(&session).await];
    views.iter_mut().for_each(|it| it["followers"] = json!(0));
    assert_eq!(views[0], views[1]);
    assert_eq!(wire.texts(&session).await, other.texts(&session).await);
    assert_eq!(exported(&mut other, &session, "jsonl").await, first);
    let there = there.killed_and_restarted().await;
    let mut other = there.wire().await;
    assert_eq!(exported(&mut other, &session, "jsonl").await, first);
    let again = other.ok("session/import", json!({"blob": blob})).await;
    assert_eq!(again["imported"], false, "the same log is there already");
    // It goes on where it was.
    assert_eq!(other.turn(&session, "more").await["task"]["status"], "completed");
    other.refused("conflict", "session/import", json!({"blob": blob})).await;
}

#[tokio::test]
async fn a_file_that_is_changed_anywhere_brings_nothing() {
    let here = Daemon::start().await;
    let mut wire = here.wire().await;
    let session = wire.session().await;
    wire.turn(&session, "hello").await;
    let good = exported(&mut wire, &session, "jsonl").await;
    let there = Daemon::start().await;
    let mut other = there.wire().await;
    let lines: Vec<&[u8]> = good.split_inclusive(|it| *it == b'\n').collect();
    let mut bad: Vec<Vec<u8>> = vec![
        good[..good.len() - 1].to_vec(),
        lines[0].to_vec(),
        [lines[0], lines[2]].concat(),
        [lines[0], lines[1], lines[1]].concat(),
        b"{}\n".to_vec(),
        good.iter().map(|it| if *it == b'h' { b'H' } else { *it }).collect(),
    ];
    for at in (0..good.len()).step_by(good.len() / 23) {
        let mut flipped = good.clone();
        flipped[at] ^= 1;
        bad.push(flipped);
    }
    for (number, bytes) in bad.iter().enumerate() {
        let blob = put(&mut other, bytes).await;
        let outcome = other.call("session/import", json!({"blob": blob})).await;
        let error = outcome.expect_err("refused");
        assert_eq!(error["data"]["kind"], "invalid_params", "{number}: {error}");
    }
    let list = other.ok("session/list", json!({"empty": true})).await;
    assert_eq!(list["sessions"], json!([]), "all or nothing");
}

#[tokio::test]
async fn a_kill_in_an_import_leaves_all_or_nothing() {
    let here = Daemon::start().await;
    let mut wire = here.wire().await;
    let session = wire.session().await;
    for number in 0..60 {
        wire.turn(&session, &format!("turn {number}")).await;
    }
    let whole = exported(&mut wire, &session, "jsonl").await;
    let mut there = Daemon::start().await;
    for _ in 0..4 {
        let mut other = there.wire().await;
        let blob = put(&mut other, &whole).await;
        let _ = other.start("session/import", json!({"blob": blob})).await;
        there = there.killed_and_restarted().await;
        let mut other = there.wire().await;
        match other.call("session/get", json!({"session": session})).await {
            Err(error) => assert_eq!(error["data"]["kind"], "not_found"),
            Ok(_) => assert_eq!(exported(&mut other, &session, "jsonl").await, whole),
        }
    }
    let mut other = there.wire().await;
    let blob = put(&mut other, &whole).await;
    other.ok("session/import", json!({"blob": blob})).await;
    assert_eq!(exported(&mut other, &session, "jsonl").await, whole);
}

#[tokio::test]
async fn a_page_for_people_and_a_view_have_all_that_was_said() {
    let daemon = Daemon::start().await;
    let mut wire = daemon.wire().await;
    let session = talked(&mut wire).await;
    let page = String::from_utf8(exported(&mut wire, &session, "markdown").await).unwrap();
    assert!(page.starts_with("# hello\n\n**Session:** sess_"), "{}", &page[..80]);
    assert!(page.contains("**Messages:** 6\n"));
    assert_eq!(page.matches("## User\n").count(), 3);
    assert_eq!(page.matches(&"a long text, ".repeat(20_000).trim_end().to_owned()).count(), 2);
    let view: Value = serde_json::from_slice(&exported(&mut wire, &session, "json").await).unwrap();
    assert_eq!(view["session"]["id"], json!(session));
    let list = wire.ok("message/list", json!({"session": session})).await;
    assert_eq!(view["messages"], list["messages"]);
}

#[tokio::test]
async fn a_page_for_a_browser_needs_nothing_else_and_runs_nothing() {
    let stub = stub().await;
    stub.script("stub", json!([{"echo": true}])).await.unwrap();
    let daemon = Daemon::with_stub(&stub).await;
    let mut wire = daemon.wire().await;
    let session = wire.session().await;
    let evil = "</div><script>alert(1)</script>\n<img src=\"https://x.y/z.png\">\n\
        ![cat](https://x.y/cat.png)\n```html\n<b onclick=\"a\">&</b>\n```\n";
    wire.turn(&session, evil).await;
    wire.turn(&session, &"long <b>".repeat(10_000)).await;
    let picture = json!({"type": "image", "media_type": "image/png", "data": "iVBORw0KGgo="});
    let content = json!([{"type": "text", "text": "look"}, picture]);
    let sent = wire.ok("chat/send", json!({"session": session, "content": content})).await;
    wire.wait(&sent).await;
    let page = String::from_utf8(exported(&mut wire, &session, "html").await).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
    assert!(page.contains("<dt>Messages</dt><dd>6</dd>"));
    assert_eq!(page.matches("<article ").count(), 6);
    assert_eq!(
        page.matches("&lt;script&gt;alert(1)&lt;/script&gt;").count(),
        4,
        "said, answered, title twice"
    );
    assert_eq!(page.matches(&"long &lt;b&gt;".repeat(10_000)).count(), 2, "whole again");
    assert!(page.contains("src=\"data:image/png;base64,iVBORw0KGgo=\""));
    for bad in ["<script", "onclick=\"", "src=\"http", "url(", "@import", "<link"] {
        assert!(!page.contains(bad), "{bad}");
    }
    let opened = page.matches("<div").count();
    assert_eq!(opened, page.matches("</div>").count());
}

#[tokio::test]
async fn a_file_is_put_in_pieces_and_read_back() {
    let daemon = Daemon::start().await;
    let mut wire = daemon.wire().await;
    let one = wire.ok("blob/put", json!({"data": STANDARD.encode("hello")})).await;
    assert_eq!(one["bytes"], 5);
    assert_eq!(file(&mut wire, &one["blob"]).await, b"hello");
    let begun = wire.ok("blob/put", json!({"data": STANDARD.encode("ab"), "last": false})).await;
    let upload = text(&begun["upload"]);
    let gap = json!({"upload": upload, "data": STANDARD.encode("d"), "offset": 3});
    assert_eq!(wire.refused("conflict", "blob/put", gap).await["offset"], 2);
    let last = json!({"upload": upload, "data": STANDARD.encode("c"), "offset": 2, "last": true});
    let done = wire.ok("blob/put", last).await;
    assert_eq!(file(&mut wire, &done["blob"]).await, b"abc");
    wire.refused("not_found", "blob/put", json!({"upload": upload, "data": ""})).await;
    let large = json!({"data": STANDARD.encode(vec![0; 1024 * 1024 + 1])});
    wire.refused("invalid_params", "blob/put", large).await;
    wire.refused("invalid_params", "blob/put", json!({"data": "%"})).await;
}
