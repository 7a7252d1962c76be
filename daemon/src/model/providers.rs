//! Which model does a name like `openai/gpt-5` mean, and which are there?
//!
//! The settings say it, then the environment, and `echo/echo` is always there. Nothing is connected and
//! no client is built before a model is asked.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::call::OpenAi;
use super::echo::Echo;
use super::http::Site;
use super::openai;
use super::retry::Policy;
use super::{Model, Reason};

pub use super::settings::{Kind, Provider, Timeouts, Wrong, parse};

/// Where OpenAI itself is.
const OPENAI_URL: &str = "https://api.openai.com/v1";
/// The model of OpenAI's that is asked when nobody names one.
const OPENAI_CHOICE: &str = "openai/gpt-5-mini";
/// What is looked up for a stored credential: this, then its name.
pub const CREDENTIAL: &str = "credential ";
const OPENAI_KEY: &str = "OPENAI_API_KEY";
const OPENAI_BASE: &str = "OPENAI_BASE_URL";

/// Looks up an environment variable.
pub type Environment = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Why a name leads to no model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The name is not `provider/model`.
    #[error("`{0}` names no model; write it as `provider/model`, for example `echo/echo`")]
    NotAName(String),
    /// No provider is called so.
    #[error("no provider is called `{provider}`; there are: {known}")]
    Unknown {
        /// What was asked for.
        provider: String,
        /// The names there are.
        known: String,
    },
    /// The provider is known and cannot be used.
    #[error("provider `{provider}` cannot be used: {why}")]
    Unavailable {
        /// Its name.
        provider: String,
        /// Why, and what to do about it.
        why: Why,
    },
}

/// Why a provider cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// This daemon does not know how.
    #[error("{0}")]
    Unsupported(String),
    /// Its key is missing or cannot be one.
    #[error("{0}")]
    Auth(String),
    /// Its settings make no sense.
    #[error("{0}")]
    Settings(String),
}

impl Refusal {
    /// The reason of the protocol's `model` error where that is what the refusal is: a missing key.
    /// All else is a mistake in the name or the settings, or `unsupported`.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Refusal::Unavailable { why: Why::Auth(_), .. } => Some(Reason::Auth),
            _ => None,
        }
    }

    /// Whether another version of the daemon could do it.
    pub fn is_unsupported(&self) -> bool {
        matches!(self, Refusal::Unavailable { why: Why::Unsupported(_), .. })
    }
}

/// A line of the list of models.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// `provider/model`; `None` where the provider lists none: any name is tried with it.
    pub name: Option<String>,
    /// The provider.
    pub provider: String,
    /// Why it cannot be asked; `None` if it can.
    pub why_not: Option<String>,
}

/// Every provider there is.
#[derive(Clone)]
pub struct Providers {
    environment: Environment,
    known: BTreeMap<String, Entry>,
}

#[derive(Clone)]
struct Entry {
    provider: Provider,
    model: Result<Arc<dyn Model>, Why>,
}

impl fmt::Debug for Providers {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names alone: what lies behind them holds keys.
        to.debug_set().entries(self.known.keys()).finish()
    }
}

impl Providers {
    /// The providers of these settings and this environment.
    pub fn new(settings: BTreeMap<String, Provider>, environment: Environment) -> Self {
        let nobody = Providers { environment, known: BTreeMap::new() };
        nobody.with(settings)
    }

    /// The providers of other settings. Those that stay the same keep their connections.
    pub fn with(&self, mut settings: BTreeMap<String, Provider>) -> Self {
        settings.entry("echo".to_owned()).or_insert_with(|| plain(Kind::Echo));
        if variable(&self.environment, OPENAI_KEY).is_some() {
            settings.entry("openai".to_owned()).or_insert_with(|| Provider {
                base_url: variable(&self.environment, OPENAI_BASE),
                api_key_env: Some(OPENAI_KEY.to_owned()),
                ..plain(Kind::Openai)
            });
        }
        let entry = |(name, provider): (String, Provider)| {
            let kept = self.known.get(&name).filter(|it| it.provider == provider);
            // What a credential holds may have changed.
            let kept = kept.filter(|_| provider.credential.is_none()).cloned();
            let made =
                || Entry { model: model(&provider, &self.environment), provider: provider.clone() };
            (name, kept.unwrap_or_else(made))
        };
        let known = settings.into_iter().map(entry).collect();
        Providers { environment: self.environment.clone(), known }
    }

