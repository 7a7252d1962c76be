//! The schema: the types of this crate for other languages, as one JSON document.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::envelope::{CONNECTIONS_MAX, KEY_BYTES_MAX, PROTOCOL, REQUESTS_MAX};
use crate::error::{ErrorBody, Kind};
use crate::event::{Fact, ToldEvent};
use crate::line::{DEPTH_MAX, LINE_BYTES_MAX};
use crate::live::{Delta, Live};
use crate::methods::{Access, Method, VisitMethod, for_each, info};
use crate::things::{
    Approval, Checkpoint, Compaction, DeadLetter, FileChange, Goal, Grant, Lock, Message, Note,
    Plan, Session, Task, Thread, ToolCall,
};
use crate::turn::Turn;

/// Makes the whole schema.
#[must_use]
pub fn schema() -> Value {
    let mut generator = SchemaGenerator::default();
    let mut methods = Methods { generator: &mut generator, entries: Map::new() };
    for_each(&mut methods);
    let methods = methods.entries;
    let events = events(&mut generator);
    let things = things(&mut generator);
    let notifications = json!({
        "event": generator.subschema_for::<ToldEvent>(),
        "delta": generator.subschema_for::<Delta>(),
        "live": generator.subschema_for::<Live>(),
    });
    let error = generator.subschema_for::<ErrorBody>();
    let kinds: Map<String, Value> =
        Kind::ALL.iter().map(|it| (it.text().to_owned(), it.code().into())).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The sess protocol",
        "protocol": PROTOCOL,
        "limits": {
            "line_bytes": LINE_BYTES_MAX,
            "depth": DEPTH_MAX,
            "requests": REQUESTS_MAX,
            "connections": CONNECTIONS_MAX,
            "key_bytes": KEY_BYTES_MAX,
        },
        "methods": methods,
        "events": events,
        "notifications": notifications,
        "things": things,
        "error": error,
        "error_kinds": kinds,
        "$defs": generator.take_definitions(true),
    })
}

fn things(generator: &mut SchemaGenerator) -> Value {
    fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<T>()
    }
    json!({
        "session": of::<Session>(generator),
        "message": of::<Message>(generator),
        "task": of::<Task>(generator),
        "thread": of::<Thread>(generator),
        "checkpoint": of::<Checkpoint>(generator),
        "compaction": of::<Compaction>(generator),
        "goal": of::<Goal>(generator),
        "plan": of::<Plan>(generator),
        "note": of::<Note>(generator),
        "tool_call": of::<ToolCall>(generator),
        "file_change": of::<FileChange>(generator),
        "approval": of::<Approval>(generator),
        "grant": of::<Grant>(generator),
        "dead_letter": of::<DeadLetter>(generator),
        "lock": of::<Lock>(generator),
        "turn": of::<Turn>(generator),
    })
}

/// One entry a type: the schema of its data, and an example of the event.
fn events(generator: &mut SchemaGenerator) -> Map<String, Value> {
    let whole = Fact::json_schema(generator);
    let variants = whole.get("oneOf").and_then(Value::as_array).cloned().unwrap_or_default();
    let data_of = |kind: &str| {
        variants
            .iter()
            .find(|it| it["properties"]["type"]["const"] == kind)
            .map(|it| it["properties"]["data"].clone())
            .expect("each type of the table is a variant")
    };
    let entry = |(kind, example): &(&str, &str)| {
        let example: Value = serde_json::from_str(example).expect("an example is JSON");
        ((*kind).to_owned(), json!({ "data": data_of(kind), "example": example }))
    };
    Fact::TABLE.iter().map(entry).collect()
}

struct Methods<'a> {
    generator: &'a mut SchemaGenerator,
    entries: Map<String, Value>,
}

impl VisitMethod for Methods<'_> {
    fn visit<M: Method>(&mut self, name: &'static str, doc: &'static str)
    where
        M::Params: JsonSchema,
        M::Result: JsonSchema,
    {
        let info = info(name).expect("each method is in the table");
        let mut shared = Vec::new();
        shared.extend(info.keyed.then_some("idempotency_key"));
        shared.extend(info.expect_seq.then_some("expect_seq"));
        shared.extend(info.expect_head.then_some("expect_head"));
        let entry = json!({
            "description": doc,
            "changes": info.access == Access::Change,
            "also_takes": shared,
            "params": self.generator.subschema_for::<M::Params>(),
            "result": self.generator.subschema_for::<M::Result>(),
        });
        self.entries.insert(name.to_owned(), entry);
    }
}
