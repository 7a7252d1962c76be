//! Calls against a server written by hand, byte for byte, over loopback.

use std::collections::VecDeque as Queue;
use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::super::dialect::Dialect;
use super::super::http::Deadlines;
use super::super::{PromptMessage, Speaker, settings};
use super::*;

/// What the server does with one request.
#[derive(Clone)]
enum Act {
    /// Sends this, then waits for the next request on the connection.
    Keep(Vec<u8>),
    /// Sends this and closes.
    Close(Vec<u8>),
    /// Sends this and nothing more, and waits for the client to close.
    Hold(Vec<u8>),
}

/// What the server saw.
#[derive(Debug, PartialEq)]
enum Saw {
    Connection,
    Request(String),
    /// The client closed while the server held.
    Closed,
}

struct Server {
    base_url: String,
    saw: mpsc::Receiver<Saw>,
}

async fn serve(acts: impl IntoIterator<Item = Act>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
    let acts = Arc::new(Mutex::new(acts.into_iter().collect::<Queue<_>>()));
    let (send, saw) = mpsc::channel(64);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            send.send(Saw::Connection).await.unwrap();
            tokio::spawn(play(socket, acts.clone(), send.clone()));
        }
    });
    Server { base_url, saw }
}

async fn play(mut socket: TcpStream, acts: Arc<Mutex<Queue<Act>>>, saw: mpsc::Sender<Saw>) {
    while let Some(request) = request(&mut socket).await {
        let _ = saw.send(Saw::Request(request)).await;
        let act = acts.lock().unwrap().pop_front().unwrap_or(Act::Close(Vec::new()));
        let (Act::Keep(bytes) | Act::Close(bytes) | Act::Hold(bytes)) = &act;
        socket.write_all(bytes).await.unwrap();
        match act {
            Act::Keep(_) => {}
            Act::Close(_) => return,
            Act::Hold(_) => {
                // A reset closes as well as an end does.
                let read = socket.read(&mut [0; 1]).await;
                assert!(matches!(read, Ok(0) | Err(_)), "the client sends nothing more");
                let _ = saw.send(Saw::Closed).await;
                return;
            }
        }
    }
}

async fn request(socket: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|it| it.strip_prefix("content-length: ")).unwrap();
        if body.len() >= length.parse::<usize>().unwrap() {
            return Some(text.into_owned());
        }
    }
}

/// An answer as a stream, in one HTTP chunk each.
fn streamed(events: &[&str]) -> Vec<u8> {
    let mut bytes =
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
            .to_vec();
    for event in events {
        let data = format!("data: {event}\n\n");
        bytes.extend(format!("{:x}\r\n{data}\r\n", data.len()).as_bytes());
    }
    bytes
}

fn whole(events: &[&str]) -> Vec<u8> {
    [streamed(events), b"0\r\n\r\n".to_vec()].concat()
}

fn status(line: &str, headers: &str, body: &str) -> Act {
    let length = body.len();
    let head = format!("HTTP/1.1 {line}\r\n{headers}content-length: {length}\r\n\r\n{body}");
    Act::Keep(head.into_bytes())
}

const ONE: &str = r#"{"choices":[{"delta":{"content":"one "}}]}"#;
const TWO: &str = r#"{"choices":[{"delta":{"content":"two"}}]}"#;
const STOP: &str = r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#;
const USAGE: &str = r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}"#;
const DONE: &str = "[DONE]";
const GOOD: [&str; 5] = [ONE, TWO, STOP, USAGE, DONE];

const PATIENT: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(60);

fn deadlines() -> Deadlines {
    Deadlines { connect: PATIENT, first_byte: PATIENT, idle: PATIENT, total: PATIENT }
}

fn model(base_url: &str, deadlines: Deadlines) -> Remote {
    let document = serde_json::json!({"a": {"kind": "openai"}});
    let provider = &settings::parse(&document).unwrap()["a"];
    let mut site =
        Site::new(provider, Dialect::Completions, base_url, Some("sk-secret-key")).unwrap();
    site.deadlines = deadlines;
    let policy = Policy { pause: Duration::from_millis(2), ..Policy::default() };
    Remote { site: Arc::new(site), policy, prices: Arc::default(), windows: Windows::default() }
}

