//! What a client may ask of a session: checked, decided, saved, answered.

use sess_protocol::error::{Error, Kind};

use serde_json::{Value, json};
use sess_protocol::id::TaskId;
use sess_protocol::methods::{ChatSendParams, ChatSendResult, IfBusy, SessionUpdateParams};
use sess_protocol::things::{By, Steering, TaskReason};

use super::actor::{Actor, With};
use super::attached::content_of;
use super::command::{ConnectionId, Intent, Origin, Outcome, Reply, SendAsk};
use super::ending::{Answer, Ending};
use super::members::Birth;
use super::queue::{Accepted, Ask, no_task};
use super::state::Expected;
use super::steering::fits;
use crate::agents;
use sess_protocol::id::{CheckpointId, ThreadId};
use sess_protocol::methods::SessionCreateParams;

impl Actor {
    pub(super) async fn intend(&mut self, intent: Intent, origin: Origin, reply: Reply) {
        if let Some(outcome) = self.answered_before(&origin).await {
            let _ = reply.send(outcome);
            return self.end_if_unborn();
        }
        if let Err(refusal) = self.may(&intent, &origin) {
            let _ = reply.send(Err(refusal));
            return self.end_if_unborn();
        }
        let outcome = match intent {
            Intent::Create(birth) => self.create(birth.0, birth.1, &origin).await,
            Intent::Update(params) => self.update(*params, &origin).await,
            Intent::Activate => self.activate(&origin).await,
            Intent::Lock { id, wait } => return self.lock(id, wait, origin, reply).await,
            Intent::Release { force } => self.release(force, &origin).await,
            Intent::Persist(id) => self.persist(id, &origin).await,
            Intent::Send(ask) => return self.send(*ask, origin, reply).await,
            Intent::Cancel(task) => self.cancel(task, &origin).await,
            Intent::UpdateTask(new) => self.update_task(*new, &origin).await,
            Intent::Retry(retry) => self.retry(retry, &origin).await,
            Intent::Own(params) => self.append_own(*params, &origin).await,
            Intent::CleanUp => match self.may_clean_up() {
                Ok(()) => return self.delete(origin, reply).await,
                Err(refusal) => Err(refusal),
            },
            Intent::Delete { force } => match self.may_delete(force) {
                Ok(()) => return self.delete(origin, reply).await,
                Err(refusal) => Err(refusal),
            },
        };
        let _ = reply.send(outcome);
        self.pass_lock_on().await;
    }

    /// What speaks against an intent whatever it is: another's lock, or an expectation.
    fn may(&self, intent: &Intent, origin: &Origin) -> Result<(), Error> {
        let free = matches!(
            intent,
            Intent::Cancel(_) | Intent::Create(_) | Intent::Lock { .. } | Intent::Release { .. }
        );
        if !free && let Some(refusal) = self.locked_for(origin.connection) {
            return Err(refusal);
        }
        let thread = match intent {
            Intent::Send(ask) => ask.params.thread.clone().map(ThreadId),
            _ => None,
        };
        let thread = thread.unwrap_or_else(|| self.state.thread());
        let head = origin.expect_head.as_ref().map(Option::as_deref);
        self.state.expect(Expected { seq: origin.expect_seq, head, thread: &thread })
    }

    fn session_json(&self, session: serde_json::Map<String, Value>) -> String {
        Value::Object(session).to_string()
    }

    async fn create(
        &mut self,
        birth: Birth,
        params: SessionCreateParams,
        origin: &Origin,
    ) -> Outcome {
        let ephemeral = params.ephemeral == Some(true);
        let mut change = self.active_change();
        change.create(birth, params, &origin.by);
        let answer = self.session_json(change.state.session(0));
        let with = With::key(origin, &answer);
        let outcome = self.settle(change, with, origin, answer).await;
        self.end_if_unborn();
        if ephemeral && self.state.seq() > 0 {
            self.creator = Some(origin.connection);
        }
        outcome
    }

    /// Leaves memory when nothing came of making the session: its key was another's, or the store
    /// refused.
    fn end_if_unborn(&mut self) {
        if self.state.seq() == 0 {
            self.end_at_stop();
        }
    }

    async fn update(&mut self, params: SessionUpdateParams, origin: &Origin) -> Outcome {
        let mut change = self.change();
        change.update(params, &origin.by)?;
        let answer = self.session_json(change.state.session(self.followers.len()));
        let with = With::key(origin, &answer);
        self.settle(change, with, origin, answer).await
    }

