//! From the session of one folder to that of another: what is set aside, loaded, and goes on?

use std::path::Path;

use sess_client::Caller;
use sess_protocol::methods::{ScopeSwitch, ScopeSwitchParams, ScopeSwitchResult};

use super::ask::ask;
use super::dial_here;
use super::output::{Output, Stop};
use super::transcript::short;

pub(crate) async fn run(output: &mut Output, folder: &Path) -> Result<(), Stop> {
    let params = params(folder)?;
    let mut caller = Caller::new(dial_here()?);
    let Some(done) = ask::<ScopeSwitch>(output, &mut caller, &params).await? else {
        return Ok(());
    };
    say(output, &done)?;
    match done.loaded {
        Some(session) => output.line(&session.id.to_string()),
        None => {
            output.note("no session is active there")?;
            let folder = &params.workspace;
            output.hint(&format!("sess -C {folder} chat \"hello\""))
        }
    }
}

/// What is asked for, by the folder's whole path: the daemon knows no other.
pub(crate) fn params(folder: &Path) -> Result<ScopeSwitchParams, Stop> {
    let path = std::path::absolute(folder)?;
    let path = path.to_str().ok_or_else(|| Stop::failed("this folder cannot be named"))?;
    Ok(ScopeSwitchParams { workspace: path.to_owned(), from: None })
}

/// Says what became of the folder that was left, and where one is.
pub(crate) fn say(output: &mut Output, done: &ScopeSwitchResult) -> Result<(), Stop> {
    if let Some(session) = &done.set_aside {
        let id = short(&session.id.to_string());
        output.note(&format!("set aside: session {id} · {}", session.title))?;
    }
    for task in &done.running {
        output.note(&format!("a task goes on in session {}", short(&task.session.to_string())))?;
    }
    match &done.loaded {
        Some(session) => {
            let id = short(&session.id.to_string());
            output.note(&format!("session {id} · {} · {}", session.title, session.model))
        }
        None => Ok(()),
    }
}
