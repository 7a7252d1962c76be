//! What do clients do all the time while a daemon is ended, cut off or disturbed?

use serde_json::json;
use sess_tests::harness::Plan;
use sess_tests::judge::{Heard, Witness};
use sess_tests::stub::Stub;
use tokio::task::JoinSet;

/// Clients.
pub(crate) const CLIENTS: u32 = 8;
/// Turns in one session before a client begins another: what is judged is read whole.
const TURNS: usize = 20;
/// Milliseconds between two pieces of an answer, and how many these are.
const PIECE_MS: u64 = 20;
const PIECES: u64 = 15;

/// Gives the model `slow`, whose answers take a while, so that tasks are at work at any moment.
pub(crate) async fn slow_model(stub: &Stub) {
    let steps = json!([{"pieces": PIECES, "every_ms": PIECE_MS}]);
    stub.script("slow", steps).await.unwrap();
}

/// Clients at work until the daemon is gone.
pub(crate) struct Load(JoinSet<Witness>);

impl Load {
    /// Sets them to work; the numbers of their connections begin behind `first`.
    pub(crate) async fn begin(plan: &Plan, first: u32) -> Load {
        let mut clients = JoinSet::new();
        for number in first + 1..=first + CLIENTS {
            let witness = Witness::connect(plan, number).await.expect("the daemon is there");
            clients.spawn(work(witness, number));
        }
        Load(clients)
    }

    /// Waits until all of them have noticed the end.
    pub(crate) async fn end(mut self, heard: &mut Heard) {
        while let Some(witness) = self.0.join_next().await {
            heard.add(witness.unwrap());
        }
    }
}

/// One in four lets answers come slowly; the others commit as fast as they can.
async fn work(mut witness: Witness, number: u32) -> Witness {
    let is_slow = number.is_multiple_of(4);
    while !witness.is_over() {
        let model = if is_slow { "stub/slow" } else { "echo/echo" };
        // Refused, as amid a stop: all that is left is to wait for the end.
        let Some(session) = witness.session(json!({ "model": model })).await else { break };
        if talk(&mut witness, &session, number).await.is_none() {
            break;
        }
    }
    witness.to_the_end().await;
    witness
}

async fn talk(witness: &mut Witness, session: &str, number: u32) -> Option<()> {
    for n in 0..TURNS {
        let key = format!("{session} {n}");
        let send = json!({"session": session, "content": key, "idempotency_key": key});
        let sent = witness.ok("chat/send", send).await?;
        let title = json!({"session": session, "title": format!("{number} {n}")});
        witness.ok("session/update", title).await?;
        witness.ok("task/wait", json!({"task": sent["task"]})).await?;
    }
    if number.is_multiple_of(3) {
        witness.ok("session/delete", json!({ "session": session })).await?;
    }
    Some(())
}
