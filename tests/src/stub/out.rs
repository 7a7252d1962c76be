//! How do an answer's bytes get framed, cut, written and logged?

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::mem;

use super::http::Conn;
use super::log::What;
use super::state::Shared;

/// Body bytes gathered before they are written although no delay asks for it.
const GATHER_BYTES_MAX: usize = 512 * 1024;

/// Why an answer stops before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The client left.
    Gone,
    /// The script cuts it.
    Cut,
}

/// The bytes of one answer on their way to the socket.
///
/// A mark is what the log shall say when the byte before it has been taken by the kernel, not earlier and not later.
pub(super) struct Out {
    request: u64,
    chunked: bool,
    /// Body bytes not yet framed, and marks in them.
    body: Vec<u8>,
    body_marks: Vec<(usize, What)>,
    body_total: u64,
    /// Bytes as they go out, and marks in them.
    framed: Vec<u8>,
    marks: VecDeque<(usize, What)>,
    split: usize,
    cut_at: Option<u64>,
    pieces_sent: u64,
}

impl Out {
    pub(super) fn new(request: u64, cut_at: Option<u64>) -> Out {
        Out {
            request,
            chunked: false,
            body: Vec::new(),
            body_marks: Vec::new(),
            body_total: 0,
            framed: Vec::new(),
            marks: VecDeque::new(),
            split: 0,
            cut_at,
            pieces_sent: 0,
        }
    }

    /// Pieces that the kernel has taken whole.
    pub(super) fn pieces_sent(&self) -> u64 {
        self.pieces_sent
    }

    /// Starts with a head that leaves the framing open: chunks, or as many bytes as named.
    pub(super) fn head(&mut self, status: u16, head: Vec<u8>, content_bytes: Option<usize>) {
        self.chunked = content_bytes.is_none();
        self.framed.extend_from_slice(&head);
        let framing = match content_bytes {
            None => "transfer-encoding: chunked\r\n\r\n".to_owned(),
            Some(bytes) => format!("content-length: {bytes}\r\n\r\n"),
        };
        self.framed.extend_from_slice(framing.as_bytes());
        self.marks.push_back((self.framed.len(), What::Status { status }));
    }

    /// Adds to the body; `mark` is logged with the last of these bytes.
    pub(super) fn push(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>),
        mark: Option<What>,
    ) -> Result<(), Stop> {
        let before = self.body.len();
        write(&mut self.body);
        let total = self.body_total + (self.body.len() - before) as u64;
        if let Some(cut_at) = self.cut_at.filter(|at| *at <= total) {
            let kept = before + (cut_at - self.body_total) as usize;
            if kept == self.body.len() {
                self.body_marks.extend(mark.map(|what| (kept, what)));
            }
            self.body.truncate(kept);
            self.body_total = cut_at;
            return Err(Stop::Cut);
        }
        self.body_total = total;
        self.body_marks.extend(mark.map(|what| (self.body.len(), what)));
        Ok(())
    }

    /// Whether enough is gathered to be written without being asked.
    pub(super) fn is_full(&self) -> bool {
        self.body.len() >= GATHER_BYTES_MAX
    }

    /// Sends what follows in chunks of so many bytes; 0 in chunks as large as the writes.
    pub(super) fn split(&mut self, bytes: usize) {
        self.frame();
        self.split = bytes;
    }

    /// Ends the body; `mark` is logged with the answer's last byte.
    pub(super) fn end(&mut self, mark: What) {
        self.frame();
        if self.chunked {
            self.framed.extend_from_slice(b"0\r\n\r\n");
        }
        self.marks.push_back((self.framed.len(), mark));
    }

    fn frame(&mut self) {
        let body = mem::take(&mut self.body);
        let mut body_marks = mem::take(&mut self.body_marks).into_iter().peekable();
        let size = if self.split > 0 && self.chunked { self.split } else { body.len().max(1) };
        let mut end = 0;
        for chunk in body.chunks(size) {
            if self.chunked {
                self.framed.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            }
            self.framed.extend_from_slice(chunk);
            end += chunk.len();
            while let Some((at, what)) = body_marks.next_if(|(at, _)| *at <= end) {
                self.marks.push_back((self.framed.len() - (end - at), what));
            }
            if self.chunked {
                self.framed.extend_from_slice(b"\r\n");
            }
        }
    }

    /// Writes all there is. While the kernel takes nothing, it listens whether the client left.
    pub(super) async fn flush(&mut self, conn: &mut Conn<'_>, shared: &Shared) -> Result<(), Stop> {
        self.frame();
        let bytes = mem::take(&mut self.framed);
        let mut sent = 0;
        while sent < bytes.len() {
            match self.write(conn, shared, &bytes[sent..], sent) {
                Ok(count) => sent += count,
                Err(err) if err.kind() == ErrorKind::WouldBlock => tokio::select! {
                    biased;
                    () = conn.reader.closed() => return Err(Stop::Gone),
                    ready = conn.writer.writable() => ready.map_err(|_| Stop::Gone)?,
                },
                Err(_) => return Err(Stop::Gone),
            }
        }
        Ok(())
    }

    /// Hands bytes to the kernel and logs what they complete. The log is held from before the first byte can be seen
    /// until its entry stands: whoever has read a piece finds it in the log, and what the log says was sent.
    fn write(
        &mut self,
        conn: &Conn<'_>,
        shared: &Shared,
        bytes: &[u8],
        sent: usize,
    ) -> std::io::Result<usize> {
        let mut log = shared.log();
        let stamp = log.stamp();
        let count = conn.writer.try_write(bytes)?;
        let whole = self.marks.iter().take_while(|(at, _)| *at <= sent + count).count();
        let pieces = self.marks.range(..whole).filter(|(_, it)| matches!(it, What::Piece { .. }));
        self.pieces_sent += pieces.count() as u64;
        log.record(stamp, self.request, self.marks.drain(..whole).map(|(_, what)| what));
        Ok(count)
    }
}
