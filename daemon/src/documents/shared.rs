//! What holds in each document, and the one way to change it: judge, write, believe, tell.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};
use sess_protocol::error::{Error, Kind as ErrorKind};
use tokio::sync::broadcast;

use super::edit::Edit;
use super::file::{self, DOCUMENT_BYTES_MAX, Found, Stamp, WriteError};
use super::follow::{self, Change};
use super::kind::{self, Kind, ProvidersCheck};
use crate::config::{Exit, StartError};
use crate::nearest::nearest;

/// The most notices that are kept for people to read.
const NOTICES_MAX: usize = 256;
const NO_PANIC: &str = "nothing panics while it holds the documents";

/// Something about a document that a person should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The document.
    pub document: &'static str,
    /// What happened, and where what was set aside is kept.
    pub message: String,
}

/// All documents.
#[derive(Debug)]
pub(super) struct Shared {
    folder: PathBuf,
    pub(super) kinds: Vec<Kind>,
    /// In the order of `kinds`. For look-ups; never held while the disk is touched.
    held: Mutex<Vec<Held>>,
    notices: Mutex<Vec<Notice>>,
}

/// What is known of one document.
#[derive(Debug)]
pub(super) struct Held {
    /// Always an object.
    pub(super) value: Arc<Value>,
    stamp: Option<Stamp>,
    pub(super) changes: broadcast::Sender<Arc<Change>>,
}

/// When a file is read again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reread {
    Always,
    IfEdited,
}

impl Shared {
    /// Reads all documents of a folder that is there.
    pub(super) fn open(folder: &Path, providers: ProvidersCheck) -> Result<Self, StartError> {
        let shared = Self {
            folder: folder.to_owned(),
            kinds: kind::kinds(providers),
            held: Mutex::new(Vec::new()),
            notices: Mutex::new(Vec::new()),
        };
        for kind in &shared.kinds {
            let (members, stamp) = shared.open_document(kind)?;
            let value = Arc::new(Value::Object(members));
            let changes = broadcast::channel(follow::CHANGES_MAX).0;
            shared.held().push(Held { value, stamp, changes });
        }
        Ok(shared)
    }

