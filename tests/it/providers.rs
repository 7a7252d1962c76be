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
    let plan = plan.document("settings", &settings).env("STUB_KEY", "sk-of-the-stub");
    // A proxy that would swallow all: what is on this machine never goes through one.
    let plan = plan.env("HTTP_PROXY", "http://127.0.0.1:1").env("http_proxy", "http://127.0.0.1:1");
    plan.env("ALL_PROXY", "http://127.0.0.1:1").start().await
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

/// How many cuts are tried at once: below the requests that may be unanswered.
const CUTS: u64 = 200;
/// Bytes that a short answer has at the most.
const SHORT_BYTES_MAX: u64 = 4_096;

// The first attempt is cut at each byte in turn, the second is whole: the text stands there once, whichever
// of them gave it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_cut_at_any_byte_is_said_once_and_whole() {
    let mut kinds = tokio::task::JoinSet::new();
    for kind in KINDS {
        kinds.spawn(cut_everywhere(kind));
    }
    while let Some(done) = kinds.join_next().await {
        done.unwrap();
    }
}

/// A kind is done when a cut comes behind the end of its answer.
async fn cut_everywhere(kind: &'static str) {
    let stub = stub().await;
    let daemon = daemon(&stub, patient()).await;
    let mut wire = daemon.wire().await;
    let (mut from, mut unspoilt) = (0, 0);
    while unspoilt < 2 {
        stub.reset().await.unwrap();
        let cuts = from..from + CUTS;
        let scripts = cuts.clone().map(|at| {
            let whole = json!([{"text": "a"}, {"text": "ß€😀"}]);
            let cut = json!([{"text": "a"}, {"text": "ß€😀"}, {"cut_at_byte": at}]);
            json!({"model": format!("cut-{at}"), "scripts": [cut, whole]})
        });
        stub.install(Value::Array(scripts.collect())).await.unwrap();
        let created = calls(&mut wire, "session/create", cuts.clone().map(|_| json!({}))).await;
        let sends = cuts.clone().zip(created).map(|(at, session)| {
            json!({"session": session["id"], "content": "x", "model": format!("{kind}/cut-{at}")})
        });
        let sent = calls(&mut wire, "chat/send", sends).await;
        let waits = sent.iter().map(|it| json!({"task": it["task"]}));
        for (at, done) in cuts.zip(calls(&mut wire, "task/wait", waits).await) {
            assert_eq!(done["task"]["status"], "completed", "{kind} at {at}: {done}");
            assert_eq!(said(&done["answer"]), SHORT, "{kind} at {at}");
            unspoilt += u64::from(done["answer"]["attempt"] == 1);
        }
        from += CUTS;
        assert!(from <= SHORT_BYTES_MAX, "{kind}: a short answer is not that long");
    }
    assert!(from > unspoilt, "{kind}: most cuts spoil the answer");
    until_nothing_runs(&stub).await;
}

/// Asks all of it at once; the answers in the order of the questions.
async fn calls(wire: &mut Wire, method: &str, all: impl Iterator<Item = Value>) -> Vec<Value> {
    let mut asked = Vec::new();
    for params in all {
        asked.push(wire.start(method, params).await);
    }
    let mut answers = Vec::new();
    for id in asked {
        answers.push(wire.answer(id).await.unwrap());
    }
    answers
}

/// What is written where a picture or a file that is no text lies in a question of this kind.
fn shown(kind: &str, messages: &Value) -> Vec<String> {
    let last = messages.as_array().unwrap().last().unwrap();
    let parts = last.get("content").or(last.get("parts")).unwrap();
    let text = |it: &Value| it.as_str().map(str::to_owned);
    let part = |part: &Value| match kind {
        "openai" => text(&part["image_url"]["url"]).or_else(|| text(&part["file"]["file_data"])),
        "openai_responses" => text(&part["image_url"]).or_else(|| text(&part["file_data"])),
        "anthropic" => text(&part["source"]["data"]),
        _ => text(&part["inlineData"]["data"]),
    };
    match kind {
        "ollama" => last["images"].as_array().unwrap().iter().filter_map(text).collect(),
        _ => parts.as_array().unwrap().iter().filter_map(part).collect(),
    }
}

