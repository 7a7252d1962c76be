//! Do the lines of the README work as they stand there, typed into a real `nc -U`?

use std::process::Stdio;

use serde_json::{Value, json};
use sess_tests::bins;
use sess_tests::harness::table::text;
use sess_tests::harness::{Daemon, within};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// A person at `nc -U`.
struct Netcat {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Netcat {
    fn start(daemon: &Daemon) -> Netcat {
        let mut child = Command::new("nc")
            .arg("-U")
            .arg(daemon.plan().socket())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("`nc` of netcat-openbsd is installed");
        let stdin = child.stdin.take().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Netcat { child, stdin, lines }
    }

    /// Types a line and reads the line that comes back.
    async fn types(&mut self, line: &str) -> Value {
        self.stdin.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        let line = within("an answer", self.lines.next_line()).await.unwrap();
        serde_json::from_str(&line.expect("nc ended")).unwrap()
    }

    async fn killed(mut self) {
        self.child.kill().await.unwrap();
    }
}

/// The lines that the README types into `nc -U`.
fn readme_lines() -> Vec<String> {
    let readme = std::fs::read_to_string(bins::workspace().join("README.md")).unwrap();
    let typed = readme.split("nc -U").nth(1).expect("the README shows `nc -U`");
    let typed = typed.lines().skip_while(|line| !line.starts_with('{'));
    typed.take_while(|line| line.starts_with('{')).map(str::to_owned).collect()
}

/// Puts the real ids where the README shows the beginning of its own.
fn adapted(line: &str, session: &str, task: &str) -> String {
    let mut request: Value = serde_json::from_str(line).unwrap();
    for (name, id) in [("session", session), ("task", task)] {
        if request["params"].get(name).is_some() {
            request["params"][name] = json!(id);
        }
    }
    request.to_string()
}

#[tokio::test]
async fn the_lines_of_the_readme_create_lock_chat_persist_and_release() {
    let daemon = Daemon::start().await;
    let (mut person, mut other) = (Netcat::start(&daemon), daemon.wire().await);
    let (mut session, mut task) = (String::new(), String::new());
    let mut methods = Vec::new();
    for line in readme_lines() {
        let answer = person.types(&adapted(&line, &session, &task)).await;
        let request: Value = serde_json::from_str(&line).unwrap();
        assert!(answer["error"].is_null(), "{line}: {answer}");
        assert_eq!(answer["id"], request["id"]);
        let method = text(&request["method"]);
        match method.as_str() {
            // Four digits are enough, as in the README.
            "session/create" => session = text(&answer["result"]["id"])[5..9].to_owned(),
            "chat/send" => task = text(&answer["result"]["task"]),
            "task/wait" => assert_eq!(answer["result"]["task"]["status"], "completed"),
            _ => {}
        }
        let send = json!({"session": session, "content": "me too"});
        match method.as_str() {
            "session/create" => {}
            "session/release" => drop(other.ok("chat/send", send).await),
            _ => drop(other.refused("locked", "chat/send", send).await),
        }
        methods.push(method);
    }
    let card = [
        "session/create",
        "session/lock",
        "chat/send",
        "task/wait",
        "session/persist",
        "session/release",
    ];
    assert_eq!(methods, card);
}

#[tokio::test]
async fn the_lock_of_a_killed_holder_is_free_at_once() {
    let daemon = Daemon::start().await;
    let (mut person, mut other) = (Netcat::start(&daemon), daemon.wire().await);
    let session = other.session().await;
    let lock = json!({"id": 1, "method": "session/lock", "params": {"session": session}});
    assert!(person.types(&lock.to_string()).await["result"]["lock"]["id"].is_string());
    let holder = other.refused("locked", "session/lock", json!({"session": session})).await;
    assert_eq!(holder["holder"]["pid"], person.child.id().unwrap(), "{holder}");
    assert_eq!(holder["holder"]["client"], "nc", "its program's name");
    other.follow(&session).await;
    person.killed().await;
    other.event("session.released").await;
    other.ok("session/lock", json!({"session": session})).await;
}

#[tokio::test]
async fn a_task_goes_on_when_the_person_who_asked_is_gone() {
    let daemon = Daemon::start().await;
    let (mut person, mut other) = (Netcat::start(&daemon), daemon.wire().await);
    let send = json!({"id": 1, "method": "chat/send", "params": {"content": "hello"}});
    let sent = person.types(&send.to_string()).await["result"].clone();
    person.killed().await;
    assert_eq!(other.wait(&sent).await["task"]["status"], "completed");
}
