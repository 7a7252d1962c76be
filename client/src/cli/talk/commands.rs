//! The verbs that can be typed in a conversation, each with a slash before it.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sess_protocol::error::Kind;
use sess_protocol::methods::{
    IfBusy, ListParams, ModelList, ScopeSwitch, SessionUpdate, SessionUpdateParams, TaskList,
    TaskListParams,
};
use sess_protocol::things::{Block, TaskStatus};

use super::{Next, Talk};
use crate::cli::ask::members;
use crate::cli::attachments::in_home;
use crate::cli::output::{Output, Stop};
use crate::cli::transcript::short;
use crate::cli::{reports, scope, sessions};

/// Sessions that `/ls` shows.
const LIST_MAX: u32 = 20;
/// Messages that `/show` shows.
const SHOW_MAX: u32 = 50;
/// Models that are looked through.
const MODELS_MAX: u32 = 500;

/// A verb.
pub(super) struct Command {
    pub(super) name: &'static str,
    /// What stands behind it, and what it does.
    about: (&'static str, &'static str),
}

const fn command(name: &'static str, what: &'static str, about: &'static str) -> Command {
    Command { name, about: (what, about) }
}

/// All of them, in the order of `/help`.
pub(super) const COMMANDS: &[Command] = &[
    command("help", "", "show this"),
    command("new", "", "begin a new session with the next text"),
    command("ls", "", "list the sessions, latest first"),
    command("resume", "[SESSION]", "go on in another session, else in the latest here"),
    command("scope", "DIR", "go to another folder, and on in its session"),
    command("show", "[N]", "show the newest messages of this session"),
    command("model", "[NAME]", "ask another model from now on; without a name list them"),
    command("rename", "TITLE", "give this session another title"),
    command("attach", "FILE", "attach a file to the next text, as @FILE in it does"),
    command("queue", "", "list what waits to run"),
    command("cancel", "[N]", "cancel what runs, or number N of the queue"),
    command("steer", "TEXT", "tell the running task something"),
    command("interrupt", "TEXT", "cancel what runs and say this instead"),
    command("retry", "", "run the last task once more"),
    command("usage", "", "show what this session used"),
    command("export", "[FILE]", "write this session down as markdown, JSON or JSONL"),
    command("rm", "SESSION", "delete another session with all that belongs to it"),
    command("edit", "", "write the next text in $EDITOR, as ctrl-x ctrl-e does"),
    command("quit", "", "leave; what runs goes on"),
];

/// A line as a verb and what stands behind it; none when it is no more than a text. A path at the
/// beginning of a text is no verb, and `//` stands for a slash.
pub(super) fn verb(text: &str) -> Option<(&str, &str)> {
    let line = text.strip_prefix('/')?;
    let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let named = !name.is_empty() && name.chars().all(|it| it.is_ascii_lowercase());
    named.then_some((name, rest.trim()))
}

