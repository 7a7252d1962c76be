//! What do clients do while everything is recorded, and what had each of them asked?

use serde_json::{Value, json};
use sess_tests::faults::{RecordLog, Recorder};
use sess_tests::harness::table::text;
use sess_tests::harness::{Plan, Wire};
use sess_tests::judge::Asked;
use sess_tests::stub::{Options, Stub};

use crate::Shm;

/// Bytes of a text that does not stay in an event.
const LONG_BYTES: usize = 90 * 1024;
/// How often all clients do all that they do.
const ROUNDS: usize = 2;
/// Pieces of a streamed answer, and the time between two.
const PIECES: u64 = 100;
const PIECE_MS: u64 = 8;
/// Longer than the silence after which the daemon copies its log into the database.
const SILENCE_MS: u64 = 700;

/// Everything that was recorded.
pub(crate) struct Record {
    /// The recorder's log.
    pub(crate) log: RecordLog,
    /// What was asked, by connection and in order.
    pub(crate) asked: Vec<Asked>,
}

/// A client that remembers what it asked.
struct Client {
    wire: Wire,
    connection: u32,
    asked: Vec<Asked>,
    behind: u64,
}

impl Client {
    async fn start(&mut self, method: &'static str, params: Value) -> u64 {
        let id = self.wire.start(method, params.clone()).await;
        let (connection, behind) = (self.connection, self.behind);
        self.asked.push(Asked { connection, id, method, params, behind, seen: None });
        id
    }

    async fn ok(&mut self, method: &'static str, params: Value) -> Value {
        let id = self.start(method, params).await;
        self.answer(id).await
    }

    async fn answer(&mut self, id: u64) -> Value {
        let answer = self.wire.answer(id).await;
        self.behind = self.behind.max(id);
        answer.unwrap_or_else(|error| panic!("request {id} was refused: {error}"))
    }

    /// Makes a session and follows it from its first event on.
    async fn session(&mut self, params: Value, deltas: bool) -> String {
        let session = text(&self.ok("session/create", params).await["id"]);
        let follow = json!({"session": session, "after": "start", "deltas": deltas});
        self.ok("session/follow", follow).await;
        session
    }

    async fn say(&mut self, session: &str, content: &str) -> Value {
        self.ok("chat/send", json!({"session": session, "content": content})).await
    }

    async fn turn(&mut self, session: &str, content: &str) {
        let sent = self.say(session, content).await;
        self.ok("task/wait", json!({"task": sent["task"]})).await;
    }

    /// Sends several requests at once, so that they wait in the queue, and waits for the last.
    async fn burst(&mut self, session: &str, name: &str, keys: bool) {
        let mut ids = Vec::new();
        for n in 0..4 {
            let mut params = json!({"session": session, "content": format!("{name} {n}")});
            if keys {
                params["idempotency_key"] = json!(format!("{session} {name} {n}"));
            }
            ids.push(self.start("chat/send", params).await);
        }
        let mut sent = Value::Null;
        for id in ids {
            sent = self.answer(id).await;
        }
        self.ok("task/wait", json!({"task": sent["task"]})).await;
    }
}

/// Records the release daemon, or `program`, while clients do all that they do.
pub(crate) async fn record(shm: &Shm, plan: Plan) -> Record {
    let stub = Stub::start_here(Options::default()).await.unwrap();
    let paced = json!([{"pieces": PIECES, "every_ms": PIECE_MS}]);
    stub.script("slow", paced).await.unwrap();
    stub.script("silent", json!([{"delay_ms": SILENCE_MS}, {"echo": true}])).await.unwrap();
    let (data, log) = (plan.data_folder(), shm.0.join("log"));
    let (recorded, to) = (data.clone(), log.clone());
    let plan = plan.stub(&stub).hook(move |it| Recorder::command(it, &recorded, &to).unwrap());
    let daemon = plan.start().await;
    let mut clients = Vec::new();
    for connection in 1..=5 {
        let mut client =
            Client { wire: daemon.wire().await, connection, asked: Vec::new(), behind: 0 };
        let me = json!({"name": format!("client {connection}")});
        client.ok("initialize", json!({"protocol": 1, "client": me})).await;
        clients.push(client);
    }
    let [one, two, three, four, five] = &mut clients[..] else { panic!("five clients") };
    for round in 0..ROUNDS {
        tokio::join!(talk(one), keys(two), long(three), stream(four), passing(five, round));
        let silent = one.session(json!({"model": "stub/silent"}), false).await;
        one.turn(&silent, "nobody says anything for a while").await;
    }
    assert_eq!(daemon.terminate().await, 0);
    let log = RecordLog::read(&log).unwrap();
    log.check_complete(&data, None).unwrap();
    Record { log, asked: clients.into_iter().flat_map(|it| it.asked).collect() }
}

