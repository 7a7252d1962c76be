//! One line in, one line out: what a line of JSON may be, and whose line a bad one was.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::envelope::{Id, Request};
use crate::error::{Error, Kind};

/// Bytes of one line, in and out.
pub const LINE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How deep objects and arrays of a line may be nested.
pub const DEPTH_MAX: usize = 64;
/// Bytes of an id that is given back with an answer.
pub const ID_BYTES_MAX: usize = 1024;

/// A line that is no request: the error, and the id it can be answered under.
#[derive(Debug)]
pub struct BadLine {
    /// The line's id where one could be read.
    pub id: Option<Id>,
    /// What is wrong with it.
    pub error: Error,
}

/// What a client's line may be.
#[derive(Debug)]
pub enum Incoming {
    /// To be answered exactly once.
    Request(Request),
    /// A request without an id: ignored.
    Notification,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(default, borrow)]
    id: Option<&'a RawValue>,
    #[serde(default, borrow)]
    method: Option<&'a RawValue>,
    #[serde(default, borrow)]
    params: Option<&'a RawValue>,
}

/// Reads a client's line, without its newline.
///
/// # Errors
/// A line that is no request, with the error that answers it.
pub fn decode(line: &[u8]) -> Result<Incoming, BadLine> {
    let bad = |id: Option<Id>, kind: Kind, message: String| BadLine {
        id,
        error: Error::new(kind, message),
    };
    if line.len() > LINE_BYTES_MAX {
        return Err(too_long(line));
    }
    let text = std::str::from_utf8(line)
        .map_err(|err| bad(None, Kind::Parse, format!("the line is not UTF-8: {err}")))?;
    if is_too_deep(line) {
        let message = format!("the line is nested deeper than {DEPTH_MAX}");
        let mut bad = bad(find_id(line), Kind::InvalidRequest, message);
        bad.error = bad.error.with("limit_depth", DEPTH_MAX);
        return Err(bad);
    }
    let envelope: Envelope<'_> = match serde_json::from_str(text) {
        Ok(envelope) => envelope,
        Err(_) if serde_json::from_str::<IgnoredAny>(text).is_ok() => {
            let message = "a request is one object with `id`, `method` and `params`".to_owned();
            return Err(bad(find_id(line), Kind::InvalidRequest, message));
        }
        Err(err) => return Err(bad(None, Kind::Parse, format!("the line is not JSON: {err}"))),
    };
    let id = match envelope.id {
        None => return is_notification(&envelope),
        Some(raw) => read_id(raw.get()).ok_or_else(|| {
            let message = "`id` is a string or an integer".to_owned();
            bad(None, Kind::InvalidRequest, message)
        })?,
    };
    let method = envelope
        .method
        .and_then(|raw| serde_json::from_str::<String>(raw.get()).ok())
        .ok_or_else(|| {
            let message = "`method` is a string, as `session/list`".to_owned();
            bad(Some(id.clone()), Kind::InvalidRequest, message)
        })?;
    let params = envelope.params.map(ToOwned::to_owned);
    Ok(Incoming::Request(Request { id, method, params }))
}

fn is_notification(envelope: &Envelope<'_>) -> Result<Incoming, BadLine> {
    if envelope.method.is_some() {
        return Ok(Incoming::Notification);
    }
    let message = "a request has an `id` and a `method`";
    Err(BadLine { id: None, error: Error::new(Kind::InvalidRequest, message) })
}

/// The error for a line that goes past the limit; `kept` is its beginning.
#[must_use]
pub fn too_long(kept: &[u8]) -> BadLine {
    let message = format!("the line is longer than {LINE_BYTES_MAX} bytes; it was skipped");
    let error = Error::new(Kind::InvalidRequest, message).with("limit_bytes", LINE_BYTES_MAX);
    BadLine { id: find_id(kept), error }
}

fn read_id(raw: &str) -> Option<Id> {
    let id: Id = serde_json::from_str(raw).ok()?;
    (raw.len() <= ID_BYTES_MAX).then_some(id)
}

fn is_too_deep(line: &[u8]) -> bool {
    let mut depth = 0_usize;
    let mut scan = Scan::new(line);
    while let Some((_, byte)) = scan.next_mark() {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_MAX {
            return true;
        }
    }
    false
}

/// The `id` of the outermost object, also of a line that is cut short or broken further on.
#[must_use]
pub fn find_id(line: &[u8]) -> Option<Id> {
    let mut depth = 0_usize;
    let mut scan = Scan::new(line);
    let mut key = None;
    while let Some((at, byte)) = scan.next_mark() {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' if depth == 1 => key = Some(&line[at..scan.at]),
            b':' if depth == 1 && key == Some(b"\"id\"".as_slice()) => {
                return value_at(&line[scan.at..]);
            }
            _ => {}
        }
        if depth == 0 {
            return None;
        }
    }
    None
}

