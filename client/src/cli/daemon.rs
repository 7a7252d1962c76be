//! The daemon from outside: how is it, start it, stop it, what does it say?

use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::value::RawValue;
use serde_json::{Map, Value};
use sess_client::socket::HELLO_DEADLINE;
use sess_client::{CallError, Caller, Connection, Dial, OpenError, socket, start};
use sess_protocol::error::Kind;
use sess_protocol::methods::{
    BackupResult, DaemonBackup, DaemonRestart, DaemonShutdown, DaemonStatus, DaemonStatusResult,
    Method,
};

use super::output::{Output, Stop, note};
use super::{ages, dial};

/// How long a daemon may take to stop: what it gives running tasks, and as much again.
const STOP_DEADLINE: Duration = Duration::from_secs(30);
/// The pause between two looks at a socket that is to go.
const STOP_POLL: Duration = Duration::from_millis(10);
/// The pause between two looks at a log that grows.
const LOG_POLL: Duration = Duration::from_millis(200);
/// Bytes of a log read at a time.
const LOG_PIECE_BYTES: u64 = 64 * 1024;

pub(crate) async fn status(output: &mut Output) -> Result<(), Stop> {
    // To ask how it is must not start it.
    let dial = Dial { start: false, ..dial()? };
    print_status(output, dial).await
}

pub(crate) async fn start(output: &mut Output) -> Result<(), Stop> {
    print_status(output, dial()?).await
}

async fn print_status(output: &mut Output, dial: Dial) -> Result<(), Stop> {
    let path = dial.path.display().to_string();
    let raw = Caller::new(dial).call_raw(DaemonStatus::NAME, Map::new()).await?;
    if output.json {
        return output.result(&raw);
    }
    let status: DaemonStatusResult = serde_json::from_str(raw.get()).map_err(|err| {
        CallError::Strange { method: DaemonStatus::NAME.to_owned(), what: err.to_string() }
    })?;
    let seconds = i64::try_from(status.uptime_ms / 1000).unwrap_or(i64::MAX);
    let (sessions, tasks) = (&status.sessions, &status.tasks);
    let rows = [
        (
            "daemon",
            format!("sessd {} (this is sess {})", status.version, env!("CARGO_PKG_VERSION")),
        ),
        ("pid", format!("{}, up {}", status.pid, ages::lasting(seconds))),
        ("socket", path),
        (
            "store",
            format!(
                "{} ({}, {})",
                status.store.path,
                status.store.kind,
                ages::bytes(status.store.bytes)
            ),
        ),
        ("sessions", format!("{} stored, {} live", sessions.stored, sessions.live)),
        (
            "tasks",
            format!(
                "{} running, {} queued, {} waiting",
                tasks.running, tasks.queued, tasks.waiting
            ),
        ),
        ("clients", status.clients.to_string()),
        ("memory", ages::bytes(status.rss_bytes)),
    ];
    for (name, value) in rows {
        output.line(&format!("{name:<9} {value}"))?;
    }
    Ok(())
}

pub(crate) async fn stop(output: &mut Output, now: bool) -> Result<(), Stop> {
    match shut_down(now).await? {
        Some(result) if output.json => output.result(&result),
        Some(_) => {
            note("the daemon is stopped");
            Ok(())
        }
        None if output.json => output.json_line("{}"),
        None => {
            note("no daemon runs");
            Ok(())
        }
    }
}

pub(crate) async fn restart(output: &mut Output) -> Result<(), Stop> {
    match hand_over().await? {
        Restart::Done(both) => {
            let (old, now) = *both;
            if now.pid == old.pid {
                let failed = Stop::failed("the new program failed: the old one goes on");
                return Err(failed.hint("`sess daemon logs` says why"));
            }
            note(&format!("sessd {} hands over to sessd {}", old.version, now.version));
        }
        // One that is older than this, or none at all.
        Restart::Unknown => drop(shut_down(false).await?),
    }
    start(output).await
}

