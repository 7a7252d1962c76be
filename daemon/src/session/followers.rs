//! Who hears of what happens in a session: bounded feeds, never waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sess_protocol::envelope::notification_line;
use sess_protocol::id::SessionId;
use sess_protocol::live::{Delta, Live};
use tokio::sync::mpsc;

use crate::store::Commit;

/// Lines that wait for one follower before it is sent to the disk.
pub const FEED_LINES_MAX: usize = 256;
/// Bytes of them. A line that is longer waits alone.
pub const FEED_BYTES_MAX: usize = 1024 * 1024;
/// Bytes that wait in all feeds of one connection together, however many sessions it follows.
pub const FEEDS_BYTES_MAX: usize = 8 * FEED_BYTES_MAX;

/// One line told to followers, shared by all of them.
#[derive(Debug, Clone)]
pub struct Told {
    /// The whole line, newline included.
    pub line: Arc<str>,
    /// Of an event: its number.
    pub seq: Option<u64>,
    /// Whether the follow ends with it.
    pub last: bool,
}

/// What is told to one follower: the end that the session is given, and the end that is read. `all` counts what waits
/// in all feeds of its connection.
#[must_use]
pub fn feed(all: &Arc<AtomicUsize>) -> (FeedSender, FeedReceiver) {
    let (sender, receiver) = mpsc::channel(FEED_LINES_MAX);
    let counts = Arc::new(Counts { own: AtomicUsize::new(0), all: Arc::clone(all) });
    (FeedSender { lines: sender, counts }, FeedReceiver { lines: receiver })
}

/// The end of a feed that is told to.
#[derive(Debug)]
pub struct FeedSender {
    lines: mpsc::Sender<Held>,
    counts: Arc<Counts>,
}

/// The end of a feed that is read.
#[derive(Debug)]
pub struct FeedReceiver {
    lines: mpsc::Receiver<Held>,
}

/// Bytes that wait in a feed, and in all of its connection.
#[derive(Debug)]
struct Counts {
    own: AtomicUsize,
    all: Arc<AtomicUsize>,
}

/// A line that waits; counted until dropped.
#[derive(Debug)]
struct Held {
    told: Told,
    counts: Arc<Counts>,
}

