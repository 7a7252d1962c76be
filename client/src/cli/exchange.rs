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
}

/// What is written where.
#[derive(Debug, Args)]
pub(crate) struct ExportArguments {
    /// The session: its id, or at least 4 digits of it.
    session: String,
    /// How it is written down; else as the file's name ends, else jsonl.
    #[arg(short, long, value_enum)]
    format: Option<Format>,
    /// The file, which must not be there; else stdout.
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
    let format = arguments.format.unwrap_or_else(|| format_of(arguments.output.as_deref()));
    // Before the daemon is set to work.
    let mut file = arguments.output.as_deref().map(|it| create(it, arguments.force)).transpose()?;
    let params = members([
        ("session", Some(arguments.session.into())),
        ("format", Some(json!(wire_word(&format)))),
    ]);
    let raw = match caller.call_raw("session/export", params).await {
        Ok(raw) => raw,
        Err(failure) => {
            // An empty file would look like an export.
            if let Some(path) = &arguments.output {
                let _ = std::fs::remove_file(path);
            }
            return Err(failure.into());
        }
    };
    let result = object("session/export", &raw)?;
    let Some(hash) = result.get("blob").and_then(Value::as_str) else {
        let what = "it names no blob".to_owned();
        return Err(CallError::Strange { method: "session/export".to_owned(), what }.into());
    };
    match (&mut file, &arguments.output) {
        (Some(file), Some(path)) => {
            let bytes = blob::copy(&mut caller, hash, |piece| file.write_all(piece)).await?;
            let written = bytes.and_then(|bytes| file.sync_all().map(|()| bytes));
            let cannot =
                |err| Stop::failed(format_args!("cannot write `{}`: {err}", path.display()));
            let bytes = written.map_err(cannot)?;
            if output.json {
                return output.result(&raw);
            }
            note(&format!("{bytes} bytes in `{}`", path.display()));
        }
        _ if output.json => return output.result(&raw),
        _ => {
            let mut stdout = std::io::stdout();
            blob::copy(&mut caller, hash, |piece| stdout.write_all(piece)).await??;
        }
    }
    output.flush()
}

fn format_of(path: Option<&Path>) -> Format {
    match path.and_then(Path::extension).and_then(|it| it.to_str()) {
        Some("md" | "markdown") => Format::Markdown,
        Some("json") => Format::Json,
        _ => Format::Jsonl,
    }
}

/// A session is private: so is its file.
fn create(path: &Path, force: bool) -> Result<File, Stop> {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    if force {
        options.create(true).truncate(true)
    } else {
        options.create_new(true)
    };
    options.open(path).map_err(|err| {
        let stop = Stop::failed(format_args!("cannot make `{}`: {err}", path.display()));
        match err.kind() {
            std::io::ErrorKind::AlreadyExists => stop.hint("--force replaces it"),
            _ => stop,
        }
    })
}

/// What is read.
#[derive(Debug, Args)]
pub(crate) struct ImportArguments {
    /// A file that `sess export` wrote as jsonl; - reads it from stdin.
    file: PathBuf,
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
    let params = members([("blob", Some(hash.into())), ("format", Some("jsonl".into()))]);
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
