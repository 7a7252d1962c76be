//! A session made anew of what was said in it: for files that have the messages, and not the log.

use sess_protocol::event::{
    MessageAppended, SessionCreated, TaskCompleted, TaskInterrupted, TaskStarted,
};
use sess_protocol::id::{SessionId, TaskId, ThreadId};
use sess_protocol::things::{
    By, Message, MessagePatch, MessageStatus, Role, Session, SessionPatch, Task, TaskPatch,
    TaskRequest, TaskStatus, Thread, ThreadPatch, Usage,
};
use sess_protocol::time::Timestamp;
use sess_protocol::view::View;

use crate::session::content::put_apart;
use crate::session::state::{Change, State};
use crate::store::{Commit, Hash, ImportSource, Imported, NewBlob, StoreError};

/// What a file says of a session.
#[derive(Debug, Clone)]
pub struct Heard {
    /// The session; what is counted of it is counted anew.
    pub session: Session,
    /// What was said, oldest first, each with its task.
    pub messages: Vec<Message>,
    /// Bytes that messages name and that are not stored yet.
    pub blobs: Vec<NewBlob>,
}

/// Commits that were made of what a file says.
#[derive(Debug)]
pub struct Made {
    commits: Vec<Commit>,
    /// The session's own members as the last commit leaves them.
    pub session: sess_protocol::view::Members,
    /// The number of its last event.
    pub seq: u64,
}

impl ImportSource for Made {
    fn read(
        &self,
        each: &mut dyn FnMut(Imported) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.commits.iter().try_for_each(|it| each(Imported::Commit(Box::new(it.clone()))))
    }
}

/// Makes the log of a session in which this was said: one commit for each task.
#[must_use]
pub fn make(heard: Heard, by: &By) -> Made {
    let id = heard.session.id;
    let created_at = heard.session.created_at;
    let state = State::new(id, View::default());
    let mut making = Making { by, state, before: Hash::default(), commits: Vec::new() };
    let mut change = making.state.change(created_at);
    change.push(created(heard.session), Some(by), None);
    making.commit(change, heard.blobs);
    let mut asked = None;
    let mut rest = heard.messages.as_slice();
    while let Some(first) = rest.first() {
        let same = rest.iter().take_while(|it| it.task == first.task).count();
        let (run, behind) = rest.split_at(same);
        if first.role == Role::User {
            asked = Some(first.id);
        }
        match (first.task, asked) {
            (Some(task), Some(request)) => making.task(
                id,
                task,
                TaskRequest { message: request, content: None, by: None },
                run,
            ),
            _ => making.loose(run),
        }
        rest = behind;
    }
    let (session, seq) = (making.state.session(0), making.state.seq());
    Made { commits: making.commits, session, seq }
}

fn created(from: Session) -> SessionCreated {
    let created_at = from.created_at;
    let mut session = SessionPatch::from(from);
    session.thread = Some(ThreadId::main());
    let counters = [
        &mut session.messages,
        &mut session.tasks,
        &mut session.iterations,
        &mut session.queued,
        &mut session.approvals,
    ];
    counters.into_iter().for_each(|it| *it = Some(0));
    session.usage = Some(Usage::default());
    // What follows from its events, and what only held where it was.
    (session.seq, session.updated_at, session.followers) = (None, None, None);
    (session.running, session.lock, session.ephemeral, session.parent) = (None, None, None, None);
    let thread = Thread {
        id: ThreadId::main(),
        messages: 0,
        created_at,
        label: None,
        parent: None,
        fork_message: None,
        fork_index: None,
        head: None,
    };
    SessionCreated { session, thread: thread.into() }
}

/// A log that grows.
struct Making<'a> {
    by: &'a By,
    state: State,
    before: Hash,
    commits: Vec<Commit>,
}

