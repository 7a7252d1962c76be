//! The actor: the only code that adds to a session. A fact is saved, then believed, then told.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use sess_protocol::error::Error;
use sess_protocol::event::SessionDeleted;
use sess_protocol::id::{SessionId, TaskId};
use sess_protocol::things::Message;
use sess_protocol::view::Members;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::command::{
    Append, Command, ConnectionId, Joined, Moment, Origin, Outcome, Reply, ViewNow,
};
use super::followers::Followers;
use super::locks::LockLine;
use super::run::Run;
use super::state::{Change, State, read};
use super::{Handle, MAILBOX_MAX};
use crate::shared::{Shared, Slot};
use crate::store::{Commit, Hash, KeptKey, KeyRecord, NewBlob, StoreError};
use crate::task::Context;

/// How long a session that nobody needs stays in memory.
const IDLE: Duration = Duration::from_secs(60);
/// How long until an end of a task that could not be saved is tried to be saved anew.
const SAVE_AGAIN: Duration = Duration::from_secs(1);

/// What an actor begins with.
pub struct Parts {
    /// What all parts of the daemon share.
    pub shared: Arc<Shared>,
    /// The session as it is on disk.
    pub state: State,
    /// The hash of its last commit.
    pub hash: Hash,
}

/// The one owner of a session.
pub struct Actor {
    pub(super) shared: Arc<Shared>,
    pub(super) state: State,
    hash: Hash,
    pub(super) followers: Followers,
    mailbox: mpsc::Receiver<Command>,
    /// The task at work.
    pub(super) run: Option<Run>,
    /// What the last task's model saw, for the next one.
    pub(super) context: Option<Context>,
    /// The connection that holds the session, and those that wait for it.
    pub(super) locks: LockLine,
    /// Who wants to know when a task is final.
    waiters: Vec<(TaskId, oneshot::Sender<Result<(), Error>>)>,
    /// The connection that made an ephemeral session.
    pub(super) creator: Option<ConnectionId>,
    last_use: Instant,
    /// Not before this moment is the next task started: the last try was not saved.
    pub(super) start_at: Option<Instant>,
    stopping: bool,
    ended: bool,
}

/// What is saved together with a change.
#[derive(Default)]
pub(super) struct With {
    pub(super) keys: Vec<KeyRecord>,
    pub(super) blobs: Vec<NewBlob>,
    pub(super) deletes: Option<SessionId>,
}

impl With {
    /// The key of a request, to be answered the same again.
    pub(super) fn key(origin: &Origin, answer: &str) -> Self {
        let record = |(key, digest): &(String, Hash)| KeyRecord {
            key: key.clone(),
            digest: *digest,
            answer: answer.to_owned(),
        };
        Self { keys: origin.key.iter().map(record).collect(), ..Self::default() }
    }
}

/// What woke the actor.
enum Wake {
    Command(Option<Command>),
    Step(Option<crate::task::Step>),
    Keep,
    Release,
    Slot(Slot),
    Idle,
    Stop,
    Deadline,
}

impl Actor {
    /// An actor and the handle to it.
    #[must_use]
    pub fn new(parts: Parts) -> (Self, Handle) {
        let (sender, mailbox) = mpsc::channel(MAILBOX_MAX);
        let count = Arc::new(AtomicUsize::new(0));
        let handle = Handle { mailbox: sender, followers: Arc::clone(&count) };
        let actor = Self {
            shared: parts.shared,
            state: parts.state,
            hash: parts.hash,
            followers: Followers::new(count),
            mailbox,
            run: None,
            context: None,
            locks: LockLine::default(),
            waiters: Vec::new(),
            creator: None,
            last_use: Instant::now(),
            start_at: None,
            stopping: false,
            ended: false,
        };
        (actor, handle)
    }

