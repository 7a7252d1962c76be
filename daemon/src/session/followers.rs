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

/// The end of a feed that the session holds.
#[derive(Debug)]
struct Feed {
    id: u64,
    sender: mpsc::Sender<Told>,
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
    pub fn join(&mut self, id: u64, sender: mpsc::Sender<Told>, deltas: bool) {
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
        let reached = |feed: &Feed| feed.sender.try_send(told.clone()).is_ok() || lossy;
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
