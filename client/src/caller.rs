//! Calls that outlive a connection: how is a daemon dialled, and a call repeated without doubling it?

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::value::RawValue;
use serde_json::{Map, Value};
use sess_protocol::envelope::PROTOCOL;
use sess_protocol::error::{Error, Kind};
use sess_protocol::methods::{
    Access, ClientInfo, Initialize, InitializeParams, InitializeResult, Method, info,
};

use crate::connection::{CallError, Connection, Notifications, members_of, read_result};
use crate::socket::{self, HELLO_DEADLINE, OpenError};
use crate::start;

/// How long a call is repeated while the daemon comes and goes.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// The longest that is waited between two tries, whatever the daemon asks for.
const PAUSE_MS_MAX: u64 = 2_000;
/// The pause after the first try.
const PAUSE_MS_MIN: u64 = 20;

/// Why something asked of the daemon did not happen.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The daemon cannot be reached.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The call has no result.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl Failure {
    /// The way out, for a person.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Open(err) => err.hint(),
            Self::Call(err) => err.hint(),
        }
    }

    /// The kind of a refusal.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        match self {
            Self::Call(err) | Self::Open(OpenError::Call(err)) => err.kind(),
            Self::Open(_) => None,
        }
    }

    /// Whether the daemon could not be reached at all.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::Open(OpenError::Call(err)) | Self::Call(err) => matches!(err, CallError::Lost),
            Self::Open(_) => true,
        }
    }
}

/// How the daemon is reached: as often as needed, always alike.
#[derive(Debug, Clone)]
pub struct Dial {
    /// Its socket.
    pub path: PathBuf,
    /// Who calls.
    pub client: String,
    /// The workspace for methods that do not name one.
    pub workspace: Option<String>,
    /// Whether a daemon is started when none runs.
    pub start: bool,
    /// Hears at each connection which daemon it is: its version may have changed meanwhile.
    pub greet: Option<fn(&InitializeResult)>,
}

impl Dial {
    /// Connects, introduces itself, and checks that both speak one protocol.
    ///
    /// # Errors
    /// When the daemon cannot be reached, started or understood.
    pub async fn open(&self) -> Result<(Connection, Notifications, InitializeResult), OpenError> {
        let stream = match socket::connect(&self.path).await {
            Err(OpenError::NotRunning { .. }) if self.start => start::start(&self.path).await?,
            other => other?,
        };
        let pid = socket::process_of(&stream);
        let silent = || OpenError::Silent { path: self.path.clone(), pid };
        let (connection, notifications) = Connection::over(stream);
        let params = InitializeParams {
            protocol: PROTOCOL,
            client: ClientInfo {
                name: self.client.clone(),
                version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            },
            role: None,
            workspace: self.workspace.clone(),
        };
        let welcome = connection.call::<Initialize>(&params);
        let welcome = tokio::time::timeout(HELLO_DEADLINE, welcome).await.map_err(|_| silent())?;
        let welcome = match welcome {
            Err(CallError::Refused(error)) if error.kind() == Kind::Unsupported => {
                let supported = error.member("supported").map(ToString::to_string);
                let theirs = supported.unwrap_or_else(|| "another one".to_owned());
                return Err(OpenError::OtherProtocol { theirs, ours: PROTOCOL });
            }
            other => other?,
        };
        if welcome.protocol != PROTOCOL {
            let theirs = welcome.protocol.to_string();
            return Err(OpenError::OtherProtocol { theirs, ours: PROTOCOL });
        }
        if let Some(greet) = self.greet {
            greet(&welcome);
        }
        Ok((connection, notifications, welcome))
    }
}

/// Calls the daemon over as many connections as it takes.
///
/// What only reads is repeated as it is; what changes something carries an idempotency key made
/// once, so that a repeated call is one change. What can do neither is tried once.
#[derive(Debug)]
pub struct Caller {
    dial: Dial,
    connection: Option<Connection>,
}

impl Caller {
    /// A caller that connects at its first call.
    #[must_use]
    pub fn new(dial: Dial) -> Self {
        Self { dial, connection: None }
    }

    /// How it reaches the daemon.
    #[must_use]
    pub fn dial(&self) -> &Dial {
        &self.dial
    }

