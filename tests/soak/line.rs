//! How does a client speak to a daemon that may die at any moment, and who writes down what was said?

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use sess_tests::harness::within;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

/// How soon who finds nobody at the socket knocks again.
const KNOCK: Duration = Duration::from_millis(50);

/// The connection is gone, and the fate of what was asked is not known.
#[derive(Debug)]
pub(crate) struct Lost;

/// The history as one client saw it, a line of JSON for each thing: judged when all is over, by another program.
pub(crate) struct Pen(BufWriter<File>);

impl Pen {
    pub(crate) fn new(path: &Path) -> Pen {
        Pen(BufWriter::new(File::create(path).unwrap()))
    }

    pub(crate) fn write(&mut self, what: &Value) {
        writeln!(self.0, "{what}").unwrap();
    }
}

/// One connection.
pub(crate) struct Line {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    /// The begin of a line whose rest has not come yet: reading may be given up at any moment.
    partial: Vec<u8>,
    last_id: u64,
}

impl Line {
    /// Knocks until somebody is there.
    pub(crate) async fn connect(path: &Path) -> Line {
        let stream = within("somebody at the socket", async {
            loop {
                match UnixStream::connect(path).await {
                    Ok(stream) => return stream,
                    Err(_) => crate::world::pass(KNOCK).await,
                }
            }
        });
        let (reader, writer) = stream.await.into_split();
        Line { reader: BufReader::new(reader), writer, partial: Vec::new(), last_id: 0 }
    }

    /// Sends a request; its number.
    pub(crate) async fn ask(&mut self, method: &str, params: &Value) -> Result<u64, Lost> {
        self.last_id += 1;
        let line = json!({"id": self.last_id, "method": method, "params": params});
        self.writer.write_all(format!("{line}\n").as_bytes()).await.map_err(|_| Lost)?;
        Ok(self.last_id)
    }

    /// The next line of any kind.
    pub(crate) async fn next(&mut self) -> Result<Value, Lost> {
        loop {
            match self.reader.read_until(b'\n', &mut self.partial).await {
                Ok(count) if count > 0 && self.partial.ends_with(b"\n") => {
                    let line = serde_json::from_slice(&self.partial).unwrap();
                    self.partial.clear();
                    return Ok(line);
                }
                Ok(count) if count > 0 => {}
                _ => return Err(Lost),
            }
        }
    }

    /// One request and its whole answer; what else comes is for nobody.
    pub(crate) async fn call(&mut self, method: &str, params: &Value) -> Result<Value, Lost> {
        let id = self.ask(method, params).await?;
        within(method, async {
            loop {
                let line = self.next().await?;
                if line["id"] == id {
                    return Ok(line);
                }
            }
        })
        .await
    }

    /// The result of a request that nothing may refuse, at a time when the daemon does not die.
    pub(crate) async fn ok(&mut self, method: &str, params: Value) -> Value {
        let mut answer = self.call(method, &params).await.unwrap();
        assert!(answer.get("result").is_some(), "{method} {params}: {answer}");
        answer["result"].take()
    }
}