impl Held {
    /// Holds a line, if there is room for it.
    fn new(told: &Told, counts: &Arc<Counts>) -> Option<Self> {
        let bytes = told.line.len();
        let held = Self { told: told.clone(), counts: Arc::clone(counts) };
        let own = counts.own.fetch_add(bytes, Ordering::Relaxed);
        let all = counts.all.fetch_add(bytes, Ordering::Relaxed);
        let fits = own + bytes <= FEED_BYTES_MAX && all + bytes <= FEEDS_BYTES_MAX;
        (fits || all == 0).then_some(held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let bytes = self.told.line.len();
        self.counts.own.fetch_sub(bytes, Ordering::Relaxed);
        self.counts.all.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl FeedSender {
    /// Whether there was room for it.
    fn try_send(&self, told: &Told) -> bool {
        Held::new(told, &self.counts).is_some_and(|held| self.lines.try_send(held).is_ok())
    }
}

impl FeedReceiver {
    /// The next line; nothing when the session has let go of the feed and all of it is read.
    pub async fn recv(&mut self) -> Option<Told> {
        let held = self.lines.recv().await?;
        Some(held.told.clone())
    }
}

/// The end of a feed that the session holds.
#[derive(Debug)]
struct Feed {
    id: u64,
    sender: FeedSender,
    deltas: bool,
    /// Whether it knows of the unfinished answer, so that deltas mean something to it.
    live: bool,
}

/// The feeds of one session.
#[derive(Debug)]
pub struct Followers {
    feeds: Vec<Feed>,
    count: Arc<AtomicUsize>,
}

impl Followers {
    /// No followers; `count` shows to others how many there are.
    #[must_use]
    pub fn new(count: Arc<AtomicUsize>) -> Self {
        Self { feeds: Vec::new(), count }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.feeds.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.feeds.is_empty()
    }

    /// Adds a feed; one with the same id is replaced.
    pub fn join(&mut self, id: u64, sender: FeedSender, deltas: bool) {
        self.feeds.retain(|it| it.id != id);
        self.feeds.push(Feed { id, sender, deltas, live: deltas });
        self.counted();
    }

    /// Takes a feed away.
    pub fn leave(&mut self, id: u64) {
        self.feeds.retain(|it| it.id != id);
        self.counted();
    }

    fn counted(&self) {
        self.count.store(self.feeds.len(), Ordering::Relaxed);
    }

    // A follower too slow for a line goes back to reading from disk: it misses nothing, and nobody
    // waits for it.
    fn tell(&mut self, told: &Told, wanted: impl Fn(&Feed) -> bool) {
        let before = self.feeds.len();
        let lossy = crate::sabotage::is("lossy_feed");
        let reached = |feed: &Feed| feed.sender.try_send(told) || lossy;
        self.feeds.retain(|feed| !wanted(feed) || reached(feed));
        if self.feeds.len() != before {
            self.counted();
        }
    }

    /// Tells the events of a commit.
    pub fn tell_commit(&mut self, history: &str, commit: &Commit) {
        if self.feeds.is_empty() {
            return;
        }
        let mark = commit.hash.mark();
        for (event, json) in commit.events.iter().zip(&commit.json) {
            let line = event_line(commit.session, history, event.seq, &mark, json.get());
            let told = Told { line: line.into(), seq: Some(event.seq), last: false };
            self.tell(&told, |_| true);
        }
    }

    /// Tells that an answer begins, or begins again: deltas follow.
    pub fn tell_live(&mut self, live: &Live) {
        if self.feeds.iter().any(|it| it.deltas) {
            let told = Told { line: live_line(live).into(), seq: None, last: false };
            self.tell(&told, |it| it.deltas);
            for feed in &mut self.feeds {
                feed.live = feed.deltas;
            }
        }
    }

    /// Tells more of an unfinished answer.
    pub fn tell_deltas(&mut self, deltas: &[Delta]) {
        if !self.feeds.iter().any(|it| it.deltas && it.live) {
            return;
        }
        for delta in deltas {
            let params = serde_json::to_string(delta).expect("a delta is plain");
            let line = notification_line("delta", &params);
            let told = Told { line: line.into(), seq: None, last: false };
            self.tell(&told, |it| it.deltas && it.live);
        }
    }

    /// Tells the last line there will be, and ends all follows.
    pub fn end(&mut self, line: String) {
        let told = Told { line: line.into(), seq: None, last: true };
        self.tell(&told, |_| true);
        self.feeds.clear();
        self.counted();
    }
}

/// The line of an event. `json` is the event as it lies in its commit.
#[must_use]
pub fn event_line(session: SessionId, history: &str, seq: u64, mark: &str, json: &str) -> String {
    let rest = json.strip_prefix('{').expect("an event is an object");
    let params =
        format!("{{\"session\":\"{session}\",\"cursor\":\"{history}:{seq}:{mark}\",{rest}");
    notification_line("event", &params)
}

/// The line of the unfinished.
#[must_use]
pub fn live_line(live: &Live) -> String {
    let params = serde_json::to_string(live).expect("the unfinished is plain");
    notification_line("live", &params)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(bytes: usize) -> Told {
        Told { line: "x".repeat(bytes).into(), seq: None, last: false }
    }

    fn followers() -> (Followers, FeedReceiver) {
        let mut followers = Followers::new(Arc::default());
        let (sender, receiver) = feed(&Arc::default());
        followers.join(1, sender, true);
        (followers, receiver)
    }

    #[tokio::test]
    async fn a_follower_that_leaves_too_many_bytes_unread_is_let_go_and_gets_what_was_told_before()
    {
        let (mut followers, mut receiver) = followers();
        let half = told(FEED_BYTES_MAX / 2);
        // One that reads is told as much as there is.
        for _ in 0..10 {
            followers.tell(&half, |_| true);
            assert_eq!(receiver.recv().await.unwrap().line.len(), FEED_BYTES_MAX / 2);
        }
        followers.tell(&half, |_| true);
        followers.tell(&half, |_| true);
        assert_eq!(followers.len(), 1);
        followers.tell(&told(1), |_| true);
        assert_eq!(followers.len(), 0, "a byte too much");
        assert!(receiver.recv().await.is_some() && receiver.recv().await.is_some());
        assert!(receiver.recv().await.is_none());
    }

    #[tokio::test]
    async fn a_line_beyond_the_limit_waits_alone() {
        let (mut followers, mut receiver) = followers();
        followers.tell(&told(FEED_BYTES_MAX + 1), |_| true);
        assert_eq!(receiver.recv().await.unwrap().line.len(), FEED_BYTES_MAX + 1);
        followers.tell(&told(1), |_| true);
        followers.tell(&told(FEED_BYTES_MAX + 1), |_| true);
        assert!(followers.is_empty());
    }

    #[tokio::test]
    async fn the_feeds_of_one_connection_have_room_together() {
        let all = Arc::default();
        let one = told(FEED_BYTES_MAX);
        let mut sessions: Vec<_> = (0..10)
            .map(|_| {
                let (mut followers, (sender, receiver)) =
                    (Followers::new(Arc::default()), feed(&all));
                followers.join(1, sender, true);
                (followers, receiver)
            })
            .collect();
        sessions.iter_mut().for_each(|(followers, _)| followers.tell(&one, |_| true));
        let left: Vec<usize> = sessions.iter().map(|(followers, _)| followers.len()).collect();
        assert_eq!(left, [1, 1, 1, 1, 1, 1, 1, 1, 0, 0]);
        assert_eq!(all.load(Ordering::Relaxed), FEEDS_BYTES_MAX);
        let (followers, mut receiver) = sessions.remove(0);
        assert!(receiver.recv().await.is_some());
        drop((followers, receiver));
        assert_eq!(all.load(Ordering::Relaxed), FEEDS_BYTES_MAX - FEED_BYTES_MAX);
        drop(sessions);
        assert_eq!(all.load(Ordering::Relaxed), 0, "what nobody reads any more takes no room");
    }
}
