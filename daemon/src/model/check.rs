//! Does a provider answer, and which models does it list?
//!
//! Asked by a question that costs nothing: the provider's own list of models, with the key.

use std::time::Duration;

use reqwest::Response;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::dialect::Dialect;
use super::fault::{self, Fault};
use super::http::{Site, deepest};
use super::{ModelError, Reason};

/// How long a person who asks may wait.
const CHECK_MS: u64 = 10_000;
/// How long a server on this machine may take to say that it is there.
const LOCAL_MS: u64 = 300;
/// How long it may take to say what a model can: a request waits for it.
const SHOW_MS: u64 = 2_000;
/// How much of a list is read.
const LIST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How many names of it are kept.
const NAMES_MAX: usize = 1_000;

/// What a provider says that it has; none where it has no list.
pub(crate) type Names = Option<Vec<String>>;

/// Asks with the patience of a person.
pub(crate) async fn names(site: &Site) -> Result<Names, ModelError> {
    let patience = Duration::from_millis(CHECK_MS).min(site.deadlines.total);
    match timeout(patience, ask(site)).await {
        Ok(result) => result,
        Err(_) => {
            let what = format!("gave no answer for {} ms", patience.as_millis());
            Err(failed(site, Reason::Timeout, &what))
        }
    }
}

/// Asks a server that is on this machine or not there: nobody waits for it.
pub(crate) async fn local_names(site: &Site) -> Result<Vec<String>, String> {
    let not_there = || format!("nothing answers at `{}`", site.origin);
    let until = Instant::now() + Duration::from_millis(LOCAL_MS);
    let (host, port) = site.host_and_port();
    // Before any client is built: mostly there is none.
    match timeout_at(until, TcpStream::connect((host.as_str(), port))).await {
        Ok(Ok(_)) => {}
        _ => return Err(not_there()),
    }
    match timeout_at(until, ask(site)).await {
        Ok(Ok(names)) => Ok(names.unwrap_or_default()),
        Ok(Err(error)) => Err(error.message),
        Err(_) => Err(not_there()),
    }
}

/// Whether Ollama says that this model can see. Where it does not say, nobody knows better: the call
/// itself will tell.
pub(crate) async fn local_sees(site: &Site, model: &str) -> bool {
    let ask = async {
        let response = site.client().ok()?.execute(site.show(model)).await;
        let mut response = response.ok().filter(|it| it.status().is_success())?;
        let shown: Value = serde_json::from_slice(&body(&mut response).await).ok()?;
        Some(shown.get("capabilities")?.as_array()?.iter().any(|it| it == "vision"))
    };
    timeout(Duration::from_millis(SHOW_MS), ask).await.ok().flatten().unwrap_or(true)
}

/// Whether a name that a person wrote means one of these.
pub(crate) fn is_among(dialect: Dialect, model: &str, names: &[String]) -> bool {
    let plain = model.strip_prefix("models/").unwrap_or(model);
    names.iter().any(|name| {
        name == plain
            || match dialect {
                Dialect::Ollama => name.strip_suffix(":latest") == Some(plain),
                // A short name stands for its newest dated version.
                _ => name.strip_prefix(plain).is_some_and(|it| it.starts_with('-')),
            }
    })
}

async fn ask(site: &Site) -> Result<Names, ModelError> {
    let mut request = site.models();
    site.authorize(&mut request).await?;
    let response = site.client()?.execute(request).await;
    let mut response = response.map_err(|err| {
        let what = format!("cannot be reached: {}", deepest(&err));
        failed(site, Reason::Unavailable, &what)
    })?;
    let status = response.status();
    let body = body(&mut response).await;
    // Not every server has a list; that it answers is worth knowing.
    if matches!(status.as_u16(), 404 | 405 | 501) {
        return Ok(None);
    }
    if !status.is_success() {
        let Fault { reason, words, .. } = fault::of_status(status.as_u16(), &body);
        let colon = if words.is_empty() { "" } else { ": " };
        let what = format!("answered {}{colon}{words}", status.as_u16());
        return Err(failed(site, reason, &what));
    }
    Ok(serde_json::from_slice(&body).ok().and_then(|it| read(site.dialect, &it)))
}

async fn body(response: &mut Response) -> Vec<u8> {
    let mut body = Vec::new();
    while body.len() < LIST_BYTES_MAX
        && let Ok(Some(bytes)) = response.chunk().await
    {
        body.extend_from_slice(&bytes[..bytes.len().min(LIST_BYTES_MAX - body.len())]);
    }
    body
}

fn read(dialect: Dialect, list: &Value) -> Names {
    let (place, name) = match dialect {
        Dialect::Gemini => ("models", "name"),
        Dialect::Ollama => ("models", "model"),
        _ => ("data", "id"),
    };
    let names = list.get(place)?.as_array()?.iter().filter_map(|it| it.get(name)?.as_str());
    let plain = names.map(|it| it.strip_prefix("models/").unwrap_or(it).to_owned());
    Some(plain.take(NAMES_MAX).collect())
}

fn failed(site: &Site, reason: Reason, what: &str) -> ModelError {
    let message = site.shown(&format!("`{}` {what}", site.origin));
    ModelError { reason, message, retry_after_ms: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_mean_what_is_listed_under_longer_ones() {
        let names = ["llama:latest".to_owned(), "claude-x-20990101".to_owned()];
        assert!(is_among(Dialect::Ollama, "llama", &names));
        assert!(is_among(Dialect::Messages, "claude-x", &names));
        assert!(is_among(Dialect::Gemini, "models/llama:latest", &names));
        assert!(!is_among(Dialect::Ollama, "lla", &names));
        assert!(!is_among(Dialect::Messages, "claude", &["claudette".to_owned()]));
    }
}
