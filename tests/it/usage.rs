//! Is what models used summed up right, by all that it can be summed up by?

use serde_json::{Value, json};
use sess_tests::harness::{Daemon, Plan, Wire, stub, until_held};

async fn usage(wire: &mut Wire, params: Value) -> Value {
    wire.ok("session/usage", params).await
}

#[tokio::test]
async fn calls_are_summed_up_by_each_of_the_six() {
    let daemon = Daemon::start().await;
    let mut wire = daemon.wire().await;
    let (one, two) = (wire.session().await, wire.session().await);
    for content in ["a", "a b"] {
        wire.turn(&one, content).await;
    }
    wire.turn(&two, "a b c").await;
    for (by, rows) in [("call", 3), ("task", 3), ("session", 2), ("model", 1), ("agent", 1)] {
        let sums = usage(&mut wire, json!({"by": by})).await;
        assert_eq!(sums["rows"].as_array().unwrap().len(), rows, "{by}");
        assert_eq!((&sums["calls"], &sums["totals"]["output_tokens"]), (&json!(3), &json!(6)));
        let rows = sums["rows"].as_array().unwrap();
        let sum: u64 = rows.iter().map(|it| it["usage"]["output_tokens"].as_u64().unwrap()).sum();
        assert_eq!(sum, 6, "{by}");
        let unpriced: u64 = rows.iter().map(|it| it["unpriced"].as_u64().unwrap()).sum();
        assert_eq!(sums["unpriced"], unpriced);
        // Unknown is never free.
        assert_eq!(sums["totals"]["cost_usd"].is_null(), sums["unpriced"] == sums["calls"]);
    }
    let days = usage(&mut wire, json!({"by": "day"})).await;
    assert_eq!(days["rows"][0]["key"].as_str().unwrap().len(), 10);
    let own = usage(&mut wire, json!({"session": one, "by": "session"})).await;
    assert_eq!((&own["calls"], &own["rows"][0]["key"]), (&json!(2), &json!(one)));
    let of = wire.get(&one).await["usage"]["total_tokens"].clone();
    assert_eq!(own["totals"]["total_tokens"], of);
    let later = usage(&mut wire, json!({"since": "2100-01-01T00:00:00.000Z"})).await;
    assert_eq!((&later["calls"], &later["rows"]), (&json!(0), &json!([])));
    wire.refused("invalid_params", "session/usage", json!({"by": "hour"})).await;
}

/// Prices of 9 decimals: a call's cost has all the decimals that money has.
fn priced(base_url: String) -> Value {
    json!({"stub": {"kind": "openai", "base_url": base_url,
        "prices": {"*": {"input": "0.123456789", "output": "0.987654321"}}}})
}

fn used(input: u64, output: u64) -> Value {
    json!({"usage": {"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output}})
}

#[tokio::test]
async fn the_sums_of_calls_are_what_the_session_and_its_tasks_have_used() {
    let stub = stub().await;
    for steps in [
        json!([{"text": "one"}, used(1_001, 7)]),
        // One that says nothing costs as well, also where more was said meanwhile and another follows.
        json!([used(333, 1)]),
        json!([{"hold": "h"}, used(77, 3)]),
        json!([{"text": "four"}, used(13, 999)]),
    ] {
        stub.script_once("stub", steps).await.unwrap();
    }
    let daemon = Plan::new()
        .document("providers", &priced(stub.base_url()))
        .document("settings", &json!({"model": "stub/stub"}))
        .start()
        .await;
    let mut wire = daemon.wire().await;
    let session = wire.session().await;
    wire.turn(&session, "a").await;
    wire.turn(&session, "b").await;
    let sent = wire.say(&session, "c").await;
    until_held(&stub, "h").await;
    let more = json!({"session": session, "content": "d", "if_busy": "steer"});
    wire.ok("chat/send", more).await;
    stub.release("h").await.unwrap();
    wire.wait(&sent).await;
    wire.follow_from_start(&session).await;
    let told = wire.event("usage.recorded").await;
    assert_eq!(told["data"]["call"]["usage"]["input_tokens"], 333);
    check(&mut wire, &session).await;
    // The same is made anew from the log.
    let daemon = daemon.killed_and_restarted().await;
    check(&mut daemon.wire().await, &session).await;
}

async fn check(wire: &mut Wire, session: &str) {
    let whole = wire.get(session).await;
    assert_eq!(whole["iterations"], 4);
    assert_eq!(whole["usage"]["total_tokens"], 1_008 + 334 + 80 + 1_012);
    let cost = whole["usage"]["cost_usd"].as_str().unwrap().to_owned();
    assert_eq!(cost.len(), "0.".len() + 15, "{cost}");
    for by in ["call", "task", "session", "model", "day", "agent"] {
        let sums = usage(wire, json!({"by": by, "session": session})).await;
        assert_eq!((&sums["totals"], &sums["calls"]), (&whole["usage"], &json!(4)), "{by}");
        assert_eq!(sums["unpriced"], 0);
    }
    let sums = usage(wire, json!({"by": "task"})).await;
    let rows = sums["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 3);
    for row in rows {
        let task = wire.ok("task/get", json!({"task": row["key"]})).await["task"].clone();
        assert_eq!(row["usage"], task["usage"]);
    }
}