/// Talks with the model: turns, a queue, members, the lock, the lists.
async fn talk(client: &mut Client) {
    let session = client.session(json!({"title": "talk"}), false).await;
    for n in 0..4 {
        client.turn(&session, &format!("question {n}")).await;
        client
            .ok("session/update", json!({"session": session, "title": format!("talk {n}")}))
            .await;
    }
    client.ok("session/lock", json!({"session": session})).await;
    client.burst(&session, "burst", false).await;
    client.ok("session/release", json!({"session": session})).await;
    let metadata = json!({"mood": "good", "n": 7});
    client.ok("session/update", json!({"session": session, "metadata": metadata})).await;
    client.ok("session/persist", json!({"session": session})).await;
    for method in ["session/get", "message/list", "task/list", "session/resume"] {
        client.ok(method, json!({"session": session})).await;
    }
    client.ok("session/list", json!({})).await;
}

/// Does everything with idempotency keys, with the built-in model.
async fn keys(client: &mut Client) {
    let key = format!("create {}", client.asked.len());
    let create = json!({"model": "echo/echo", "idempotency_key": key});
    let session = client.session(create, false).await;
    for n in 0..3 {
        let key = |what: &str| json!(format!("{session} {what} {n}"));
        let mut send = json!({"session": session, "content": format!("keyed {n}")});
        send["idempotency_key"] = key("send");
        let sent = client.ok("chat/send", send).await;
        client.ok("task/wait", json!({"task": sent["task"]})).await;
        let mut update = json!({"session": session, "tags": [format!("tag {n}")]});
        update["idempotency_key"] = key("update");
        client.ok("session/update", update).await;
        let persist = json!({"session": session, "idempotency_key": key("persist")});
        client.ok("session/persist", persist).await;
    }
    client.burst(&session, "keyed burst", true).await;
}

/// Says what is too long for an event, and reads it again.
async fn long(client: &mut Client) {
    let session = client.session(json!({"model": "echo/echo"}), false).await;
    for n in 0..3 {
        let words = format!("{n} long words ").repeat(LONG_BYTES * (n + 1) / 2 / 13);
        client.turn(&session, &words).await;
    }
    let list = client.ok("message/list", json!({"session": session})).await;
    for message in list["messages"].as_array().unwrap() {
        let blob = &message["content"][0]["blob"];
        if blob.is_string() {
            client.ok("blob/get", json!({"blob": blob})).await;
        }
    }
}

/// Watches answers come piece by piece, has one kept in the middle, and cancels the next.
async fn stream(client: &mut Client) {
    let session = client.session(json!({"model": "stub/slow"}), true).await;
    let sent = client.say(&session, "slowly").await;
    let half = told_bytes(client, 200).await;
    let persist = client.start("session/persist", json!({"session": session})).await;
    client.asked.last_mut().unwrap().seen = Some(half);
    client.answer(persist).await;
    client.ok("task/wait", json!({"task": sent["task"]})).await;
    let sent = client.say(&session, "to be cancelled").await;
    client.say(&session, "behind it").await;
    told_bytes(client, 60).await;
    client.ok("task/cancel", json!({"task": sent["task"]})).await;
    client.ok("task/wait", json!({"task": sent["task"]})).await;
    client.burst(&session, "behind", false).await;
}

/// Reads on until so many bytes of an answer are told; the message, and how many they are.
async fn told_bytes(client: &mut Client, bytes: u64) -> (String, usize) {
    let (mut message, mut seen) = (String::new(), 0);
    while seen < bytes {
        let told = client.wire.next_notification().await;
        if told.method == "delta" {
            let params = &told.params;
            message = text(&params["message"]);
            seen = params["offset"].as_u64().unwrap() + text(&params["text"]).len() as u64;
        }
    }
    (message, usize::try_from(seen).unwrap())
}

/// Makes sessions that do not stay.
async fn passing(client: &mut Client, round: usize) {
    let global = json!({"session": "global", "after": "start", "deltas": false});
    client.ok("session/follow", global).await;
    for n in 0..3 {
        let session = client.session(json!({"model": "echo/echo"}), false).await;
        client.turn(&session, "in passing").await;
        let mut params = json!({"session": session});
        if n == 1 {
            params["idempotency_key"] = json!(format!("delete {round}"));
        }
        client.ok("session/delete", params).await;
    }
}
