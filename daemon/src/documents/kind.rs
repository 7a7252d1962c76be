//! Which documents there are, and what may stand in each.

use serde_json::{Map, Value};
use sess_protocol::error::Error;

use super::file;
use super::settings::{SETTINGS, setting};
use crate::nearest::nearest;

/// Says what is wrong with the whole document `providers`, if anything is.
pub type ProvidersCheck = fn(&Value) -> Result<(), String>;

/// One document that the daemon keeps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    pub(super) name: &'static str,
    shape: Shape,
}

/// What a document's members are.
#[derive(Debug, Clone, Copy)]
enum Shape {
    /// Keys of the table of settings, each with its value.
    Settings,
    /// Names that people choose, each with an object; the whole is judged by the function.
    Objects(ProvidersCheck),
}

/// Every document there is.
pub(super) fn kinds(providers: ProvidersCheck) -> Vec<Kind> {
    vec![
        Kind { name: "settings", shape: Shape::Settings },
        Kind { name: "providers", shape: Shape::Objects(providers) },
    ]
}

impl Kind {
    /// Judges what a client asks for. Strict in what it changes; what a person wrote into the
    /// file by hand and is not touched stays, known or not.
    pub(super) fn check_change(
        &self,
        old: &Map<String, Value>,
        new: &Map<String, Value>,
    ) -> Result<(), Error> {
        if let Some(what) = file::beyond_limits(new) {
            return Err(Error::invalid("value", format!("`{}` is too large: {what}", self.name)));
        }
        for (key, value) in new.iter().filter(|(key, value)| old.get(*key) != Some(value)) {
            self.check_key(key)?;
            self.check_value(key, value).map_err(|message| Error::invalid("value", message))?;
        }
        self.check_whole(new).map_err(|message| Error::invalid("value", message))
    }

    /// Judges what was read from the file: what a person is to be warned of, or why it cannot be.
    pub(super) fn check_file(&self, members: &Map<String, Value>) -> Result<Vec<String>, String> {
        let mut warnings = Vec::new();
        for (key, value) in members {
            match self.check_key(key) {
                Ok(()) => self.check_value(key, value)?,
                Err(err) if matches!(self.shape, Shape::Settings) => {
                    warnings.push(err.message().to_owned());
                }
                Err(err) => return Err(err.message().to_owned()),
            }
        }
        self.check_whole(members)?;
        Ok(warnings)
    }

    /// Whether there can be such a key.
    pub(super) fn check_key(&self, key: &str) -> Result<(), Error> {
        match self.shape {
            Shape::Settings if setting(key).is_some() => Ok(()),
            Shape::Settings => {
                let shown: String = key.chars().take(64).collect();
                let unknown = format!("there is no setting `{shown}`");
                Err(match nearest(key, SETTINGS.iter().map(|it| it.name)) {
                    Some(near) => Error::invalid("key", format!("{unknown}; is `{near}` meant?"))
                        .with("nearest", near),
                    None => Error::invalid("key", unknown),
                })
            }
            // A model is `<name>/<model>`, cut at the first slash.
            Shape::Objects(_) if key.is_empty() || key.contains(['/', ' ']) || has_control(key) => {
                let message = "a name here has no slash, space or control code and is not empty";
                Err(Error::invalid("key", message))
            }
            Shape::Objects(_) => Ok(()),
        }
    }

    fn check_value(&self, key: &str, value: &Value) -> Result<(), String> {
        match self.shape {
            Shape::Settings => setting(key).map_or(Ok(()), |it| it.check(value)),
            Shape::Objects(_) if value.is_object() => Ok(()),
            Shape::Objects(_) => Err(format!("`{key}` in `{}` must be an object", self.name)),
        }
    }

    fn check_whole(&self, members: &Map<String, Value>) -> Result<(), String> {
        match self.shape {
            Shape::Settings => Ok(()),
            Shape::Objects(check) => check(&Value::Object(members.clone())),
        }
    }
}

fn has_control(text: &str) -> bool {
    text.contains(char::is_control)
}
