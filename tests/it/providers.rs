//! Does every kind of provider keep the same promises, whatever goes wrong on its side?

use std::time::Duration;

use serde_json::{Value, json};
use sess_tests::harness::{Daemon, Plan, Wire, said, stub, until_held};
use sess_tests::stub::{How, Stub, What};

/// Every kind that is asked over a network; each is also the name of its provider here.
const KINDS: [&str; 5] = ["openai", "openai_responses", "anthropic", "gemini", "ollama"];
/// What a short answer says, with signs of one to four bytes.
const SHORT: &str = "aß€😀";

/// A daemon that knows a stub under every kind, with these deadlines.
async fn daemon(stub: &Stub, timeouts: Value) -> Daemon {
    let provider = |kind: &&str| {
        let base_url = match *kind {
            "gemini" | "ollama" | "anthropic" => stub.origin(),
            _ => stub.base_url(),
        };
        let provider = json!({
            "kind": kind, "base_url": base_url, "api_key_env": "STUB_KEY", "timeouts": timeouts,
        });
        ((*kind).to_owned(), provider)
    };
    let providers: serde_json::Map<_, _> = KINDS.iter().map(provider).collect();
    let settings = json!({"model": "openai/m", "tasks.max_running": 1_024});
    let plan = Plan::new().document("providers", &json!(providers));
    plan.document("settings", &settings).env("STUB_KEY", "sk-of-the-stub").start().await
}

fn patient() -> Value {
    json!({"connect_ms": 5_000, "first_byte_ms": 20_000, "idle_ms": 20_000, "total_ms": 60_000})
}

/// Asks a model in a session of its own.
async fn send(wire: &mut Wire, model: &str) -> Value {
    let session = wire.session().await;
    wire.ok("chat/send", json!({"session": session, "content": "go on", "model": model})).await
}

/// Asks every kind at once for what this model's script says; answers what each task came to.
async fn ask_all(wire: &mut Wire, name: &str) -> Vec<(&'static str, Value)> {
    let mut sent = Vec::new();
    for kind in KINDS {
        sent.push((kind, send(wire, &format!("{kind}/{kind}-{name}")).await));
    }
    let mut done = Vec::new();
    for (kind, sent) in sent {
        done.push((kind, wire.wait(&sent).await));
    }
    done
}

/// Gives every kind's model of this name its scripts.
async fn install(stub: &Stub, name: &str, scripts: Value) {
    for kind in KINDS {
        let model = format!("{kind}-{name}");
        stub.install(json!({"model": model, "scripts": scripts})).await.unwrap();
    }
}

/// How often, and when, the model of this kind and name was asked.
async fn times_asked(stub: &Stub, kind: &str, name: &str) -> Vec<u64> {
    let wanted = format!("{kind}-{name}");
    let entries = stub.log().await.unwrap();
    let of = |it: &What| matches!(it, What::Request { model, .. } if *model == wanted);
    entries.iter().filter(|it| of(&it.what)).map(|it| it.at_ns).collect()
}

#[tokio::test]
async fn pieces_come_in_order_with_usage_and_how_the_call_went() {
    let stub = stub().await;
    let daemon = daemon(&stub, patient()).await;
    let mut wire = daemon.wire().await;
    let usage = json!({"prompt_tokens": 90, "completion_tokens": 20, "total_tokens": 110,
        "prompt_tokens_details": {"cached_tokens": 30, "cache_write_tokens": 10},
        "completion_tokens_details": {"reasoning_tokens": 5}});
    let script = json!([[{"reasoning": "let me "}, {"reasoning": "see"}, {"split": 1},
        {"text": "Grüße, "}, {"text": SHORT}, {"pieces": 20}, {"usage": usage}]]);
    install(&stub, "full", script).await;
    let pieces: String = (0..20).map(|it| format!("w{it} ")).collect();
    for (kind, done) in ask_all(&mut wire, "full").await {
        assert_eq!(done["task"]["status"], "completed", "{kind}: {done}");
        let answer = &done["answer"];
        let reasoning = json!({"type": "reasoning", "text": "let me see"});
        assert_eq!(answer["content"][0], reasoning, "{kind}");
        assert_eq!(said(answer), format!("Grüße, {SHORT}{pieces}"), "{kind}");
        // What a provider does not tell is not guessed.
        let (read, written, reasoned) = match kind {
            "ollama" => (0, 0, 0),
            "gemini" => (30, 0, 5),
            "anthropic" => (30, 10, 0),
            _ => (30, 10, 5),
        };
        let usage = &answer["usage"];
        let counts = ["input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"];
        let counts = counts.map(|it| usage[it].as_u64().unwrap());
        assert_eq!(counts, [90, 20, read, written], "{kind}");
        assert_eq!(usage["reasoning_tokens"], reasoned, "{kind}");
        let stop = match kind {
            "openai_responses" => "completed",
            "anthropic" => "end_turn",
            "gemini" => "STOP",
            _ => "stop",
        };
        assert_eq!(answer["stop_reason"], stop, "{kind}");
        assert_eq!(answer["endpoint"], stub.origin(), "{kind}");
        assert_eq!(answer["attempt"], 1, "{kind}");
        assert!(answer["duration_ms"].as_u64() >= answer["ttft_ms"].as_u64(), "{kind}");
    }
    let stats = stub.stats().await.unwrap();
    assert_eq!((stats.running, stats.disconnects), (0, 0));
}