    async fn activate(&mut self, origin: &Origin) -> Outcome {
        let mut change = self.active_change();
        change.activate(&origin.by);
        let answer = self.session_json(change.state.session(self.followers.len()));
        self.settle(change, With::default(), origin, answer).await
    }

    async fn persist(&mut self, id: CheckpointId, origin: &Origin) -> Outcome {
        self.keep_partial().await;
        let mut change = self.change();
        let checkpoint = change.checkpoint(id, &origin.by);
        let seq = change.state.seq();
        let answer = json!({ "checkpoint": checkpoint, "seq": seq }).to_string();
        let with = With::key(origin, &answer);
        self.settle(change, with, origin, answer).await
    }

    async fn send(&mut self, ask: SendAsk, origin: Origin, reply: Reply) {
        let outcome = self.say(ask, &origin).await;
        let interrupts = outcome.as_ref().ok().and_then(|it| it.1);
        let _ = reply.send(outcome.map(|it| it.0));
        self.end_if_unborn();
        if let Some(task) = interrupts {
            self.give_way(task).await;
        }
    }

    /// Accepts a request; answers what it becomes, and the task that it interrupts.
    async fn say(
        &mut self,
        ask: SendAsk,
        origin: &Origin,
    ) -> Result<(String, Option<TaskId>), Error> {
        let born_in = ask.birth.as_ref().and_then(|it| it.workspace.clone());
        let settings = match born_in {
            Some(workspace) => self.shared.settings(Some(&workspace.path)).await,
            None => self.shared.settings(self.workspace()).await,
        };
        let if_busy = ask.params.if_busy.unwrap_or_else(|| settings.if_busy());
        let steers = if_busy == IfBusy::Steer;
        if let Some(task) = self.state.running().filter(|_| steers) {
            return Ok((self.steer(task, ask, origin).await?, None));
        }
        refuse_unserved(&ask.params)?;
        let SendAsk { birth, params, task, message } = ask;
        let mut change = self.active_change();
        if let Some(birth) = birth {
            change.create(birth, SessionCreateParams::default(), &origin.by);
        }
        let thread = params.thread.map(ThreadId).unwrap_or_else(|| change.state.thread());
        if change.state.head(&thread).is_none() {
            return Err(Error::not_found("thread", &thread.0));
        }
        let named = match &params.agent {
            Some(name) => agents::find(&settings, name)?.model,
            None => None,
        };
        let own = || change.state.text("model").to_owned();
        let model = params.model.or(named).unwrap_or_else(own);
        self.shared.model(&model)?;
        let (content, blobs) = content_of(&self.shared, &model, params.content).await?;
        let ask = Ask {
            task,
            message,
            content,
            thread: thread.clone(),
            model,
            agent: params.agent,
            if_busy,
            by: origin.by.clone(),
        };
        let slot = self.shared.slots.try_take();
        let accepted = change.accept(ask, slot.is_some() && !self.shared.stop.is_stopping())?;
        let result = ChatSendResult {
            session: self.state.id,
            task,
            message,
            thread,
            seq: change.state.seq(),
            position: change.state.position(task).unwrap_or(0),
        };
        let answer = serde_json::to_string(&result).expect("a result is plain");
        let with = With { blobs, ..With::key(origin, &answer) };
        let before = self.state.seq();
        let answer = self.settle(change, with, origin, answer).await?;
        // A retry that lost the race for its key is answered as the winner was, and starts nothing.
        let is_new = self.state.seq() != before;
        self.creator = None;
        if accepted == Accepted::Started && is_new {
            self.begin_run(slot);
        }
        let interrupts = match accepted {
            Accepted::Interrupts(task) if is_new => Some(task),
            _ => None,
        };
        Ok((answer, interrupts))
    }

    /// The path of the session's workspace.
    pub(super) fn workspace(&self) -> Option<&str> {
        let workspace = self.state.view().session().get("workspace");
        workspace.and_then(|it| it.get("path")).and_then(Value::as_str)
    }

    /// Says something to the task at work.
    async fn steer(&mut self, id: TaskId, ask: SendAsk, origin: &Origin) -> Outcome {
        let SendAsk { params, message, .. } = ask;
        let task = self.state.task(id).expect("the task at work is in the view");
        fits(&self.state, &task, &params)?;
        let (content, blobs) = content_of(&self.shared, &task.model, params.content).await?;
        let mut change = self.active_change();
        let thread = task.thread.clone().unwrap_or_else(|| self.state.thread());
        let (by, at) = (origin.by.clone(), change.now);
        change.steer(task, Steering { message, content, by, at })?;
        let (session, seq) = (self.state.id, change.state.seq());
        let result = ChatSendResult { session, task: id, message, thread, seq, position: 0 };
        let answer = serde_json::to_string(&result).expect("a result is plain");
        let with = With { blobs, ..With::key(origin, &answer) };
        self.settle(change, with, origin, answer).await
    }

