//! Which model does a name like `openai/gpt-5` mean, and which are there?
//!
//! The settings say it, then the environment, and `echo/echo` is always there. Nothing is connected and
//! no client is built before a model is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::join_all;

use super::call::Remote;
use super::dialect::Dialect;
use super::echo::Echo;
use super::http::Site;
use super::oauth::Tokens;
use super::prices::Prices;
use super::retry::Policy;
use super::size::Windows;
use super::{Model, Reason};

pub use super::settings::{Kind, Provider, Timeouts, Wrong, parse};

/// Providers that are there as soon as their key is: name, kind, the variable with the key, the variable
/// with another address, and the model that is asked when nobody names one. The first that can be, is.
const KEYED: [(&str, Kind, &str, &str, &str); 3] = [
    ("anthropic", Kind::Anthropic, "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "claude-sonnet-5-5"),
    ("openai", Kind::Openai, "OPENAI_API_KEY", "OPENAI_BASE_URL", "gpt-5-mini"),
    ("gemini", Kind::Gemini, "GEMINI_API_KEY", "GEMINI_BASE_URL", "gemini-2.5-flash"),
];
/// The provider that needs no key, only a server on this machine, and where that is if not at its usual
/// address.
const LOCAL: &str = "ollama";
const LOCAL_HOST: &str = "OLLAMA_HOST";
const LOCAL_PORT: u16 = 11_434;

/// What is looked up for a stored credential: this, then its name.
pub const CREDENTIAL: &str = "credential ";

/// Looks up an environment variable, or a credential by the name behind [`CREDENTIAL`].
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
    tokens: Option<Arc<dyn Tokens>>,
    known: BTreeMap<String, Entry>,
    /// Those that the settings name.
    named: BTreeSet<String>,
    /// What servers on this machine said when they were last asked.
    local: Arc<Mutex<Found>>,
}