#[tokio::test]
async fn each_class_of_error_has_its_reason_and_is_tried_again_only_where_it_may_pass() {
    let stub = stub().await;
    let daemon = daemon(&stub, patient()).await;
    let mut wire = daemon.wire().await;
    let soon = json!({"retry-after": "0"});
    let says = |words: &str| json!({"error": {"message": words, "type": "invalid_request_error"}});
    let boom = json!({"message": "boom", "type": "server_error", "code": "server_error"});
    let table = [
        ("key", json!([{"status": 401}]), "auth", 1),
        ("denied", json!([{"status": 403}]), "auth", 1),
        ("unpaid", json!([{"status": 402}]), "rate_limit", 1),
        ("limited", json!([{"status": 429, "headers": soon}]), "rate_limit", 3),
        ("wrong", json!([{"status": 400}]), "refused", 1),
        ("missing", json!([{"status": 404}]), "refused", 1),
        (
            "long",
            json!([{"status": 400, "body": says("prompt is too long: 9 > 8")}]),
            "context_too_long",
            1,
        ),
        ("large", json!([{"status": 413}]), "context_too_long", 1),
        ("down", json!([{"status": 503, "headers": soon}]), "unavailable", 3),
        ("overloaded", json!([{"status": 529, "headers": soon}]), "unavailable", 3),
        ("broken", json!([{"text": "half"}, {"error": boom}]), "unavailable", 3),
        (
            "nonsense",
            json!([{"raw": "data: {not json}\n\n{not json}\n"}, {"finish": null}, {"done": false}]),
            "bad_answer",
            1,
        ),
        (
            "page",
            json!([{"status": 200, "headers": {"content-type": "text/html"}, "body": "<html>"}]),
            "bad_answer",
            1,
        ),
    ];
    for (name, script, reason, attempts) in table {
        install(&stub, name, json!([script])).await;
        for (kind, done) in ask_all(&mut wire, name).await {
            assert_eq!(done["task"]["status"], "failed", "{kind} {name}: {done}");
            assert_eq!(done["task"]["error"]["reason"], reason, "{kind} {name}: {done}");
            let message = done["task"]["error"]["message"].as_str().unwrap();
            assert!(
                !message.is_empty() && !message.contains("sk-of-the-stub"),
                "{kind}: {message}"
            );
            assert_eq!(times_asked(&stub, kind, name).await.len(), attempts, "{kind} {name}");
        }
    }
    assert_eq!(stub.stats().await.unwrap().running, 0);
}

#[tokio::test]
async fn each_deadline_ends_the_call_and_its_connection() {
    let stub = stub().await;
    let times = json!({"connect_ms": 2_000, "first_byte_ms": 200, "idle_ms": 200, "total_ms": 900});
    let daemon = daemon(&stub, times).await;
    let mut wire = daemon.wire().await;
    let table = [
        ("silent", json!([{"stall": true}]), ""),
        ("headed", json!([{"head": true}, {"stall": true}]), ""),
        ("stuck", json!([{"text": "half"}, {"stall": true}]), "half"),
        ("endless", json!([{"pieces": 10_000, "text": "x", "every_ms": 50}]), "x"),
    ];
    for (name, script, begins) in table {
        install(&stub, name, json!([script])).await;
        for (kind, done) in ask_all(&mut wire, name).await {
            assert_eq!(done["task"]["status"], "failed", "{kind} {name}: {done}");
            assert_eq!(done["task"]["error"]["reason"], "timeout", "{kind} {name}: {done}");
            let text = said(&done["answer"]);
            assert!(text.starts_with(begins), "{kind} {name}: {text}");
            assert!(text != "halfhalf", "{kind}: nothing is said twice");
        }
    }
    until_nothing_runs(&stub).await;
}

