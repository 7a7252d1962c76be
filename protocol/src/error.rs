//! What can go wrong, as a client sees it: a closed list of kinds, each with its code.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident $text:literal $code:literal $retry:literal;)*) => {
        /// What a client can do about an error: the member it branches on.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[serde(rename_all = "snake_case")]
        pub enum Kind {
            $($(#[$doc])* $name,)*
        }

        impl Kind {
            /// Every kind there is.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The number of JSON-RPC.
            #[must_use]
            pub const fn code(self) -> i32 {
                match self { $(Self::$name => $code,)* }
            }

            /// The word on the wire.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Whether the same request may well succeed later, unchanged.
            #[must_use]
            pub const fn retryable(self) -> bool {
                match self { $(Self::$name => $retry,)* }
            }
        }
    };
}

kinds! {
    /// Not JSON or not UTF-8; the answer's id is null.
    Parse "parse" -32700 false;
    /// Not a request, too long or nested too deep.
    InvalidRequest "invalid_request" -32600 false;
    /// No such method; `nearest`.
    UnknownMethod "unknown_method" -32601 false;
    /// `param` is wrong, missing or unknown; `nearest`.
    InvalidParams "invalid_params" -32602 false;
    /// A bug; `incident` is also in the log.
    Internal "internal" -32603 false;
    /// `what` with `id` is not there.
    NotFound "not_found" -32001 false;
    /// A prefix fits several; `candidates`.
    Ambiguous "ambiguous" -32002 false;
    /// `task` runs or waits there.
    Busy "busy" -32003 true;
    /// Another client, `holder`, holds the session.
    Locked "locked" -32004 true;
    /// An expectation, key or cursor does not fit what stands now.
    Conflict "conflict" -32005 false;
    /// A limit is reached; `retry_after_ms`. Nothing was done.
    Overloaded "overloaded" -32006 true;
    /// Not for this role, or by policy.
    Denied "denied" -32007 false;
    /// The store, the model or the version cannot do it.
    Unsupported "unsupported" -32008 false;
    /// Disk full or store unreachable: nothing was changed.
    Storage "storage" -32009 true;
    /// The model failed; `reason`.
    Model "model" -32010 true;
    /// The daemon is stopping; `retry_after_ms`.
    ShuttingDown "shutting_down" -32011 true;
    /// Another daemon holds the session; `owner`.
    NotOwner "not_owner" -32012 true;
    /// Whether it was done is not known: ask again with the same key.
    OutcomeUnknown "outcome_unknown" -32013 true;
}

/// An error as it travels. Boxed inside, so that results stay small.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Error(Box<ErrorBody>);

/// The members of an error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ErrorBody {
    /// The number of JSON-RPC for the kind.
    pub code: i32,
    /// What happened and what to do, for a person.
    pub message: String,
    /// What a program branches on.
    pub data: ErrorData,
}

/// What a program branches on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ErrorData {
    /// The kind.
    pub kind: Kind,
    /// Whether the same request may well succeed later.
    pub retryable: bool,
    /// The way out, as a command or a method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The further members that belong to the kind.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

impl Error {
    /// An error of this kind with a message for a person.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self(Box::new(ErrorBody {
            code: kind.code(),
            message: message.into(),
            data: ErrorData { kind, retryable: kind.retryable(), hint: None, more: Map::new() },
        }))
    }

    /// The same error with one more member of `data`.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.data.more.insert(name.to_owned(), value.into());
        self
    }

    /// The same error with the way out.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.data.hint = Some(hint.into());
        self
    }

    /// What a program branches on.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.0.data.kind
    }

    /// What happened, for a person.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The way out, when there is one to tell.
    #[must_use]
    pub fn way_out(&self) -> Option<&str> {
        self.0.data.hint.as_deref()
    }

    /// A further member of `data`.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&Value> {
        self.0.data.more.get(name)
    }

    /// `what` with `id` is not there.
    #[must_use]
    pub fn not_found(what: &str, id: &str) -> Self {
        let id: String = id.chars().take(128).collect();
        Self::new(Kind::NotFound, format!("there is no {what} `{id}`"))
            .with("what", what)
            .with("id", id)
    }

    /// A parameter is wrong.
    #[must_use]
    pub fn invalid(param: &str, message: impl Into<String>) -> Self {
        Self::new(Kind::InvalidParams, message).with("param", param)
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {}
