//! Which documents there are, and what may stand in each.

use serde_json::{Map, Value};
use sess_protocol::error::Error;

use super::file;
use super::settings::{SETTINGS, Whose, setting};
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
    /// Names that people choose, each with a sealed text.
    Sealed,
    /// What the daemon keeps up: these keys, each a text.
    Words(&'static [&'static str]),
}

/// The keys of `context`.
pub(super) const CONTEXT: &[&str] = &["workspace", "session", "mode"];
/// The longest value of `context`: a path.
const WORD_BYTES_MAX: usize = 4_096;
/// The document that says where models are asked.
const PROVIDERS: &str = "providers";
/// The document whose values are sealed.
pub(super) const CREDENTIALS: &str = "credentials";
/// What the daemon makes itself when it is asked, and nobody can set.
pub const SESSIONS: &str = "sessions";

/// Every document there is.
pub(super) fn kinds(providers: ProvidersCheck) -> Vec<Kind> {
    vec![
        Kind { name: "settings", shape: Shape::Settings },
        Kind { name: PROVIDERS, shape: Shape::Objects(providers) },
        Kind { name: CREDENTIALS, shape: Shape::Sealed },
        Kind { name: "mcp_servers", shape: Shape::Objects(mcp_servers) },
        Kind { name: "spaces", shape: Shape::Objects(anything) },
        Kind { name: "hooks", shape: Shape::Objects(anything) },
        Kind { name: "skills", shape: Shape::Objects(anything) },
        Kind { name: "context", shape: Shape::Words(CONTEXT) },
    ]
}

impl Kind {
    /// Judges what a client asks for. Strict in what it changes; what a person wrote into the
    /// file by hand and is not touched stays, known or not.
    pub(super) fn check_change(
        &self,
        whose: Whose,
        old: &Map<String, Value>,
        new: &Map<String, Value>,
    ) -> Result<(), Error> {
        if let Some(what) = file::beyond_limits(new) {
            return Err(Error::invalid("value", format!("`{}` is too large: {what}", self.name)));
        }
        for (key, value) in new.iter().filter(|(key, value)| old.get(*key) != Some(value)) {
            self.check_key(whose, key)?;
            self.check_value(key, value).map_err(|message| Error::invalid("value", message))?;
        }
        self.check_whole(new).map_err(|message| Error::invalid("value", message))
    }

    /// Judges what was read from the file: what a person is to be warned of, or why it cannot be.
    pub(super) fn check_file(
        &self,
        whose: Whose,
        members: &Map<String, Value>,
    ) -> Result<Vec<String>, String> {
        let mut warnings = Vec::new();
        for (key, value) in members {
            match self.check_key(whose, key) {
                Ok(()) => self.check_value(key, value)?,
                Err(err) if matches!(self.shape, Shape::Settings | Shape::Words(_)) => {
                    warnings.push(err.message().to_owned());
                }
                Err(err) => return Err(err.message().to_owned()),
            }
        }
        self.check_whole(members)?;
        Ok(warnings)
    }

    /// Whether a workspace may have a document of this kind. Where requests go and with which keys is
    /// the user's to say, whatever folder they work in.
    pub(super) fn of_workspaces(&self) -> bool {
        !self.is_sealed() && self.name != PROVIDERS
    }

    /// Whether its values go in and never come out.
    pub(super) fn is_sealed(&self) -> bool {
        matches!(self.shape, Shape::Sealed)
    }

    /// Whether there can be such a key.
    pub(super) fn check_key(&self, whose: Whose, key: &str) -> Result<(), Error> {
        match self.shape {
            Shape::Settings if let Some(setting) = setting(key) => setting.check_whose(whose),
            Shape::Settings => {
                let shown: String = key.chars().take(64).collect();
                let unknown = format!("there is no setting `{shown}`");
                Err(match nearest(key, SETTINGS.iter().map(|it| it.name)) {
                    Some(near) => Error::invalid("key", format!("{unknown}; is `{near}` meant?"))
                        .with("nearest", near),
                    None => Error::invalid("key", unknown),
                })
            }
            Shape::Words(keys) if keys.contains(&key) => Ok(()),
            Shape::Words(keys) => {
                let shown: String = key.chars().take(64).collect();
                let message = format!("`{}` has no `{shown}`; it has {keys:?}", self.name);
                Err(Error::invalid("key", message)
                    .with("nearest", nearest(key, keys.iter().copied())))
            }
            // A model is `<name>/<model>`, cut at the first slash.
            Shape::Objects(_) | Shape::Sealed
                if key.is_empty() || key.contains(['/', ' ']) || has_control(key) =>
            {
                let message = "a name here has no slash, space or control code and is not empty";
                Err(Error::invalid("key", message))
            }
            Shape::Objects(_) | Shape::Sealed => Ok(()),
        }
    }

    fn check_value(&self, key: &str, value: &Value) -> Result<(), String> {
        match self.shape {
            Shape::Settings => setting(key).map_or(Ok(()), |it| it.check(value)),
            Shape::Words(_) if value.as_str().is_some_and(|it| it.len() <= WORD_BYTES_MAX) => {
                Ok(())
            }
            Shape::Words(_) => Err(format!("`{key}` must be a text")),
            Shape::Sealed if value.is_string() => Ok(()),
            Shape::Sealed => Err(format!("`{key}` in `credentials` must be a sealed text")),
            Shape::Objects(_) if value.is_object() => Ok(()),
            Shape::Objects(_) => Err(format!("`{key}` in `{}` must be an object", self.name)),
        }
    }

    fn check_whole(&self, members: &Map<String, Value>) -> Result<(), String> {
        match self.shape {
            Shape::Settings | Shape::Words(_) | Shape::Sealed => Ok(()),
            Shape::Objects(check) => check(&Value::Object(members.clone())),
        }
    }
}

fn anything(_: &Value) -> Result<(), String> {
    Ok(())
}

/// A server is started by `command`, `args` and `env`, or reached by `url` and `headers`.
fn mcp_servers(document: &Value) -> Result<(), String> {
    for (name, server) in document.as_object().into_iter().flatten() {
        let text = |key: &str| server.get(key).is_some_and(Value::is_string);
        let texts = |key: &str| match server.get(key) {
            None => true,
            Some(Value::Array(list)) => list.iter().all(Value::is_string),
            Some(Value::Object(map)) => map.values().all(Value::is_string),
            Some(_) => false,
        };
        if text("command") == text("url") {
            return Err(format!("`{name}` needs `command` or `url`, one of them, as a text"));
        }
        if let Some(key) = ["args", "env", "headers"].into_iter().find(|key| !texts(key)) {
            return Err(format!("`{key}` of `{name}` must hold texts"));
        }
    }
    Ok(())
}

fn has_control(text: &str) -> bool {
    text.contains(char::is_control)
}
