//! What do several clients do while one storage call fails, in few commits of every kind?

use std::time::Duration;

use serde_json::json;
use sess_tests::harness::Plan;
use sess_tests::judge::{Heard, Witness};

/// Longer than the silence after which the daemon copies its log into the database.
const SILENCE: Duration = Duration::from_millis(650);
/// Words of an answer that comes in many pieces.
const WORDS: usize = 200;

/// All clients do what they do, as far as the daemon lets them; then, after a silence in which it tidies up,
/// one does more.
pub(crate) async fn work(plan: &Plan) -> Heard {
    let mut heard = Heard::default();
    let mut clients = Vec::new();
    for number in 1..=5 {
        // Who is not let in any more has nothing to say.
        let Some(witness) = Witness::connect(plan, number).await else { return heard };
        clients.push(witness);
    }
    let [one, two, three, four, five] = &mut clients[..] else { panic!("five clients") };
    let all = tokio::join!(talk(one), keys(two), passing(three), documents(four), stream(five));
    if let Some(session) = all.0 {
        one.quiet(SILENCE).await;
        more(one, &session).await;
    }
    for witness in clients {
        heard.add(witness);
    }
    heard
}

async fn talk(witness: &mut Witness) -> Option<String> {
    let session = witness.session(json!({"title": "talk"})).await?;
    for n in 0..2 {
        // Refused or not: the next may be done.
        witness.turn(&session, &format!("question {n}")).await;
        let title = json!({"session": session, "title": format!("talk {n}")});
        witness.ok("session/update", title).await;
    }
    Some(session).filter(|_| !witness.is_over())
}

async fn keys(witness: &mut Witness) -> Option<()> {
    let create = json!({"title": "keys", "idempotency_key": "keys: create"});
    let session = witness.session(create).await?;
    let mut send = json!({"session": session, "content": "keyed"});
    send["idempotency_key"] = json!("keys: send");
    witness.ok("chat/send", send).await;
    let mut update = json!({"session": session, "tags": ["tag"]});
    update["idempotency_key"] = json!("keys: update");
    witness.ok("session/update", update).await;
    Some(())
}

async fn passing(witness: &mut Witness) -> Option<()> {
    let global = json!({"session": "global", "after": "start"});
    witness.ok("session/follow", global).await;
    let session = witness.session(json!({"title": "passing"})).await?;
    witness.turn(&session, "in passing").await;
    let delete = json!({"session": session, "force": true, "idempotency_key": "passing: delete"});
    witness.ok("session/delete", delete).await;
    Some(())
}

async fn documents(witness: &mut Witness) -> Option<()> {
    for theme in ["dark", "light"] {
        let set = json!({"document": "settings", "key": "theme", "value": theme});
        witness.ok("state/set", set).await;
    }
    Some(())
}

/// An answer in many pieces, a text that is put apart, and a task that is ended by its user.
async fn stream(witness: &mut Witness) -> Option<()> {
    let session = witness.session(json!({"title": "stream"})).await?;
    witness.turn(&session, &"word ".repeat(WORDS)).await;
    let pause = json!({"session": session, "status": "paused"});
    witness.ok("session/update", pause).await;
    let send = json!({"session": session, "content": "never answered"});
    let sent = witness.ok("chat/send", send).await?;
    witness.ok("task/cancel", json!({"task": sent["task"]})).await;
    Some(())
}

async fn more(witness: &mut Witness, session: &str) {
    witness.turn(session, "and then").await;
    witness.ok("session/persist", json!({ "session": session })).await;
}
