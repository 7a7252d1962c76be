//! The task at work, as its session sees it: its steps, the answer it writes, its end.

use std::time::Duration;

use sess_protocol::id::{MessageId, TaskId};
use sess_protocol::live::Delta;
use sess_protocol::things::{By, TaskError, TaskReason};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::actor::{Actor, With};
use super::content::put_apart;
use super::ending::{Answer, Ending};
use super::state::Change;
use super::steering::Move;
use super::writing::Writing;
use crate::model::{Finish, Piece};
use crate::shared::Slot;
use crate::store::NewBlob;
use crate::task::{Job, STEPS_MAX, Step, run, usage_of};

/// How long text may be told before it is kept on disk.
const KEEP_AFTER: Duration = Duration::from_millis(100);

/// How a task ends, with what its model's call ended with, and who ends it.
pub(super) type End = (Ending, Option<Finish>, Option<By>);

/// A task at work.
pub(super) struct Run {
    task: TaskId,
    job: JoinHandle<()>,
    steps: mpsc::Receiver<Step>,
    writing: Writing,
    /// Whether followers were told that an answer begins.
    begun: bool,
    keep_at: Option<Instant>,
    /// An end that is not saved yet.
    end: Option<End>,
    slot: Option<Slot>,
}

impl Drop for Run {
    // Cancelling is dropping: the model's connection closes with the job.
    fn drop(&mut self) {
        if crate::sabotage::is("no_abort") {
            return;
        }
        self.job.abort();
    }
}

impl Run {
    /// When text must be kept, or an end saved anew.
    pub(super) fn keep_at(&self) -> Option<Instant> {
        self.keep_at
    }

    /// The next step; `None` when the job ended without saying how, or the end waits to be saved.
    pub(super) async fn next_step(&mut self) -> Option<Step> {
        if self.end.is_some() {
            return std::future::pending().await;
        }
        self.steps.recv().await
    }

    /// What is unfinished.
    pub(super) fn live(&self) -> sess_protocol::live::Live {
        self.writing.live()
    }

    /// The same as JSON.
    pub(super) fn live_json(&self) -> String {
        serde_json::to_string(&self.live()).expect("the unfinished is plain")
    }

    /// The task.
    pub(super) fn task(&self) -> TaskId {
        self.task
    }
}

impl Actor {
    /// Starts the first of the queue with the right to run it.
    pub(super) async fn start_next(&mut self, slot: Slot) {
        let Ok(back) = self.move_before_next().await else {
            self.start_at = Some(self.save_again_at());
            return;
        };
        let mut change = self.change();
        if change.start_next(back).is_none() {
            return;
        }
        if self.record(change, With::default()).await.is_ok() {
            self.start_at = None;
            self.begin_run(Some(slot));
        } else {
            // A disk that is full stays so for a while: to try at once would be to try for ever.
            self.start_at = Some(self.save_again_at());
        }
    }

    /// Sets the task that is at work by the state to work.
    pub(super) fn begin_run(&mut self, slot: Option<Slot>) {
        let task = self.state.running().expect("a task is at work");
        let whole = self.state.task(task).expect("the task at work is in the view");
        let message = MessageId(self.shared.world.ordered());
        let (sender, steps) = mpsc::channel(STEPS_MAX);
        let session = self.state.id;
        let job = match self.shared.model(&whole.model) {
            Ok((model, name)) => {
                let agent = whole.agent.unwrap_or_else(|| self.state.text("agent").to_owned());
                let workspace = self.workspace().map(str::to_owned);
                let system = Some(self.state.text("system").to_owned());
                // Not the thread's newest message: others may have spoken since a task was put back.
                let head = whole.head.unwrap_or(whole.request.message);
                let context = self.context.take();
                let job = Job { model, name, agent, workspace, system, session, head, context };
                self.shared.tracker.spawn(run(std::sync::Arc::clone(&self.shared), job, sender))
            }
            Err(error) => {
                let error = TaskError {
                    message: error.message().to_owned(),
                    reason: Some(sess_protocol::things::ModelReason::Unavailable),
                    retry_after_ms: None,
                };
                let step = Step::Failed(TaskReason::Model, error);
                self.shared.tracker.spawn(async move {
                    let _ = sender.send(step).await;
                })
            }
        };
        let writing = Writing::new(session, task, message);
        let (begun, keep_at, end) = (false, None, None);
        self.run = Some(Run { task, job, steps, writing, begun, keep_at, end, slot });
    }

    pub(super) async fn on_step(&mut self, step: Option<Step>) {
        match step {
            Some(Step::Pieces(pieces)) => self.on_pieces(pieces).await,
            Some(Step::Context(context)) => self.context = Some(context),
            Some(Step::Failed(reason, error)) => {
                self.end_run(Ending::Failed(reason, error), None, None).await;
            }
            None => {
                let run = self.run.as_mut().expect("a step comes from a task at work");
                let broke = (&mut run.job).await.is_err_and(|it| it.is_panic());
                let message = if broke { "the task broke: a bug" } else { "the task was dropped" };
                tracing::error!(session = %self.state.id, task = %run.task, message);
                let error =
                    TaskError { message: message.to_owned(), reason: None, retry_after_ms: None };
                self.end_run(Ending::Failed(TaskReason::Internal, error), None, None).await;
            }
        }
    }