    /// Has another workspace at each connection from here on: that of an answered `scope/switch`.
    pub fn set_workspace(&mut self, workspace: String) {
        self.dial.workspace = Some(workspace);
    }

    /// Calls a method.
    ///
    /// # Errors
    /// When it is refused for good, or the daemon stays away for [`PATIENCE`].
    pub async fn call<M: Method>(&mut self, params: &M::Params) -> Result<M::Result, Failure> {
        let raw = self.call_raw(M::NAME, members_of(params)).await?;
        Ok(read_result::<M>(&raw)?)
    }

    /// Calls a method by its name; answers the result as the daemon wrote it.
    ///
    /// # Errors
    /// When it is refused for good, or the daemon stays away for [`PATIENCE`].
    pub async fn call_raw(
        &mut self,
        method: &str,
        mut params: Map<String, Value>,
    ) -> Result<Box<RawValue>, Failure> {
        let table = info(method);
        let keyed = table.is_some_and(|it| it.keyed);
        let repeatable = keyed || table.is_some_and(|it| it.access == Access::Read);
        if keyed && !params.contains_key("idempotency_key") {
            let key = uuid::Uuid::new_v4().to_string();
            params.insert("idempotency_key".to_owned(), key.into());
        }
        let begun = Instant::now();
        let mut pause_ms = PAUSE_MS_MIN;
        loop {
            let failure = match self.try_once(method, &params).await {
                Ok(result) => return Ok(result),
                Err(failure) => failure,
            };
            let Some(wanted_ms) = worth_repeating(&failure, repeatable) else {
                return Err(failure);
            };
            let wait_ms = wanted_ms.max(pause_ms).min(PAUSE_MS_MAX);
            let wait = Duration::from_millis(wait_ms);
            if begun.elapsed() + wait > PATIENCE {
                return Err(failure);
            }
            tokio::time::sleep(wait).await;
            pause_ms = (pause_ms * 2).min(PAUSE_MS_MAX);
        }
    }

    async fn try_once(
        &mut self,
        method: &str,
        params: &Map<String, Value>,
    ) -> Result<Box<RawValue>, Failure> {
        if self.connection.is_none() {
            let (connection, _, _) = self.dial.open().await?;
            self.connection = Some(connection);
        }
        let connection = self.connection.as_ref().expect("it was just opened");
        let answer = connection.call_raw(method, params).await;
        // A daemon that stops answers, and then hangs up: the next try needs another connection.
        let ends = matches!(&answer, Err(CallError::Lost | CallError::Strange { .. }));
        if ends || kind_of(&answer) == Some(Kind::ShuttingDown) {
            self.connection = None;
        }
        Ok(answer?)
    }
}

fn kind_of(answer: &Result<Box<RawValue>, CallError>) -> Option<Kind> {
    answer.as_ref().err().and_then(CallError::kind)
}

/// How long to wait before the same call is worth another try; none when it is not.
fn worth_repeating(failure: &Failure, repeatable: bool) -> Option<u64> {
    match failure {
        Failure::Call(CallError::Lost) => repeatable.then_some(0),
        // The connection ended before the call was made.
        Failure::Open(OpenError::Call(CallError::Lost)) => Some(0),
        Failure::Open(OpenError::Call(CallError::Refused(error)))
        | Failure::Call(CallError::Refused(error)) => match error.kind() {
            Kind::ShuttingDown => Some(asked_pause_ms(error)),
            Kind::OutcomeUnknown => repeatable.then_some(0),
            // Nothing was done. A full queue says so without a time: it empties at its own pace.
            Kind::Overloaded if error.member("retry_after_ms").is_some() => {
                Some(asked_pause_ms(error))
            }
            _ => None,
        },
        Failure::Open(_) | Failure::Call(_) => None,
    }
}

