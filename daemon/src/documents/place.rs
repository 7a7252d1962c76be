//! Where a document lies: the user's in the folder itself, a workspace's in a folder of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::settings::Whose;

/// Below this folder lie those of workspaces.
const WORKSPACES: &str = "workspaces";
/// Hex digits of the hash of a workspace's path in the name of its folder.
const HASH_DIGITS: usize = 16;
/// How much of the workspace's own name is in it, for people.
const NAME_CHARS_MAX: usize = 40;

/// Which document, and whose.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Place {
    /// Its place in the table of documents.
    pub(super) kind: usize,
    /// The path of the workspace that it belongs to; the user's own without.
    pub(super) workspace: Option<Arc<str>>,
}

impl Place {
    /// The user's own document.
    pub(super) fn own(kind: usize) -> Self {
        Self { kind, workspace: None }
    }

    /// Whose it is.
    pub(super) fn whose(&self) -> Whose {
        if self.workspace.is_some() { Whose::Workspace } else { Whose::User }
    }

    /// The folder that it lies in.
    pub(super) fn folder(&self, folder: &Path) -> PathBuf {
        match &self.workspace {
            None => folder.to_owned(),
            Some(path) => folder.join(WORKSPACES).join(folder_name(path)),
        }
    }
}

/// `<name>-<16 hex digits of SHA-256 of the path>`: readable, and never longer than a name may be.
fn folder_name(workspace: &str) -> String {
    let last = workspace.rsplit('/').find(|it| !it.is_empty()).unwrap_or("root");
    let plain = |it: char| if it.is_ascii_alphanumeric() || "._-".contains(it) { it } else { '_' };
    let name: String = last.chars().take(NAME_CHARS_MAX).map(plain).collect();
    let hash = Sha256::digest(workspace.as_bytes());
    let hex: String = hash.iter().take(HASH_DIGITS / 2).map(|it| format!("{it:02x}")).collect();
    format!("{name}-{hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_workspace_has_a_folder_of_its_own_with_a_name_that_can_be() {
        let long = format!("/{}", "x".repeat(4_000));
        let paths = ["/", "/a/b", "/c/b", "/a/..", "/a/\u{e9} \n", long.as_str()];
        let names: std::collections::BTreeSet<_> = paths.iter().map(|it| folder_name(it)).collect();
        assert_eq!(names.len(), paths.len());
        for name in names {
            assert!(name.len() <= 64 && !name.contains(['/', ' ', '\n']), "{name}");
        }
        assert!(folder_name("/a/b").starts_with("b-"));
    }
}
