//! What do all connections share: scripts, holds, counts and the log?

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::http::Request;
use super::log::{Log, What};
use super::script::{ANY_MODEL, Install, Script};

/// Models with scripts at once.
const MODELS_MAX: usize = 1_024;
/// Scripts in one model's queue.
const SCRIPTS_MAX: usize = 10_000;
/// Holds known at once.
const HOLDS_MAX: usize = 10_000;
/// Waiters that one release may name.
const RELEASE_TIMES_MAX: usize = 1_000_000;

/// Counts since the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Connections open at this moment, the asking one included.
    pub open_connections: u64,
    /// Connections accepted.
    pub connections: u64,
    /// Requests to `/v1/` that were received.
    pub requests: u64,
    /// Chat completions that are being answered at this moment.
    pub running: u64,
    /// Answers whose client left before their end.
    pub disconnects: u64,
}

#[derive(Debug)]
pub(super) struct Shared {
    log: Mutex<Log>,
    scripts: Mutex<HashMap<String, Queue>>,
    holds: Mutex<HashMap<String, Arc<Semaphore>>>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    open: AtomicU64,
    connections: AtomicU64,
    requests: AtomicU64,
    running: AtomicU64,
    disconnects: AtomicU64,
}

#[derive(Debug, Default)]
struct Queue {
    scripts: VecDeque<Arc<Script>>,
    /// The one taken last, while it may be taken again.
    last: Option<Arc<Script>>,
    repeat: bool,
}

