//! Settings: what is there, what is set, and how is it changed?

use clap::Subcommand;
use serde_json::{Map, Value, json};
use sess_client::Caller;

use super::output::{Output, Stop};
use super::table::{self, Column};
use super::{caller, dial_here};

/// What to do with settings.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print what holds for a setting: what is set, else its default.
    Get {
        /// The setting, as tasks.max_running.
        key: String,
        /// That of this folder's workspace alone.
        #[arg(long)]
        here: bool,
    },
    /// Set one; it holds from the next task on.
    Set {
        /// The setting.
        key: String,
        /// Its value: a text, a number, or JSON.
        value: String,
        /// For this folder's workspace.
        #[arg(long)]
        here: bool,
    },
    /// Go back to the default.
    Unset {
        /// The setting.
        key: String,
        /// For this folder's workspace.
        #[arg(long)]
        here: bool,
    },
    /// List all settings with their values, types and meanings.
    List {
        /// Those of this folder's workspace.
        #[arg(long)]
        here: bool,
    },
}

const COLUMNS: [Column; 4] = [
    Column { heading: "SETTING", right: false, flexible: false, dispensable: 0 },
    Column { heading: "VALUE", right: false, flexible: false, dispensable: 0 },
    Column { heading: "DEFAULT", right: false, flexible: false, dispensable: 2 },
    Column { heading: "MEANING", right: false, flexible: true, dispensable: 1 },
];

pub(crate) async fn run(output: &mut Output, command: ConfigCommand) -> Result<(), Stop> {
    match command {
        ConfigCommand::Get { key, here } => get(output, &key, here).await,
        ConfigCommand::Set { key, value, here } => {
            let params = params(here, json!({"key": key, "value": value_of(&value)}))?;
            done(output, caller()?.call_raw("state/set", params).await?.get())
        }
        ConfigCommand::Unset { key, here } => {
            let params = params(here, json!({ "key": key }))?;
            done(output, caller()?.call_raw("state/delete", params).await?.get())
        }
        ConfigCommand::List { here } => list(output, here).await,
    }
}

fn done(output: &mut Output, result: &str) -> Result<(), Stop> {
    if output.json { output.json_line(result) } else { Ok(()) }
}

/// A value as it is written on a command line: what is no JSON is a text.
fn value_of(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(value @ (Value::Number(_) | Value::Bool(_) | Value::Array(_) | Value::Object(_))) => {
            value
        }
        Ok(Value::String(text)) => text.into(),
        _ => text.into(),
    }
}

fn params(here: bool, more: Value) -> Result<Map<String, Value>, Stop> {
    let mut params = Map::new();
    params.insert("document".to_owned(), "settings".into());
    if here {
        let workspace = dial_here()?.workspace;
        let workspace = workspace.ok_or_else(|| Stop::failed("this folder cannot be named"))?;
        params.insert("workspace".to_owned(), workspace.into());
    }
    if let Value::Object(more) = more {
        params.extend(more);
    }
    Ok(params)
}

/// What is set, and what settings there are.
async fn all(caller: &mut Caller, here: bool) -> Result<(Value, Value), Stop> {
    let raw = caller.call_raw("state/all", params(here, Value::Null)?).await?;
    let mut all: Value = serde_json::from_str(raw.get())
        .map_err(|err| Stop::failed(format_args!("the answer cannot be read: {err}")))?;
    Ok((all["documents"]["settings"].take(), all["described"].take()))
}

async fn get(output: &mut Output, key: &str, here: bool) -> Result<(), Stop> {
    let mut caller = caller()?;
    let raw = caller.call_raw("state/get", params(here, json!({ "key": key }))?).await?;
    if output.json {
        return output.result(&raw);
    }
    let answer: Value = serde_json::from_str(raw.get()).unwrap_or_default();
    let mut value = answer["value"].clone();
    if value.is_null() && !here {
        value = all(&mut caller, false).await?.1[key]["default"].take();
    }
    output.line(&shown(&value))
}

async fn list(output: &mut Output, here: bool) -> Result<(), Stop> {
    let (set, mut described) = all(&mut caller()?, here).await?;
    let settings = described.as_object_mut().map(std::mem::take).unwrap_or_default();
    if output.json {
        let mut all = Map::new();
        for (key, mut it) in settings {
            it["value"] = set[&key].clone();
            all.insert(key, it);
        }
        return output.json_line(&Value::Object(all).to_string());
    }
    let row = |(key, it): (&String, &Value)| {
        let text = |name: &str| it[name].as_str().unwrap_or_default().to_owned();
        vec![key.clone(), shown(&set[key]), shown(&it["default"]), text("meaning")]
    };
    let rows: Vec<Vec<String>> = settings.iter().map(row).collect();
    for (place, line) in table::lines(&COLUMNS, &rows, output.width()).iter().enumerate() {
        if place == 0 { output.heading(line)? } else { output.line(line)? }
    }
    Ok(())
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_the_command_line_is_json_where_it_is_one_and_a_text_else() {
        for (text, value) in [
            ("5", json!(5)),
            ("plan", json!("plan")),
            ("\"5\"", json!("5")),
            ("[{}]", json!([{}])),
            ("true", json!(true)),
            ("null", json!("null")),
            ("a b", json!("a b")),
            ("", json!("")),
        ] {
            assert_eq!(value_of(text), value);
        }
    }
}
