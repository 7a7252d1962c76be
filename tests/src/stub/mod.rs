//! A model server that answers by script: what does a daemon do with exactly these bytes, at these times?
//!
//! It speaks the protocols of five kinds of providers on a loopback port and is also the benches' baseline, so HTTP is written
//! by hand and everything that waits goes out in one write. Reading order: [`script`] is what can be asked for,
//! `answer` plays it, `out` frames and writes it, [`log`] says what was received and sent, `control` is the way in
//! from outside, [`client`] the handle that suites use.
//!
//! | request | does |
//! | --- | --- |
//! | `POST /v1/chat/completions` | plays the model's next script in OpenAI's words |
//! | `POST /v1/responses` | the same in those of OpenAI's responses |
//! | `POST /v1/messages` | the same in Anthropic's |
//! | `POST /v1beta/models/MODEL:streamGenerateContent`, `:generateContent` | the same in Gemini's |
//! | `POST /api/chat` | the same in Ollama's |
//! | `POST /api/show` | says that Ollama's models can see, but for those that have `blind` in their names |
//! | `GET /v1/models`, `/v1beta/models`, `/api/tags` | lists the scripted models and the built-in ones |
//! | `POST /control/script` | installs scripts: see [`script::Install`] |
//! | `POST /control/release` `{"hold", "times"?}` | opens a hold for good, or lets `times` waiters through |
//! | `GET /control/log?since=N&wait_ms=M` | entries after number N; waits up to M for the first one |
//! | `GET /control/stats` | counts: see [`Stats`] |
//! | `POST /control/reset` | forgets scripts and log, releases every hold |
//!
//! Without a script, model `pieces-N` answers N pieces `w0 w1 ...` and any other one echoes the last user message.

mod answer;
pub mod client;
mod command;
mod control;
mod dialect;
mod gemini;
mod http;
pub mod log;
mod messages;
mod ollama;
mod out;
mod responses;
pub mod script;
mod sse;
mod state;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

pub use client::Stub;
pub use command::run;
pub use log::{Entry, How, Part, What};
pub use state::Stats;

use dialect::Dialect;
use http::{Conn, Request};
use state::Shared;

/// Connections served at once; one more is closed as soon as it is accepted.
pub const CONNECTIONS_MAX: usize = 4_096;

/// What a server is started with.
#[derive(Debug, Default)]
pub struct Options {
    /// A file with one [`script::Install`] or an array of them.
    pub script: Option<PathBuf>,
    /// A file to which the log is appended as JSON lines.
    pub log: Option<PathBuf>,
}

/// A server that listens. Dropping it, or the future of [`Server::serve`], closes every connection.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    shared: Arc<Shared>,
}

impl Server {
    /// Takes a free port of the loopback interface.
    pub async fn listen(options: Options) -> anyhow::Result<Server> {
        let shared = Shared::new(options.log.as_deref())?;
        if let Some(path) = &options.script {
            let text = std::fs::read(path).with_context(|| format!("read `{}`", path.display()))?;
            shared.install(&text).map_err(|err| anyhow::anyhow!("`{}`: {err}", path.display()))?;
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("bind")?;
        Ok(Server { listener, shared: Arc::new(shared) })
    }

    /// The port it listens on.
    pub fn port(&self) -> anyhow::Result<u16> {
        Ok(self.listener.local_addr()?.port())
    }

    /// Serves until it is dropped, or accepting fails.
    pub async fn serve(self) -> anyhow::Result<()> {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept() => {
                    let (stream, _) = accepted.context("accept")?;
                    if connections.len() < CONNECTIONS_MAX {
                        connections.spawn(serve_connection(stream, Arc::clone(&self.shared)));
                    }
                }
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

async fn serve_connection(mut stream: TcpStream, shared: Arc<Shared>) {
    // Without it a piece would wait for the acknowledgement of the one before.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let _open = shared.count_connection();
    let mut conn = Conn::new(&mut stream);
    loop {
        let keep = match conn.reader.request().await {
            Ok(Some(request)) => {
                let wanted = request.keep_alive;
                route(&mut conn, &shared, request).await && wanted
            }
            Ok(None) => false,
            Err(problem) => {
                let _ = conn.reply(400, &sse::error_body(&problem), false).await;
                false
            }
        };
        if !keep {
            return;
        }
    }
}

/// Answers one request; whether the connection can take another one.
async fn route(conn: &mut Conn<'_>, shared: &Shared, request: Request) -> bool {
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/v1/models" | "/v1beta/models" | "/api/tags") => {
            shared.log_models(&request);
            conn.reply(200, &shared.models(), request.keep_alive).await.is_ok()
        }
        (_, path) if path.starts_with("/control/") => control::handle(conn, shared, request).await,
        ("POST", "/api/show") => {
            let eyes = if request.body.windows(5).any(|it| it == b"blind") { "" } else { "vision" };
            let body = serde_json::json!({"capabilities": ["completion", eyes]});
            conn.reply(200, &body, request.keep_alive).await.is_ok()
        }
        ("POST", path) if Dialect::of(path).is_some() => {
            let dialect = Dialect::of(path).expect("it was just found");
            answer::answer(conn, shared, dialect, request).await
        }
        (method, path) => {
            let body = sse::error_body(&format!("there is no `{method} {path}`"));
            conn.reply(404, &body, request.keep_alive).await.is_ok()
        }
    }
}