    /// Serves the session until nobody needs it, it is deleted, or the daemon stops.
    pub async fn run(mut self) {
        while !self.ended {
            let wake = self.wake().await;
            match wake {
                Wake::Command(Some(command)) => {
                    self.last_use = Instant::now();
                    // What is done in a turn is boxed, so that an idle session does not keep room for it.
                    Box::pin(self.on_command(command)).await;
                }
                Wake::Command(None) => self.ended = true,
                Wake::Step(step) => {
                    Box::pin(self.on_step(step)).await;
                    self.stop_if_done();
                }
                Wake::Keep => {
                    Box::pin(self.keep_partial()).await;
                    self.stop_if_done();
                }
                Wake::Release => Box::pin(self.release_gone()).await,
                Wake::Slot(slot) => Box::pin(self.start_next(slot)).await,
                Wake::Idle => self.retire_if_unused(),
                Wake::Stop => self.on_stop(),
                Wake::Deadline => Box::pin(self.put_back()).await,
            }
        }
        self.shared.sessions.remove_closed(self.state.id);
    }

    async fn wake(&mut self) -> Wake {
        // A session that is read again while the daemon stops starts nothing: its task was just put back.
        let wants_slot = self.wants_slot() && !self.shared.stop.is_stopping();
        let idle_at = self.last_use + IDLE;
        let keep_at = self.run.as_ref().and_then(Run::keep_at);
        // An answer that comes without a pause would hold this up for ever below.
        if keep_at.is_some_and(|it| it <= Instant::now()) {
            return Wake::Keep;
        }
        let release_at = self.locks.release_at();
        let shared = Arc::clone(&self.shared);
        let deadline = shared.stop.deadline().filter(|_| self.stopping);
        let (stopping, start_at) = (self.stopping, self.start_at);
        let is_running = self.run.is_some();
        tokio::select! {
            biased;
            command = self.mailbox.recv() => Wake::Command(command),
            step = next_step(self.run.as_mut()) => Wake::Step(step),
            () = at(keep_at) => Wake::Keep,
            () = at(release_at) => Wake::Release,
            slot = slot_from(start_at, &shared), if wants_slot => Wake::Slot(slot),
            () = ends(&shared, self.state.id), if !stopping => Wake::Stop,
            () = at(deadline) => Wake::Deadline,
            () = tokio::time::sleep_until(idle_at), if !is_running => Wake::Idle,
        }
    }

    /// Whether a queued task could start if the daemon may run one more.
    fn wants_slot(&self) -> bool {
        self.run.is_none()
            && !self.state.is_at_work()
            && self.state.count("queued") > 0
            && self.state.text("status") != "paused"
    }

    fn retire_if_unused(&mut self) {
        let needed = !self.followers.is_empty()
            || !self.state.is_settled()
            || !self.locks.is_empty()
            || !self.waiters.is_empty()
            || self.creator.is_some()
            || self.state.id == SessionId::GLOBAL;
        if needed || !self.shared.sessions.retire(self.state.id, &mut self.mailbox) {
            self.last_use = Instant::now();
        } else {
            self.ended = true;
        }
    }

    async fn on_command(&mut self, command: Command) {
        match command {
            Command::Intent(asked) => self.intend(asked.intent, asked.origin, asked.reply).await,
            Command::Append(append) => {
                let (outcome, reply) = self.append(*append).await;
                let _ = reply.send(outcome);
            }
            Command::View(reply) => {
                let _ = reply.send(self.view_now());
            }
            Command::Moment(reply) => {
                let live = self.run.as_ref().map(Run::live);
                let _ = reply.send(Box::new(Moment { now: self.view_now(), live }));
            }
            Command::Task(task, reply) => {
                let _ = reply.send(self.task_members(task));
            }
            Command::Wait(task, reply) => {
                if self.state.task(task).is_some() {
                    self.waiters.retain(|(_, it)| !it.is_closed());
                    self.waiters.push((task, reply));
                } else {
                    let _ = reply.send(Ok(()));
                }
            }
            Command::Follow(join, reply) => {
                let live = self.run.as_ref().map(Run::live_json).filter(|_| join.deltas);
                let (id, feed, deltas) = (join.id, join.feed, join.deltas);
                if reply.send(Joined { now: self.view_now(), live }).is_ok() {
                    self.followers.join(id, feed, deltas);
                }
            }
            Command::Unfollow(id) => self.followers.leave(id),
            Command::Gone(connection) => self.connection_gone(connection).await,
        }
    }

    /// A task that is not final, with its place in the line.
    pub(super) fn task_members(&self, task: TaskId) -> Option<Members> {
        let mut members = self.state.view().thing("task", &task.to_string())?.clone();
        if let Some(position) = self.state.position(task) {
            members.insert("position".to_owned(), position.into());
        }
        Some(members)
    }