    /// These providers and one more, whose model was made elsewhere.
    #[must_use]
    pub fn and(mut self, name: &str, model: Arc<dyn Model>) -> Self {
        let entry = Entry { provider: plain(Kind::Echo), model: Ok(model) };
        self.known.insert(name.to_owned(), entry);
        self
    }

    /// The model called `provider/model`, and the provider's own name for it.
    pub fn find(&self, name: &str) -> Result<(Arc<dyn Model>, String), Refusal> {
        let (provider, model) = name
            .split_once('/')
            .filter(|(provider, model)| !provider.is_empty() && !model.is_empty())
            .ok_or_else(|| Refusal::NotAName(name.to_owned()))?;
        let entry = self.known.get(provider).ok_or_else(|| Refusal::Unknown {
            provider: provider.to_owned(),
            known: self.known.keys().map(|it| format!("`{it}`")).collect::<Vec<_>>().join(", "),
        })?;
        match &entry.model {
            Ok(found) => Ok((found.clone(), model.to_owned())),
            Err(why) => {
                Err(Refusal::Unavailable { provider: provider.to_owned(), why: why.clone() })
            }
        }
    }

    /// The model that is asked when nobody names one: the first that a provider lists, else one of
    /// OpenAI's where its key is there, else `echo/echo`.
    pub fn choice(&self) -> String {
        let able = |(_, entry): &(&String, &Entry)| entry.model.is_ok();
        let listed = self.known.iter().filter(able).find_map(|(name, entry)| {
            entry.provider.models.first().map(|model| format!("{name}/{model}"))
        });
        let keyed = || {
            let openai = self.known.get("openai").filter(|it| it.model.is_ok());
            openai.map(|_| OPENAI_CHOICE.to_owned())
        };
        listed.or_else(keyed).unwrap_or_else(|| "echo/echo".to_owned())
    }

    /// All models that are listed, by provider, and whether they can be asked.
    pub fn list(&self) -> Vec<Listed> {
        let mut list = Vec::new();
        for (provider, entry) in &self.known {
            let why_not = entry.model.as_ref().err().map(Why::to_string);
            let line = |model: Option<&str>| Listed {
                name: model.map(|it| format!("{provider}/{it}")),
                provider: provider.clone(),
                why_not: why_not.clone(),
            };
            match (entry.provider.models.is_empty(), entry.provider.kind) {
                (false, _) => list.extend(entry.provider.models.iter().map(|it| line(Some(it)))),
                (true, Kind::Echo) => list.push(line(Some("echo"))),
                (true, _) => list.push(line(None)),
            }
        }
        list
    }
}

fn plain(kind: Kind) -> Provider {
    Provider {
        kind,
        base_url: None,
        api_key_env: None,
        credential: None,
        headers: BTreeMap::new(),
        models: Vec::new(),
        timeouts: Timeouts::default(),
        prices: serde_json::Map::new(),
    }
}

fn model(provider: &Provider, environment: &Environment) -> Result<Arc<dyn Model>, Why> {
    match provider.kind {
        Kind::Echo => Ok(Arc::new(Echo)),
        Kind::Openai => Ok(Arc::new(open_ai(provider, environment)?)),
        other => {
            let kind = serde_json::to_value(other).unwrap_or_default();
            Err(Why::Unsupported(format!("this version cannot speak kind {kind}")))
        }
    }
}

fn open_ai(provider: &Provider, environment: &Environment) -> Result<OpenAi, Why> {
    // OpenAI's key is for OpenAI: another address gets a key only if the settings name one.
    let named = provider.api_key_env.as_deref();
    let wanted = named.or_else(|| provider.base_url.is_none().then_some(OPENAI_KEY));
    let key = match wanted {
        _ if let Some(name) = &provider.credential => {
            let missing =
                || Why::Auth(format!("`sess login {name}` was not done, or cannot be opened"));
            Some(variable(environment, &format!("{CREDENTIAL}{name}")).ok_or_else(missing)?)
        }
        None => None,
        Some(name) => {
            let missing = || Why::Auth(format!("`{name}` is not set in the daemon's environment"));
            Some(variable(environment, name).ok_or_else(missing)?)
        }
    };
    let base_url = provider.base_url.as_deref().unwrap_or(OPENAI_URL);
    let site =
        Site::new(provider, base_url, openai::PATH, key.as_deref()).map_err(Why::Settings)?;
    Ok(OpenAi { site: Arc::new(site), policy: Policy::default() })
}

