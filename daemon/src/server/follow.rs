//! Following: the past from disk, the present from the session, and back to disk when slow.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use sess_protocol::envelope::{Id, error_line, notification_line};
use sess_protocol::error::{Error, Kind};
use sess_protocol::id::SessionId;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::client::{Client, Follow};
use super::connection::long_result_line;
use super::out::{Line, Out};
use super::router::Router;
use super::views::whole_view;
use crate::session::Later;
use crate::session::command::{Command, Join, Joined};
use crate::session::followers::{FeedReceiver, event_line, feed};
use crate::shared::Shared;
use crate::store::StoredEvent;

/// Bytes of events that are read from disk at a time.
const CATCH_UP_BYTES: usize = 256 * 1024;
/// Follows of one connection that have read from disk what is not sent yet; the others wait for their turn.
const CATCHING_UP_MAX: usize = 4;

static NEXT_FOLLOW: AtomicU64 = AtomicU64::new(1);

/// What all follows of one connection share, so that it costs the same however many there are.
#[derive(Debug, Clone)]
pub(super) struct Following {
    /// Bytes that wait in their feeds.
    feeds: Arc<AtomicUsize>,
    /// Turns to read from disk.
    turns: Arc<Semaphore>,
}

impl Default for Following {
    fn default() -> Self {
        Self { feeds: Arc::default(), turns: Arc::new(Semaphore::new(CATCHING_UP_MAX)) }
    }
}

/// A follow that is asked for.
#[derive(Debug)]
pub struct FollowAsk {
    /// The session.
    pub session: SessionId,
    /// Where to begin; `None` for a view and from now on.
    pub after: Option<u64>,
    /// Messages of the view.
    pub messages: u32,
    /// Whether pieces are wanted.
    pub deltas: bool,
}

impl FollowAsk {
    /// Begins the follow; one of the same session before it ends first.
    pub async fn begin(
        self,
        router: &Router,
        client: &Arc<Client>,
        id: Id,
        place: OwnedSemaphorePermit,
    ) {
        let shared = Arc::clone(router.shared());
        client.unfollow(&shared, self.session).await;
        let session = self.session;
        let follow = NEXT_FOLLOW.fetch_add(1, Ordering::Relaxed);
        let mut job = Job {
            shared: Arc::clone(&shared),
            out: client.out.clone(),
            session,
            follow,
            deltas: self.deltas,
            seq: 0,
            ahead: None,
            following: client.following.clone(),
        };
        let (answers, answered) = oneshot::channel();
        // The job holds no part of the client: it ends with it.
        let handle = shared.tracker.spawn(async move {
            if job.begin(self, id, place, answers).await.is_some() {
                job.go_on().await;
            }
        });
        client.follows(session, Follow { id: follow, job: handle, answered });
    }
}

/// One follow at work.
struct Job {
    shared: Arc<Shared>,
    out: Out,
    session: SessionId,
    follow: u64,
    deltas: bool,
    /// The last event that was sent.
    seq: u64,
    /// Events behind it that are read already, with the turn that they take.
    ahead: Option<(Vec<StoredEvent>, OwnedSemaphorePermit)>,
    following: Following,
}

impl Job {
    /// Answers the request, then sends what it begins with. `None` when there is nobody to follow.
    async fn begin(
        &mut self,
        ask: FollowAsk,
        id: Id,
        place: OwnedSemaphorePermit,
        answered: oneshot::Sender<()>,
    ) -> Option<()> {
        let out = self.out.clone();
        match out.made(self.answer(&ask, &id)).await {
            Ok((line, joined, feed)) => {
                if !self.out.answer(&id, line).await? {
                    return None;
                }
                // The request is answered: a connection may follow more sessions than it may ask for
                // at once.
                drop(place);
                // Nobody may wait for it.
                let _ = answered.send(());
                self.seq = ask.after.unwrap_or(joined.now.seq);
                let live = joined.live.filter(|_| ask.after.is_some());
                self.serve(joined.now.seq, live, feed).await
            }
            Err(error) => {
                let _ = self.out.send(Line::Own(error_line(Some(&id), &error))).await;
                None
            }
        }
    }

    async fn answer(
        &mut self,
        ask: &FollowAsk,
        id: &Id,
    ) -> Result<(String, Joined, FeedReceiver), Error> {
        let (mut joined, feed) = self.join().await?;
        let history = self.shared.store.history();
        let result = match ask.after {
            Some(after) => {
                let mark = match after {
                    0 => "0".repeat(16),
                    _ => self.mark(after).await?,
                };
                if after < joined.now.seq {
                    // Read before it is answered: what cannot be read is an error of this request.
                    let events = self.shared.store.events(
                        self.session,
                        after,
                        joined.now.seq,
                        CATCH_UP_BYTES,
                    );
                    let events = events.await.map_err(|err| self.shared.refusal(err))?;
                    // Where others wait to be sent, it is read once more when its turn comes.
                    let turn = Arc::clone(&self.following.turns).try_acquire_owned();
                    self.ahead = turn.ok().map(|turn| (events, turn));
                }
                format!("{{\"cursor\":\"{history}:{after}:{mark}\"}}")
            }
            // The log of facts of no session has no view.
            None if self.session == SessionId::GLOBAL => {
                let mark = joined.now.hash.mark();
                format!("{{\"cursor\":\"{history}:{}:{mark}\"}}", joined.now.seq)
            }
            None => {
                let cursor = format!("{history}:{}:{}", joined.now.seq, joined.now.hash.mark());
                let now = std::mem::take(&mut joined.now.snapshot);
                let head = joined.now.head;
                let view = whole_view(&self.shared, self.session, now, head, ask.messages).await?;
                let live = joined.live.as_ref().map(|it| format!(",\"live\":{it}"));
                let live = live.unwrap_or_default();
                format!("{{\"cursor\":\"{cursor}\",\"view\":{view}{live}}}")
            }
        };
        Ok((long_result_line(id.clone(), result).await, joined, feed))
    }

