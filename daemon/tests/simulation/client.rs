//! One simulated client: its connections, what it remembers over them, and what it hears.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use serde_json::{Value, json};
use sess_daemon::server::connection;
use sess_daemon::server::ends::{ReadEnd, WriteEnd};
use sess_daemon::server::router::Router;
use sess_protocol::id::SessionId;
use sess_protocol::things::By;
use tokio::io::{
    AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, DuplexStream, Lines, ReadBuf,
    ReadHalf, WriteHalf, split,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::answers::{Asked, Judge};
use crate::dice::Dice;
use crate::follower::Follower;
use crate::oracle::Oracle;
use crate::trace::Trace;
use crate::world::SimWorld;

/// Lines that wait to be taken by the daemon.
const LINES_MAX: usize = 128;

/// What a client reaches in one life of the daemon.
#[derive(Clone)]
pub(crate) struct Site {
    pub(crate) router: Router,
    pub(crate) oracle: Arc<Oracle>,
    pub(crate) trace: Arc<Trace>,
    pub(crate) world: Arc<SimWorld>,
    pub(crate) connections: Arc<AtomicU64>,
    /// Whether nothing goes wrong any more.
    pub(crate) calm: bool,
    /// Cancelled once each client of a calm life has done all that it wants to do.
    pub(crate) done: CancellationToken,
}

impl Site {
    /// How answers are judged at this moment.
    pub(crate) fn judge(&self) -> Judge<'_> {
        let stopping = self.router.shared().stop.is_stopping();
        Judge { oracle: &self.oracle, calm: self.calm, stopping }
    }
}

/// What a client remembers, whatever becomes of the daemon.
#[derive(Debug)]
pub(crate) struct Person {
    pub(crate) no: usize,
    pub(crate) dice: Dice,
    pub(crate) said: u64,
    pub(crate) follows: BTreeMap<SessionId, Follower>,
    pub(crate) tasks: Vec<String>,
    /// Requests with a key, and their answers where they came.
    pub(crate) keyed: Vec<(Asked, Option<Value>)>,
}

impl Person {
    /// One who remembers nothing yet.
    pub(crate) fn new(no: usize, dice: Dice) -> Self {
        let (follows, tasks, keyed) = (BTreeMap::new(), Vec::new(), Vec::new());
        Self { no, dice, said: 0, follows, tasks, keyed }
    }
}

/// The daemon's end of a connection.
struct DaemonEnd {
    from: ReadHalf<DuplexStream>,
    gone: Arc<AtomicBool>,
}

impl AsyncRead for DaemonEnd {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.from).poll_read(context, buffer)
    }
}

impl ReadEnd for DaemonEnd {
    async fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }
}

/// The daemon's end of what a client reads.
struct DaemonAnswers(WriteHalf<DuplexStream>);

impl AsyncWrite for DaemonAnswers {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

impl WriteEnd for DaemonAnswers {
    fn offer(&self, _: &[u8]) -> std::io::Result<usize> {
        // This pipe speaks of each byte of room.
        Err(std::io::ErrorKind::WouldBlock.into())
    }
}

/// What is asked for by a follow that has no answer yet.
#[derive(Debug)]
pub(crate) struct FollowAsked {
    pub(crate) session: SessionId,
    /// What the follower was when it asked to go on from there; `None` for a fresh one.
    pub(crate) from: Option<Box<Follower>>,
    pub(crate) deltas: bool,
    pub(crate) count: usize,
}

/// A request under way.
#[derive(Debug)]
pub(crate) enum Pending {
    Plain(Asked),
    Follow(FollowAsked),
}

/// A connection.
pub(crate) struct Connection {
    pub(crate) name: String,
    /// `None` once the client says no more.
    pub(crate) to: Option<mpsc::Sender<String>>,
    lines: Lines<BufReader<ReadHalf<DuplexStream>>>,
    writer: tokio::task::JoinHandle<()>,
    gone: Arc<AtomicBool>,
    pub(crate) pending: BTreeMap<u64, Pending>,
    /// Sessions whose follow goes on to its end: one that was to replace it came behind the deletion.
    ending: BTreeSet<SessionId>,
    next: u64,
    /// The last plain request to each session that was answered, and its event.
    answered: BTreeMap<SessionId, (u64, u64)>,
    pub(crate) roomy: bool,
    oracle: Arc<Oracle>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::Relaxed);
        self.writer.abort();
        self.oracle.connection_gone(&self.name);
    }
}