    fn view_now(&self) -> ViewNow {
        ViewNow {
            snapshot: self.state.snapshot(self.followers.len()),
            head: self.state.head(&self.state.thread()).flatten(),
            seq: self.state.seq(),
            hash: self.hash,
        }
    }

    /// Begins a change now.
    pub(super) fn change(&self) -> Change {
        self.state.change(self.shared.world.now())
    }

    /// Begins a change that makes the session the active one, or none.
    pub(super) fn active_change(&self) -> Change {
        let active = self.shared.active_moment();
        // A clear is compared with activations by its own time, so that it is theirs.
        let now = if self.state.id == SessionId::GLOBAL { active } else { self.shared.world.now() };
        self.state.change_at(now, active)
    }

    /// Saves a change, then believes it, then tells it.
    pub(super) async fn record(&mut self, change: Change, with: With) -> Result<(), StoreError> {
        let mut commit = Commit::new(self.state.id, self.hash, change.events);
        commit.keys = with.keys;
        commit.blobs = with.blobs;
        commit.deletes = with.deletes;
        let kept = Arc::new(commit);
        let early = crate::sabotage::is("tell_before_save");
        if early {
            self.followers.tell_commit(self.shared.store.history(), &kept);
        }
        self.shared
            .store
            .save(Arc::clone(&kept))
            .await
            .inspect_err(|err| self.on_store_error(err))?;
        self.state = change.state;
        self.hash = kept.hash;
        self.learn(&kept);
        if !early {
            self.followers.tell_commit(self.shared.store.history(), &kept);
        }
        self.tell_waiters();
        self.shared.changed(self.state.id);
        Ok(())
    }

    /// Takes messages that were just saved into what the next task's model sees: they need not be
    /// read from disk again.
    fn learn(&mut self, commit: &Commit) {
        for event in &commit.events {
            let Some(message) = event.data.get("message").and_then(read::<Message>) else {
                continue;
            };
            if message.parent.is_none() && self.run.is_none() {
                self.context = Some(Context::default());
            }
            if let Some(context) = &mut self.context {
                context.extend(&message);
            }
        }
    }

    // What is in memory must not get ahead of the disk, nor stay behind it.
    fn on_store_error(&mut self, err: &StoreError) {
        tracing::warn!(session = %self.state.id, %err, "a change was not saved");
        if matches!(err, StoreError::NotNext | StoreError::Unknown(_) | StoreError::Damaged(_)) {
            self.ended = true;
            self.mailbox.close();
            self.shared.sessions.remove(self.state.id);
        }
    }

    fn tell_waiters(&mut self) {
        if self.waiters.is_empty() {
            return;
        }
        let state = &self.state;
        let is_final = |(task, _): &mut (TaskId, _)| state.task(*task).is_none();
        for (_, waiter) in self.waiters.extract_if(.., is_final) {
            let _ = waiter.send(Ok(()));
        }
    }

    /// Saves a change that a request asks for, and answers it.
    pub(super) async fn settle(
        &mut self,
        change: Change,
        with: With,
        origin: &Origin,
        answer: String,
    ) -> Outcome {
        let saved = self.record(change, with).await;
        self.settled(saved, origin, answer).await
    }

    /// Answers a request that had nothing to change; with a key, it gets the same answer again.
    pub(super) async fn settle_unchanged(&mut self, origin: &Origin, answer: String) -> Outcome {
        let Some(record) = With::key(origin, &answer).keys.pop() else { return Ok(answer) };
        let kept = KeptKey { record, at: self.shared.world.now() };
        let saved = self.shared.store.keep_key(self.state.id, kept).await;
        let saved = saved.inspect_err(|err| self.on_store_error(err));
        self.settled(saved, origin, answer).await
    }

    async fn settled(
        &self,
        saved: Result<(), StoreError>,
        origin: &Origin,
        answer: String,
    ) -> Outcome {
        match saved {
            Ok(()) => Ok(answer),
            Err(StoreError::KeyTaken) => match self.answered_before(origin).await {
                Some(outcome) => outcome,
                None => Err(self.shared.refusal(StoreError::KeyTaken)),
            },
            Err(err) => Err(self.shared.refusal(err)),
        }
    }

