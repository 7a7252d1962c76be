//! A daemon whose every line a test writes, to see how the client takes it.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sess_protocol::envelope::{Id, error_line, notification_line, result_line};
use sess_protocol::error::Error;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};

/// A folder of its own, removed at the end.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        let name = format!("sess-client-{}", uuid::Uuid::new_v4().simple());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.0.join("sess.sock")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) struct Server(UnixListener);

impl Server {
    pub(crate) fn bind(folder: &Folder) -> Self {
        Self(UnixListener::bind(folder.socket()).unwrap())
    }

    pub(crate) async fn accept(&mut self) -> Peer {
        let (stream, _) = self.0.accept().await.unwrap();
        Peer::over(stream)
    }

    /// Accepts a client that introduces itself, and lets it in.
    pub(crate) async fn welcome(&mut self) -> Peer {
        let mut peer = self.accept().await;
        let request = peer.expect("initialize").await;
        assert_eq!(request["params"]["protocol"], 1);
        peer.answer(&request, welcome(1)).await;
        peer
    }
}

/// What `initialize` is answered.
pub(crate) fn welcome(protocol: u64) -> Value {
    json!({
        "protocol": protocol,
        "daemon": {"name": "sessd", "version": "0.0.0", "pid": 1},
        "store": {"kind": "sqlite", "history": "h"},
        "capabilities": [],
        "limits": {},
    })
}

/// The daemon's side of one connection; dropped, the connection is lost.
pub(crate) struct Peer {
    read: BufReader<OwnedReadHalf>,
    write: OwnedWriteHalf,
}

impl Peer {
    fn over(stream: UnixStream) -> Self {
        let (read, write) = stream.into_split();
        Self { read: BufReader::new(read), write }
    }

    pub(crate) async fn request(&mut self) -> Value {
        let mut line = String::new();
        self.read.read_line(&mut line).await.unwrap();
        serde_json::from_str(&line).unwrap_or_else(|err| panic!("a request, not `{line}`: {err}"))
    }

    pub(crate) async fn expect(&mut self, method: &str) -> Value {
        let request = self.request().await;
        assert_eq!(request["method"], method);
        request
    }

    pub(crate) async fn send(&mut self, line: &str) {
        self.write.write_all(line.as_bytes()).await.unwrap();
    }

    pub(crate) async fn answer(&mut self, request: &Value, result: Value) {
        let line = result_line(&id_of(request), &result.to_string());
        self.send(&line).await;
    }

    pub(crate) async fn refuse(&mut self, request: &Value, error: &Error) {
        let line = error_line(Some(&id_of(request)), error);
        self.send(&line).await;
    }

    pub(crate) async fn tell(&mut self, method: &str, params: Value) {
        self.send(&notification_line(method, &params.to_string())).await;
    }
}

fn id_of(request: &Value) -> Id {
    serde_json::from_value(request["id"].clone()).unwrap()
}
