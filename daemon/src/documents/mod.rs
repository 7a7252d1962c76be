//! The state store: named JSON documents, one owner, on disk before they are believed or told.
//!
//! Reading is from memory. A change waits for its turn, is judged, written to disk, then believed,
//! then told to followers, and runs to its end even if who asked has gone. People may edit the
//! files by hand: an edit is noticed before the next change and never written over unread.

mod edit;
mod file;
mod follow;
mod kind;

pub mod settings;
mod shared;

use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};
use sess_protocol::error::{Error, Kind as ErrorKind};
use sess_protocol::methods::{
    Empty, StateAllParams, StateAllResult, StateDocumentParams, StateParams, StateSetParams,
    StateValue,
};

use edit::Edit;
use shared::{Reread, Shared, no_workspace};

use crate::config::StartError;
use crate::folder::{Others, own_folder};

pub use file::{DOCUMENT_BYTES_MAX, KEY_BYTES_MAX, KEYS_MAX};
pub use follow::{Change, Follow};
pub use kind::ProvidersCheck;

pub use settings::Settings;
pub use shared::Notice;

/// The documents. Cheap to clone: all clones are the same store.
#[derive(Debug, Clone)]
pub struct Documents {
    shared: Arc<Shared>,
    /// Whose turn it is to change something. Held by the work itself, not by who asked for it.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Documents {
    /// Reads all documents from this folder, which is made where it is missing.
    ///
    /// What is not a JSON object is set aside under another name, with a notice. A document with a
    /// wrong value refuses the start and is left as it is: a person is editing it.
    pub fn open(folder: &Path, providers: ProvidersCheck) -> Result<Self, StartError> {
        own_folder(folder, Others::Look)?;
        file::remove_leftovers(folder)
            .map_err(|err| StartError::io(format!("folder `{}`", folder.display()), err))?;
        let shared = Shared::open(folder, providers)?;
        Ok(Self { shared: Arc::new(shared), turn: Arc::default() })
    }

    /// Judges the files without changing anything: what a person should know, or why the daemon
    /// would not start.
    pub fn check(folder: &Path, providers: ProvidersCheck) -> Result<Vec<Notice>, StartError> {
        shared::check(folder, providers)
    }

    /// Answers a document, or one key of it: null where nothing is set.
    pub fn get(&self, params: &StateParams) -> Result<StateValue, Error> {
        let index = self.shared.index(&params.document, params.workspace.as_deref())?;
        let whole = self.shared.value(index);
        let Some(key) = &params.key else { return Ok(StateValue { value: (*whole).clone() }) };
        self.shared.check_key_or_there(index, key)?;
        Ok(StateValue { value: whole.get(key).cloned().unwrap_or_default() })
    }

    /// Sets a document, or one key of it, and answers the value once it is on disk. A null member
    /// is removed: absent and null are the same.
    pub async fn set(&self, params: StateSetParams) -> Result<StateValue, Error> {
        let index = self.shared.index(&params.document, params.workspace.as_deref())?;
        let StateSetParams { key, value, .. } = params;
        let edit = Edit::new(key, value)?;
        let answer = edit.value();
        if let Edit::Member(key, _) = &edit {
            self.shared.check_key_or_there(index, key)?;
        }
        self.in_turn(move |shared| shared.change(index, edit)).await?;
        Ok(StateValue { value: answer })
    }

    /// Removes one key, or all of them. Nothing there is no error.
    pub async fn delete(&self, params: StateParams) -> Result<Empty, Error> {
        let index = self.shared.index(&params.document, params.workspace.as_deref())?;
        let edit = match params.key {
            Some(key) => {
                self.shared.check_key_or_there(index, &key)?;
                Edit::Member(key, Value::Null)
            }
            None => Edit::Whole(Map::new()),
        };
        self.in_turn(move |shared| shared.change(index, edit)).await?;
        Ok(Empty {})
    }

    /// Answers all documents, or one, by name.
    pub fn all(&self, params: &StateAllParams) -> Result<StateAllResult, Error> {
        let workspace = params.workspace.as_deref();
        no_workspace(workspace)?;
        let only = match &params.document {
            Some(name) => Some(self.shared.index(name, workspace)?),
            None => None,
        };
        let documents = (0..self.shared.kinds.len())
            .filter(|index| only.is_none_or(|it| it == *index))
            .map(|index| {
                let name = self.shared.kinds[index].name.to_owned();
                (name, (*self.shared.value(index)).clone())
            })
            .collect();
        Ok(StateAllResult { documents })
    }

    /// Reads a document's file again and answers what holds now. A file that cannot be is left as
    /// it is, and so is what held before.
    pub async fn load(&self, params: &StateDocumentParams) -> Result<StateValue, Error> {
        let index = self.shared.index(&params.document, params.workspace.as_deref())?;
        self.in_turn(move |shared| {
            shared.refresh(index, Reread::Always)?;
            Ok(StateValue { value: (*shared.value(index)).clone() })
        })
        .await
    }

    /// Answers when all that was asked for before is on disk.
    pub async fn save(&self, params: &StateDocumentParams) -> Result<Empty, Error> {
        self.shared.index(&params.document, params.workspace.as_deref())?;
        drop(self.turn.lock().await);
        Ok(Empty {})
    }

    /// Answers a document and all its changes from that moment on, none missing and none twice.
    pub fn subscribe(&self, params: &StateDocumentParams) -> Result<(StateValue, Follow), Error> {
        let index = self.shared.index(&params.document, params.workspace.as_deref())?;
        let (value, follow) = Follow::begin(&self.shared, index);
        Ok((StateValue { value: (*value).clone() }, follow))
    }

    /// The settings of this moment.
    #[must_use]
    pub fn settings(&self) -> Settings {
        Settings::new(self.known("settings"))
    }

    /// The providers of this moment: name to object.
    #[must_use]
    pub fn providers(&self) -> Arc<Value> {
        self.known("providers")
    }

    /// What a person should know about the documents, oldest first.
    #[must_use]
    pub fn notices(&self) -> Vec<Notice> {
        self.shared.notices()
    }

    fn known(&self, name: &str) -> Arc<Value> {
        let index = self.shared.kinds.iter().position(|it| it.name == name);
        self.shared.value(index.expect("the table has the documents that the daemon itself reads"))
    }

    /// Does work that touches the disk, one after the other.
    async fn in_turn<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Shared) -> Result<T, Error> + Send + 'static,
    {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let shared = Arc::clone(&self.shared);
        let done = tokio::task::spawn_blocking(move || {
            // Who asked may vanish at any await; the turn ends with the work nevertheless.
            let _turn = turn;
            work(&shared)
        });
        match done.await {
            Ok(result) => result,
            Err(err) => Err(Error::new(ErrorKind::Internal, format!("a document's change: {err}"))),
        }
    }
}

#[cfg(test)]
mod tests;
