//! What does the document `providers` say? Strict: a member nobody reads is a mistake worth telling.

use std::collections::BTreeMap;

use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The most providers that a document may name.
pub(crate) const PROVIDERS_MAX: usize = 256;
/// The longest name of a provider.
pub(crate) const NAME_BYTES_MAX: usize = 64;
/// The longest deadline that can be set: a day.
pub(crate) const DEADLINE_MS_MAX: u64 = 24 * 60 * 60 * 1_000;

/// The largest window that can be set.
const WINDOW_TOKENS_MAX: u64 = 1_000_000_000;

/// One provider of the document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// Which protocol it speaks.
    pub kind: Kind,
    /// Where it is, up to and without `/chat/completions`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// The environment variable that holds the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_env: Option<String>,
    /// The stored credential that holds the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    /// Sent with every request; they win over what the daemon would send.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The models to list. Others are tried as they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// How long to wait.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// What its models cost: kept for the pricing, which alone knows its members.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub prices: Map<String, Value>,
    /// How many tokens its models can read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub windows: BTreeMap<String, u64>,
}

impl Provider {
    /// Whose models these are, by the name in the tables of what makers say. Somebody else's address has
    /// somebody else's prices, and somebody else's model may go by a maker's name.
    pub(super) fn maker(&self) -> Option<&'static str> {
        match self.kind {
            _ if self.base_url.is_some() => None,
            Kind::Openai | Kind::OpenaiResponses => Some("openai"),
            Kind::Anthropic => Some("anthropic"),
            Kind::Gemini => Some("gemini"),
            Kind::Ollama | Kind::Echo | Kind::Acp => None,
        }
    }
}

/// The protocol that a provider speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// OpenAI's chat completions, spoken by many.
    Openai,
    /// OpenAI's responses.
    OpenaiResponses,
    /// Anthropic's messages.
    Anthropic,
    /// Google's generateContent.
    Gemini,
    /// Ollama's own.
    Ollama,
    /// The built-in echo.
    Echo,
    /// An agent behind the Agent Client Protocol.
    Acp,
}

/// A provider's deadlines where they differ from the usual ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timeouts {
    /// Until the connection stands, name and TLS included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_ms: Option<u64>,
    /// From the request to the answer's first byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_byte_ms: Option<u64>,
    /// Between two parts of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_ms: Option<u64>,
    /// The whole call, all attempts included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_ms: Option<u64>,
}

/// What is wrong with a document, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`providers`: {0}")]
pub struct Wrong(String);

/// Reads the document.
pub fn parse(document: &Value) -> Result<BTreeMap<String, Provider>, Wrong> {
    let providers: BTreeMap<String, Provider> = serde_path_to_error::deserialize(document)
        .map_err(|err| Wrong(format!("`{}`: {}", err.path(), err.inner())))?;
    if providers.len() > PROVIDERS_MAX {
        return Err(Wrong(format!("{} are more than {PROVIDERS_MAX}", providers.len())));
    }
    for (name, provider) in &providers {
        check(name, provider).map_err(|what| Wrong(format!("`{name}`: {what}")))?;
    }
    Ok(providers)
}

fn check(name: &str, provider: &Provider) -> Result<(), String> {
    let plain = |it: char| !it.is_whitespace() && !it.is_control() && it != '/';
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(plain) {
        return Err(format!(
            "a name has 1 to {NAME_BYTES_MAX} bytes, without `/`, space and control characters"
        ));
    }
    if name == "echo" && provider.kind != Kind::Echo {
        return Err("this name is kept for the built-in `echo`; use another".to_owned());
    }
    if provider.api_key_env.is_some() && provider.credential.is_some() {
        return Err("`api_key_env` and `credential` exclude each other".to_owned());
    }
    if let Some(base_url) = &provider.base_url {
        base(base_url)?;
    }
    for (header, value) in &provider.headers {
        header_pair(header, value)?;
    }
    if provider.models.iter().any(String::is_empty) {
        return Err("`models` holds an empty name".to_owned());
    }
    super::prices::parse(&provider.prices)?;
    if let Some((model, tokens)) =
        provider.windows.iter().find(|it| !(1..=WINDOW_TOKENS_MAX).contains(it.1))
    {
        return Err(format!("`windows` of `{model}`: {tokens} is not in 1 to {WINDOW_TOKENS_MAX}"));
    }
    let Timeouts { connect_ms, first_byte_ms, idle_ms, total_ms } = provider.timeouts;
    for deadline_ms in [connect_ms, first_byte_ms, idle_ms, total_ms].into_iter().flatten() {
        if deadline_ms == 0 || deadline_ms > DEADLINE_MS_MAX {
            return Err(format!("a timeout of {deadline_ms} ms is not in 1 to {DEADLINE_MS_MAX}"));
        }
    }
    Ok(())
}

