//! How much work is each hot path, and is any of it done once more for each follower or for each turn before?
//!
//! Times say little on a machine that others use as well. Instructions say the same on each run: the daemon as it
//! is runs under callgrind, one client asks one thing at a time, and what a part of the run took is read by a
//! mark before and a mark behind it. `counts.json` keeps the counts.

#![allow(clippy::unwrap_used, reason = "a helper's failure is the failure of its test")]

mod kept;
mod valgrind;

use std::collections::BTreeMap;

use kept::Kept;
use serde_json::json;
use sess_tests::figures::figure;
use sess_tests::harness::{Plan, Wire, stub};
use sess_tests::stub::Stub;
use valgrind::{Counted, Work, copied};

/// Turns of the session that is resumed and followed, and sessions in the list.
const TURNS: usize = 10;
const SESSIONS: usize = 30;
/// Operations between two marks, and how often that is done: the median counts.
const OPERATIONS: usize = 20;
const BATCHES: usize = 5;
/// Pieces of an answer, and the time between two: so long that each is told alone and, as the daemon keeps an
/// unfinished answer on disk ten times a second, kept alone too. Otherwise the count would depend on the clock.
const PIECES: usize = 40;
const PIECE_MS: u64 = 150;
/// Followers of one session, and turns of a long one.
const FOLLOWERS: usize = 32;
const LONG: usize = 1_000;
/// How much more work a piece may be after [`LONG`] turns than after one, with noise.
const HISTORY_RATIO_MAX: f64 = 1.15;
/// Allocations that a piece may cost for each further follower: its channels take memory for many entries at
/// once, and a turn has other lines than pieces. A line of its own would be a whole one more for each piece.
const FOLLOWER_ALLOCATIONS_MAX: f64 = 0.9;
/// Bytes that a piece may have copied for each further follower, on its way through two channels. The line has
/// nearly 300: no follower has it copied.
const FOLLOWER_COPIED_MAX: f64 = 200.0;

/// The stub with a model that writes slowly and one that says one word, and a plan for it.
async fn stage() -> (Stub, Plan) {
    let stub = stub().await;
    stub.script("paced", json!([{"pieces": PIECES, "every_ms": PIECE_MS}])).await.unwrap();
    let plan = Plan::new().stub(&stub);
    (stub, plan)
}

/// One turn of this session, by this model, to its end.
async fn turn(wire: &mut Wire, session: &str, model: &str) {
    let send = json!({"session": session, "content": "hello", "model": model});
    let sent = wire.ok("chat/send", send).await;
    let done = wire.wait(&sent).await;
    assert_eq!(done["task"]["status"], "completed", "{done}");
}

/// A session of so many turns.
async fn session_of(wire: &mut Wire, turns: usize) -> String {
    let session = wire.session().await;
    for _ in 0..turns {
        turn(wire, &session, "echo/echo").await;
    }
    session
}

/// What the session is asked in one operation of a path.
async fn once(path: &str, wire: &mut Wire, session: &str) {
    let params = json!({"session": session});
    match path {
        "send" => turn(wire, session, "echo/echo").await,
        "follow" => {
            wire.ok("session/follow", params.clone()).await;
            wire.ok("session/unfollow", params).await;
        }
        "list" => drop(wire.ok("session/list", json!({"limit": SESSIONS})).await),
        _ => drop(wire.ok("session/resume", params).await),
    }
}

/// Instructions of one operation.
async fn count(counted: &mut Counted, path: &str, wire: &mut Wire, session: &str) -> u64 {
    let mut counts = Vec::new();
    for batch in 0..=BATCHES {
        // Each turn is the first of its session.
        let mut sessions = vec![session.to_owned(); OPERATIONS];
        if path == "send" {
            for place in &mut sessions {
                *place = wire.session().await;
            }
        }
        counted.mark();
        for session in &sessions {
            once(path, wire, session).await;
        }
        let work = counted.mark().each_beyond(Work::default(), OPERATIONS);
        // The first fills what is kept for later.
        if batch > 0 {
            counts.push(work.instructions);
        }
    }
    counts.sort_by(f64::total_cmp);
    println!("{path}: {counts:.0?}");
    counts[BATCHES / 2] as u64
}

