//! What must hold for the lines of any bytes, however they come?

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use tokio::io::{AsyncRead, ReadBuf};

use super::lines::{Got, Lines};

/// Reads the lines; they are the same wherever the bytes are cut. The first byte says where.
#[must_use]
pub fn lines(data: &[u8]) -> Vec<Vec<u8>> {
    let Some((cut, bytes)) = data.split_first() else { return Vec::new() };
    let whole = all(std::iter::once(bytes));
    let in_parts = all(bytes.chunks(1 + usize::from(cut % 64)));
    assert_eq!(whole, in_parts, "cut every {} bytes", 1 + cut % 64);
    let line = |got| match got {
        Got::Line(line) => Some(line),
        _ => None,
    };
    whole.into_iter().filter_map(line).collect()
}

fn all<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Vec<Got> {
    let mut lines = Lines::new(Parts(parts.collect()));
    let mut all = Vec::new();
    loop {
        let got = lines.next().now_or_never().expect("bytes in memory are there");
        match got.expect("bytes in memory do not break") {
            Got::End => return all,
            got => all.push(got),
        }
    }
}

/// Bytes that come one part after the other.
struct Parts<'a>(VecDeque<&'a [u8]>);

impl AsyncRead for Parts<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(part) = self.0.pop_front() {
            let (now, later) = part.split_at(part.len().min(buffer.remaining()));
            buffer.put_slice(now);
            if !later.is_empty() {
                self.0.push_front(later);
            }
        }
        Poll::Ready(Ok(()))
    }
}
