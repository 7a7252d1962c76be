//! How does a story speak to the daemon, line by line, without the client library?

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::within;

/// Bytes that the daemon may send in one line.
pub const LINE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Notifications that a story may leave unread.
const UNREAD_MAX: usize = 100_000;

/// A raw connection.
#[derive(Debug)]
pub struct Wire {
    reader: BufReader<OwnedReadHalf>,
    /// The beginning of a line whose rest has not come yet.
    partial: Vec<u8>,
    writer: Option<OwnedWriteHalf>,
    next_id: u64,
    answers: HashMap<u64, Value>,
    told: VecDeque<Told>,
}

/// A notification.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// `event`, `delta`, `live`, `session` ...
    pub method: String,
    /// Its params.
    pub params: Value,
}

impl Told {
    /// The type, of an event.
    pub fn kind(&self) -> &str {
        match self.method.as_str() {
            "event" => self.params["type"].as_str().unwrap_or_default(),
            _ => "",
        }
    }
}

impl Wire {
    /// Connects.
    ///
    /// # Panics
    /// When nobody listens.
    pub async fn connect(path: &Path) -> Wire {
        let stream = within("a connection", UnixStream::connect(path)).await;
        let stream = stream.unwrap_or_else(|err| panic!("`{}`: {err}", path.display()));
        let (reader, writer) = stream.into_split();
        Wire {
            reader: BufReader::new(reader),
            partial: Vec::new(),
            writer: Some(writer),
            next_id: 1,
            answers: HashMap::new(),
            told: VecDeque::new(),
        }
    }

    /// Sends a line as it is, with a newline.
    pub async fn send_line(&mut self, line: &str) {
        self.send_bytes(format!("{line}\n").as_bytes()).await;
    }

