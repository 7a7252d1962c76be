//! The state store: named JSON documents, one owner, on disk before they are believed or told.
//!
//! Reading is from memory. A change waits for its turn, is judged, written to disk, then believed,
//! then told to followers, and runs to its end even if who asked has gone. People may edit the
//! files by hand: an edit is noticed before the next change and never written over unread.

mod edit;
mod file;
mod follow;
#[cfg(feature = "fuzz")]
pub mod fuzz;
pub mod keep;
mod kind;
mod passphrase;
mod place;
mod secrets;

pub mod settings;
mod shared;
mod vault;

use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};
use sess_protocol::error::{Error, Kind as ErrorKind};
use sess_protocol::methods::{
    Empty, StateAllParams, StateAllResult, StateDocumentParams, StateParams, StateSetParams,
    StateValue,
};

use edit::Edit;
use place::Place;
use shared::{Shared, Why};
use vault::Vault;

use crate::config::StartError;
use crate::folder::{Others, own_folder};

pub use file::{DOCUMENT_BYTES_MAX, KEY_BYTES_MAX, KEYS_MAX};
pub use follow::{Change, Follow};
pub use kind::{ProvidersCheck, SESSIONS};

pub use secrets::Oauth;
pub use settings::Settings;
pub use shared::Notice;
pub use vault::KeyPlaces;

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
        Self::open_with(folder, providers, KeyPlaces::default())
    }

    /// The same, and can keep credentials with a key from one of these places.
    pub fn open_with(
        folder: &Path,
        providers: ProvidersCheck,
        keys: KeyPlaces,
    ) -> Result<Self, StartError> {
        own_folder(folder, Others::Look)?;
        file::remove_leftovers(folder)
            .map_err(|err| StartError::io(format!("folder `{}`", folder.display()), err))?;
        let shared = Shared::open(folder, providers, Vault::new(keys))?;
        Ok(Self { shared: Arc::new(shared), turn: Arc::default() })
    }

    /// Judges the files without changing anything: what a person should know, or why the daemon
    /// would not start.
    pub fn check(folder: &Path, providers: ProvidersCheck) -> Result<Vec<Notice>, StartError> {
        shared::check(folder, providers)
    }

    /// Answers a document, or one key of it: null where nothing is set.
    pub async fn get(&self, params: &StateParams) -> Result<StateValue, Error> {
        let place = self.shared.place(&params.document, named(&params.workspace))?;
        let whole = self.shown(&place).await?;
        let Some(key) = &params.key else { return Ok(StateValue { value: whole }) };
        self.shared.check_key_or_there(&place, key)?;
        Ok(StateValue { value: whole.get(key).cloned().unwrap_or_default() })
    }

    /// Sets a document, or one key of it, and answers the value once it is on disk. A null member
    /// is removed: absent and null are the same.
    pub async fn set(&self, params: StateSetParams) -> Result<StateValue, Error> {
        let place = self.shared.place(&params.document, named(&params.workspace))?;
        if self.shared.kinds[place.kind].is_sealed() {
            return self.set_credential(params).await;
        }
        let StateSetParams { key, value, .. } = params;
        secrets::check_not_hidden(&value)?;
        let edit = Edit::new(key, value)?;
        let answer = edit.value();
        if let Edit::Member(key, _) = &edit {
            self.shared.check_key_or_there(&place, key)?;
        }
        self.in_turn(move |shared| shared.change(&place, edit)).await?;
        let mut answer = answer;
        crate::redact::value(&mut answer);
        Ok(StateValue { value: answer })
    }

    /// Removes one key, or all of them. Nothing there is no error.
    pub async fn delete(&self, params: StateParams) -> Result<Empty, Error> {
        let place = self.shared.place(&params.document, named(&params.workspace))?;
        let edit = match params.key {
            Some(key) => {
                self.shared.check_key_or_there(&place, &key)?;
                Edit::Member(key, Value::Null)
            }
            None => Edit::Whole(Map::new()),
        };
        self.in_turn(move |shared| shared.change(&place, edit)).await?;
        Ok(Empty {})
    }

    /// Answers all documents of the user or of a workspace, or one, by name.
    pub async fn all(&self, params: &StateAllParams) -> Result<StateAllResult, Error> {
        let workspace = named(&params.workspace);
        let mut documents = Map::new();
        for kind in &self.shared.kinds {
            let asked = params.document.as_deref().is_none_or(|it| it == kind.name);
            if asked && (workspace.is_none() || kind.of_workspaces()) {
                let place = self.shared.place(kind.name, workspace)?;
                documents.insert(kind.name.to_owned(), self.shown(&place).await?);
            }
        }
        if let (Some(name), true) = (&params.document, documents.is_empty()) {
            self.shared.place(name, workspace)?;
        }
        let of_settings = params.document.as_deref() == Some("settings");
        let described = if of_settings { settings::described() } else { Map::new() };
        Ok(StateAllResult { documents, described })
    }

    /// Reads a document's file again and answers what holds now. A damaged file is set aside, one
    /// with a wrong value is left as it is; what held before stands in both cases.
    pub async fn load(&self, params: &StateDocumentParams) -> Result<StateValue, Error> {
        let place = self.shared.place(&params.document, named(&params.workspace))?;
        self.in_turn(move |shared| {
            shared.refresh(&place, Why::Load)?;
            let whole = shared.value(&place).unwrap_or_default();
            Ok(StateValue { value: shared.shown(&place, &whole) })
        })
        .await
    }

    /// Answers when all that was asked for before is on disk.
    pub async fn save(&self, params: &StateDocumentParams) -> Result<Empty, Error> {
        self.shared.place(&params.document, named(&params.workspace))?;
        drop(self.turn.lock().await);
        Ok(Empty {})
    }

    /// Answers a document and all its changes from that moment on, none missing and none twice.
    pub async fn subscribe(
        &self,
        params: &StateDocumentParams,
    ) -> Result<(StateValue, Follow), Error> {
        let place = self.shared.place(&params.document, named(&params.workspace))?;
        let shared = Arc::clone(&self.shared);
        let (value, follow) = self
            .in_turn(move |_| {
                shared.refresh(&place, Why::Look)?;
                Ok(Follow::begin(&shared, &place).expect("what has its turn is in memory"))
            })
            .await?;
        Ok((StateValue { value }, follow))
    }

    /// The settings of this moment.
    #[must_use]
    pub fn settings(&self) -> Settings {
        Settings::new(self.known("settings"))
    }

    /// The settings that hold in a workspace: its own over the user's. They come from the user's folder
    /// for it, never from a file inside of it: what is checked out there is not the user's word.
    pub async fn settings_of(&self, workspace: &str) -> Settings {
        let settings = self.settings();
        let Ok(place) = self.shared.place("settings", Some(workspace)) else { return settings };
        if self.shared.is_absent(&place) {
            return settings;
        }
        match self.whole(&place).await {
            Ok(own) => settings.under(own),
            Err(err) => {
                tracing::warn!(%err, workspace, "the settings of a workspace are passed over");
                settings
            }
        }
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

    /// The folder that the user's own lie in.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.shared.folder
    }

    /// The names of all documents that have a file.
    #[must_use]
    pub fn names(&self) -> Vec<&'static str> {
        self.shared.kinds.iter().map(|it| it.name).collect()
    }

    /// Whether a workspace can have this document.
    #[must_use]
    pub fn of_workspaces(&self, document: &str) -> bool {
        let kind = self.shared.kinds.iter().find(|it| it.name == document);
        document == SESSIONS || kind.is_some_and(|it| it.of_workspaces())
    }

    /// Goes up with each change of a document that holds.
    #[must_use]
    pub fn changed(&self) -> tokio::sync::watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    fn known(&self, name: &str) -> Arc<Value> {
        let index = self.shared.kinds.iter().position(|it| it.name == name);
        let index = index.expect("the table has the documents that the daemon itself reads");
        self.shared.value(&Place::own(index)).expect("the user's own are always in memory")
    }

    /// What clients see of a document now.
    async fn shown(&self, place: &Place) -> Result<Value, Error> {
        Ok(self.shared.shown(place, &*self.whole(place).await?))
    }

    /// A document as it is now, an edit by hand of this moment included.
    async fn whole(&self, place: &Place) -> Result<Arc<Value>, Error> {
        if let Some(whole) = self.shared.fresh(place) {
            return Ok(whole);
        }
        let place = place.clone();
        self.in_turn(move |shared| {
            shared.refresh(&place, Why::Look)?;
            Ok(shared.value(&place).unwrap_or_default())
        })
        .await
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

/// The workspace that params name.
fn named(workspace: &Option<Option<String>>) -> Option<&str> {
    workspace.as_ref()?.as_deref()
}

#[cfg(test)]
mod tests;
