//! Is everything bounded, and is what goes past a bound refused with nothing done?

use serde_json::{Value, json};
use sess_protocol::envelope::CONNECTIONS_MAX;
use sess_protocol::methods::{
    BLOB_PIECE_BYTES_MAX, BLOCKS_MAX, SESSION_TEXT_BYTES_MAX, TAGS_MAX, TITLE_BYTES_MAX,
};
use sess_tests::harness::table::bytes;
use sess_tests::harness::{Daemon, Wire};

async fn started() -> (Daemon, Wire) {
    let daemon = Daemon::start().await;
    let wire = daemon.wire().await;
    (daemon, wire)
}

#[tokio::test]
async fn the_members_of_a_session_have_a_largest_size() {
    let (_daemon, mut wire) = started().await;
    let tags = |count: usize| (0..count).map(|it| format!("{it}")).collect::<Vec<_>>();
    let text = |bytes: usize| "x".repeat(bytes);
    for (param, most, more) in [
        ("title", json!(text(TITLE_BYTES_MAX)), json!(text(TITLE_BYTES_MAX + 1))),
        ("system", json!(text(SESSION_TEXT_BYTES_MAX)), json!(text(SESSION_TEXT_BYTES_MAX + 1))),
        ("tags", json!(tags(TAGS_MAX)), json!(tags(TAGS_MAX + 1))),
        ("metadata", json!({"a": "b"}), json!({"a": text(SESSION_TEXT_BYTES_MAX)})),
    ] {
        let session = wire.ok("session/create", json!({param: most})).await["id"].clone();
        let data = wire.refused("invalid_params", "session/create", json!({param: more})).await;
        assert_eq!(data["param"], param);
        let update = json!({"session": session, param: more});
        wire.refused("invalid_params", "session/update", update).await;
    }
    let list = wire.ok("session/list", json!({})).await;
    assert_eq!(list["sessions"].as_array().unwrap().len(), 4);
}

#[tokio::test]
async fn metadata_does_not_grow_past_its_size_by_many_updates() {
    let (_daemon, mut wire) = started().await;
    let session = wire.session().await;
    let part = "x".repeat(SESSION_TEXT_BYTES_MAX / 3);
    let update = |name: &str| json!({"session": session, "metadata": {name: part}});
    wire.ok("session/update", update("a")).await;
    wire.ok("session/update", update("b")).await;
    wire.refused("invalid_params", "session/update", update("c")).await;
}

#[tokio::test]
async fn a_request_has_a_largest_number_of_blocks_and_at_least_one() {
    let (_daemon, mut wire) = started().await;
    let session = wire.session().await;
    let blocks = |count: usize| vec![json!({"type": "text", "text": "x"}); count];
    for wrong in [json!(blocks(BLOCKS_MAX + 1)), json!([])] {
        let send = json!({"session": session, "content": wrong});
        let data = wire.refused("invalid_params", "chat/send", send).await;
        assert_eq!(data["param"], "content");
    }
    let send = json!({"session": session, "content": blocks(BLOCKS_MAX)});
    let sent = wire.ok("chat/send", send).await;
    assert_eq!(wire.wait(&sent).await["task"]["status"], "completed");
}

#[tokio::test]
async fn a_wait_longer_than_any_clock_is_taken_for_a_day() {
    let (daemon, mut wire) = started().await;
    let session = wire.session().await;
    let mut other = daemon.wire().await;
    other.ok("session/lock", json!({"session": session})).await;
    let lock = json!({"session": session, "wait_ms": u64::MAX});
    let waiting = wire.start("session/lock", lock).await;
    let sent = other.say(&session, "x").await;
    let wait = json!({"task": sent["task"], "timeout_ms": u64::MAX});
    assert_eq!(wire.ok("task/wait", wait).await["task"]["status"], "completed");
    other.ok("session/release", json!({"session": session})).await;
    assert!(wire.answer(waiting).await.is_ok());
}

#[tokio::test]
async fn pages_have_1_to_500_things() {
    let (_daemon, mut wire) = started().await;
    let session = wire.session().await;
    for (method, params) in [
        ("session/list", json!({})),
        ("task/list", json!({})),
        ("message/list", json!({"session": session})),
        ("thread/list", json!({"session": session})),
        ("model/list", json!({})),
    ] {
        for (limit, fits) in [(0, false), (1, true), (500, true), (501, false)] {
            let mut params = params.clone();
            params["limit"] = json!(limit);
            match wire.call(method, params).await {
                Ok(_) => assert!(fits, "{method} {limit}"),
                Err(error) => {
                    assert!(!fits, "{method} {limit}: {error}");
                    assert_eq!(error["data"]["param"], "limit");
                }
            }
        }
    }
    let view = json!({"session": session, "messages": 501});
    wire.refused("invalid_params", "session/resume", view.clone()).await;
    wire.refused("invalid_params", "session/follow", view).await;
}