impl Talk {
    /// Does what a verb says.
    pub(super) async fn command(
        &mut self,
        output: &mut Output,
        name: &str,
        rest: &str,
    ) -> Result<Next, Stop> {
        match (name, rest) {
            ("help", _) => help(output)?,
            ("quit" | "exit", _) => return Ok(Next::Leave),
            ("edit", _) => return Ok(Next::Edit(rest.to_owned())),
            ("new", _) => self.leave_session(output)?,
            ("ls", _) => sessions::list(output, LIST_MAX, None).await?,
            ("resume", "") => self.resume(output, None).await?,
            ("resume", session) => self.resume(output, Some(session.to_owned())).await?,
            ("scope", folder) => {
                let folder = in_home(needed(folder, "/scope DIR")?);
                self.go_to(output, &folder).await?;
            }
            ("show", count) => {
                let count = count.parse().unwrap_or(SHOW_MAX);
                sessions::show(output, self.here()?, count).await?;
            }
            ("model", "") => reports::models(output).await?,
            ("model", model) => self.ask_model(output, model).await?,
            ("rename", title) => {
                let title = needed(title, "/rename TITLE")?.to_owned();
                sessions::rename(output, self.here()?, title).await?;
            }
            ("attach", file) => {
                self.files.push(file_of(needed(file, "/attach FILE")?)?);
                output.note(&format!("`{file}` goes with the next text"))?;
            }
            ("queue", _) => self.queue(output).await?,
            ("cancel", "") => self.cancel(output).await?,
            ("cancel", place) => self.cancel_queued(output, place).await?,
            ("steer", text) => {
                let text = needed(text, "/steer TEXT")?.to_owned();
                self.send(output, text, Some(IfBusy::Steer)).await?;
            }
            ("interrupt", text) => {
                let text = needed(text, "/interrupt TEXT")?.to_owned();
                self.send(output, text, Some(IfBusy::Interrupt)).await?;
            }
            ("retry", _) => self.retry(output).await?,
            ("usage", _) => reports::usage(output, reports::of_session(self.here()?)).await?,
            ("export", file) => self.export(output, file).await?,
            ("rm", session) => {
                let session = needed(session, "/rm SESSION")?.to_owned();
                sessions::remove(output, vec![session], false).await?;
            }
            _ => {
                let unknown = format!("there is no command /{name}");
                return Err(Stop::failed(unknown).hint("/help lists them; // begins a text with /"));
            }
        }
        Ok(Next::Go)
    }

    async fn ask_model(&mut self, output: &mut Output, model: &str) -> Result<(), Stop> {
        let params = ListParams { limit: Some(MODELS_MAX), ..Default::default() };
        let list = self.caller.call::<ModelList>(&params).await?;
        if let Some(it) = list.models.iter().find(|it| it.id == model && !it.available) {
            let reason = it.reason.clone().unwrap_or_default();
            return Err(Stop::failed(format_args!("`{model}` cannot be asked: {reason}")));
        }
        if let Some(session) = self.session() {
            let model = Some(model.to_owned());
            let params = SessionUpdateParams { session, model, ..Default::default() };
            self.caller.call::<SessionUpdate>(&params).await?;
        }
        self.model = Some(model.to_owned());
        output.note(&format!("from now on `{model}` is asked"))
    }

    /// Goes on in the session of another folder; without one the next text begins it.
    async fn go_to(&mut self, output: &mut Output, folder: &Path) -> Result<(), Stop> {
        let params = scope::params(folder)?;
        let done = self.caller.call::<ScopeSwitch>(&params).await?;
        // What is named from here on, files too, is meant there; also for the next connection.
        std::env::set_current_dir(&params.workspace)?;
        self.caller.set_workspace(params.workspace);
        scope::say(output, &done)?;
        match done.loaded {
            Some(session) => self.follow(output, &session.id.to_string()).await,
            None => self.leave_session(output),
        }
    }

    async fn queue(&mut self, output: &mut Output) -> Result<(), Stop> {
        let tasks = self.waiting().await?;
        if tasks.is_empty() {
            return output.note("nothing waits");
        }
        for (place, (_, text)) in tasks.iter().enumerate() {
            output.line(&format!("{:>3}  {text}", place + 1))?;
        }
        output.flush()
    }

    async fn cancel_queued(&mut self, output: &mut Output, place: &str) -> Result<(), Stop> {
        let tasks = self.waiting().await?;
        let at = place.parse::<usize>().ok().and_then(|it| it.checked_sub(1));
        let Some((task, text)) = at.and_then(|it| tasks.get(it)) else {
            return Err(Stop::failed(format_args!("`{place}` is no place in the queue"))
                .hint("/queue lists them"));
        };
        let params = members([("task", Some(task.clone().into()))]);
        self.caller.call_raw("task/cancel", params).await?;
        output.note(&format!("cancelled: {text}"))
    }

