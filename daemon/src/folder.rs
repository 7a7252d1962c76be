//! Which folders the daemon may keep its things in: its own user's, safe from everyone else.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use nix::unistd::geteuid;

use crate::config::{Exit, StartError};

/// The mode of the folders that the daemon makes.
const FOLDER_MODE: u32 = 0o700;

/// Who but the owner may do what in a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Others {
    /// Nothing at all. For the socket: whoever can reach it can act as the user.
    Nothing,
    /// Look, but not write: the files in it are each for the owner only, and people keep such a
    /// folder in places of their own, also behind a link.
    Look,
}

/// Makes the folder, with its parents, where it is missing, and refuses one that is not safe.
///
/// An existing folder is never changed: what is wrong with it is for a person to judge.
pub fn own_folder(path: &Path, others: Others) -> Result<(), StartError> {
    if fs::symlink_metadata(path).is_err_and(|err| err.kind() == std::io::ErrorKind::NotFound) {
        make(path).map_err(|err| {
            StartError::io(format!("cannot make folder `{}`", path.display()), err)
        })?;
    }
    let meta = match others {
        Others::Nothing => fs::symlink_metadata(path),
        Others::Look => fs::metadata(path),
    }
    .map_err(|err| StartError::io(format!("cannot look at folder `{}`", path.display()), err))?;
    match flaw(&meta, others) {
        None => own_place(path),
        Some(flaw) => {
            Err(StartError::new(Exit::Unsafe, format!("folder `{}` {flaw}", path.display())))
        }
    }
}

/// Refuses a folder below one in which anybody can put another in its place. Where the sticky bit keeps others
/// from that, as in `/tmp`, it is fine.
fn own_place(path: &Path) -> Result<(), StartError> {
    let real = fs::canonicalize(path)
        .map_err(|err| StartError::io(format!("folder `{}`", path.display()), err))?;
    for parent in real.ancestors().skip(1) {
        // What may not be looked at is not ours to judge; the folder itself was.
        let Ok(meta) = fs::metadata(parent) else { continue };
        if meta.mode() & 0o1002 == 0o002 && !crate::sabotage::is("any_parent") {
            let message = format!(
                "folder `{}` lies in `{}`, where everybody can replace it (mode {:o}); close that \
                 with `chmod o-w`, or name another",
                path.display(),
                parent.display(),
                meta.mode() & 0o7777
            );
            return Err(StartError::new(Exit::Unsafe, message));
        }
    }
    Ok(())
}

/// Makes the folder so that a power cut does not take it back with all that is put in it.
fn make(path: &Path) -> std::io::Result<()> {
    let made = path.ancestors().take_while(|it| !it.exists()).count();
    // Another starter may make it at the same time, which is no error.
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(path)?;
    for parent in path.ancestors().skip(1).take(made) {
        // A parent that may be written but not read cannot be synced; it is not ours then.
        if let Ok(parent) = fs::File::open(parent) {
            parent.sync_all()?;
        }
    }
    Ok(())
}

fn flaw(meta: &fs::Metadata, others: Others) -> Option<String> {
    let me = geteuid().as_raw();
    let forbidden = match others {
        Others::Nothing => 0o077,
        Others::Look => 0o022,
    };
    if meta.is_symlink() {
        Some("is a symbolic link; name the folder itself".to_owned())
    } else if !meta.is_dir() {
        Some("is not a folder".to_owned())
    } else if meta.uid() != me {
        Some(format!("belongs to uid {}, not to uid {me}", meta.uid()))
    } else if meta.mode() & forbidden != 0 {
        let mode = meta.mode() & 0o7777;
        Some(format!("is open to others (mode {mode:o}); close it with `chmod 700`"))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn refused(path: &Path, others: Others, words: &str) {
        let err = own_folder(path, others).unwrap_err();
        assert_eq!(err.exit, Exit::Unsafe, "{err}");
        assert!(err.to_string().contains(words), "{err}");
    }

    #[test]
    fn a_missing_folder_is_made_for_the_owner_only_with_its_parents() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("a/b");

        own_folder(&folder, Others::Nothing).unwrap();

        for path in [&folder, folder.parent().unwrap()] {
            assert_eq!(fs::metadata(path).unwrap().mode() & 0o7777, 0o700);
        }
        own_folder(&folder, Others::Nothing).unwrap();
    }

    #[test]
    fn a_folder_open_to_others_is_refused_and_not_changed() {
        let temp = tempfile::tempdir().unwrap();
        for (mode, nothing, look) in [
            (0o750, false, true),
            (0o701, false, true),
            (0o720, false, false),
            (0o1777, false, false),
        ] {
            fs::set_permissions(temp.path(), Permissions::from_mode(mode)).unwrap();
            assert_eq!(own_folder(temp.path(), Others::Nothing).is_ok(), nothing, "{mode:o}");
            assert_eq!(own_folder(temp.path(), Others::Look).is_ok(), look, "{mode:o}");
            assert_eq!(fs::metadata(temp.path()).unwrap().mode() & 0o7777, mode);
        }
    }

    #[test]
    fn a_link_and_a_file_are_no_folder() {
        let temp = tempfile::tempdir().unwrap();
        let link = temp.path().join("link");
        symlink(temp.path(), &link).unwrap();
        let file = temp.path().join("file");
        fs::write(&file, "").unwrap();

        refused(&link, Others::Nothing, "symbolic link");
        own_folder(&link, Others::Look).unwrap();
        refused(&file, Others::Nothing, "not a folder");
        let below = own_folder(&file.join("x"), Others::Look).unwrap_err();
        assert_eq!(below.exit, Exit::Io, "{below}");
    }
}
