//! What does a person see who sits at a terminal, of any width and kind?

use serde_json::json;
use sess_tests::harness::table::text as text_of;
use sess_tests::harness::terminal::scrubbed;
use sess_tests::harness::{Daemon, Plan, Terminal, Wire, stub, until_held};
use sess_tests::stub::Stub;

/// An answer with every form of markdown that has a look of its own.
const ANSWER: &str = "# Sky\n\nIt is **blue** because of `scattering`:\n\n- short *waves*\n- see [NASA](https://nasa.gov)\n\n```rust\nlet sky = \"blue\";\n```\n> quoted\n";

/// A daemon whose model answers with [`ANSWER`], cut into small pieces.
async fn daemon() -> (Stub, Daemon) {
    with_answer(stub().await).await
}

async fn with_answer(stub: Stub) -> (Stub, Daemon) {
    let signs: Vec<char> = ANSWER.chars().collect();
    let pieces: Vec<_> =
        signs.chunks(3).map(|it| json!({"text": it.iter().collect::<String>()})).collect();
    stub.script("stub", json!(pieces)).await.unwrap();
    let daemon = Daemon::with_stub(&stub).await;
    (stub, daemon)
}

/// The same, held in the middle of the first answer.
async fn held() -> (Stub, Daemon) {
    let stub = stub().await;
    let steps = json!([{"text": "begun \n"}, {"hold": "h"}, {"text": "done"}]);
    stub.script_once("stub", steps).await.unwrap();
    with_answer(stub).await
}