/// What one piece takes, told to this many followers of a session: that of an answer of many, without what an
/// answer of one takes.
async fn piece(counted: &mut Counted, session: &str, followers: usize) -> Work {
    let mut wires = Vec::new();
    for _ in 0..followers {
        let mut wire = counted.wire().await;
        wire.follow(session).await;
        wires.push(wire);
    }
    let mut wire = counted.wire().await;
    turn(&mut wire, session, "stub/pieces-1").await;
    counted.mark();
    turn(&mut wire, session, "stub/pieces-1").await;
    let before = counted.mark();
    turn(&mut wire, session, "stub/paced").await;
    let many = counted.mark();
    // The model reads more at each turn: the mean of the turns around it reads as much as the long one.
    turn(&mut wire, session, "stub/pieces-1").await;
    let behind = counted.mark();
    for wire in &mut wires {
        let told =
            wire.until(|it| it.method == "delta" && it.params["text"] == json!(last_piece()));
        let deltas = told.await.iter().filter(|it| it.method == "delta").count();
        assert_eq!(deltas, PIECES + 2, "each piece is told alone");
    }
    many.each_beyond(before.mean(behind), PIECES - 1)
}

fn last_piece() -> String {
    format!("w{} ", PIECES - 1)
}

#[tokio::test]
async fn the_five_hot_paths_take_the_work_that_they_took() {
    let (_stub, plan) = stage().await;
    let mut counted = Counted::start(&plan).await;
    let mut wire = counted.wire().await;
    let session = session_of(&mut wire, TURNS).await;
    for _ in 0..SESSIONS {
        session_of(&mut wire, 1).await;
    }
    let mut counts = BTreeMap::new();
    for path in ["follow", "list", "resume", "send"] {
        let count = count(&mut counted, path, &mut wire, &session).await;
        counts.insert(path.to_owned(), count);
    }
    let piece = piece(&mut counted, &session, 1).await;
    counts.insert("piece".to_owned(), piece.instructions as u64);
    for (path, count) in &counts {
        figure("speed", &format!("instructions of one {path}"), count, 1);
    }
    Kept::of(counts).judge();
}

#[tokio::test]
async fn a_piece_is_made_once_for_all_followers_and_does_not_look_back() {
    let (_stub, plan) = stage().await;
    let daemon = plan.start().await;
    let long = session_of(&mut daemon.wire().await, LONG).await;
    let short = session_of(&mut daemon.wire().await, 1).await;
    assert_eq!(daemon.terminate().await, 0);
    let mut counted = Counted::start(&plan).await;
    let one = piece(&mut counted, &short, 1).await;
    let many = piece(&mut counted, &short, FOLLOWERS).await;
    let late = piece(&mut counted, &long, 1).await;
    let follower = many.each_beyond(one, FOLLOWERS - 1);
    let ratio = late.instructions / one.instructions;
    println!(
        "a piece: {one:.1?}\nfor each further follower: {follower:.1?}\nafter {LONG}: {late:.1?}"
    );
    figure("speed", "allocations of a piece", format!("{:.1}", one.allocations), PIECES);
    figure(
        "speed",
        "allocations of a piece for a further follower",
        format!("{:.2}", follower.allocations),
        FOLLOWERS - 1,
    );
    figure(
        "speed",
        "work of a piece after 1,000 turns, to that after one",
        format!("{ratio:.2}"),
        PIECES,
    );
    assert!(follower.allocations <= FOLLOWER_ALLOCATIONS_MAX, "{follower:?} for each follower");
    assert!(ratio <= HISTORY_RATIO_MAX, "after {LONG} turns {late:?}, after one {one:?}");
}

/// One answer of a model, told to so many followers.
async fn answered(plan: Plan, followers: usize, model: &str) {
    let mut wire = Wire::connect(&plan.socket()).await;
    let session = wire.session().await;
    let mut wires = Vec::new();
    for _ in 0..followers {
        let mut wire = Wire::connect(&plan.socket()).await;
        wire.follow(&session).await;
        wires.push(wire);
    }
    turn(&mut wire, &session, model).await;
}

/// Bytes that one piece has copied, told to so many followers.
async fn copied_by_piece(followers: usize) -> f64 {
    let (_stub, plan) = stage().await;
    let one = copied(|plan| answered(plan, followers, "stub/pieces-1"), &plan).await;
    let (_stub, plan) = stage().await;
    let many = copied(|plan| answered(plan, followers, "stub/paced"), &plan).await;
    (many - one) / (PIECES - 1) as f64
}

#[tokio::test]
async fn a_piece_is_not_copied_for_each_follower() {
    let (one, many) = (copied_by_piece(1).await, copied_by_piece(FOLLOWERS).await);
    let follower = (many - one) / (FOLLOWERS - 1) as f64;
    println!("bytes copied for a piece: {one:.0}, for each further follower: {follower:.0}");
    figure("speed", "bytes copied for a piece", format!("{one:.0}"), PIECES);
    figure(
        "speed",
        "bytes copied for a piece for a further follower",
        format!("{follower:.0}"),
        FOLLOWERS - 1,
    );
    assert!(follower <= FOLLOWER_COPIED_MAX, "{follower} bytes for each follower");
}