#[tokio::test]
async fn pictures_and_files_reach_each_kind_in_its_own_form() {
    let stub = stub().await;
    let daemon = daemon(&stub, patient()).await;
    let mut wire = daemon.wire().await;
    for kind in KINDS {
        let session = wire.session().await;
        let mut content = vec![
            json!({"type": "text", "text": "what is this?"}),
            json!({"type": "image", "media_type": "image/png", "data": "iVBORw0KGgo="}),
            json!({"type": "file", "name": "a.rs", "text": "fn main() {}"}),
        ];
        if kind != "ollama" {
            let pdf = json!({"type": "file", "name": "b.pdf", "media_type": "application/pdf", "data": "JVBERg=="});
            content.push(pdf);
        }
        let model = format!("{kind}/{kind}-sees");
        let send = json!({"session": session, "content": content, "model": model});
        let sent = wire.ok("chat/send", send).await;
        let done = wire.wait(&sent).await;
        assert_eq!(done["task"]["status"], "completed", "{kind}: {done}");
        // The stub repeats all that is text: the file is among it.
        assert!(said(&done["answer"]).contains("fn main() {}"), "{kind}: {done}");
        let wanted = format!("{kind}-sees");
        let entries = stub.log().await.unwrap();
        let messages = entries.iter().find_map(|it| match &it.what {
            What::Request { model, messages, .. } if *model == wanted => Some(messages.value()),
            _ => None,
        });
        let base64 = shown(kind, &messages.unwrap());
        assert!(base64[0].ends_with("iVBORw0KGgo="), "{kind}: {base64:?}");
        if kind != "ollama" {
            assert!(base64[1].ends_with("JVBERg=="), "{kind}: {base64:?}");
        }
        let list = wire.ok("message/list", json!({"session": session})).await;
        let kept = &list["messages"][0]["content"][1];
        assert_eq!(kept["data"], Value::Null, "only its hash lies in the message: {kept}");
        assert_eq!(kept["bytes"], 8);
        let got = wire.ok("blob/get", json!({"blob": kept["blob"]})).await;
        assert_eq!(got["data"], "iVBORw0KGgo=", "{kind}");
        // What is kept once can be named again.
        let again = json!([{"type": "image", "media_type": "image/png", "blob": kept["blob"]}]);
        let send = json!({"session": session, "content": again, "model": model});
        let sent = wire.ok("chat/send", send).await;
        assert_eq!(wire.wait(&sent).await["task"]["status"], "completed", "{kind}");
    }
}

#[tokio::test]
async fn what_a_model_cannot_be_shown_is_refused_and_nothing_is_kept() {
    let stub = stub().await;
    let daemon = daemon(&stub, patient()).await;
    let mut wire = daemon.wire().await;
    let session = wire.session().await;
    let before = wire.get(&session).await;
    let image = json!({"type": "image", "media_type": "image/png", "data": "iVBORw0KGgo="});
    let bytes = json!({"type": "file", "name": "a.bin", "data": "//79"});
    let pdf =
        json!({"type": "file", "name": "b", "media_type": "application/pdf", "data": "JVBERg=="});
    for (model, block) in [
        ("echo/echo", &image),
        ("ollama/blind", &image),
        ("openai/gpt-3.5-turbo", &image),
        ("ollama/m", &pdf),
        ("anthropic/m", &bytes),
    ] {
        let send = json!({"session": session, "content": [block], "model": model});
        let data = wire.refused("unsupported", "chat/send", send).await;
        assert_eq!(data["model"], model);
    }
    for block in [
        json!({"type": "image", "media_type": "image/png"}),
        json!({"type": "image", "media_type": "image/png", "data": "?"}),
        json!({"type": "image", "media_type": "text/plain", "data": "aGk="}),
        json!({"type": "file", "name": "a", "text": "x", "data": "aGk="}),
        json!({"type": "file", "name": "a", "text": ""}),
    ] {
        let send = json!({"session": session, "content": [block], "model": "openai/m"});
        wire.refused("invalid_params", "chat/send", send).await;
    }
    let nowhere = format!("sha256:{}", "0".repeat(64));
    let block = json!({"type": "image", "media_type": "image/png", "blob": nowhere});
    let send = json!({"session": session, "content": [block], "model": "openai/m"});
    let data = wire.refused("not_found", "chat/send", send).await;
    assert_eq!((&data["what"], &data["id"]), (&json!("blob"), &json!(nowhere)));
    let after = wire.get(&session).await;
    assert_eq!((&after["seq"], &after["tasks"]), (&before["seq"], &json!(0)));
    assert_eq!(stub.stats().await.unwrap().running, 0);
}

