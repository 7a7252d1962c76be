//! Where is a provider, and how is it reached?
//!
//! One [`Site`] a provider: its address, headers and deadlines, and the one client that keeps its
//! connections, built at the first call so that a daemon that only echoes never pays for it.

use std::sync::{Arc, Once, OnceLock};
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, Method, Request, Url, redirect};
use zeroize::Zeroizing;

use super::dialect::Dialect;
use super::oauth::Tokens;
use super::settings::{Provider, Timeouts, base, header_pair};
use super::{ModelError, Prompt, Reason};

/// Until the connection stands, name and TLS included.
pub(crate) const CONNECT_MS: u64 = 10_000;
/// From the request to the answer's first byte: a long prompt on a slow machine takes its time.
pub(crate) const FIRST_BYTE_MS: u64 = 120_000;
/// Between two parts of an answer.
pub(crate) const IDLE_MS: u64 = 120_000;
/// The whole call, all attempts included.
pub(crate) const TOTAL_MS: u64 = 60 * 60 * 1_000;
/// Connections to one provider kept open while nobody uses them, and for how long.
const IDLE_CONNECTIONS_MAX: usize = 16;
const IDLE_CONNECTION_MS: u64 = 90_000;
/// The longest message that is passed on from a provider.
const MESSAGE_BYTES_MAX: usize = 2 * 1024;
/// A header value shorter than this is no secret, and hiding it would garble messages.
const SECRET_BYTES_MIN: usize = 8;

/// How long a call waits for what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadlines {
    pub(crate) connect: Duration,
    pub(crate) first_byte: Duration,
    pub(crate) idle: Duration,
    pub(crate) total: Duration,
}

impl From<Timeouts> for Deadlines {
    fn from(timeouts: Timeouts) -> Self {
        let ms = |set: Option<u64>, usual| Duration::from_millis(set.unwrap_or(usual));
        Deadlines {
            connect: ms(timeouts.connect_ms, CONNECT_MS),
            first_byte: ms(timeouts.first_byte_ms, FIRST_BYTE_MS),
            idle: ms(timeouts.idle_ms, IDLE_MS),
            total: ms(timeouts.total_ms, TOTAL_MS),
        }
    }
}

/// How a token is written into its header.
const BEARER: &str = "Bearer ";

/// One provider's address.
pub(crate) struct Site {
    pub(crate) dialect: Dialect,
    pub(crate) deadlines: Deadlines,
    /// Scheme, host and port: what may be shown.
    pub(crate) origin: String,
    url: Url,
    headers: HeaderMap,
    secrets: Vec<String>,
    client: OnceLock<Client>,
    /// The credential whose token goes into each request, if it has one.
    token: Option<(Arc<dyn Tokens>, String)>,
}