    /// Ends the task at work for a later request, which starts in the same commit.
    async fn give_way(&mut self, task: TaskId) {
        if self.run.as_ref().is_some_and(|it| it.task() == task) {
            self.end_run(Ending::Cancelled(TaskReason::InterruptedBy), None, None).await;
        }
    }

    async fn cancel(&mut self, task: TaskId, origin: &Origin) -> Outcome {
        let Some(_) = self.state.task(task) else { return self.final_task(task, origin).await };
        let back = self.move_before_next().await.map_err(|err| self.shared.refusal(err))?;
        let mut change = self.change();
        let end = (Ending::Cancelled(TaskReason::User), None, Some(origin.by.clone()));
        let running = self.run.as_ref().is_some_and(|it| it.task() == task);
        let with = if running {
            self.put_end(&mut change, &end, back)
        } else {
            let (ending, _, by) = end.clone();
            change.end(task, ending, Answer::default(), by.as_ref(), &*self.shared.world);
            With::default()
        };
        let answer = cancelled_answer(self, &change, task);
        let with = With { blobs: with.blobs, ..With::key(origin, &answer) };
        if !running {
            return self.settle(change, with, origin, answer).await;
        }
        if self.save_end(change, with, end).await {
            Ok(answer)
        } else {
            let message = "the task is ended, but that could not be saved yet; it will be";
            Err(Error::new(Kind::Storage, message))
        }
    }

    async fn final_task(&mut self, task: TaskId, origin: &Origin) -> Outcome {
        let found = self.shared.store.task(task).await.map_err(|err| self.shared.refusal(err))?;
        match found {
            Some((session, members)) if session == self.state.id => {
                let answer = json!({ "task": members, "seq": self.state.seq() }).to_string();
                self.settle_unchanged(origin, answer).await
            }
            _ => Err(no_task(&task.to_string(), self.state.id)),
        }
    }

    fn may_delete(&self, force: bool) -> Result<(), Error> {
        if self.state.is_busy() && !force {
            let task = self.state.running().or_else(|| self.state.queue().first().copied());
            let task = task.map(|it| it.to_string()).unwrap_or_default();
            let message = format!("the session is busy with `{task}`");
            return Err(Error::new(Kind::Busy, message)
                .with("task", task)
                .hint("cancel it, or delete with `force`"));
        }
        Ok(())
    }

    /// A cleanup leaves what anybody needs.
    fn may_clean_up(&self) -> Result<(), Error> {
        let needed =
            !self.state.is_settled() || !self.followers.is_empty() || self.creator.is_some();
        if !needed {
            return Ok(());
        }
        Err(Error::new(Kind::Busy, "the session has a task, a lock or a follower"))
    }

    /// Deletes a session that was made in passing and in which nothing was said.
    pub(super) async fn remove_ephemeral(&mut self, connection: ConnectionId) {
        if !self.state.view().session().contains_key("ephemeral") || self.state.is_busy() {
            return;
        }
        let origin = Origin {
            connection,
            by: By { client: "sessd".to_owned(), pid: self.shared.world.process() },
            key: None,
            expect_seq: None,
            expect_head: None,
        };
        let (reply, _) = tokio::sync::oneshot::channel();
        self.delete(origin, reply).await;
    }
}

/// Refuses what a request may ask for by its shape, and is not served yet.
fn refuse_unserved(params: &ChatSendParams) -> Result<(), Error> {
    let given = [("budget", params.budget.is_some()), ("schema", params.schema.is_some())];
    let Some((param, _)) = given.into_iter().find(|(_, given)| *given) else { return Ok(()) };
    let message = format!("`{param}` of a request is not served in this version");
    Err(Error::new(Kind::Unsupported, message).with("param", param))
}

/// The task as the change leaves it: its last event has the members that are new.
fn cancelled_answer(actor: &Actor, change: &super::state::Change, task: TaskId) -> String {
    let mut members = actor.task_members(task).unwrap_or_default();
    members.remove("position");
    let key = task.to_string();
    for event in &change.events {
        let new = event.data.get("task").and_then(Value::as_object);
        if let Some(new) = new.filter(|it| it.get("id").and_then(Value::as_str) == Some(&key)) {
            sess_protocol::view::merge(&mut members, new);
        }
    }
    json!({ "task": members, "seq": change.state.seq() }).to_string()
}
