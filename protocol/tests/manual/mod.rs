//! Is every example in the documents what the types say it is, and does the manual leave nothing out?

mod markdown;

use std::collections::HashMap;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use sess_protocol::error::Error;
use sess_protocol::event::{Fact, ToldEvent};
use sess_protocol::live::{Delta, Live};
use sess_protocol::methods::{Method, VisitMethod, for_each, info};
use sess_protocol::schema::schema;
use sess_protocol::things::Session;

use markdown::{Example, documents, examples};

type Reads = fn(&Value) -> Result<(), String>;

/// How params and results of each method are read.
#[derive(Default)]
struct Readers(HashMap<&'static str, (Reads, Reads)>);

impl VisitMethod for Readers {
    fn visit<M: Method>(&mut self, name: &'static str, _: &'static str)
    where
        M::Params: schemars::JsonSchema,
        M::Result: schemars::JsonSchema,
    {
        self.0.insert(name, (reads::<M::Params>, reads::<M::Result>));
    }
}

fn reads<T: DeserializeOwned>(value: &Value) -> Result<(), String> {
    serde_json::from_value::<T>(value.clone()).map(drop).map_err(|err| err.to_string())
}

/// What was seen, so that a document without examples is not taken for a right one.
#[derive(Default)]
struct Seen {
    requests: usize,
    answers: usize,
    notifications: usize,
}

impl Readers {
    fn of_all() -> Self {
        let mut readers = Self::default();
        for_each(&mut readers);
        readers
    }

    /// Checks one line of a conversation; `asked` holds the methods of the requests before it.
    fn check(
        &self,
        line: &Value,
        asked: &mut HashMap<String, String>,
        seen: &mut Seen,
    ) -> Result<(), String> {
        let Some(members) = line.as_object() else { return Ok(()) };
        let id = members.get("id").map(ToString::to_string);
        match (members.get("method").and_then(Value::as_str), id) {
            (Some(method), Some(id)) => {
                seen.requests += 1;
                asked.insert(id, method.to_owned());
                self.check_request(method, members)
            }
            (Some(method), None) => {
                seen.notifications += 1;
                check_notification(method, members.get("params").unwrap_or(&Value::Null))
            }
            (None, Some(id)) if members.contains_key("jsonrpc") => {
                seen.answers += 1;
                let method = asked.get(&id).ok_or("an answer to no request of this block")?;
                self.check_answer(method, members)
            }
            _ => Ok(()),
        }
    }

    fn check_request(&self, method: &str, members: &Map<String, Value>) -> Result<(), String> {
        let known = ["jsonrpc", "id", "method", "params"];
        if let Some(more) = members.keys().find(|it| !known.contains(&it.as_str())) {
            return Err(format!("a request has no member `{more}`"));
        }
        let info = info(method).ok_or_else(|| format!("there is no method `{method}`"))?;
        let mut params = members.get("params").cloned().unwrap_or(Value::Object(Map::new()));
        let own = params.as_object_mut().ok_or("`params` is an object")?;
        for (name, allowed) in [
            ("idempotency_key", info.keyed),
            ("expect_seq", info.expect_seq),
            ("expect_head", info.expect_head),
        ] {
            if own.remove(name).is_some() && !allowed {
                return Err(format!("`{method}` does not take `{name}`"));
            }
        }
        self.0[method].0(&params)
    }

    fn check_answer(&self, method: &str, members: &Map<String, Value>) -> Result<(), String> {
        let Some(error) = members.get("error") else {
            return self.0[method].1(members.get("result").unwrap_or(&Value::Null));
        };
        let read: Error = serde_json::from_value(error.clone()).map_err(|err| err.to_string())?;
        let kind = read.kind();
        if error["code"] != kind.code() || error["data"]["retryable"] != kind.retryable() {
            return Err(format!("`{}` has another code or `retryable`", kind.text()));
        }
        Ok(())
    }
}

fn check_notification(method: &str, params: &Value) -> Result<(), String> {
    match method {
        "event" => check_event(params),
        "delta" => reads::<Delta>(params),
        "live" => reads::<Live>(params),
        "session" if params.get("deleted").is_some() => Ok(()),
        "session" => reads::<Session>(params),
        "approval" | "state" => Ok(()),
        _ => Err(format!("there is no notification `{method}`")),
    }
}

fn check_event(params: &Value) -> Result<(), String> {
    let told: ToldEvent = serde_json::from_value(params.clone()).map_err(|err| err.to_string())?;
    if told.event.is_foreign() {
        return Ok(());
    }
    let whole = serde_json::json!({ "type": told.event.kind, "data": told.event.data });
    let fact: Fact = serde_json::from_value(whole).map_err(|err| err.to_string())?;
    if fact.data() != told.event.data {
        return Err("its data does not come back the same".to_owned());
    }
    Ok(())
}

/// Everything that is wrong with the examples of a document.
fn faults(examples: &[Example], seen: &mut Seen) -> Vec<String> {
    let readers = Readers::of_all();
    let mut faults = Vec::new();
    for example in examples {
        let mut asked = HashMap::new();
        for (line, text) in &example.texts {
            let read = serde_json::from_str(text).map_err(|err| format!("no JSON: {err}"));
            let checked = read.and_then(|it: Value| readers.check(&it, &mut asked, seen));
            faults.extend(checked.err().map(|err| format!("{}:{line}: {err}", example.path)));
        }
    }
    faults
}

#[test]
fn every_example_in_the_documents_is_what_it_looks_like() {
    let mut seen = Seen::default();
    let examples: Vec<Example> =
        documents().iter().flat_map(|(path, text)| examples(path, text)).collect();
    let faults = faults(&examples, &mut seen);
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    assert!(seen.requests > 10 && seen.answers > 5 && seen.notifications > 5, "few examples");
}

#[test]
fn an_example_that_is_wrong_is_seen() {
    for wrong in [
        "{\"id\":1,",
        r#"{"id":1,"method":"session/gett","params":{"session":"1f2e"}}"#,
        r#"{"id":1,"method":"session/get","params":{"sesion":"1f2e"}}"#,
        r#"{"id":1,"method":"session/get","params":{"session":"1f2e","expect_seq":1}}"#,
        r#"{"id":1,"method":"session/get"}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
        r#"{"jsonrpc":"2.0","method":"evnt","params":{}}"#,
        r#"{"jsonrpc":"2.0","method":"event","params":{"session":"global","cursor":"a","seq":1,"at":"2026-11-21T10:00:00.000Z","type":"notice","data":{"txt":"x"}}}"#,
        "{\"id\":1,\"method\":\"session/get\",\"params\":{\"session\":\"1f2e\"}}\n{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}",
        "{\"id\":1,\"method\":\"session/get\",\"params\":{\"session\":\"1f2e\"}}\n{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-1,\"message\":\"x\",\"data\":{\"kind\":\"busy\",\"retryable\":true}}}",
    ] {
        let document = format!("```jsonl\n{wrong}\n```\n");
        let faults = faults(&examples("wrong.md", &document), &mut Seen::default());
        assert_eq!(faults.len(), 1, "{wrong}: {faults:?}");
    }
}

/// Names of members, wherever they are, are in the manual too: none can be added in silence.
#[test]
fn the_manual_names_every_member_of_every_type() {
    let (_, manual) = documents()
        .into_iter()
        .find(|(path, _)| path == "protocol/PROTOCOL.md")
        .expect("there is a manual");
    let is_word = |it: char| it.is_alphanumeric() || it == '_';
    let words: std::collections::HashSet<&str> = manual.split(|it| !is_word(it)).collect();
    let mut missing: Vec<String> = Vec::new();
    let mut seen = 0;
    members(&schema(), &mut |name| {
        seen += 1;
        if !words.contains(name) {
            missing.push(name.to_owned());
        }
    });
    missing.sort();
    missing.dedup();
    assert!(seen > 300, "only {seen} members are in the schema");
    assert!(missing.is_empty(), "the manual does not name {missing:?}");
}

fn members(schema: &Value, visit: &mut impl FnMut(&str)) {
    match schema {
        Value::Object(schema) => {
            if let Some(Value::Object(properties)) = schema.get("properties") {
                properties.keys().for_each(|it| visit(it));
            }
            schema.values().for_each(|it| members(it, visit));
        }
        Value::Array(items) => items.iter().for_each(|it| members(it, visit)),
        _ => {}
    }
}