    /// What waits: task and text, next first.
    async fn waiting(&mut self) -> Result<Vec<(String, String)>, Stop> {
        let (session, status) = (Some(self.here()?), Some(TaskStatus::Queued));
        let params = TaskListParams { session, status, ..Default::default() };
        let tasks = self.caller.call::<TaskList>(&params).await?.tasks;
        let text = |content: Option<&Vec<Block>>| {
            let first = content.into_iter().flatten().find_map(|it| match it {
                Block::Text { text, .. } => text.lines().next().map(ToOwned::to_owned),
                _ => None,
            });
            first.unwrap_or_default()
        };
        let named = |it: &sess_protocol::things::Task| {
            (it.id.to_string(), text(it.request.content.as_ref()))
        };
        Ok(tasks.iter().map(named).collect())
    }

    async fn retry(&mut self, output: &mut Output) -> Result<(), Stop> {
        let session = Some(self.here()?);
        let params = TaskListParams { session, ..Default::default() };
        let tasks = self.caller.call::<TaskList>(&params).await?.tasks;
        // Running and queued ones come first, then the newest that ended.
        let Some(last) = tasks.iter().find(|it| it.status.is_final()) else {
            return Err(Stop::failed("no task has ended here"));
        };
        let params = members([("task", Some(json!(last.id)))]);
        self.caller.call_raw("task/retry", params).await?;
        output.note("once more")
    }

    async fn export(&mut self, output: &mut Output, file: &str) -> Result<(), Stop> {
        let session = self.here()?;
        let file =
            if file.is_empty() { format!("{}.md", short(&session)) } else { file.to_owned() };
        let arguments = crate::cli::exchange::to_file(session, in_home(&file));
        crate::cli::exchange::export(output, arguments).await
    }

    /// Cancels what runs.
    pub(super) async fn cancel(&mut self, output: &mut Output) -> Result<(), Stop> {
        let task = self.screen.as_ref().and_then(|it| it.running());
        let Some(task) = task else { return output.note("nothing runs") };
        let params = members([("task", Some(Value::from(task)))]);
        match self.caller.call_raw("task/cancel", params).await {
            Ok(_) => Ok(()),
            // It went with its session.
            Err(failure) if failure.kind() == Some(Kind::NotFound) => Ok(()),
            Err(failure) => Err(failure.into()),
        }
    }
}

fn help(output: &mut Output) -> Result<(), Stop> {
    for it in COMMANDS {
        let (what, about) = it.about;
        output.line(&format!("{:<20} {about}", format!("/{} {what}", it.name)))?;
    }
    output.line("")?;
    for (keys, about) in [
        ("\\ at the end, alt-enter", "another line"),
        ("ctrl-c", "cancel what runs; on an empty line twice: leave"),
        ("ctrl-d", "leave"),
        ("ctrl-x ctrl-e", "edit in $EDITOR"),
        ("tab, up, ctrl-r", "complete, the line before, search"),
    ] {
        output.line(&format!("{keys:<25} {about}"))?;
    }
    output.flush()
}

fn needed<'a>(text: &'a str, usage: &str) -> Result<&'a str, Stop> {
    if text.is_empty() { Err(Stop::failed(format_args!("as in: {usage}"))) } else { Ok(text) }
}

fn file_of(name: &str) -> Result<PathBuf, Stop> {
    let path = in_home(name);
    match path.is_file() {
        true => Ok(path),
        false => Err(Stop::failed(format_args!("there is no file `{name}`"))),
    }
}

#[cfg(test)]
mod tests {
    use super::verb;

    #[test]
    fn a_path_and_a_doubled_slash_are_text() {
        for (line, found) in [
            ("/ls", Some(("ls", ""))),
            ("/model  a/b ", Some(("model", "a/b"))),
            ("/frob", Some(("frob", ""))),
            ("/etc/hosts is what?", None),
            ("//x", None),
            ("/", None),
            ("ls", None),
        ] {
            assert_eq!(verb(line), found, "{line}");
        }
    }
}
