//! What is built to be broken, and the suites that it is given to?

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;

use super::suite::{self, Found};
use super::table::Suite;
use crate::bins;
use crate::harness::daemon::SABOTAGE_VARIABLE;

/// The feature of the daemon with which promises can be broken.
const FEATURE: &str = "sess-daemon/sabotage";

/// The programs and the suites.
pub(super) struct Built {
    programs: PathBuf,
    suites: HashMap<Suite, PathBuf>,
}

impl Built {
    /// Builds all of it in the profile that this program has, and leaves the programs that were there.
    ///
    /// All packages are built together, as the tests are: for some of them alone, cargo would choose other
    /// features of what they depend on and build that again.
    pub(super) fn new() -> anyhow::Result<Built> {
        let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
        let programs =
            target.unwrap_or_else(|| bins::workspace().join("target")).join("sabotage-bin");
        std::fs::create_dir_all(&programs)?;
        let made = cargo(&["--bins", "--tests", "--features", FEATURE])?;
        for program in ["sessd", "sess", "sess-stub"] {
            copy(&executable(&made, program, false)?, &programs.join(program))?;
        }
        let found = |suite: Suite| anyhow::Ok((suite, executable(&made, suite.target(), true)?));
        let suites = Suite::ALL.into_iter().map(found).collect::<anyhow::Result<_>>()?;
        // The daemon that lies where people look for it keeps its promises again.
        cargo(&["--bins"])?;
        Ok(Built { programs, suites })
    }

    /// Runs tests of a suite, all of them if none is named, with one promise broken or none.
    pub(super) fn run(
        &self,
        suite: Suite,
        tests: &[String],
        broken: Option<&str>,
        time: Duration,
    ) -> anyhow::Result<Found> {
        let mut command = Command::new(&self.suites[&suite]);
        command
            .args(tests)
            .current_dir(bins::workspace().join(suite.package()))
            .env(bins::BIN_DIR_VARIABLE, &self.programs)
            .env("SESS_TENTH", "1")
            .env("RUST_BACKTRACE", "0")
            .env_remove(SABOTAGE_VARIABLE)
            .envs(broken.map(|it| (SABOTAGE_VARIABLE, it)));
        suite::run(command, time)
    }
}

/// Builds; what cargo says of what it made.
fn cargo(what: &[&str]) -> anyhow::Result<Vec<Value>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let release = if cfg!(debug_assertions) { None } else { Some("--release") };
    let output = Command::new(cargo)
        .args(["build", "--locked", "--quiet", "--workspace"])
        .args(["--message-format", "json-render-diagnostics"])
        .args(release)
        .args(what)
        .current_dir(bins::workspace())
        .stderr(Stdio::inherit())
        .output()
        .context("cargo can be run")?;
    ensure!(output.status.success(), "`cargo build` {what:?} ended with {}", output.status);
    let lines = output.stdout.split(|it| *it == b'\n').filter(|it| !it.is_empty());
    Ok(lines.filter_map(|it| serde_json::from_slice(it).ok()).collect())
}

/// The program of a target, or of its tests.
fn executable(made: &[Value], target: &str, is_test: bool) -> anyhow::Result<PathBuf> {
    let wanted = |it: &&Value| it["target"]["name"] == target && it["profile"]["test"] == is_test;
    let mut paths = made.iter().filter(wanted).filter_map(|it| it["executable"].as_str());
    paths.next().map(PathBuf::from).with_context(|| format!("cargo made no `{target}`"))
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    // One that still runs from an earlier time cannot be written to, but can be replaced.
    let _ = std::fs::remove_file(to);
    std::fs::copy(from, to).with_context(|| format!("copy `{}`", from.display()))?;
    Ok(())
}
