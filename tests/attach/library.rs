//! Does the client library's follower come through all of it?

use std::time::Duration;

use serde_json::Value;
use sess_client::follow::{FollowError, From};
use sess_client::{Dial, Follower, Told};

use crate::stage::Door;

/// How long a killed daemon is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// A follower with a count of what it went through.
pub(crate) struct Library {
    follower: Follower,
    door: Door,
    began: bool,
    last: Option<u64>,
    lost: u32,
    back: u32,
    ended: Vec<String>,
}

impl Library {
    /// One that begins with a view of now, or with the first event.
    pub(crate) fn new(door: &Door, session: &str, from_start: bool) -> Library {
        let client = "attach".to_owned();
        let dial =
            Dial { path: door.socket.clone(), client, workspace: None, start: false, greet: None };
        let from = if from_start { From::Start } else { From::Now { messages: 50 } };
        let follower = Follower::new(dial, session, from, Some(PATIENCE));
        Library {
            follower,
            door: door.clone(),
            began: false,
            last: None,
            lost: 0,
            back: 0,
            ended: vec![],
        }
    }

    /// Takes what happens next.
    pub(crate) async fn next(&mut self) {
        let starts = self.door.starts();
        let told = match self.follower.next().await {
            Ok(told) => told,
            // A first connection that meets the daemon's end is an error, and tried again by the user.
            Err(FollowError::Failed(failure))
                if self.door.may_close && !self.began && failure.is_unreachable() =>
            {
                return self.door.opened_after(starts).await;
            }
            Err(err) => panic!("{err}"),
        };
        self.began = true;
        match told {
            Told::Event(event) => {
                let seq = event.event.seq;
                let before = self.last.replace(seq);
                assert!(before.is_none_or(|it| it + 1 == seq), "{seq} comes behind {before:?}");
                let task = event.event.data.get("task");
                let text = |name: &str| task.and_then(|it| it.get(name)).and_then(Value::as_str);
                let is_final = matches!(
                    text("status"),
                    Some("completed" | "failed" | "cancelled" | "interrupted")
                );
                if let Some(id) = text("id").filter(|_| is_final) {
                    self.ended.push(id.to_owned());
                }
            }
            Told::Lost => self.lost += 1,
            Told::Back => self.back += 1,
            Told::Anew => panic!("the cursor of an event that was told is refused"),
            Told::Ended => panic!("the session was not deleted"),
            Told::Began | Told::Piece(_) | Told::Live => {}
        }
        assert!(
            self.door.may_close || self.lost == 0,
            "the daemon closed a connection that it serves"
        );
        // One that found a piece missing goes back by itself, without having lost the connection.
        assert!(self.back <= self.lost, "something was missing from what the daemon told");
    }

    /// Whether it knows that this task is over.
    pub(crate) fn has_ended(&self, task: &str) -> bool {
        self.ended.iter().any(|it| it == task)
    }

    /// The number of the last event that it was told.
    pub(crate) fn seq(&self) -> u64 {
        self.follower.view().seq()
    }

    /// What it knows, as a view.
    pub(crate) fn snapshot(&self) -> Value {
        Value::Object(self.follower.view().snapshot(50))
    }
}
