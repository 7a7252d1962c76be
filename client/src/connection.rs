//! One connection: how does a call find its answer, and where do notifications go?

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::value::RawValue;
use serde_json::{Map, Value};
use sess_protocol::envelope::{Id, Outgoing, REQUESTS_MAX, request_line};
use sess_protocol::error::{Error, Kind};
use sess_protocol::line::LINE_BYTES_MAX;
use sess_protocol::methods::Method;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

/// Bytes of a line that the daemon sends: its pages end before 4 MiB, one thing may pass that a bit.
pub const ANSWER_BYTES_MAX: usize = 4 * LINE_BYTES_MAX;
/// Notifications that wait to be taken; then the connection is not read on.
pub const NOTIFICATIONS_MAX: usize = 256;
/// Bytes of the notifications that wait to be taken.
pub const NOTIFICATION_BYTES_MAX: usize = ANSWER_BYTES_MAX;
/// Bytes read at a time.
const READ_BYTES: usize = 64 * 1024;

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The daemon says no, and why.
    #[error(transparent)]
    Refused(#[from] Error),
    /// The connection ended first: whether it was done is not known.
    #[error("the connection to the daemon was lost")]
    Lost,
    /// What answers is no daemon, or one whose answers have another shape.
    #[error("what answers `{method}` is not what a sess daemon says: {what}")]
    Strange {
        /// The method that was called.
        method: String,
        /// What is wrong with the answer.
        what: String,
    },
}

impl CallError {
    /// The kind of a refusal.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        match self {
            Self::Refused(error) => Some(error.kind()),
            _ => None,
        }
    }

    /// The way out, for a person.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Refused(error) => error.way_out().map(ToOwned::to_owned),
            Self::Lost => Some("see `sess daemon logs`, then try again".to_owned()),
            Self::Strange { .. } => {
                Some("run `sess daemon restart` so that both are of one version".to_owned())
            }
        }
    }
}

/// What the daemon tells without being asked.
#[derive(Debug)]
pub struct Notification {
    /// Its name: `event`, `delta`, `live`, ..
    pub method: String,
    /// What it says, unread.
    pub params: Box<RawValue>,
    /// Its share of [`NOTIFICATION_BYTES_MAX`], given back when it is dropped.
    _room: OwnedSemaphorePermit,
}

/// The notifications of one connection, in order. Ends with the connection.
///
/// While nobody takes them and the limits are reached, the connection is not read on, answers
/// included: who calls on the connection that follows must take from here at the same time. Dropped,
/// all further notifications are thrown away.
#[derive(Debug)]
pub struct Notifications(mpsc::Receiver<Notification>);

impl Notifications {
    /// The next one; none once the connection has ended. Can be dropped at any moment without loss.
    pub async fn next(&mut self) -> Option<Notification> {
        self.0.recv().await
    }
}

type Answer = Result<Box<RawValue>, CallError>;

#[derive(Debug, Default)]
struct Waiting {
    calls: HashMap<i64, oneshot::Sender<Answer>>,
    ended: bool,
}

/// A connection to the daemon. Cheap to clone; it ends when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct Connection {
    lines: mpsc::Sender<String>,
    waiting: Arc<Mutex<Waiting>>,
    ids: Arc<AtomicI64>,
    _jobs: Arc<Jobs>,
}

/// The two jobs of a connection, ended with it.
#[derive(Debug)]
struct Jobs(Vec<JoinHandle<()>>);

impl Drop for Jobs {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

impl Connection {
    /// Speaks over a connected stream.
    #[must_use]
    pub fn over(stream: UnixStream) -> (Self, Notifications) {
        let (read, write) = stream.into_split();
        let (lines, outgoing) = mpsc::channel(REQUESTS_MAX);
        let (told, notifications) = mpsc::channel(NOTIFICATIONS_MAX);
        let waiting = Arc::<Mutex<Waiting>>::default();
        let jobs = vec![
            tokio::spawn(read_all(read, Arc::clone(&waiting), told)),
            tokio::spawn(write_all(write, outgoing)),
        ];
        let ids = Arc::new(AtomicI64::new(1));
        let connection = Self { lines, waiting, ids, _jobs: Arc::new(Jobs(jobs)) };
        (connection, Notifications(notifications))
    }

    /// Calls a method.
    ///
    /// # Errors
    /// When the daemon refuses, is gone, or answers in another shape.
    pub async fn call<M: Method>(&self, params: &M::Params) -> Result<M::Result, CallError> {
        let raw = self.call_raw(M::NAME, &members_of(params)).await?;
        read_result::<M>(&raw)
    }

