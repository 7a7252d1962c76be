//! What do those cost who send much, slowly, or read nothing of what they ask for?

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::spawn;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sess_protocol::envelope::{ANSWERS_BYTES_MAX, REQUESTS_MAX};
use sess_protocol::line::LINE_BYTES_MAX;
use sess_tests::figures::{figure, rounds};
use sess_tests::harness::Daemon;

use crate::healthy::Healthy;
use crate::{alone, is_sound, memory};

/// Bytes that are sent without a newline.
const FLOOD_BYTES: usize = 1024 * 1024 * 1024;
/// Connections that send a byte a second, and for how many seconds.
const DRIPPING: usize = 200;
const DRIP_SECONDS: u64 = 3;
/// Brackets of a line.
const BRACKETS: usize = 1_000_000;
/// How long a line after the other is sent, or answers are left unread.
const WHILE: Duration = Duration::from_secs(1);
/// Connections that ask and do not read, and what each asks for.
const DEAF: usize = 16;
const ASKED: usize = REQUESTS_MAX + 44;
/// Clients that stay when they are gone: the healthy one, and one who looks for it.
const REMAIN: u64 = 2;
/// Answers that one of them reads in the end.
const WOKEN: usize = 10;
/// Texts that together are more than one answer can hold: all that is asked for is as long as it can be.
const TEXTS: usize = 90;
const TEXT_BYTES: usize = 60_000;

/// What the daemon's memory may grow by for a reason that is not named here: what it allots and keeps for itself.
const SLACK: u64 = 12 * MIB;
/// What one connection costs that has sent little: its two jobs, and room to read into.
const CONNECTION_BYTES: u64 = 64 * 1024;
/// Lines that one connection has in memory: as it came, while room for it is doubled, and as it is read.
const LINES_OF_ONE: u64 = 3;
/// Answers that are made at a time, and how often each is in memory while it is made.
const ANSWERS_MADE: u64 = 2;
const STEPS: u64 = 4;
/// What waits for one client, be it as long as it may: a line in its queue, and one that is being written.
const OUT_BYTES: u64 = 2 * LINE_BYTES_MAX as u64;
/// Of what came and went in pieces of some MiB, the allocator may keep one part in so many between those that stay.
const FRAGMENTS: u64 = 10;
const MIB: u64 = 1024 * 1024;
/// How many threads an abuse keeps at work, in the daemon and outside of it: one that sends a gibibyte; one that sends
/// brackets and one that reads them; one that asks and the two that make answers. No order in the daemon can do away
/// with them: the kernel shares two processors out between all who want them.
const FLOODING: usize = 1;
const NESTING: usize = 2;
const ASKING: usize = 3;

/// One healthy client, quiet, beside other work and beside an abuse by turns, which may cost so many bytes of memory.
async fn story(
    what: &str,
    bytes_max: u64,
    burden: usize,
    prepare: impl AsyncFn(&Daemon),
    abuse: fn(&Path),
) {
    let _alone = alone().await;
    let daemon = Daemon::start().await;
    prepare(&daemon).await;
    let mut healthy = Healthy::new(&daemon).await;
    healthy.rest().await;
    let before = memory(&daemon, "VmRSS");
    for _ in 0..rounds(2, 20) {
        let socket = daemon.plan().socket();
        healthy.beside(spawn(move || abuse(&socket))).await;
        healthy.rest().await;
        if burden > 0 {
            healthy.burdened(burden).await;
        }
    }
    healthy.judge(what);
    let grown = memory(&daemon, "VmHWM").saturating_sub(before);
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / MIB as f64);
    figure("R13", &format!("memory grown: {what}"), mib(grown), mib(bytes_max));
    assert!(grown <= bytes_max, "{what}: {} grown, {} are allowed", mib(grown), mib(bytes_max));
    is_sound(&daemon).await;
}

async fn nothing(_: &Daemon) {}

#[tokio::test]
async fn a_gibibyte_without_newline_costs_one_line_and_gets_one_error() {
    let most = LINES_OF_ONE * LINE_BYTES_MAX as u64 + SLACK;
    story("1 GiB without newline", most, FLOODING, nothing, flood).await;
}

fn flood(socket: &Path) {
    let mut line = Line::connect(socket);
    let piece = vec![b'x'; 64 * 1024];
    for _ in 0..FLOOD_BYTES / piece.len() {
        line.to.write_all(&piece).unwrap();
    }
    line.to.write_all(b"\n{\"id\":2,\"method\":\"session/list\"}\n").unwrap();
    let refused = line.read();
    assert_eq!(refused["error"]["data"]["kind"], "invalid_request", "{refused}");
    assert_eq!(refused["error"]["data"]["limit_bytes"], LINE_BYTES_MAX);
    assert_eq!(line.read()["id"], 2, "one error, then what comes behind it");
}

#[tokio::test]
async fn two_hundred_who_send_a_byte_a_second_are_served_in_the_end() {
    let most = DRIPPING as u64 * CONNECTION_BYTES + SLACK;
    story("a byte a second from 200 connections", most, 0, nothing, drip).await;
}

