//! How does a front end that costs almost nothing talk to the daemon? By a blocking socket and whole lines.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

/// Bytes that are read at a time.
const READ_BYTES: usize = 256 * 1024;
/// What every notification of an event begins with.
const EVENT: &[u8] = br#"{"jsonrpc":"2.0","method":"event""#;
/// Requests that wait for their answers at a time, below what the daemon takes.
const PIPELINED: usize = 200;

/// One connection.
pub(crate) struct Client {
    reader: BufReader<UnixStream>,
    line: Vec<u8>,
    next_id: u64,
}

impl Client {
    pub(crate) fn connect(path: &Path) -> Result<Client> {
        let stream = UnixStream::connect(path).with_context(|| path.display().to_string())?;
        let reader = BufReader::with_capacity(READ_BYTES, stream);
        Ok(Client { reader, line: Vec::new(), next_id: 1 })
    }

    /// Sends bytes as they are.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.reader.get_mut().write_all(bytes)?)
    }

    /// Sends a request and does not wait.
    pub(crate) fn send(&mut self, method: &str, params: &Value) -> Result<u64> {
        let id = self.next_id;
        self.next_id += 1;
        let line = format!("{{\"id\":{id},\"method\":\"{method}\",\"params\":{params}}}\n");
        self.write(line.as_bytes())?;
        Ok(id)
    }

    /// The next line.
    pub(crate) fn line(&mut self) -> Result<&[u8]> {
        self.line.clear();
        self.reader.read_until(b'\n', &mut self.line)?;
        ensure!(self.line.ends_with(b"\n"), "the daemon closed the connection");
        Ok(&self.line)
    }

    /// The id and result of the next answer; notifications on the way are let go.
    pub(crate) fn next_answer(&mut self) -> Result<(u64, Value)> {
        loop {
            let line = self.line()?;
            if line.get(16..25) == Some(br#""method":"#) {
                continue;
            }
            let mut answer: Value = serde_json::from_slice(line)?;
            ensure!(answer["error"].is_null(), "refused: {}", answer["error"]);
            return Ok((
                answer["id"].as_u64().context("an answer to nobody")?,
                answer["result"].take(),
            ));
        }
    }

    /// The result of a request.
    pub(crate) fn call(&mut self, method: &str, params: &Value) -> Result<Value> {
        let wanted = self.send(method, params)?;
        let (id, result) = self.next_answer().with_context(|| method.to_owned())?;
        ensure!(id == wanted, "an answer to another request");
        Ok(result)
    }

    /// The results of many requests, many of them under way at a time, in the order of the requests.
    pub(crate) fn call_all(&mut self, method: &str, all: &[Value]) -> Result<Vec<Value>> {
        let first = self.next_id;
        let mut results = vec![Value::Null; all.len()];
        let mut sent = 0;
        for got in 0..all.len() {
            while sent < all.len() && sent < got + PIPELINED {
                self.send(method, &all[sent])?;
                sent += 1;
            }
            let (id, result) = self.next_answer().with_context(|| method.to_owned())?;
            results[usize::try_from(id - first)?] = result;
        }
        Ok(results)
    }

    /// Makes sessions with this model.
    pub(crate) fn sessions(&mut self, count: usize, model: &str) -> Result<Vec<String>> {
        let made = self.call_all("session/create", &vec![json!({ "model": model }); count])?;
        Ok(made.iter().map(|it| it["id"].as_str().unwrap_or_default().to_owned()).collect())
    }

    /// Makes a session and follows it.
    pub(crate) fn followed(&mut self, model: &str) -> Result<String> {
        let session = self.sessions(1, model)?.remove(0);
        self.call("session/follow", &json!({ "session": session }))?;
        Ok(session)
    }

    /// Says something in a session that is followed, and waits until its task is told to be final.
    pub(crate) fn turn(&mut self, session: &str, model: Option<&str>) -> Result<()> {
        let mut params = json!({"session": session, "content": "hello, how are you?"});
        if let Some(model) = model {
            params["model"] = model.into();
        }
        self.send("chat/send", &params)?;
        self.ended()
    }

    /// Waits until a task is told to be completed.
    pub(crate) fn ended(&mut self) -> Result<()> {
        loop {
            let line = self.line()?;
            if line.starts_with(EVENT) {
                // The type stands before the data, so that nothing that was said can be taken for it.
                let text = std::str::from_utf8(line)?;
                if text.contains(r#""type":"task.completed""#) {
                    return Ok(());
                }
                if text.contains(r#""type":"task.failed""#) {
                    bail!("a task failed: {text}");
                }
            } else if line.starts_with(br#"{"jsonrpc":"2.0","id":"#)
                && line.windows(9).any(|it| it == br#""error":{"#)
            {
                bail!("refused: {}", String::from_utf8_lossy(line));
            }
        }
    }
}
