//! The daemon that owns every session. `run` starts every part, waits, and stops them in reverse.

pub mod agents;
pub mod config;
pub mod doctor;
pub mod documents;
pub mod exchange;
pub mod folder;
pub mod handover;
pub mod model;
pub mod nearest;
pub mod redact;
pub mod sabotage;
pub mod server;
pub mod service;
pub mod session;
pub mod shared;
pub mod store;
pub mod task;
pub mod tokens;
pub mod upkeep;
pub mod world;

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use config::{Asked, Config, Exit, StartError};
use documents::{Documents, KeyPlaces};
use model::providers::{CREDENTIAL, Providers};
use server::router::Router;
use server::socket::Socket;
use service::{Notifier, StopSignals};
use session::recovery;
use shared::{DRAIN, Shared};
use store::sqlite::{OpenError, SqliteStore};
use store::{Store, StoreError};
use tokens::KeptTokens;
use world::{RealWorld, World as _};

/// The most threads that serve. The other half of the processors is for the store's threads and for
/// what people run beside the daemon: two that hand each other work on few processors cost more than
/// they do.
const THREADS_MAX: usize = 4;
/// How long sessions are given beyond the drain to come to their end.
const SESSIONS_END: Duration = Duration::from_secs(2);
/// How long lines that wait are still written to clients.
const CLIENTS_END: Duration = Duration::from_secs(1);

/// What `sessd` does with its arguments; the code it ends with.
#[must_use]
pub fn main() -> ExitCode {
    let asked = config::read(std::env::args_os().skip(1), |name| std::env::var_os(name));
    let done = match asked {
        Ok(Asked::Print(text)) => {
            let _ = std::io::stdout().write_all(text.as_bytes());
            Ok(Exit::Done)
        }
        Ok(Asked::Check(config)) => check(&config),
        Ok(Asked::Doctor(config, dry)) => doctor::run(&config, dry),
        Ok(Asked::Restore(config, file)) => restore(&config, &file),
        Ok(Asked::Run(config)) => run(config),
        Err(err) => Err(err),
    };
    done.unwrap_or_else(|err| {
        let _ = writeln!(std::io::stderr(), "sessd: {err}");
        err.exit
    })
    .into()
}

/// Starts every part, waits for the end, stops them in reverse.
fn run(config: Config) -> Result<Exit, StartError> {
    start_log(&config);
    service::close_inherited(config.socket_passed);
    service::harden()?;
    service::take_descriptors();
    // Before the runtime: adopting a socket and naming a log belong to a process with one thread.
    let socket = Socket::take(&config)?;
    let keys =
        KeyPlaces { service: config.credentials_dir.clone(), data: Some(config.data_dir.clone()) };
    let documents = Documents::open_with(&config.state_dir, check_providers, keys)?;
    let store = open_store(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads())
        .enable_all()
        .build()
        .map_err(|err| StartError::io("the runtime", err))?;
    let program = handover::program()?;
    let notifier = Notifier::new(&config)?;
    let end = runtime.block_on(serve(&config, &notifier, &socket, documents, store));
    runtime.shutdown_timeout(CLIENTS_END);
    match end? {
        // A socket of the service manager stays open by itself: it starts the next daemon.
        End::Restart if !socket.is_adopted() => {
            handover::hand_over(socket.give_up(), &program, &notifier)
        }
        End::Restart => Ok(Exit::Done),
        End::Exit(exit) => Ok(exit),
    }
}

/// What follows when nothing is served any more.
enum End {
    /// A successor.
    Restart,
    /// Nothing.
    Exit(Exit),
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, |it| it.get() / 2).clamp(1, THREADS_MAX)
}

