//! What a client wants changed in a document.

use serde_json::{Map, Value};
use sess_protocol::error::Error;

/// What is to be changed.
pub(super) enum Edit {
    Whole(Map<String, Value>),
    /// Null removes it.
    Member(String, Value),
}

impl Edit {
    pub(super) fn new(key: Option<String>, value: Value) -> Result<Self, Error> {
        match (key, value) {
            (Some(key), value) => Ok(Self::Member(key, value)),
            (None, Value::Object(mut members)) => {
                members.retain(|_, value| !value.is_null());
                Ok(Self::Whole(members))
            }
            (None, _) => Err(Error::invalid("value", "a whole document must be an object")),
        }
    }

    pub(super) fn value(&self) -> Value {
        match self {
            Self::Whole(members) => Value::Object(members.clone()),
            Self::Member(_, value) => value.clone(),
        }
    }

    /// The document after it, and the key to tell followers of.
    pub(super) fn apply(self, old: &Map<String, Value>) -> (Map<String, Value>, Option<String>) {
        match self {
            Self::Whole(members) => (members, None),
            Self::Member(key, value) => {
                let mut members = old.clone();
                match value {
                    Value::Null => drop(members.remove(&key)),
                    value => drop(members.insert(key.clone(), value)),
                }
                (members, Some(key))
            }
        }
    }
}
