//! Does anyone hear of a change that was refused?

use serde_json::json;

use crate::stage::Stage;
use crate::strict::Strict;
use crate::{alone, difference, full_or_tenth, normal};

/// Keys that two requests take at once.
const ROUNDS: u64 = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_loses_its_key_to_another_is_told_to_nobody() {
    let _alone = alone().await;
    let stage = Stage::new(json!([{"echo": true}])).await;
    let mut wires = [stage.daemon().wire().await, stage.daemon().wire().await];
    let sessions = [stage.session.clone(), wires[0].session().await];
    let mut followers = Vec::new();
    for session in &sessions {
        let mut follower = Strict::new(stage.door(false), session, true);
        follower.next().await;
        followers.push(follower);
    }
    for round in 0..full_or_tenth(ROUNDS).max(50) {
        let mut ids = Vec::new();
        for (wire, session) in wires.iter_mut().zip(&sessions) {
            let title = format!("round {round}");
            let key = format!("key {round}");
            let params = json!({"session": session, "title": title, "idempotency_key": key});
            ids.push(wire.start("session/update", params).await);
        }
        let mut done = 0;
        for (wire, id) in wires.iter_mut().zip(ids) {
            match wire.answer(id).await {
                Ok(_) => done += 1,
                Err(error) => assert_eq!(error["data"]["kind"], "conflict", "{error}"),
            }
        }
        assert_eq!(done, 1, "one of two requests has the key");
    }
    for (follower, session) in followers.iter_mut().zip(&sessions) {
        // Behind all that was refused comes one that is not.
        wires[0].ok("session/update", json!({"session": session, "title": "last"})).await;
        let view = wires[0].ok("session/follow", json!({"session": session})).await["view"].take();
        while follower.seq() < view["session"]["seq"].as_u64().unwrap() {
            follower.next().await;
        }
        let (ours, theirs) = (normal(&follower.snapshot()), normal(&view));
        assert!(ours == theirs, "{}", difference(&ours, &theirs));
    }
}
