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
        // So long that they come in several pieces.
        wire.turn(&session, &format!("turn {number}, ").repeat(1000)).await;
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

async fn imported(wire: &mut Wire, whole: &[u8], format: &str) -> Value {
    let blob = put(wire, whole).await;
    wire.ok("session/import", json!({"blob": blob, "format": format})).await
}

async fn turns(wire: &mut Wire, session: &str) -> Value {
    wire.ok("turn/list", json!({"session": session})).await["turns"].clone()
}

#[tokio::test]
async fn a_session_comes_back_from_json_with_its_ids_or_as_another() {
    let here = Daemon::start().await;
    let mut wire = here.wire().await;
    let session = wire.session().await;
    for said in ["one", "two", "three"] {
        wire.turn(&session, said).await;
    }
    let update = json!({"session": session, "metadata": {"a": 1}, "tags": ["x"]});
    wire.ok("session/update", update).await;
    let whole = exported(&mut wire, &session, "json").await;
    let there = Daemon::start().await;
    let mut other = there.wire().await;
    let came = imported(&mut other, &whole, "json").await;
    assert_eq!((&came["imported"], &came["session"]["id"]), (&json!(true), &json!(session)));
    assert_eq!(came["seq"], other.get(&session).await["seq"]);
    let (old, new) = (wire.get(&session).await, other.get(&session).await);
    for member in ["title", "metadata", "tags", "messages", "tasks", "usage", "iterations"] {
        assert_eq!(old[member], new[member], "{member}");
    }
    assert_eq!(wire.texts(&session).await, other.texts(&session).await);
    let before = turns(&mut wire, &session).await;
    let drawn = |turns: &Value, name: &str| -> Vec<Value> {
        turns.as_array().unwrap().iter().map(|it| it[name].clone()).collect()
    };
    let after = turns(&mut other, &session).await;
    for name in ["id", "request", "response", "status"] {
        assert_eq!(drawn(&before, name), drawn(&after, name), "{name}");
    }
    let again = imported(&mut other, &whole, "json").await;
    let copy = text(&again["session"]["id"]);
    assert_ne!(copy, session, "there is one of that id");
    assert_eq!(other.texts(&copy).await, other.texts(&session).await);
    let there = there.killed_and_restarted().await;
    let mut other = there.wire().await;
    assert_eq!(other.turn(&copy, "more").await["task"]["status"], "completed");
    let log = exported(&mut other, &copy, "jsonl").await;
    let third = Daemon::start().await;
    imported(&mut third.wire().await, &log, "jsonl").await;
}

#[tokio::test]
async fn a_session_comes_back_from_its_page_as_a_new_one() {
    let daemon = Daemon::start().await;
    let mut wire = daemon.wire().await;
    let session = wire.session().await;
    let quoted = "a page has\n\n---\n\n## User\n\nin it\n\n```\n---\n```";
    for said in ["one", quoted, "three"] {
        wire.turn(&session, said).await;
    }
    let long = "long ".repeat(30_000);
    wire.turn(&session, &long).await;
    let page = exported(&mut wire, &session, "markdown").await;
    let came = imported(&mut wire, &page, "markdown").await;
    let copy = text(&came["session"]["id"]);
    assert_ne!(copy, session);
    assert_eq!((&came["session"]["title"], &came["session"]["tasks"]), (&json!("one"), &json!(4)));
    let list = json!({"session": copy, "limit": 500});
    let list = wire.ok("message/list", list).await["messages"].clone();
    assert_eq!(list[6]["content"][0]["bytes"], long.trim_end().len(), "put apart as ever");
    let texts = wire.texts(&copy).await;
    assert_eq!(texts[..6], wire.texts(&session).await[..6]);
    assert_eq!(turns(&mut wire, &copy).await.as_array().unwrap().len(), 4);
    assert_eq!(wire.turn(&copy, "more").await["task"]["status"], "completed");
}

#[tokio::test]
async fn a_file_that_is_no_session_is_refused_with_its_place_and_leaves_nothing() {
    let daemon = Daemon::start().await;
    let mut wire = daemon.wire().await;
    let session = talked(&mut wire).await;
    let whole = exported(&mut wire, &session, "json").await;
    let page = String::from_utf8(exported(&mut wire, &session, "markdown").await).unwrap();
    let other = Daemon::start().await;
    let mut wire = other.wire().await;
    let view: Value = serde_json::from_slice(&whole).unwrap();
    let changed = |change: fn(&mut Value)| {
        let mut view = view.clone();
        change(&mut view);
        view.to_string().into_bytes()
    };
    for (bytes, format, place) in [
        (whole[..whole.len() / 2].to_vec(), "json", "line"),
        (changed(|it| it["messages"][1]["role"] = json!("nobody")), "json", "messages[1].role"),
        (changed(|it| it["session"]["id"] = json!("x")), "json", "session.id"),
        (
            changed(|it| it["messages"][1]["id"] = it["messages"][0]["id"].clone()),
            "json",
            "messages[1].id",
        ),
        (whole.clone(), "json", "messages[2].content[0].blob"),
        (b"\xff".to_vec(), "json", "byte 0"),
        (b"no page".to_vec(), "markdown", "line 1"),
        (page.as_bytes()[..page.len() - 10].to_vec(), "markdown", "no end"),
        (page.replace("## User", "## You").into_bytes(), "markdown", "line 9"),
    ] {
        let blob = put(&mut wire, &bytes).await;
        let params = json!({"blob": blob, "format": format});
        let error = wire.call("session/import", params).await.expect_err(place);
        assert_eq!(error["data"]["kind"], "invalid_params", "{error}");
        assert!(text(&error["message"]).contains(place), "{place}: {error}");
    }
    let list = wire.ok("session/list", json!({"empty": true})).await;
    assert_eq!(list["sessions"], json!([]), "all or nothing");
    // What a file names may be put before it.
    put(&mut wire, "a long text, ".repeat(20_000).as_bytes()).await;
    imported(&mut wire, &whole, "json").await;
    let copy = exported(&mut wire, &session, "json").await;
    let copy: Value = serde_json::from_slice(&copy).unwrap();
    assert_eq!(copy["messages"][2]["content"], view["messages"][2]["content"]);
    let html = json!({"blob": put(&mut wire, b"<html>").await, "format": "html"});
    wire.refused("unsupported", "session/import", html).await;
}