pub(crate) async fn backup(output: &mut Output, keep: Option<u32>) -> Result<(), Stop> {
    let mut params = Map::new();
    params.extend(keep.map(|it| ("keep".to_owned(), it.into())));
    let raw = Caller::new(dial()?).call_raw(DaemonBackup::NAME, params).await?;
    if output.json {
        return output.result(&raw);
    }
    let made: BackupResult = serde_json::from_str(raw.get()).map_err(|err| CallError::Strange {
        method: DaemonBackup::NAME.to_owned(),
        what: err.to_string(),
    })?;
    let (bytes, sessions) = (ages::bytes(made.backup.bytes), made.backup.sessions);
    note(&format!("{sessions} sessions, {bytes}; put it back with `sessd --restore FILE`"));
    output.line(&made.backup.path)
}

/// Ends a daemon that has the socket which another is to own.
pub(crate) async fn stop_for_another() -> Result<(), Stop> {
    shut_down(false).await.map(drop)
}

/// How a restart went.
enum Restart {
    /// The daemon before and the one now.
    Done(Box<(DaemonStatusResult, DaemonStatusResult)>),
    /// There is none, or it cannot hand over.
    Unknown,
}

/// Has the daemon hand its socket to the program that now lies in its place, and waits until that one
/// answers. A client that connects meanwhile just waits.
async fn hand_over() -> Result<Restart, Stop> {
    let path = socket::path()?;
    let stream = match socket::connect(&path).await {
        Err(OpenError::NotRunning { .. }) => return Ok(Restart::Unknown),
        other => other?,
    };
    let (connection, mut notifications) = Connection::over(stream);
    let late =
        || Stop::failed("the daemon does not come back in time").hint("see `sess daemon logs`");
    let asked = async {
        let old = status_over(&connection).await?;
        connection.call_raw(DaemonRestart::NAME, &Map::new()).await?;
        Ok::<_, CallError>(old)
    };
    let old = match tokio::time::timeout(STOP_DEADLINE, asked).await.map_err(|_| late())? {
        Ok(old) => old,
        Err(err) if err.kind() == Some(Kind::UnknownMethod) => return Ok(Restart::Unknown),
        Err(err) => return Err(err.into()),
    };
    let next = async {
        while notifications.next().await.is_some() {}
        loop {
            let now = match socket::connect(&path).await {
                Ok(stream) => status_over(&Connection::over(stream).0).await.ok(),
                Err(_) => None,
            };
            // The old program that goes on has the same process and begins to count anew.
            if let Some(now) = now.filter(|it| it.pid != old.pid || it.uptime_ms < old.uptime_ms) {
                return now;
            }
            tokio::time::sleep(STOP_POLL).await;
        }
    };
    let now = tokio::time::timeout(STOP_DEADLINE, next).await.map_err(|_| late())?;
    Ok(Restart::Done(Box::new((old, now))))
}

async fn status_over(connection: &Connection) -> Result<DaemonStatusResult, CallError> {
    let raw = connection.call_raw(DaemonStatus::NAME, &Map::new()).await?;
    serde_json::from_str(raw.get()).map_err(|err| CallError::Strange {
        method: DaemonStatus::NAME.to_owned(),
        what: err.to_string(),
    })
}

/// Stops the daemon and waits until it is gone; none when none runs.
///
/// Without `initialize`: a daemon of any protocol can be stopped, else an update could not be ended.
async fn shut_down(now: bool) -> Result<Option<Box<RawValue>>, Stop> {
    let path = socket::path()?;
    let stream = match socket::connect(&path).await {
        Err(OpenError::NotRunning { .. }) => return Ok(None),
        other => other?,
    };
    let peer = socket::process_of(&stream);
    let silent = || OpenError::Silent { path: path.clone(), pid: peer };
    let (connection, mut notifications) = Connection::over(stream);
    let pid = tokio::time::timeout(HELLO_DEADLINE, pid_of(&connection));
    let pid = pid.await.map_err(|_| silent())?;
    let mut params = Map::new();
    if now {
        params.insert("drain".to_owned(), Value::Bool(false));
    }
    let asked = connection.call_raw(DaemonShutdown::NAME, &params);
    let asked = tokio::time::timeout(STOP_DEADLINE, asked).await.map_err(|_| silent())?;
    let result = match asked {
        Ok(result) => Some(result),
        // Gone before it could answer, or already on its way: what was asked for happens.
        Err(CallError::Lost) => None,
        Err(err) if err.kind() == Some(Kind::ShuttingDown) => None,
        Err(err) => return Err(err.into()),
    };
    let ended = async { while notifications.next().await.is_some() {} };
    let late = || {
        Stop::failed("the daemon does not end; it may be waiting for running tasks")
            .hint("`sess daemon stop --now`, and `sess daemon logs`")
    };
    let begun = Instant::now();
    tokio::time::timeout(STOP_DEADLINE, ended).await.map_err(|_| late())?;
    while is_there(pid, &path).await {
        if begun.elapsed() > STOP_DEADLINE {
            return Err(late());
        }
        tokio::time::sleep(STOP_POLL).await;
    }
    let done = RawValue::from_string("{}".to_owned()).expect("an empty object is JSON");
    Ok(Some(result.unwrap_or(done)))
}