fn value_at(rest: &[u8]) -> Option<Id> {
    let start = rest.iter().position(|it| !it.is_ascii_whitespace())?;
    let rest = &rest[start..];
    let end = if rest[0] == b'"' {
        let mut scan = Scan::new(rest);
        scan.next_mark()?;
        scan.at
    } else {
        rest.iter().position(|it| matches!(it, b',' | b'}') || it.is_ascii_whitespace())?
    };
    read_id(std::str::from_utf8(rest.get(..end)?).ok()?)
}

/// Walks over the marks of a JSON text: brackets, colons, and whole strings as one mark each.
struct Scan<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Scan<'a> {
    fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    /// The next mark and where it begins; `at` is then right behind it.
    fn next_mark(&mut self) -> Option<(usize, u8)> {
        while let Some(byte) = self.text.get(self.at).copied() {
            let start = self.at;
            self.at += 1;
            match byte {
                b'"' => {
                    self.skip_string();
                    return Some((start, byte));
                }
                b'{' | b'}' | b'[' | b']' | b':' => return Some((start, byte)),
                _ => {}
            }
        }
        None
    }

    fn skip_string(&mut self) {
        while let Some(byte) = self.text.get(self.at) {
            self.at += 1;
            match byte {
                // A line that is cut short may end with it.
                b'\\' => self.at = (self.at + 1).min(self.text.len()),
                b'"' => return,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(line: &[u8]) -> (Option<Id>, Kind) {
        let bad = decode(line).expect_err("a bad line");
        (bad.id, bad.error.kind())
    }

    #[test]
    fn a_request_is_read_with_or_without_the_version() {
        for line in [
            r#"{"id":7,"method":"session/list"}"#,
            r#"{"jsonrpc":"2.0","method":"session/list","id":7,"params":{},"extra":1}"#,
        ] {
            let Ok(Incoming::Request(request)) = decode(line.as_bytes()) else { panic!("{line}") };
            assert_eq!((request.id, request.method.as_str()), (Id::Number(7), "session/list"));
        }
        assert!(matches!(decode(br#"{"method":"x"}"#), Ok(Incoming::Notification)));
    }

    #[test]
    fn a_bad_line_is_told_from_a_bad_request() {
        assert_eq!(error_of(b"{"), (None, Kind::Parse));
        assert_eq!(error_of(b"\xff"), (None, Kind::Parse));
        assert_eq!(error_of(b"\0"), (None, Kind::Parse));
        assert_eq!(error_of("\u{feff}{}".as_bytes()), (None, Kind::Parse));
        assert_eq!(error_of(b"[]"), (None, Kind::InvalidRequest));
        assert_eq!(error_of(b"{}"), (None, Kind::InvalidRequest));
        assert_eq!(error_of(br#"{"id":1.5,"method":"x"}"#), (None, Kind::InvalidRequest));
        assert_eq!(error_of(br#"{"id":1}"#), (Some(Id::Number(1)), Kind::InvalidRequest));
        assert_eq!(
            error_of(br#"{"id":1,"id":2,"method":"x"}"#),
            (Some(Id::Number(1)), Kind::InvalidRequest)
        );
    }

    #[test]
    fn depth_is_counted_outside_of_strings() {
        let nested = |n: usize| {
            format!(r#"{{"id":"a","method":"x","params":{}{}}}"#, "[".repeat(n), "]".repeat(n))
        };
        assert!(decode(nested(DEPTH_MAX - 1).as_bytes()).is_ok());
        let id = Some(Id::Text("a".to_owned()));
        assert_eq!(error_of(nested(DEPTH_MAX).as_bytes()), (id, Kind::InvalidRequest));
        assert_eq!(error_of(&b"[".repeat(1_000_000)), (None, Kind::InvalidRequest));
        let text = format!(r#"{{"id":1,"method":"{}\"["}}"#, "[".repeat(100));
        assert!(decode(text.as_bytes()).is_ok());
    }

    #[test]
    fn the_id_of_a_cut_line_is_found() {
        let found = |line: &str| find_id(line.as_bytes());
        assert_eq!(found(r#"{"a":{"id":3},"id":4,"b":"#), Some(Id::Number(4)));
        assert_eq!(found(r#"{"x":"id","id" : "q\"",  "#), Some(Id::Text("q\"".to_owned())));
        assert_eq!(found(r#"{"id":12"#), None);
        assert_eq!(found(r#"{"id":"a\"#), None);
        assert_eq!(found(r#"{"a\"#), None);
        assert_eq!(found(r#"{"params":"aaaaaaa"#), None);
    }
}