impl Site {
    /// The site of `provider`, asked beneath `base_url`. Says what is wrong, never the key.
    pub(crate) fn new(
        provider: &Provider,
        dialect: Dialect,
        base_url: &str,
        key: Option<&str>,
    ) -> Result<Site, String> {
        let mut url = base(base_url)?;
        let path = url.path().trim_end_matches('/').to_owned();
        let last = path.rsplit('/').next().unwrap_or_default();
        match dialect.versions() {
            [version, ..] if !dialect.versions().contains(&last) => {
                url.set_path(&format!("{path}/{version}"));
            }
            _ => url.set_path(&path),
        }
        let mut headers = HeaderMap::new();
        let mut secrets = Vec::new();
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream, application/json"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some((name, value)) = dialect.own_header() {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if let Some(key) = key {
            let (name, value) = dialect.key_header(key);
            let mut value = HeaderValue::try_from(value)
                .map_err(|_| "the key has signs that no header can".to_owned())?;
            value.set_sensitive(true);
            headers.insert(name, value);
            secrets.push(key.to_owned());
        }
        for (name, value) in &provider.headers {
            let (name, header) = header_pair(name, value)?;
            headers.insert(name, header);
            let bare = value.strip_prefix("Bearer ").unwrap_or(value);
            secrets.push(bare.to_owned());
        }
        secrets.retain(|it| it.len() >= SECRET_BYTES_MIN);
        // `ascii_serialization` would leave out a port that is the scheme's usual one, as wanted here.
        let origin = url.origin().ascii_serialization();
        let deadlines = provider.timeouts.into();
        let client = OnceLock::new();
        Ok(Site { dialect, deadlines, origin, url, headers, secrets, client, token: None })
    }

    /// With the token of this credential in each request.
    pub(crate) fn with_token(self, tokens: Arc<dyn Tokens>, credential: &str) -> Site {
        Site { token: Some((tokens, credential.to_owned())), ..self }
    }

    /// Whether a refusal may be because of a token that grew old.
    pub(crate) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Puts a token that is good now into a request, another than the one that it has.
    pub(crate) async fn authorize(&self, request: &mut Request) -> Result<(), ModelError> {
        let Some((tokens, credential)) = &self.token else { return Ok(()) };
        let refused = request.headers().get(AUTHORIZATION).and_then(|it| it.to_str().ok());
        let refused = refused.and_then(|it| it.strip_prefix(BEARER));
        let refused = refused.map(|it| Zeroizing::new(it.to_owned()));
        let wrong = |message: String| {
            let message = format!("`{}` is not asked: {message}", self.origin);
            ModelError { reason: Reason::Auth, message, retry_after_ms: None }
        };
        let access = tokens.access(credential.clone(), refused).await.map_err(wrong)?;
        let value = Zeroizing::new(format!("{BEARER}{}", access.as_str()));
        let mut value = HeaderValue::try_from(value.as_str())
            .map_err(|_| wrong("its token has signs that no header can".to_owned()))?;
        value.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, value);
        Ok(())
    }

    /// The client that keeps this site's connections.
    pub(crate) fn client(&self) -> Result<&Client, ModelError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let built = self.build().map_err(|err| ModelError {
            reason: Reason::Unavailable,
            message: format!("no client for `{}`: {}", self.origin, deepest(&err)),
            retry_after_ms: None,
        })?;
        Ok(self.client.get_or_init(|| built))
    }

    /// The request that asks this.
    pub(crate) fn question(&self, prompt: &Prompt) -> Request {
        let mut url = self.beneath(self.dialect.path(&prompt.model).iter().map(String::as_str));
        url.set_query(self.dialect.query());
        let mut request = Request::new(Method::POST, url);
        *request.headers_mut() = self.headers.clone();
        *request.body_mut() = Some(self.dialect.body(prompt).into());
        request
    }

    /// The request for what models there are.
    pub(crate) fn models(&self) -> Request {
        let mut request = Request::new(Method::GET, self.beneath([self.dialect.models_path()]));
        *request.headers_mut() = self.headers.clone();
        request
    }

    /// The request for what Ollama knows of a model.
    pub(crate) fn show(&self, model: &str) -> Request {
        let mut request = Request::new(Method::POST, self.beneath(["show"]));
        *request.headers_mut() = self.headers.clone();
        *request.body_mut() = Some(serde_json::json!({"model": model}).to_string().into());
        request
    }

    /// Where a connection to it goes, proxies aside.
    pub(crate) fn host_and_port(&self) -> (String, u16) {
        let host = self.url.host_str().unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        (bare.to_owned(), self.url.port_or_known_default().unwrap_or(80))
    }

    fn beneath<'a>(&self, segments: impl IntoIterator<Item = &'a str>) -> Url {
        let mut url = self.url.clone();
        url.path_segments_mut().expect("http has paths").pop_if_empty().extend(segments);
        url
    }

    /// A provider's words as they may be shown: bounded, and without this site's secrets.
    pub(crate) fn shown(&self, words: &str) -> String {
        let mut shown = words.trim().to_owned();
        for secret in &self.secrets {
            if shown.contains(secret.as_str()) {
                shown = shown.replace(secret.as_str(), "[key]");
            }
        }
        if shown.len() > MESSAGE_BYTES_MAX {
            shown.truncate(shown.floor_char_boundary(MESSAGE_BYTES_MAX));
            shown.push('…');
        }
        shown
    }

    fn build(&self) -> Result<Client, reqwest::Error> {
        client_for(&self.url, self.deadlines.connect)
    }
}

