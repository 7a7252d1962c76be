//! How is what was said shown to a model: which parts are text, which are bytes?

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Part, PromptMessage};

/// A part as it is put into a request.
pub(crate) enum Shown<'a> {
    /// Text, a text file's content included.
    Text(Cow<'a, str>),
    /// A picture.
    Image { media_type: &'a str, base64: String },
    /// A file that is no text.
    File { name: &'a str, media_type: &'a str, base64: String },
}

/// Where nobody knows better.
const BYTES: &str = "application/octet-stream";

impl Part {
    /// The part as it is put into a request: a file that is text becomes text with its name above it,
    /// which every model can read.
    pub(crate) fn shown(&self) -> Shown<'_> {
        match self {
            Part::Text(text) => Shown::Text(Cow::Borrowed(text)),
            Part::Image { media_type, data } => {
                Shown::Image { media_type, base64: STANDARD.encode(data) }
            }
            Part::File { name, media_type, data } => match self.text_of_file() {
                Some(text) => {
                    Shown::Text(Cow::Owned(format!("<file name={name:?}>\n{text}\n</file>")))
                }
                None => Shown::File {
                    name,
                    media_type: media_type.as_deref().unwrap_or(BYTES),
                    base64: STANDARD.encode(data),
                },
            },
        }
    }

    /// What kind of bytes a model must take to see this part; none where text will do.
    pub(crate) fn media_type(&self) -> Option<&str> {
        match self {
            Part::Text(_) => None,
            Part::Image { media_type, .. } => Some(media_type),
            Part::File { .. } if self.text_of_file().is_some() => None,
            Part::File { media_type, .. } => Some(media_type.as_deref().unwrap_or(BYTES)),
        }
    }

    /// What is said in place of a part that this model cannot see.
    pub(crate) fn left_out(&self) -> Part {
        let what = match self {
            Part::File { name, .. } => format!("file {name:?}"),
            _ => "picture".to_owned(),
        };
        Part::Text(format!("[a {what} that this model cannot see]"))
    }

    /// How many bytes it holds.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Part::Text(text) => text.len(),
            Part::Image { data, .. } | Part::File { data, .. } => data.len(),
        }
    }

    fn text_of_file(&self) -> Option<&str> {
        let Part::File { media_type, data, .. } = self else { return None };
        let binary = media_type.as_deref().is_some_and(|it| {
            ["image/", "audio/", "video/"].iter().any(|kind| it.starts_with(kind))
                || it == "application/pdf"
        });
        if binary { None } else { std::str::from_utf8(data).ok() }
    }
}

impl PromptMessage {
    /// All of it that is text, in one.
    pub fn said(&self) -> String {
        let texts = self.parts.iter().filter_map(|it| match it.shown() {
            Shown::Text(text) => Some(text),
            Shown::Image { .. } | Shown::File { .. } => None,
        });
        texts.collect::<Vec<_>>().join("\n\n")
    }
}

/// Bytes as a URL that holds them.
pub(crate) fn data_url(media_type: &str, base64: &str) -> String {
    format!("data:{media_type};base64,{base64}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(media_type: Option<&str>, data: &[u8]) -> Part {
        Part::File {
            name: "a\".b".into(),
            media_type: media_type.map(Into::into),
            data: data.into(),
        }
    }

    #[test]
    fn a_text_file_is_text_and_other_bytes_are_not() {
        let code = file(None, b"x = 1");
        let Shown::Text(text) = code.shown() else { panic!("text") };
        assert_eq!(text, "<file name=\"a\\\".b\">\nx = 1\n</file>");
        assert!(matches!(file(Some("application/json"), b"{}").shown(), Shown::Text(_)));
        let pdf = file(Some("application/pdf"), b"%PDF");
        assert!(matches!(pdf.shown(), Shown::File { media_type: "application/pdf", .. }));
        assert_eq!(file(None, b"\xff").media_type(), Some(BYTES));
        assert_eq!(file(None, b"text").media_type(), None);
    }
}
