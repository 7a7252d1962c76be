//! Does a kill at any moment lose or double nothing, whatever its clients were doing?

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use serde_json::{Value, json};
use sess_tests::faults::Rng;
use sess_tests::figures::{figure, sized};
use sess_tests::harness::table::text;
use sess_tests::harness::{Daemon, Plan, said, stub, within};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// Kills, and the longest that a daemon lives.
const KILLS: usize = 200;
const LIFE_MS_MAX: usize = 350;
/// Starts that come to their end, kills amid a start before each, and the longest that these live.
const STARTS: usize = 40;
const STARTS_IN_A_ROW: usize = 8;
const START_MS_MAX: usize = 25;
/// Clients; two of them share a session.
const CLIENTS: usize = 8;
/// Requests of a client that have no final task yet.
const OPEN_MAX: usize = 6;
/// Requests that a client sends to one session.
const REQUESTS_PER_SESSION: usize = 15;
/// How long the model takes.
const MODEL_MS: u64 = 4;
/// How long a client that finds no daemon waits before it looks again.
const LOOK: Duration = Duration::from_millis(2);
const SEED: u64 = 0x5e55_0002;

/// An accepted request.
struct Sent {
    key: String,
    session: String,
    task: String,
    message: String,
    seq: u64,
    was_queued: bool,
}

/// A client that outlives any number of daemons: what got no answer is sent again.
struct Patient {
    plan: Plan,
    stream: Option<BufReader<UnixStream>>,
    next_id: u64,
}

impl Patient {
    async fn ok(&mut self, method: &str, params: &Value) -> Value {
        loop {
            match self.try_call(method, params).await {
                Some(answer) if answer["error"]["data"]["kind"] == "shutting_down" => {}
                Some(mut answer) => {
                    assert!(answer["error"].is_null(), "`{method}` {params}: {answer}");
                    return answer["result"].take();
                }
                None => self.stream = None,
            }
        }
    }

    async fn try_call(&mut self, method: &str, params: &Value) -> Option<Value> {
        if self.stream.is_none() {
            self.stream = Some(BufReader::new(self.connect().await));
        }
        self.next_id += 1;
        let stream = self.stream.as_mut()?;
        let mut line = json!({"id": self.next_id, "method": method, "params": params}).to_string();
        line.push('\n');
        stream.get_mut().write_all(line.as_bytes()).await.ok()?;
        let mut answer = String::new();
        within(method, stream.read_line(&mut answer)).await.ok()?;
        // A killed daemon may have said half a line.
        let answer: Value = serde_json::from_str(answer.strip_suffix('\n')?).unwrap();
        assert_eq!(answer["id"], self.next_id, "answers come to their requests");
        Some(answer)
    }

    async fn connect(&self) -> UnixStream {
        within("a daemon", async {
            loop {
                if let Ok(stream) = UnixStream::connect(self.plan.socket()).await {
                    return stream;
                }
                tokio::time::sleep(LOOK).await;
            }
        })
        .await
    }
}

/// Sends requests, each with its key, until it is told to stop; what was accepted.
async fn client(number: usize, plan: Plan, stop: Arc<AtomicBool>) -> Vec<Sent> {
    let mut patient = Patient { plan, stream: None, next_id: 0 };
    let (mut sent, mut open) = (Vec::new(), VecDeque::new());
    let (mut count, mut session) = (0, String::new());
    while !stop.load(Relaxed) {
        if count % REQUESTS_PER_SESSION == 0 {
            // Both of a pair ask with the same key, so that they get the same session.
            let key = format!("pair {} session {}", number / 2, count / REQUESTS_PER_SESSION);
            let create = json!({"title": key, "idempotency_key": key});
            session = text(&patient.ok("session/create", &create).await["id"]);
        }
        let key = format!("client {number} request {count}");
        let params = json!({"session": session, "content": key, "idempotency_key": key});
        let answer = patient.ok("chat/send", &params).await;
        let [task, message] = ["task", "message"].map(|it| text(&answer[it]));
        let was_queued = answer["position"] != 0;
        let seq = answer["seq"].as_u64().unwrap();
        open.push_back(task.clone());
        sent.push(Sent { key, session: session.clone(), task, message, seq, was_queued });
        count += 1;
        if open.len() > OPEN_MAX {
            let oldest = open.pop_front();
            patient.ok("task/wait", &json!({"task": oldest})).await;
        }
    }
    sent
}

/// Starts the daemon and kills it at a moment that is drawn, which may lie before it is ready.
async fn lives(plan: &Plan, ms_max: usize, rng: &mut Rng) {
    let mut command = tokio::process::Command::from(plan.command());
    let mut child = command.kill_on_drop(true).spawn().unwrap();
    let life = Duration::from_millis(rng.below(ms_max) as u64);
    if let Ok(ended) = tokio::time::timeout(life, child.wait()).await {
        panic!("a daemon ended by itself with {ended:?}: {}", plan.words());
    }
    child.start_kill().unwrap();
    within("the end of the killed", child.wait()).await.unwrap();
}

/// What is wrong in the end.
#[derive(Debug, Default)]
struct Sum {
    lost: Vec<String>,
    doubled: Vec<String>,
    interrupted: usize,
}

