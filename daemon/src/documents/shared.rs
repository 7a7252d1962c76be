//! What holds in each document, and the one way to change it: judge, write, believe, tell.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};
use sess_protocol::error::{Error, Kind as ErrorKind};
use tokio::sync::{broadcast, watch};

use super::edit::Edit;
use super::file::{self, DOCUMENT_BYTES_MAX, Found, Stamp, WriteError};
use super::follow::{self, Change};
use super::kind::{self, Kind, ProvidersCheck};
use super::place::Place;
use super::settings::Whose;
use super::vault::Vault;
use crate::config::{Exit, StartError};
use crate::folder::{Others, own_folder};
use crate::nearest::nearest;

/// The most notices that are kept for people to read.
const NOTICES_MAX: usize = 256;
/// The most documents in memory. Beyond it, those of workspaces that nobody follows leave.
const HELD_MAX: usize = 512;
/// How often, and how far apart, a file that is no JSON is looked at again: an editor may be in the
/// middle of writing it.
const LOOKS_AGAIN: u32 = 3;
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(20);
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
    pub(super) folder: PathBuf,
    pub(super) kinds: Vec<Kind>,
    /// For look-ups; never held while the disk is touched.
    held: Mutex<HashMap<Place, Held>>,
    notices: Mutex<Vec<Notice>>,
    /// Goes up with each change that holds.
    pub(super) changed: watch::Sender<u64>,
    pub(super) vault: Vault,
}

/// What is known of one document.
#[derive(Debug)]
pub(super) struct Held {
    /// Always an object.
    pub(super) value: Arc<Value>,
    stamp: Option<Stamp>,
    /// The version of the file that cannot be: it is not read again and again.
    refused: Option<Stamp>,
    pub(super) changes: broadcast::Sender<Arc<Change>>,
}

impl Held {
    fn new(members: Map<String, Value>, stamp: Option<Stamp>) -> Self {
        let changes = broadcast::channel(follow::CHANGES_MAX).0;
        Self { value: Arc::new(Value::Object(members)), stamp, refused: None, changes }
    }
}

/// Why a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// To answer what holds: a file that cannot be is told of, and what held before stands.
    Look,
    /// To change it: a file that cannot be refuses the change.
    Change,
    /// Because a person asked for it.
    Load,
}

impl Shared {
    /// Reads all documents of a folder that is there.
    pub(super) fn open(
        folder: &Path,
        providers: ProvidersCheck,
        vault: Vault,
    ) -> Result<Self, StartError> {
        let shared = Self {
            folder: folder.to_owned(),
            kinds: kind::kinds(providers),
            held: Mutex::default(),
            notices: Mutex::default(),
            changed: watch::Sender::new(0),
            vault,
        };
        for (index, kind) in shared.kinds.iter().enumerate() {
            let held = shared.open_document(kind)?;
            shared.held().insert(Place::own(index), held);
        }
        Ok(shared)
    }

