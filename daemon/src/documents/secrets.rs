//! Credentials as their users need them, and all that this daemon knows to be a secret.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sess_protocol::error::{Error, Kind as ErrorKind};
use zeroize::Zeroizing;

use super::kind::CREDENTIALS;
use super::{Documents, Edit, StateSetParams, StateValue};
use crate::redact::REDACTED;

/// The longest credential.
const CREDENTIAL_BYTES_MAX: usize = 16 * 1024;
/// Variables that are looked for in the environment when no provider names them.
const USUAL: &[&str] = &[
    "OPENAI_API_KEY",
    "ANTHROPIC_API_KEY",
    "GEMINI_API_KEY",
    "GOOGLE_API_KEY",
    "OPENROUTER_API_KEY",
    "GITHUB_TOKEN",
    "GH_TOKEN",
];
/// A header with one of these words in its name holds a secret.
const SECRET_HEADERS: &[&str] = &["auth", "key", "token", "secret", "cookie", "password"];

/// What a credential is when it is opened.
#[derive(Deserialize)]
#[serde(untagged)]
enum Credential {
    Key(Zeroizing<String>),
    Oauth(Box<Oauth>),
}

/// A token of OAuth 2.0, and how it is renewed.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Oauth {
    /// The access token.
    pub access: Zeroizing<String>,
    /// What it is renewed with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh: Option<Zeroizing<String>>,
    /// Until when it is good, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
    /// Where it is renewed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_url: Option<String>,
    /// The name of the program that was let in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// That program's own secret, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<Zeroizing<String>>,
}

fn read(opened: &str) -> Option<Credential> {
    serde_json::from_str(opened).ok()
}

/// Judges a credential that is to be set. What is wrong never repeats it.
fn check(value: &Value) -> Result<(), Error> {
    let wrong = "a credential is a text, or `{access, refresh, expires_at, token_url, client_id}`";
    let credential = read(&value.to_string()).ok_or_else(|| Error::invalid("value", wrong))?;
    let secret = match &credential {
        Credential::Key(key) => key,
        Credential::Oauth(token) => &token.access,
    };
    if let Credential::Oauth(token) = &credential
        && let Some(url) = &token.token_url
    {
        crate::model::oauth::check_url(url).map_err(|why| Error::invalid("value", why))?;
    }
    if secret.trim().is_empty() || value.to_string().len() > CREDENTIAL_BYTES_MAX {
        let message = format!("a credential has 1 to {CREDENTIAL_BYTES_MAX} bytes");
        return Err(Error::invalid("value", message));
    }
    Ok(())
}

/// Refuses what was shown to a client in a secret's place: it would overwrite the secret.
pub(super) fn check_not_hidden(value: &Value) -> Result<(), Error> {
    let hidden = match value {
        Value::String(it) => it.contains(REDACTED),
        Value::Array(list) => return list.iter().try_for_each(check_not_hidden),
        Value::Object(map) => return map.values().try_for_each(check_not_hidden),
        _ => false,
    };
    if hidden {
        let message = format!("`{REDACTED}` stands for a secret that is not shown; write it anew");
        return Err(Error::invalid("value", message));
    }
    Ok(())
}

impl Documents {
    /// Seals a credential and keeps it; its value is not answered.
    pub(super) async fn set_credential(&self, params: StateSetParams) -> Result<StateValue, Error> {
        let place = self.shared.place(&params.document, super::named(&params.workspace))?;
        let Some(name) = params.key else {
            let message = "credentials are set one by one: name one by `key`";
            return Err(Error::invalid("key", message));
        };
        self.shared.check_key_or_there(&place, &name)?;
        let is_set = !params.value.is_null();
        if is_set {
            check(&params.value)?;
        }
        let plain = Zeroizing::new(params.value.to_string());
        let command = self.settings().key_command();
        self.in_turn(move |shared| {
            let sealed = match is_set {
                true => shared.vault.seal(&name, &plain, command).map(Value::String),
                false => Ok(Value::Null),
            };
            let sealed = sealed.map_err(|why| {
                Error::new(ErrorKind::Storage, format!("nothing was changed: {why}"))
            })?;
            shared.change(&place, Edit::Member(name, sealed))
        })
        .await?;
        Ok(StateValue { value: if is_set { json!({"set": true}) } else { Value::Null } })
    }

    fn open_credential(&self, name: &str) -> Option<Result<Credential, String>> {
        let document = self.known(CREDENTIALS);
        let sealed = document.get(name)?.as_str()?;
        let opened = self.shared.vault.open(name, sealed, self.settings().key_command());
        let odd = || format!("the credential `{name}` is of no kind that this version knows");
        Some(opened.and_then(|it| read(&it).ok_or_else(odd)))
    }

    /// The key that a credential holds; why it cannot be used, if it cannot. That of a token is what it
    /// was last.
    #[must_use]
    pub fn credential(&self, name: &str) -> Option<Result<Zeroizing<String>, String>> {
        let credential = self.open_credential(name)?;
        Some(credential.map(|it| match it {
            Credential::Key(key) => key,
            Credential::Oauth(token) => token.access,
        }))
    }

    /// The token that a credential holds, if it is one.
    #[must_use]
    pub fn oauth(&self, name: &str) -> Option<Result<Oauth, String>> {
        match self.open_credential(name)? {
            Ok(Credential::Key(_)) => None,
            Ok(Credential::Oauth(token)) => Some(Ok(*token)),
            Err(why) => Some(Err(why)),
        }
    }

    /// Keeps a token that was renewed.
    ///
    /// # Errors
    /// As of any change of a document.
    pub async fn keep_oauth(&self, name: &str, token: &Oauth) -> Result<(), Error> {
        let value = serde_json::to_value(token).expect("a token is plain JSON");
        let (document, key) = (CREDENTIALS.to_owned(), Some(name.to_owned()));
        let params = StateSetParams { document, key, value, workspace: None };
        self.set_credential(params).await.map(drop)
    }

    /// All that is known to be a secret: credentials, keys in the environment, headers of providers.
    #[must_use]
    pub fn secrets(&self, variable: impl Fn(&str) -> Option<String>) -> Vec<Zeroizing<String>> {
        let mut secrets = Vec::new();
        for name in self.known(CREDENTIALS).as_object().into_iter().flat_map(Map::keys) {
            match self.open_credential(name) {
                Some(Ok(Credential::Key(key))) => secrets.push(key),
                Some(Ok(Credential::Oauth(token))) => {
                    secrets.push(token.access);
                    secrets.extend(token.refresh);
                    secrets.extend(token.client_secret);
                }
                Some(Err(why)) => self.shared.notice(CREDENTIALS, why),
                None => {}
            }
        }
        let providers = self.providers();
        let servers = self.known("mcp_servers");
        let all = [&providers, &servers].into_iter().filter_map(|it| it.as_object());
        let mut names: Vec<&str> = USUAL.to_vec();
        for provider in all.flat_map(Map::values) {
            names.extend(provider.get("api_key_env").and_then(Value::as_str));
            for members in ["headers", "env"] {
                let members = provider.get(members).and_then(Value::as_object);
                for (name, value) in members.into_iter().flatten() {
                    let name = name.to_ascii_lowercase();
                    if !SECRET_HEADERS.iter().any(|it| name.contains(it)) {
                        continue;
                    }
                    // `Bearer KEY`: the key is the last word.
                    let words = value.as_str().unwrap_or_default().split_whitespace();
                    secrets.extend(words.last().map(|it| Zeroizing::new(it.to_owned())));
                }
            }
        }
        secrets.extend(names.into_iter().filter_map(variable).map(Zeroizing::new));
        secrets
    }
}