impl Sum {
    /// Judges one session by all that was accepted for it, in the order of acceptance.
    async fn judge(&mut self, daemon: &Daemon, session: &str, sent: &[&Sent]) {
        let mut wire = daemon.wire().await;
        for it in sent {
            let waited = wire.ok("task/wait", json!({"task": it.task})).await;
            match (waited["task"]["status"].as_str(), waited["task"]["reason"].as_str()) {
                (Some("completed"), _) if said(&waited["answer"]) == it.key => {}
                (Some("interrupted"), Some("crash")) => self.interrupted += 1,
                _ => self.lost.push(format!("the end of `{}`: {waited}", it.key)),
            }
        }
        let params = json!({"session": session, "limit": 500});
        let list = wire.ok("message/list", params.clone()).await;
        let messages = list["messages"].as_array().unwrap().iter();
        let asked: Vec<_> = messages.filter(|it| it["role"] == "user").collect();
        let there: Vec<_> = asked.iter().map(|it| it["id"].as_str().unwrap()).collect();
        let wanted: Vec<_> = sent.iter().map(|it| it.message.as_str()).collect();
        if there != wanted {
            let words: Vec<_> = asked.iter().map(|it| said(it)).collect();
            let keys: Vec<_> = sent.iter().map(|it| &it.key).collect();
            let there = format!("{session} has {words:?}, not {keys:?}");
            let is_more = there.len() > wanted.len();
            if is_more { self.doubled.push(there) } else { self.lost.push(there) }
        }
        let tasks = wire.ok("task/list", params).await;
        let tasks = tasks["tasks"].as_array().unwrap().iter();
        let tasks: Vec<_> = tasks.map(|it| it["id"].as_str().unwrap()).collect();
        let wanted: BTreeSet<_> = sent.iter().map(|it| it.task.as_str()).collect();
        if tasks.len() != wanted.len() || tasks.iter().any(|it| !wanted.contains(it)) {
            self.doubled.push(format!("{session} has tasks {tasks:?}, not {wanted:?}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_at_random_moments_lose_and_double_nothing() {
    let stub = stub().await;
    stub.script("stub", json!([{"delay_ms": MODEL_MS}, {"echo": true}])).await.unwrap();
    let plan = Plan::new().stub(&stub);
    let stop = Arc::new(AtomicBool::new(false));
    let start = |number| tokio::spawn(client(number, plan.clone(), Arc::clone(&stop)));
    let clients: Vec<_> = (0..CLIENTS).map(start).collect();
    let (kills, mut rng) = (sized(KILLS), Rng::new(SEED));
    for _ in 0..kills {
        lives(&plan, LIFE_MS_MAX, &mut rng).await;
    }
    stop.store(true, Relaxed);
    let daemon = plan.start().await;
    let mut sent = Vec::new();
    for client in clients {
        sent.extend(within("a client's last request", client).await.unwrap());
    }
    sent.sort_by_key(|it| it.seq);
    let mut sessions: BTreeMap<&str, Vec<&Sent>> = BTreeMap::new();
    for it in &sent {
        sessions.entry(&it.session).or_default().push(it);
    }
    let mut sum = Sum::default();
    for (session, sent) in &sessions {
        sum.judge(&daemon, session, sent).await;
    }
    let stored =
        daemon.wire().await.ok("daemon/status", json!({})).await["sessions"]["stored"].clone();
    if stored != sessions.len() {
        sum.doubled.push(format!("{stored} sessions are stored, {} were made", sessions.len()));
    }
    let queued = sent.iter().filter(|it| it.was_queued).count();
    println!("{kills} kills: {queued} queued, {} interrupted", sum.interrupted);
    let of = format!("{} requests, {kills} kills", sent.len());
    figure("R1", "acknowledged and lost by a kill", sum.lost.len(), &of);
    figure("R4", "had an effect twice by a kill and a retry", sum.doubled.len(), &of);
    assert!(queued > kills && sum.interrupted > 0, "the kills meet work");
    assert!(sum.lost.is_empty() && sum.doubled.is_empty(), "{sum:#?}");
    assert!(!plan.words().contains("panicked"), "{}", plan.words());
}

#[tokio::test]
async fn a_kill_amid_a_start_does_no_harm() {
    let daemon = Daemon::start().await;
    let mut wire = daemon.wire().await;
    let session = wire.session().await;
    let mut texts = Vec::new();
    let (mut plan, mut rng) = (daemon.kill().await, Rng::new(SEED));
    for round in 0..sized(STARTS) {
        for _ in 0..rng.below(STARTS_IN_A_ROW) {
            lives(&plan, START_MS_MAX, &mut rng).await;
        }
        let daemon = plan.start().await;
        let mut wire = daemon.wire().await;
        assert_eq!(wire.texts(&session).await, texts);
        let words = format!("round {round}");
        wire.turn(&session, &words).await;
        texts.extend([words.clone(), words]);
        plan = daemon.plan().clone();
        if rng.one_in(2) {
            assert_eq!(daemon.terminate().await, 0);
        } else {
            daemon.kill().await;
        }
    }
}