    pub(super) fn held(&self) -> MutexGuard<'_, HashMap<Place, Held>> {
        self.held.lock().expect(NO_PANIC)
    }

    /// What holds, where it is in memory.
    pub(super) fn value(&self, place: &Place) -> Option<Arc<Value>> {
        self.held().get(place).map(|it| Arc::clone(&it.value))
    }

    fn held_value(&self, place: &Place) -> Arc<Value> {
        self.value(place).expect("what has its turn is in memory")
    }

    /// Whether there is none, and never was since it was looked for: most workspaces have no document.
    pub(super) fn is_absent(&self, place: &Place) -> bool {
        !self.held().contains_key(place) && matches!(file::stamp(&self.path(place)), Ok(None))
    }

    /// What holds, if it is in memory and the file is the one that was read.
    pub(super) fn fresh(&self, place: &Place) -> Option<Arc<Value>> {
        let current = file::stamp(&self.path(place)).ok()?;
        let held = self.held();
        let held = held.get(place)?;
        let known = held.stamp == current || (current.is_some() && held.refused == current);
        known.then(|| Arc::clone(&held.value))
    }

    pub(super) fn place(&self, document: &str, workspace: Option<&str>) -> Result<Place, Error> {
        let kind = self.kinds.iter().position(|it| it.name == document);
        let Some(kind) = kind else {
            let err = Error::not_found("document", document);
            let names = self.kinds.iter().map(|it| it.name).chain([kind::SESSIONS]);
            return Err(match nearest(document, names) {
                Some(near) => err.with("nearest", near),
                None => err,
            });
        };
        if workspace.is_some_and(|it| !it.starts_with('/')) {
            return Err(Error::invalid("workspace", "a workspace is named by an absolute path"));
        }
        if workspace.is_some() && !self.kinds[kind].of_workspaces() {
            let message = format!("`{document}` is the user's; leave `workspace` out");
            return Err(Error::invalid("workspace", message));
        }
        Ok(Place { kind, workspace: workspace.map(Into::into) })
    }

    pub(super) fn notices(&self) -> Vec<Notice> {
        self.notices.lock().expect(NO_PANIC).clone()
    }

    /// What clients see of a document: no secret.
    pub(super) fn shown(&self, place: &Place, whole: &Value) -> Value {
        if self.kind(place).is_sealed() {
            let names = whole.as_object().into_iter().flat_map(Map::keys);
            return names.map(|it| (it.clone(), json!({"set": true}))).collect();
        }
        let mut shown = whole.clone();
        crate::redact::value(&mut shown);
        shown
    }

    fn kind(&self, place: &Place) -> &Kind {
        &self.kinds[place.kind]
    }

    fn path(&self, place: &Place) -> PathBuf {
        path_of(&place.folder(&self.folder), self.kind(place).name)
    }

    /// Whether a client may speak of this key: it can be, or a person put it there.
    pub(super) fn check_key_or_there(&self, place: &Place, key: &str) -> Result<(), Error> {
        if self.value(place).is_some_and(|it| it.get(key).is_some()) {
            return Ok(());
        }
        self.kind(place).check_key(place.whose(), key)
    }

    pub(super) fn notice(&self, document: &'static str, message: String) {
        tracing::warn!(document, message);
        let notice = Notice { document, message };
        let mut notices = self.notices.lock().expect(NO_PANIC);
        if notices.len() < NOTICES_MAX && !notices.contains(&notice) {
            notices.push(notice);
        }
    }

    fn open_document(&self, kind: &Kind) -> Result<Held, StartError> {
        let path = path_of(&self.folder, kind.name);
        match read_settled(&path).map_err(|err| cannot_read(&path, &err))? {
            Found::Missing => Ok(Held::new(Map::new(), None)),
            Found::Whole(members, stamp) => {
                let warnings = kind
                    .check_file(Whose::User, &members)
                    .map_err(|what| bad_settings(&path, &what))?;
                warnings.into_iter().for_each(|it| self.notice(kind.name, it));
                Ok(Held::new(members, Some(stamp)))
            }
            Found::Damaged(what) => {
                self.set_aside(kind, &path, &what).map_err(|err| {
                    StartError::io(format!("cannot set `{}` aside", path.display()), err)
                })?;
                Ok(Held::new(Map::new(), None))
            }
        }
    }

    /// Keeps a damaged file under another name, and says so.
    fn set_aside(&self, kind: &Kind, path: &Path, what: &str) -> std::io::Result<String> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unix_ms = u64::try_from(since.as_millis()).unwrap_or(0);
        let kept = file::set_aside(path, unix_ms)?;
        let (path, kept) = (path.display(), kept.display());
        let message = format!("`{path}` is damaged: {what}; kept as `{kept}`");
        self.notice(kind.name, message.clone());
        Ok(message)
    }

    /// Makes room for a document that is not in memory.
    fn hold(&self, place: &Place) {
        if self.held().contains_key(place) {
            return;
        }
        // Whoever wrote here before may have died in the middle.
        let _ = file::remove_leftovers(&place.folder(&self.folder));
        let mut held = self.held();
        if held.len() >= HELD_MAX {
            held.retain(|place, it| place.workspace.is_none() || it.changes.receiver_count() > 0);
        }
        held.insert(place.clone(), Held::new(Map::new(), None));
    }

    /// Takes over what a person wrote into the file, if it can be.
    pub(super) fn refresh(&self, place: &Place, why: Why) -> Result<(), Error> {
        self.hold(place);
        let (kind, path) = (self.kind(place), self.path(place));
        let unreadable = |what: &dyn std::fmt::Display| {
            let message = format!("`{}` cannot be read: {what}", path.display());
            Error::new(ErrorKind::Storage, message).hint("mend the file, then `state/load`")
        };
        let current = file::stamp(&path).map_err(|err| unreadable(&err))?;
        let (known, refused) = {
            let held = self.held();
            let held = &held[place];
            (held.stamp, held.refused)
        };
        let old_trouble = why == Why::Look && current.is_some() && current == refused;
        if why != Why::Load && (current == known || old_trouble) {
            return Ok(());
        }
        let read = if why == Why::Look { file::read } else { read_settled };
        let (members, stamp) = match read(&path).map_err(|err| unreadable(&err))? {
            Found::Missing => (Map::new(), None),
            // Its writer may be at it right now: it is looked at again by the next who reads.
            Found::Damaged(_) if why == Why::Look && current.is_some_and(|it| it.is_new()) => {
                return Ok(());
            }
            Found::Damaged(what) if why == Why::Look => {
                self.refuse(place, current, &format!("`{}` is damaged: {what}", path.display()));
                return Ok(());
            }
            Found::Damaged(what) => return Err(self.mend(place, &what)),
            Found::Whole(members, stamp) => (members, Some(stamp)),
        };
        match kind.check_file(place.whose(), &members) {
            Ok(warnings) => warnings.into_iter().for_each(|it| self.notice(kind.name, it)),
            Err(what) if why == Why::Look => {
                self.refuse(place, stamp, &format!("`{}`: {what}", path.display()));
                return Ok(());
            }
            Err(what) => {
                return Err(Error::invalid("document", format!("`{}`: {what}", path.display()))
                    .hint("mend the file, then `state/load`"));
            }
        }
        self.believe(place, members, stamp, None);
        Ok(())
    }

    /// Leaves a file that cannot be to the person who writes it, and says so.
    fn refuse(&self, place: &Place, stamp: Option<Stamp>, what: &str) {
        if let Some(held) = self.held().get_mut(place) {
            held.refused = stamp;
        }
        self.notice(self.kind(place).name, format!("{what}; what held before stands"));
    }

    /// Sets a damaged file aside, puts what held before in its place, and answers what happened.
    fn mend(&self, place: &Place, what: &str) -> Error {
        let (kind, path) = (self.kind(place), self.path(place));
        let storage = |message: String| Error::new(ErrorKind::Storage, message);
        let message = match self.set_aside(kind, &path, what) {
            Ok(message) => message,
            Err(err) => return storage(format!("cannot set `{}` aside: {err}", path.display())),
        };
        let value = self.held_value(place);
        let members = value.as_object().expect("a document is an object");
        let stamp = match members.is_empty() {
            true => Ok(None),
            false => file::write(&path, &file::text(members)).map(Some),
        };
        match stamp {
            Ok(stamp) => {
                if let Some(held) = self.held().get_mut(place) {
                    (held.stamp, held.refused) = (stamp, None);
                }
                storage(format!("{message}; what held before stands"))
                    .hint("look at what was kept, then ask again")
            }
            Err(WriteError::Unchanged(err) | WriteError::Unknown(err)) => {
                storage(format!("{message}; `{}` was not written anew: {err}", path.display()))
            }
        }
    }

    /// Judges, writes, believes, tells: in this order.
    pub(super) fn change(&self, place: &Place, edit: Edit) -> Result<(), Error> {
        self.refresh(place, Why::Change)?;
        let kind = self.kind(place);
        let whole = self.held_value(place);
        let old = whole.as_object().expect("a document is an object");
        let (new, key) = edit.apply(old);
        kind.check_change(place.whose(), old, &new)?;
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
        if place.workspace.is_some() {
            own_folder(&place.folder(&self.folder), Others::Look)
                .map_err(|err| Error::new(ErrorKind::Storage, err.to_string()))?;
        }
        let path = self.path(place);
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
        self.believe(place, new, Some(stamp), key);
        Ok(())
    }

    /// Makes it what holds and tells it, in one step, so that a follower who begins now has either
    /// the value before and this change, or the value after.
    fn believe(
        &self,
        place: &Place,
        members: Map<String, Value>,
        stamp: Option<Stamp>,
        key: Option<String>,
    ) {
        let mut documents = self.held();
        let held = documents.get_mut(place).expect("what has its turn is in memory");
        (held.stamp, held.refused) = (stamp, None);
        let value = Value::Object(members);
        if *held.value == value {
            return;
        }
        let kind = self.kind(place);
        let shown = self.shown(place, &value);
        let told = match &key {
            Some(key) => shown.get(key).cloned().unwrap_or_default(),
            None => shown,
        };
        held.value = Arc::new(value);
        let workspace = place.workspace.as_deref().map(str::to_owned);
        let change = Change { document: kind.name, key, value: told, workspace };
        // Nobody following is no error.
        drop(held.changes.send(Arc::new(change)));
        drop(documents);
        self.changed.send_modify(|it| *it += 1);
    }
}

/// Reads a file; one that is no JSON is looked at again, for its writer may not have ended.
fn read_settled(path: &Path) -> std::io::Result<Found> {
    let mut found = file::read(path)?;
    for _ in 0..LOOKS_AGAIN {
        if !matches!(found, Found::Damaged(_)) {
            break;
        }
        std::thread::sleep(LOOK_AGAIN_AFTER);
        found = file::read(path)?;
    }
    Ok(found)
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
                let warnings = kind
                    .check_file(Whose::User, &members)
                    .map_err(|what| bad_settings(&path, &what))?;
                notices.extend(
                    warnings.into_iter().map(|message| Notice { document: kind.name, message }),
                );
            }
        }
    }
    Ok(notices)
}
