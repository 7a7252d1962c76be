//! Params: read strictly, with a clear word on what is wrong, and what many methods share.

use serde_json::Value;
use sess_protocol::envelope::{KEY_BYTES_MAX, Request};
use sess_protocol::error::Error;
use sess_protocol::methods::{Method, MethodInfo, PAGE_DEFAULT, PAGE_MAX, info};
use sess_protocol::view::Members;

use super::once::{Once, TWICE};
use crate::nearest::nearest;
use crate::store::Hash;

/// What many methods take beside their own params.
#[derive(Debug, Default)]
pub struct Common {
    /// The idempotency key with the digest of method and params.
    pub key: Option<(String, Hash)>,
    /// What the session's number must be.
    pub expect_seq: Option<u64>,
    /// What the thread's newest message must be.
    pub expect_head: Option<Option<String>>,
}

/// Reads the params of a method.
///
/// # Errors
/// Always `invalid_params`, with `param`, and `nearest` where one is near.
pub(super) fn decode<M: Method>(request: &Request) -> Result<(M::Params, Common), Error> {
    let info = info(M::NAME).expect("a method that is served is in the table");
    let mut members = members(request)?;
    let common = common(info, &mut members)?;
    let params = serde_path_to_error::deserialize(Value::Object(members)).map_err(|err| {
        let path = err.path().to_string();
        explain(&path, &err.inner().to_string())
    })?;
    Ok((params, common))
}

fn members(request: &Request) -> Result<Members, Error> {
    let Some(raw) = &request.params else { return Ok(Members::new()) };
    let mut reader = serde_json::Deserializer::from_str(raw.get());
    match serde_path_to_error::deserialize(&mut reader) {
        Ok(Once(Value::Object(members))) => Ok(members),
        Ok(_) => Err(Error::invalid("params", "`params` is an object")),
        Err(err) => {
            let (path, complaint) = (err.path().to_string(), err.inner().to_string());
            let twice = complaint.contains(TWICE).then(|| complaint.split('`').nth(1)).flatten();
            let param = first_of(&path).or(twice).unwrap_or("params");
            Err(Error::invalid(param, format!("`{param}` cannot be read: {complaint}")))
        }
    }
}

fn common(info: &MethodInfo, members: &mut Members) -> Result<Common, Error> {
    let mut common = Common::default();
    if info.keyed
        && let Some(key) = members.remove("idempotency_key")
    {
        let key = match key {
            Value::String(key) if (1..=KEY_BYTES_MAX).contains(&key.len()) => key,
            _ => {
                let message =
                    format!("`idempotency_key` is a string of 1 to {KEY_BYTES_MAX} bytes");
                return Err(Error::invalid("idempotency_key", message));
            }
        };
        let digest = digest(info.name, members);
        common.key = Some((key, digest));
    }
    if info.expect_seq
        && let Some(seq) = members.remove("expect_seq")
    {
        let seq = seq.as_u64();
        let message = "`expect_seq` is the number of an event";
        common.expect_seq = Some(seq.ok_or_else(|| Error::invalid("expect_seq", message))?);
    }
    if info.expect_head
        && let Some(head) = members.remove("expect_head")
    {
        common.expect_head = Some(match head {
            Value::Null => None,
            Value::String(head) => Some(head),
            _ => {
                let message = "`expect_head` is the id of a message, or null";
                return Err(Error::invalid("expect_head", message));
            }
        });
    }
    Ok(common)
}

/// The digest of method and params, whatever order the members came in.
fn digest(method: &str, members: &Members) -> Hash {
    let mut text = String::from(method);
    text.push('\n');
    canonical(&Value::Object(members.clone()), &mut text);
    Hash::of(text.as_bytes())
}

fn canonical(value: &Value, into: &mut String) {
    match value {
        Value::Object(members) => {
            let mut names: Vec<&String> = members.keys().collect();
            names.sort_unstable();
            into.push('{');
            for name in names {
                canonical(&Value::String(name.clone()), into);
                into.push(':');
                canonical(&members[name], into);
                into.push(',');
            }
            into.push('}');
        }
        Value::Array(items) => {
            into.push('[');
            for item in items {
                canonical(item, into);
                into.push(',');
            }
            into.push(']');
        }
        plain => into.push_str(&plain.to_string()),
    }
}

/// The param in which a path of a reader begins.
fn first_of(path: &str) -> Option<&str> {
    path.split(['.', '[']).next().filter(|it| !it.is_empty() && *it != "?")
}

