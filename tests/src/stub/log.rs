//! What did the stub receive and send, and when?

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::watch;

/// Entries kept in memory; the oldest go first, and are counted.
pub const LOG_ENTRIES_MAX: usize = 500_000;
/// Bytes of texts and messages kept in memory, likewise.
pub const LOG_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Bytes written to a log file; what comes after is left out.
pub const LOG_FILE_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// One thing that happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Its number: dense, from 1.
    pub n: u64,
    /// Nanoseconds since the stub's start, monotonic.
    pub at_ns: u64,
    /// Wall clock, microseconds since 1970: comparable with other processes.
    pub at_us: u64,
    /// The request it belongs to; requests are numbered from 1 in the order they were received.
    pub request: u64,
    /// What it was.
    #[serde(flatten)]
    pub what: What,
}

/// What can happen.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum What {
    /// A chat completion was asked for.
    Request {
        /// The model.
        model: String,
        /// The conversation, as it was sent.
        messages: Json,
        /// Whether a stream was asked for.
        stream: bool,
        /// Headers by lower-case name; secrets are replaced by `(hidden)`.
        headers: BTreeMap<String, String>,
    },
    /// The list of models was asked for.
    Models {
        /// As for a chat completion.
        headers: BTreeMap<String, String>,
    },
    /// The answer's head went out.
    Status {
        /// The HTTP status.
        status: u16,
    },
    /// A piece of the answer was handed to the kernel with its last byte.
    Piece {
        /// Its place among the pieces of this answer, from 0.
        index: u64,
        /// Whether it is text or reasoning.
        part: Part,
        /// Bytes of the text.
        bytes: u64,
        /// The text. An answer that is not streamed is one piece.
        text: String,
    },
    /// The answer waits at a hold.
    Held {
        /// The hold's name.
        hold: String,
    },
    /// The answer is over.
    Ended {
        /// How it ended.
        how: How,
        /// Pieces sent before.
        pieces: u64,
    },
}

/// The two kinds of text in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// What is said.
    Text,
    /// What is thought.
    Reasoning,
}

/// The ways an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// Every byte of it was handed to the kernel.
    Complete,
    /// The script cut it.
    Cut,
    /// The client left.
    Disconnected,
}

/// JSON kept as the text that it came in: a long conversation is logged without building a tree of it.
#[derive(Clone, Debug, Serialize)]
pub struct Json(pub(super) Box<RawValue>);

impl Json {
    /// The value.
    pub fn value(&self) -> Value {
        serde_json::from_str(self.0.get()).expect("it was JSON when it was received")
    }
}

impl<'de> Deserialize<'de> for Json {
    // A raw value cannot be read inside a tagged enum, which buffers its members first.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Json, D::Error> {
        let value = Value::deserialize(deserializer)?;
        serde_json::value::to_raw_value(&value).map(Json).map_err(serde::de::Error::custom)
    }
}

/// A page of the log, as the control API answers it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Page<E = Vec<Entry>> {
    /// Entries after the asked number, oldest first; possibly not all of them.
    pub entries: E,
    /// The number of the newest entry there is.
    pub last: u64,
    /// Entries dropped for the limits on memory.
    pub dropped: u64,
    /// How many of them belong between the asked number and the first entry here.
    pub lost: u64,
}

/// A moment on both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    at_ns: u64,
    at_us: u64,
}

/// The log itself.
#[derive(Debug)]
pub(super) struct Log {
    start: Instant,
    entries: VecDeque<Entry>,
    bytes: usize,
    last: u64,
    dropped: u64,
    dropped_last: u64,
    file: Option<File>,
    file_bytes: u64,
    told: watch::Sender<u64>,
}

impl Log {
    pub(super) fn new(file: Option<&Path>) -> anyhow::Result<Log> {
        let file = match file {
            Some(path) => Some(
                File::options()
                    .create(true)
                    .append(true)
                    .open(path)
                    .with_context(|| format!("open `{}`", path.display()))?,
            ),
            None => None,
        };
        Ok(Log {
            start: Instant::now(),
            entries: VecDeque::new(),
            bytes: 0,
            last: 0,
            dropped: 0,
            dropped_last: 0,
            file,
            file_bytes: 0,
            told: watch::Sender::new(0),
        })
    }