/// The daemon's process, as far as it says so.
async fn pid_of(connection: &Connection) -> Option<u64> {
    let status = connection.call_raw(DaemonStatus::NAME, &Map::new()).await.ok()?;
    let status: Value = serde_json::from_str(status.get()).ok()?;
    status.get("pid")?.as_u64()
}

/// Whether the daemon is still there. By its process where that is known: somebody may already have
/// started the next one on the same socket, and a socket of systemd starts it when it is tried.
async fn is_there(pid: Option<u64>, path: &Path) -> bool {
    let Some(pid) = pid else {
        return !matches!(socket::connect(path).await, Err(OpenError::NotRunning { .. }));
    };
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state stands behind the name, which may hold anything. A process that ended and whose
    // parent has not looked yet is `Z`.
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|it| it != 'Z' && it != 'X')
}

pub(crate) async fn logs(output: &mut Output, follow: bool, lines: u32) -> Result<(), Stop> {
    let log = start::log_path()?;
    let lines = usize::try_from(lines).unwrap_or(usize::MAX);
    // Looked at before the tail is read, so that nothing between the two is missed.
    let seen = Seen::of(&log);
    match start::tail(&log, lines) {
        Ok(tail) => {
            for line in tail {
                print_log(output, &line)?;
            }
        }
        Err(err) if err.kind() == std::io::ErrorKind::NotFound && follow => {}
        Err(err) => {
            return Err(Stop::failed(format_args!("cannot read `{}`: {err}", log.display())).hint(
                "only a daemon that `sess` started logs there; for one of systemd: journalctl --user -u sess",
            ));
        }
    }
    output.flush()?;
    if follow { follow_log(output, &log, seen).await } else { Ok(()) }
}

/// Goes on as the log grows, until ctrl-c ends the program.
async fn follow_log(output: &mut Output, log: &Path, mut seen: Seen) -> Result<(), Stop> {
    let mut rest = Vec::new();
    loop {
        tokio::time::sleep(LOG_POLL).await;
        seen.read(log, &mut rest)?;
        while let Some(end) = rest.iter().position(|it| *it == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            print_log(output, String::from_utf8_lossy(&line[..end]).as_ref())?;
        }
        output.flush()?;
    }
}

fn print_log(output: &mut Output, line: &str) -> Result<(), Stop> {
    if output.json {
        return output.json_line(&Value::from(line).to_string());
    }
    output.line(line)
}

/// How far a log was read, and which file it was then.
#[derive(Debug, Default)]
struct Seen {
    inode: u64,
    at: u64,
}

impl Seen {
    fn of(log: &Path) -> Self {
        log.metadata().map_or_else(|_| Self::default(), |it| Self { inode: it.ino(), at: it.len() })
    }

    /// Reads what was added; a file that was set aside or cut begins anew.
    fn read(&mut self, log: &Path, rest: &mut Vec<u8>) -> Result<(), Stop> {
        let cannot = |err| Stop::failed(format_args!("cannot read `{}`: {err}", log.display()));
        let mut file = match std::fs::File::open(log) {
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(cannot)?,
        };
        let metadata = file.metadata().map_err(cannot)?;
        if metadata.ino() != self.inode || metadata.len() < self.at {
            *self = Self { inode: metadata.ino(), at: 0 };
            rest.clear();
        }
        file.seek(SeekFrom::Start(self.at)).map_err(cannot)?;
        let before = rest.len();
        file.take(LOG_PIECE_BYTES).read_to_end(rest).map_err(cannot)?;
        self.at += (rest.len() - before) as u64;
        // A line without an end is shown as it is.
        if rest.len() as u64 > LOG_PIECE_BYTES && !rest.contains(&b'\n') {
            rest.push(b'\n');
        }
        Ok(())
    }
}