fn prompt() -> Prompt {
    let message = PromptMessage::text(Speaker::User, "hi");
    Prompt { model: "m".to_owned(), system: None, messages: vec![message] }
}

/// What a caller is left with: the text that stands, the end, and how often it began again.
#[derive(Debug)]
struct Got {
    text: String,
    restarts: u32,
    end: Result<Finish, ModelError>,
}

async fn ask(model: &Remote) -> Got {
    let mut stream = model.ask(prompt());
    let (mut text, mut restarts, mut end) = (String::new(), 0, None);
    while let Some(item) = stream.next().await {
        assert_eq!(end, None, "nothing comes behind the end");
        match item {
            Ok(Piece::Text(piece)) => text.push_str(&piece),
            Ok(Piece::Reasoning(piece)) => text.push_str(&format!("({piece})")),
            Ok(Piece::Restart) => {
                text.clear();
                restarts += 1;
            }
            Ok(Piece::Finish(finish)) => end = Some(Ok(finish)),
            Err(error) => end = Some(Err(error)),
        }
    }
    Got { text, restarts, end: end.expect("a stream has an end") }
}

async fn ask_of(acts: impl IntoIterator<Item = Act>) -> Got {
    let server = serve(acts).await;
    ask(&model(&server.base_url, deadlines())).await
}

