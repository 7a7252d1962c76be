//! Is each line that no client should send answered with the error that is right for it, and with nothing else?

use serde_json::{Value, json};
use sess_tests::figures::figure;
use sess_tests::harness::{Daemon, Wire};

use crate::{alone, everything, is_sound};

/// What a line is answered with.
enum Right {
    /// An error of this kind, under this id.
    Refused(&'static str, Value),
    /// `invalid_params` that names this one, under the id 1.
    Param(&'static str),
    /// A result, under the id 1.
    Served,
}
use Right::{Param, Refused, Served};

/// A line with what it is, and with what it is answered.
type Line = (&'static str, Vec<u8>, Right);

const LIST: &str = r#"{"id":1,"method":"session/list"}"#;

fn create(params: &str) -> Vec<u8> {
    format!("{{\"id\":1,\"method\":\"session/create\",\"params\":{params}}}").into()
}

fn parse() -> Right {
    Refused("parse", Value::Null)
}

/// Bytes that are no text, and texts that are no signs.
fn signs() -> Vec<Line> {
    let list = LIST;
    let bytes = |parts: [&[u8]; 3]| parts.concat();
    vec![
        ("a NUL alone", b"\0".to_vec(), parse()),
        ("a NUL before", bytes([b"\0", list.as_bytes(), b""]), parse()),
        ("a NUL behind", bytes([list.as_bytes(), b"\0", b""]), parse()),
        ("a NUL in a text", create("{\"title\":\"a\0b\"}"), parse()),
        ("a BOM", bytes([b"\xef\xbb\xbf", list.as_bytes(), b""]), parse()),
        ("UTF-16", bytes([b"\xff\xfe{\0", b"", b""]), parse()),
        (
            "a byte that is no UTF-8",
            bytes([&create("{\"title\":\"")[..], b"\xff", b"\"}}"]),
            parse(),
        ),
        ("an overlong slash", bytes([&create("{\"title\":\"")[..], b"\xc0\xaf", b"\"}}"]), parse()),
        ("half a sign", bytes([&create("{\"title\":\"")[..], b"\xf0\x9f", b"\"}}"]), parse()),
        (
            "a surrogate in UTF-8",
            bytes([&create("{\"title\":\"")[..], b"\xed\xa0\x80", b"\"}}"]),
            parse(),
        ),
        ("the first half of a pair", create(r#"{"title":"\ud800"}"#), Param("title")),
        ("the second half of a pair", create(r#"{"title":"\udc00"}"#), Param("title")),
        ("a pair turned round", create(r#"{"title":"\udc00\ud800"}"#), Param("title")),
        ("half a pair as a name", create(r#"{"metadata":{"\ud800":1}}"#), Param("metadata")),
        (
            "half a pair as a method",
            br#"{"id":1,"method":"\ud800"}"#.to_vec(),
            Refused("invalid_request", json!(1)),
        ),
        (
            "half a pair as an id",
            br#"{"id":"\ud800","method":"session/list"}"#.to_vec(),
            Refused("invalid_request", Value::Null),
        ),
    ]
}

/// JSON that says too much.
fn values() -> Vec<Line> {
    let list = LIST;
    vec![
        ("a key twice", create(r#"{"title":"a","title":"b"}"#), Param("title")),
        (
            "a key twice, written otherwise",
            create(r#"{"title":"a","\u0074itle":"b"}"#),
            Param("title"),
        ),
        ("a key twice inside", create(r#"{"metadata":{"a":1,"a":2}}"#), Param("metadata")),
        (
            "an id twice",
            br#"{"id":1,"id":2,"method":"session/list"}"#.to_vec(),
            Refused("invalid_request", json!(1)),
        ),
        (
            "a method twice",
            br#"{"id":1,"method":"session/list","method":"session/create"}"#.to_vec(),
            Refused("invalid_request", json!(1)),
        ),
        (
            "params twice",
            br#"{"id":1,"method":"session/list","params":{},"params":{}}"#.to_vec(),
            Refused("invalid_request", json!(1)),
        ),
        ("1e999", create(r#"{"metadata":{"a":1e999}}"#), Param("metadata")),
        ("-1e999", create(r#"{"metadata":{"a":-1e999}}"#), Param("metadata")),
        (
            "1e999 as a number",
            br#"{"id":1,"method":"session/list","params":{"limit":1e999}}"#.to_vec(),
            Param("limit"),
        ),
        (
            "1e999 as an id",
            br#"{"id":1e999,"method":"session/list"}"#.to_vec(),
            Refused("invalid_request", Value::Null),
        ),
        ("NaN", create(r#"{"metadata":{"a":NaN}}"#), parse()),
        ("two values on a line", format!("{list}{list}").into(), parse()),
        ("two values with a space", format!("{list} {list}").into(), parse()),
        ("a comma behind", br#"{"id":1,"method":"session/list",}"#.to_vec(), parse()),
        ("a comment", br#"{"id":1,"method":"session/list"} // x"#.to_vec(), parse()),
        ("a return inside", b"{\"id\":1,\r\"method\":\"session/list\"}".to_vec(), Served),
        (
            "an integer past 64 bits",
            br#"{"id":18446744073709551616,"method":"session/list"}"#.to_vec(),
            Refused("invalid_request", Value::Null),
        ),
    ]
}

#[tokio::test]
async fn each_bad_line_gets_its_error_and_changes_nothing() {
    let _alone = alone().await;
    let daemon = Daemon::start().await;
    let mut wire = daemon.wire().await;
    let session = wire.session().await;
    wire.turn(&session, "what stays").await;
    let before = everything(&mut wire).await;
    let lines = signs().into_iter().chain(values()).collect::<Vec<Line>>();
    for (what, line, right) in &lines {
        wire.send_bytes(line).await;
        wire.send_bytes(b"\n").await;
        let answer = wire.next_line().await.unwrap();
        let data = &answer["error"]["data"];
        match right {
            Refused(kind, id) => {
                assert_eq!((&data["kind"], &answer["id"]), (&json!(kind), id), "{what}: {answer}");
            }
            Param(param) => {
                assert_eq!(data["kind"], "invalid_params", "{what}: {answer}");
                let named = data["param"].as_str().unwrap();
                assert!(named.split(['.', '[']).next() == Some(param), "{what}: {answer}");
                assert_eq!(answer["id"], 1, "{what}: {answer}");
            }
            Served => assert!(answer["result"].is_object(), "{what}: {answer}"),
        }
    }
    let mut other = daemon.wire().await;
    assert_eq!(everything(&mut other).await, before);
    figure("R13", "bad lines with the right error, nothing changed", lines.len(), lines.len());
    is_sound(&daemon).await;
}

#[tokio::test]
async fn what_was_not_ended_when_its_client_left_was_never_said() {
    let _alone = alone().await;
    let daemon = Daemon::start().await;
    let mut wire = daemon.wire().await;
    let before = everything(&mut wire).await;
    let request = br#"{"id":1,"method":"session/create","params":{}}"#;
    for cut in 0..=request.len() {
        let mut leaving: Wire = daemon.wire().await;
        leaving.send_bytes(&request[..cut]).await;
        leaving.close_sending();
        assert_eq!(leaving.rest().await, Vec::<Value>::new(), "cut at {cut}");
    }
    assert_eq!(everything(&mut wire).await, before);
    // With its end it was said, though nobody says more.
    let mut leaving = daemon.wire().await;
    leaving.send_bytes(&[&request[..], b"\n"].concat()).await;
    leaving.close_sending();
    assert!(leaving.rest().await[0]["result"]["id"].is_string());
    is_sound(&daemon).await;
}