/// By provider: the models it has, or why it does not say.
type Found = BTreeMap<String, Result<Vec<String>, String>>;

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
        let nobody = Providers {
            environment,
            tokens: None,
            known: BTreeMap::new(),
            named: BTreeSet::new(),
            local: Arc::default(),
        };
        nobody.with(settings)
    }

    /// The same, with somebody who knows the tokens of credentials.
    #[must_use]
    pub fn with_tokens(self, tokens: Arc<dyn Tokens>) -> Self {
        Providers { tokens: Some(tokens), ..self }
    }

    /// The providers of other settings. Those that stay the same keep their connections.
    pub fn with(&self, mut settings: BTreeMap<String, Provider>) -> Self {
        let named = settings.keys().cloned().collect();
        settings.entry("echo".to_owned()).or_insert_with(|| plain(Kind::Echo));
        for (name, kind, key, base, _) in KEYED {
            if variable(&self.environment, key).is_some() {
                settings.entry(name.to_owned()).or_insert_with(|| Provider {
                    base_url: variable(&self.environment, base),
                    api_key_env: Some(key.to_owned()),
                    ..plain(kind)
                });
            }
        }
        settings.entry(LOCAL.to_owned()).or_insert_with(|| Provider {
            base_url: variable(&self.environment, LOCAL_HOST).map(|it| local_url(&it)),
            ..plain(Kind::Ollama)
        });
        let entry = |(name, provider): (String, Provider)| {
            let kept = self.known.get(&name).filter(|it| it.provider == provider);
            // What a credential holds may have changed.
            let kept = kept.filter(|_| provider.credential.is_none()).cloned();
            let made = || Entry { model: self.model(&provider), provider: provider.clone() };
            (name, kept.unwrap_or_else(made))
        };
        let known = settings.into_iter().map(entry).collect();
        Providers { known, named, ..self.clone() }
    }

    fn model(&self, provider: &Provider) -> Result<Arc<dyn Model>, Why> {
        match Dialect::of(provider.kind) {
            Some(dialect) => Ok(Arc::new(self.remote(provider, dialect)?)),
            None if provider.kind == Kind::Echo => Ok(Arc::new(Echo)),
            None => {
                let kind = serde_json::to_value(provider.kind).unwrap_or_default();
                Err(Why::Unsupported(format!("this version cannot speak kind {kind}")))
            }
        }
    }

    fn remote(&self, provider: &Provider, dialect: Dialect) -> Result<Remote, Why> {
        let credential = provider.credential.as_deref();
        let token = self.tokens.as_ref().zip(credential).filter(|(it, name)| it.is_token(name));
        let key = match token {
            Some(_) => None,
            None => self.key(provider, dialect)?,
        };
        let base_url = provider.base_url.as_deref().unwrap_or(dialect.usual_base());
        let mut site =
            Site::new(provider, dialect, base_url, key.as_deref()).map_err(Why::Settings)?;
        if let Some((tokens, name)) = token {
            site = site.with_token(Arc::clone(tokens), name);
        }
        let prices = Arc::new(Prices::new(provider));
        let windows = Windows::new(provider);
        Ok(Remote { site: Arc::new(site), policy: Policy::default(), prices, windows })
    }

    fn key(&self, provider: &Provider, dialect: Dialect) -> Result<Option<String>, Why> {
        let found = |name: &str, missing: &dyn Fn() -> String| {
            variable(&self.environment, name).ok_or_else(|| Why::Auth(missing()))
        };
        if let Some(name) = &provider.credential {
            let missing = || format!("`sess login {name}` was not done, or cannot be opened");
            return found(&format!("{CREDENTIAL}{name}"), &missing).map(Some);
        }
        // A maker's key is for the maker: another address gets a key only if the settings name one.
        let usual = dialect.usual_key().filter(|_| provider.base_url.is_none());
        let Some(name) = provider.api_key_env.as_deref().or(usual) else { return Ok(None) };
        found(name, &|| format!("`{name}` is not set in the daemon's environment")).map(Some)
    }

    /// Asks the servers that may be on this machine what they have. Without one it takes no time.
    pub async fn look(&self) {
        let asked = self.known.iter().filter_map(|(name, entry)| {
            let answer = entry.model.as_ref().ok()?.local()?;
            Some(async move { (name.clone(), answer.await) })
        });
        let answers: BTreeMap<_, _> = join_all(asked).await.into_iter().collect();
        *self.local.lock().unwrap_or_else(PoisonError::into_inner) = answers;
    }

    fn found(&self, provider: &str) -> Option<Result<Vec<String>, String>> {
        self.local.lock().unwrap_or_else(PoisonError::into_inner).get(provider).cloned()
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

    /// The model that is asked when nobody names one: the first that a provider of the settings lists,
    /// else that of a provider whose key is in the environment, else one of a server on this machine,
    /// else `echo/echo`.
    pub fn choice(&self) -> String {
        let able = |name: &str| self.known.get(name).filter(|it| it.model.is_ok());
        let listed = self.named.iter().find_map(|name| {
            able(name)?.provider.models.first().map(|model| format!("{name}/{model}"))
        });
        let keyed = || {
            KEYED.iter().find_map(|(name, kind, _, _, model)| {
                able(name).filter(|it| it.provider.kind == *kind)?;
                Some(format!("{name}/{model}"))
            })
        };
        let local = || {
            let found = self.found(LOCAL)?.ok()?;
            // A model that makes vectors has nothing to say.
            let talks = found.into_iter().find(|it| !it.contains("embed"))?;
            able(LOCAL).map(|_| format!("{LOCAL}/{talks}"))
        };
        listed.or_else(keyed).or_else(local).unwrap_or_else(|| "echo/echo".to_owned())
    }

    /// All models that are known by name, by provider, and whether they can be asked.
    pub fn list(&self) -> Vec<Listed> {
        let mut list = Vec::new();
        for (provider, entry) in &self.known {
            let found = self.found(provider);
            let absent = found.as_ref().and_then(|it| it.as_ref().err());
            let why_not =
                entry.model.as_ref().err().map(Why::to_string).or_else(|| absent.cloned());
            let line = |model: Option<&str>| Listed {
                name: model.map(|it| format!("{provider}/{it}")),
                provider: provider.clone(),
                why_not: why_not.clone(),
            };
            let usual = KEYED.iter().find(|it| it.0 == provider && it.1 == entry.provider.kind);
            match (&entry.provider.models[..], entry.provider.kind, found) {
                ([], Kind::Echo, _) => list.push(line(Some("echo"))),
                ([], _, Some(Ok(found))) if !found.is_empty() => {
                    list.extend(found.iter().map(|it| line(Some(it))));
                }
                ([], ..) => list.push(line(usual.map(|it| it.4))),
                (models, ..) => list.extend(models.iter().map(|it| line(Some(it)))),
            }
        }
        // What could be there and is not: the variable that would bring it.
        for (provider, _, key, _, model) in KEYED.iter().filter(|it| !self.known.contains_key(it.0))
        {
            list.push(Listed {
                name: Some(format!("{provider}/{model}")),
                provider: (*provider).to_owned(),
                why_not: Some(format!("`{key}` is not set in the daemon's environment")),
            });
        }
        list
    }
}

