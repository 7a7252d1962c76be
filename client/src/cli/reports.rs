//! What was used and what can be asked: tokens, money, models.

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use sess_protocol::methods::{ListParams, ModelList};
use sess_protocol::view::Members;

use super::ask::{ask, ask_raw, members};
use super::output::{Output, Stop, note, note_hint};
use super::table::{self, Column};
use super::transcript::{short, wire_word};
use super::{ages, caller, since};

/// Models that are shown; what providers list is far less.
const MODELS_MAX: u32 = 500;

/// What one row of the usage is about.
#[derive(Debug, Clone, Copy, ValueEnum, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum By {
    /// A call of a model.
    Call,
    /// A task.
    Task,
    /// A session.
    Session,
    /// A model.
    Model,
    /// A day, in UTC.
    Day,
    /// An agent.
    Agent,
}

/// Which usage is shown.
#[derive(Debug, Args)]
pub(crate) struct UsageArguments {
    /// Only of this session: its id, or at least 4 digits of it.
    session: Option<String>,
    /// What one row is about.
    #[arg(long, value_enum, default_value = "model")]
    by: By,
    /// Only since: an age as 30d or 12h, or a date as 2026-01-31.
    #[arg(long)]
    since: Option<String>,
}

/// The usage of one session by its models.
pub(crate) fn of_session(session: String) -> UsageArguments {
    UsageArguments { session: Some(session), by: By::Model, since: None }
}

pub(crate) async fn usage(output: &mut Output, arguments: UsageArguments) -> Result<(), Stop> {
    let since = arguments.since.as_deref().map(since::moment).transpose()?;
    let params = members([
        ("session", arguments.session.map(Value::from)),
        ("since", since.map(|it| it.to_string().into())),
        ("by", Some(json!(arguments.by))),
    ]);
    let Some(result) = ask_raw(output, &mut caller()?, "session/usage", params).await? else {
        return Ok(());
    };
    let by = wire_word(&arguments.by);
    let found = result.get("rows").and_then(Value::as_array).into_iter().flatten();
    let mut rows: Vec<Vec<String>> =
        found.filter_map(Value::as_object).map(|it| usage_row(it, named(it, &by))).collect();
    if let Some(totals) = result.get("totals").and_then(Value::as_object) {
        rows.push(usage_row(totals, "all".to_owned()));
    }
    let number =
        |heading, dispensable| Column { heading, right: true, flexible: false, dispensable };
    let columns = [
        Column { heading: "WHAT", right: false, flexible: true, dispensable: 0 },
        number("CALLS", 3),
        number("IN", 0),
        number("OUT", 0),
        number("CACHED", 4),
        number("REASONING", 5),
        number("COST", 0),
    ];
    print(output, &columns, &rows)?;
    let unpriced = result.get("unpriced").map(|it| match it {
        Value::Array(models) => {
            models.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
        }
        Value::Number(calls) if calls.as_u64() != Some(0) => format!("{calls} calls"),
        _ => String::new(),
    });
    if let Some(unpriced) = unpriced.filter(|it| !it.is_empty()) {
        note(&format!("no price is known for: {unpriced}; what they cost is not in the sums"));
        note_hint("give prices in the provider's `prices`, see the manual");
    }
    Ok(())
}

/// What a row is about, whichever member says it.
fn named(row: &Members, by: &str) -> String {
    let name = [by, "key", "id"].into_iter().find_map(|it| row.get(it).and_then(Value::as_str));
    let name = name.unwrap_or("-");
    if name.starts_with("sess_") { short(name) } else { name.to_owned() }
}

fn usage_row(row: &Members, name: String) -> Vec<String> {
    let usage = row.get("usage").and_then(Value::as_object).unwrap_or(row);
    let count = |name: &str| usage.get(name).and_then(Value::as_u64).map(ages::count);
    let calls = row.get("calls").or_else(|| row.get("iterations")).and_then(Value::as_u64);
    vec![
        name,
        calls.map_or_else(|| "-".to_owned(), ages::count),
        count("input_tokens").unwrap_or_default(),
        count("output_tokens").unwrap_or_default(),
        count("cache_read_tokens").unwrap_or_default(),
        count("reasoning_tokens").unwrap_or_default(),
        ages::money(usage.get("cost_usd").and_then(Value::as_str), calls != Some(0)),
    ]
}

pub(crate) async fn models(output: &mut Output) -> Result<(), Stop> {
    let params = ListParams { limit: Some(MODELS_MAX), ..Default::default() };
    let Some(list) = ask::<ModelList>(output, &mut caller()?, &params).await? else {
        return Ok(());
    };
    let left = |heading, flexible| Column { heading, right: false, flexible, dispensable: 0 };
    let columns = [left("MODEL", false), left("CAN BE ASKED", true)];
    let rows = list.models.iter().map(|it| {
        let can = match (it.available, &it.reason) {
            (true, _) if it.default => "yes, and is when none is named".to_owned(),
            (true, _) => "yes".to_owned(),
            (false, reason) => format!("no: {}", reason.as_deref().unwrap_or("no reason given")),
        };
        vec![it.id.clone(), can]
    });
    print(output, &columns, &rows.collect::<Vec<_>>())?;
    if !list.models.iter().any(|it| it.available && !it.id.starts_with("echo/")) {
        note_hint(
            "set OPENAI_API_KEY and `sess daemon restart`, or name a server in the document `providers`",
        );
    }
    Ok(())
}

/// Prints a table as wide as the terminal at most.
pub(crate) fn print(
    output: &mut Output,
    columns: &[Column],
    rows: &[Vec<String>],
) -> Result<(), Stop> {
    for (at, line) in table::lines(columns, rows, output.width()).iter().enumerate() {
        if at == 0 { output.heading(line)? } else { output.line(line)? }
    }
    output.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_named_by_what_it_is_about() {
        let row = |value: Value| value.as_object().unwrap().clone();
        let it = row(
            json!({"model": "a/b", "usage": {"input_tokens": 1200, "cost_usd": null}, "calls": 2}),
        );
        assert_eq!(usage_row(&it, named(&it, "model")), ["a/b", "2", "1.2k", "", "", "", "?"]);
        let it = row(json!({"key": "2026-01-31", "input_tokens": 1, "cost_usd": "0.5"}));
        assert_eq!(usage_row(&it, named(&it, "day"))[..3], ["2026-01-31", "-", "1"]);
    }
}
