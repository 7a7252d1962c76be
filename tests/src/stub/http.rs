//! What is the least of HTTP/1.1 that a model server needs?

use std::future::pending;
use std::io;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

/// Bytes of a request's line and headers.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a request's body.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of a following request that are read while an answer is being written.
const AHEAD_BYTES_MAX: usize = HEAD_BYTES_MAX;

/// A request, whole.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: String,
    /// Names are in lower case.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    pub(super) keep_alive: bool,
}

/// One connection: its halves are polled together, so a write never hides that the other side left.
pub(super) struct Conn<'a> {
    pub(super) reader: Reader<'a>,
    pub(super) writer: WriteHalf<'a>,
}

/// The reading half, with what it read too far.
pub(super) struct Reader<'a> {
    half: ReadHalf<'a>,
    buffer: Vec<u8>,
}

impl<'a> Conn<'a> {
    pub(super) fn new(stream: &'a mut TcpStream) -> Conn<'a> {
        let (half, writer) = stream.split();
        Conn { reader: Reader { half, buffer: Vec::with_capacity(8 * 1024) }, writer }
    }

    /// Writes a whole JSON answer.
    pub(super) async fn reply(
        &mut self,
        status: u16,
        body: &Value,
        keep_alive: bool,
    ) -> io::Result<()> {
        let body = body.to_string();
        let mut bytes = head(status, &[("content-type", "application/json")], keep_alive);
        bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
        bytes.extend_from_slice(body.as_bytes());
        self.writer.write_all(&bytes).await
    }
}

impl Reader<'_> {
    /// The next request; `None` when the other side closed, or broke off in the middle of one.
    pub(super) async fn request(&mut self) -> Result<Option<Request>, String> {
        let head_bytes = loop {
            if let Some(at) = self.buffer.windows(4).position(|it| it == b"\r\n\r\n") {
                break at + 4;
            }
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(format!("a head is limited to {HEAD_BYTES_MAX} bytes"));
            }
            if !self.read().await {
                return Ok(None);
            }
        };
        let (mut request, body_bytes) = parse_head(&self.buffer[..head_bytes])?;
        self.buffer.reserve((head_bytes + body_bytes).saturating_sub(self.buffer.len()));
        while self.buffer.len() < head_bytes + body_bytes {
            if !self.read().await {
                return Ok(None);
            }
        }
        request.body = self.buffer[head_bytes..head_bytes + body_bytes].to_vec();
        self.buffer.drain(..head_bytes + body_bytes);
        Ok(Some(request))
    }

    /// Resolves when the other side closed its writing half or is gone.
    pub(super) async fn closed(&mut self) {
        while self.buffer.len() < AHEAD_BYTES_MAX {
            if !self.read().await {
                return;
            }
        }
        pending().await
    }

    async fn read(&mut self) -> bool {
        self.half.read_buf(&mut self.buffer).await.is_ok_and(|count| count > 0)
    }
}

fn parse_head(head: &[u8]) -> Result<(Request, usize), String> {
    let head = std::str::from_utf8(head).map_err(|_| "a head is UTF-8".to_owned())?;
    let mut lines = head.trim_end().split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some(version)) = (words.next(), words.next(), words.next())
    else {
        return Err("a request starts with `METHOD TARGET VERSION`".to_owned());
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut headers = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or_else(|| format!("`{line}` has no colon"))?;
        headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut request = Request {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        headers,
        body: Vec::new(),
        keep_alive: version == "HTTP/1.1",
    };
    if let Some(value) = request.header("connection") {
        request.keep_alive = !value.eq_ignore_ascii_case("close");
    }
    if request.header("transfer-encoding").is_some() {
        return Err("a request's body needs `content-length`".to_owned());
    }
    let body_bytes = match request.header("content-length") {
        Some(value) => value.parse().map_err(|_| format!("`content-length: {value}`"))?,
        None => 0,
    };
    if body_bytes > BODY_BYTES_MAX {
        return Err(format!("a body is limited to {BODY_BYTES_MAX} bytes"));
    }
    Ok((request, body_bytes))
}

impl Request {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(it, _)| it == name).map(|(_, value)| value.as_str())
    }

    /// A number in the query, or 0.
    pub(super) fn query_number(&self, name: &str) -> u64 {
        self.query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(it, _)| *it == name)
            .and_then(|(_, value)| value.parse().ok())
            .unwrap_or(0)
    }
}

/// The head of an answer, still open: the header that frames the body and the empty line follow.
pub(super) fn head(status: u16, headers: &[(&str, &str)], keep_alive: bool) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} {}\r\n", reason(status));
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !keep_alive {
        head.push_str("connection: close\r\n");
    }
    head.into_bytes()
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        408 => "Request Timeout",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "Scripted",
    }
}