/// What `OLLAMA_HOST` means: a URL, or a host with or without its port. An address to listen on is asked
/// at this machine.
fn local_url(host: &str) -> String {
    let full = if host.contains("://") { host.to_owned() } else { format!("http://{host}") };
    let Ok(mut url) = reqwest::Url::parse(&full) else { return full };
    if url.host_str() == Some("0.0.0.0") && url.set_host(Some("127.0.0.1")).is_err() {
        return full;
    }
    if !host.contains("://") && url.port().is_none() && url.set_port(Some(LOCAL_PORT)).is_err() {
        return full;
    }
    url.to_string()
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
        windows: BTreeMap::new(),
    }
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
        assert_eq!(format!("{keyed:?}"), r#"{"echo", "ollama", "openai"}"#);
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
            "claude": {"kind": "acp", "models": ["opus"]},
            "stored": {"kind": "openai", "credential": "x"},
            "keyless": {"kind": "openai", "base_url": "https://h/v1", "api_key_env": "H_KEY"},
            "official": {"kind": "openai"},
            "local": {"kind": "openai", "base_url": "http://127.0.0.1:1/v1", "models": ["a", "b/c"]},
        });
        let all = providers(document, &[]);
        assert!(refusal(&all, "claude/opus").is_unsupported());
        assert!(refusal(&all, "claude/opus").to_string().contains("\"acp\""));
        assert!(refusal(&all, "stored/x").to_string().contains("sess login x"));
        assert_eq!(refusal(&all, "keyless/x").reason(), Some(Reason::Auth));
        assert!(refusal(&all, "official/x").to_string().contains("`OPENAI_API_KEY`"));
        assert!(all.find("local/whatever").is_ok());
        let lines = all.list().into_iter().filter(|it| it.provider != LOCAL);
        let lines: Vec<_> = lines.map(|it| (it.name, it.why_not.is_none())).collect();
        let name = |name: &str| Some(name.to_owned());
        let want = [
            (name("claude/opus"), false),
            (name("echo/echo"), true),
            (None, false),
            (name("local/a"), true),
            (name("local/b/c"), true),
            (None, false),
            (None, false),
            (name("anthropic/claude-sonnet-5-5"), false),
            (name("openai/gpt-5-mini"), false),
            (name("gemini/gemini-2.5-flash"), false),
        ];
        assert_eq!(lines, want);
    }

    #[test]
    fn the_choice_goes_by_settings_then_keys_then_what_is_local() {
        const ALL: &[(&str, &str)] =
            &[("GEMINI_API_KEY", "g"), ("OPENAI_API_KEY", "o"), ("ANTHROPIC_API_KEY", "a")];
        let listed = json!({"mine": {"kind": "openai", "base_url": "http://h/", "models": ["m"]}});
        assert_eq!(providers(listed, ALL).choice(), "mine/m");
        assert_eq!(providers(json!({}), ALL).choice(), "anthropic/claude-sonnet-5-5");
        assert_eq!(providers(json!({}), &ALL[..2]).choice(), "openai/gpt-5-mini");
        assert_eq!(providers(json!({}), &ALL[..1]).choice(), "gemini/gemini-2.5-flash");
        let local = providers(json!({}), &[]);
        assert_eq!(local.choice(), "echo/echo");
        let found = vec!["nomic-embed".to_owned(), "llama:8b".to_owned()];
        local.local.lock().unwrap().insert(LOCAL.to_owned(), Ok(found));
        assert_eq!(local.choice(), "ollama/llama:8b");
        local.local.lock().unwrap().insert(LOCAL.to_owned(), Err("not there".to_owned()));
        assert_eq!(local.choice(), "echo/echo");
    }

    #[test]
    fn a_local_host_is_written_in_many_ways() {
        for (host, url) in [
            ("0.0.0.0", "http://127.0.0.1:11434/"),
            ("box:99", "http://box:99/"),
            ("https://box", "https://box/"),
            ("127.0.0.1", "http://127.0.0.1:11434/"),
        ] {
            assert_eq!(local_url(host), url);
        }
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