/// A variable's value; one that is set to nothing counts as not set.
fn variable(environment: &Environment, name: &str) -> Option<String> {
    environment(name).map(|it| it.trim().to_owned()).filter(|it| !it.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn providers(document: serde_json::Value, variables: &'static [(&str, &str)]) -> Providers {
        let environment = move |name: &str| {
            variables.iter().find(|(it, _)| *it == name).map(|(_, value)| (*value).to_owned())
        };
        Providers::new(parse(&document).unwrap(), Arc::new(environment))
    }

    fn refusal(providers: &Providers, name: &str) -> Refusal {
        providers.find(name).err().unwrap()
    }

    #[test]
    fn echo_is_always_there_and_openai_with_its_key() {
        let none = providers(json!({}), &[("OPENAI_API_KEY", " ")]);
        assert_eq!(none.find("echo/echo").unwrap().1, "echo");
        assert!(matches!(refusal(&none, "openai/gpt"), Refusal::Unknown { .. }));
        let keyed = providers(json!({}), &[("OPENAI_API_KEY", "sk-1")]);
        assert_eq!(keyed.find("openai/gpt/x").unwrap().1, "gpt/x");
        assert_eq!(format!("{keyed:?}"), r#"{"echo", "openai"}"#);
    }

    #[test]
    fn a_name_without_a_model_is_refused() {
        let none = providers(json!({}), &[]);
        for name in ["", "echo", "/x", "echo/", "/"] {
            assert_eq!(refusal(&none, name), Refusal::NotAName(name.to_owned()));
        }
        assert!(refusal(&none, "no/x").to_string().contains("`echo`"));
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        let document = json!({
            "claude": {"kind": "anthropic", "models": ["opus"]},
            "stored": {"kind": "openai", "credential": "x"},
            "keyless": {"kind": "openai", "base_url": "https://h/v1", "api_key_env": "H_KEY"},
            "official": {"kind": "openai"},
            "local": {"kind": "openai", "base_url": "http://127.0.0.1:1/v1", "models": ["a", "b/c"]},
        });
        let all = providers(document, &[]);
        assert!(refusal(&all, "claude/opus").is_unsupported());
        assert!(refusal(&all, "claude/opus").to_string().contains("\"anthropic\""));
        assert!(refusal(&all, "stored/x").to_string().contains("sess login x"));
        assert_eq!(refusal(&all, "keyless/x").reason(), Some(Reason::Auth));
        assert!(refusal(&all, "official/x").to_string().contains("`OPENAI_API_KEY`"));
        assert!(all.find("local/whatever").is_ok());
        let lines: Vec<_> =
            all.list().into_iter().map(|it| (it.name, it.why_not.is_none())).collect();
        let name = |name: &str| Some(name.to_owned());
        let want = [
            (name("claude/opus"), false),
            (name("echo/echo"), true),
            (None, false),
            (name("local/a"), true),
            (name("local/b/c"), true),
            (None, false),
            (None, false),
        ];
        assert_eq!(lines, want);
    }

    #[test]
    fn other_settings_keep_what_stays_the_same() {
        let document = json!({"a": {"kind": "openai", "base_url": "http://h/"},
            "b": {"kind": "openai", "base_url": "http://h/"}});
        let before = providers(document, &[]);
        let changed = json!({"a": {"kind": "openai", "base_url": "http://h/"},
            "b": {"kind": "openai", "base_url": "http://other/"}});
        let after = before.with(parse(&changed).unwrap());
        let same =
            |name: &str| Arc::ptr_eq(&before.find(name).unwrap().0, &after.find(name).unwrap().0);
        assert!(same("a/x") && !same("b/x"));
    }
}