fn drip(socket: &Path) {
    let mut lines: Vec<Line> = (0..DRIPPING).map(|_| Line::connect(socket)).collect();
    let request = b"{\"id\":7,\"method\":\"session/list\"}\n";
    let pause = Duration::from_secs(1) / u32::try_from(DRIPPING).unwrap();
    let sent = DRIP_SECONDS as usize;
    for byte in &request[..sent] {
        for line in &mut lines {
            line.to.write_all(&[*byte]).unwrap();
            std::thread::sleep(pause);
        }
    }
    for line in &mut lines {
        line.to.write_all(&request[sent..]).unwrap();
        assert_eq!(line.read()["id"], 7);
    }
}

#[tokio::test]
async fn a_million_brackets_are_refused_wherever_they_stand() {
    let most = LINES_OF_ONE * LINE_BYTES_MAX as u64 + SLACK;
    story("1,000,000 brackets a line", most, NESTING, nothing, brackets).await;
}

fn brackets(socket: &Path) {
    let mut line = Line::connect(socket);
    let deep = "[".repeat(BRACKETS);
    let closed = format!("{deep}{}", "]".repeat(BRACKETS));
    let to_the_limit = "[".repeat(LINE_BYTES_MAX - 100);
    let objects = "{\"a\":".repeat(BRACKETS / 2);
    let of = |params: &str| {
        format!("{{\"id\":3,\"method\":\"session/create\",\"params\":{{\"metadata\":{params}}}}}")
    };
    let cases = [
        (deep.clone(), Value::Null),
        (closed.clone(), Value::Null),
        (of(&deep), json!(3)),
        (of(&closed), json!(3)),
        (of(&to_the_limit), json!(3)),
        (of(&objects), json!(3)),
    ];
    let until = Instant::now() + WHILE;
    while Instant::now() < until {
        for (text, id) in &cases {
            let refused = line.ask(text);
            assert_eq!(refused["error"]["data"]["kind"], "invalid_request");
            assert_eq!(
                (&refused["id"], &refused["error"]["data"]["limit_depth"]),
                (id, &json!(64))
            );
        }
        // In a text they are only signs.
        let title = format!(
            "{{\"id\":4,\"method\":\"session/list\",\"params\":{{\"text\":\"{}\"}}}}",
            "[".repeat(1_000)
        );
        assert!(line.ask(&title)["result"].is_object());
    }
}

#[tokio::test]
async fn answers_that_nobody_reads_are_not_kept_without_end() {
    let held = ANSWERS_BYTES_MAX as u64
        + ANSWERS_MADE * STEPS * LINE_BYTES_MAX as u64
        + DEAF as u64 * OUT_BYTES;
    let most = held + held / FRAGMENTS + SLACK;
    story("answers never read", most, ASKING, long_history, ask_and_read_nothing).await;
}

async fn long_history(daemon: &Daemon) {
    let mut wire = daemon.wire().await;
    let session = wire.ok("session/create", json!({"title": LONG})).await["id"].clone();
    let text = "x".repeat(TEXT_BYTES);
    for _ in 0..TEXTS {
        wire.turn(session.as_str().unwrap(), &text).await;
    }
}

/// The title of the session with the long history.
const LONG: &str = "long";

fn ask_and_read_nothing(socket: &Path) {
    let mut reader = Line::connect(socket);
    let list = "{\"id\":1,\"method\":\"session/list\",\"params\":{\"text\":\"long\"}}";
    let session = reader.ask(list)["result"]["sessions"][0]["id"].clone();
    let ask =
        json!({"id": 1, "method": "message/list", "params": {"session": session, "limit": 500}});
    let follow = json!({"id": 1, "method": "session/follow",
        "params": {"session": session, "messages": 500}});
    let mut deaf: Vec<Line> = (0..DEAF).map(|_| Line::connect(socket)).collect();
    for (number, line) in deaf.iter_mut().enumerate() {
        let request = if number % 4 == 3 { &follow } else { &ask };
        // All of it fits into what the kernel keeps: nobody waits.
        line.to.write_all(format!("{request}\n").repeat(ASKED).as_bytes()).unwrap();
    }
    std::thread::sleep(WHILE);
    // One wakes up: each of its requests has one answer, the thing or the right error.
    let woken = &mut deaf[0];
    for _ in 0..WOKEN {
        let answer = woken.read();
        let is_given = answer["result"]["messages"].is_array();
        assert!(is_given || answer["error"]["data"]["kind"] == "overloaded", "{}", answer["error"]);
    }
    drop(deaf);
    // Until they are gone altogether: what it takes belongs to them, and not to the time behind it.
    let clients = |it: &mut Line| {
        let status = it.ask("{\"id\":1,\"method\":\"daemon/status\"}");
        status["result"]["clients"].as_u64().unwrap()
    };
    while clients(&mut reader) > REMAIN {}
}

/// A connection of a thread that may wait.
struct Line {
    to: UnixStream,
    from: BufReader<UnixStream>,
}

impl Line {
    fn connect(socket: &Path) -> Line {
        let to = UnixStream::connect(socket).unwrap();
        to.set_read_timeout(Some(sess_tests::harness::deadline())).unwrap();
        let from = BufReader::new(to.try_clone().unwrap());
        Line { to, from }
    }

    fn ask(&mut self, line: &str) -> Value {
        self.to.write_all(line.as_bytes()).unwrap();
        self.to.write_all(b"\n").unwrap();
        self.read()
    }

    fn read(&mut self) -> Value {
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }
}
