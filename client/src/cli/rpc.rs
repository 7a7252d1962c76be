//! Any method, by hand.

use std::io::Read;

use serde_json::{Map, Value};
use sess_protocol::error::Kind;
use sess_protocol::line::LINE_BYTES_MAX;

use super::caller;
use super::output::{Output, Stop};

pub(crate) async fn run(
    output: &mut Output,
    method: &str,
    params: Option<String>,
) -> Result<(), Stop> {
    let text = match params.as_deref() {
        None => "{}".to_owned(),
        Some("-") => read_stdin()?,
        Some(text) => text.to_owned(),
    };
    let params: Map<String, Value> = serde_json::from_str(&text).map_err(|err| {
        Stop::usage(format_args!("the params are no JSON object: {err}"))
            .hint(format_args!("as in: sess rpc {method} '{{\"limit\": 5}}'"))
    })?;
    let result = caller()?.call_raw(method, params).await.map_err(|failure| {
        // Here a person names the method: the daemon knows which one may be meant.
        match (failure.kind(), failure.hint()) {
            (Some(Kind::UnknownMethod), Some(hint)) => Stop::failed(&failure).hint(hint),
            _ => failure.into(),
        }
    })?;
    output.result(&result)
}

/// All of stdin, as text. More than a line of the protocol is refused unread.
pub(crate) fn read_stdin() -> Result<String, Stop> {
    let limit = LINE_BYTES_MAX as u64 + 1;
    let mut bytes = Vec::new();
    std::io::stdin()
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(|err| Stop::failed(format_args!("cannot read stdin: {err}")))?;
    if bytes.len() > LINE_BYTES_MAX {
        return Err(Stop::usage(format_args!("stdin has more than {LINE_BYTES_MAX} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| Stop::usage("stdin is not UTF-8"))
}
