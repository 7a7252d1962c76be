//! Is what models used summed up right, by all that it can be summed up by?

use serde_json::{Value, json};
use sess_tests::harness::{Daemon, Wire};

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
