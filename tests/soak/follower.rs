//! What is a follower told, over lost connections, pauses and the end of its session?

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sess_tests::faults::Rng;

use crate::line::{Line, Lost, Pen};
use crate::world::World;

/// It stops reading, or hangs up, about every so many lines.
const PAUSE_EVERY: usize = 600;
const HANG_UP_EVERY: usize = 400;
/// The longest pause: a process that was stopped.
const PAUSE_MS: usize = 3_000;
/// How soon it looks again for a session when there is none.
const AGAIN: Duration = Duration::from_millis(100);

pub(crate) struct Follower {
    rng: Rng,
    pen: Pen,
    world: Arc<World>,
    /// What it follows, and the last event that it took in.
    at: Option<(String, Option<String>, u64)>,
    told: u64,
}

impl Follower {
    pub(crate) fn new(name: usize, seed: u64, world: &Arc<World>) -> Follower {
        let pen = Pen::new(&world.folder.join(format!("follower-{name}.jsonl")));
        Follower { rng: Rng::new(seed), pen, world: Arc::clone(world), at: None, told: 0 }
    }

    /// Follows one session after another, until it has heard the last of one; how many lines it was told.
    pub(crate) async fn run(mut self) -> u64 {
        loop {
            let mut line = Line::connect(&self.world.socket).await;
            if let Ok(true) = self.listen(&mut line).await {
                return self.told;
            }
            self.pen.write(&json!({"lost": true}));
        }
    }

    /// Whether it has heard all that it will ever be told.
    async fn listen(&mut self, line: &mut Line) -> Result<bool, Lost> {
        let mut last = self.world.last();
        loop {
            if let Some(last) = last.borrow_and_update().clone() {
                let all = self
                    .at
                    .as_ref()
                    .is_none_or(|(id, _, seq)| last.get(id).is_none_or(|it| seq >= it));
                if all {
                    return Ok(true);
                }
            }
            if self.at.is_none() && !self.begin().await {
                continue;
            }
            if !self.follow(line).await? {
                self.at = None;
                continue;
            }
            while self.at.is_some() {
                tokio::select! {
                    told = line.next() => self.take(&told?).await?,
                    changed = last.changed() => changed.unwrap(),
                }
                let (id, _, seq) = match &self.at {
                    Some(at) => at,
                    None => break,
                };
                if last.borrow().as_ref().is_some_and(|it| it.get(id).is_none_or(|it| seq >= it)) {
                    return Ok(true);
                }
            }
        }
    }

    /// Chooses a session, if there is one.
    async fn begin(&mut self) -> bool {
        let Some(session) = self.world.pick(&mut self.rng) else {
            crate::world::pass(AGAIN).await;
            return false;
        };
        let after = self.rng.one_in(2).then(|| "start".to_owned());
        self.pen.write(&json!({"begin": session, "after": after}));
        self.at = Some((session, after, 0));
        true
    }

    /// Follows where it is; whether there is something to follow.
    async fn follow(&mut self, line: &mut Line) -> Result<bool, Lost> {
        let Some((session, after, seq)) = &mut self.at else { return Ok(false) };
        let mut params = json!({"session": session, "messages": 500});
        if let Some(after) = after {
            params["after"] = json!(after);
        }
        let id = line.ask("session/follow", &params).await?;
        let answer = loop {
            let it = line.next().await?;
            if it["id"] == id {
                break it;
            }
        };
        self.pen.write(&json!({"followed": session, "answer": answer}));
        if answer.get("error").is_some() {
            return Ok(false);
        }
        if let Some(view) = answer["result"].get("view") {
            *seq = view["session"]["seq"].as_u64().unwrap();
            *after = answer["result"]["cursor"].as_str().map(str::to_owned);
        }
        Ok(true)
    }

    async fn take(&mut self, told: &Value) -> Result<(), Lost> {
        self.told += 1;
        self.pen.write(&json!({"told": told}));
        let params = &told["params"];
        if params["type"] == "session.deleted" {
            self.at = None;
        } else if told["method"] == "event"
            && let Some((_, after, seq)) = &mut self.at
        {
            *after = params["cursor"].as_str().map(str::to_owned);
            *seq = params["seq"].as_u64().unwrap();
        }
        if self.rng.one_in(PAUSE_EVERY) {
            let pause = self.rng.below(PAUSE_MS) as u64;
            crate::world::pass(Duration::from_millis(pause)).await;
        }
        if self.rng.one_in(HANG_UP_EVERY) { Err(Lost) } else { Ok(()) }
    }
}
