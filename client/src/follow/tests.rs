//! Does a follow survive everything that a daemon and a connection can do?

use super::*;
use crate::scripted::{Folder, Peer, Server};
use serde_json::json;
use sess_protocol::error::Error;

const SESSION: &str = "sess_1f2e3d4c5b6a49788796a5b4c3d2e1f0";
const TASK: &str = "task_01998f2e4c0070008000000000000001";
const MESSAGE: &str = "msg_01998f2e4c0070008000000000000003";

fn follower(folder: &Folder, patience: Option<Duration>) -> Follower {
    let client = "test".to_owned();
    let dial = Dial { path: folder.socket(), client, workspace: None, start: false, greet: None };
    Follower::new(dial, "1f2e", From::Now { messages: 5 }, patience)
}

fn event(seq: u64) -> Value {
    json!({
        "session": SESSION, "seq": seq, "cursor": format!("h:{seq}:x"),
        "at": "2026-11-21T10:00:00.000Z", "type": "notice", "data": {"text": "so"},
    })
}

fn delta(offset: u64, text: &str) -> Value {
    json!({
        "session": SESSION, "task": TASK, "message": MESSAGE, "block": 0,
        "kind": "text", "offset": offset, "text": text,
    })
}

fn live(text: &str) -> Value {
    json!({
        "session": SESSION, "task": TASK, "message": MESSAGE, "tools": [],
        "blocks": [{"index": 0, "type": "text", "text": text}],
    })
}

/// Answers a follow with a view of `seq` events.
async fn begin(peer: &mut Peer, seq: u64, text: &str) {
    let request = peer.expect("session/follow").await;
    assert!(request["params"].get("after").is_none(), "{request}");
    let view = json!({"session": {"id": SESSION, "seq": seq}, "messages": [{"id": MESSAGE}]});
    let answer = json!({"cursor": format!("h:{seq}:x"), "view": view, "live": live(text)});
    peer.answer(&request, answer).await;
}

/// Answers a follow that goes on behind `seq`.
async fn go_on(peer: &mut Peer, seq: u64) {
    let request = peer.expect("session/follow").await;
    assert_eq!(request["params"]["after"], format!("h:{seq}:x"));
    assert_eq!(request["params"]["session"], SESSION);
    peer.answer(&request, json!({"cursor": format!("h:{seq}:x")})).await;
}

async fn told(follower: &mut Follower, count: usize) -> Vec<String> {
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(match follower.next().await.unwrap() {
            Told::Event(told) => format!("event {}", told.event.seq),
            Told::Piece(delta) => format!("piece {}", delta.text),
            other => format!("{other:?}"),
        });
    }
    all
}

fn text(follower: &Follower) -> String {
    follower.unfinished().blocks().map(|(_, it)| it.text.as_str()).collect()
}

#[tokio::test]
async fn a_lost_connection_goes_on_behind_the_last_event() {
    let folder = Folder::new();
    let mut server = Server::bind(&folder);
    let script = async {
        let mut peer = server.welcome().await;
        begin(&mut peer, 3, "he").await;
        peer.tell("delta", delta(2, "llo")).await;
        peer.tell("event", event(4)).await;
        drop(peer);
        let mut peer = server.welcome().await;
        go_on(&mut peer, 4).await;
        peer.tell("event", event(5)).await;
        peer.tell("live", live("hello w")).await;
        peer.tell("delta", delta(7, "orld")).await;
        peer
    };
    let mut follower = follower(&folder, None);
    let (told, _peer) = tokio::join!(told(&mut follower, 8), script);
    let expected =
        ["Began", "piece llo", "event 4", "Lost", "Back", "event 5", "Live", "piece orld"];
    assert_eq!(told, expected);
    assert_eq!(text(&follower), "hello world");
    assert_eq!(follower.view().seq(), 5);
    assert_eq!(follower.view().things("message").count(), 1);
}

#[tokio::test]
async fn a_history_that_does_not_go_on_is_followed_anew() {
    let folder = Folder::new();
    let mut server = Server::bind(&folder);
    let script = async {
        let mut peer = server.welcome().await;
        begin(&mut peer, 9, "").await;
        drop(peer);
        let mut peer = server.welcome().await;
        let request = peer.expect("session/follow").await;
        peer.refuse(&request, &Error::new(Kind::Conflict, "another history")).await;
        let mut peer = server.welcome().await;
        begin(&mut peer, 2, "").await;
        peer.tell("event", event(3)).await;
        peer
    };
    let mut follower = follower(&folder, None);
    let (told, _peer) = tokio::join!(told(&mut follower, 4), script);
    assert_eq!(told, ["Began", "Lost", "Anew", "event 3"]);
}

#[tokio::test]
async fn what_is_missing_is_asked_for_again_and_nothing_comes_twice() {
    let folder = Folder::new();
    let mut server = Server::bind(&folder);
    let script = async {
        let mut peer = server.welcome().await;
        begin(&mut peer, 3, "").await;
        peer.tell("event", event(5)).await;
        let mut peer = server.welcome().await;
        go_on(&mut peer, 3).await;
        peer.tell("event", event(4)).await;
        peer.tell("event", event(4)).await;
        peer.tell("event", event(5)).await;
        peer.tell("delta", delta(100, "far")).await;
        let mut peer = server.welcome().await;
        go_on(&mut peer, 5).await;
        peer.tell("live", live("all")).await;
        peer
    };
    let mut follower = follower(&folder, None);
    let (told, _peer) = tokio::join!(told(&mut follower, 6), script);
    assert_eq!(told, ["Began", "Back", "event 4", "event 5", "Back", "Live"]);
    assert_eq!(text(&follower), "all");
}

#[tokio::test]
async fn a_deleted_session_ends_and_a_daemon_that_stays_away_is_given_up() {
    let folder = Folder::new();
    let mut server = Server::bind(&folder);
    let script = async {
        let mut peer = server.welcome().await;
        begin(&mut peer, 1, "").await;
        let mut last = event(2);
        last.as_object_mut().unwrap().remove("cursor");
        peer.tell("event", last).await;
        let mut peer = server.welcome().await;
        begin(&mut peer, 1, "").await;
        drop(peer);
        drop(server);
        std::fs::remove_file(folder.socket()).unwrap();
    };
    let follows = async {
        let mut deleted = follower(&folder, None);
        assert_eq!(told(&mut deleted, 3).await, ["Began", "Ended", "Ended"]);
        let mut left = follower(&folder, Some(Duration::ZERO));
        assert_eq!(told(&mut left, 2).await, ["Began", "Lost"]);
        let FollowError::Failed(failure) = left.next().await.unwrap_err() else { panic!() };
        assert!(failure.is_unreachable());
    };
    tokio::join!(script, follows);
}

#[tokio::test]
async fn a_follow_from_the_start_has_every_event_and_then_the_unfinished() {
    let folder = Folder::new();
    let mut server = Server::bind(&folder);
    let script = async {
        let mut peer = server.welcome().await;
        let request = peer.expect("session/follow").await;
        assert_eq!(request["params"]["after"], "start");
        peer.answer(&request, json!({"cursor": "h:0:x"})).await;
        peer.tell("event", event(1)).await;
        peer.tell("event", event(2)).await;
        peer.tell("live", live("so far")).await;
        peer
    };
    let now = follower(&folder, None);
    let mut follower = Follower::new(now.dial.clone(), SESSION, From::Start, None);
    let (told, _peer) = tokio::join!(told(&mut follower, 4), script);
    assert_eq!(told, ["Began", "event 1", "event 2", "Live"]);
    assert_eq!((follower.view().seq(), text(&follower).as_str()), (2, "so far"));
}
