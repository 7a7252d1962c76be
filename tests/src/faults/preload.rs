//! How is a program run under the recorder or with faults? By what these set in its environment.

use super::tools::Tools;
use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Records what a program does to its files and tells its clients.
#[derive(Debug)]
pub struct Recorder;

impl Recorder {
    /// Makes `command` write to `log` every change below `dir` (made if it does not exist) and
    /// every byte told to a client. Only the program itself is watched, not its children. A full
    /// log ends the program, so give it room: a copy of all that is written.
    pub fn command(command: &mut Command, dir: &Path, log: &Path) -> Result<()> {
        std::fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
        command.env("REC_DIR", dir.canonicalize()?);
        command.env("REC_LOG", std::path::absolute(log)?);
        preload_last(command, &Tools::built()?.record);
        Ok(())
    }
}

/// Storage calls that shall fail, lie, linger or be the last one.
///
/// A rule reads `call:part of the path:n-th:effect[:count]`, for example `fsync:-wal:5:EIO`,
/// `pwrite:-wal:7:SHORT`, `fsync::1:LOSE:-1`, `fsync:-wal:1:DELAY5:-1`; `tests/faults/shim.c` lists
/// calls and effects. A program given a rule that cannot be read ends with 2.
#[derive(Debug, Clone)]
pub struct Faults {
    rules: Vec<String>,
    fired: PathBuf,
}

/// One firing of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fired {
    /// The call's name, as in the rule.
    pub call: String,
    /// It was the n-th that fitted.
    pub nth: u64,
    /// The file's path.
    pub path: PathBuf,
    /// What was done, as in the rule.
    pub effect: String,
}

impl Faults {
    /// No faults yet; firings will be written to the file `fired`.
    pub fn new(fired: &Path) -> Self {
        Self { rules: Vec::new(), fired: fired.to_owned() }
    }

    /// Adds a rule.
    pub fn rule(mut self, rule: &str) -> Self {
        self.rules.push(rule.to_owned());
        self
    }

    /// Makes every fsync of a path with `part` in it take `ms` milliseconds longer: a slow disk.
    pub fn slow_fsync(self, part: &str, ms: u32) -> Self {
        self.rule(&format!("fsync:{part}:1:DELAY{ms}:-1"))
    }

    /// Makes `command` run with these faults. With a recorder too, it records what got through.
    pub fn command(&self, command: &mut Command) -> Result<()> {
        match std::fs::remove_file(&self.fired) {
            Err(err) if err.kind() != std::io::ErrorKind::NotFound => return Err(err.into()),
            _ => {}
        }
        command.env("FAULTS", self.rules.join(";"));
        command.env("FAULTS_LOG", std::path::absolute(&self.fired)?);
        preload_first(command, &Tools::built()?.shim);
        Ok(())
    }

    /// What has fired since [`Faults::command`]. Nothing: the sweep has passed the last call.
    pub fn fired(&self) -> Result<Vec<Fired>> {
        match std::fs::read_to_string(&self.fired) {
            Ok(text) => text.lines().map(read_fired).collect(),
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(err) => Err(err.into()),
        }
    }
}

fn read_fired(line: &str) -> Result<Fired> {
    let mut words = line.splitn(3, ' ');
    let (Some(call), Some(nth), Some(rest)) = (words.next(), words.next(), words.next()) else {
        bail!("not a firing: `{line}`");
    };
    let (path, effect) = rest.rsplit_once(' ').context("a firing without an effect")?;
    Ok(Fired { call: call.into(), nth: nth.parse()?, path: path.into(), effect: effect.into() })
}

// The shim must stand before the recorder: what it swallows must not be recorded.
fn preload_first(command: &mut Command, library: &Path) {
    set_preload(command, |rest| [library.as_os_str().to_owned()].into_iter().chain(rest).collect());
}

fn preload_last(command: &mut Command, library: &Path) {
    set_preload(command, |rest| rest.into_iter().chain([library.as_os_str().to_owned()]).collect());
}

fn set_preload(command: &mut Command, order: impl FnOnce(Option<OsString>) -> Vec<OsString>) {
    let before = command.get_envs().find(|(name, _)| *name == "LD_PRELOAD");
    let before = before.and_then(|(_, value)| value).map(ToOwned::to_owned);
    command.env("LD_PRELOAD", order(before).join(":".as_ref()));
}