#[tokio::test]
async fn a_page_ends_early_rather_than_pass_four_mebibytes() {
    let (_daemon, mut wire) = started().await;
    let session = wire.session().await;
    // Texts just short of becoming blobs: 60 turns of them, said twice, are over 7 MB.
    let text = "x".repeat(60_000);
    for _ in 0..60 {
        wire.turn(&session, &text).await;
    }
    let mut params = json!({"session": session, "limit": 500});
    let mut count = 0;
    let mut pages = 0;
    loop {
        let page = wire.ok("message/list", params.clone()).await;
        count += page["messages"].as_array().unwrap().len();
        pages += 1;
        let Some(next) = page.get("next") else { break };
        params["cursor"] = next.clone();
    }
    assert_eq!(count, 120);
    assert!(pages >= 2);
    let view = wire.ok("session/resume", json!({"session": session, "messages": 500})).await;
    assert!(view["before"].is_string(), "a view does as well");
    wire.ok("session/follow", json!({"session": session, "messages": 500})).await;
}

#[tokio::test]
async fn a_blob_comes_in_pieces_of_a_mebibyte() {
    let (_daemon, mut wire) = started().await;
    let session = wire.session().await;
    let text = "0123456789abcdef".repeat(100_000);
    wire.turn(&session, &text).await;
    let messages = wire.ok("message/list", json!({"session": session})).await["messages"].clone();
    let blob = messages[0]["content"][0]["blob"].clone();
    let most = BLOB_PIECE_BYTES_MAX as usize;
    let first = wire.ok("blob/get", json!({"blob": blob})).await;
    assert_eq!((bytes(&first["data"]).len(), &first["last"]), (most, &json!(false)));
    let second = wire.ok("blob/get", json!({"blob": blob, "offset": most})).await;
    assert_eq!(bytes(&second["data"]), &text.as_bytes()[most..]);
    assert_eq!(second["last"], true);
    let end = wire.ok("blob/get", json!({"blob": blob, "offset": text.len()})).await;
    assert_eq!((bytes(&end["data"]).len(), &end["last"]), (0, &json!(true)));
    let long = json!({"blob": blob, "length": most + 1});
    wire.refused("invalid_params", "blob/get", long).await;
    let nowhere = format!("sha256:{}", "0".repeat(64));
    wire.refused("not_found", "blob/get", json!({"blob": nowhere})).await;
    wire.refused("invalid_params", "blob/get", json!({"blob": "sha256:zz"})).await;
}

#[tokio::test]
async fn a_client_has_a_name_of_128_bytes_at_most() {
    let (_daemon, mut wire) = started().await;
    let named = |name: String| json!({"protocol": 1, "client": {"name": name}});
    wire.refused("invalid_params", "initialize", named("n".repeat(129))).await;
    wire.ok("initialize", named("n".repeat(128))).await;
}

#[tokio::test]
async fn one_connection_more_than_there_may_be_is_told_so_and_the_others_live() {
    let (daemon, mut wire) = started().await;
    let mut wires = Vec::new();
    for _ in 1..CONNECTIONS_MAX {
        wires.push(daemon.wire().await);
    }
    wires.last_mut().unwrap().ok("session/list", json!({})).await;
    let mut more = daemon.wire().await;
    let lines = more.rest().await;
    let kinds: Vec<&Value> = lines.iter().map(|it| &it["error"]["data"]["kind"]).collect();
    assert!(kinds.is_empty() || kinds == [&json!("overloaded")], "{lines:?}");
    assert_eq!(wire.ok("daemon/status", json!({})).await["clients"], CONNECTIONS_MAX);
    wires.truncate(10);
    wires[0].ok("session/list", json!({})).await;
}

#[tokio::test]
async fn a_long_id_is_not_given_back() {
    let (_daemon, mut wire) = started().await;
    let line = json!({"id": "i".repeat(5_000), "method": "session/list"}).to_string();
    wire.send_line(&line).await;
    let answer = wire.next_line().await.unwrap();
    assert_eq!(answer["error"]["data"]["kind"], "invalid_request");
    assert_eq!(answer["id"], Value::Null);
}

#[tokio::test]
async fn the_status_counts_what_there_is() {
    let (daemon, mut wire) = started().await;
    let session = wire.session().await;
    wire.turn(&session, "hello").await;
    let status = wire.ok("daemon/status", json!({})).await;
    assert_eq!(status["pid"], daemon.pid());
    assert_eq!(status["clients"], 1);
    assert_eq!(status["sessions"]["stored"], 1);
    assert_eq!(status["tasks"], json!({"running": 0, "queued": 0, "waiting": 0}));
    assert_eq!(status["store"]["kind"], "sqlite");
    let data = daemon.plan().data_folder();
    assert!(status["store"]["path"].as_str().unwrap().starts_with(data.to_str().unwrap()));
    assert!(status["store"]["bytes"].as_u64() > Some(0));
    assert!(status["rss_bytes"].as_u64() > Some(0));
    assert!(status["uptime_ms"].is_u64());
}
