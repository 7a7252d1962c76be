//! Why does a command end before its end, and what is the way out?

use std::fmt::Display;
use std::io;
use std::process::ExitCode;

use sess_client::{CallError, Failure, FollowError, OpenError};
use sess_protocol::error::Kind;

use super::output::{note, note_hint};

/// Refused or failed.
const EXIT_FAILED: u8 = 1;
/// Wrong usage.
const EXIT_USAGE: u8 = 2;
/// The daemon cannot be reached.
const EXIT_UNREACHABLE: u8 = 3;

/// Why a command ends before its end.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Whoever reads our output has enough.
    PipeClosed,
    /// All is said; the command did not do what was asked.
    Said,
    /// To be said, with the way out.
    Failed { message: String, hint: Option<String>, code: u8 },
}

impl Stop {
    pub(crate) fn failed(message: impl Display) -> Self {
        Self::Failed { message: message.to_string(), hint: None, code: EXIT_FAILED }
    }

    pub(crate) fn usage(message: impl Display) -> Self {
        Self::Failed { message: message.to_string(), hint: None, code: EXIT_USAGE }
    }

    pub(crate) fn hint(mut self, way_out: impl Display) -> Self {
        if let Self::Failed { hint, .. } = &mut self {
            *hint = Some(way_out.to_string());
        }
        self
    }

    /// Says why, and answers what the shell hears.
    pub(crate) fn report(self) -> ExitCode {
        match self {
            Self::PipeClosed => ExitCode::SUCCESS,
            Self::Said => EXIT_FAILED.into(),
            Self::Failed { message, hint, code } => {
                note(&message);
                if let Some(hint) = hint {
                    note_hint(&hint);
                }
                code.into()
            }
        }
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        // The commands call no method that is not in the manual: a daemon without it is older.
        if failure.kind() == Some(Kind::UnknownMethod) {
            return Self::failed(failure).hint(
                "the daemon is older than this `sess`: update `sessd`, then `sess daemon restart`",
            );
        }
        let code = if failure.is_unreachable() { EXIT_UNREACHABLE } else { EXIT_FAILED };
        Self::Failed { message: failure.to_string(), hint: failure.hint(), code }
    }
}

impl From<OpenError> for Stop {
    fn from(err: OpenError) -> Self {
        Failure::from(err).into()
    }
}

impl From<CallError> for Stop {
    fn from(err: CallError) -> Self {
        Failure::from(err).into()
    }
}

impl From<FollowError> for Stop {
    fn from(err: FollowError) -> Self {
        match err {
            FollowError::Failed(failure) => failure.into(),
            FollowError::Torn { .. } => Self::failed(err),
        }
    }
}

impl From<io::Error> for Stop {
    fn from(err: io::Error) -> Self {
        match err.kind() {
            io::ErrorKind::BrokenPipe => Self::PipeClosed,
            _ => Self::failed(format_args!("cannot write: {err}")),
        }
    }
}
