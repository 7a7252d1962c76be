//! How does a suite start a stub, script it, and read what it did?

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::log::{Entry, Page, Part, What};
use super::{Options, Server, Stats};
use crate::bins;
use crate::harness::deadline;

/// Seconds that the stub holds a question back while there is nothing to answer.
const WAIT_SECONDS_MAX: u64 = 30;

/// A running stub; dropping it ends it and closes its connections.
#[derive(Debug)]
pub struct Stub {
    port: u16,
    running: Running,
}

#[derive(Debug)]
enum Running {
    // Its stdin stays open inside; the process also ends when this one dies of a kill.
    Process { child: Child },
    Here { _server: JoinSet<()> },
}

#[derive(Deserialize)]
struct Listening {
    port: u16,
}

impl Stub {
    /// Starts the program `sess-stub` that [`bins::bin`] finds.
    pub async fn start() -> anyhow::Result<Stub> {
        Stub::start_program(&bins::bin("sess-stub"), &[]).await
    }

    /// Starts the program at `path` with further arguments, as `--log FILE`.
    pub async fn start_program(path: &Path, args: &[&str]) -> anyhow::Result<Stub> {
        let mut child = Command::new(path)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start `{}`", path.display()))?;
        let stdout = child.stdout.take().context("its stdout is a pipe")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).await?;
        let Listening { port } =
            serde_json::from_str(&line).with_context(|| format!("the stub said `{line}`"))?;
        Ok(Stub { port, running: Running::Process { child } })
    }

    /// Starts a server inside this process, on the runtime of the caller.
    pub async fn start_here(options: Options) -> anyhow::Result<Stub> {
        let server = Server::listen(options).await?;
        let port = server.port()?;
        let mut running = JoinSet::new();
        running.spawn(async move {
            if let Err(err) = server.serve().await {
                eprintln!("the stub ended: {err:#}");
            }
        });
        Ok(Stub { port, running: Running::Here { _server: running } })
    }

    /// Its process, where it has one of its own and that has not ended.
    pub fn pid(&self) -> Option<u32> {
        match &self.running {
            Running::Process { child } => child.id(),
            Running::Here { .. } => None,
        }
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What a provider's `base_url` is set to.
    pub fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.port)
    }

    /// The same for protocols whose version is not a part of it.
    pub fn origin(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Puts a script, a JSON array of steps, at the end of a model's queue. The last one repeats.
    pub async fn script(&self, model: &str, steps: Value) -> anyhow::Result<()> {
        self.install(json!({"model": model, "script": steps})).await
    }

    /// Puts a script there that answers one request and never again.
    pub async fn script_once(&self, model: &str, steps: Value) -> anyhow::Result<()> {
        self.install(json!({"model": model, "script": steps, "repeat": false})).await
    }

    /// Installs what an [`Install`](super::script::Install), or an array of them, says.
    pub async fn install(&self, install: Value) -> anyhow::Result<()> {
        self.call::<Value>("POST", "/control/script", Some(install)).await.map(drop)
    }

    /// Opens a hold for good: for who waits and for who comes.
    pub async fn release(&self, hold: &str) -> anyhow::Result<()> {
        self.call::<Value>("POST", "/control/release", Some(json!({"hold": hold}))).await.map(drop)
    }

    /// Lets so many waiters through a hold, those to come included.
    pub async fn release_times(&self, hold: &str, times: usize) -> anyhow::Result<()> {
        let body = json!({"hold": hold, "times": times});
        self.call::<Value>("POST", "/control/release", Some(body)).await.map(drop)
    }

    /// Forgets scripts and log and releases every hold.
    pub async fn reset(&self) -> anyhow::Result<()> {
        self.call::<Value>("POST", "/control/reset", None).await.map(drop)
    }

    /// Its counts.
    pub async fn stats(&self) -> anyhow::Result<Stats> {
        self.call("GET", "/control/stats", None).await
    }

    /// Everything that it still has in its log.
    pub async fn log(&self) -> anyhow::Result<Vec<Entry>> {
        self.log_since(0).await
    }

    /// The number of the log's newest entry: also where the oldest are gone by now.
    pub async fn newest(&self) -> anyhow::Result<u64> {
        Ok(self.page(u64::MAX, 0).await?.last)
    }

    /// What came into the log after entry `since`.
    pub async fn log_since(&self, since: u64) -> anyhow::Result<Vec<Entry>> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let from = entries.last().map_or(since, |entry| entry.n);
            let page = self.page(from, 0).await?;
            let read = page.entries.len();
            entries.extend(page.entries);
            if read == 0 || entries.last().is_none_or(|entry| entry.n >= page.last) {
                return Ok(entries);
            }
        }
    }

    /// What came into the log after entry `since`; waits for the first where there is none yet.
    pub async fn log_behind(&self, since: u64) -> anyhow::Result<Vec<Entry>> {
        Ok(self.page(since, WAIT_SECONDS_MAX * 1_000).await?.entries)
    }

    /// The first entry, past or to come, that `wanted` says yes to. It is waited for as all else, up to
    /// [`deadline`].
    pub async fn wait_for(&self, wanted: impl Fn(&Entry) -> bool) -> anyhow::Result<Entry> {
        let looking = async {
            let mut since = 0;
            loop {
                let page = self.page(since, WAIT_SECONDS_MAX * 1_000).await?;
                since = page.entries.last().map_or(page.last, |entry| entry.n);
                if let Some(entry) = page.entries.into_iter().find(&wanted) {
                    return Ok(entry);
                }
            }
        };
        let found = timeout(deadline(), looking).await;
        found.with_context(|| format!("no such entry within {:?}", deadline()))?
    }

    /// The text, without reasoning, that was sent in answer to a request.
    pub async fn text_sent(&self, request: u64) -> anyhow::Result<String> {
        let entries = self.log().await?;
        let texts =
            entries.into_iter().filter(|entry| entry.request == request).filter_map(|it| match it
                .what
            {
                What::Piece { part: Part::Text, text, .. } => Some(text),
                _ => None,
            });
        Ok(texts.collect())
    }

    async fn page(&self, since: u64, wait_ms: u64) -> anyhow::Result<Page> {
        let path = format!("/control/log?since={since}&wait_ms={wait_ms}");
        let page: Page = self.call("GET", &path, None).await?;
        ensure!(page.lost == 0, "the stub's log lost {} entries after {since}", page.lost);
        Ok(page)
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> anyhow::Result<T> {
        let body = body.map(|it| it.to_string()).unwrap_or_default();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: stub\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (head, body) = answer.split_once("\r\n\r\n").context("the stub answered no HTTP")?;
        if !head.starts_with("HTTP/1.1 200 ") {
            bail!("`{method} {path}`: {body}");
        }
        serde_json::from_str(body).with_context(|| format!("`{method} {path}` answered `{body}`"))
    }
}
