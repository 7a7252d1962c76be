//! How is an access token of OAuth 2.0 renewed? By RFC 6749, section 6: one form sent, one object back.

use std::time::Duration;

use futures_util::future::BoxFuture;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Request, Url};
use serde::Deserialize;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::http::{client_for, deepest, is_loopback};

/// How long a renewal may take: a call of a model waits for it.
const RENEWAL_MS: u64 = 20_000;
/// How much of its answer is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// The longest message that is passed on.
const MESSAGE_BYTES_MAX: usize = 200;

/// Who knows the access token of a credential, and renews it.
pub trait Tokens: Send + Sync {
    /// Whether this credential is a token that can grow old.
    fn is_token(&self, credential: &str) -> bool;

    /// A token that is good now. One that was refused is never answered again.
    fn access(
        &self,
        credential: String,
        refused: Option<Zeroizing<String>>,
    ) -> BoxFuture<'static, Result<Zeroizing<String>, String>>;
}

/// What a renewal is asked with.
pub struct Renewal<'a> {
    /// Where: https, or this machine.
    pub token_url: &'a str,
    /// The name of the program that was let in.
    pub client_id: Option<&'a str>,
    /// Its own secret, where it has one.
    pub client_secret: Option<&'a str>,
    /// The token to renew with.
    pub refresh: &'a str,
}

/// What a renewal gives.
#[derive(Deserialize)]
pub struct Renewed {
    /// The new access token.
    #[serde(rename = "access_token")]
    pub access: Zeroizing<String>,
    /// The token for the next renewal, if it is another.
    #[serde(rename = "refresh_token")]
    pub refresh: Option<Zeroizing<String>>,
    /// Seconds that it is good for.
    pub expires_in: Option<i64>,
}

/// Whether a renewal may be asked for at this address.
pub fn check_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|err| format!("`token_url` is no URL: {err}"))?;
    let safe = url.scheme() == "https" || (url.scheme() == "http" && is_loopback(&url));
    if safe { Ok(url) } else { Err("`token_url` has to begin with https://".to_owned()) }
}

/// Renews; what went wrong is said without any secret.
pub async fn renew(asked: &Renewal<'_>) -> Result<Renewed, String> {
    let url = check_url(asked.token_url)?;
    let origin = url.origin().ascii_serialization();
    let client = client_for(&url, Duration::from_millis(RENEWAL_MS))
        .map_err(|err| format!("no client for `{origin}`: {}", deepest(&err)))?;
    let mut form = Url::parse("form:").expect("a scheme alone is a URL");
    form.query_pairs_mut().append_pair("grant_type", "refresh_token");
    form.query_pairs_mut().append_pair("refresh_token", asked.refresh);
    let more = [("client_id", asked.client_id), ("client_secret", asked.client_secret)];
    for (name, value) in more.into_iter().filter_map(|(name, it)| Some((name, it?))) {
        form.query_pairs_mut().append_pair(name, value);
    }
    let mut request = Request::new(Method::POST, url);
    let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
    request.headers_mut().insert(CONTENT_TYPE, kind);
    *request.body_mut() = Some(form.query().unwrap_or_default().to_owned().into());
    let answer = async {
        let mut response = client
            .execute(request)
            .await
            .map_err(|err| format!("`{origin}` cannot be reached: {}", deepest(&err)))?;
        let status = response.status();
        let mut body = Zeroizing::new(Vec::new());
        while body.len() < ANSWER_BYTES_MAX
            && let Ok(Some(bytes)) = response.chunk().await
        {
            let room = ANSWER_BYTES_MAX - body.len();
            body.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
        if !status.is_success() {
            let words = words(&body, asked.refresh);
            return Err(format!("`{origin}` answered {}{words}", status.as_u16()));
        }
        serde_json::from_slice(&body)
            .map_err(|_| format!("`{origin}` answered with no access token"))
    };
    timeout(Duration::from_millis(RENEWAL_MS), answer)
        .await
        .unwrap_or_else(|_| Err(format!("`{origin}` gave no answer for {RENEWAL_MS} ms")))
}

/// Why a renewal was refused, in the server's words, as far as they are its own.
fn words(body: &[u8], secret: &str) -> String {
    #[derive(Deserialize)]
    struct Refused {
        error: String,
        error_description: Option<String>,
    }
    let Ok(Refused { error, error_description }) = serde_json::from_slice(body) else {
        return String::new();
    };
    let mut words = format!(": {}", error_description.unwrap_or(error));
    words.truncate(words.floor_char_boundary(MESSAGE_BYTES_MAX));
    if words.contains(secret) { String::new() } else { words }
}