    async fn mark(&self, seq: u64) -> Result<String, Error> {
        let mark = self.shared.store.mark(self.session, seq).await;
        let mark = mark.map_err(|err| self.shared.refusal(err))?;
        // The cursor was looked at before: only a deletion takes what it stands behind away.
        mark.ok_or_else(|| Error::not_found("session", &self.session.to_string()))
    }

    /// Joins the session: everything behind the moment of it comes by the feed.
    async fn join(&self) -> Result<(Joined, FeedReceiver), Error> {
        let (feed, receiver) = feed(&self.following.feeds);
        let (reply, later) = Later::new();
        let join = Join { id: self.follow, feed, deltas: self.deltas };
        let command = Command::Follow(join, reply);
        self.shared.sessions.send(&self.shared, self.session, command).await?;
        Ok((later.answer().await?, receiver))
    }

    /// Goes on until the session or the client is gone: each time the feed ends, by way of the disk.
    async fn go_on(&mut self) {
        while let Ok((joined, feed)) = self.join().await {
            let at = joined.now.seq;
            if self.serve(at, joined.live, feed).await.is_none() {
                return;
            }
        }
    }

    /// Sends what lies between here and the join from disk, then what is unfinished, then the feed.
    /// `None` when the follow is over.
    async fn serve(
        &mut self,
        joined_at: u64,
        live: Option<String>,
        mut feed: FeedReceiver,
    ) -> Option<()> {
        self.catch_up(joined_at).await?;
        if let Some(live) = live.filter(|_| !crate::sabotage::is("lost_live")) {
            self.out.send(Line::Own(notification_line("live", &live))).await?;
        }
        while let Some(told) = feed.recv().await {
            if let Some(seq) = told.seq {
                self.seq = seq;
            }
            self.out.send(Line::Shared(told.line)).await?;
            if told.last {
                return None;
            }
        }
        // The session let go of a feed that was full, or left memory: both are told from disk.
        Some(())
    }

    async fn catch_up(&mut self, last: u64) -> Option<()> {
        let history = self.shared.store.history().to_owned();
        let skip = u64::from(crate::sabotage::is("follow_off_by_one"));
        while self.seq < last {
            let after = self.seq + skip;
            let (events, _turn) = match self.ahead.take().filter(|_| skip == 0) {
                Some((events, turn)) => (Ok(events), turn),
                None => {
                    let turn = Arc::clone(&self.following.turns).acquire_owned().await.ok()?;
                    let events =
                        self.shared.store.events(self.session, after, last, CATCH_UP_BYTES);
                    (events.await, turn)
                }
            };
            let events = match events {
                Ok(events) if !events.is_empty() => events,
                Ok(_) if skip > 0 => return Some(()),
                Ok(_) => return None,
                Err(err) => {
                    tracing::warn!(session = %self.session, %err, "a follow ended");
                    // Silence would look like a session in which nothing happens. Who comes back
                    // behind the last event that it got is told why.
                    let _ = self.out.send(Line::End).await;
                    return None;
                }
            };
            for event in events {
                let line =
                    event_line(self.session, &history, event.seq, &event.mark, event.json.get());
                self.out.send(Line::Own(line)).await?;
                self.seq = event.seq;
            }
        }
        Some(())
    }
}

/// Where a cursor points to.
///
/// # Errors
/// It is none of this store, or not of what stands: `conflict`, with the session's last number.
pub async fn place_of(
    shared: &Arc<Shared>,
    session: SessionId,
    cursor: &str,
    now: u64,
) -> Result<u64, Error> {
    let conflict = |why: &str| {
        Error::new(Kind::Conflict, format!("the cursor does not fit: {why}"))
            .with("seq", now)
            .hint("follow without `after`")
    };
    if cursor == "start" {
        return Ok(0);
    }
    let mut parts = cursor.splitn(3, ':');
    let (history, seq, mark) = (parts.next(), parts.next(), parts.next());
    let seq = seq.and_then(|it| it.parse::<u64>().ok());
    let (Some(history), Some(seq), Some(mark)) = (history, seq, mark) else {
        return Err(conflict("it is not one that was given"));
    };
    if history != shared.store.history() {
        return Err(conflict("it is of another history"));
    }
    if seq > now {
        return Err(conflict("it is ahead of the session"));
    }
    if seq == 0 {
        return Ok(0);
    }
    if crate::sabotage::is("no_cursor_check") {
        return Ok(seq);
    }
    let stands = shared.store.mark(session, seq).await.map_err(|err| shared.refusal(err))?;
    // The session has so many events: only its deletion takes one away.
    let stands = stands.ok_or_else(|| Error::not_found("session", &session.to_string()))?;
    if stands != mark {
        return Err(conflict("what it stood behind is not what lies there"));
    }
    Ok(seq)
}
