//! The daemon as a service of systemd: put there, taken away.

use std::path::{Path, PathBuf};
use std::process::Command;

use sess_client::start;

use super::daemon;
use super::output::{Output, Stop, note};

/// The units as they lie in the repository.
const SERVICE: &str = include_str!("../../../systemd/sess.service");
const SOCKET: &str = include_str!("../../../systemd/sess.socket");
/// The program in the unit, which becomes the one that is installed.
const PROGRAM: &str = "%h/.cargo/bin/sessd";
const UNITS: [(&str, &str); 2] = [("sess.service", SERVICE), ("sess.socket", SOCKET)];

pub(crate) async fn install(output: &mut Output) -> Result<(), Stop> {
    let folder = folder()?;
    let program = start::find_program().ok_or_else(|| {
        Stop::failed("there is no `sessd` beside `sess` and none in PATH")
            .hint("cargo install --path daemon")
    })?;
    // Only one can own the socket: systemd does from now on.
    daemon::stop_for_another().await?;
    std::fs::create_dir_all(&folder).map_err(|err| cannot("make", &folder, &err))?;
    for (name, text) in UNITS {
        let path = folder.join(name);
        let text = text.replace(PROGRAM, &escaped(&program));
        std::fs::write(&path, text).map_err(|err| cannot("write", &path, &err))?;
    }
    systemctl(&["daemon-reload"])?;
    systemctl(&["enable", "--now", "sess.socket"])?;
    said(output, "installed: systemd starts the daemon at the first knock", &folder)
}

pub(crate) fn uninstall(output: &mut Output) -> Result<(), Stop> {
    let folder = folder()?;
    if UNITS.iter().all(|(name, _)| !folder.join(name).exists()) {
        return said(output, "nothing is installed", &folder);
    }
    systemctl(&["disable", "--now", "sess.socket", "sess.service"])?;
    for (name, _) in UNITS {
        let path = folder.join(name);
        match std::fs::remove_file(&path) {
            Err(err) if err.kind() != std::io::ErrorKind::NotFound => {
                return Err(cannot("remove", &path, &err));
            }
            _ => {}
        }
    }
    systemctl(&["daemon-reload"])?;
    said(output, "uninstalled; sessions and settings stay", &folder)
}

fn said(output: &mut Output, what: &str, folder: &Path) -> Result<(), Stop> {
    if output.json {
        return output.json_line(&serde_json::json!({ "units": folder }).to_string());
    }
    note(&format!("{what} ({})", folder.display()));
    Ok(())
}

/// Where a user's units lie.
fn folder() -> Result<PathBuf, Stop> {
    let path = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|it| it.is_absolute());
    let config = path("XDG_CONFIG_HOME").or_else(|| Some(path("HOME")?.join(".config")));
    let config = config.ok_or_else(|| Stop::failed("`HOME` is not set"))?;
    Ok(config.join("systemd/user"))
}

/// A path as a unit takes it.
fn escaped(path: &Path) -> String {
    let text = path.display().to_string().replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", text.replace('%', "%%").replace('$', "$$"))
}

fn cannot(what: &str, path: &Path, err: &std::io::Error) -> Stop {
    Stop::failed(format_args!("cannot {what} `{}`: {err}", path.display()))
}

fn systemctl(arguments: &[&str]) -> Result<(), Stop> {
    let shown = format!("systemctl --user {}", arguments.join(" "));
    let done = Command::new("systemctl").arg("--user").args(arguments).output();
    let done = done.map_err(|err| {
        Stop::failed(format_args!("cannot run `{shown}`: {err}"))
            .hint("without systemd, `sess daemon start` starts the daemon")
    })?;
    if done.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&done.stderr);
    Err(Stop::failed(format_args!("`{shown}`: {}", words.trim())).hint(
        "a session of systemd's user manager is needed: `loginctl enable-linger` on a server",
    ))
}