    async fn on_pieces(&mut self, pieces: Vec<Piece>) {
        let mut deltas: Vec<Delta> = Vec::new();
        for piece in pieces {
            let run = self.run.as_mut().expect("a piece comes from a task at work");
            match piece {
                Piece::Restart => {
                    self.followers.tell_deltas(&deltas);
                    deltas.clear();
                    run.writing.restart();
                    run.begun = true;
                    run.keep_at.get_or_insert(Instant::now() + KEEP_AFTER);
                    self.followers.tell_live(&run.writing.live());
                }
                Piece::Finish(finish) => {
                    self.followers.tell_deltas(&deltas);
                    self.end_run(Ending::Completed, Some(finish), None).await;
                    return;
                }
                more => {
                    if !run.begun {
                        run.begun = true;
                        if !crate::sabotage::is("lost_live") {
                            self.followers.tell_live(&run.writing.live());
                        }
                    }
                    run.writing.take(&more, &mut deltas);
                    run.keep_at.get_or_insert(Instant::now() + KEEP_AFTER);
                }
            }
        }
        self.followers.tell_deltas(&deltas);
    }

    /// Keeps text that is not kept yet, or comes back to an end that could not be saved.
    pub(super) async fn keep_partial(&mut self) {
        let Some(run) = self.run.as_mut() else { return };
        run.keep_at = None;
        if let Some((ending, finish, by)) = run.end.take() {
            self.end_run(ending, finish, by).await;
            return;
        }
        if crate::sabotage::is("no_partial") {
            return;
        }
        if let Some(piece) = run.writing.unkept() {
            // A full disk costs only what a crash would take; the answer itself is saved at its end.
            if let Err(err) = self.shared.store.keep_partial(piece).await {
                tracing::warn!(session = %self.state.id, %err, "unfinished text was not kept");
            }
        }
    }

    /// Ends the task at work: its answer so far and its final state in one commit, and with it the
    /// start of the next.
    pub(super) async fn end_run(&mut self, ending: Ending, finish: Option<Finish>, by: Option<By>) {
        let Ok(back) = self.move_before_next().await else {
            return self.end_again((ending, finish, by));
        };
        let mut change = self.change();
        let end = (ending, finish, by);
        let with = self.put_end(&mut change, &end, back);
        self.save_end(change, with, end).await;
    }

    /// Adds the end of the task at work to a change, and the start of the next. A whole answer is no
    /// end where more was said meanwhile: then the model is asked once more.
    pub(super) fn put_end(&mut self, change: &mut Change, end: &End, back: Option<Move>) -> With {
        let (ending, finish, by) = end;
        let run = self.run.as_mut().expect("a task that ends is at work");
        let mut rest = Vec::new();
        run.writing.flush(&mut rest);
        self.followers.tell_deltas(&rest);
        let (mut answer, blobs) = answer_of(&run.writing, finish.as_ref());
        answer.asked |= run.begun;
        if *ending == Ending::Completed && change.unread() > 0 {
            change.go_on(run.task, answer);
        } else {
            change.end(run.task, ending.clone(), answer, by.as_ref(), &*self.shared.world);
            if !self.shared.stop.is_stopping() {
                change.start_next(back);
            }
        }
        With { blobs, ..With::default() }
    }

    /// Saves a change that ends the task at work, and goes on with what it starts.
    pub(super) async fn save_end(&mut self, change: Change, with: With, end: End) -> bool {
        let saved = self.record(change, with).await.is_ok();
        let Some(run) = self.run.as_mut() else { return saved };
        if saved {
            let slot = run.slot.take();
            self.run = None;
            if self.state.is_at_work() {
                self.begin_run(slot);
            }
        } else {
            self.end_again(end);
        }
        saved
    }

    /// The end of the task at work could not be saved: it is tried anew in a while.
    fn end_again(&mut self, end: End) {
        let again_at = self.save_again_at();
        let run = self.run.as_mut().expect("a task that ends is at work");
        run.end = Some(end);
        run.keep_at = Some(again_at);
    }

    /// The daemon stops and the task has not come to its end: it goes on after the restart.
    pub(super) async fn put_back(&mut self) {
        if let Some(run) = self.run.take() {
            drop(run);
            let mut change = self.change();
            change.put_back();
            let _ = self.record(change, With::default()).await;
        }
        self.end_at_stop();
    }
}

/// The answer as far as it is written, and its large texts put apart.
fn answer_of(writing: &Writing, finish: Option<&Finish>) -> (Answer, Vec<NewBlob>) {
    let mut content = writing.content();
    let blobs = put_apart(&mut content);
    let mut answer = Answer { message: Some(writing.message()), content, ..Answer::default() };
    if let Some(finish) = finish {
        answer.asked = true;
        answer.usage = usage_of(finish);
        answer.prompt = finish.prompt.clone();
        answer.attempt = Some(finish.attempt);
        answer.ttft_ms = Some(finish.ttft_ms);
        answer.duration_ms = Some(finish.duration_ms);
        answer.stop_reason = Some(finish.stop_reason.clone()).filter(|it| !it.is_empty());
        answer.endpoint = finish.endpoint.clone();
    }
    (answer, blobs)
}
