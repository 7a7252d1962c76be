//! Which protocol does a request speak, and what does it ask?

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::http::Request;
use super::log::{Json, Part};
use super::{gemini, messages, ollama, responses, sse};

/// The protocols that the stub speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
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

/// What is asked.
pub(super) struct Asked {
    pub(super) dialect: Dialect,
    pub(super) model: String,
    /// The conversation as it was sent.
    pub(super) messages: Json,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
}

/// What the end of an answer says.
pub(super) struct End {
    /// Why it is over, in OpenAI's word; none where the answer has no end.
    pub(super) finish: Option<String>,
    /// In OpenAI's words.
    pub(super) usage: Value,
    /// Whether the very last word is said.
    pub(super) done: bool,
}

/// What an answer that is not streamed says.
pub(super) struct Whole<'a> {
    pub(super) text: &'a str,
    pub(super) reasoning: &'a str,
    pub(super) end: End,
}

/// Writes one answer in the words of one protocol.
pub(super) trait Words: Send {
    /// The media type of a stream.
    fn content_type(&self) -> &'static str {
        "text/event-stream"
    }

    /// What comes before the first piece.
    fn start(&mut self, _body: &mut Vec<u8>) {}

    /// A piece; `field` is for the one protocol that has two words for reasoning.
    fn piece(&mut self, body: &mut Vec<u8>, part: Part, field: &str, text: &str);

    /// The end.
    fn end(&mut self, body: &mut Vec<u8>, end: &End);

    /// An error in the middle.
    fn error(&mut self, body: &mut Vec<u8>, error: &Value);

    /// The answer in one piece.
    fn whole(&self, whole: &Whole<'_>) -> Value;
}

impl Dialect {
    /// The dialect of a path that asks for an answer.
    pub(super) fn of(path: &str) -> Option<Dialect> {
        match path {
            "/v1/chat/completions" => Some(Dialect::Completions),
            "/v1/responses" => Some(Dialect::Responses),
            "/v1/messages" => Some(Dialect::Messages),
            "/api/chat" => Some(Dialect::Ollama),
            _ => gemini_path(path).map(|_| Dialect::Gemini),
        }
    }

    /// Who writes the answer.
    pub(super) fn words(self, number: u64, asked: &Asked) -> Box<dyn Words> {
        let model = &asked.model;
        match self {
            Dialect::Completions => Box::new(sse::Chunks::new(number, model, asked.include_usage)),
            Dialect::Responses => Box::new(responses::Response::new(number, model)),
            Dialect::Messages => Box::new(messages::Message::new(number, model)),
            Dialect::Gemini => Box::new(gemini::Content::new(number, model)),
            Dialect::Ollama => Box::new(ollama::Lines::new(model)),
        }
    }

    /// The body of an error with this status.
    pub(super) fn error_body(self, status: u16, message: &str) -> Value {
        let word = match status {
            401 | 403 => "authentication_error",
            429 => "rate_limit_error",
            400..500 => "invalid_request_error",
            _ => "api_error",
        };
        match self {
            Dialect::Completions | Dialect::Responses => sse::error_body(message),
            Dialect::Messages => {
                json!({"type": "error", "error": {"type": word, "message": message}})
            }
            Dialect::Gemini => {
                json!({"error": {"code": status, "message": message, "status": "SCRIPTED"}})
            }
            Dialect::Ollama => json!({ "error": message }),
        }
    }
}

/// The model in `/v1beta/models/MODEL:generateContent`, and whether a stream is asked for. The version is
/// either of those that are served.
fn gemini_path(path: &str) -> Option<(&str, bool)> {
    let path = path.strip_prefix("/v1beta/").or_else(|| path.strip_prefix("/v1/"))?;
    let (model, verb) = path.strip_prefix("models/")?.rsplit_once(':')?;
    match verb {
        "generateContent" => Some((model, false)),
        "streamGenerateContent" => Some((model, true)),
        _ => None,
    }
}

impl Asked {
    /// Reads a request.
    pub(super) fn read(dialect: Dialect, request: &Request) -> Result<Asked, serde_json::Error> {
        #[derive(Deserialize)]
        struct Body {
            #[serde(default)]
            model: Option<String>,
            #[serde(alias = "input", alias = "contents")]
            messages: Box<RawValue>,
            #[serde(default)]
            stream: Option<bool>,
            #[serde(default)]
            stream_options: Option<StreamOptions>,
        }
        #[derive(Deserialize)]
        struct StreamOptions {
            #[serde(default)]
            include_usage: Option<bool>,
        }
        let body: Body = serde_json::from_slice(&request.body)?;
        let (model, stream) = match (dialect, gemini_path(&request.path)) {
            (Dialect::Gemini, Some((model, stream))) => (model.to_owned(), stream),
            _ => {
                let missing = || serde::de::Error::missing_field("model");
                let stream = body.stream.unwrap_or(dialect == Dialect::Ollama);
                (body.model.ok_or_else(missing)?, stream)
            }
        };
        let include_usage = body.stream_options.and_then(|it| it.include_usage).unwrap_or(false);
        Ok(Asked { dialect, model, messages: Json(body.messages), stream, include_usage })
    }
}

/// A usage in OpenAI's words, taken apart so that one script serves all protocols.
pub(super) struct Counts {
    pub(super) input: u64,
    pub(super) output: u64,
    pub(super) cache_read: u64,
    pub(super) cache_write: u64,
    pub(super) reasoning: u64,
}

impl Counts {
    pub(super) fn of(usage: &Value) -> Counts {
        let number = |pointer| usage.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
        Counts {
            input: number("/prompt_tokens"),
            output: number("/completion_tokens"),
            cache_read: number("/prompt_tokens_details/cached_tokens"),
            cache_write: number("/prompt_tokens_details/cache_write_tokens"),
            reasoning: number("/completion_tokens_details/reasoning_tokens"),
        }
    }
}

/// Writes a server-sent event with a name, as Anthropic and OpenAI's responses do.
pub(super) fn named_event(body: &mut Vec<u8>, data: &Value) {
    let name = data["type"].as_str().unwrap_or_default();
    body.extend_from_slice(format!("event: {name}\ndata: {data}\n\n").as_bytes());
}
