//! What waits for one client: lines, bounded by their number and by their bytes.

use std::sync::Arc;

use sess_protocol::envelope::{ANSWERS_BYTES_MAX, Id, error_line};
use sess_protocol::error::{Error, Kind};
use tokio::sync::{Semaphore, mpsc};

use super::making::Making;

/// Lines that wait for one client; behind that, who has more waits.
const OUT_LINES_MAX: usize = 64;
/// Bytes of them. A line that is longer waits alone.
const OUT_BYTES_MAX: usize = 1024 * 1024;

/// An answer up to here is short: so many requests as a connection may have are answered so without harm.
const SHORT_BYTES: usize = 8 * 1024;
/// When to ask again after too many answers that nobody took, in milliseconds.
const RETRY_MS: u64 = 1000;

/// A line on its way out.
#[derive(Debug)]
pub enum Line {
    /// An answer.
    Own(String),
    /// A line that others get too.
    Shared(Arc<str>),
    /// Nothing more: the connection closes behind what was said before.
    End,
}

impl Line {
    /// Its bytes, newline included.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Own(line) => line.as_bytes(),
            Self::Shared(line) => line.as_bytes(),
            Self::End => &[],
        }
    }

    /// The room that it takes up while it waits.
    fn room(&self) -> usize {
        self.bytes().len().min(OUT_BYTES_MAX)
    }
}

/// The way to one client.
#[derive(Debug, Clone)]
pub struct Out {
    lines: mpsc::Sender<Line>,
    /// A permit for each byte that still has room.
    room: Arc<Semaphore>,
    making: Arc<Making>,
}

/// What waits for one client, as its writer takes it.
#[derive(Debug)]
pub(super) struct Waiting {
    lines: mpsc::Receiver<Line>,
    room: Arc<Semaphore>,
}

/// The way to a client, and what waits there.
#[must_use]
pub(super) fn out(making: &Arc<Making>) -> (Out, Waiting) {
    let (sender, receiver) = mpsc::channel(OUT_LINES_MAX);
    let room = Arc::new(Semaphore::new(OUT_BYTES_MAX));
    let making = Arc::clone(making);
    (Out { lines: sender, room: Arc::clone(&room), making }, Waiting { lines: receiver, room })
}

impl Out {
    /// Puts a line behind those that wait, once there is room for it; `None` when nobody takes lines
    /// any more.
    pub async fn send(&self, line: Line) -> Option<()> {
        let bytes = u32::try_from(line.room()).expect("the limit is far below 4 GiB");
        let room = self.room.acquire_many(bytes).await.ok()?;
        let place = self.lines.reserve().await.ok()?;
        // It comes back when the line is taken.
        room.forget();
        place.send(line);
        Some(())
    }

    /// Puts the answer of a request that only read there, as [`Self::send`] does. One that is long and finds
    /// neither room nor a place among those that wait for it is given up, and its client told so.
    /// `Some(true)` when it was the answer.
    pub async fn answer(&self, id: &Id, line: String) -> Option<bool> {
        if line.len() <= SHORT_BYTES
            || self.room.available_permits() >= line.len().min(OUT_BYTES_MAX)
        {
            return self.send(Line::Own(line)).await.map(|()| true);
        }
        match self.making.among_waiting(line.len()) {
            Some(_counted) => self.send(Line::Own(line)).await.map(|()| true),
            None => {
                drop(line);
                let message = "answers that were not read leave no room for this one";
                let error = Error::new(Kind::Overloaded, message)
                    .with("limit_bytes", ANSWERS_BYTES_MAX)
                    .with("retry_after_ms", RETRY_MS);
                self.send(Line::Own(error_line(Some(id), &error))).await.map(|()| false)
            }
        }
    }

    /// Makes an answer for it when few others are made.
    pub(super) async fn made<T>(&self, answer: impl Future<Output = T>) -> T {
        self.making.made(answer).await
    }

    /// Whether nobody takes lines any more.
    pub(super) fn is_closed(&self) -> bool {
        self.lines.is_closed()
    }

    /// Comes back when nobody takes lines any more.
    pub async fn closed(&self) {
        self.lines.closed().await;
    }
}

impl Waiting {
    /// The next line; nothing when nobody is left to send one.
    pub(super) async fn recv(&mut self) -> Option<Line> {
        let line = self.lines.recv().await?;
        self.room.add_permits(line.room());
        Some(line)
    }

    /// The next line if one waits.
    pub(super) fn try_recv(&mut self) -> Option<Line> {
        let line = self.lines.try_recv().ok()?;
        self.room.add_permits(line.room());
        Some(line)
    }
}

impl Drop for Waiting {
    // Who waits for room must not wait for ever.
    fn drop(&mut self) {
        self.room.close();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn line(bytes: usize) -> Line {
        Line::Own("x".repeat(bytes))
    }

    /// Sends until there is no room; how many lines that were.
    fn filled(out: &Out, bytes: usize) -> usize {
        (0..OUT_LINES_MAX * 2)
            .take_while(|_| out.send(line(bytes)).now_or_never().is_some())
            .count()
    }

    #[test]
    fn lines_wait_up_to_their_number_and_up_to_their_bytes() {
        let (out, mut waiting) = out(&Arc::default());
        assert_eq!(filled(&out, 1), OUT_LINES_MAX);
        while waiting.try_recv().is_some() {}
        assert_eq!(filled(&out, OUT_BYTES_MAX / 8), 8);
        assert!(waiting.try_recv().is_some());
        assert_eq!(filled(&out, OUT_BYTES_MAX / 8), 1, "room comes back");
    }

    #[test]
    fn a_line_beyond_the_limit_waits_alone() {
        let (out, mut waiting) = out(&Arc::default());
        assert_eq!(filled(&out, 4 * OUT_BYTES_MAX), 1);
        assert_eq!(waiting.try_recv().unwrap().bytes().len(), 4 * OUT_BYTES_MAX);
        assert_eq!(filled(&out, 4 * OUT_BYTES_MAX), 1);
    }

    #[test]
    fn who_waits_for_room_hears_that_the_client_is_gone() {
        let (out, waiting) = out(&Arc::default());
        filled(&out, OUT_BYTES_MAX);
        let mut sending = Box::pin(out.send(line(1)));
        assert!((&mut sending).now_or_never().is_none());
        drop(waiting);
        assert_eq!(sending.now_or_never(), Some(None));
    }

    #[tokio::test]
    async fn a_long_answer_is_given_up_where_too_many_wait_for_room() {
        let making = Arc::default();
        let (out, mut waiting) = out(&making);
        assert!(out.send(Line::Own("x".repeat(OUT_BYTES_MAX))).await.is_some());
        let _others = making.among_waiting(ANSWERS_BYTES_MAX).expect("nobody waits yet");
        let answering = tokio::spawn({
            let out = out.clone();
            async move { out.answer(&Id::Number(7.into()), "y".repeat(2 * SHORT_BYTES)).await }
        });
        // It finds no room, and only then is some made.
        tokio::task::yield_now().await;
        assert!(waiting.recv().await.is_some());
        let told = waiting.recv().await.expect("an answer");
        assert_eq!(answering.await.expect("no panic"), Some(false));
        let told = String::from_utf8_lossy(told.bytes()).into_owned();
        assert!(told.contains("overloaded") && told.contains('7'), "{told}");
    }
}
