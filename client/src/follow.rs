//! How does a session stay live on a screen while connections and daemons come and go?

use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;
use sess_protocol::error::Kind;
use sess_protocol::event::ToldEvent;
use sess_protocol::live::{Delta, Live};
use sess_protocol::methods::SessionFollowParams;
use sess_protocol::view::{Members, View};
use tokio::time::Instant;

use crate::caller::{Dial, Failure};
use crate::connection::{CallError, Connection, Notification, Notifications, members_of};
use crate::socket::OpenError;
use crate::unfinished::Unfinished;

/// The pause between two tries to connect: first and longest.
const PAUSE_MS: (u64, u64) = (20, 1_000);
/// Times that the same place is followed again because something was missing behind it.
const REPAIRS_MAX: u32 = 3;
/// Events after which what nobody draws is let go.
const TRIM_EVENTS: u32 = 1024;
/// Messages of the current thread that are kept then.
const MESSAGES_KEPT: usize = 1000;

/// Why a follow is over although the session is not.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The daemon cannot be reached, or does not allow it.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// What is told does not fit together, also when asked for again.
    #[error("the events of `{session}` do not follow each other: {what}")]
    Torn {
        /// The session.
        session: String,
        /// What does not fit.
        what: String,
    },
}

/// Where a follow begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    /// With a view of this moment, and what happens from now on.
    Now {
        /// Messages of the view.
        messages: u32,
    },
    /// With the session's first event.
    Start,
}

/// What a front end draws.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    /// The follow begins: [`Follower::view`] and [`Follower::unfinished`] say with what.
    Began,
    /// The connection is lost; the daemon is tried again from here on.
    Lost,
    /// Connected again: what was missed comes next.
    Back,
    /// Connected again, to a history that does not go on from what was shown: draw all anew.
    Anew,
    /// A fact; the view has taken it in.
    Event(Box<ToldEvent>),
    /// A new piece of unfinished text, without what was known of it.
    Piece(Delta),
    /// What is unfinished was replaced: [`Follower::unfinished`].
    Live,
    /// The session was deleted: nothing more will come.
    Ended,
}

#[derive(Debug)]
enum Link {
    /// Never connected yet: a failure is answered at once.
    Unopened,
    /// Connected.
    Up { notifications: Notifications, _kept_open: Connection },
    /// Lost since then; not tried again before.
    Down { since: Instant, retry_at: Instant, pause_ms: u64 },
    /// The session is gone.
    Ended,
}

/// One session, followed for as long as it lives.
#[derive(Debug)]
pub struct Follower {
    dial: Dial,
    session: String,
    from: From,
    /// How long a lost daemon is waited for; for ever without.
    patience: Option<Duration>,
    link: Link,
    cursor: Option<String>,
    view: View,
    unfinished: Unfinished,
    repairs: u32,
    untrimmed: u32,
}

#[derive(Deserialize)]
struct Answer {
    cursor: String,
    #[serde(default)]
    view: Option<Members>,
    #[serde(default)]
    live: Option<Live>,
}

impl Follower {
    /// A follower that connects at its first [`Follower::next`].
    #[must_use]
    pub fn new(dial: Dial, session: &str, from: From, patience: Option<Duration>) -> Self {
        Self {
            dial,
            session: session.to_owned(),
            from,
            patience,
            link: Link::Unopened,
            cursor: None,
            view: View::default(),
            unfinished: Unfinished::default(),
            repairs: 0,
            untrimmed: 0,
        }
    }

    /// The session as far as it was told.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// What is being written.
    #[must_use]
    pub fn unfinished(&self) -> &Unfinished {
        &self.unfinished
    }

