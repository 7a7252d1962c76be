//! Types, examples, documents and schema say the same.

mod manual;

use sess_protocol::event::{Event, Fact};
use sess_protocol::schema::schema;
use sess_protocol::view::View;

#[test]
fn every_example_of_an_event_is_of_its_type_and_comes_back_the_same() {
    for (kind, example) in Fact::TABLE {
        let event: Event = serde_json::from_str(example).unwrap_or_else(|err| {
            panic!("the example of `{kind}` is no event: {err}\n{example}");
        });
        assert_eq!(event.kind, *kind);
        let whole = serde_json::json!({ "type": kind, "data": event.data });
        let fact: Fact = serde_json::from_value(whole)
            .unwrap_or_else(|err| panic!("the data of the example of `{kind}`: {err}"));
        assert_eq!(fact.kind(), *kind);
        assert_eq!(fact.data(), event.data, "the example of `{kind}` comes back the same");
    }
}

#[test]
fn the_examples_fold_one_after_another() {
    let mut view = View::default();
    for (_, example) in Fact::TABLE {
        view.apply(&serde_json::from_str(example).expect("an example is an event"));
    }
    assert_eq!(view.session().get("running"), None);
    assert_eq!(view.things("checkpoint").count(), 0);
}

/// `schema.json` is written anew by `SESS_BLESS=1 cargo test -p sess-protocol --features schema`.
#[test]
fn the_schema_in_the_repository_is_made_from_the_types() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/schema.json");
    let made = serde_json::to_string_pretty(&schema()).expect("a schema is JSON") + "\n";
    if std::env::var_os("SESS_BLESS").is_some() {
        std::fs::write(path, &made).expect("the schema can be written");
    }
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    assert!(kept == made, "protocol/schema.json differs from the types; bless it and review");
}