    /// Sends bytes as they are.
    ///
    /// # Panics
    /// When the daemon takes none.
    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        let writer = self.writer.as_mut().expect("the sending side is open");
        within("room to send", writer.write_all(bytes)).await.expect("the daemon reads");
    }

    /// Sends bytes while the daemon may refuse them; whether it took them all.
    pub async fn try_send_bytes(&mut self, bytes: &[u8]) -> bool {
        let writer = self.writer.as_mut().expect("the sending side is open");
        within("room to send", writer.write_all(bytes)).await.is_ok()
    }

    /// Closes the sending side; answers still come.
    pub fn close_sending(&mut self) {
        self.writer = None;
    }

    /// Sends a request and does not wait.
    pub async fn start(&mut self, method: &str, params: Value) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let line = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        self.send_line(&line.to_string()).await;
        id
    }

    /// The answer to a request: its result, or its error.
    ///
    /// # Errors
    /// The `error` of the answer.
    pub async fn answer(&mut self, id: u64) -> Result<Value, Value> {
        loop {
            if let Some(mut answer) = self.answers.remove(&id) {
                return match answer.get_mut("result") {
                    Some(result) => Ok(result.take()),
                    None => Err(answer["error"].take()),
                };
            }
            let line = within("an answer", self.take_line()).await;
            self.sort(line.unwrap_or_else(|| panic!("the daemon closed before answer {id}")));
        }
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// The `error` of the answer.
    pub async fn call(&mut self, method: &str, params: Value) -> Result<Value, Value> {
        let id = self.start(method, params).await;
        self.answer(id).await
    }

    /// Sends a line as it is and waits for the answer with this id, also when that is null.
    pub async fn raw_call(&mut self, line: &str, id: &Value) -> Value {
        self.send_line(line).await;
        loop {
            let line = within("an answer", self.take_line()).await;
            let line = line.expect("the daemon closed before it answered");
            if line["method"].is_null() && line["id"] == *id {
                return line;
            }
            self.sort(line);
        }
    }

    /// The result of a request.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn ok(&mut self, method: &str, params: Value) -> Value {
        match self.call(method, params.clone()).await {
            Ok(result) => result,
            Err(error) => panic!("`{method}` {params} was refused: {error}"),
        }
    }

    /// The error of a request; its `data` is beside `code` and `message`.
    ///
    /// # Panics
    /// When it is not refused with this kind, or its members do not fit together.
    pub async fn refused(&mut self, kind: &str, method: &str, params: Value) -> Value {
        match self.call(method, params.clone()).await {
            Ok(result) => panic!("`{method}` {params} was not refused but answered {result}"),
            Err(error) => {
                assert_eq!(error["data"]["kind"], kind, "`{method}` {params}: {error}");
                error["data"].clone()
            }
        }
    }

    /// The next line, whatever it is; nothing when the daemon closed the connection.
    pub async fn next_line(&mut self) -> Option<Value> {
        assert!(self.told.is_empty() && self.answers.is_empty(), "lines were read ahead");
        within("a line", self.take_line()).await
    }

    /// The next notification.
    pub async fn next_notification(&mut self) -> Told {
        within("a notification", self.take_notification()).await
    }

    /// The next notification; nothing when the daemon closed the connection.
    pub async fn notification_or_end(&mut self) -> Option<Told> {
        within("a notification", async {
            loop {
                if let Some(told) = self.told.pop_front() {
                    return Some(told);
                }
                let line = self.take_line().await?;
                self.sort(line);
            }
        })
        .await
    }

    /// The next notification, or nothing when none comes in this time.
    pub async fn notification_within(&mut self, time: Duration) -> Option<Told> {
        tokio::time::timeout(time, self.take_notification()).await.ok()
    }

    /// All notifications up to the first that `wanted` says yes to, and that one.
    pub async fn until(&mut self, wanted: impl Fn(&Told) -> bool) -> Vec<Told> {
        let mut all = Vec::new();
        loop {
            let told = self.next_notification().await;
            let found = wanted(&told);
            all.push(told);
            if found {
                return all;
            }
        }
    }

    /// The params of the next event of a type; what comes before is let go.
    ///
    /// # Panics
    /// When it does not come.
    pub async fn event(&mut self, kind: &str) -> Value {
        let mut all = self.until(|it| it.kind() == kind).await;
        all.pop().expect("the one that was waited for").params
    }

    /// All that still comes until the daemon closes the connection.
    pub async fn rest(&mut self) -> Vec<Value> {
        let mut lines = Vec::new();
        while let Some(line) = within("the end of the connection", self.take_line()).await {
            lines.push(line);
        }
        lines
    }

    /// All bytes until the daemon closes the connection.
    pub async fn rest_bytes(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // A connection closed with unread bytes is reset, which is an end as well.
        let _ = within("the end of the connection", self.reader.read_to_end(&mut bytes)).await;
        bytes
    }

    async fn take_notification(&mut self) -> Told {
        loop {
            if let Some(told) = self.told.pop_front() {
                return told;
            }
            let line = self.take_line().await.expect("the daemon closed the connection");
            self.sort(line);
        }
    }

    fn sort(&mut self, mut line: Value) {
        if let Some(method) = line["method"].as_str() {
            let told = Told { method: method.to_owned(), params: line["params"].take() };
            assert!(self.told.len() < UNREAD_MAX, "a story leaves too much unread");
            self.told.push_back(told);
            return;
        }
        let id = line["id"].as_u64().unwrap_or_else(|| panic!("an answer to nobody: {line}"));
        assert!(id < self.next_id, "an answer to what was never asked: {line}");
        assert!(self.answers.insert(id, line).is_none(), "two answers to request {id}");
    }

    // Dropped in the middle it loses nothing: what was read of a line stays in `partial`.
    async fn take_line(&mut self) -> Option<Value> {
        let read = self.reader.read_until(b'\n', &mut self.partial).await;
        let mut line = std::mem::take(&mut self.partial);
        if read.is_err() || line.is_empty() {
            return None;
        }
        assert_eq!(line.pop(), Some(b'\n'), "the daemon sent half a line");
        assert!(line.len() <= LINE_BYTES_MAX, "the daemon sent a line of {} bytes", line.len());
        let value: Value = serde_json::from_slice(&line).expect("the daemon sends JSON");
        assert_eq!(value["jsonrpc"], "2.0", "each line says its version: {value}");
        Some(value)
    }
}
