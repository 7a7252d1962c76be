//! What does a provider's error mean, and may another attempt go better?
//!
//! Providers word the same trouble in many ways; this is the one place that knows them.

use serde_json::Value;

use super::Reason;

/// What is known of an error: its class, whether it may pass, and the provider's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) reason: Reason,
    pub(crate) passing: bool,
    pub(crate) words: String,
    /// When the provider wants to be asked again, where it says so in its words.
    pub(crate) wanted_ms: Option<u64>,
}

/// How servers say that the prompt is longer than the model's window, in lower case.
const TOO_LONG: [&str; 17] = [
    "request_too_large",
    "context_length_exceeded",
    "exceed_context_size",
    "model_context_window_exceeded",
    "maximum context length",
    "maximum prompt length",
    "exceeds the available context size",
    "exceeds the context window",
    "exceeds the context length",
    "exceeds the model's context",
    "exceeds maximum context",
    "greater than the context length",
    "exceeds the maximum number of tokens",
    "prompt is too long",
    "input is too long",
    "reduce the length of the messages",
    "too many tokens in the prompt",
];
/// How servers say that the account, not the moment, is the trouble: waiting does not help.
const NO_CREDIT: [&str; 4] =
    ["insufficient_quota", "exceeded your current quota", "insufficient balance", "credit balance"];
/// How servers that answer 400 to a bad key say so.
const BAD_KEY: [&str; 4] =
    ["invalid_api_key", "api key not valid", "incorrect api key", "invalid api key"];

/// Judges an answer with an error status.
pub(crate) fn of_status(status: u16, body: &[u8]) -> Fault {
    let text = String::from_utf8_lossy(body);
    let error = serde_json::from_slice::<Value>(body).unwrap_or(Value::Null);
    let words = spoken(&error).unwrap_or_else(|| plain(&text));
    let (reason, passing) = judge(status, &text.to_lowercase());
    let wanted_ms = wanted(&error);
    Fault { reason, passing: passing || is_soon(reason, wanted_ms), words, wanted_ms }
}

/// Judges an error object that came where an answer was due. `None` when there is no error in it.
pub(crate) fn of_object(json: &str) -> Option<Fault> {
    let value: Value = serde_json::from_str(json).ok()?;
    let error = value.get("error").filter(|it| !it.is_null()).or_else(|| {
        let is = |member| value.get(member).and_then(Value::as_str) == Some("error");
        (is("object") || is("type")).then_some(&value)
    })?;
    let lower = json.to_lowercase();
    let status = status_of(error).unwrap_or_else(|| status_by_words(error, &lower));
    let words = spoken(error).unwrap_or_else(|| plain(json));
    let (reason, passing) = judge(status, &lower);
    let wanted_ms = wanted(error);
    Some(Fault { reason, passing: passing || is_soon(reason, wanted_ms), words, wanted_ms })
}

/// A limit with its end named in words passes, whatever else they say of quotas.
fn is_soon(reason: Reason, wanted_ms: Option<u64>) -> bool {
    reason == Reason::RateLimit && wanted_ms.is_some()
}

/// When to come back, as Gemini says it: `"retryDelay": "34.5s"` somewhere in the details.
fn wanted(error: &Value) -> Option<u64> {
    match error {
        Value::Array(list) => list.iter().find_map(wanted),
        Value::Object(object) => match object.get("retryDelay").and_then(Value::as_str) {
            Some(text) => {
                let seconds: f64 = text.strip_suffix('s')?.parse().ok()?;
                (seconds >= 0.0).then_some((seconds * 1_000.0).ceil() as u64)
            }
            None => object.values().find_map(wanted),
        },
        _ => None,
    }
}