    pub(super) fn stamp(&self) -> Stamp {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Stamp { at_ns: self.start.elapsed().as_nanos() as u64, at_us: wall.as_micros() as u64 }
    }

    /// Adds what happened at one moment, in one write to the file.
    pub(super) fn record(
        &mut self,
        stamp: Stamp,
        request: u64,
        whats: impl IntoIterator<Item = What>,
    ) {
        let mut lines = Vec::new();
        for what in whats {
            self.last += 1;
            let entry =
                Entry { n: self.last, at_ns: stamp.at_ns, at_us: stamp.at_us, request, what };
            if self.file.is_some() {
                serde_json::to_writer(&mut lines, &entry).expect("an entry is JSON");
                lines.push(b'\n');
            }
            self.bytes += entry.size();
            self.entries.push_back(entry);
        }
        self.write(&lines);
        while self.entries.len() > LOG_ENTRIES_MAX || self.bytes > LOG_BYTES_MAX {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.bytes -= oldest.size();
            self.dropped += 1;
            self.dropped_last = oldest.n;
        }
        self.told.send_replace(self.last);
    }

    fn write(&mut self, lines: &[u8]) {
        let Some(file) = &mut self.file else { return };
        self.file_bytes += lines.len() as u64;
        if self.file_bytes > LOG_FILE_BYTES_MAX || file.write_all(lines).is_err() {
            eprintln!("the log file ends before entry {}", self.last);
            self.file = None;
        }
    }

    /// At most `limit` entries after number `since`.
    pub(super) fn page(&self, since: u64, limit: usize) -> Page {
        // The numbers are dense, so the place of an entry follows from the newest one's.
        let first = self.last + 1 - self.entries.len() as u64;
        let skip = (since + 1).saturating_sub(first) as usize;
        let entries = self.entries.iter().skip(skip).take(limit).cloned().collect();
        let lost = self.dropped_last.saturating_sub(since);
        Page { entries, last: self.last, dropped: self.dropped, lost }
    }

    /// Tells the number of the newest entry.
    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.told.subscribe()
    }

    /// Forgets every entry; the numbers go on.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
        self.dropped = 0;
        self.dropped_last = 0;
    }
}

impl Entry {
    fn size(&self) -> usize {
        match &self.what {
            What::Request { messages, headers, .. } => {
                messages.0.get().len()
                    + headers.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>()
            }
            What::Piece { text, .. } => text.len(),
            What::Held { hold } => hold.len(),
            What::Models { .. } | What::Status { .. } | What::Ended { .. } => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_entries_go_and_who_asks_for_them_is_told() {
        let mut log = Log::new(None).unwrap();
        let stamp = log.stamp();
        for request in 0..LOG_ENTRIES_MAX as u64 + 3 {
            log.record(stamp, request, [What::Status { status: 200 }]);
        }
        let page = log.page(0, 2);
        assert_eq!((page.entries[0].n, page.entries.len()), (4, 2));
        assert_eq!((page.dropped, page.lost, page.last), (3, 3, LOG_ENTRIES_MAX as u64 + 3));
        assert_eq!(log.page(3, 2).lost, 0);
        log.clear();
        assert_eq!(log.page(0, 2).lost, 0);
    }

    #[test]
    fn long_texts_count_by_their_bytes() {
        let mut log = Log::new(None).unwrap();
        let stamp = log.stamp();
        for _ in 0..3 {
            let text = "x".repeat(LOG_BYTES_MAX / 2);
            let bytes = text.len() as u64;
            log.record(stamp, 1, [What::Piece { index: 0, part: Part::Text, bytes, text }]);
        }
        assert_eq!(log.page(0, 9).entries.len(), 2);
    }
}
