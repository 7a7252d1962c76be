//! Where are the programs under test?

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The variable that names a directory of ready programs.
pub const BIN_DIR_VARIABLE: &str = "SESS_BIN_DIR";

/// The path of the program `name`.
///
/// It lies in the directory that `SESS_BIN_DIR` names. Without the variable it is the workspace's release
/// build, which is brought up to date once in each process that asks.
///
/// # Panics
/// When the workspace does not build, or has no such program: no test can go on from there.
pub fn bin(name: &str) -> PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    let path = DIRECTORY.get_or_init(directory).join(name);
    assert!(path.is_file(), "there is no program `{}`", path.display());
    path
}

/// Puts a copy of the program `name` into `folder`, by another process.
///
/// Were it written by this one, a child that another test has just forked, and that is not yet its own program,
/// would hold it open for writing for a moment, and the kernel would not start it (`ETXTBSY`).
///
/// # Panics
/// When it cannot be copied.
pub fn install(name: &str, folder: &Path) -> PathBuf {
    let path = folder.join(name);
    let status = Command::new("cp").arg(bin(name)).arg(&path).status();
    assert!(status.expect("cp can be run").success(), "`{}` is not copied", path.display());
    path
}

/// The root of the workspace: the directory of its `Cargo.toml`.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the workspace")
}

fn directory() -> PathBuf {
    if let Some(directory) = std::env::var_os(BIN_DIR_VARIABLE) {
        return PathBuf::from(directory);
    }
    let target = workspace().join("target");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--release", "--bins", "--quiet", "--target-dir"])
        .arg(&target)
        .current_dir(workspace())
        .status()
        .expect("cargo can be run");
    assert!(status.success(), "`cargo build --release --bins` ended with {status}");
    target.join("release")
}
