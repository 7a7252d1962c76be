//! Does a session of 1,000,000 events go out and come in whole, how fast, and what if the daemon is killed meanwhile?

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sess_tests::harness::Plan;
use sha2::{Digest, Sha256};

use crate::Bench;
use crate::client::Client;
use crate::measure::ms;
use crate::report::Bar;

/// Events in all: of each turn two, and those of a front end behind it.
const EVENTS: usize = 1_000_000;
const OWN_EVENTS: usize = 8;
/// Bytes of a piece of a file on the wire.
const PIECE_BYTES: usize = 1024 * 1024;

pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    let plan = bench.plan();
    let daemon = bench.start(&plan);
    let mut client = Client::connect(&plan.socket())?;
    let session = client.followed("echo/echo")?;
    client.turn(&session, None)?;
    let small = plan.folder().join("small.jsonl");
    exported(&mut client, &session, &small)?;
    let large = plan.folder().join("large.jsonl");
    let turns = bench.rounds(EVENTS) / (OWN_EVENTS + 2);
    grown(&small, &large, turns)?;
    bench.stop(daemon)?;
    let took = whole(bench, &large, &session)?;
    killed(bench, &large, &session, took)
}

/// In and out again: the same bytes. Answers how long it took to come in.
fn whole(bench: &mut Bench, large: &Path, session: &str) -> Result<Duration> {
    let plan = bench.plan();
    let daemon = bench.start(&plan);
    let mut client = Client::connect(&plan.socket())?;
    let blob = put(&mut client, large)?;
    let waited = Waits::begin(&plan)?;
    let start = Instant::now();
    let came = client.call("session/import", &json!({ "blob": blob }))?;
    let took = start.elapsed();
    let longest = waited.end()?;
    ensure!(came["imported"] == true, "it did not come in: {came}");
    let again = plan.folder().join("again.jsonl");
    let start = Instant::now();
    exported(&mut client, session, &again)?;
    let out = start.elapsed();
    ensure!(same(large, &again)?, "what came in went out as other bytes");
    bench.stop(daemon)?;
    let report = &mut bench.report;
    report.add(("import of 1,000,000 events", "s"), None, took.as_secs_f64(), Bar::None);
    report.add(("export of them", "s"), None, out.as_secs_f64(), Bar::None);
    let what = "longest wait of another session for a commit amid the import";
    report.add((what, "ms"), None, longest, Bar::None);
    Ok(took)
}

/// Killed in the middle of coming in: nothing of it is there, and it comes in as if nothing had been.
fn killed(bench: &mut Bench, large: &Path, session: &str, took: Duration) -> Result<()> {
    let plan = bench.plan();
    let mut daemon = bench.start(&plan);
    let mut halves = 0.0;
    for share in [0.1, 0.5, 0.9] {
        let mut client = Client::connect(&plan.socket())?;
        let blob = put(&mut client, large)?;
        client.send("session/import", &json!({ "blob": blob }))?;
        let (start, mut other) = (Instant::now(), Client::connect(&plan.socket())?);
        while start.elapsed() < took.mul_f64(share) {
            other.call("daemon/status", &json!({}))?;
        }
        bench.runtime.block_on(daemon.kill());
        daemon = bench.start(&plan);
        let mut client = Client::connect(&plan.socket())?;
        // Alone it may be quicker than with others, and whole before its end.
        if client.call("session/get", &json!({ "session": session })).is_ok() {
            let there = plan.folder().join("there.jsonl");
            exported(&mut client, session, &there)?;
            halves += if same(large, &there)? { 0.0 } else { 1.0 };
        }
    }
    bench.report.add(("kill -9 amid it: there in part, of 3", ""), None, halves, Bar::AtMost(0.0));
    let mut client = Client::connect(&plan.socket())?;
    let blob = put(&mut client, large)?;
    client.call("session/import", &json!({ "blob": blob }))?;
    let again = plan.folder().join("again.jsonl");
    exported(&mut client, session, &again)?;
    ensure!(same(large, &again)?, "after the kills other bytes went out");
    bench.stop(daemon)
}

/// Another session that changes all the time.
struct Waits {
    stop: std::sync::mpsc::SyncSender<()>,
    thread: std::thread::JoinHandle<Result<f64>>,
}

impl Waits {
    fn begin(plan: &Plan) -> Result<Waits> {
        let mut client = Client::connect(&plan.socket())?;
        let session = client.sessions(1, "echo/echo")?.remove(0);
        let (stop, stopped) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::spawn(move || {
            let mut longest: f64 = 0.0;
            while stopped.try_recv().is_err() {
                let start = Instant::now();
                client.call("session/update", &json!({"session": session, "title": "changed"}))?;
                longest = longest.max(ms(start.elapsed()));
            }
            Ok(longest)
        });
        Ok(Waits { stop, thread })
    }

    /// The longest that one change took, in milliseconds.
    fn end(self) -> Result<f64> {
        let _ = self.stop.send(());
        self.thread.join().map_err(|_| anyhow::anyhow!("the other session broke"))?
    }
}