fn asked_pause_ms(error: &Error) -> u64 {
    error.member("retry_after_ms").and_then(Value::as_u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripted::{Folder, Server, welcome};
    use serde_json::json;
    use sess_protocol::methods::{ChatSend, ChatSendParams, Content, DaemonStatus, Empty};

    fn caller(folder: &Folder) -> Caller {
        let client = "test".to_owned();
        Caller::new(Dial {
            path: folder.socket(),
            client,
            workspace: None,
            start: false,
            greet: None,
        })
    }

    fn hello() -> ChatSendParams {
        ChatSendParams {
            session: None,
            content: Content::Text("hello".to_owned()),
            thread: None,
            model: None,
            agent: None,
            if_busy: None,
            budget: None,
            schema: None,
        }
    }

    #[tokio::test]
    async fn a_send_whose_answer_was_lost_is_repeated_with_the_same_key() {
        let folder = Folder::new();
        let mut server = Server::bind(&folder);
        let script = async {
            let mut peer = server.welcome().await;
            let first = peer.expect("chat/send").await;
            drop(peer);
            let mut peer = server.welcome().await;
            let second = peer.expect("chat/send").await;
            peer.refuse(&second, &Error::new(Kind::ShuttingDown, "stopping")).await;
            let mut peer = server.welcome().await;
            let third = peer.expect("chat/send").await;
            let result = json!({
                "session": "sess_1f2e3d4c5b6a49788796a5b4c3d2e1f0",
                "task": "task_01998f2e4c0070008000000000000001",
                "message": "msg_01998f2e4c0070008000000000000002",
                "thread": "main", "seq": 2, "position": 0,
            });
            peer.answer(&third, result).await;
            (first["params"].clone(), second["params"].clone(), third["params"].clone(), peer)
        };
        let mut caller = caller(&folder);
        let params = hello();
        let (answer, (first, second, third, _peer)) =
            tokio::join!(caller.call::<ChatSend>(&params), script);
        assert_eq!(answer.unwrap().seq, 2);
        assert!(first["idempotency_key"].is_string());
        assert_eq!((&first, &first), (&second, &third));
    }

    #[tokio::test]
    async fn a_refusal_is_not_repeated_and_a_change_without_key_neither() {
        let folder = Folder::new();
        let mut server = Server::bind(&folder);
        let mut caller = caller(&folder);
        let script = async {
            let mut peer = server.welcome().await;
            let request = peer.expect("daemon/status").await;
            peer.refuse(&request, &Error::new(Kind::Storage, "disk full")).await;
            peer.expect("daemon/reload").await;
        };
        let calls = async {
            let status = caller.call::<DaemonStatus>(&Empty {}).await.unwrap_err();
            let reload = caller.call_raw("daemon/reload", Map::new()).await.unwrap_err();
            (status, reload)
        };
        let ((status, reload), ()) = tokio::join!(calls, script);
        assert_eq!(status.kind(), Some(Kind::Storage));
        assert!(reload.is_unreachable());
    }

    #[tokio::test(start_paused = true)]
    async fn a_daemon_that_says_nothing_is_not_waited_for_for_ever() {
        let folder = Folder::new();
        let mut server = Server::bind(&folder);
        let dial = caller(&folder).dial().clone();
        let script = async {
            let mut peer = server.accept().await;
            peer.expect("initialize").await;
            peer
        };
        let (opened, _peer) = tokio::join!(dial.open(), script);
        let err = opened.map(|_| ()).unwrap_err();
        // What listens here is this test and no `sessd`, so nobody is told to end it.
        assert!(matches!(err, OpenError::Silent { pid: None, .. }), "{err}");
    }

    #[tokio::test]
    async fn a_daemon_of_another_protocol_is_named_as_such() {
        let folder = Folder::new();
        let mut server = Server::bind(&folder);
        let script = async {
            let mut peer = server.accept().await;
            let request = peer.expect("initialize").await;
            let error = Error::new(Kind::Unsupported, "no").with("supported", json!([2]));
            peer.refuse(&request, &error).await;
            let mut peer = server.accept().await;
            let request = peer.expect("initialize").await;
            peer.answer(&request, welcome(3)).await;
        };
        let dial = caller(&folder).dial().clone();
        let opens = async { (dial.open().await.unwrap_err(), dial.open().await.unwrap_err()) };
        let ((first, second), ()) = tokio::join!(opens, script);
        let text = "the daemon speaks protocol [2], this client speaks 1";
        assert_eq!(first.to_string(), text);
        assert!(matches!(second, OpenError::OtherProtocol { .. }));
    }
}