    /// Waits for what happens next. Can be dropped at any moment without loss.
    ///
    /// # Errors
    /// When the first connection cannot be made, when the daemon stays away for longer than the
    /// patience, or when what it says does not fit together.
    pub async fn next(&mut self) -> Result<Told, FollowError> {
        loop {
            let told = match &mut self.link {
                Link::Ended => return Ok(Told::Ended),
                Link::Unopened | Link::Down { .. } => self.connect().await?,
                Link::Up { notifications, .. } => match notifications.next().await {
                    Some(notification) => self.take(&notification)?,
                    None => {
                        self.go_down();
                        Some(Told::Lost)
                    }
                },
            };
            if let Some(told) = told {
                return Ok(told);
            }
        }
    }

    fn go_down(&mut self) {
        let now = Instant::now();
        self.link = Link::Down { since: now, retry_at: now, pause_ms: PAUSE_MS.0 };
    }

    async fn connect(&mut self) -> Result<Option<Told>, FollowError> {
        if let Link::Down { retry_at, .. } = self.link {
            tokio::time::sleep_until(retry_at).await;
        }
        let (answer, connection, notifications) = match self.follow().await {
            Ok(followed) => followed,
            Err(failure) => return self.miss(failure),
        };
        let first = matches!(self.link, Link::Unopened);
        self.link = Link::Up { notifications, _kept_open: connection };
        self.cursor = Some(answer.cursor);
        let Some(view) = answer.view else {
            return Ok(Some(if first { Told::Began } else { Told::Back }));
        };
        self.view = view_of(&view);
        self.unfinished = Unfinished::default();
        if let Some(live) = answer.live {
            self.unfinished.replace(live);
        }
        // A prefix that was clear may not stay so.
        if let Some(id) = self.view.session().get("id").and_then(Value::as_str) {
            self.session = id.to_owned();
        }
        Ok(Some(if first { Told::Began } else { Told::Anew }))
    }

    async fn follow(&self) -> Result<(Answer, Connection, Notifications), Failure> {
        let (connection, notifications, _) = self.dial.open().await?;
        let (after, messages) = match (&self.cursor, &self.from) {
            (Some(cursor), _) => (Some(cursor.clone()), None),
            (None, From::Start) => (Some("start".to_owned()), None),
            (None, From::Now { messages }) => (None, Some(*messages)),
        };
        let session = self.session.clone();
        let params = SessionFollowParams { session, after, messages, deltas: None };
        // The answer comes before anything of the follow, so nobody needs to take notifications yet.
        let raw = connection.call_raw("session/follow", &members_of(&params)).await?;
        let answer = read("session/follow", &raw)?;
        Ok((answer, connection, notifications))
    }

    /// A try to connect did not succeed: is there another?
    fn miss(&mut self, failure: Failure) -> Result<Option<Told>, FollowError> {
        let Link::Down { since, retry_at, pause_ms } = &mut self.link else {
            return Err(failure.into());
        };
        match failure.kind() {
            Some(Kind::NotFound) => {
                self.link = Link::Ended;
                return Ok(Some(Told::Ended));
            }
            Some(Kind::Conflict) if self.cursor.is_some() => {
                self.cursor = None;
                self.from = From::Now { messages: sess_protocol::methods::VIEW_MESSAGES_DEFAULT };
                return Ok(None);
            }
            _ => {}
        }
        let waited = since.elapsed();
        if !may_pass(&failure) || self.patience.is_some_and(|it| waited > it) {
            return Err(failure.into());
        }
        *retry_at = Instant::now() + Duration::from_millis(*pause_ms);
        *pause_ms = (*pause_ms * 2).min(PAUSE_MS.1);
        Ok(None)
    }

    fn take(&mut self, notification: &Notification) -> Result<Option<Told>, FollowError> {
        match notification.method.as_str() {
            "event" => {
                let event: ToldEvent = read("event", &notification.params)?;
                self.take_event(event)
            }
            "delta" => {
                let delta: Delta = read("delta", &notification.params)?;
                match self.unfinished.add(delta) {
                    Ok(new) => Ok(new.map(Told::Piece)),
                    Err(gap) => self.repair(&gap.to_string()),
                }
            }
            "live" => {
                self.unfinished.replace(read("live", &notification.params)?);
                Ok(Some(Told::Live))
            }
            _ => Ok(None),
        }
    }

