//! Which command is meant, and what does the shell hear of its end?

mod ages;
mod answer;
mod ask;
mod attach;
mod attachments;
mod chat;
mod complete;
mod config;
mod daemon;
mod doctor;
mod events;
mod exchange;
mod install;
mod login;
mod man;
mod output;
mod reports;
mod rpc;
mod scope;
mod sessions;
mod since;
mod stop;
mod table;
mod talk;
mod tasks;
mod transcript;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use sess_client::{Caller, Dial, socket};
use sess_protocol::methods::InitializeResult;

use output::{Output, Stop};

/// What this client calls itself.
const CLIENT: &str = "sess";

/// Chat and agent sessions that outlive every terminal.
#[derive(Debug, Parser)]
#[command(name = "sess", version, arg_required_else_help = true)]
struct Arguments {
    /// Print the method's result as one line of JSON.
    #[arg(long, global = true)]
    json: bool,
    /// As if started in this folder.
    #[arg(short = 'C', long, global = true, value_name = "DIR")]
    directory: Option<std::path::PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say something and stream the answer; without a text, converse.
    Chat(chat::ChatArguments),
    /// Make a session.
    New(sessions::NewArguments),
    /// List the sessions, latest first.
    Ls {
        /// How many at most.
        #[arg(short = 'n', long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
        limit: u32,
        /// Only those with this text in the title or description.
        #[arg(long)]
        text: Option<String>,
    },
    /// Show a session's messages.
    Show {
        /// The session: its id, or at least 4 digits of it.
        session: String,
        /// How many of the newest messages.
        #[arg(short = 'n', long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        limit: u32,
    },
    /// Make a session the active one and show its last messages.
    Resume {
        /// The session: its id, at least 4 digits of it, or its title; else the latest here.
        session: Option<String>,
        /// How many messages to show.
        #[arg(short = 'n', long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=500))]
        limit: u32,
    },
    /// Watch a session live until ctrl-c; changes nothing.
    Attach {
        /// The session: its id, or at least 4 digits of it.
        session: String,
        /// How many messages to show first.
        #[arg(short = 'n', long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=500))]
        limit: u32,
    },
    /// Cancel what runs in a session, or one task.
    Cancel {
        /// The session or the task; else the active session.
        what: Option<String>,
    },
    /// Wait for a task or all work of a session; print the last answer.
    Wait {
        /// The session or the task; else the active session.
        what: Option<String>,
        /// Give up after so many seconds; the work goes on.
        #[arg(short, long)]
        timeout: Option<u64>,
    },
    /// Give a session another title.
    Rename {
        /// The session: its id, or at least 4 digits of it.
        session: String,
        /// The new title.
        title: String,
    },
    /// Delete sessions with all that belongs to them.
    Rm {
        /// The sessions: their ids, or at least 4 digits of each.
        #[arg(required = true)]
        sessions: Vec<String>,
        /// Cancel what runs in them first.
        #[arg(short, long)]
        force: bool,
    },
    /// Show and change settings.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Keep a key, sealed; reads it from the terminal or stdin.
    Login {
        /// What providers call it.
        name: String,
    },
    /// Forget a credential.
    Logout {
        /// What providers call it.
        name: String,
    },
    /// Remove sessions in which nothing was said, or that are old.
    Clean(sessions::CleanArguments),
    /// Write a session down as a file.
    Export(exchange::ExportArguments),
    /// Take a session from a file that `export` wrote.
    Import(exchange::ImportArguments),
    /// Show the events of a session, newest last.
    Events(events::EventsArguments),
    /// Show what was used: calls, tokens, money.
    Usage(reports::UsageArguments),
    /// Go from this folder's session to that of another folder.
    Scope {
        /// The folder.
        folder: std::path::PathBuf,
    },
    /// List who can answer: the agents of this folder.
    Agents,
    /// List the models, and say which can be asked.
    Models,
    /// Say how the daemon is.
    Status,
    /// Start, stop or look at the daemon.
    #[command(subcommand)]
    Daemon(DaemonCommand),
    /// Make a copy of all sessions; `sessd --restore` puts one back.
    Backup {
        /// How many of the newest copies stay.
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
        keep: Option<u32>,
    },
    /// Say how everything is; save what can be saved of a damaged store.
    Doctor(doctor::DoctorArguments),
    /// Print what teaches a shell to complete commands, ids and models.
    Completions {
        /// The shell.
        shell: complete::Shell,
    },
    /// Print a page of the manual: sess man chat | man -l -
    Man {
        /// The command; else the page of sess itself.
        command: Option<String>,
        /// Write all pages into this folder.
        #[arg(long, value_name = "FOLDER", conflicts_with = "command")]
        dir: Option<std::path::PathBuf>,
    },
    /// What the shells call.
    #[command(name = "__complete", hide = true)]
    Complete {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// Call any method of the protocol.
    Rpc {
        /// The method, as session/list.
        method: String,
        /// Its params as a JSON object; - reads them from stdin.
        params: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
enum DaemonCommand {
    /// Start it when none runs.
    Start,
    /// Stop it; running tasks may first come to a safe point.
    Stop {
        /// Do not wait for a safe point.
        #[arg(long)]
        now: bool,
    },
    /// Have it go on as the `sessd` that lies in its place now: after an update.
    Restart,
    /// Have systemd start it, at the first knock.
    Install,
    /// Take it out of systemd again; sessions and settings stay.
    Uninstall,
    /// Show the end of its log.
    Logs {
        /// Go on as it grows.
        #[arg(short, long)]
        follow: bool,
        /// How many lines.
        #[arg(short = 'n', long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(0..=100_000))]
        lines: u32,
    },
}

/// Reads the arguments, runs the command, and says how it went.
pub(crate) fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(folder) = &arguments.directory
        && let Err(err) = std::env::set_current_dir(folder)
    {
        return Stop::usage(format!("cannot go to `{}`: {err}", folder.display())).report();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(err) => return Stop::failed(format!("cannot start: {err}")).report(),
    };
    let mut output = Output::new(arguments.json);
    let done = runtime.block_on(run(arguments.command, &mut output));
    // A read of stdin that is still under way must not keep the program.
    runtime.shutdown_background();
    match done.and_then(|()| output.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(stop) => stop.report(),
    }
}

async fn run(command: Command, output: &mut Output) -> Result<(), Stop> {
    match command {
        Command::Chat(arguments) => chat::run(output, arguments).await,
        Command::New(arguments) => sessions::new(output, arguments).await,
        Command::Ls { limit, text } => sessions::list(output, limit, text).await,
        Command::Show { session, limit } => sessions::show(output, session, limit).await,
        Command::Resume { session, limit } => sessions::resume(output, session, limit).await,
        Command::Attach { session, limit } => attach::run(output, &session, limit).await,
        Command::Cancel { what } => tasks::cancel(output, what).await,
        Command::Wait { what, timeout } => tasks::wait(output, what, timeout).await,
        Command::Rename { session, title } => sessions::rename(output, session, title).await,
        Command::Rm { sessions, force } => sessions::remove(output, sessions, force).await,
        Command::Config(command) => config::run(output, command).await,
        Command::Login { name } => login::login(output, &name).await,
        Command::Logout { name } => login::logout(output, &name).await,
        Command::Clean(arguments) => sessions::clean(output, arguments).await,
        Command::Export(arguments) => exchange::export(output, arguments).await,
        Command::Import(arguments) => exchange::import(output, arguments).await,
        Command::Events(arguments) => events::run(output, arguments).await,
        Command::Usage(arguments) => reports::usage(output, arguments).await,
        Command::Scope { folder } => scope::run(output, &folder).await,
        Command::Agents => reports::agents(output).await,
        Command::Models => reports::models(output).await,
        Command::Status => daemon::status(output).await,
        Command::Daemon(DaemonCommand::Start) => daemon::start(output).await,
        Command::Daemon(DaemonCommand::Stop { now }) => daemon::stop(output, now).await,
        Command::Daemon(DaemonCommand::Restart) => daemon::restart(output).await,
        Command::Daemon(DaemonCommand::Install) => install::install(output).await,
        Command::Daemon(DaemonCommand::Uninstall) => install::uninstall(output),
        Command::Backup { keep } => daemon::backup(output, keep).await,
        Command::Doctor(arguments) => doctor::run(output, &arguments),
        Command::Daemon(DaemonCommand::Logs { follow, lines }) => {
            daemon::logs(output, follow, lines).await
        }
        Command::Completions { shell } => complete::script(output, shell),
        Command::Man { command, dir } => {
            man::run(output, Arguments::command(), command.as_deref(), dir.as_deref())
        }
        Command::Complete { words } => {
            let mut table = Arguments::command();
            table.build();
            complete::run(output, &table, &words).await
        }
        Command::Rpc { method, params } => rpc::run(output, &method, params).await,
    }
}

/// How the daemon is reached from here; started when none runs.
fn dial() -> Result<Dial, Stop> {
    let path = socket::path()?;
    Ok(Dial { path, client: CLIENT.to_owned(), workspace: None, start: true, greet: Some(greet) })
}

/// Says once when the daemon is of another version than this program.
fn greet(welcome: &InitializeResult) {
    static SAID: std::sync::Once = std::sync::Once::new();
    let (theirs, ours) = (&welcome.daemon.version, env!("CARGO_PKG_VERSION"));
    if theirs != ours {
        SAID.call_once(|| {
            output::note(&format!("the daemon is sessd {theirs}, this is sess {ours}"));
            output::note_hint("run `sess daemon restart` so that both are of one version");
        });
    }
}

/// The same for commands that mean the session of this folder.
fn dial_here() -> Result<Dial, Stop> {
    let here = std::env::current_dir().ok();
    let workspace = here.and_then(|it| it.to_str().map(ToOwned::to_owned));
    Ok(Dial { workspace, ..dial()? })
}

fn caller() -> Result<Caller, Stop> {
    Ok(Caller::new(dial()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_list_of_commands_fits_a_terminal() {
        let help = Arguments::command().render_help().to_string();
        let wide: Vec<&str> = help.lines().filter(|it| it.chars().count() > 80).collect();
        assert!(wide.is_empty(), "{wide:#?}");
    }

    #[test]
    fn the_arguments_make_sense() {
        Arguments::command().debug_assert();
        for line in ["sess chat hi", "sess chat -c -m a/b -", "sess ls --json", "sess rm a b -f"] {
            assert!(Arguments::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
        for line in ["sess", "sess rm", "sess ls -n 0", "sess chat -c -s 1f2e x", "sess frob"] {
            assert!(Arguments::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
