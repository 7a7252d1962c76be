//! What does a turn cost, in time and in work, beside a call to the model itself?

use std::collections::HashMap;
use std::path::Path;
use std::sync::Barrier;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use sess_tests::harness::Daemon;
use sess_tests::stub::What;

use crate::Bench;
use crate::client::Client;
use crate::direct::{Bare, Echo, Http};
use crate::measure::{Samples, cpu_ms};
use crate::report::Bar;

const SHORT: &str = "stub/pieces-1";
const LONG: &str = "stub/pieces-1000";
/// Pieces of the answer that comes piece by piece, and the time between two of them.
const PACED_PIECES: usize = 200;
const PACED_MS: u64 = 4;
/// Sessions that are busy together, and pieces of each of their answers.
const TOGETHER: usize = 8;
const TOGETHER_PIECES: &str = "pieces-100";
/// Followers beside the first, and turns that they hear of one session.
const FOLLOWERS: usize = 8;
const TURNS_FOLLOWED: usize = 10;

pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    let plan = bench.plan();
    let daemon = bench.start(&plan);
    let socket = plan.socket();
    alone(bench, &socket, plan.folder())?;
    paced(bench, &socket)?;
    work(bench, &daemon, &socket)?;
    together(bench, &socket)
}

/// One session: turns of one piece and of many, each beside its bare parts.
fn alone(bench: &mut Bench, socket: &Path, folder: &Path) -> Result<()> {
    let mut client = Client::connect(socket)?;
    let (mut http, mut echo) = (Http::connect(bench.stub.port())?, Echo::start()?);
    let bare = Bare::open(folder)?;
    let [mut direct, mut commit, mut socket_ms, mut turn] = [const { Samples::new() }; 4];
    let rounds = bench.rounds(400);
    let mut session = String::new();
    for round in 0..rounds + 20 {
        // A new session now and then: this row is about a turn, not about a history.
        if round % 20 == 0 {
            session = client.followed(SHORT)?;
            client.turn(&session, None)?;
        }
        if round == 20 {
            [direct, commit, socket_ms, turn] = [const { Samples::new() }; 4];
        }
        direct.time(|| http.turn("pieces-1"))?;
        turn.time(|| client.turn(&session, None))?;
        commit.time(|| bare.commit())?;
        socket_ms.time(|| echo.round())?;
    }
    let bar = direct.median() + 2.0 * commit.median() + 0.5;
    let report = &mut bench.report;
    report.add(("a bare commit of SQLite", "ms"), None, commit, Bar::None);
    report.add(("an echo over a socket", "ms"), None, socket_ms, Bar::None);
    report.add(("turn of 1 piece", "ms"), Some(direct.median()), turn, Bar::AtMost(bar));
    let (mut direct, mut turn) = (Samples::default(), Samples::default());
    for round in 0..bench.rounds(200) {
        if round % 10 == 0 {
            session = client.followed(LONG)?;
            client.turn(&session, Some(SHORT))?;
        }
        direct.time(|| http.turn("pieces-1000"))?;
        turn.time(|| client.turn(&session, None))?;
        // The context of the next is that of a first turn again.
        session = client.followed(LONG)?;
    }
    let direct = Some(direct.median());
    bench.report.add(("turn of 1,000 pieces at once", "ms"), direct, turn, Bar::AtMost(8.0));
    Ok(())
}

/// From the moment at which the stub has sent a piece to that at which a client has it.
fn paced(bench: &mut Bench, socket: &Path) -> Result<()> {
    let steps = json!([{"pieces": PACED_PIECES, "every_ms": PACED_MS}]);
    bench.runtime.block_on(bench.stub.script("paced", steps))?;
    let (mut direct, mut sess) = (Samples::default(), Samples::default());
    let mut client = Client::connect(socket)?;
    let mut http = Http::connect(bench.stub.port())?;
    for _ in 0..bench.rounds(5) {
        let since = last_entry(bench)?;
        let mut heard = HashMap::new();
        http.ask("paced", |part| hear(part, &mut heard))?;
        delays(bench, since, &heard, &mut direct)?;
        let since = last_entry(bench)?;
        heard.clear();
        let session = client.followed("stub/paced")?;
        client.send("chat/send", &json!({"session": session, "content": "go on"}))?;
        while heard.len() < PACED_PIECES {
            let line = client.line()?;
            if line.starts_with(br#"{"jsonrpc":"2.0","method":"delta""#) {
                hear(line, &mut heard);
            }
        }
        client.ended()?;
        delays(bench, since, &heard, &mut sess)?;
    }
    let direct = Some(direct.median());
    bench.report.add(("delay of one paced piece", "ms"), direct, sess, Bar::AtMost(0.3));
    Ok(())
}

fn last_entry(bench: &Bench) -> Result<u64> {
    bench.runtime.block_on(bench.stub.newest())
}

/// Notes when the pieces `w0 w1 ..` in these bytes came.
fn hear(bytes: &[u8], heard: &mut HashMap<u64, u64>) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    for place in bytes.split(|it| *it == b'w').skip(1) {
        let digits = place.iter().take_while(|it| it.is_ascii_digit()).count();
        let text = std::str::from_utf8(&place[..digits]).unwrap_or_default();
        if let Ok(index) = text.parse()
            && place.get(digits) == Some(&b' ')
        {
            heard.entry(index).or_insert(u64::try_from(now).unwrap_or(u64::MAX));
        }
    }
}