    fn take_event(&mut self, told: ToldEvent) -> Result<Option<Told>, FollowError> {
        let (seq, held) = (told.event.seq, self.view.seq());
        let Some(cursor) = told.cursor.clone() else {
            self.link = Link::Ended;
            return Ok(Some(Told::Ended));
        };
        if seq <= held {
            return Ok(None);
        }
        if seq != held + 1 {
            return self.repair(&format!("{seq} comes behind {held}"));
        }
        self.repairs = 0;
        self.cursor = Some(cursor);
        self.view.apply(&told.event);
        self.unfinished.settle(&told.event);
        self.untrimmed += 1;
        if self.untrimmed >= TRIM_EVENTS {
            self.trim();
        }
        Ok(Some(Told::Event(Box::new(told))))
    }

    /// Follows again from the last place that is sure. The daemon does not skip: this is for one that
    /// has a bug, and for bytes that went astray.
    fn repair(&mut self, what: &str) -> Result<Option<Told>, FollowError> {
        self.repairs += 1;
        if self.repairs > REPAIRS_MAX {
            return Err(FollowError::Torn { session: self.session.clone(), what: what.to_owned() });
        }
        self.go_down();
        Ok(None)
    }

    /// Lets go of what is final and of messages far back, so that a follow of days stays small.
    fn trim(&mut self) {
        self.untrimmed = 0;
        let (path, _) = self.view.path(MESSAGES_KEPT);
        let kept = path.iter().filter_map(|it| it.get("id").cloned()).collect::<Vec<_>>();
        let kept: std::collections::HashSet<_> = kept.iter().filter_map(Value::as_str).collect();
        self.view.retain("message", |it| {
            it.get("id").and_then(Value::as_str).is_some_and(|id| kept.contains(id))
        });
        let open = |it: &Members, over: &[&str]| {
            it.get("status").and_then(Value::as_str).is_none_or(|status| !over.contains(&status))
        };
        let over = ["completed", "failed", "cancelled", "interrupted"];
        self.view.retain("task", |it| open(it, &over));
        self.view.retain("tool_call", |it| open(it, &["done", "failed", "denied", "unknown"]));
        self.view.retain("approval", |it| open(it, &["answered", "expired", "withdrawn"]));
    }
}

/// Whether a failure to reach the daemon may be over in a moment.
fn may_pass(failure: &Failure) -> bool {
    match failure {
        Failure::Open(
            OpenError::NotRunning { .. } | OpenError::NotStarted { .. } | OpenError::Silent { .. },
        )
        | Failure::Open(OpenError::Call(CallError::Lost))
        | Failure::Call(CallError::Lost) => true,
        _ => matches!(
            failure.kind(),
            Some(Kind::ShuttingDown | Kind::Overloaded | Kind::Storage | Kind::NotOwner)
        ),
    }
}

fn read<T: DeserializeOwned>(method: &str, raw: &RawValue) -> Result<T, Failure> {
    serde_json::from_str(raw.get()).map_err(|err| {
        CallError::Strange { method: method.to_owned(), what: err.to_string() }.into()
    })
}

/// The fold's state that a snapshot shows.
fn view_of(snapshot: &Members) -> View {
    let mut view = View::default();
    for (name, value) in snapshot {
        match (name.as_str(), value) {
            ("session", Value::Object(session)) => view.change("session", session),
            // Every list is named by the plural of its kind.
            (name, Value::Array(things)) => {
                let kind = name.strip_suffix('s').unwrap_or(name);
                for thing in things.iter().filter_map(Value::as_object) {
                    view.change(kind, thing);
                }
            }
            _ => {}
        }
    }
    view
}

#[cfg(test)]
mod tests;
