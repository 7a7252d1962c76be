//! Does a front end hold that was made from the manual alone: `protocol/examples/terminal.py`?

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use sess_tests::bins;
use sess_tests::harness::table::text as text_of;
use sess_tests::harness::{Daemon, Plan, Terminal, Wire, stub, until_held};
use sess_tests::stub::Stub;

/// A daemon whose model is held in the middle of its first answer, and answers `all of it` from then on.
async fn held() -> (Stub, Daemon) {
    let stub = stub().await;
    let first = json!([{"text": "begun, "}, {"hold": "h"}, {"text": "done"}]);
    stub.script_once("stub", first).await.unwrap();
    stub.script("stub", json!([{"text": "all "}, {"text": "of it"}])).await.unwrap();
    let daemon = Daemon::with_stub(&stub).await;
    (stub, daemon)
}

/// The front end, sitting at a session (or at one that it makes) and waiting for words.
async fn sit(plan: &Plan, session: &str) -> Terminal {
    let mut terminal = Terminal::open(plan, 80, 40).await;
    run(&terminal, session);
    terminal.until_shown("-- ").await;
    terminal
}

/// Says its process before it is there, so that it can be killed.
fn run(terminal: &Terminal, session: &str) {
    let program = bins::workspace().join("protocol/examples/terminal.py");
    let program = program.display();
    terminal.enter(&format!("clear; sh -c 'echo pid $$; exec python3 {program} {session}'"));
}

fn pid(screen: &str) -> Pid {
    let mut lines = screen.lines();
    let line = lines.find_map(|it| it.strip_prefix("pid ")).unwrap();
    Pid::from_raw(line.trim().parse().unwrap())
}

async fn only_session(wire: &mut Wire) -> String {
    let list = wire.ok("session/list", json!({"empty": true})).await;
    text_of(&list["sessions"][0]["id"])
}

/// What is on the screen of the conversation: from the first thing that was said on.
fn conversation(screen: &str) -> String {
    let begun = screen.find("terminal-").unwrap();
    screen[begun..].trim_end().to_owned()
}

#[tokio::test]
async fn two_see_the_same_answer_and_one_killed_amid_it_comes_back_to_it() {
    let (stub, daemon) = held().await;
    let mut wire = daemon.wire().await;
    let mut ada = sit(daemon.plan(), "").await;
    let session = only_session(&mut wire).await;
    let mut bob = sit(daemon.plan(), &session["sess_".len()..][..8]).await;
    ada.enter("first");
    ada.until_shown("begun,").await;
    until_held(&stub, "h").await;
    let screen = bob.until_shown("begun,").await;
    assert!(screen.contains("0 waiting\nbegun,"), "{screen}");
    kill(pid(&screen), Signal::SIGKILL).unwrap();
    bob.until_shown("Killed").await;
    run(&bob, &session);
    let screen =
        bob.until("the answer so far", |it| it.contains("begun,") && !it.contains("Killed"));
    assert!(screen.await.contains("> first\n"));
    bob.enter("second");
    ada.until_shown("1 waiting").await;
    stub.release("h").await.unwrap();
    for terminal in [&mut ada, &mut bob] {
        let screen = terminal.until("both answers", |it| it.contains("of it\n-- idle")).await;
        assert_eq!(screen.matches("done\n").count(), 1, "{screen}");
        assert_eq!(screen.matches("> second\n").count(), 1, "{screen}");
        assert_eq!(screen.matches("all of it\n").count(), 1, "{screen}");
    }
    assert_eq!(wire.texts(&session).await, ["first", "begun, done", "second", "all of it"]);
}

#[tokio::test]
async fn after_an_update_of_the_daemon_it_goes_on_and_nothing_is_there_twice() {
    let (stub, daemon) = held().await;
    let path = daemon.plan().socket();
    let mut ada = sit(daemon.plan(), "").await;
    let session = only_session(&mut daemon.wire().await).await;
    let mut bob = sit(daemon.plan(), &session).await;
    ada.enter("first");
    bob.until_shown("begun,").await;
    until_held(&stub, "h").await;
    let mut person = Terminal::open(daemon.plan(), 80, 10).await;
    person.enter("sess daemon restart; echo left $?");
    // Typed with no daemon there to hear it, or one that is about to end.
    bob.enter("second");
    person.until_shown("left 0").await;
    daemon.stopping().await;
    let mut screens = Vec::new();
    for terminal in [&mut ada, &mut bob] {
        let whole =
            |it: &str| it.matches("all of it\n").count() == 2 && it.trim_end().ends_with("idle");
        screens.push(conversation(&terminal.until("both answers", whole).await));
    }
    assert_eq!(screens[0].matches("> first").count(), 1, "{}", screens[0]);
    assert_eq!(screens[1].matches("> second").count(), 1, "{}", screens[1]);
    let mut wire = Wire::connect(&path).await;
    assert_eq!(wire.texts(&session).await, ["first", "all of it", "second", "all of it"]);
    wire.ok("daemon/shutdown", json!({})).await;
}

#[tokio::test]
async fn ctrl_c_takes_the_answer_back_then_leaves() {
    let (stub, daemon) = held().await;
    let mut ada = sit(daemon.plan(), "").await;
    ada.enter("first");
    ada.until_shown("begun,").await;
    until_held(&stub, "h").await;
    ada.keys(&["C-c"]);
    ada.until("the end of the task", |it| it.trim_end().ends_with("-- idle")).await;
    ada.keys(&["C-c"]);
    ada.until("the shell", |it| it.trim_end().ends_with('$')).await;
    let mut wire = daemon.wire().await;
    let session = only_session(&mut wire).await;
    assert_eq!(wire.texts(&session).await, ["first", "begun, "]);
}
