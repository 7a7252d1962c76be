//! In what do the protocols that providers speak differ, beside their words?

use super::reader::{Answer, Objects};
use super::settings::Kind;
use super::{Prompt, anthropic, gemini, ollama, openai, responses};

/// A protocol over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// OpenAI's chat completions.
    Completions,
    /// OpenAI's responses.
    Responses,
    /// Anthropic's messages.
    Messages,
    /// Google's generateContent.
    Gemini,
    /// Ollama's chat.
    Ollama,
}

impl Dialect {
    /// The dialect of a kind, where it is one over HTTP.
    pub(crate) fn of(kind: Kind) -> Option<Dialect> {
        match kind {
            Kind::Openai => Some(Dialect::Completions),
            Kind::OpenaiResponses => Some(Dialect::Responses),
            Kind::Anthropic => Some(Dialect::Messages),
            Kind::Gemini => Some(Dialect::Gemini),
            Kind::Ollama => Some(Dialect::Ollama),
            Kind::Echo | Kind::Acp => None,
        }
    }

    /// Where its maker serves it.
    pub(crate) fn usual_base(self) -> &'static str {
        match self {
            Dialect::Completions | Dialect::Responses => "https://api.openai.com/v1",
            Dialect::Messages => "https://api.anthropic.com",
            Dialect::Gemini => "https://generativelanguage.googleapis.com",
            Dialect::Ollama => "http://127.0.0.1:11434",
        }
    }

    /// The variable that holds the key for its maker. Ollama asks for none.
    pub(crate) fn usual_key(self) -> Option<&'static str> {
        match self {
            Dialect::Completions | Dialect::Responses => Some("OPENAI_API_KEY"),
            Dialect::Messages => Some("ANTHROPIC_API_KEY"),
            Dialect::Gemini => Some("GEMINI_API_KEY"),
            Dialect::Ollama => None,
        }
    }

    /// The header that carries a key, and its value.
    pub(crate) fn key_header(self, key: &str) -> (&'static str, String) {
        match self {
            Dialect::Messages => ("x-api-key", key.to_owned()),
            Dialect::Gemini => ("x-goog-api-key", key.to_owned()),
            _ => ("authorization", format!("Bearer {key}")),
        }
    }

    /// A header that every request needs.
    pub(crate) fn own_header(self) -> Option<(&'static str, &'static str)> {
        (self == Dialect::Messages).then_some(("anthropic-version", anthropic::VERSION))
    }

    /// What the makers' own libraries put between base and path, the usual one first: a base may end
    /// with it or not.
    pub(crate) fn versions(self) -> &'static [&'static str] {
        match self {
            Dialect::Completions | Dialect::Responses => &[],
            Dialect::Messages => &["v1"],
            Dialect::Gemini => &["v1beta", "v1"],
            Dialect::Ollama => &["api"],
        }
    }

    /// The path beneath base and version for a question to this model, by its segments.
    pub(crate) fn path(self, model: &str) -> Vec<String> {
        match self {
            Dialect::Completions => vec!["chat".to_owned(), "completions".to_owned()],
            Dialect::Responses => vec!["responses".to_owned()],
            Dialect::Messages => vec!["messages".to_owned()],
            Dialect::Gemini => {
                let name = model.strip_prefix("models/").unwrap_or(model);
                vec!["models".to_owned(), format!("{name}:streamGenerateContent")]
            }
            Dialect::Ollama => vec!["chat".to_owned()],
        }
    }

    /// The query of a question.
    pub(crate) fn query(self) -> Option<&'static str> {
        (self == Dialect::Gemini).then_some("alt=sse")
    }

    /// The path at which it lists its models.
    pub(crate) fn models_path(self) -> &'static str {
        if self == Dialect::Ollama { "tags" } else { "models" }
    }

    /// The body of a request.
    pub(crate) fn body(self, prompt: &Prompt) -> Vec<u8> {
        match self {
            Dialect::Completions => openai::request_body(prompt),
            Dialect::Responses => responses::request_body(prompt),
            Dialect::Messages => anthropic::request_body(prompt),
            Dialect::Gemini => gemini::request_body(prompt),
            Dialect::Ollama => ollama::request_body(prompt),
        }
    }

    /// What takes in the answer.
    pub(crate) fn answer(self) -> Box<dyn Answer> {
        match self {
            Dialect::Completions => Box::<openai::Completion>::default(),
            Dialect::Responses => Box::<responses::Response>::default(),
            Dialect::Messages => Box::<anthropic::Messages>::default(),
            Dialect::Gemini => Box::<gemini::Content>::default(),
            Dialect::Ollama => Box::<ollama::Chat>::default(),
        }
    }

    /// What an answer that begins with a brace is made of.
    pub(crate) fn objects(self) -> Objects {
        if self == Dialect::Ollama { Objects::Lines } else { Objects::One }
    }

    /// Whether its messages have a place for bytes of this media type.
    pub(crate) fn has_place_for(self, media_type: &str) -> bool {
        let picture = ["image/png", "image/jpeg", "image/gif", "image/webp"].contains(&media_type);
        match self {
            Dialect::Ollama => picture,
            Dialect::Gemini => {
                picture
                    || media_type == "application/pdf"
                    || ["image/", "audio/", "video/"].iter().any(|it| media_type.starts_with(it))
            }
            _ => picture || media_type == "application/pdf",
        }
    }
}

#[cfg(test)]
mod tests;
