//! What happens when descriptors are passed to the daemon, and when it has none left?

use std::io::{IoSlice, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::unistd::SysconfVar;
use serde_json::{Value, json};
use sess_tests::bins;
use sess_tests::figures::figure;
use sess_tests::harness::{Daemon, Plan, Wire, said, stub, until_asked, until_held, within};

use crate::{alone, descriptors_of, is_sound, is_unbroken};

/// Descriptors passed, and how many with one piece of a line.
const PASSED: usize = 200;
const PASSED_AT_ONCE: usize = 20;
/// Descriptors that the daemon may have, and those who want to connect.
const ALLOWED: u32 = 32;
const CROWD: usize = 500;
/// How long the crowd stays, and what the daemon may do meanwhile, in parts of a processor.
const OUTAGE: Duration = Duration::from_secs(3);
const BUSY_MAX: f64 = 0.05;
/// How soon others are served again when the crowd has gone.
const BACK_MAX: Duration = Duration::from_secs(1);

#[tokio::test]
async fn descriptors_that_are_passed_are_not_taken() {
    let _alone = alone().await;
    let daemon = Daemon::start().await;
    let mut wire = daemon.wire().await;
    wire.ok("session/list", json!({})).await;
    let mut passing = UnixStream::connect(daemon.plan().socket()).unwrap();
    passing.set_read_timeout(Some(sess_tests::harness::deadline())).unwrap();
    // Answered, so that it is counted.
    let request = "{\"id\":1,\"method\":\"session/list\"}\n";
    passing.write_all(request.as_bytes()).unwrap();
    read_line(&mut passing);
    let before = descriptors_of(&daemon);
    let file = std::fs::File::open("/dev/null").unwrap();
    let files: Vec<RawFd> = vec![file.as_raw_fd(); PASSED_AT_ONCE];
    let bytes = request.len() / (PASSED / PASSED_AT_ONCE);
    for piece in request.as_bytes().chunks(bytes) {
        let rights = [ControlMessage::ScmRights(&files)];
        let sent = sendmsg::<()>(
            passing.as_raw_fd(),
            &[IoSlice::new(piece)],
            &rights,
            MsgFlags::empty(),
            None,
        );
        assert_eq!(sent, Ok(piece.len()));
    }
    assert!(read_line(&mut passing).contains("\"result\""), "the line is a line all the same");
    let taken = descriptors_of(&daemon) - before;
    figure("R13", "passed descriptors that the daemon has", taken, PASSED);
    assert_eq!(taken, 0);
    is_sound(&daemon).await;
}

fn read_line(from: &mut UnixStream) -> String {
    let (mut line, mut byte) = (Vec::new(), [0]);
    while byte != [b'\n'] {
        from.read_exact(&mut byte).unwrap();
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap()
}

/// A daemon that may open few files. It cannot take more: that is the hard limit, too.
async fn poor(plan: Plan) -> Daemon {
    let prlimit = Path::new("/usr/bin/prlimit");
    let limit = format!("--nofile={ALLOWED}:{ALLOWED}");
    plan.program(prlimit).arg(limit).arg(bins::bin("sessd")).start().await
}

#[tokio::test]
async fn tasks_go_on_beside_a_crowd_that_takes_all_descriptors_and_it_is_over_with_the_crowd() {
    let _alone = alone().await;
    let stub = stub().await;
    let held =
        json!([{"pieces": 50, "text": "w{i} "}, {"hold": "amid"}, {"pieces": 50, "text": "w{i} "}]);
    stub.script("stub", held).await.unwrap();
    let daemon = poor(Plan::new().stub(&stub)).await;
    let mut wire = daemon.wire().await;
    let (first, second) = (wire.session().await, wire.session().await);
    let running = wire.say(&first, "begins before").await;
    until_held(&stub, "amid").await;
    let before = descriptors_of(&daemon);

    let began = (Instant::now(), processor_time(&daemon));
    let crowd = crowd(&daemon).await;
    // It asks its model on a connection of its own, while nobody else gets one.
    let begun_amid = wire.say(&second, "begins amid").await;
    until_asked(&stub, "begins amid").await;
    stub.release("amid").await.unwrap();
    for (sent, session) in [(&running, &first), (&begun_amid, &second)] {
        let done = wire.wait(sent).await;
        assert_eq!(done["task"]["status"], "completed", "{done}");
        assert!(said(&done["answer"]).ends_with("w49 "), "{done}");
        assert_eq!(wire.texts(session).await.len(), 2);
    }
    // Nothing is said to this one while the crowd stays.
    assert_eq!(wire.notification_within(OUTAGE).await, None);
    let busy = (processor_time(&daemon) - began.1).as_secs_f64() / began.0.elapsed().as_secs_f64();
    figure("R14", "processor in the outage", format!("{:.1} %", busy * 100.0), "5 %");
    assert!(busy < BUSY_MAX, "the daemon was busy for {busy:.3} of the outage");

    drop(crowd);
    let gone = Instant::now();
    let (tries, mut again) = served_again(&daemon.plan().socket()).await;
    let back = gone.elapsed();
    figure("R14", "served again", format!("{} ms", back.as_millis()), format!("{tries} tries"));
    figure("R14", "tasks lost beside the crowd", 0, 2);
    assert!(back < BACK_MAX, "{back:?} until somebody is served");
    assert_eq!(again.ok("daemon/status", json!({})).await["pid"], daemon.pid());
    // The second task's connection to the model is kept for the next one, and the new client is there.
    let left = descriptors_of(&daemon);
    let more = 2;
    assert!(left <= before + more, "{before} were open before, {left} are left open");
    is_unbroken(&daemon);
}

/// Many who connect and stay: some are served, each other is told why not.
async fn crowd(daemon: &Daemon) -> Vec<Wire> {
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        crowd.push(daemon.wire().await);
    }
    let (mut served, mut told) = (0, 0);
    for wire in &mut crowd {
        // One that was turned away may have been so before it could say anything.
        wire.try_send_bytes(b"{\"id\":1,\"method\":\"session/list\"}\n").await;
        let line = wire.next_line().await;
        match line.as_ref().map(|it| &it["error"]["data"]["kind"]) {
            Some(Value::Null) => served += 1,
            Some(kind) => {
                assert_eq!(kind, "overloaded", "{line:?}");
                told += 1;
            }
            None => {}
        }
    }
    figure(
        "R14",
        "of a crowd, told that there is no room",
        told,
        format!("{CROWD}, {served} served"),
    );
    assert!(served > 0, "few are served");
    assert_eq!(served + told, CROWD, "each other is told");
    crowd
}

/// Connects until it is served; how often that was.
async fn served_again(socket: &Path) -> (u32, Wire) {
    for tries in 1.. {
        let mut wire = within("a connection", Wire::connect(socket)).await;
        wire.try_send_bytes(b"{\"id\":1,\"method\":\"session/list\"}\n").await;
        if wire.next_line().await.is_some_and(|it| it["result"].is_object()) {
            return (tries, wire);
        }
    }
    unreachable!("it tries until it is served")
}

/// What the daemon has used of processors.
fn processor_time(daemon: &Daemon) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).unwrap();
    let behind_name = stat.rsplit_once(')').unwrap().1;
    let fields: Vec<&str> = behind_name.split_whitespace().collect();
    // User and system, the 14th and 15th of all.
    let ticks: u64 = fields[11..13].iter().map(|it| it.parse::<u64>().unwrap()).sum();
    let per_second = nix::unistd::sysconf(SysconfVar::CLK_TCK).unwrap().unwrap();
    Duration::from_secs_f64(ticks as f64 / per_second as f64)
}