/// Holds a screen against the file of this name; with `SESS_BLESS` it becomes the file.
fn matches(name: &str, screen: &str) {
    let path = format!("{}/it/screens/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    // The shell's next prompt may be there already or not.
    let screen = scrubbed(screen).trim_end_matches("$\n").to_owned();
    if std::env::var_os("SESS_BLESS").is_some() {
        std::fs::write(&path, &screen).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(screen, kept, "the screen is another than in {path}");
}

async fn sessions(wire: &mut Wire) -> usize {
    wire.ok("session/list", json!({"empty": true})).await["sessions"].as_array().unwrap().len()
}

#[tokio::test]
async fn the_first_minute_at_80_columns() {
    let (_stub, daemon) = daemon().await;
    let mut terminal = Terminal::open(daemon.plan(), 80, 40).await;
    terminal.enter("sess chat");
    terminal.until_prompts(1).await;
    terminal.enter("why is the sky blue?");
    terminal.until_prompts(2).await;
    terminal.enter("/ls");
    terminal.until_shown("ACTIVE").await;
    terminal.keys(&["C-d"]);
    let screen = terminal.until_shown("comes back to it").await;
    matches("first-minute-80", &screen);
    let styled = terminal.styled_screen();
    assert!(styled.contains("\x1b[1mblue"), "bold is bold: {styled:?}");
    assert!(!screen.contains("**"), "{screen}");
}

#[tokio::test]
async fn a_list_fits_every_width_and_is_whole_where_there_is_room() {
    let daemon = Daemon::start().await;
    let mut wire = daemon.wire().await;
    let session = wire.session().await;
    let title = "日本語のとても長いタイトルです、八十桁には決して収まりませんから切られます";
    wire.turn(&session, title).await;
    for (columns, name) in [(80, "list-80"), (200, "list-200"), (40, "list-40")] {
        let mut terminal = Terminal::open(daemon.plan(), columns, 6).await;
        terminal.enter("clear; sess ls; echo end");
        matches(name, &terminal.until_shown("\nend").await);
    }
}

#[tokio::test]
async fn in_a_pipe_an_answer_is_what_the_model_wrote() {
    let (_stub, daemon) = daemon().await;
    let mut terminal = Terminal::open(daemon.plan(), 80, 30).await;
    terminal.enter("clear; sess chat sky 2>/dev/null | cat -v; sess ls | cat -v; echo end");
    let screen = terminal.until_shown("\nend").await;
    assert!(screen.contains("It is **blue** because of `scattering`:"), "{screen}");
    assert!(!screen.contains("^["), "{screen}");
    matches("pipe", &screen);
}

#[tokio::test]
async fn without_colour_nothing_is_styled_and_markdown_stays_raw() {
    let (_stub, daemon) = daemon().await;
    let mut terminal = Terminal::open(daemon.plan(), 80, 30).await;
    terminal.enter("clear; NO_COLOR=1 sess chat sky; NO_COLOR=1 sess ls; echo end");
    let screen = terminal.until_shown("\nend").await;
    assert!(screen.contains("**blue**"), "{screen}");
    let styled = terminal.styled_screen();
    assert!(!styled.contains('\x1b'), "{styled:?}");
}

#[tokio::test]
async fn a_dumb_terminal_gets_no_code_and_can_converse() {
    let (_stub, daemon) = daemon().await;
    let mut terminal = Terminal::open(daemon.plan(), 80, 40).await;
    terminal.enter("TERM=dumb; sess chat");
    terminal.until_prompts(1).await;
    terminal.enter("sky");
    terminal.until_prompts(3).await;
    terminal.keys(&["C-d"]);
    let screen = terminal.until_shown("comes back to it").await;
    assert!(screen.contains("**blue**"), "{screen}");
    let raw = terminal.raw();
    let begun = raw.find("what shall be said").unwrap();
    assert!(!raw[begun..].contains('\x1b'), "{:?}", &raw[begun..]);
}

#[tokio::test]
async fn nothing_is_made_before_the_first_text() {
    let (_stub, daemon) = daemon().await;
    let mut wire = daemon.wire().await;
    let mut terminal = Terminal::open(daemon.plan(), 80, 24).await;
    terminal.enter("sess chat; echo left $?");
    terminal.until_prompts(1).await;
    terminal.enter("/help");
    terminal.until_shown("/quit ").await;
    terminal.keys(&["C-c"]);
    terminal.until_shown("ctrl-c again").await;
    terminal.keys(&["C-c"]);
    terminal.until_shown("left 0").await;
    assert_eq!(sessions(&mut wire).await, 0);
}

#[tokio::test]
async fn ctrl_c_cancels_the_task_and_not_the_program() {
    let (stub, daemon) = held().await;
    let mut terminal = Terminal::open(daemon.plan(), 80, 40).await;
    terminal.enter("sess chat");
    terminal.until_prompts(1).await;
    terminal.enter("first");
    terminal.until_shown("begun").await;
    until_held(&stub, "h").await;
    terminal.keys(&["C-c"]);
    terminal.until_shown("the task was cancelled").await;
    terminal.enter("second");
    let screen = terminal.until_shown("quoted\n").await;
    assert!(screen.contains("Sky"), "{screen}");
}

#[tokio::test]
async fn what_is_said_while_a_task_runs_waits_its_turn_and_says_so() {
    let (stub, daemon) = held().await;
    let mut terminal = Terminal::open(daemon.plan(), 80, 50).await;
    terminal.enter("sess chat");
    terminal.until_prompts(1).await;
    terminal.enter("first");
    terminal.until_shown("begun").await;
    until_held(&stub, "h").await;
    terminal.text("s");
    terminal.until_shown("queue> s").await;
    terminal.enter("econd");
    terminal.until_shown("queued at place 1").await;
    terminal.text("/");
    terminal.until_shown("queue> /").await;
    terminal.enter("queue");
    terminal.until_shown("\n  1  second").await;
    // Printed above a line that is being typed, which stays.
    terminal.text("thi");
    terminal.until_shown("queue> thi").await;
    stub.release("h").await.unwrap();
    let screen = terminal.until("both answers above the line", |it| {
        it.contains("│ quoted") && it.trim_end().ends_with("> thi")
    });
    let screen = screen.await;
    matches("queued-80", &screen);
}

#[tokio::test]
async fn several_lines_come_by_backslash_by_alt_enter_and_by_paste() {
    let daemon = Daemon::start().await;
    let mut wire = daemon.wire().await;
    let mut terminal = Terminal::open(daemon.plan(), 80, 40).await;
    terminal.enter("sess chat");
    terminal.until_prompts(1).await;
    terminal.enter("one\\");
    terminal.text("two");
    terminal.keys(&["M-Enter"]);
    terminal.text("three ");
    terminal.paste("fo\\\nur");
    terminal.until_shown("\nur").await;
    terminal.keys(&["Enter"]);
    terminal.until_prompts(2).await;
    let list = wire.ok("session/list", json!({})).await;
    let session = text_of(&list["sessions"][0]["id"]);
    assert_eq!(wire.texts(&session).await[0], "one\ntwo\nthree fo\\\nur");
}

/// Keys that come at once, as over a slow line, are read at once, too: those behind the end of a line are
/// the beginning of the next.
#[tokio::test]
async fn what_is_typed_ahead_is_not_lost() {
    let daemon = Daemon::start().await;
    let mut terminal = Terminal::open(daemon.plan(), 80, 24).await;
    terminal.enter("sess chat; echo left");
    terminal.until_prompts(1).await;
    terminal.keys(&["d", "r", "a", "f", "t", "C-c", "/", "q", "u", "e", "u", "e", "Enter", "C-d"]);
    let screen = terminal.until_shown("\nleft").await;
    assert!(screen.contains("> /queue\nsess: there is no session yet"), "{screen}");
}

#[tokio::test]
async fn the_editor_of_the_environment_takes_over_and_gives_back() {
    let daemon = Daemon::start().await;
    let mut terminal = Terminal::open(daemon.plan(), 80, 24).await;
    terminal.enter("EDITOR='sed -i s/one/two/' sess chat");
    terminal.until_prompts(1).await;
    terminal.text("say one");
    terminal.until_shown("say one").await;
    terminal.keys(&["C-x", "C-e"]);
    terminal.until_shown("> say two").await;
    terminal.keys(&["Enter"]);
    terminal.until_shown("── assistant (echo/echo)\nsay two").await;
}

#[tokio::test]
async fn tab_completes_commands_and_models() {
    let (_stub, daemon) = daemon().await;
    let mut terminal = Terminal::open(daemon.plan(), 80, 24).await;
    terminal.enter("sess chat");
    terminal.until_prompts(1).await;
    terminal.text("/mo\t");
    terminal.until_shown("> /model").await;
    terminal.text("ec\t");
    terminal.until_shown("> /model echo/echo").await;
    terminal.keys(&["Enter"]);
    terminal.until_shown("from now on `echo/echo` is asked").await;
}

#[tokio::test]
async fn a_lost_connection_and_an_ended_session_look_different() {
    let (_stub, daemon) = daemon().await;
    let mut terminal = Terminal::open(daemon.plan(), 80, 50).await;
    terminal.enter("sess chat");
    terminal.until_prompts(1).await;
    terminal.enter("sky");
    terminal.until_prompts(2).await;
    let daemon = daemon.killed_and_restarted().await;
    terminal.until_shown("sess: connection lost, reconnecting").await;
    terminal.until_shown("sess: connected again").await;
    let mut wire = daemon.wire().await;
    let list = wire.ok("session/list", json!({})).await;
    let session = text_of(&list["sessions"][0]["id"]);
    wire.ok("session/delete", json!({"session": session})).await;
    let screen = terminal.until_shown("sess: session ended: it was deleted").await;
    assert!(screen.trim_end().ends_with('>'), "the program goes on: {screen}");
}

#[tokio::test]
async fn others_in_the_session_are_seen() {
    let daemon = Daemon::start().await;
    let mut wire = daemon.wire().await;
    let session = wire.session().await;
    wire.turn(&session, "hello").await;
    wire.follow(&session).await;
    let mut terminal = Terminal::open(daemon.plan(), 80, 24).await;
    terminal.enter(&format!("sess chat -s {session}"));
    terminal.until_shown("1 other follows it").await;
    wire.say(&session, "from elsewhere").await;
    let screen = terminal.until_shown("(by ").await;
    assert!(screen.contains("── user (by "), "{screen}");
    drop(wire);
    terminal.keys(&["Enter"]);
    terminal.until_shown("nobody else follows it").await;
}

#[tokio::test]
async fn a_client_of_no_daemon_says_what_to_do() {
    let plan = Plan::new();
    let mut terminal = Terminal::open(&plan, 80, 24).await;
    terminal.enter("clear; sess status; echo exit $?; sess frob; echo exit $?");
    let screen = terminal.until_shown("exit 2").await;
    assert!(screen.contains("hint: start it with `sess daemon start`"), "{screen}");
    assert!(screen.contains("exit 3"), "{screen}");
}

#[tokio::test]
async fn another_folder_has_a_session_of_its_own_and_the_way_back_leads_to_the_first() {
    let (_stub, daemon) = daemon().await;
    let mut wire = daemon.wire().await;
    let other = daemon.plan().folder().join("other");
    std::fs::create_dir(&other).unwrap();
    let there = json!({"title": "the other one", "workspace": other});
    wire.ok("session/create", there).await;
    let mut terminal = Terminal::open(daemon.plan(), 80, 50).await;
    terminal.enter("sess chat");
    terminal.until_prompts(1).await;
    terminal.enter("first");
    terminal.until_shown("quoted\n").await;
    terminal.enter(&format!("/scope {}", other.display()));
    let screen = terminal.until_shown("the other one").await;
    assert!(screen.contains("set aside: session") && screen.contains("· first"), "{screen}");
    terminal.enter("second");
    terminal.until(&format!("{screen}\nsecond"), |it| it.matches("quoted\n").count() > 1).await;
    terminal.enter("/scope ..");
    terminal.until(&format!("{screen}\nback"), |it| it.matches("set aside").count() > 1).await;
    let list = wire.ok("session/list", json!({"workspace": other})).await;
    assert_eq!(list["sessions"][0]["messages"], 2, "{list}");
}
