//! How fast are the bare things: the stub itself, a commit of SQLite, an echo over a socket?

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Result, ensure};
use rusqlite::{Connection, params};
use serde_json::json;

/// Bytes of the body of a commit of the daemon, of a turn of few words.
const BODY_BYTES: usize = 900;
/// How the stub's answer ends on the wire.
const LAST_CHUNK: &[u8] = b"\r\n0\r\n\r\n";

/// A connection to the stub that is kept, as the daemon keeps its own.
pub(crate) struct Http {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Http {
    pub(crate) fn connect(port: u16) -> Result<Http> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        Ok(Http { stream, read: Vec::with_capacity(1 << 20) })
    }

    /// Asks and reads to the end; `heard` is given each part as it comes.
    pub(crate) fn ask(&mut self, model: &str, mut heard: impl FnMut(&[u8])) -> Result<()> {
        let body = json!({
            "model": model, "stream": true, "stream_options": {"include_usage": true},
            "messages": [{"role": "user", "content": "hello, how are you?"}],
        })
        .to_string();
        let head =
            "POST /v1/chat/completions HTTP/1.1\r\nhost: stub\r\ncontent-type: application/json";
        let request = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        self.stream.write_all(request.as_bytes())?;
        self.read.clear();
        let mut part = vec![0; 64 * 1024];
        while !self.read.ends_with(LAST_CHUNK) {
            let count = self.stream.read(&mut part)?;
            ensure!(count > 0, "the stub closed the connection");
            heard(&part[..count]);
            self.read.extend_from_slice(&part[..count]);
        }
        ensure!(self.read.starts_with(b"HTTP/1.1 200"), "the stub refused");
        Ok(())
    }

    /// The same, heard by nobody.
    pub(crate) fn turn(&mut self, model: &str) -> Result<()> {
        self.ask(model, |_| ())
    }
}

/// A database with the daemon's settings and one table, and nothing else of the daemon.
pub(crate) struct Bare(Connection);

impl Bare {
    /// Beside the daemon's own, on the same file system.
    pub(crate) fn open(folder: &Path) -> Result<Bare> {
        let conn = Connection::open(folder.join("bare.db"))?;
        conn.pragma_update(None, "page_size", 4096)?;
        conn.query_row("PRAGMA journal_mode = WAL", (), |_| Ok(()))?;
        conn.pragma_update(None, "synchronous", "FULL")?;
        conn.execute_batch("CREATE TABLE log(id INTEGER PRIMARY KEY, hash BLOB, body TEXT)")?;
        Ok(Bare(conn))
    }

    /// One row, on disk when this comes back.
    pub(crate) fn commit(&self) -> Result<()> {
        let body = "x".repeat(BODY_BYTES);
        self.0
            .prepare_cached("INSERT INTO log(hash, body) VALUES(?, ?)")?
            .execute(params![[7_u8; 32], body])?;
        Ok(())
    }
}

/// A thread that sends back what it gets.
pub(crate) struct Echo(UnixStream);

impl Echo {
    pub(crate) fn start() -> Result<Echo> {
        let (ours, mut theirs) = UnixStream::pair()?;
        // It ends with the other end of its socket.
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = theirs.read(&mut bytes) {
                if theirs.write_all(&bytes[..count]).is_err() {
                    return;
                }
            }
        });
        Ok(Echo(ours))
    }

    /// There and back.
    pub(crate) fn round(&mut self) -> Result<()> {
        let mut bytes = [b'x'; 200];
        self.0.write_all(&bytes)?;
        Ok(self.0.read_exact(&mut bytes)?)
    }
}
