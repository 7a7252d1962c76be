//! A session as a file: out of the store, and into it.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use sess_client::{CallError, blob};
use sess_protocol::view::Members;

use super::ask::{ask_raw, members, object};
use super::caller;
use super::output::{Output, Stop, note};
use super::transcript::{short, wire_word, word};

/// How a session is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Format {
    /// All of it, to be imported again without loss.
    Jsonl,
    /// One JSON document.
    Json,
    /// A text for people.
    Markdown,
    /// The same as a page.
    Html,
}

/// What is written where.
#[derive(Debug, Args)]
pub(crate) struct ExportArguments {
    /// The session: its id, or at least 4 digits of it.
    session: String,
    /// How it is written down; else as the file's name ends, else jsonl.
    #[arg(short, long, value_enum)]
    format: Option<Format>,
    /// The file, which must not be there; - or nothing is stdout.
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// Replace the file if it is there.
    #[arg(long)]
    force: bool,
}

/// A session to a file, written down as the file's name ends.
pub(crate) fn to_file(session: String, file: PathBuf) -> ExportArguments {
    ExportArguments { session, format: None, output: Some(file), force: false }
}

pub(crate) async fn export(output: &mut Output, arguments: ExportArguments) -> Result<(), Stop> {
    let mut caller = caller()?;
    let file = arguments.output.filter(|it| it.as_os_str() != "-");
    let format = arguments.format.unwrap_or_else(|| format_of(file.as_deref()));
    // Before the daemon is set to work.
    let target = file.map(|it| Target::create(it, arguments.force)).transpose()?;
    let params = members([
        ("session", Some(arguments.session.into())),
        ("format", Some(json!(wire_word(&format)))),
    ]);
    let raw = caller.call_raw("session/export", params).await?;
    let result = object("session/export", &raw)?;
    let Some(hash) = result.get("blob").and_then(Value::as_str) else {
        let what = "it names no blob".to_owned();
        return Err(CallError::Strange { method: "session/export".to_owned(), what }.into());
    };
    match target {
        Some(mut target) => {
            let copied =
                blob::copy(&mut caller, hash, |piece| target.file.write_all(piece)).await?;
            let bytes = copied.map_err(|err| target.cannot(&err))?;
            let path = target.keep()?;
            if output.json {
                return output.result(&raw);
            }
            note(&format!("{bytes} bytes in `{}`", path.display()));
        }
        None if output.json => return output.result(&raw),
        None => {
            let mut stdout = std::io::stdout();
            blob::copy(&mut caller, hash, |piece| stdout.write_all(piece)).await??;
        }
    }
    output.flush()
}

/// A file that is being written. It is gone again unless it is kept, for half an export looks like one.
struct Target {
    file: File,
    /// What is written to: the file itself, or one beside it that takes its place.
    written: PathBuf,
    path: PathBuf,
    kept: bool,
}

impl Target {
    /// A session is private: so is its file.
    fn create(path: PathBuf, force: bool) -> Result<Self, Stop> {
        let mut written = path.clone();
        if force {
            let mut name = path.file_name().unwrap_or_default().to_owned();
            name.push(format!(".{}.part", std::process::id()));
            written.set_file_name(name);
        }
        let mut options = OpenOptions::new();
        let opened = options.write(true).create_new(true).mode(0o600).open(&written);
        let file = opened.map_err(|err| {
            let stop = Stop::failed(format_args!("cannot make `{}`: {err}", written.display()));
            match err.kind() {
                std::io::ErrorKind::AlreadyExists => stop.hint("--force replaces it"),
                _ => stop,
            }
        })?;
        Ok(Self { file, written, path, kept: false })
    }

    fn cannot(&self, err: &std::io::Error) -> Stop {
        Stop::failed(format_args!("cannot write `{}`: {err}", self.path.display()))
    }

    /// On disk, and under its name.
    fn keep(mut self) -> Result<PathBuf, Stop> {
        let kept = self.file.sync_all().and_then(|()| std::fs::rename(&self.written, &self.path));
        kept.map_err(|err| self.cannot(&err))?;
        self.kept = true;
        Ok(self.path.clone())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if !self.kept {
            let _ = std::fs::remove_file(&self.written);
        }
    }
}

fn format_of(path: Option<&Path>) -> Format {
    match path.and_then(Path::extension).and_then(|it| it.to_str()) {
        Some("md" | "markdown") => Format::Markdown,
        Some("json") => Format::Json,
        Some("html" | "htm") => Format::Html,
        _ => Format::Jsonl,
    }
}

/// What is read.
#[derive(Debug, Args)]
pub(crate) struct ImportArguments {
    /// A file that `sess export` wrote; - reads it from stdin.
    file: PathBuf,
    /// How it is written down; else as the file's name ends, else jsonl.
    #[arg(short, long, value_enum)]
    format: Option<Format>,
}

pub(crate) async fn import(output: &mut Output, arguments: ImportArguments) -> Result<(), Stop> {
    let cannot = |err: std::io::Error| {
        Stop::failed(format_args!("cannot read `{}`: {err}", arguments.file.display()))
    };
    let mut source: Box<dyn Read> = match arguments.file.to_str() {
        Some("-") => Box::new(std::io::stdin()),
        _ => Box::new(File::open(&arguments.file).map_err(cannot)?),
    };
    let mut caller = caller()?;
    let hash = blob::put(&mut caller, &mut source).await?.map_err(cannot)?;
    let format = arguments.format.unwrap_or_else(|| format_of(Some(&arguments.file)));
    let format = json!(wire_word(&format));
    let params = members([("blob", Some(hash.into())), ("format", Some(format))]);
    let Some(result) = ask_raw(output, &mut caller, "session/import", params).await? else {
        return Ok(());
    };
    let id = session_of(&result);
    note(&format!("session {} is there; `sess show {0}`", short(id)));
    output.line(id)
}

/// The session's id, as the result itself or as a member of it.
fn session_of(result: &Members) -> &str {
    match result.get("session") {
        Some(Value::String(id)) => id,
        Some(Value::Object(session)) => word(session, "id"),
        _ => word(result, "id"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_name_says_how_it_is_written() {
        for (name, format) in
            [("a.md", Format::Markdown), ("a.json", Format::Json), ("a.jsonl", Format::Jsonl)]
        {
            assert_eq!(format_of(Some(Path::new(name))), format);
        }
        assert_eq!(format_of(None), Format::Jsonl);
    }
}
