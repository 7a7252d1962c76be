//! How is the stub told what to do, and asked what it did?

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Duration, timeout};

use super::http::{Conn, Request};
use super::sse::error_body;
use super::state::Shared;

/// Entries in one page of the log.
const PAGE_ENTRIES_MAX: usize = 10_000;
/// Milliseconds that a request for the log may wait for its first entry.
const LOG_WAIT_MS_MAX: u64 = 30_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Release {
    hold: String,
    #[serde(default)]
    times: Option<usize>,
}

/// Answers a request of the control API; whether the connection can take another one.
pub(super) async fn handle(conn: &mut Conn<'_>, shared: &Shared, request: Request) -> bool {
    let result = match (request.method.as_str(), request.path.as_str()) {
        ("POST", "/control/script") => shared.install(&request.body).map(|()| json!({})),
        ("POST", "/control/release") => release(shared, &request.body),
        ("POST", "/control/reset") => {
            shared.reset();
            Ok(json!({}))
        }
        ("GET", "/control/stats") => Ok(json!(shared.stats())),
        ("GET", "/control/log") => match log(conn, shared, &request).await {
            Some(page) => Ok(page),
            None => return false,
        },
        (method, path) => Err(format!("there is no `{method} {path}`")),
    };
    let (status, body) = match result {
        Ok(body) => (200, body),
        Err(problem) => (400, error_body(&problem)),
    };
    conn.reply(status, &body, request.keep_alive).await.is_ok()
}

fn release(shared: &Shared, body: &[u8]) -> Result<Value, String> {
    let Release { hold, times } = serde_json::from_slice(body).map_err(|err| err.to_string())?;
    shared.release(&hold, times)?;
    Ok(json!({}))
}

/// A page of the log, or nothing when the asker left.
async fn log(conn: &mut Conn<'_>, shared: &Shared, request: &Request) -> Option<Value> {
    let since = request.query_number("since");
    let wait = request.query_number("wait_ms").min(LOG_WAIT_MS_MAX);
    if wait > 0 {
        let mut watch = shared.log().watch();
        tokio::select! {
            () = conn.reader.closed() => return None,
            _ = timeout(Duration::from_millis(wait), watch.wait_for(|last| *last > since)) => {}
        }
    }
    let page = shared.log().page(since, PAGE_ENTRIES_MAX);
    Some(json!(page))
}