/// Reads a base URL. Its text is not repeated on error where it could hold a password.
pub(super) fn base(base_url: &str) -> Result<Url, String> {
    let url = Url::parse(base_url).map_err(|err| format!("`base_url` is not a URL: {err}"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err("`base_url` must begin with `http://` or `https://`".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("`base_url` holds a user or password; use `api_key_env`".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("`base_url` cannot have `?` or `#`".to_owned());
    }
    Ok(url)
}

/// Reads a header. Its value may be a secret: it is never shown.
pub(super) fn header_pair(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), String> {
    let header = HeaderName::try_from(name).map_err(|_| format!("`{name}` is no header name"))?;
    if matches!(header.as_str(), "host" | "content-length" | "transfer-encoding" | "connection") {
        return Err(format!("the header `{name}` cannot be set"));
    }
    let mut value = HeaderValue::try_from(value)
        .map_err(|_| format!("the value of the header `{name}` has signs that no header can"))?;
    value.set_sensitive(true);
    Ok((header, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_whole_document_is_read() {
        let document = json!({
            "local": {"kind": "openai", "base_url": "http://127.0.0.1:8080/v1"},
            "router": {"kind": "openai", "base_url": "https://r.example/api/v1", "api_key_env": "R_KEY",
                "headers": {"X-Title": "t"}, "models": ["a/b"], "prices": {"a/b": {"input": "1", "output": 2}},
                "timeouts": {"connect_ms": 1, "first_byte_ms": 2, "idle_ms": 3, "total_ms": 4}},
            "claude": {"kind": "anthropic", "credential": "claude"},
            "two": {"kind": "openai_responses"}
        });
        let providers = parse(&document).unwrap();
        assert_eq!(providers.len(), 4);
        assert_eq!(providers["router"].timeouts.idle_ms, Some(3));
        assert_eq!(providers["two"].kind, Kind::OpenaiResponses);
        assert_eq!(parse(&json!({})).unwrap(), BTreeMap::new());
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let cases = [
            (json!([]), "map"),
            (json!({"a": {}}), "kind"),
            (json!({"a": {"kind": "openia"}}), "openia"),
            (json!({"a": {"kind": "openai", "baseurl": "x"}}), "baseurl"),
            (json!({"a": {"kind": "openai", "timeouts": {"idle": 3}}}), "a.timeouts"),
            (json!({"a": {"kind": "openai", "timeouts": {"idle_ms": 0}}}), "0 ms"),
            (json!({"a/b": {"kind": "openai"}}), "a/b"),
            (json!({"": {"kind": "openai"}}), "name"),
            (json!({"echo": {"kind": "openai"}}), "built-in"),
            (json!({"a": {"kind": "openai", "base_url": "ftp://x"}}), "http://"),
            (json!({"a": {"kind": "openai", "base_url": "localhost:80"}}), "http://"),
            (json!({"a": {"kind": "openai", "headers": {"a b": "x"}}}), "a b"),
            (json!({"a": {"kind": "openai", "headers": {"a": "x\n"}}}), "`a`"),
            (json!({"a": {"kind": "openai", "headers": {"Host": "x"}}}), "Host"),
            (json!({"a": {"kind": "openai", "api_key_env": "A", "credential": "b"}}), "exclude"),
        ];
        for (document, part) in cases {
            let message = parse(&document).unwrap_err().to_string();
            assert!(message.contains(part), "{document}: {message}");
        }
        let secret = json!({"a": {"kind": "openai", "base_url": "http://me:hush@x/"}});
        assert!(!parse(&secret).unwrap_err().to_string().contains("hush"));
    }
}