    /// The outcome that the request's key got before.
    pub(super) async fn answered_before(&self, origin: &Origin) -> Option<Outcome> {
        self.shared.answered_before(origin.key.as_ref()?).await
    }

    async fn append(&mut self, append: Append) -> (Outcome, Reply) {
        let Append { fact, origin, deletes, known, answer, reply } = append;
        if let Some(outcome) = self.answered_before(&origin).await {
            return (outcome, reply);
        }
        let mut change = self.active_change();
        let answer = known.unwrap_or_else(|| answer(&fact, change.next_seq()));
        change.push(fact, Some(&origin.by), None);
        let with = With { deletes, ..With::key(&origin, &answer) };
        (self.settle(change, with, &origin, answer).await, reply)
    }

    /// Deletes the session: a fact of the global log, whose commit takes everything here away.
    pub(super) async fn delete(&mut self, origin: Origin, reply: Reply) {
        let deleted = SessionDeleted { deleted: self.state.id, backups: self.backups() };
        let outcome = self.shared.append_global(deleted.clone().into(), origin.clone()).await;
        if outcome.is_err() {
            // Nothing is deleted, and the task at work goes on.
            let _ = reply.send(outcome);
            return;
        }
        self.run = None;
        self.ended = true;
        self.mailbox.close();
        self.shared.sessions.remove(self.state.id);
        self.refuse_rest().await;
        let mut change = self.change();
        change.push(deleted, Some(&origin.by), None);
        self.followers.end(deleted_line(self.state.id, &change));
        self.shared.changed(self.state.id);
        for (task, waiter) in self.waiters.drain(..) {
            let _ = waiter.send(Err(Error::not_found("task", &task.to_string())));
        }
        self.locks.end(&Error::not_found("session", &self.state.id.to_string()));
        let _ = reply.send(outcome);
    }

    /// Where copies of what is deleted may still lie.
    fn backups(&self) -> Vec<String> {
        self.shared.store.backups().iter().map(|it| it.display().to_string()).collect()
    }

    /// Answers what came in behind the deletion.
    async fn refuse_rest(&mut self) {
        let gone = Error::not_found("session", &self.state.id.to_string());
        while let Ok(command) = self.mailbox.try_recv() {
            if let Command::Intent(asked) = command {
                let before = self.answered_before(&asked.origin).await;
                let _ = asked.reply.send(before.unwrap_or_else(|| Err(gone.clone())));
            } else if let Command::Wait(_, waiter) = command {
                let _ = waiter.send(Err(gone.clone()));
            }
        }
    }

    /// The daemon stops: a session without a task at work ends at once.
    fn on_stop(&mut self) {
        self.stopping = true;
        if self.run.is_none() {
            self.end_at_stop();
        }
    }

    fn stop_if_done(&mut self) {
        if self.stopping && self.run.is_none() {
            self.end_at_stop();
        }
    }

    /// Leaves memory because the daemon stops.
    pub(super) fn end_at_stop(&mut self) {
        self.ended = true;
        self.mailbox.close();
    }

    /// The end of a task could not be saved: keeps it, and comes back to it in a while.
    pub(super) fn save_again_at(&self) -> Instant {
        Instant::now() + SAVE_AGAIN
    }
}

fn deleted_line(session: SessionId, change: &Change) -> String {
    let told =
        sess_protocol::event::ToldEvent { session, cursor: None, event: change.events[0].clone() };
    let params = serde_json::to_string(&told).expect("an event is plain");
    sess_protocol::envelope::notification_line("event", &params)
}

async fn next_step(run: Option<&mut Run>) -> Option<crate::task::Step> {
    match run {
        Some(run) => run.next_step().await,
        None => std::future::pending().await,
    }
}

/// Waits for the end: the log of facts of no session outlives all sessions.
async fn ends(shared: &Shared, id: SessionId) {
    if id == SessionId::GLOBAL {
        shared.stop.finished().await;
    } else {
        shared.stop.stopping().await;
    }
}

/// One more task may run, from a moment on.
async fn slot_from(moment: Option<Instant>, shared: &Shared) -> Slot {
    if let Some(moment) = moment {
        tokio::time::sleep_until(moment).await;
    }
    shared.slots.take().await
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