/// Writes a session into a file.
fn exported(client: &mut Client, session: &str, path: &Path) -> Result<()> {
    let out = client.call("session/export", &json!({"session": session, "format": "jsonl"}))?;
    let mut file = BufWriter::new(File::create(path)?);
    let mut offset = 0;
    loop {
        let params = json!({"blob": out["blob"], "offset": offset, "length": PIECE_BYTES});
        let piece = client.call("blob/get", &params)?;
        let bytes = STANDARD.decode(piece["data"].as_str().context("a piece has data")?)?;
        offset += bytes.len();
        file.write_all(&bytes)?;
        if piece["last"] == true {
            return Ok(file.flush()?);
        }
    }
}

/// Puts a file in pieces; answers its name.
fn put(client: &mut Client, path: &Path) -> Result<Value> {
    let (mut file, mut upload, mut offset) = (File::open(path)?, Value::Null, 0);
    let bytes = usize::try_from(file.metadata()?.len())?;
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let length = PIECE_BYTES.min(bytes - offset);
        file.read_exact(&mut piece[..length])?;
        let last = offset + length == bytes;
        let data = STANDARD.encode(&piece[..length]);
        let mut params = json!({"data": data, "offset": offset, "last": last});
        if !upload.is_null() {
            params["upload"] = upload;
        }
        let done = client.call("blob/put", &params)?;
        if last {
            return Ok(done["blob"].clone());
        }
        upload = done["upload"].clone();
        offset += length;
    }
}

/// Whether two files hold the same bytes.
fn same(one: &Path, two: &Path) -> Result<bool> {
    let open = |path| Ok::<_, std::io::Error>(BufReader::new(File::open(path)?).bytes());
    let (mut one, mut two) = (open(one)?, open(two)?);
    loop {
        match (one.next().transpose()?, two.next().transpose()?) {
            (None, None) => return Ok(true),
            (one, two) if one != two => return Ok(false),
            _ => {}
        }
    }
}

/// The lines of a file.
fn lines(path: &Path) -> Result<Vec<String>> {
    Ok(BufReader::new(File::open(path)?).lines().collect::<std::io::Result<_>>()?)
}

/// Writes a log with the first event of another, and then many turns shaped as its only one.
fn grown(small: &Path, large: &PathBuf, turns: usize) -> Result<()> {
    let read = lines(small)?;
    let commits: Vec<Value> =
        read[1..].iter().map(|it| serde_json::from_str(it)).collect::<Result<_, _>>()?;
    let events: Vec<&Value> =
        commits.iter().flat_map(|it| it["events"].as_array()).flatten().collect();
    ensure!(events.len() == 3, "made, started, completed: {}", events.len());
    let session = commits[0]["session"].as_str().context("a commit names its session")?;
    let mut log = Log { session, out: BufWriter::new(File::create(large)?), head: [0; 32] };
    writeln!(log.out, "{}", read[0])?;
    log.commit(&[events[0].to_string()])?;
    let ids = |it: &Value, path: &str| -> Result<String> {
        Ok(it.pointer(path).and_then(Value::as_str).context("an id")?.to_owned())
    };
    let [task, asked, answer] = [
        ids(events[1], "/data/task/id")?,
        ids(events[1], "/data/message/id")?,
        ids(events[2], "/data/message/id")?,
    ];
    let shapes = [events[1].to_string(), events[2].to_string()];
    let (mut seq, mut parent) = (2, String::new());
    for turn in 0..turns {
        let id =
            |kind: &str, part: usize| format!("{kind}_01998f2e4c007000{:016x}", turn * 4 + part);
        let (question, reply) = (id("msg", 1), id("msg", 2));
        for (at, shape) in shapes.iter().enumerate() {
            let text = shape.replace(&task, &id("task", 3));
            let mut event: Value =
                serde_json::from_str(&text.replace(&asked, &question).replace(&answer, &reply))?;
            event["seq"] = seq.into();
            event["data"]["message"]["seq"] = seq.into();
            if at == 0 && turn > 0 {
                event["data"]["message"]["parent"] = parent.as_str().into();
            }
            event["data"]["session"]["messages"] = (turn * 2 + at + 1).into();
            event["data"]["thread"]["messages"] = (turn * 2 + at + 1).into();
            log.commit(&[event.to_string()])?;
            seq += 1;
        }
        parent = reply;
        let own = |n: usize| {
            json!({"seq": seq + n, "at": "2026-11-21T10:00:00.000Z", "type": "bench:tick",
                "data": {"turn": turn, "n": n}})
            .to_string()
        };
        log.commit(&(0..OWN_EVENTS).map(own).collect::<Vec<_>>())?;
        seq += OWN_EVENTS;
    }
    Ok(log.out.flush()?)
}

/// A log that is written as the daemon writes it.
struct Log<'a> {
    session: &'a str,
    out: BufWriter<File>,
    head: [u8; 32],
}

impl Log<'_> {
    fn commit(&mut self, events: &[String]) -> Result<()> {
        let (session, events) = (self.session, events.join(","));
        let body = format!("{{\"session\":\"{session}\",\"epoch\":0,\"events\":[{events}]");
        let mut hash = Sha256::new_with_prefix(self.head);
        hash.update(body.as_bytes());
        hash.update(b"}");
        self.head = hash.finalize().into();
        let hex: String = self.head.iter().map(|it| format!("{it:02x}")).collect();
        Ok(writeln!(self.out, "{body},\"hash\":\"{hex}\"}}")?)
    }
}
