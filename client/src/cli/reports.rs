//! What was used and what can be asked: tokens, money, models.

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use sess_client::Caller;
use sess_protocol::methods::{AgentList, AgentListParams, ListParams, ModelList};
use sess_protocol::view::Members;

use super::ask::{ask, ask_raw, members};
use super::output::{Output, Stop, note, note_hint};
use super::table::{self, Column};
use super::transcript::{short, wire_word};
use super::{ages, caller, dial_here, since};

/// Models that are shown; what providers list is far less.
const MODELS_MAX: u32 = 500;

/// Agents that are shown: more than there can be.
const AGENTS_MAX: u32 = 500;

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
    let found = result.get("rows").and_then(Value::as_array).into_iter().flatten();
    let mut rows: Vec<Vec<String>> =
        found.filter_map(Value::as_object).map(|it| usage_row(it, named(it))).collect();
    if let Some(totals) = result.get("totals").and_then(Value::as_object) {
        let mut all = totals.clone();
        for name in ["calls", "unpriced"] {
            all.extend(result.get(name).map(|it| (name.to_owned(), it.clone())));
        }
        rows.push(usage_row(&all, "all".to_owned()));
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
    if let Some(unpriced) = result.get("unpriced").and_then(Value::as_u64).filter(|it| *it > 0) {
        note(&format!("the price of {unpriced} calls is not known: it is not in the sums"));
        note_hint(
            "give `prices` in the document `providers`; they are dollars for a million tokens",
        );
    }
    Ok(())
}

/// What a row is about.
fn named(row: &Members) -> String {
    let name = row.get("key").and_then(Value::as_str).unwrap_or("-");
    if name.starts_with("sess_") { short(name) } else { name.to_owned() }
}

fn usage_row(row: &Members, name: String) -> Vec<String> {
    let usage = row.get("usage").and_then(Value::as_object).unwrap_or(row);
    let count = |name: &str| usage.get(name).and_then(Value::as_u64).map(ages::count);
    let calls = row.get("calls").and_then(Value::as_u64);
    let mut cost = ages::money(usage.get("cost_usd").and_then(Value::as_str), calls != Some(0));
    let unpriced = row.get("unpriced").and_then(Value::as_u64).unwrap_or(0);
    if unpriced > 0 && cost != "?" {
        // A sum without them is less than what was spent.
        cost.push_str("+?");
    }
    vec![
        name,
        calls.map_or_else(|| "-".to_owned(), ages::count),
        count("input_tokens").unwrap_or_default(),
        count("output_tokens").unwrap_or_default(),
        count("cache_read_tokens").unwrap_or_default(),
        count("reasoning_tokens").unwrap_or_default(),
        cost,
    ]
}

pub(crate) async fn agents(output: &mut Output) -> Result<(), Stop> {
    let params = AgentListParams { limit: Some(AGENTS_MAX), ..Default::default() };
    let mut caller = Caller::new(dial_here()?);
    let Some(list) = ask::<AgentList>(output, &mut caller, &params).await? else {
        return Ok(());
    };
    let column =
        |heading, flexible, dispensable| Column { heading, right: false, flexible, dispensable };
    let columns = [
        column("AGENT", false, 0),
        column("SCOPE", false, 1),
        column("MODEL", false, 2),
        column("FROM", false, 3),
        column("WHAT FOR", true, 0),
    ];
    let rows = list.agents.into_iter().map(|it| {
        let model = it.model.unwrap_or_else(|| "-".to_owned());
        let about = it.description.unwrap_or_default();
        vec![it.name, wire_word(&it.scope), model, wire_word(&it.source), about]
    });
    print(output, &columns, &rows.collect::<Vec<_>>())
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
            "set ANTHROPIC_API_KEY, OPENAI_API_KEY or GEMINI_API_KEY and `sess daemon restart`, or name a server in the document `providers`",
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
        let usage = json!({"input_tokens": 1200, "output_tokens": 3, "cost_usd": null});
        let it = row(json!({"key": "a/b", "usage": usage, "calls": 2, "unpriced": 2}));
        assert_eq!(usage_row(&it, named(&it)), ["a/b", "2", "1.2k", "3", "", "", "?"]);
        let it = row(json!({"key": "x", "usage": {"cost_usd": "0.5"}, "calls": 2, "unpriced": 1}));
        assert_eq!(usage_row(&it, named(&it)).last().unwrap(), "$0.5000+?");
    }
}