#[tokio::test]
async fn an_answer_comes_with_its_usage_and_its_place() {
    let thought = r#"{"choices":[{"delta":{"reasoning_content":"hm"}}]}"#;
    let mut server = serve([Act::Keep(whole(&[thought, ONE, TWO, STOP, USAGE, DONE]))]).await;
    let got = ask(&model(&server.base_url, deadlines())).await;
    let finish = got.end.unwrap();
    assert_eq!(got.text, "(hm)one two");
    assert_eq!((finish.input_tokens, finish.output_tokens, finish.attempt), (3, 2, 1));
    assert_eq!(finish.endpoint.as_deref(), server.base_url.strip_suffix("/v1"));
    assert_eq!(server.saw.recv().await, Some(Saw::Connection));
    let Some(Saw::Request(request)) = server.saw.recv().await else { panic!("a request") };
    assert!(request.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("authorization: Bearer sk-secret-key\r\n"), "{request}");
    assert!(request.contains(r#"{"role":"user","content":"hi"}"#), "{request}");
}

#[tokio::test]
async fn nothing_happens_before_the_first_poll() {
    let mut server = serve([]).await;
    drop(model(&server.base_url, deadlines()).ask(prompt()));
    assert!(server.saw.try_recv().is_err());
}

#[tokio::test]
async fn calls_share_a_connection() {
    let mut server = serve(vec![Act::Keep(whole(&GOOD)); 5]).await;
    let model = model(&server.base_url, deadlines());
    for _ in 0..5 {
        assert_eq!(ask(&model).await.text, "one two");
    }
    let mut connections = 0;
    while let Ok(saw) = server.saw.try_recv() {
        connections += u32::from(saw == Saw::Connection);
    }
    assert_eq!(connections, 1);
}

#[tokio::test]
async fn an_answer_that_is_not_streamed_is_taken_whole() {
    let body = r#"{"choices":[{"message":{"content":"all"},"finish_reason":"length"}]}"#;
    let got = ask_of([status("200 OK", "content-type: application/json\r\n", body)]).await;
    assert_eq!((got.text.as_str(), got.end.unwrap().stop_reason.as_str()), ("all", "length"));
}

#[tokio::test]
async fn errors_have_their_reason_and_the_providers_words_without_the_key() {
    let body = r#"{"error":{"message":"no: sk-secret-key"}}"#;
    let cases = [
        ("401 Unauthorized", Reason::Auth),
        ("403 Forbidden", Reason::Auth),
        ("404 Not Found", Reason::Refused),
        ("413 Too Large", Reason::ContextTooLong),
        ("302 Found", Reason::Refused),
    ];
    for (line, reason) in cases {
        let got = ask_of([status(line, "location: http://127.0.0.1:1/\r\n", body)]).await;
        let error = got.end.unwrap_err();
        assert_eq!(error.reason, reason, "{line}");
        let words = format!("answered {}: no: [key]", &line[..3]);
        assert!(error.message.ends_with(&words), "{}", error.message);
    }
}

#[tokio::test]
async fn what_passes_is_tried_three_times_and_no_more() {
    for line in ["429 Slow Down", "500 Oops", "503 Busy", "529 Overloaded", "408 Late"] {
        let bad = status(line, "", "{}");
        let good = Act::Keep(whole(&GOOD));
        let got = ask_of([bad.clone(), bad.clone(), good.clone()]).await;
        assert_eq!((got.text.as_str(), got.restarts), ("one two", 0), "{line}");
        assert_eq!(got.end.unwrap().attempt, 3);
        let got = ask_of([bad.clone(), bad.clone(), bad, good]).await;
        assert!(got.end.is_err(), "{line}");
    }
}

#[tokio::test]
async fn the_provider_says_how_long_to_wait() {
    let quick = status("429 Slow Down", "retry-after-ms: 30\r\n", "{}");
    let asked = Instant::now();
    let got = ask_of([quick, Act::Keep(whole(&GOOD))]).await;
    assert_eq!(got.end.unwrap().attempt, 2);
    assert!(asked.elapsed() >= Duration::from_millis(30));
    let late = status("429 Slow Down", "retry-after: 61\r\n", "{}");
    let error = ask_of([late, Act::Keep(whole(&GOOD))]).await.end.unwrap_err();
    assert_eq!((error.reason, error.retry_after_ms), (Reason::RateLimit, Some(61_000)));
}

#[tokio::test]
async fn a_refused_connection_is_unavailable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = ask(&model(&base_url, deadlines())).await.end.unwrap_err();
    assert_eq!(error.reason, Reason::Unavailable);
    assert!(error.message.contains("cannot be reached: Connection refused"), "{}", error.message);
}

#[tokio::test]
async fn an_answer_cut_anywhere_is_tried_again_and_never_doubled() {
    let answer = whole(&GOOD);
    let server = serve(
        (0..answer.len())
            .flat_map(|cut| [Act::Close(answer[..cut].to_vec()), Act::Keep(answer.clone())]),
    );
    let server = server.await;
    let (mut first, mut second) = (0, 0);
    let mut drain = server.saw;
    tokio::spawn(async move { while drain.recv().await.is_some() {} });
    while first + second < answer.len() {
        // A model of its own, so that no connection of the call before is left.
        let model = model(&server.base_url, deadlines());
        let got = ask(&model).await;
        assert_eq!(got.text, "one two", "cut at {}", first + second);
        match got.end.unwrap().attempt {
            1 => {
                first += 1;
                // The answer meant for the second attempt.
                assert_eq!(ask(&model).await.text, "one two");
            }
            _ => second += 1,
        }
    }
    assert!(first > 20 && second > 100, "{first} answers were whole when cut, {second} were not");
}

#[tokio::test]
async fn an_answer_cut_every_time_fails_once_and_keeps_its_last_text() {
    let cut = |events: &[&str]| Act::Close(streamed(events));
    let got = ask_of([cut(&[ONE]), cut(&[ONE, TWO]), cut(&[ONE])]).await;
    assert_eq!((got.text.as_str(), got.restarts), ("one ", 2));
    let error = got.end.unwrap_err();
    assert_eq!(error.reason, Reason::Unavailable);
    // An attempt that gives nothing leaves standing what the one before gave.
    let got = ask_of([cut(&[ONE, TWO]), status("503 Busy", "", ""), cut(&[])]).await;
    assert_eq!((got.text.as_str(), got.restarts), ("one two", 0));
    assert_eq!(got.end.unwrap_err().reason, Reason::Unavailable);
}

#[tokio::test]
async fn an_empty_answer_after_a_cut_one_voids_it() {
    let got = ask_of([Act::Close(streamed(&[ONE])), Act::Keep(whole(&[STOP, DONE]))]).await;
    assert_eq!((got.text.as_str(), got.restarts), ("", 1));
    assert_eq!(got.end.unwrap().attempt, 2);
}

#[tokio::test]
async fn an_error_in_the_stream_keeps_the_text_before_it() {
    let refused = r#"{"error":{"code":400,"message":"not this"}}"#;
    let got = ask_of([Act::Keep(whole(&[ONE, refused]))]).await;
    let error = got.end.unwrap_err();
    assert_eq!((got.text.as_str(), error.reason), ("one ", Reason::Refused));
    assert!(error.message.contains("not this"));
    let passing = r#"{"error":{"code":502,"message":"m"}}"#;
    let got = ask_of([Act::Keep(whole(&[ONE, passing])), Act::Keep(whole(&GOOD))]).await;
    assert_eq!((got.text.as_str(), got.restarts), ("one two", 1));
}

#[tokio::test]
async fn a_bad_answer_is_not_asked_for_again() {
    let page = status("200 OK", "content-type: text/html\r\n", "<html>login</html>");
    let cases = [
        Act::Keep(whole(&[ONE, "nonsense"])),
        Act::Keep(
            [streamed(&[ONE]), b"8\r\ndata: \xff\n\r\n2\r\n\n\n\r\n0\r\n\r\n".to_vec()].concat(),
        ),
        Act::Close([streamed(&[ONE]), b"110000\r\n".to_vec(), vec![b'x'; 0x11_0000]].concat()),
        page,
    ];
    for act in cases {
        let got = ask_of([act, Act::Keep(whole(&GOOD))]).await;
        assert_eq!(got.end.unwrap_err().reason, Reason::BadAnswer);
    }
}

#[tokio::test]
async fn dropping_the_stream_closes_the_connection() {
    for (held, pieces) in [(streamed(&[ONE]), 1), (Vec::new(), 0)] {
        let mut server = serve([Act::Hold(held)]).await;
        let mut stream = model(&server.base_url, deadlines()).ask(prompt());
        for _ in 0..pieces {
            assert_eq!(stream.next().await, Some(Ok(Piece::Text("one ".to_owned()))));
        }
        loop {
            tokio::select! {
                item = stream.next() => panic!("the server holds: {item:?}"),
                saw = server.saw.recv() => if let Some(Saw::Request(_)) = saw { break },
            }
        }
        drop(stream);
        assert_eq!(server.saw.recv().await, Some(Saw::Closed));
    }
}

#[tokio::test]
async fn a_silent_provider_runs_into_its_deadline() {
    // Before the first byte: tried again, as nothing was lost.
    let hold = |events: &[&str]| Act::Hold(streamed(events));
    let limits = Deadlines { first_byte: SHORT, ..deadlines() };
    let server = serve([Act::Hold(Vec::new()), hold(&[]), Act::Keep(whole(&GOOD))]).await;
    let got = ask(&model(&server.base_url, limits)).await;
    assert_eq!((got.text.as_str(), got.end.unwrap().attempt), ("one two", 3));
    // In the middle: text stands, and a second one would cost a second answer.
    let limits = Deadlines { idle: SHORT, ..deadlines() };
    let server = serve([hold(&[ONE]), Act::Keep(whole(&GOOD))]).await;
    let got = ask(&model(&server.base_url, limits)).await;
    assert_eq!((got.text.as_str(), got.end.unwrap_err().reason), ("one ", Reason::Timeout));
    // In all.
    let limits = Deadlines { total: SHORT, ..deadlines() };
    let server = serve([Act::Hold(Vec::new()), Act::Keep(whole(&GOOD))]).await;
    let error = ask(&model(&server.base_url, limits)).await.end.unwrap_err();
    assert_eq!(error.reason, Reason::Timeout);
    assert!(error.message.contains("in all"), "{}", error.message);
}

#[tokio::test]
async fn a_provider_that_keeps_the_line_open_after_done_holds_nobody_up() {
    let asked = Instant::now();
    let got = ask_of([Act::Hold(streamed(&GOOD))]).await;
    assert_eq!(got.text, "one two");
    assert!(got.end.is_ok() && asked.elapsed() < PATIENT);
}