/// Waits until the stub has noticed that all its clients left.
async fn until_nothing_runs(stub: &Stub) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while stub.stats().await.unwrap().running > 0 {
        assert!(tokio::time::Instant::now() < deadline, "a call was left running");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_provider_says_when_to_come_back() {
    let stub = stub().await;
    let daemon = daemon(&stub, patient()).await;
    let mut wire = daemon.wire().await;
    let wait = json!([{"status": 429, "headers": {"retry-after": "1.2"}}]);
    install(&stub, "later", json!([wait, [{"text": "at last"}]])).await;
    for (kind, done) in ask_all(&mut wire, "later").await {
        assert_eq!(said(&done["answer"]), "at last", "{kind}: {done}");
        assert_eq!(done["answer"]["attempt"], 2, "{kind}");
        let asked = times_asked(&stub, kind, "later").await;
        assert!(asked[1] - asked[0] >= 1_200_000_000, "{kind}: {asked:?}");
    }
    // Longer than anyone should wait unknowing: the person is told instead.
    install(&stub, "tomorrow", json!([[{"status": 429, "headers": {"retry-after": "3600"}}]]))
        .await;
    for (kind, done) in ask_all(&mut wire, "tomorrow").await {
        assert_eq!(done["task"]["error"]["retry_after_ms"], 3_600_000, "{kind}: {done}");
        assert_eq!(times_asked(&stub, kind, "tomorrow").await.len(), 1, "{kind}");
    }
}

#[tokio::test]
async fn a_cancelled_call_closes_its_connection_and_keeps_what_was_said() {
    let stub = stub().await;
    let daemon = daemon(&stub, patient()).await;
    for kind in KINDS {
        let mut wire = daemon.wire().await;
        let script = json!([[{"text": "so far"}, {"hold": kind}, {"text": " and more"}]]);
        stub.install(json!({"model": kind, "scripts": script})).await.unwrap();
        let session = wire.session().await;
        wire.follow(&session).await;
        let send = json!({"session": session, "content": "x", "model": format!("{kind}/{kind}")});
        let sent = wire.ok("chat/send", send).await;
        until_held(&stub, kind).await;
        wire.until_written("so far").await;
        wire.ok("task/cancel", json!({"task": sent["task"]})).await;
        let done = wire.wait(&sent).await;
        assert_eq!(done["task"]["status"], "cancelled", "{kind}: {done}");
        assert_eq!(said(&done["answer"]), "so far", "{kind}");
    }
    let left = |it: &What| matches!(it, What::Ended { how: How::Disconnected, .. });
    until_nothing_runs(&stub).await;
    let entries = stub.log().await.unwrap();
    assert_eq!(entries.iter().filter(|it| left(&it.what)).count(), KINDS.len());
}

/// How many cuts are tried at once.
const CUTS: u64 = 256;

// The first attempt is cut at each byte in turn, the second is whole: the text stands there once, whichever
// of them gave it. A kind is done when a cut comes behind the end of its answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_cut_at_any_byte_is_said_once_and_whole() {
    let stub = stub().await;
    let daemon = daemon(&stub, patient()).await;
    for kind in KINDS {
        let mut wire = daemon.wire().await;
        let (mut from, mut first_ones) = (0, 0);
        while first_ones < 2 {
            stub.reset().await.unwrap();
            let scripts = (from..from + CUTS).map(|at| {
                let cut = json!([{"text": "a"}, {"text": "ß€😀"}, {"cut_at_byte": at}]);
                let whole = json!([{"text": "a"}, {"text": "ß€😀"}]);
                json!({"model": format!("cut-{at}"), "scripts": [cut, whole]})
            });
            stub.install(Value::Array(scripts.collect())).await.unwrap();
            let mut sent = Vec::new();
            for at in from..from + CUTS {
                sent.push((at, send(&mut wire, &format!("{kind}/cut-{at}")).await));
            }
            for (at, sent) in sent {
                let done = wire.wait(&sent).await;
                assert_eq!(done["task"]["status"], "completed", "{kind} at {at}: {done}");
                assert_eq!(said(&done["answer"]), SHORT, "{kind} at {at}");
                if done["answer"]["attempt"] == 1 {
                    first_ones += 1;
                }
            }
            from += CUTS;
            assert!(from <= 4_096, "{kind}: a short answer is not that long");
        }
        assert!(from > first_ones, "{kind}: most cuts spoil the answer");
    }
    until_nothing_runs(&stub).await;
}