fn delays(bench: &Bench, since: u64, heard: &HashMap<u64, u64>, into: &mut Samples) -> Result<()> {
    for entry in bench.runtime.block_on(bench.stub.log_since(since))? {
        if let What::Piece { index, .. } = entry.what {
            let at = heard.get(&index).with_context(|| format!("piece {index} never came"))?;
            into.add(at.saturating_sub(entry.at_us) as f64 / 1e3);
        }
    }
    Ok(())
}

/// What the daemon's process works for a turn, for a piece more, for a follower more.
fn work(bench: &mut Bench, daemon: &Daemon, socket: &Path) -> Result<()> {
    let mut client = Client::connect(socket)?;
    let pid = daemon.pid();
    let (short, long) = (bench.rounds(1_000), bench.rounds(200));
    let (mut one, mut piece) = (Samples::default(), Samples::default());
    for _ in 0..5 {
        let turn_ms = cpu_of_turns(&mut client, pid, SHORT, short / 5)?;
        let long_ms = cpu_of_turns(&mut client, pid, LONG, long / 5)?;
        one.add(turn_ms);
        piece.add((long_ms - turn_ms) / 999.0 * 1e3);
    }
    bench.report.add(("work of a turn of 1 piece", "CPU ms"), None, one, Bar::AtMost(1.0));
    bench.report.add(("work of one piece more", "CPU µs"), None, piece, Bar::AtMost(8.0));
    let mut more = Samples::default();
    for _ in 0..5 {
        let alone = cpu_of_followed(&mut client, socket, pid, (0, long / 5))?;
        let watched = cpu_of_followed(&mut client, socket, pid, (FOLLOWERS, long / 5))?;
        more.add((watched - alone) / FOLLOWERS as f64);
    }
    let what = ("work of one follower more of 1,000 pieces", "CPU ms");
    bench.report.add(what, None, more, Bar::AtMost(1.0));
    Ok(())
}

/// The work of one of many turns, with a new session for every ten.
fn cpu_of_turns(client: &mut Client, pid: u32, model: &str, turns: usize) -> Result<f64> {
    let sessions = turns.div_ceil(10);
    let mut followed = Vec::new();
    for _ in 0..sessions {
        followed.push(client.followed(model)?);
    }
    let before = cpu_ms(pid)?;
    for turn in 0..turns {
        client.turn(&followed[turn / 10], None)?;
    }
    Ok((cpu_ms(pid)? - before) / turns as f64)
}

fn cpu_of_followed(
    client: &mut Client,
    socket: &Path,
    pid: u32,
    (followers, turns): (usize, usize),
) -> Result<f64> {
    // Few turns a session, so that what the model is shown stays small beside the pieces.
    let sessions = turns.div_ceil(TURNS_FOLLOWED);
    let mut used = 0.0;
    for _ in 0..sessions {
        let session = client.followed(LONG)?;
        let mut others = Vec::new();
        for _ in 0..followers {
            let mut other = Client::connect(socket)?;
            other.call("session/follow", &json!({ "session": session }))?;
            others.push(other);
        }
        let before = cpu_ms(pid)?;
        for _ in 0..TURNS_FOLLOWED {
            client.turn(&session, None)?;
            others.iter_mut().try_for_each(Client::ended)?;
        }
        used += cpu_ms(pid)? - before;
    }
    Ok(used / (sessions * TURNS_FOLLOWED) as f64)
}

/// Many sessions at once: how many turns a second, beside as many direct calls.
fn together(bench: &mut Bench, socket: &Path) -> Result<()> {
    let turns = bench.rounds(120);
    let port = bench.stub.port();
    let (mut direct, mut sess) = (Samples::default(), Samples::default());
    for _ in 0..5 {
        direct.add(rate(turns, |barrier| {
            let mut http = Http::connect(port)?;
            barrier.wait();
            (0..turns).try_for_each(|_| http.turn(TOGETHER_PIECES))
        })?);
        sess.add(rate(turns, |barrier| {
            let mut client = Client::connect(socket)?;
            let session = client.followed(&format!("stub/{TOGETHER_PIECES}"))?;
            barrier.wait();
            (0..turns).try_for_each(|_| client.turn(&session, None))
        })?);
    }
    let what = ("8 sessions, turns of 100 pieces", "turns/s");
    bench.report.add(what, Some(direct.median()), sess, Bar::AtLeast(800.0));
    Ok(())
}

fn rate(turns: usize, work: impl Fn(&Barrier) -> Result<()> + Sync) -> Result<f64> {
    let barrier = Barrier::new(TOGETHER + 1);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..TOGETHER).map(|_| scope.spawn(|| work(&barrier))).collect();
        barrier.wait();
        let start = Instant::now();
        for worker in workers {
            let done = worker.join();
            ensure!(done.is_ok(), "a thread broke");
            done.unwrap_or(Ok(()))?;
        }
        Ok((TOGETHER * turns) as f64 / start.elapsed().as_secs_f64())
    })
}