impl Making<'_> {
    fn commit(&mut self, change: Change, blobs: Vec<NewBlob>) {
        let mut commit = Commit::new(change.state.id, self.before, change.events);
        commit.blobs = blobs;
        self.before = commit.hash;
        self.state = change.state;
        self.commits.push(commit);
    }

    /// Messages of no task.
    fn loose(&mut self, run: &[Message]) {
        let mut blobs = Vec::new();
        let mut change = self.state.change(run[0].at);
        for message in run {
            change.now = message.at;
            let mut session = SessionPatch::new();
            let (mut message, thread) = appended(&change, message, &mut session, &mut blobs);
            message.task = None;
            let thread = Some(thread);
            change.push(
                MessageAppended { message, session, thread, task: None },
                Some(self.by),
                None,
            );
        }
        self.commit(change, blobs);
    }

    /// A task that ran to its end long ago.
    fn task(&mut self, session: SessionId, id: TaskId, request: TaskRequest, run: &[Message]) {
        let mut blobs = Vec::new();
        let mut change = self.state.change(run[0].at);
        let said = run[0].role == Role::User;
        self.begin(&mut change, (session, id, request), run, &mut blobs);
        let answers = run.last().is_some_and(|it| it.role == Role::Assistant);
        let end = run.len() - usize::from(answers);
        let mut used = (Usage::default(), 0);
        for message in &run[usize::from(said).min(end)..end] {
            change.now = message.at;
            let mut session = SessionPatch::new();
            count(message, &change, &mut used, &mut session);
            let (message, thread) = appended(&change, message, &mut session, &mut blobs);
            let fact = MessageAppended { message, session, thread: Some(thread), task: None };
            change.push(fact, Some(self.by), Some(id));
        }
        let last = run.last().filter(|_| answers);
        let mut session = SessionPatch::new();
        session.running = Some(None);
        let (mut message, mut thread) = (None, None);
        if let Some(last) = last {
            change.now = last.at;
            count(last, &change, &mut used, &mut session);
            let (new, head) = appended(&change, last, &mut session, &mut blobs);
            (message, thread) = (Some(new), Some(head));
        }
        let mut task = TaskPatch::new(id);
        task.usage = Some(used.0);
        task.ended_at = Some(Some(change.now));
        if last.is_some_and(|it| it.status == MessageStatus::Complete) {
            task.status = Some(TaskStatus::Completed);
            change.push(TaskCompleted { task, session, message, thread }, None, Some(id));
        } else {
            task.status = Some(TaskStatus::Interrupted);
            change.push(TaskInterrupted { task, session, message, thread }, None, Some(id));
        }
        self.commit(change, blobs);
    }

    fn begin(
        &self,
        change: &mut Change,
        (of, id, request): (SessionId, TaskId, TaskRequest),
        run: &[Message],
        blobs: &mut Vec<NewBlob>,
    ) {
        let mut session = SessionPatch::new();
        session.tasks = Some(change.state.count("tasks") + 1);
        session.running = Some(Some(id));
        let first = &run[0];
        let said = (first.role == Role::User)
            .then(|| appended(change, first, &mut session, blobs))
            .unzip();
        let model = run.iter().find_map(|it| it.model.clone());
        let model = model.unwrap_or_else(|| change.state.text("model").to_owned());
        let order = i64::try_from(change.state.count("tasks")).unwrap_or(i64::MAX);
        let task = new_task((of, id), request, (order, model), first.at);
        let fact = TaskStarted { task: task.into(), session, message: said.0, thread: said.1 };
        change.push(fact, first.by.as_ref().or(Some(self.by)), Some(id));
    }
}

fn new_task(
    (session, id): (SessionId, TaskId),
    request: TaskRequest,
    (order, model): (i64, String),
    at: Timestamp,
) -> Task {
    Task {
        id,
        session,
        status: TaskStatus::Running,
        request,
        order,
        model,
        created_at: at,
        usage: Usage::default(),
        reason: None,
        steering: None,
        position: None,
        agent: None,
        thread: Some(ThreadId::main()),
        started_at: Some(at),
        ended_at: None,
        replaces: None,
        retry_of: None,
        head: None,
        error: None,
    }
}

/// Adds what a message's model call used.
fn count(message: &Message, change: &Change, used: &mut (Usage, u64), session: &mut SessionPatch) {
    let Some(usage) = &message.usage else { return };
    *used = (used.0.plus(usage), used.1 + 1);
    session.usage = Some(change.state.usage().plus(usage));
    session.iterations = Some(change.state.count("iterations") + 1);
}

/// A message at the end of the thread.
fn appended(
    change: &Change,
    message: &Message,
    session: &mut SessionPatch,
    blobs: &mut Vec<NewBlob>,
) -> (MessagePatch, ThreadPatch) {
    let main = ThreadId::main();
    let mut message = message.clone();
    message.thread = main.clone();
    message.parent = change.state.head(&main).flatten();
    message.seq = change.next_seq();
    blobs.extend(put_apart(&mut message.content));
    session.messages = Some(change.state.count("messages") + 1);
    let mut thread = ThreadPatch::new(main.clone());
    thread.head = Some(Some(message.id));
    thread.messages = Some(change.state.path_length(&main) + 1);
    (message.into(), thread)
}