/// Makes an answer of a reader's complaint: which param, and what may have been meant.
fn explain(path: &str, complaint: &str) -> Error {
    let first = first_of(path);
    let words: Vec<&str> = complaint.split('`').skip(1).step_by(2).collect();
    if complaint.starts_with("unknown field") {
        let given = words.first().copied().unwrap_or_default();
        let param = if path == given || path == "." || path.is_empty() { given } else { path };
        let near = nearest(given, words.iter().skip(1).copied());
        let error = Error::invalid(param, format!("there is no param `{given}`"));
        return match near {
            Some(near) => error.with("nearest", near).hint(format!("did you mean `{near}`?")),
            None => error.with("nearest", Value::Null),
        };
    }
    if complaint.starts_with("missing field") {
        let param = words.first().copied().unwrap_or_default();
        return Error::invalid(param, format!("the param `{param}` is missing"));
    }
    let param = first.unwrap_or("params");
    let error = Error::invalid(param, format!("`{param}`: {complaint}"));
    if complaint.starts_with("unknown variant") {
        let given = words.first().copied().unwrap_or_default();
        if let Some(near) = nearest(given, words.iter().skip(1).copied()) {
            return error.with("nearest", near);
        }
    }
    error
}

/// How many things a page has.
///
/// # Errors
/// Not 1 to 500.
pub(super) fn page_limit(limit: Option<u32>, default: u32) -> Result<u32, Error> {
    let limit = limit.unwrap_or(default);
    if (1..=PAGE_MAX).contains(&limit) {
        return Ok(limit);
    }
    Err(Error::invalid("limit", format!("`limit` is 1 to {PAGE_MAX}")))
}

/// How many things a page has when the method has no other default.
///
/// # Errors
/// Not 1 to 500.
pub(super) fn plain_limit(limit: Option<u32>) -> Result<u32, Error> {
    page_limit(limit, PAGE_DEFAULT)
}

/// The refusal of a cursor that no page gave.
#[must_use]
pub(super) fn bad_cursor() -> Error {
    Error::invalid("cursor", "`cursor` is not one that a page of this list gave as `next`")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::value::RawValue;
    use sess_protocol::envelope::Id;
    use sess_protocol::methods::{ChatSend, SessionList, SessionUpdate};

    fn request(params: &str) -> Request {
        let params = Some(RawValue::from_string(params.to_owned()).expect("json"));
        Request { id: Id::Number(1), method: String::new(), params }
    }

    fn refusal<M: Method>(params: &str) -> (Value, Value) {
        let error = decode::<M>(&request(params)).map(|_| ()).expect_err("refused");
        let member = |name: &str| error.member(name).cloned().unwrap_or_default();
        (member("param"), member("nearest"))
    }

    #[test]
    fn what_is_wrong_is_named() {
        let text = |it: &str| Value::from(it);
        let none = Value::Null;
        assert_eq!(refusal::<SessionUpdate>("{}"), (text("session"), none.clone()));
        assert_eq!(
            refusal::<SessionUpdate>(r#"{"session":"x","titel":"y"}"#),
            (text("titel"), text("title"))
        );
        assert_eq!(
            refusal::<SessionUpdate>(r#"{"session":"x","mode":"asks"}"#),
            (text("mode"), text("ask"))
        );
        assert_eq!(refusal::<SessionUpdate>(r#"{"session":7}"#), (text("session"), none.clone()));
        assert_eq!(refusal::<SessionList>("[]"), (text("params"), none.clone()));
        assert_eq!(refusal::<SessionList>(r#"{"limit":"1"}"#), (text("limit"), none.clone()));
        assert_eq!(refusal::<SessionList>(r#"{"idempotency_key":"x"}"#).0, text("idempotency_key"));
        assert_eq!(refusal::<ChatSend>(r#"{"content":1}"#), (text("content"), none.clone()));
        assert_eq!(refusal::<SessionList>(r#"{"text":"\ud800"}"#).0, text("text"));
    }

    #[test]
    fn a_digest_does_not_depend_on_the_order_of_members() {
        let key = |params: &str| {
            decode::<ChatSend>(&request(params)).expect("good params").1.key.expect("a key").1
        };
        let one = key(r#"{"idempotency_key":"k","session":"a","content":"b"}"#);
        let two = key(r#"{"content":"b","session":"a","idempotency_key":"other"}"#);
        assert_eq!(one, two);
        assert_ne!(one, key(r#"{"content":"c","session":"a","idempotency_key":"k"}"#));
    }
}
