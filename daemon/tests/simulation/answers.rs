//! Answers: whether each fits to its request and to what is stored.

use serde_json::Value;
use sess_protocol::id::SessionId;

use crate::follower::check_view;
use crate::oracle::{Log, Oracle};
use crate::rules;

/// A request that was sent.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: &'static str,
    /// Without its key.
    pub(crate) params: Value,
    pub(crate) key: Option<String>,
    /// The answer that the key got before, where it did.
    pub(crate) before: Option<Value>,
    /// Whether the key belongs to another request that succeeded.
    pub(crate) other: bool,
}

impl Asked {
    /// The session that is asked for.
    pub(crate) fn session(&self) -> Option<SessionId> {
        self.params["session"].as_str()?.parse().ok()
    }
}

/// What an answer is judged by.
pub(crate) struct Judge<'a> {
    pub(crate) oracle: &'a Oracle,
    /// Whether nothing goes wrong any more.
    pub(crate) calm: bool,
    /// Whether the daemon is stopping.
    pub(crate) stopping: bool,
}

impl Judge<'_> {
    /// Judges an error.
    pub(crate) fn error(&self, asked: &Asked, error: &Value) -> Result<(), String> {
        let kind = error["data"]["kind"].as_str().unwrap_or("");
        let mode = asked.params["if_busy"].as_str().unwrap_or("");
        let gone = asked.session().is_none_or(|it| !self.oracle.has(it));
        let fits = match kind {
            "busy" => mode == "reject" || asked.method == "session/delete",
            "locked" => !self.calm,
            "conflict" => asked.other || asked.params.get("expect_seq").is_some(),
            "overloaded" => asked.method == "chat/send",
            "storage" | "outcome_unknown" => !self.calm,
            "shutting_down" => self.stopping || !self.calm || gone,
            "not_found" => self.is_deleted(asked.session()),
            "internal" => self.oracle.excuse(),
            _ => false,
        };
        if !fits {
            return Err(format!("{asked:?} is refused with {error}"));
        }
        // Before a key that has its answer nothing else is looked at.
        let first = ["busy", "locked", "overloaded"];
        if (asked.before.is_some() || asked.other) && first.contains(&kind) {
            return Err(format!("{asked:?} was answered before, and is refused with {error}"));
        }
        Ok(())
    }

    /// A session that is not found must be deleted, as may come out at the next start only.
    pub(crate) fn is_deleted(&self, session: Option<SessionId>) -> bool {
        if let Some(session) = session.filter(|it| self.oracle.has(*it)) {
            self.oracle.owe(session, None, &[]);
        }
        true
    }

    /// Judges a result.
    pub(crate) fn result(&self, asked: &Asked, result: &Value) -> Result<(), String> {
        if asked.other {
            return Err(format!("{asked:?} has another's key, and is answered {result}"));
        }
        if let Some(before) = &asked.before {
            // A session takes its keys with it.
            let made = before["id"].as_str().and_then(|it| it.parse().ok());
            if made.is_some_and(|it| self.oracle.is_deleted(it)) {
                return Ok(());
            }
            return match before == result {
                true => Ok(()),
                false => Err(format!("{asked:?} was answered {before}, and then {result}")),
            };
        }
        let wrong = |what: String| Err(format!("{what}: {asked:?} is answered {result}"));
        let session = asked.session().or_else(|| result["session"].as_str()?.parse().ok());
        match asked.method {
            "session/create" => {
                let id = result["id"].as_str().and_then(|it| it.parse().ok());
                let Some(id) = id else { return wrong("no id".to_owned()) };
                self.stored(asked, id, 1, &["session.created"]).or_else(wrong)
            }
            "chat/send" => {
                let id = session.ok_or("a request without a session")?;
                let content = asked.params["content"].as_str().unwrap_or("");
                let task = result["task"].as_str().unwrap_or("?");
                self.stored(asked, id, seq(result), &[content, task]).or_else(wrong)
            }
            "session/update" => {
                let id = session.ok_or("an update without a session")?;
                self.stored(asked, id, seq(result), &["session.updated"]).or_else(wrong)
            }
            "session/lock" => {
                let lock = result["lock"]["id"].as_str().unwrap_or("?").to_owned();
                let id = session.ok_or("a lock without a session")?;
                let stored = |log: &Log| log.json.iter().any(|it| it.contains(&lock));
                match self.oracle.with_log(id, stored) {
                    Some(false) => wrong("no such lock is stored".to_owned()),
                    _ => Ok(()),
                }
            }
            "session/persist" => {
                let checkpoint = result["checkpoint"]["id"].as_str().unwrap_or("?").to_owned();
                let id = session.ok_or("no session")?;
                self.stored(asked, id, seq(result), &[&checkpoint]).or_else(wrong)
            }
            "session/delete" => match session.is_some_and(|it| self.oracle.is_deleted(it)) {
                false if asked.key.is_none() => wrong("it is there".to_owned()),
                is_gone => {
                    session.filter(|_| !is_gone).inspect(|it| self.oracle.owe(*it, None, &[]));
                    Ok(())
                }
            },
            "task/cancel" | "task/wait" => self.task(asked, result),
            "session/resume" => {
                let id = session.ok_or("no session")?;
                check_view(self.oracle, id, result, 50)
            }
            _ => Ok(()),
        }
    }

    /// An event of this number must be stored, with this in it.
    fn stored(&self, asked: &Asked, id: SessionId, seq: u64, has: &[&str]) -> Result<(), String> {
        if self.oracle.is_deleted(id) {
            return Ok(());
        }
        match self.oracle.event(id, seq) {
            Some((json, _)) if has.iter().all(|it| json.contains(it)) => Ok(()),
            Some((json, _)) => Err(format!("event {seq} is {json}")),
            None if asked.key.is_some() => {
                self.oracle.owe(id, Some(seq), has);
                Ok(())
            }
            None => Err(format!("event {seq} is not stored")),
        }
    }

    /// The task of an answer must be as stored.
    fn task(&self, asked: &Asked, result: &Value) -> Result<(), String> {
        let id = result["task"]["id"].as_str().unwrap_or("");
        let status = result["task"]["status"].as_str().unwrap_or("");
        let session = result["task"]["session"].as_str().and_then(|it| it.parse().ok());
        let session: SessionId = session.ok_or_else(|| format!("{result} names no session"))?;
        let is_final = ["completed", "failed", "cancelled", "interrupted"].contains(&status);
        if !is_final && (asked.method == "task/cancel" || asked.params.get("timeout_ms").is_none())
        {
            return Err(format!("{asked:?} is answered with {result}"));
        }
        let ends = |log: &Log| log.view.thing("task", id).is_some_and(rules::is_final);
        if is_final && self.oracle.with_log(session, ends) == Some(false) {
            // It may be stored, and its commit not have come back from the store.
            self.oracle.owe(session, None, &[id, &format!("\"task.{status}\"")]);
            return Ok(());
        }
        let check = |log: &Log| Self::task_in(log, id, status, is_final, result);
        self.oracle.with_log(session, check).unwrap_or(Ok(()))
    }

    fn task_in(
        log: &Log,
        id: &str,
        status: &str,
        is_final: bool,
        result: &Value,
    ) -> Result<(), String> {
        let stored = log.view.thing("task", id).ok_or("an answer names no task that is stored")?;
        if is_final && rules::text(stored, "status") != status {
            return Err(format!("{result} is answered, stored is {stored:?}"));
        }
        let Some(answer) = result.get("answer") else { return Ok(()) };
        let message = answer["id"].as_str().and_then(|it| log.view.thing("message", it));
        if message.map(|it| Value::Object(it.clone())).as_ref() != Some(answer) {
            return Err(format!("the answer {answer} is stored as {message:?}"));
        }
        Ok(())
    }
}

fn seq(result: &Value) -> u64 {
    result["seq"].as_u64().unwrap_or(0)
}