/// The class by status and by words, and whether it may pass.
fn judge(status: u16, lower: &str) -> (Reason, bool) {
    if crate::sabotage::is("wrong_reason") {
        return (Reason::Refused, false);
    }
    let says = |list: &[&str]| list.iter().any(|it| lower.contains(it));
    match status {
        402 => (Reason::RateLimit, false),
        429 => (Reason::RateLimit, !says(&NO_CREDIT)),
        401 | 403 => (Reason::Auth, false),
        _ if says(&TOO_LONG) => (Reason::ContextTooLong, false),
        413 => (Reason::ContextTooLong, false),
        408 => (Reason::Timeout, true),
        409 | 425 | 500.. => (Reason::Unavailable, !matches!(status, 501 | 505)),
        400 if says(&BAD_KEY) => (Reason::Auth, false),
        400 if says(&NO_CREDIT) => (Reason::RateLimit, false),
        _ => (Reason::Refused, false),
    }
}

/// The HTTP status that an error object names.
fn status_of(error: &Value) -> Option<u16> {
    let number = |it: &Value| it.as_u64().or_else(|| it.as_str()?.parse().ok());
    ["code", "status", "status_code"]
        .iter()
        .filter_map(|it| error.get(it).and_then(number))
        .find(|it| (400..600).contains(it))
        .and_then(|it| u16::try_from(it).ok())
}

/// The HTTP status that an error object would have come with.
fn status_by_words(error: &Value, lower: &str) -> u16 {
    let label = |it: &str| error.get(it).and_then(Value::as_str).unwrap_or_default();
    let labels = format!("{} {}", label("type"), label("code")).to_lowercase();
    let has = |words: &[&str]| words.iter().any(|it| labels.contains(it));
    if has(&["rate_limit", "quota", "too_many_requests", "billing"]) {
        429
    } else if has(&["authentication", "permission", "api_key", "unauthorized"]) {
        401
    } else if has(&[
        "invalid_request",
        "invalid_prompt",
        "bad_request",
        "badrequest",
        "not_found",
        "policy",
        "filter",
    ]) || TOO_LONG.iter().any(|it| lower.contains(it))
    {
        400
    } else {
        500
    }
}

/// The message in an error, wherever servers put it.
fn spoken(error: &Value) -> Option<String> {
    match error {
        Value::String(text) if !text.trim().is_empty() => Some(text.clone()),
        Value::Array(list) => list.iter().find_map(spoken),
        Value::Object(object) => ["error", "message", "detail", "msg", "error_description"]
            .iter()
            .find_map(|it| spoken(object.get(*it)?)),
        _ => None,
    }
}

