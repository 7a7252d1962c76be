//! Lines out of bytes: bounded in length, all unfinished ones together too.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sess_protocol::envelope::UNFINISHED_BYTES_MAX;
use sess_protocol::line::LINE_BYTES_MAX;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes that are read at a time.
const READ_BYTES: usize = 16 * 1024;
/// Bytes that are read of a line before others have their turn.
const TURN_BYTES: usize = 4 * READ_BYTES;
/// Bytes of a line that is skipped, and for how long its client then waits: it has broken the rules, and does not
/// get a processor for it.
const SKIPPED_BYTES: usize = 1024 * 1024;
const SKIPPED_PAUSE: Duration = Duration::from_millis(1);
/// Bytes of a skipped line that are kept to find its id in.
const KEPT_BYTES: usize = 4096;

static UNFINISHED: AtomicUsize = AtomicUsize::new(0);

/// What comes out of a client's bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Got {
    /// A line without its newline; empty ones are left out.
    Line(Vec<u8>),
    /// A line that went past the limit, with its beginning. It is skipped to its end.
    TooLong(Vec<u8>),
    /// A line for which all unfinished lines together leave no room, with its beginning.
    NoRoom(Vec<u8>),
    /// The client says no more.
    End,
}

/// Reads lines.
#[derive(Debug)]
pub(super) struct Lines<R> {
    from: R,
    buffer: Vec<u8>,
    /// Up to here the buffer has no newline.
    looked: usize,
    skipping: bool,
    counted: usize,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// Reads lines from there.
    pub(super) fn new(from: R) -> Self {
        Self { from, buffer: Vec::new(), looked: 0, skipping: false, counted: 0 }
    }

    /// What the lines are read from.
    pub(super) fn reader(&self) -> &R {
        &self.from
    }

    /// The next line. May be dropped and called again: nothing is lost.
    ///
    /// # Errors
    /// The connection broke.
    pub(super) async fn next(&mut self) -> std::io::Result<Got> {
        let (mut turn, mut skipped) = (0, 0);
        loop {
            if let Some(got) = self.take() {
                return Ok(got);
            }
            if turn >= TURN_BYTES {
                // A line that does not end is not to be felt by those who wait beside it.
                match self.skipping && skipped >= SKIPPED_BYTES {
                    true => tokio::time::sleep(SKIPPED_PAUSE).await,
                    false => tokio::task::yield_now().await,
                }
                (turn, skipped) = (0, skipped % SKIPPED_BYTES);
            }
            if self.buffer.capacity() - self.buffer.len() < READ_BYTES {
                self.buffer.reserve(READ_BYTES);
            }
            let count = self.from.read_buf(&mut self.buffer).await?;
            (turn, skipped) = (turn + count, skipped + count);
            if count == 0 {
                // A last line without its newline was never finished: it is no line.
                self.clear();
                return Ok(Got::End);
            }
        }
    }

    fn take(&mut self) -> Option<Got> {
        loop {
            let end = self.buffer[self.looked..].iter().position(|it| *it == b'\n');
            let Some(end) = end.map(|it| it + self.looked) else {
                self.looked = self.buffer.len();
                return self.overflow();
            };
            let rest = self.buffer.split_off(end + 1);
            let mut line = std::mem::replace(&mut self.buffer, rest);
            self.looked = 0;
            self.count();
            line.pop();
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            if line.len() > LINE_BYTES_MAX {
                line.truncate(KEPT_BYTES);
                return Some(Got::TooLong(line));
            }
            if !line.iter().all(u8::is_ascii_whitespace) {
                return Some(Got::Line(line));
            }
        }
    }

    /// What is unfinished goes past a limit: it is dropped, and skipped to its end.
    fn overflow(&mut self) -> Option<Got> {
        if self.skipping {
            self.clear();
            return None;
        }
        let too_long = self.buffer.len() > LINE_BYTES_MAX;
        let room = self.count();
        if !too_long && room {
            return None;
        }
        self.buffer.truncate(KEPT_BYTES);
        let kept = std::mem::take(&mut self.buffer);
        self.clear();
        self.skipping = true;
        Some(if too_long { Got::TooLong(kept) } else { Got::NoRoom(kept) })
    }

    fn clear(&mut self) {
        self.buffer.clear();
        self.looked = 0;
        self.count();
    }

    /// Counts what is unfinished here among all; answers whether there is room for it.
    fn count(&mut self) -> bool {
        let (before, now) = (self.counted, self.buffer.len());
        self.counted = now;
        if now >= before {
            let all = UNFINISHED.fetch_add(now - before, Ordering::Relaxed) + now - before;
            all <= UNFINISHED_BYTES_MAX
        } else {
            UNFINISHED.fetch_sub(before - now, Ordering::Relaxed);
            true
        }
    }
}

impl<R> Drop for Lines<R> {
    fn drop(&mut self) {
        UNFINISHED.fetch_sub(self.counted, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(bytes: &[u8]) -> Vec<Got> {
        let mut lines = Lines::new(bytes);
        let mut all = Vec::new();
        loop {
            let got = lines.next().await.expect("bytes in memory");
            if got == Got::End {
                return all;
            }
            all.push(got);
        }
    }

    #[tokio::test]
    async fn lines_come_one_by_one_and_empty_ones_are_left_out() {
        let line = |it: &str| Got::Line(it.as_bytes().to_vec());
        assert_eq!(all(b"a\n\n  \nbc\r\nunfinished").await, [line("a"), line("bc")]);
    }

    #[tokio::test]
    async fn a_line_over_the_limit_is_skipped_to_its_end() {
        let mut bytes = vec![b'x'; LINE_BYTES_MAX + READ_BYTES * 2];
        bytes.extend_from_slice(b"\nnext\n");
        let got = all(&bytes).await;
        assert!(matches!(&got[0], Got::TooLong(kept) if kept.len() == KEPT_BYTES));
        assert_eq!(got[1..], [Got::Line(b"next".to_vec())]);
    }

    #[tokio::test]
    async fn a_line_of_exactly_the_limit_is_taken() {
        let mut bytes = vec![b'x'; LINE_BYTES_MAX];
        bytes.push(b'\n');
        assert!(matches!(&all(&bytes).await[..], [Got::Line(it)] if it.len() == LINE_BYTES_MAX));
    }
}