/// A client for what lies at this address.
pub(super) fn client_for(url: &Url, connect: Duration) -> Result<Client, reqwest::Error> {
    install_crypto();
    let mut builder = Client::builder()
        .user_agent(concat!("sess/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(connect)
        .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
        .pool_idle_timeout(Duration::from_millis(IDLE_CONNECTION_MS))
        // A redirected POST would carry prompt and key to where nobody meant them to go.
        .redirect(redirect::Policy::none());
    if is_loopback(url) {
        builder = builder.no_proxy();
        if url.scheme() == "http" {
            // Nothing here can end up at TLS: the system's certificates need not be read.
            builder = builder.tls_certs_only([]).http1_only();
        }
    }
    builder.build()
}

/// The client cannot be built without a crypto provider, even where it speaks no TLS.
fn install_crypto() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // An error says that this process already has one, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

pub(super) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<std::net::IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => {
            let name = bare.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
    }
}

/// The innermost cause: the outer layers only say that something failed.
pub(crate) fn deepest(err: &dyn std::error::Error) -> String {
    let mut cause = err;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::super::settings;
    use super::*;
    use serde_json::json;

    fn site(base_url: &str, key: Option<&str>) -> Site {
        site_of(Dialect::Completions, base_url, key)
    }

    fn site_of(dialect: Dialect, base_url: &str, key: Option<&str>) -> Site {
        let document =
            json!({"a": {"kind": "openai", "headers": {"x-two": "Bearer second-secret"}}});
        let providers = settings::parse(&document).unwrap();
        Site::new(&providers["a"], dialect, base_url, key).unwrap()
    }

    fn asked_at(site: &Site, model: &str) -> String {
        let prompt = Prompt { model: model.to_owned(), system: None, messages: Vec::new() };
        site.question(&prompt).url().to_string()
    }

    #[test]
    fn the_path_lies_beneath_the_base() {
        for base_url in ["http://h:8080/v1", "http://h:8080/v1/"] {
            let url = asked_at(&site(base_url, None), "m");
            assert_eq!(url, "http://h:8080/v1/chat/completions");
        }
        assert_eq!(asked_at(&site("https://h", None), "m"), "https://h/chat/completions");
        assert_eq!(site("http://[::1]:99/v1", None).origin, "http://[::1]:99");
        assert_eq!(site("https://h:443/v1", None).origin, "https://h");
    }

    #[test]
    fn each_dialect_has_its_path_with_and_without_its_version_in_the_base() {
        let cases = [
            (Dialect::Responses, "http://h/v1", "http://h/v1/responses"),
            (Dialect::Messages, "http://h", "http://h/v1/messages"),
            (Dialect::Messages, "http://h/x/v1/", "http://h/x/v1/messages"),
            (Dialect::Ollama, "http://h:1/", "http://h:1/api/chat"),
            (Dialect::Ollama, "http://h:1/api", "http://h:1/api/chat"),
            (
                Dialect::Gemini,
                "http://h",
                "http://h/v1beta/models/a%2Fb:streamGenerateContent?alt=sse",
            ),
        ];
        for (dialect, base_url, url) in cases {
            assert_eq!(asked_at(&site_of(dialect, base_url, None), "a/b"), url);
        }
    }

    #[test]
    fn words_are_shown_without_secrets_and_bounded() {
        let site = site("http://h/", Some("sk-1234567890"));
        assert_eq!(site.shown(" bad key sk-1234567890, second-secret "), "bad key [key], [key]");
        let long = site.shown(&"é".repeat(5_000));
        assert!(long.len() <= MESSAGE_BYTES_MAX + '…'.len_utf8() && long.ends_with('…'));
    }

    #[test]
    fn loopback_is_known_by_address_and_name() {
        for host in [
            "127.0.0.1",
            "127.9.9.9:1",
            "[::1]:8",
            "localhost",
            "a.localhost",
            "[::ffff:127.0.0.1]",
        ] {
            assert!(is_loopback(&Url::parse(&format!("http://{host}/")).unwrap()), "{host}");
        }
        for host in ["10.0.0.1", "localhost.example", "[::2]", "example.com"] {
            assert!(!is_loopback(&Url::parse(&format!("http://{host}/")).unwrap()), "{host}");
        }
    }

    #[test]
    fn clients_are_built_for_http_and_https() {
        for base_url in ["http://127.0.0.1:1", "http://example.com", "https://example.com"] {
            assert!(site(base_url, None).client().is_ok(), "{base_url}");
        }
    }
}