    pub(super) fn held(&self) -> MutexGuard<'_, Vec<Held>> {
        self.held.lock().expect(NO_PANIC)
    }

    pub(super) fn value(&self, index: usize) -> Arc<Value> {
        Arc::clone(&self.held()[index].value)
    }

    pub(super) fn index(&self, document: &str, workspace: Option<&str>) -> Result<usize, Error> {
        no_workspace(workspace)?;
        self.kinds.iter().position(|it| it.name == document).ok_or_else(|| {
            let err = Error::not_found("document", document);
            match nearest(document, self.kinds.iter().map(|it| it.name)) {
                Some(near) => err.with("nearest", near),
                None => err,
            }
        })
    }

    pub(super) fn notices(&self) -> Vec<Notice> {
        self.notices.lock().expect(NO_PANIC).clone()
    }

    /// Whether a client may speak of this key: it can be, or a person put it there.
    pub(super) fn check_key_or_there(&self, index: usize, key: &str) -> Result<(), Error> {
        if self.value(index).get(key).is_some() {
            return Ok(());
        }
        self.kinds[index].check_key(key)
    }

    fn notice(&self, document: &'static str, message: String) {
        tracing::warn!(document, message);
        let notice = Notice { document, message };
        let mut notices = self.notices.lock().expect(NO_PANIC);
        if notices.len() < NOTICES_MAX && !notices.contains(&notice) {
            notices.push(notice);
        }
    }

    fn open_document(
        &self,
        kind: &Kind,
    ) -> Result<(Map<String, Value>, Option<Stamp>), StartError> {
        let path = path_of(&self.folder, kind.name);
        match file::read(&path).map_err(|err| cannot_read(&path, &err))? {
            Found::Missing => Ok((Map::new(), None)),
            Found::Whole(members, stamp) => {
                let warnings =
                    kind.check_file(&members).map_err(|what| bad_settings(&path, &what))?;
                warnings.into_iter().for_each(|it| self.notice(kind.name, it));
                Ok((members, Some(stamp)))
            }
            Found::Damaged(what) => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let unix_ms = u64::try_from(since.as_millis()).unwrap_or(0);
                let kept = file::set_aside(&path, unix_ms).map_err(|err| {
                    StartError::io(format!("cannot set `{}` aside", path.display()), err)
                })?;
                let (path, kept) = (path.display(), kept.display());
                self.notice(kind.name, format!("`{path}` is damaged: {what}; kept as `{kept}`"));
                Ok((Map::new(), None))
            }
        }
    }

    /// Takes over what a person wrote into the file, if it can be.
    pub(super) fn refresh(&self, index: usize, reread: Reread) -> Result<(), Error> {
        let kind = &self.kinds[index];
        let path = path_of(&self.folder, kind.name);
        let unreadable = |what: &dyn std::fmt::Display| {
            let message = format!("`{}` cannot be read: {what}", path.display());
            Error::new(ErrorKind::Storage, message).hint("mend the file, then `state/load`")
        };
        let known = self.held()[index].stamp;
        let current = file::stamp(&path).map_err(|err| unreadable(&err))?;
        if reread == Reread::IfEdited && current == known {
            return Ok(());
        }
        let (members, stamp) = match file::read(&path).map_err(|err| unreadable(&err))? {
            Found::Missing => (Map::new(), None),
            Found::Damaged(what) => return Err(unreadable(&what)),
            Found::Whole(members, stamp) => (members, Some(stamp)),
        };
        let warnings = kind.check_file(&members).map_err(|what| {
            Error::invalid("document", format!("`{}`: {what}", path.display()))
                .hint("mend the file, then `state/load`")
        })?;
        warnings.into_iter().for_each(|it| self.notice(kind.name, it));
        self.believe(index, members, stamp, None);
        Ok(())
    }

    /// Judges, writes, believes, tells: in this order.
    pub(super) fn change(&self, index: usize, edit: Edit) -> Result<(), Error> {
        self.refresh(index, Reread::IfEdited)?;
        let kind = &self.kinds[index];
        let whole = self.value(index);
        let old = whole.as_object().expect("a document is an object");
        let (new, key) = edit.apply(old);
        kind.check_change(old, &new)?;
        let text = file::text(&new);
        if text.len() > DOCUMENT_BYTES_MAX {
            let message = format!(
                "`{}` would have {} bytes, {DOCUMENT_BYTES_MAX} are allowed",
                kind.name,
                text.len()
            );
            return Err(Error::invalid("value", message));
        }
        if new == *old {
            return Ok(());
        }
        let path = path_of(&self.folder, kind.name);
        let stamp = file::write(&path, &text).map_err(|err| match err {
            WriteError::Unchanged(err) => Error::new(
                ErrorKind::Storage,
                format!("`{}` was not written: {err}; nothing was changed", path.display()),
            ),
            // Not believed: the next change or `state/load` takes over what the file says.
            WriteError::Unknown(err) => Error::new(
                ErrorKind::OutcomeUnknown,
                format!("`{}` may or may not be on disk: {err}", path.display()),
            ),
        })?;
        self.believe(index, new, Some(stamp), key);
        Ok(())
    }

    /// Makes it what holds and tells it, in one step, so that a follower who begins now has either
    /// the value before and this change, or the value after.
    fn believe(
        &self,
        index: usize,
        members: Map<String, Value>,
        stamp: Option<Stamp>,
        key: Option<String>,
    ) {
        let mut documents = self.held();
        let held = &mut documents[index];
        held.stamp = stamp;
        let value = Value::Object(members);
        if *held.value == value {
            return;
        }
        let told = match &key {
            Some(key) => value.get(key).cloned().unwrap_or_default(),
            None => value.clone(),
        };
        held.value = Arc::new(value);
        let change = Change { document: self.kinds[index].name, key, value: told };
        // Nobody following is no error.
        drop(held.changes.send(Arc::new(change)));
    }
}

pub(super) fn no_workspace(workspace: Option<&str>) -> Result<(), Error> {
    match workspace {
        None => Ok(()),
        Some(_) => Err(Error::new(
            ErrorKind::Unsupported,
            "documents of a workspace are not supported; leave `workspace` out",
        )),
    }
}

fn path_of(folder: &Path, document: &str) -> PathBuf {
    folder.join(format!("{document}.json"))
}

fn cannot_read(path: &Path, err: &std::io::Error) -> StartError {
    StartError::io(format!("cannot read `{}`", path.display()), err)
}

fn bad_settings(path: &Path, what: &str) -> StartError {
    StartError::new(Exit::Settings, format!("`{}`: {what}", path.display()))
}

/// Judges the files of a folder without changing anything.
pub(super) fn check(folder: &Path, providers: ProvidersCheck) -> Result<Vec<Notice>, StartError> {
    let mut notices = Vec::new();
    for kind in kind::kinds(providers) {
        let path = path_of(folder, kind.name);
        match file::read(&path).map_err(|err| cannot_read(&path, &err))? {
            Found::Missing => {}
            Found::Damaged(what) => return Err(bad_settings(&path, &what)),
            Found::Whole(members, _) => {
                let warnings =
                    kind.check_file(&members).map_err(|what| bad_settings(&path, &what))?;
                notices.extend(
                    warnings.into_iter().map(|message| Notice { document: kind.name, message }),
                );
            }
        }
    }
    Ok(notices)
}