async fn write(mut to: WriteHalf<DuplexStream>, mut lines: mpsc::Receiver<String>) {
    while let Some(line) = lines.recv().await {
        if to.write_all(line.as_bytes()).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}

impl Connection {
    /// Connects and says who it is.
    pub(crate) fn open(site: &Site, person: &mut Person) -> Self {
        let number = site.connections.fetch_add(1, Ordering::Relaxed);
        let name = format!("client{}-{number}", person.no);
        let roomy = person.dice.percent(60);
        let bytes = if roomy { 65_536 } else { 64 + person.dice.below(4000) };
        let (mine, theirs) = tokio::io::duplex(usize::try_from(bytes).expect("few bytes"));
        let gone = Arc::new(AtomicBool::new(false));
        let (from, to) = split(theirs);
        let from = DaemonEnd { from, gone: Arc::clone(&gone) };
        let by = By { client: name.clone(), pid: 1 };
        let serving = connection::serve(site.router.clone(), (from, DaemonAnswers(to)), number, by);
        site.router.shared().tracker.spawn(serving);
        let (from, to) = split(mine);
        let (sender, lines) = mpsc::channel(LINES_MAX);
        let writer = tokio::spawn(write(to, lines));
        site.trace.say(&format!("{name} connects"));
        let mut connection = Self {
            name: name.clone(),
            to: Some(sender),
            lines: BufReader::new(from).lines(),
            writer,
            gone,
            pending: BTreeMap::new(),
            ending: BTreeSet::new(),
            next: 1,
            answered: BTreeMap::new(),
            roomy,
            oracle: Arc::clone(&site.oracle),
        };
        let params = json!({"protocol": 1, "client": {"name": name, "version": "0"}});
        let hello = Asked { method: "initialize", params, key: None, before: None, other: false };
        connection.ask(hello.method, hello.params.clone(), Pending::Plain(hello));
        connection
    }

    /// Sends a request, unless too many lines wait already.
    pub(crate) fn ask(&mut self, method: &str, params: Value, pending: Pending) -> bool {
        let id = self.next;
        let Some(to) = &self.to else { return false };
        let line = json!({"id": id, "method": method, "params": params});
        if to.try_send(format!("{line}\n")).is_err() {
            return false;
        }
        self.next += 1;
        self.pending.insert(id, pending);
        true
    }

    /// The next line; `None` when the daemon is gone.
    pub(crate) async fn line(&mut self) -> Option<String> {
        self.lines.next_line().await.ok().flatten()
    }

    /// Takes in a line.
    pub(crate) fn hear(
        &mut self,
        site: &Site,
        person: &mut Person,
        line: &str,
    ) -> Result<(), String> {
        let line: Value = serde_json::from_str(line).map_err(|err| err.to_string())?;
        if let Some(id) = line.get("id") {
            let id = id.as_u64().ok_or("an answer without an id of ours")?;
            let pending = self.pending.remove(&id).ok_or("a second answer")?;
            return match pending {
                Pending::Plain(asked) => self.answered(site, person, id, asked, &line),
                Pending::Follow(asked) => self.follow_answered(site, person, asked, &line),
            };
        }
        let params = &line["params"];
        let session = params["session"].as_str().and_then(|it| it.parse().ok());
        let session: SessionId = session.ok_or("a line of no session")?;
        let follower = person.follows.get_mut(&session).filter(|it| it.active);
        if follower.is_none() && self.ending.contains(&session) {
            if params["type"] == "session.deleted" {
                self.ending.remove(&session);
            }
            return Ok(());
        }
        let follower = follower.ok_or("a line of a session that is not followed")?;
        match line["method"].as_str() {
            Some("event") => follower.event(&site.oracle, params),
            Some("live") => follower.live(params),
            Some("delta") => follower.delta(params),
            other => Err(format!("a line of a method {other:?}")),
        }
    }

    fn answered(
        &mut self,
        site: &Site,
        person: &mut Person,
        id: u64,
        asked: Asked,
        line: &Value,
    ) -> Result<(), String> {
        let Some(result) = line.get("result") else {
            return site.judge().error(&asked, &line["error"]);
        };
        site.judge().result(&asked, result)?;
        if asked.method == "chat/send" {
            person.tasks.extend(result["task"].as_str().map(str::to_owned));
            self.check_order(&asked, id, result)?;
        }
        if asked.method == "session/unfollow"
            && let Some(session) = asked.session()
        {
            let again = self
                .pending
                .values()
                .any(|it| matches!(it, Pending::Follow(follow) if follow.session == session));
            if !again {
                person.follows.remove(&session);
            }
        }
        if asked.key.is_some() && asked.before.is_none() {
            let known = person.keyed.iter_mut().find(|it| it.0.key == asked.key);
            if let Some(known) = known {
                known.1 = Some(result.clone());
            }
        }
        Ok(())
    }

    /// What one connection asks of one session takes effect in its order.
    fn check_order(&mut self, asked: &Asked, id: u64, result: &Value) -> Result<(), String> {
        let (Some(session), None) = (asked.session(), &asked.key) else { return Ok(()) };
        let seq = result["seq"].as_u64().unwrap_or(0);
        let last = self.answered.insert(session, (id, seq)).unwrap_or_default();
        match (id > last.0) == (seq > last.1) {
            true => Ok(()),
            false => Err(format!("request {id} is event {seq}, request {} is {}", last.0, last.1)),
        }
    }

    fn follow_answered(
        &mut self,
        site: &Site,
        person: &mut Person,
        asked: FollowAsked,
        line: &Value,
    ) -> Result<(), String> {
        let Some(result) = line.get("result") else {
            let kind = line["error"]["data"]["kind"].as_str().unwrap_or("");
            let gone = !site.oracle.has(asked.session);
            person.follows.remove(&asked.session);
            if kind == "not_found" {
                self.ending.insert(asked.session);
            }
            let fits = match kind {
                "not_found" => site.judge().is_deleted(Some(asked.session)),
                "shutting_down" | "storage" | "outcome_unknown" => !site.calm || gone,
                _ => false,
            };
            return if fits { Ok(()) } else { Err(format!("{asked:?} is refused: {line}")) };
        };
        let fresh = asked.from.is_none();
        let mut follower = match asked.from {
            Some(from) => *from,
            None => Follower::new(asked.session, asked.deltas),
        };
        follower.lost();
        follower.deltas = asked.deltas;
        follower.keeps_up = self.roomy;
        follower.active = true;
        if fresh {
            follower.joined(&site.oracle, result, asked.count)?;
        }
        person.follows.insert(asked.session, follower);
        Ok(())
    }
}

impl Person {
    /// The daemon's life is over, and every connection with it.
    pub(crate) fn lost(&mut self) {
        self.follows.values_mut().for_each(Follower::lost);
    }
}
