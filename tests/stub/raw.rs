//! What does the stub put on the wire, byte by byte?

use std::net::Ipv4Addr;

use serde_json::{Value, json};
use sess_tests::stub::Stub;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Bytes of one answer that a test is ready to read.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A connection to the stub without any HTTP library.
pub(crate) struct Raw {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    /// The sizes of the HTTP chunks.
    pub(crate) chunks: Vec<usize>,
    pub(crate) body: Vec<u8>,
    /// Whether the body ended as its framing said, and not by the end of the connection.
    pub(crate) whole: bool,
}

impl Raw {
    pub(crate) async fn connect(stub: &Stub) -> Raw {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, stub.port())).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Raw { stream, buffer: Vec::new() }
    }

    pub(crate) async fn ask(&mut self, model: &str, more: Value) {
        let mut body = json!({
            "model": model, "stream": true, "messages": [{"role": "user", "content": "grüße an alle"}],
        });
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        self.post("/v1/chat/completions", &body.to_string()).await;
    }

    pub(crate) async fn post(&mut self, path: &str, body: &str) {
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: stub\r\nAuthorization: Bearer secret\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.write_all(request.as_bytes()).await.unwrap();
    }

    /// Says that nothing more will be asked, which the stub takes for leaving.
    pub(crate) async fn shut(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// Reads until the bytes read so far hold `text`.
    pub(crate) async fn read_until(&mut self, text: &str) {
        while !String::from_utf8_lossy(&self.buffer).contains(text) {
            assert!(self.read().await, "the answer ended before `{text}`");
        }
    }

    /// Reads one answer to its end, or to the end of the connection.
    pub(crate) async fn answer(&mut self) -> Answer {
        let head_bytes = loop {
            if let Some(at) = self.buffer.windows(4).position(|it| it == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(self.read().await, "the connection ended before an answer");
        };
        let head = String::from_utf8(self.buffer.drain(..head_bytes).collect()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer =
            Answer { status, head, chunks: Vec::new(), body: Vec::new(), whole: false };
        match answer.head.split("content-length: ").nth(1) {
            Some(rest) => {
                let bytes = rest.lines().next().unwrap().parse().unwrap();
                answer.whole = self.take(bytes, &mut answer.body).await;
            }
            None => self.chunks(&mut answer).await,
        }
        answer
    }

    async fn chunks(&mut self, answer: &mut Answer) {
        loop {
            let mut line = Vec::new();
            while !line.ends_with(b"\r\n") {
                if !self.take(1, &mut line).await {
                    return;
                }
            }
            let size = std::str::from_utf8(&line).unwrap().trim();
            let size = usize::from_str_radix(size, 16).unwrap();
            let mut end = Vec::new();
            if !self.take(size, &mut answer.body).await || !self.take(2, &mut end).await {
                return;
            }
            assert_eq!(end, b"\r\n");
            if size == 0 {
                answer.whole = true;
                return;
            }
            answer.chunks.push(size);
        }
    }

    async fn take(&mut self, bytes: usize, into: &mut Vec<u8>) -> bool {
        while self.buffer.len() < bytes {
            if !self.read().await {
                into.append(&mut self.buffer);
                return false;
            }
        }
        into.extend(self.buffer.drain(..bytes));
        true
    }

    async fn read(&mut self) -> bool {
        assert!(self.buffer.len() < ANSWER_BYTES_MAX);
        self.stream.read_buf(&mut self.buffer).await.is_ok_and(|count| count > 0)
    }
}

impl Answer {
    /// The objects of the stream's events; `[DONE]` is a string.
    pub(crate) fn events(&self) -> Vec<Value> {
        let body = String::from_utf8_lossy(&self.body);
        body.split("\n\n")
            .filter_map(|event| event.strip_prefix("data: "))
            .map(|data| serde_json::from_str(data).unwrap_or_else(|_| Value::from(data)))
            .collect()
    }

    /// The text of all deltas in one field.
    pub(crate) fn field(&self, field: &str) -> String {
        let events = self.events();
        let texts = events.iter().filter_map(|it| it["choices"][0]["delta"][field].as_str());
        texts.collect()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}
