//! Is everything on this machine well, and if not: what can be saved, and what is missing? The daemon's program
//! looks and saves (`sessd --doctor`); here it is put into words.

use std::process::{Command, Stdio};

use clap::Args;
use serde_json::Value;
use sess_client::start;

use super::ages;
use super::output::{Output, Stop, note};

/// Parts of a list that are shown; all of them are in the report.
const SHOWN_MAX: usize = 20;

#[derive(Debug, Args)]
pub(crate) struct DoctorArguments {
    /// Only say what would be done.
    #[arg(short = 'n', long)]
    dry_run: bool,
}

pub(crate) fn run(output: &mut Output, arguments: &DoctorArguments) -> Result<(), Stop> {
    let program = start::find_program()
        .ok_or_else(|| Stop::failed("there is no `sessd` beside `sess` and none in PATH"))?;
    let mut command = Command::new(&program);
    command.arg("--doctor").args(arguments.dry_run.then_some("-n"));
    // What it says on stderr is for the person as well.
    let cannot = |err| Stop::failed(format_args!("cannot run `{}`: {err}", program.display()));
    let done = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().map_err(cannot)?;
    let text = String::from_utf8_lossy(&done.stdout);
    let Ok(report) = serde_json::from_str::<Value>(text.trim()) else {
        return Err(Stop::Said);
    };
    if output.json {
        output.json_line(text.trim())?;
    } else {
        say(output, &report)?;
    }
    if done.status.success() { Ok(()) } else { Err(Stop::Said) }
}

fn say(output: &mut Output, report: &Value) -> Result<(), Stop> {
    for (name, value) in facts(&report["facts"]) {
        output.line(&format!("{name:<9} {value}"))?;
    }
    for warning in list(&report["warnings"]) {
        note(&format!("warning: {}", word(warning)));
    }
    let (checked, is_running) = (&report["checked"], report["running"] == true);
    match report["status"].as_str().unwrap_or_default() {
        "new" => output.line("health    nothing is stored yet"),
        "healthy" => output.line(&format!(
            "health    good: {} sessions, {} commits proved{}",
            checked["sessions"],
            checked["commits"],
            if is_running { ", while the daemon runs" } else { "" }
        )),
        "damaged" => {
            faults(output, report)?;
            output.note("the store is damaged, and a daemon runs")?;
            output.hint("`sess daemon stop`, then `sess doctor` saves what can be saved")
        }
        status => {
            faults(output, report)?;
            saved(output, report, status)
        }
    }
}

fn faults(output: &mut Output, report: &Value) -> Result<(), Stop> {
    shown(output, "fault", list(&report["faults"]).iter().map(word).collect())
}

fn saved(output: &mut Output, report: &Value, status: &str) -> Result<(), Stop> {
    let saved = &report["saved"];
    let would = if report["dry"] == true { "would be " } else { "" };
    if status == "nothing" {
        shown(output, "missing", missing(report))?;
        output.note("nothing can be saved; the store is left as it is")?;
        return output.hint(
            "is its disk there? `sessd --restore FILE` puts a backup back; to begin anew, move the folder away",
        );
    }
    output.line(&format!(
        "saved     {} sessions, {} commits {would}saved",
        saved["sessions"], saved["commits"]
    ))?;
    let helped = list(&saved["from_backup"]).iter().map(word).collect();
    shown(output, "backup", helped)?;
    if let Some(aside) = report["aside"].as_str() {
        output.line(&format!("set aside {aside}"))?;
    }
    if status == "saved" {
        return output.line("missing   nothing");
    }
    shown(output, "missing", missing(report))?;
    output.note("something is missing; what there was is set aside whole")
}

/// What is missing, each in a few words.
fn missing(report: &Value) -> Vec<String> {
    let mut words = Vec::new();
    for part in list(&report["missing"]) {
        let session = part["session"].as_str().unwrap_or("a session without a name");
        words.push(match (part["blob"].as_str(), part["first"].as_u64(), part["last"].as_u64()) {
            (Some(blob), ..) => format!("{session}: the bytes of {blob}"),
            (_, Some(1), None) => format!("{session}: all of it"),
            (_, Some(first), None) => format!("{session}: from event {first} on"),
            (_, first, last) => format!(
                "{session}: events {} to {}",
                first.unwrap_or_default(),
                last.unwrap_or_default()
            ),
        });
    }
    words.extend(list(&report["unknown"]).iter().map(word));
    words
}

fn shown(output: &mut Output, name: &str, words: Vec<String>) -> Result<(), Stop> {
    for text in words.iter().take(SHOWN_MAX) {
        output.line(&format!("{name:<9} {text}"))?;
    }
    match words.len().checked_sub(SHOWN_MAX) {
        Some(more @ 1..) => output.line(&format!("{name:<9} and {more} more: see --json")),
        _ => Ok(()),
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn facts(facts: &Value) -> Vec<(&'static str, String)> {
    let place = |name: &str| {
        let (path, mode) = (word(&facts[name]["path"]), &facts[name]["mode"]);
        match mode.as_str() {
            Some(mode) => format!("{path} (mode {mode})"),
            None => format!("{path} (not there)"),
        }
    };
    let bytes = |value: &Value| ages::bytes(value.as_u64().unwrap_or_default());
    let (store, backups) = (&facts["store"], &facts["backups"]);
    let schema = store["schema"].as_u64().map_or_else(|| "none".to_owned(), |it| it.to_string());
    let newest = match (backups["count"].as_u64(), backups["at"].as_str()) {
        (Some(count @ 1..), Some(at)) => format!("{count}, the newest of {at}"),
        _ => "none; `sess backup` makes one".to_owned(),
    };
    vec![
        ("daemon", format!("sessd {}", word(&facts["version"]))),
        ("socket", place("socket")),
        ("data", place("data")),
        ("settings", place("state")),
        (
            "store",
            format!(
                "{} and {} of log, schema {schema} of {}, SQLite {}, {} free",
                bytes(&store["bytes"]),
                bytes(&store["log_bytes"]),
                store["schema_known"],
                word(&store["sqlite"]),
                bytes(&store["free_bytes"])
            ),
        ),
        ("backups", newest),
    ]
}
