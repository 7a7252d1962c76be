//! Is each param of each method refused in each type that it has not, by its name and with nothing done?
//!
//! The params are those of the protocol's schema, so that a new one is tried without a line here.

use serde_json::{Map, Value, json};
use sess_protocol::methods::METHODS;
use sess_tests::bins;
use sess_tests::figures::figure;
use sess_tests::harness::Wire;
use sess_tests::harness::table::{World, daemon_with_world};

use crate::{alone, everything, is_sound};

/// A value of each type of JSON; a number with a fraction is a type of its own here.
fn samples() -> [(&'static str, Value); 7] {
    [
        ("null", Value::Null),
        ("boolean", json!(true)),
        ("integer", json!(7)),
        ("number", json!(0.5)),
        ("string", json!("no such word")),
        ("array", json!([["x"]])),
        ("object", json!({"no such member": 1})),
    ]
}

/// The protocol's schema.
struct Schema(Value);

impl Schema {
    fn read() -> Schema {
        let path = bins::workspace().join("protocol/schema.json");
        Schema(serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap())
    }

    /// The params of a method: each with its schema.
    fn params(&self, method: &str) -> Map<String, Value> {
        let method = &self.0["methods"][method];
        let own = self.resolved(&method["params"])["properties"].as_object().cloned();
        let mut params = own.unwrap_or_default();
        for also in method["also_takes"].as_array().unwrap() {
            // What many methods take is in no one's schema.
            let schema = match also.as_str().unwrap() {
                "idempotency_key" => json!({"type": "string"}),
                "expect_seq" => json!({"type": "integer"}),
                "expect_head" => json!({"type": ["string", "null"]}),
                other => panic!("say here what `{other}` may be"),
            };
            params.insert(also.as_str().unwrap().to_owned(), schema);
        }
        params
    }

    fn resolved<'a>(&'a self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str() {
            Some(name) => self.resolved(&self.0["$defs"][name.rsplit('/').next().unwrap()]),
            None => schema,
        }
    }

    /// Whether a value of this type may be right. What the type alone cannot tell may be.
    fn may_be(&self, schema: &Value, kind: &str, value: &Value) -> bool {
        let schema = self.resolved(schema);
        let Some(members) = schema.as_object() else { return true };
        if let Some(words) = members.get("enum").and_then(Value::as_array) {
            return words.contains(value);
        }
        if let Some(word) = members.get("const") {
            return word == value;
        }
        for among in ["anyOf", "oneOf"] {
            if let Some(several) = members.get(among).and_then(Value::as_array) {
                return several.iter().any(|it| self.may_be(it, kind, value));
            }
        }
        match members.get("type") {
            None => true,
            Some(Value::String(one)) => fits(one, kind),
            Some(several) => {
                several.as_array().unwrap().iter().any(|it| fits(it.as_str().unwrap(), kind))
            }
        }
    }
}

fn fits(schema: &str, kind: &str) -> bool {
    schema == kind || (schema == "number" && kind == "integer")
}

#[tokio::test]
async fn each_param_of_each_method_is_refused_in_each_wrong_type() {
    let _alone = alone().await;
    let schema = Schema::read();
    let (_stub, daemon, mut wire, world) = daemon_with_world().await;
    let before = everything(&mut wire).await;
    let (mut params_tried, mut tried) = (0, 0);
    for method in METHODS {
        for (param, of) in &schema.params(method.name) {
            params_tried += 1;
            let mut wrong = 0;
            for (kind, value) in samples() {
                if !schema.may_be(of, kind, &value) {
                    refused(&mut wire, &world, method.name, (param, &value)).await;
                    wrong += 1;
                }
            }
            assert!(wrong > 0 || is_anything(&schema, of), "`{param}` of `{}`: {of}", method.name);
            tried += wrong;
        }
        // What no method has is no param of this one.
        refused(&mut wire, &world, method.name, ("no_such_param", &json!(1))).await;
        tried += 1;
    }
    assert!(params_tried > 100, "only {params_tried} params are in the schema");
    assert_eq!(everything(&mut wire).await, before, "something was done all the same");
    figure("R13", "params in a wrong type, refused by name, nothing changed", tried, tried);
    figure("R13", "params of methods tried", params_tried, METHODS.len());
    is_sound(&daemon).await;
}

/// Whether all types are right.
fn is_anything(schema: &Schema, of: &Value) -> bool {
    samples().iter().all(|(kind, value)| schema.may_be(of, kind, value))
}

async fn refused(wire: &mut Wire, world: &World, method: &str, (param, value): (&str, &Value)) {
    let mut params = world.example(method);
    params[param] = value.clone();
    let error = match wire.call(method, params).await {
        Ok(result) => panic!("`{method}` took `{param}` {value} and answered {result}"),
        Err(error) => error,
    };
    let data = &error["data"];
    assert_eq!(data["kind"], "invalid_params", "`{method}` with `{param}` {value}: {error}");
    // Of something inside a param the path may be told.
    let named = data["param"].as_str().unwrap_or_default();
    let is_named = named.split(['.', '[']).next() == Some(param);
    assert!(is_named, "`{method}` with `{param}` {value}: {error}");
}
