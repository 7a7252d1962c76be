//! Where do the C tools come from? From `tests/faults/*.c`, compiled once per process by `cc`.

use anyhow::{Context, Result, anyhow, ensure};
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::OnceLock;

/// The compiled tools.
#[derive(Debug)]
pub struct Tools {
    /// Preloaded: records storage calls and what clients are told.
    pub record: PathBuf,
    /// Preloaded: makes chosen storage calls fail.
    pub shim: PathBuf,
    /// A program: cuts the power of a mounted ext4 file system; `powercut MOUNT_POINT`.
    pub powercut: PathBuf,
}

impl Tools {
    /// The tools, built at the first call of this process.
    pub fn built() -> Result<&'static Self> {
        static BUILT: OnceLock<Result<Tools, String>> = OnceLock::new();
        BUILT
            .get_or_init(|| Self::build().map_err(|err| format!("{err:#}")))
            .as_ref()
            .map_err(|err| anyhow!("{err}"))
    }

    fn build() -> Result<Self> {
        Ok(Self {
            record: compile("record.c", "record.so", &["-fPIC", "-shared"])?,
            shim: compile("shim.c", "shim.so", &["-fPIC", "-shared"])?,
            powercut: compile("powercut.c", "powercut", &[])?,
        })
    }

    /// Compiles another program of `tests/faults/` and says where it lies.
    pub fn program(source: &str) -> Result<PathBuf> {
        compile(source, source.trim_end_matches(".c"), &[])
    }
}

fn compile(source: &str, output: &str, flags: &[&str]) -> Result<PathBuf> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| tests.with_file_name("target"), PathBuf::from);
    let folder = std::path::absolute(target.join("faults"))?;
    std::fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    // Under a name of our own until it is whole: other processes may be running the last one.
    let unfinished = folder.join(format!("{output}.{}", process::id()));
    let result = Command::new("cc")
        .args(["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror"])
        .args(flags)
        .arg("-o")
        .arg(&unfinished)
        .arg(tests.join("faults").join(source))
        .args(["-ldl", "-lpthread"])
        .output()
        .context("running the C compiler `cc`")?;
    let errors = String::from_utf8_lossy(&result.stderr);
    ensure!(result.status.success(), "cc refused `{source}`:\n{errors}");
    let finished = folder.join(output);
    std::fs::rename(&unfinished, &finished)?;
    Ok(finished)
}
