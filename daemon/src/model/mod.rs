//! What the daemon needs from a model: a prompt in, a stream of pieces out.
//!
//! A stream yields pieces and ends after exactly one [`Piece::Finish`] or one error. To cancel a call
//! is to drop its stream: the connection closes at once.

mod anthropic;
mod call;
mod check;
mod dialect;
pub mod echo;
mod fault;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod gemini;
mod http;
pub mod oauth;
mod ollama;
mod openai;
mod parts;
mod prices;
pub mod providers;
mod reader;
mod responses;
mod retry;
mod settings;
mod size;
mod sse;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use sess_protocol::money::Money;
use sess_protocol::things::PromptSize;

/// Why a call failed: the closed list of the protocol's `model` errors.
pub use sess_protocol::things::ModelReason as Reason;

/// A model that can be asked.
pub trait Model: Send + Sync {
    /// Asks. Nothing happens before the stream is polled.
    fn ask(&self, prompt: Prompt) -> BoxStream<'static, Result<Piece, ModelError>>;

    /// Whether the model of this name can be shown bytes of this media type.
    fn takes(&self, model: &str, media_type: &str) -> bool;

    /// Whether the model itself has eyes, where only its server knows. Asked about what it takes.
    fn sees(&self, _model: String) -> BoxFuture<'static, bool> {
        Box::pin(std::future::ready(true))
    }

    /// Asks its provider, at no cost, whether it would answer. `Some` says whether the provider lists the
    /// model. What is built in always answers.
    fn check(&self, _model: String) -> BoxFuture<'static, Result<Option<bool>, ModelError>> {
        Box::pin(std::future::ready(Ok(Some(true))))
    }

    /// Asks a server that may be on this machine for what it has, in no time; why not, if it does not
    /// answer. `None` for models that are somewhere else.
    fn local(&self) -> Option<BoxFuture<'static, Result<Vec<String>, String>>> {
        None
    }
}

/// Everything that a model sees of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// The provider's own name of the model, without the provider's prefix.
    pub model: String,
    /// The system prompt.
    pub system: Option<String>,
    /// The turns so far, oldest first, the request last.
    pub messages: Vec<PromptMessage>,
}

/// One message of a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptMessage {
    /// Who spoke.
    pub role: Speaker,
    /// What was said, in order.
    pub parts: Vec<Part>,
}

impl PromptMessage {
    /// A message of text alone.
    pub fn text(role: Speaker, text: impl Into<String>) -> Self {
        PromptMessage { role, parts: vec![Part::Text(text.into())] }
    }
}

/// A part of what was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Text.
    Text(String),
    /// A picture.
    Image {
        /// Its media type, as `image/png`.
        media_type: String,
        /// Its bytes.
        data: Arc<[u8]>,
    },
    /// A file.
    File {
        /// Its name.
        name: String,
        /// Its media type, where it is known.
        media_type: Option<String>,
        /// Its bytes.
        data: Arc<[u8]>,
    },
}

/// Who speaks in a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaker {
    /// The person.
    User,
    /// The model.
    Assistant,
}

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// More of the text.
    Text(String),
    /// More of the reasoning.
    Reasoning(String),
    /// The call is tried again: all pieces before this one are void.
    Restart,
    /// The answer is whole. The last piece.
    Finish(Finish),
}

/// How a whole answer came about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Finish {
    /// Tokens read, in all, as the provider counts them.
    pub input_tokens: u64,
    /// Tokens written, in all, reasoning included.
    pub output_tokens: u64,
    /// Of the input, those read from the provider's cache.
    pub cache_read_tokens: u64,
    /// Of the input, those written to the provider's cache.
    pub cache_write_tokens: u64,
    /// Of the output, those of reasoning.
    pub reasoning_tokens: u64,
    /// Why the model stopped, in the provider's word, as `stop` or `length`.
    pub stop_reason: String,
    /// Which attempt gave the answer, from 1.
    pub attempt: u32,
    /// From asking to the first piece, of the attempt that answered.
    pub ttft_ms: u64,
    /// From asking to the end, all attempts included.
    pub duration_ms: u64,
    /// Where it was asked: scheme, host and port, never a key.
    pub endpoint: Option<String>,
    /// What it cost, where that is known.
    pub cost: Option<Money>,
    /// How its window was spent, where there is one.
    pub prompt: Option<PromptSize>,
}

/// A call that failed for good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ModelError {
    /// What a person or a program can do about it.
    pub reason: Reason,
    /// What happened, with the provider's own words where it gave any, never a key.
    pub message: String,
    /// When the provider asked to wait.
    pub retry_after_ms: Option<u64>,
}