/// The first line of a text that is not the JSON it should be; a page of HTML says nothing.
fn plain(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|it| !it.is_empty()).unwrap_or_default();
    if line.starts_with('<') { String::new() } else { line.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_have_their_reasons() {
        let cases = [
            (401, Reason::Auth, false),
            (403, Reason::Auth, false),
            (402, Reason::RateLimit, false),
            (429, Reason::RateLimit, true),
            (400, Reason::Refused, false),
            (404, Reason::Refused, false),
            (422, Reason::Refused, false),
            (302, Reason::Refused, false),
            (408, Reason::Timeout, true),
            (413, Reason::ContextTooLong, false),
            (500, Reason::Unavailable, true),
            (501, Reason::Unavailable, false),
            (503, Reason::Unavailable, true),
            (529, Reason::Unavailable, true),
        ];
        for (status, reason, passing) in cases {
            let fault = of_status(status, br#"{"error":{"message":"so it is"}}"#);
            assert_eq!(
                fault,
                Fault { reason, passing, words: "so it is".into(), wanted_ms: None },
                "{status}"
            );
        }
    }

    #[test]
    fn words_decide_where_a_status_says_too_little() {
        let cases = [
            (
                400,
                r#"{"error":{"code":"context_length_exceeded","message":"long"}}"#,
                Reason::ContextTooLong,
            ),
            (
                400,
                r#"{"object":"error","message":"This model's maximum context length is 4096 tokens."}"#,
                Reason::ContextTooLong,
            ),
            (
                400,
                r#"{"error":{"type":"exceed_context_size_error","message":"x"}}"#,
                Reason::ContextTooLong,
            ),
            (
                500,
                r#"{"error":{"message":"the request exceeds the available context size"}}"#,
                Reason::ContextTooLong,
            ),
            (
                400,
                r#"{"error":{"message":"prompt is too long: 9 tokens > 8 maximum"}}"#,
                Reason::ContextTooLong,
            ),
            (400, r#"[{"error":{"message":"API key not valid. Please pass one."}}]"#, Reason::Auth),
            (429, r#"{"error":{"code":"insufficient_quota","message":"pay"}}"#, Reason::RateLimit),
        ];
        for (status, body, reason) in cases {
            let fault = of_status(status, body.as_bytes());
            assert_eq!((fault.reason, fault.passing), (reason, false), "{body}");
        }
    }

    #[test]
    fn the_message_is_found_wherever_it_is() {
        let cases = [
            (r#"{"error":"plain"}"#, "plain"),
            (r#"{"detail":[{"loc":["body"],"msg":"field required"}]}"#, "field required"),
            (r#"[{"error":{"message":"in a list"}}]"#, "in a list"),
            ("upstream connect error\nmore", "upstream connect error"),
            ("<html><body>502</body></html>", ""),
            ("", ""),
        ];
        for (body, words) in cases {
            assert_eq!(of_status(500, body.as_bytes()).words, words, "{body}");
        }
    }

    #[test]
    fn a_quota_that_says_when_to_come_back_is_a_limit_that_passes() {
        let body = r#"{"error":{"code":429,"message":"You exceeded your current quota","details":
            [{"@type":"x"},{"@type":"RetryInfo","retryDelay":"1.5s"}]}}"#;
        let fault = of_status(429, body.as_bytes());
        assert_eq!((fault.passing, fault.wanted_ms), (true, Some(1_500)));
    }

    #[test]
    fn an_error_object_stands_for_its_status() {
        let cases = [
            (r#"{"error":{"code":502,"message":"m"},"choices":[]}"#, Reason::Unavailable, true),
            (r#"{"error":{"code":"429","message":"m"}}"#, Reason::RateLimit, true),
            (r#"{"error":{"type":"server_error","message":"m"}}"#, Reason::Unavailable, true),
            (r#"{"error":{"type":"overloaded_error","message":"m"}}"#, Reason::Unavailable, true),
            (r#"{"error":{"type":"rate_limit_error","message":"m"}}"#, Reason::RateLimit, true),
            (r#"{"error":{"type":"insufficient_quota","message":"m"}}"#, Reason::RateLimit, false),
            (r#"{"error":{"type":"invalid_request_error","message":"m"}}"#, Reason::Refused, false),
            (
                r#"{"error":{"code":"context_length_exceeded","message":"m"}}"#,
                Reason::ContextTooLong,
                false,
            ),
            (r#"{"object":"error","message":"m","code":400}"#, Reason::Refused, false),
            (r#"{"error":{"code":"invalid_api_key","message":"m"}}"#, Reason::Auth, false),
            (
                r#"{"type":"error","code":"rate_limit_exceeded","message":"m"}"#,
                Reason::RateLimit,
                true,
            ),
            (
                r#"{"type":"error","error":{"type":"overloaded_error","message":"m"}}"#,
                Reason::Unavailable,
                true,
            ),
            (r#"{"error":"m"}"#, Reason::Unavailable, true),
        ];
        for (json, reason, passing) in cases {
            let fault = of_object(json).unwrap();
            assert_eq!(
                fault,
                Fault { reason, passing, words: "m".into(), wanted_ms: None },
                "{json}"
            );
        }
        assert_eq!(of_object(r#"{"error":null,"choices":[]}"#), None);
        assert_eq!(of_object("{"), None);
    }
}
