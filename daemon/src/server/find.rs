//! Finding what a client names: ids, prefixes of ids, titles, workspaces.

use std::path::{Path, PathBuf};

use sess_protocol::error::{Error, Kind};
use sess_protocol::id::{
    ID_HEX_DIGITS, ID_PREFIX_DIGITS_MIN, MessageId, PREFIXES, SessionId, TaskId,
};
use sess_protocol::things::Workspace;
use sess_protocol::view::Members;

use crate::shared::Shared;
use crate::store::Place;

/// Bytes of a file of git that is read.
const GIT_FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Candidates that are named when a prefix fits several.
const CANDIDATES_MAX: u32 = 6;

/// The session that a text names.
///
/// # Errors
/// None, or several.
pub(super) async fn session(shared: &Shared, text: &str) -> Result<SessionId, Error> {
    match text.parse::<SessionId>() {
        Ok(SessionId::GLOBAL) => {
            let hint = "`global` is a log that can be followed, and no session";
            return Err(Error::not_found("session", text).hint(hint));
        }
        Ok(id) => return Ok(id),
        Err(_) => {}
    }
    let digits = text.strip_prefix(SessionId::PREFIX).unwrap_or(text);
    let is_prefix = (ID_PREFIX_DIGITS_MIN..=ID_HEX_DIGITS).contains(&digits.len())
        && digits.bytes().all(|it| it.is_ascii_hexdigit());
    if !is_prefix {
        return Err(other_kind(shared, "session", text).await);
    }
    let digits = digits.to_ascii_lowercase();
    let found = shared.store.sessions_by_prefix(&digits, CANDIDATES_MAX + 1).await;
    let mut found = found.map_err(|err| shared.refusal(err))?;
    match found.len() {
        0 => Err(Error::not_found("session", text).hint("`sess ls` lists the sessions")),
        1 => Ok(found.remove(0)),
        _ => {
            found.truncate(CANDIDATES_MAX as usize);
            let names: Vec<String> = found.iter().map(SessionId::to_string).collect();
            let message = format!("`{text}` fits several sessions; give more digits");
            Err(Error::new(Kind::Ambiguous, message).with("candidates", names))
        }
    }
}

/// The session that a text names, or the log of facts of no session.
///
/// # Errors
/// None, or several.
pub(super) async fn log(shared: &Shared, text: &str) -> Result<SessionId, Error> {
    match text.parse() {
        Ok(SessionId::GLOBAL) => Ok(SessionId::GLOBAL),
        _ => session(shared, text).await,
    }
}

/// The task that a text names, with its session.
///
/// # Errors
/// There is none.
pub(super) async fn task(
    shared: &Shared,
    text: &str,
) -> Result<(TaskId, SessionId, Members), Error> {
    let Ok(id) = text.parse::<TaskId>() else {
        return Err(other_kind(shared, "task", text).await);
    };
    let found = shared.store.task(id).await.map_err(|err| shared.refusal(err))?;
    let (session, members) = found.ok_or_else(|| Error::not_found("task", text))?;
    Ok((id, session, members))
}

/// The message that a text names.
///
/// # Errors
/// It names none.
pub(super) async fn message(shared: &Shared, text: &str) -> Result<MessageId, Error> {
    match text.parse() {
        Ok(id) => Ok(id),
        Err(_) => Err(other_kind(shared, "message", text).await),
    }
}

/// The refusal of an id that may be another thing's.
async fn other_kind(shared: &Shared, wanted: &str, text: &str) -> Error {
    let error = Error::not_found(wanted, text);
    if !PREFIXES.iter().any(|it| text.starts_with(it)) {
        return match wanted {
            "session" => error.hint("a session is named by its id or at least 4 of its hex digits"),
            _ => error,
        };
    }
    let (is, of) = match shared.store.place(text).await {
        Ok(Some(Place::Task(session))) => ("task", session),
        Ok(Some(Place::Message(session))) => ("message", session),
        _ => return error,
    };
    error.with("is", is).with("session", of.to_string()).hint(format!("`{text}` is a {is} of {of}"))
}