#[tokio::test]
async fn costs_are_exact_and_what_has_no_price_has_none() {
    let stub = stub().await;
    let usage = json!({"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10});
    stub.script("*", json!([{"text": "x"}, {"usage": usage}])).await.unwrap();
    let price = json!({"priced": {"input": "0.1", "output": 0.2}});
    let provider = json!({"kind": "anthropic", "base_url": stub.origin(), "prices": price});
    let daemon = Plan::new().document("providers", &json!({"p": provider})).start().await;
    let mut wire = daemon.wire().await;
    let session = wire.session().await;
    let mut ask = async |model: &str| {
        let send = json!({"session": session, "content": "x", "model": model});
        let sent = wire.ok("chat/send", send).await;
        let done = wire.wait(&sent).await;
        let session = wire.get(&session).await;
        let of = |it: &Value| it["usage"]["cost_usd"].clone();
        [of(&done["answer"]), of(&done["task"]), of(&session)]
    };
    // 7 * 0.1 + 3 * 0.2 millionths.
    assert_eq!(ask("p/priced").await, ["0.0000013", "0.0000013", "0.0000013"]);
    assert_eq!(ask("p/priced").await, ["0.0000013", "0.0000013", "0.0000026"]);
    let unknown = ask("p/other").await;
    assert_eq!(unknown, [Value::Null, Value::Null, Value::Null], "never a part for the whole");
}

#[tokio::test]
async fn what_can_be_asked_is_said_and_what_is_asked_without_settings() {
    let stub = stub().await;
    stub.script("llama", json!([{"text": "hello"}])).await.unwrap();
    let model = async |plan: Plan| {
        let daemon = plan.start().await;
        let mut wire = daemon.wire().await;
        let list = wire.ok("model/list", json!({})).await;
        let chosen = wire.ok("session/create", json!({})).await["model"].clone();
        (daemon, wire, list["models"].as_array().unwrap().clone(), chosen)
    };
    let (_daemon, _wire, models, chosen) = model(Plan::new()).await;
    assert_eq!(chosen, "echo/echo");
    let line = |models: &[Value], id: &str| models.iter().find(|it| it["id"] == id).cloned();
    assert_eq!(line(&models, "echo/echo").unwrap()["available"], true);
    let claude = models.iter().find(|it| it["provider"] == "anthropic").unwrap();
    assert_eq!(claude["available"], false);
    assert!(claude["reason"].as_str().unwrap().contains("ANTHROPIC_API_KEY"), "{claude}");

    let local = Plan::new().env("OLLAMA_HOST", stub.origin());
    let (_daemon, mut wire, models, chosen) = model(local).await;
    assert_eq!(chosen, "ollama/echo", "the first that the server on this machine has");
    assert_eq!(line(&models, "ollama/llama").unwrap()["available"], true, "{models:?}");
    let check = wire.ok("model/check", json!({"model": "ollama/llama"})).await;
    assert_eq!((&check["available"], &check["listed"]), (&json!(true), &json!(true)));
    let check = wire.ok("model/check", json!({"model": "ollama/nobody"})).await;
    assert_eq!(check["listed"], false, "{check}");

    let keyed = Plan::new().env("GEMINI_API_KEY", "AIza-1").env("OLLAMA_HOST", stub.origin());
    let keyed = keyed.env("GEMINI_BASE_URL", stub.origin());
    let (_daemon, mut wire, _, chosen) = model(keyed).await;
    assert_eq!(chosen, "gemini/gemini-2.5-flash", "a key comes before what is local");
    let check = wire.ok("model/check", json!({"model": chosen})).await;
    assert_eq!(check["available"], true, "{check}");
    wire.refused("not_found", "model/check", json!({"model": "nobody/x"})).await;
}