/// Counts one more of something for as long as it lives.
pub(super) struct Counted<'a>(&'a AtomicU64);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicU64) -> Counted<'a> {
        count.fetch_add(1, Relaxed);
        Counted(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Shared {
    pub(super) fn new(log: Option<&Path>) -> anyhow::Result<Shared> {
        Ok(Shared {
            log: Mutex::new(Log::new(log)?),
            scripts: Mutex::default(),
            holds: Mutex::default(),
            counts: Counts::default(),
        })
    }

    /// The log. It is held while bytes are handed to the kernel, never while waiting.
    pub(super) fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().expect("nothing panics with the log in hand")
    }

    /// Records something that happens now.
    pub(super) fn record(&self, request: u64, what: What) {
        let mut log = self.log();
        let stamp = log.stamp();
        log.record(stamp, request, [what]);
    }

    /// Records a request for the list of models.
    pub(super) fn log_models(&self, request: &Request) {
        self.record(self.number(), What::Models { headers: shown_headers(request) });
    }

    /// The number of a request that was just received.
    pub(super) fn number(&self) -> u64 {
        self.counts.requests.fetch_add(1, Relaxed) + 1
    }

    pub(super) fn count_connection(&self) -> Counted<'_> {
        self.counts.connections.fetch_add(1, Relaxed);
        Counted::new(&self.counts.open)
    }

    pub(super) fn count_running(&self) -> Counted<'_> {
        Counted::new(&self.counts.running)
    }

    pub(super) fn count_disconnect(&self) {
        self.counts.disconnects.fetch_add(1, Relaxed);
    }

    pub(super) fn stats(&self) -> Stats {
        let counts = &self.counts;
        Stats {
            open_connections: counts.open.load(Relaxed),
            connections: counts.connections.load(Relaxed),
            requests: counts.requests.load(Relaxed),
            running: counts.running.load(Relaxed),
            disconnects: counts.disconnects.load(Relaxed),
        }
    }

    /// Installs what the JSON text says: one [`Install`] or an array of them; all or none.
    pub(super) fn install(&self, text: &[u8]) -> Result<(), String> {
        let value: Value = serde_json::from_slice(text).map_err(|err| err.to_string())?;
        let values = match value {
            Value::Array(values) => values,
            value => vec![value],
        };
        let installs = values
            .into_iter()
            .map(serde_json::from_value)
            .collect::<Result<Vec<Install>, _>>()
            .map_err(|err| err.to_string())?;
        let mut models = self.scripts.lock().expect("nothing panics with the scripts in hand");
        for install in installs {
            if models.len() >= MODELS_MAX && !models.contains_key(&install.model) {
                return Err(format!("scripts are limited to {MODELS_MAX} models"));
            }
            let queue = models.entry(install.model).or_default();
            let scripts = install.script.into_iter().chain(install.scripts).map(Arc::new);
            queue.scripts.extend(scripts);
            queue.scripts.truncate(SCRIPTS_MAX);
            queue.repeat = install.repeat;
        }
        Ok(())
    }

    /// The script for the next request of a model.
    pub(super) fn script(&self, model: &str) -> Arc<Script> {
        let mut models = self.scripts.lock().expect("nothing panics with the scripts in hand");
        let taken = models.get_mut(model).and_then(Queue::take);
        taken
            .or_else(|| models.get_mut(ANY_MODEL).and_then(Queue::take))
            .unwrap_or_else(|| Arc::new(Script::built_in(model)))
    }

    /// The models, in one answer that holds the words of every protocol.
    pub(super) fn models(&self) -> Value {
        let models = self.scripts.lock().expect("nothing panics with the scripts in hand");
        let mut names = vec!["echo".to_owned(), "pieces-1".to_owned(), "pieces-1000".to_owned()];
        names.extend(models.keys().filter(|it| *it != ANY_MODEL).cloned());
        names.sort();
        names.dedup();
        let entry = |id: &String| {
            json!({
                "id": id, "object": "model", "created": 0, "owned_by": "stub",
                "type": "model", "display_name": id, "created_at": "2026-01-01T00:00:00Z",
            })
        };
        let data: Vec<_> = names.iter().map(entry).collect();
        let named =
            |id: &String| json!({"name": format!("models/{id}"), "model": id, "displayName": id});
        let models: Vec<_> = names.iter().map(named).collect();
        json!({"object": "list", "data": data, "has_more": false, "models": models})
    }

    /// Waits until a hold is released.
    pub(super) async fn wait_hold(&self, name: &str) {
        // A closed hold is one that was opened for good.
        if let Some(hold) = self.hold(name)
            && let Ok(permit) = hold.acquire().await
        {
            permit.forget();
        }
    }

    /// Opens a hold for good, or lets so many waiters through, those to come included.
    pub(super) fn release(&self, name: &str, times: Option<usize>) -> Result<(), String> {
        let hold =
            self.hold(name).ok_or_else(|| format!("holds are limited to {HOLDS_MAX} names"))?;
        match times {
            None => hold.close(),
            Some(times) => hold.add_permits(times.min(RELEASE_TIMES_MAX)),
        }
        Ok(())
    }

    fn hold(&self, name: &str) -> Option<Arc<Semaphore>> {
        let mut holds = self.holds.lock().expect("nothing panics with the holds in hand");
        if holds.len() >= HOLDS_MAX && !holds.contains_key(name) {
            return None;
        }
        let hold = holds.entry(name.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(0)));
        Some(Arc::clone(hold))
    }

    /// Forgets scripts and log and releases every hold. Numbers and counts go on.
    pub(super) fn reset(&self) {
        self.scripts.lock().expect("nothing panics with the scripts in hand").clear();
        for (_, hold) in self.holds.lock().expect("nothing panics with the holds in hand").drain() {
            hold.close();
        }
        self.log().clear();
    }
}

impl Queue {
    fn take(&mut self) -> Option<Arc<Script>> {
        let script = self.scripts.pop_front().or_else(|| self.last.take());
        self.last = script.clone().filter(|_| self.repeat);
        script
    }
}

/// A request's headers as the log may show them.
pub(super) fn shown_headers(request: &Request) -> BTreeMap<String, String> {
    const SECRET: [&str; 6] = [
        "authorization",
        "proxy-authorization",
        "cookie",
        "api-key",
        "x-api-key",
        "x-goog-api-key",
    ];
    let shown = |(name, value): &(String, String)| {
        let value = if SECRET.contains(&name.as_str()) { "(hidden)" } else { value };
        (name.clone(), value.to_owned())
    };
    request.headers.iter().map(shown).collect()
}