/// A workspace by any spelling of its path.
///
/// # Errors
/// It is no folder that can be reached.
pub(super) async fn workspace(path: &str) -> Result<Workspace, Error> {
    let given = path.to_owned();
    let found = tokio::task::spawn_blocking(move || {
        let path = Path::new(&given);
        if !path.is_absolute() {
            return Err("it is not absolute".to_owned());
        }
        let real = path.canonicalize().map_err(|err| err.to_string())?;
        if !real.is_dir() {
            return Err("it is no folder".to_owned());
        }
        real.into_os_string().into_string().map_err(|_| "it is not UTF-8".to_owned())
    })
    .await
    .unwrap_or_else(|_| Err("it could not be looked at".to_owned()));
    let path = found.map_err(|why| {
        Error::invalid("workspace", format!("the workspace `{path}` cannot be used: {why}"))
    })?;
    let name = path.rsplit('/').find(|it| !it.is_empty()).unwrap_or("/").to_owned();
    let folder = path.clone();
    let checked_out = tokio::task::spawn_blocking(move || checked_out(folder.as_ref())).await;
    let (branch, commit) = checked_out.unwrap_or_default();
    Ok(Workspace { path, name, branch, commit })
}

/// The branch and the commit that are checked out in a folder, as far as they can be told.
fn checked_out(folder: &Path) -> (Option<String>, Option<String>) {
    let found = folder.ancestors().map(|it| it.join(".git")).find(|it| it.exists());
    let Some(mut git) = found else { return (None, None) };
    // In a work tree or a submodule it is a file that says where the folder is.
    if let Some(elsewhere) =
        words(&git).and_then(|it| it.strip_prefix("gitdir: ").map(str::to_owned))
    {
        git = git.parent().unwrap_or(folder).join(elsewhere);
    }
    let Some(head) = words(&git.join("HEAD")) else { return (None, None) };
    let Some(name) = head.strip_prefix("ref: ") else { return (None, Some(head)) };
    let branch = name.strip_prefix("refs/heads/").map(str::to_owned);
    let common = words(&git.join("commondir")).map_or_else(|| git.clone(), |it| git.join(it));
    let packed = || {
        let packed = words(&common.join("packed-refs"))?;
        let line = packed.lines().find(|it| it.ends_with(&format!(" {name}")))?;
        line.split(' ').next().map(str::to_owned)
    };
    (branch, words(&common.join(name)).or_else(packed))
}

/// What a small file says.
fn words(path: &Path) -> Option<String> {
    let size = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?.len();
    let text = (size <= GIT_FILE_BYTES_MAX).then(|| std::fs::read_to_string(path).ok())?;
    text.map(|it| it.trim_end().to_owned())
}

/// The path of a workspace that may be named, by any spelling of it. A folder that is gone has one, too:
/// what was said in it is still there.
///
/// # Errors
/// A path that is not absolute says nothing to a daemon.
pub(super) async fn workspace_path(path: Option<String>) -> Result<Option<String>, Error> {
    let Some(path) = path else { return Ok(None) };
    if !path.starts_with('/') {
        let message = format!("the workspace `{path}` cannot be used: it is not absolute");
        return Err(Error::invalid("workspace", message));
    }
    let given = path.clone();
    let real = tokio::task::spawn_blocking(move || real_path(given.as_ref())).await;
    Ok(Some(real.unwrap_or_default().unwrap_or(path)))
}

/// A path without links, doubled slashes and dots, as far as its folders are there.
fn real_path(path: &Path) -> Option<String> {
    let path: PathBuf = path.components().collect();
    let (there, real) = path.ancestors().find_map(|it| Some((it, it.canonicalize().ok()?)))?;
    let gone = path.strip_prefix(there).ok()?;
    let whole: PathBuf = real.components().chain(gone.components()).collect();
    whole.into_os_string().into_string().ok()
}
