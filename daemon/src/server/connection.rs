//! One connection: lines in, answers and notifications out.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use sess_protocol::envelope::{Id, REQUESTS_MAX, error_line, result_line};
use sess_protocol::error::{Error, Kind};
use sess_protocol::line::{BadLine, Incoming, decode, too_long};
use sess_protocol::things::By;
use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::beside::beside;
use super::client::Client;
use super::ends::{ReadEnd, WriteEnd};
use super::lines::{Got, Lines};
use super::making::{Turns, only_reads};
use super::out::{Line, Waiting, out};
use super::router::{Router, Work};
use crate::session::command::{ConnectionId, Outcome};

/// How long a client that says no more is given its answers.
const HALF_CLOSED: Duration = Duration::from_secs(10);
/// How long bytes may wait for a client that takes none.
const STUCK: Duration = Duration::from_secs(60);
/// How often bytes are offered to a client that takes few of them.
const OFFER: Duration = Duration::from_secs(5);
/// Bytes that are given to the kernel in one piece. It has room again only when a piece is read to its end, so
/// that this is the least that a client has to read in [`STUCK`].
const PIECE_BYTES: usize = 16 * 1024;
/// How often a half-closed connection is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Bytes that are written at a time.
const WRITE_BYTES: usize = 256 * 1024;
/// When to ask again after too many requests at a time, in milliseconds.
const RETRY_MS: u64 = 100;

/// Serves one client until it leaves.
pub async fn serve<R, W>(router: Router, (read, write): (R, W), connection: ConnectionId, by: By)
where
    R: ReadEnd,
    W: WriteEnd,
{
    let (out, lines) = out(router.making());
    let client = Arc::new(Client::new(connection, by, out));
    let shared = Arc::clone(router.shared());
    let writer = shared.tracker.spawn(write_lines(write, lines));
    let mut reading = Reading {
        router,
        client,
        lines: Lines::new(read),
        places: Arc::new(Semaphore::new(REQUESTS_MAX)),
        turns: Turns::new(),
    };
    tokio::select! {
        biased;
        () = reading.serve() => reading.give_answers().await,
        () = shared.stop.finished() => {}
    }
    reading.client.gone(&shared).await;
    drop(reading);
    // What waits is still written; a client that takes nothing is not waited for.
    let _ = writer.await;
}

struct Reading<R> {
    router: Router,
    client: Arc<Client>,
    lines: Lines<R>,
    /// One place for each request that has no answer yet.
    places: Arc<Semaphore>,
    /// Those of requests that read.
    turns: Turns,
}

impl<R: ReadEnd> Reading<R> {
    /// Reads and serves until the client says no more or takes no more.
    async fn serve(&mut self) {
        loop {
            let got = tokio::select! {
                biased;
                got = self.lines.next() => got,
                () = self.client.out.closed() => return,
            };
            let bad = match got {
                Ok(Got::Line(line)) => match beside(line.len(), move || decode(&line)).await {
                    Ok(Incoming::Request(request)) => {
                        self.request(request).await;
                        continue;
                    }
                    Ok(Incoming::Notification) => continue,
                    Err(bad) => bad,
                },
                Ok(Got::TooLong(kept)) => too_long(&kept),
                Ok(Got::NoRoom(kept)) => no_room(&kept),
                Ok(Got::End) | Err(_) => return,
            };
            self.say(refusal(bad.id.as_ref(), &bad.error)).await;
        }
    }

    async fn say(&self, line: String) {
        // A client that left needs no answer.
        let _ = self.client.out.send(Line::Own(line)).await;
    }