async fn serve(
    config: &Config,
    notifier: &Notifier,
    socket: &Socket,
    documents: Documents,
    store: Arc<dyn Store>,
) -> Result<End, StartError> {
    let stored = documents.clone();
    let environment = Arc::new(move |name: &str| match name.strip_prefix(CREDENTIAL) {
        Some(name) => stored.credential(name)?.ok().map(|it| it.to_string()),
        None => std::env::var(name).ok(),
    });
    let tokens = Arc::new(KeptTokens::of(documents.clone()));
    let models = Providers::new(Default::default(), environment).with_tokens(tokens);
    let unread = |err: StoreError| StartError::new(Exit::Damaged, err.to_string());
    let (newest, active) =
        recovery::newest(&*store, RealWorld::default().now()).await.map_err(unread)?;
    let shared = Shared::new(Arc::clone(&store), Arc::new(RealWorld::behind(newest)), models);
    shared.was_active(active);
    shared.take_settings(&documents);
    if shared.default_model() == "echo/echo" {
        shared.providers().look().await;
    }
    let signals = StopSignals::listen().map_err(|err| StartError::io("signals", err))?;
    let settled = recovery::settle_all(&shared).await;
    let waiting = settled.map_err(|err| StartError::new(Exit::Damaged, err.to_string()))?;
    let listener = socket.listener().map_err(|err| StartError::io("the socket", err))?;
    documents::keep::begin(&shared, &documents);
    let router = Router::new(Arc::clone(&shared), documents);
    upkeep::begin(&router);
    shared.tracker.spawn(server::serve(router, listener));
    recovery::set_going(&shared, waiting).await;
    tracing::info!(socket = %config.socket.display(), "serving");
    notifier.ready();
    let asked_to_stop = CancellationToken::new();
    // Watches to the very end, for a second signal; ended with this function.
    let mut watch = tokio::task::JoinSet::new();
    watch.spawn(signals.watch(asked_to_stop.clone()));
    let failed = tokio::select! {
        () = asked_to_stop.cancelled() => false,
        () = shared.stop.stopping() => false,
        () = notifier.keep_alive() => false,
        () = store.failed() => true,
    };
    if failed {
        notifier.stopping();
        // What was being saved may be there or not: nothing is done on top of it.
        tracing::error!("the store failed; ending, so that the next start recovers");
        shared.stop.finish();
        tokio::time::sleep(Duration::from_millis(50)).await;
        return Ok(End::Exit(Exit::Io));
    }
    // Begun before it is said: nothing is accepted behind STOPPING.
    shared.stop.begin(DRAIN);
    notifier.stopping();
    if let Err(StoreError::Unknown(_)) = stop(&shared, &*store).await {
        return Ok(End::Exit(Exit::Io));
    }
    Ok(if shared.stop.restarts() { End::Restart } else { End::Exit(Exit::Done) })
}

/// Sessions come to their end, then connections, then the store.
///
/// # Errors
/// The store could not be closed; what was answered is on disk all the same.
pub async fn stop(shared: &Shared, store: &dyn Store) -> Result<(), StoreError> {
    shared.stop.begin(DRAIN);
    shared.actors.close();
    let ends = shared.stop.deadline().map_or(SESSIONS_END, |it| {
        it.saturating_duration_since(tokio::time::Instant::now()) + SESSIONS_END
    });
    if tokio::time::timeout(ends, shared.actors.wait()).await.is_err() {
        tracing::warn!(left = shared.actors.len(), "sessions did not come to their end in time");
    }
    shared.stop.finish();
    shared.tracker.close();
    // Waits for clients to take their last lines.
    let _ = tokio::time::timeout(CLIENTS_END, shared.tracker.wait()).await;
    let closed = store.close().await;
    closed.inspect_err(|err| tracing::warn!(%err, "the store was not closed cleanly"))
}

fn check_providers(document: &Value) -> Result<(), String> {
    model::providers::parse(document).map(|_| ()).map_err(|err| err.to_string())
}

fn start_log(config: &Config) {
    let filter = tracing_subscriber::EnvFilter::new(&config.log_filter);
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| redact::Log)
        .with_ansi(false)
        .init();
}

fn open_store(config: &Config) -> Result<Arc<dyn Store>, StartError> {
    let store = SqliteStore::open(&config.data_dir).map_err(|err| refused(&err))?;
    Ok(Arc::new(store))
}

/// Why the store cannot be opened, as an end of the start.
pub(crate) fn refused(err: &OpenError) -> StartError {
    let exit = match err {
        OpenError::Newer { .. } => Exit::Settings,
        OpenError::Damaged(_) => Exit::Damaged,
        OpenError::Io(_) | OpenError::Sql(_) => Exit::Io,
    };
    StartError::new(exit, err.to_string())
}

/// Puts a backup in the place of the store.
fn restore(config: &Config, file: &Path) -> Result<Exit, StartError> {
    let _lock = server::socket::lock_store(config)?;
    let aside = store::sqlite::restore(&config.data_dir, file).map_err(|err| refused(&err))?;
    let words = format!("restored; what was there before is in `{}`", aside.display());
    let _ = writeln!(std::io::stderr(), "sessd: {words}");
    Ok(Exit::Done)
}

/// Looks at settings and store without starting.
fn check(config: &Config) -> Result<Exit, StartError> {
    for notice in Documents::check(&config.state_dir, check_providers)? {
        let _ = writeln!(std::io::stderr(), "{notice:?}");
    }
    let report = store::sqlite::check(&config.data_dir).map_err(|err| refused(&err))?;
    for fault in &report.faults {
        let session = fault.session.map(|it| format!("session `{it}`")).unwrap_or_default();
        let is_named = fault.text.contains(&session);
        let whose = if is_named { String::new() } else { format!("{session}: ") };
        let _ = writeln!(std::io::stderr(), "{whose}{}", fault.text);
    }
    match report.faults.len() {
        0 => Ok(Exit::Done),
        count => Err(StartError::new(Exit::Damaged, format!("the store has {count} faults"))),
    }
}
