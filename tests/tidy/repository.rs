//! Which files are there, and what do they hold?

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::rust::Rust;

/// A file that git knows.
pub(crate) struct File {
    /// From the root of the repository, with `/`.
    pub(crate) path: String,
    /// Its bytes.
    pub(crate) bytes: u64,
    /// What it says, where it is text.
    pub(crate) text: Option<String>,
}

/// A file of Rust, split into what runs, what is said and what is only remarked.
pub(crate) struct RustFile {
    /// From the root of the repository.
    pub(crate) path: String,
    /// All of it.
    pub(crate) text: String,
    /// Its layers.
    pub(crate) rust: Rust,
}

impl RustFile {
    /// Whether the whole file is a test.
    pub(crate) fn is_test(&self) -> bool {
        self.path.starts_with("tests/")
            || self.path.contains("/tests/")
            || self.path.contains("/conformance/")
            || self.path.ends_with("/tests.rs")
    }
}

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package has a parent").to_owned()
}

/// Every file that git knows and that is there.
pub(crate) fn files() -> &'static [File] {
    static FILES: OnceLock<Vec<File>> = OnceLock::new();
    FILES.get_or_init(|| {
        // The tests may run as another user than the one who owns the folder.
        let listed = Command::new("git")
            .args(["-c", "safe.directory=*", "ls-files", "-z"])
            .current_dir(root())
            .output()
            .expect("git can be run");
        assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
        let names = String::from_utf8(listed.stdout).expect("names of files are UTF-8");
        let files: Vec<File> = names.split_terminator('\0').filter_map(read).collect();
        assert!(files.len() > 10, "git knows hardly any file");
        files
    })
}

fn read(path: &str) -> Option<File> {
    let bytes = std::fs::read(root().join(path)).ok()?;
    Some(File {
        path: path.to_owned(),
        bytes: bytes.len() as u64,
        text: String::from_utf8(bytes).ok(),
    })
}

/// Every file of Rust.
pub(crate) fn rust_files() -> &'static [RustFile] {
    static RUST: OnceLock<Vec<RustFile>> = OnceLock::new();
    RUST.get_or_init(|| {
        files()
            .iter()
            .filter(|it| Path::new(&it.path).extension().is_some_and(|it| it == "rs"))
            .map(|it| {
                let text = it.text.clone().unwrap_or_else(|| panic!("{} is not UTF-8", it.path));
                RustFile { path: it.path.clone(), rust: Rust::read(&text), text }
            })
            .collect()
    })
}

/// What the text file at `path` says.
pub(crate) fn text(path: &str) -> Option<&'static str> {
    files().iter().find(|it| it.path == path)?.text.as_deref()
}