    /// Takes a request: what must happen in the order of the lines happens here, the rest later.
    async fn request(&self, request: sess_protocol::envelope::Request) {
        let id = request.id.clone();
        let reads = only_reads(&request.method);
        let turns = Turns::are_for(&request.method).then(|| self.turns.clone());
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            let message = format!("{REQUESTS_MAX} requests of this connection have no answer yet");
            let error = Error::new(Kind::Overloaded, message)
                .with("limit", REQUESTS_MAX)
                .with("retry_after_ms", RETRY_MS);
            return self.say(refusal(Some(&id), &error)).await;
        };
        match self.router.route(&self.client, request).await {
            Ok(Work::Later(work)) => {
                let out = self.client.out.clone();
                let router = self.router.clone();
                self.router.shared().tracker.spawn(async move {
                    let made = async { answer_line(&id, guarded(&router, work).await).await };
                    let (_turn, line) = match turns {
                        None => (None, made.await),
                        Some(turns) => match turns.take(&out).await {
                            None => return,
                            turn => tokio::select! {
                                biased;
                                line = out.made(made) => (turn, line),
                                // What only reads is left where it is when nobody is there any more.
                                () = out.closed() => return,
                            },
                        },
                    };
                    // What was changed is answered in any case; what was read can be read again.
                    let _ = match reads {
                        true => out.answer(&id, line).await.map(drop),
                        false => out.send(Line::Own(line)).await,
                    };
                    drop(place);
                });
            }
            Ok(Work::LaterAndOn(work)) => {
                let out = self.client.out.clone();
                let router = self.router.clone();
                self.router.shared().tracker.spawn(async move {
                    let (outcome, on) = match guarded(&router, work).await {
                        Ok((result, on)) => (Ok(result), Some(on)),
                        Err(error) => (Err(error), None),
                    };
                    let _ = out.send(Line::Own(answer_line(&id, outcome).await)).await;
                    drop(place);
                    if let Some(on) = on {
                        on.await;
                    }
                });
            }
            Ok(Work::Done(result)) => self.say(result_line(&id, &result)).await,
            Ok(Work::Follow(follow)) => follow.begin(&self.router, &self.client, id, place).await,
            Err(error) => self.say(refusal(Some(&id), &error)).await,
        }
    }

    /// The client says no more: it gets what it waits for, unless it is gone altogether.
    async fn give_answers(&self) {
        let all = u32::try_from(REQUESTS_MAX).expect("few requests");
        let answered = self.places.acquire_many(all);
        tokio::pin!(answered);
        let over = tokio::time::sleep(HALF_CLOSED);
        tokio::pin!(over);
        loop {
            if self.lines.reader().is_gone().await {
                return;
            }
            tokio::select! {
                biased;
                _ = &mut answered => return,
                () = &mut over => return,
                () = self.client.out.closed() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }
}

/// Does the work; a panic in it is one request's answer, not the daemon's end.
async fn guarded<T>(
    router: &Router,
    work: futures_util::future::BoxFuture<'static, Result<T, Error>>,
) -> Result<T, Error> {
    use futures_util::FutureExt;
    let caught = std::panic::AssertUnwindSafe(work).catch_unwind().await;
    caught.unwrap_or_else(|_| Err(router.shared().bug("a request broke")))
}

/// An error repeats what was asked for, and may repeat a secret with it.
fn refusal(id: Option<&Id>, error: &Error) -> String {
    crate::redact::text(&error_line(id, error)).into_owned()
}

async fn answer_line(id: &Id, outcome: Outcome) -> String {
    match outcome {
        Ok(result) => long_result_line(id.clone(), result).await,
        Err(error) => refusal(Some(id), &error),
    }
}

/// The line of an answer that may be long.
pub(super) async fn long_result_line(id: Id, result: String) -> String {
    beside(result.len(), move || result_line(&id, &result)).await
}

fn no_room(kept: &[u8]) -> BadLine {
    let message = "all unfinished lines together leave no room for this one; it was skipped";
    let error = Error::new(Kind::Overloaded, message).with("retry_after_ms", RETRY_MS);
    BadLine { id: sess_protocol::line::find_id(kept), error }
}

/// Writes lines, as many together as wait together.
async fn write_lines(mut to: impl WriteEnd, mut lines: Waiting) {
    let mut buffer = Vec::new();
    while let Some(first) = lines.recv().await {
        // Who is ready to say more now says it first: one write is for all of them.
        tokio::task::yield_now().await;
        let mut ends = matches!(first, Line::End);
        let is_large = first.bytes().len() >= WRITE_BYTES;
        let mut next = if ends || is_large { None } else { lines.try_recv() };
        if next.is_none() {
            // A line alone, as a piece mostly is, goes out as it lies, and is copied for none of its followers.
            if !write_all(&mut to, first.bytes()).await || ends {
                return;
            }
            continue;
        }
        buffer.extend_from_slice(first.bytes());
        while let Some(line) = next {
            ends = matches!(line, Line::End);
            buffer.extend_from_slice(line.bytes());
            let is_full = buffer.len() >= WRITE_BYTES;
            next = if ends || is_full { None } else { lines.try_recv() };
        }
        if !write_all(&mut to, &buffer).await || ends {
            return;
        }
        buffer.clear();
        if buffer.capacity() > WRITE_BYTES {
            buffer = Vec::new();
        }
    }
}

/// Writes all of it; gives up on a client that takes no byte for too long.
async fn write_all(to: &mut impl WriteEnd, mut bytes: &[u8]) -> bool {
    let mut taken_at = Instant::now();
    while !bytes.is_empty() {
        let piece = &bytes[..bytes.len().min(PIECE_BYTES)];
        let written = match tokio::time::timeout(OFFER, to.write(piece)).await {
            Ok(Ok(written)) if written > 0 => Some(written),
            Ok(_) => return false,
            Err(_) if crate::sabotage::is("slow_is_stuck") => None,
            // The kernel speaks of room when most of what it keeps is read. One who reads slowly has not come
            // so far, and yet there may be room.
            Err(_) => match offered(to, bytes) {
                Ok(written) => written,
                Err(_) => return false,
            },
        };
        match written {
            Some(written) => (bytes, taken_at) = (&bytes[written..], Instant::now()),
            None if taken_at.elapsed() >= STUCK => return false,
            None => {}
        }
    }
    true
}

/// Gives away what there is room for; how much that was, if any.
fn offered(to: &impl WriteEnd, bytes: &[u8]) -> io::Result<Option<usize>> {
    let mut written = 0;
    for piece in bytes.chunks(PIECE_BYTES) {
        match to.offer(piece) {
            Ok(count) => {
                written += count;
                if count < piece.len() {
                    break;
                }
            }
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => break,
            Err(err) => return Err(err),
        }
    }
    Ok((written > 0).then_some(written))
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::UnixStream;
    use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
    use tokio::time::Instant;

    use super::*;

    /// More than the kernel keeps for one who reads nothing.
    const BYTES: usize = 1024 * 1024;

    /// A socket pair, and a line to write.
    async fn much_to_write() -> ((OwnedReadHalf, OwnedWriteHalf), UnixStream, Waiting) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (out, waiting) = out(&Arc::default());
        out.send(Line::Own("x".repeat(BYTES))).await.unwrap();
        (ours.into_split(), theirs, waiting)
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_no_byte_for_a_minute_is_given_up() {
        let ((_read, ours), mut theirs, waiting) = much_to_write().await;
        let began = Instant::now();
        write_lines(ours, waiting).await;
        assert_eq!(began.elapsed().as_secs(), 60);
        let mut bytes = Vec::new();
        theirs.read_to_end(&mut bytes).await.unwrap();
        assert!(bytes.len() < BYTES, "what the kernel had, then the end");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_something_each_minute_gets_all() {
        let ((_read, ours), theirs, waiting) = much_to_write().await;
        let reading = async {
            let (mut all, mut buffer) = (0, vec![0; BYTES]);
            loop {
                tokio::time::advance(STUCK - Duration::from_secs(1)).await;
                // All that is there: the kernel takes more only when most of it is gone.
                loop {
                    match theirs.try_read(&mut buffer) {
                        Ok(0) => return all,
                        Ok(count) => all += count,
                        Err(_) => break,
                    }
                }
                theirs.readable().await.unwrap();
            }
        };
        let ((), all) = tokio::join!(write_lines(ours, waiting), reading);
        assert_eq!(all, BYTES);
    }
    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_a_little_at_a_time_gets_all() {
        let ((_read, ours), theirs, waiting) = much_to_write().await;
        let reading = async {
            let (mut all, mut buffer) = (0, vec![0; PIECE_BYTES]);
            loop {
                // Far less than the kernel keeps, in most of the time that a client has for it.
                tokio::time::sleep(STUCK - OFFER).await;
                match theirs.try_read(&mut buffer) {
                    Ok(0) => return all,
                    Ok(count) => all += count,
                    Err(_) => theirs.readable().await.unwrap(),
                }
            }
        };
        let ((), all) = tokio::join!(write_lines(ours, waiting), reading);
        assert_eq!(all, BYTES);
    }
}