    /// Calls a method by its name, with whatever members.
    ///
    /// # Errors
    /// When the daemon refuses or is gone.
    pub async fn call_raw(&self, method: &str, params: &Map<String, Value>) -> Answer {
        let number = self.ids.fetch_add(1, Ordering::Relaxed);
        let params = serde_json::to_string(params).expect("a map of JSON values is plain");
        let line = request_line(&Id::Number(number), method, &params);
        if line.len() > LINE_BYTES_MAX {
            let message = format!("the request is longer than {LINE_BYTES_MAX} bytes");
            return Err(Error::new(Kind::InvalidRequest, message).into());
        }
        let (answer, answered) = oneshot::channel();
        {
            let mut waiting = lock(&self.waiting);
            if waiting.ended {
                return Err(CallError::Lost);
            }
            // Calls that were given up leave their place, so that the map stays within the limit.
            waiting.calls.retain(|_, it| !it.is_closed());
            waiting.calls.insert(number, answer);
        }
        self.lines.send(line).await.map_err(|_| CallError::Lost)?;
        answered.await.map_err(|_| CallError::Lost)?
    }
}

/// The params of a method as a map, so that members of every method can be put beside them.
pub(crate) fn members_of<T: serde::Serialize>(params: &T) -> Map<String, Value> {
    match serde_json::to_value(params) {
        Ok(Value::Object(members)) => members,
        _ => unreachable!("the params of a method are an object with plain keys"),
    }
}

/// Reads a method's result.
pub(crate) fn read_result<M: Method>(raw: &RawValue) -> Result<M::Result, CallError> {
    serde_json::from_str(raw.get())
        .map_err(|err| CallError::Strange { method: M::NAME.to_owned(), what: err.to_string() })
}

fn lock(waiting: &Mutex<Waiting>) -> std::sync::MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn write_all(mut write: OwnedWriteHalf, mut outgoing: mpsc::Receiver<String>) {
    while let Some(line) = outgoing.recv().await {
        // The reader sees the same end and tells those who wait.
        if write.write_all(line.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn read_all(
    read: OwnedReadHalf,
    waiting: Arc<Mutex<Waiting>>,
    told: mpsc::Sender<Notification>,
) {
    let mut read = BufReader::with_capacity(READ_BYTES, read);
    let room = Arc::new(Semaphore::new(NOTIFICATION_BYTES_MAX));
    let mut line = Vec::new();
    let strange = loop {
        match read_line(&mut read, &mut line).await {
            Ok(true) => {}
            Ok(false) => break None,
            Err(err) if err.kind() == io::ErrorKind::InvalidData => break Some(err.to_string()),
            Err(_) => break None,
        }
        let outgoing: Outgoing = match serde_json::from_slice(&line) {
            Ok(outgoing) => outgoing,
            Err(err) => break Some(format!("a line is no JSON-RPC: {err}")),
        };
        match (outgoing.method, outgoing.params) {
            (Some(method), Some(params)) => {
                let bytes = u32::try_from(line.len().min(NOTIFICATION_BYTES_MAX));
                let bytes = bytes.expect("the limit is below 4 GiB");
                let room = Arc::clone(&room).acquire_many_owned(bytes).await;
                let _room = room.expect("the semaphore is never closed");
                // Nobody listens: what is told is thrown away, answers still come.
                let _ = told.send(Notification { method, params, _room }).await;
            }
            (None, _) => {
                let answer = outgoing.error.map_or_else(
                    || Ok(outgoing.result.unwrap_or_else(null)),
                    |error| Err(CallError::Refused(error)),
                );
                settle(&waiting, outgoing.id, answer);
            }
            (Some(_), None) => {}
        }
    };
    let mut waiting = lock(&waiting);
    waiting.ended = true;
    for (_, call) in waiting.calls.drain() {
        let end = strange.as_ref().map_or(CallError::Lost, |what| CallError::Strange {
            method: "a call".to_owned(),
            what: what.clone(),
        });
        let _ = call.send(Err(end));
    }
}

/// `result: null` is an answer like any other, but reads as absent.
fn null() -> Box<RawValue> {
    RawValue::from_string("null".to_owned()).expect("null is JSON")
}

fn settle(waiting: &Mutex<Waiting>, id: Option<Id>, answer: Answer) {
    let mut waiting = lock(waiting);
    match id {
        Some(Id::Number(id)) => {
            if let Some(call) = waiting.calls.remove(&id) {
                let _ = call.send(answer);
            }
        }
        // An error without an id is about a line of which nothing could be read: whose it was is
        // not known, so it ends every call that waits rather than let one wait for ever.
        _ => {
            if let Err(CallError::Refused(error)) = answer {
                for (_, call) in waiting.calls.drain() {
                    let _ = call.send(Err(CallError::Refused(error.clone())));
                }
            }
        }
    }
}

/// Reads one line without its newline. False at the end; a line that is cut by the end is none.
async fn read_line(
    read: &mut BufReader<impl AsyncRead + Unpin>,
    line: &mut Vec<u8>,
) -> io::Result<bool> {
    line.clear();
    let limit = u64::try_from(ANSWER_BYTES_MAX).expect("the limit fits");
    read.take(limit).read_until(b'\n', line).await?;
    if line.last() == Some(&b'\n') {
        line.pop();
        return Ok(true);
    }
    if line.len() >= ANSWER_BYTES_MAX {
        let message = format!("a line is longer than {ANSWER_BYTES_MAX} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripted::{Folder, Server};
    use serde_json::json;
    use sess_protocol::methods::{Empty, ModelList, SessionGet, SessionParams, TaskGet};

    async fn open(folder: &Folder) -> (Connection, Notifications) {
        let stream = crate::socket::connect(&folder.socket()).await.unwrap();
        Connection::over(stream)
    }

    fn params() -> SessionParams {
        SessionParams { session: "1f2e".to_owned() }
    }

    #[tokio::test]
    async fn answers_find_their_calls_in_any_order() {
        let folder = Folder::new();
        let mut server = Server::bind(&folder);
        let (connection, _told) = open(&folder).await;
        let script = async {
            let mut peer = server.accept().await;
            let first = peer.request().await;
            let second = peer.request().await;
            peer.answer(&second, json!({"n": second["method"]})).await;
            peer.answer(&first, json!({"n": first["method"]})).await;
        };
        let none = Map::new();
        let calls = async {
            tokio::join!(connection.call_raw("a", &none), connection.call_raw("b", &none))
        };
        let ((), (first, second)) = tokio::join!(script, calls);
        assert_eq!(first.unwrap().get(), r#"{"n":"a"}"#);
        assert_eq!(second.unwrap().get(), r#"{"n":"b"}"#);
    }

    #[tokio::test]
    async fn a_refusal_a_lost_connection_and_a_stranger_are_told_apart() {
        let folder = Folder::new();
        let mut server = Server::bind(&folder);
        let (connection, _told) = open(&folder).await;
        let script = async {
            let mut peer = server.accept().await;
            let request = peer.request().await;
            let error = Error::not_found("session", "1f2e").hint("see `sess ls`");
            peer.refuse(&request, &error).await;
            peer.request().await;
        };
        let calls = async {
            let refused = connection.call::<SessionGet>(&params()).await.unwrap_err();
            assert_eq!(refused.kind(), Some(Kind::NotFound));
            assert_eq!(refused.hint().as_deref(), Some("see `sess ls`"));
            let lost = connection.call::<SessionGet>(&params()).await;
            assert!(matches!(lost, Err(CallError::Lost)));
            let after = connection.call::<SessionGet>(&params()).await;
            assert!(matches!(after, Err(CallError::Lost)));
        };
        tokio::join!(script, calls);
        let (connection, _told) = open(&folder).await;
        let script = async {
            let mut peer = server.accept().await;
            peer.request().await;
            peer.send("HTTP/1.1 400 Bad Request\r\n").await;
            peer
        };
        let task = sess_protocol::methods::TaskParams { task: "t".to_owned() };
        let (answer, _peer) = tokio::join!(connection.call::<TaskGet>(&task), script);
        assert!(matches!(answer, Err(CallError::Strange { .. })));
    }

    #[tokio::test]
    async fn notifications_come_in_order_and_nobody_needs_to_take_them() {
        let folder = Folder::new();
        let mut server = Server::bind(&folder);
        let (connection, told) = open(&folder).await;
        drop(told);
        let script = async {
            let mut peer = server.accept().await;
            let request = peer.request().await;
            for n in 0..2 * NOTIFICATIONS_MAX {
                peer.tell("delta", json!({ "n": n })).await;
            }
            peer.answer(&request, json!({"models": []})).await;
        };
        let list = sess_protocol::methods::ListParams::default();
        let (answer, ()) = tokio::join!(connection.call::<ModelList>(&list), script);
        assert!(answer.unwrap().models.is_empty());

        let (_connection, mut told) = open(&folder).await;
        let script = async {
            let mut peer = server.accept().await;
            for n in 0..2 * NOTIFICATIONS_MAX {
                peer.tell("delta", json!({ "n": n })).await;
            }
        };
        let take = async {
            let mut taken = Vec::new();
            while let Some(notification) = told.next().await {
                taken.push(notification.params.get().to_owned());
            }
            taken
        };
        let (taken, ()) = tokio::join!(take, script);
        let expected: Vec<_> =
            (0..2 * NOTIFICATIONS_MAX).map(|n| format!(r#"{{"n":{n}}}"#)).collect();
        assert_eq!(taken, expected);
        assert_eq!(members_of(&Empty {}), Map::new());
    }
}
