//! Does everyone who comes at any moment of a long answer end with the same session?

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use sess_tests::faults::Rng;
use sess_tests::figures::figure;
use sess_tests::harness::{Wire, said};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::judge::{Judge, Manner};
use crate::library::Library;
use crate::stage::{Door, Progress, Stage};
use crate::strict::Strict;
use crate::{alone, difference, full_or_tenth, normal};

/// The longest that the followers of one story may take behind all else.
const STORY: Duration = Duration::from_secs(100);
/// Pieces of an answer.
const PIECES: u64 = 5_000;
/// Followers of each kind.
const STRICT: u64 = 10;
const LIBRARY: u64 = 12;
const JUDGES: u64 = 10;

/// When a follower comes, and between which pieces it does nothing. Counted in pieces of all answers.
#[derive(Debug, Clone, Copy)]
struct Times {
    comes: u64,
    stops: u64,
    goes_on: u64,
    /// About how often it reconnects, in lines; never when 0.
    leaves_every: u64,
    from_start: bool,
    seed: u64,
}

/// What a follower ends with: who it is, its last event, its view.
type Seen = (String, u64, Value);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_who_attach_at_any_moment_of_an_answer_end_with_the_same_session() {
    story(&[], 0x5e55_0001).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_who_attach_end_with_the_same_session_though_the_daemon_is_killed_meanwhile() {
    let (first, second) = (full_or_tenth(2_300), full_or_tenth(1_700));
    story(&[first, second], 0x5e55_0002).await;
}

/// An answer for each kill, which comes when so many of its pieces were sent, and one that is whole.
async fn story(kills: &[u64], seed: u64) {
    let _alone = alone().await;
    let pieces = full_or_tenth(PIECES);
    let every_ms = PIECES.div_ceil(pieces).min(3);
    let script = json!([{"pieces": pieces, "text": "wörd {i} ", "every_ms": every_ms}]);
    let mut stage = Stage::new(script).await;
    let mut wire = stage.daemon().wire().await;
    let mut tasks = Vec::new();
    for number in 0..=kills.len() {
        tasks.push(wire.say(&stage.session, &format!("request {number}")).await);
    }
    let last = tasks.last().unwrap()["task"].as_str().unwrap().to_owned();
    let total = kills.iter().sum::<u64>() + pieces;
    let (end, ends) = watch::channel(0);
    let cast = Cast {
        door: stage.door(!kills.is_empty()),
        progress: stage.progress.clone(),
        session: stage.session.clone(),
        last,
        ends,
    };
    let (mut followers, mut judges) = cast.enter(&mut Rng::new(seed), total);
    for kill in kills {
        let begun = stage.progress.now();
        stage.progress.until(begun + kill).await;
        stage.kill().await;
    }
    let verdicts = all_of(&mut judges).await;
    // To be resumed is an event too, of every judge and of this one: the last that is followed to.
    let (view, list) = stage.truth(50).await;
    end.send_replace(view["session"]["seq"].as_u64().unwrap());
    let truth = normal(&view);
    let mut seen_all = 0;
    for (who, seq, seen) in all_of(&mut followers).await {
        let ours = normal(&seen);
        assert!(ours == truth, "{who}, at {seq}: {}", difference(&ours, &truth));
        seen_all += 1;
    }
    assert_eq!(view["messages"], Value::Array(list.clone()), "resume and list say the same");
    let answers = answers(&mut stage.daemon().wire().await, &list, &tasks).await;
    let of = format!("{} followers, {} kills", seen_all + verdicts.len(), kills.len());
    figure("R5", "views that differ from the truth", 0, of);
    verdicts.iter().for_each(|it| assert_eq!(&it.2, answers.last().unwrap(), "{}", it.0));
    holds(&answers, &stage.sent().await);
}

async fn all_of(followers: &mut JoinSet<Seen>) -> Vec<Seen> {
    let mut all = Vec::new();
    let joining = async {
        while let Some(one) = followers.join_next().await {
            all.push(one.unwrap_or_else(|err| std::panic::resume_unwind(err.into_panic())));
        }
    };
    tokio::time::timeout(STORY, joining).await.expect("all followers come to the end");
    all
}

/// All followers of a story.
#[derive(Clone)]
struct Cast {
    door: Door,
    progress: Progress,
    session: String,
    /// The last task.
    last: String,
    /// The last event, once it is known.
    ends: watch::Receiver<u64>,
}

impl Cast {
    /// Lets them come at random moments, the last of them well before the end.
    fn enter(&self, rng: &mut Rng, total: u64) -> (JoinSet<Seen>, JoinSet<Seen>) {
        let (mut seen, mut judged) = (JoinSet::new(), JoinSet::new());
        let (strict, library, judges) = (STRICT, LIBRARY, JUDGES);
        for number in 0..strict + library + judges {
            let times = self.times(rng, number, total);
            let cast = self.clone();
            if number < strict {
                seen.spawn(async move { cast.strict(times).await });
            } else if number < strict + library {
                seen.spawn(async move { cast.library(times).await });
            } else {
                judged.spawn(async move { cast.judge(times).await });
            }
        }
        (seen, judged)
    }

    async fn end(&self) -> u64 {
        *self.ends.clone().wait_for(|it| *it > 0).await.expect("the story goes on")
    }

    fn times(&self, rng: &mut Rng, number: u64, total: u64) -> Times {
        // One of each kind is there from before the first piece.
        let comes = match number % 10 {
            0 => 0,
            _ => rng.below((total * 9 / 10) as usize) as u64,
        };
        let stops = comes + rng.below((total / 10) as usize) as u64;
        // Some stop for seconds, a piece a millisecond; some do not stop at all.
        let stopped = if rng.one_in(2) { total * 3 / 10 } else { 0 };
        let leaves_every = if rng.one_in(2) { total / 20 } else { 0 };
        let (from_start, seed) = (rng.one_in(3), rng.next_u64() >> 32);
        let goes_on = (stops + stopped).min(total);
        Times { comes, stops, goes_on, leaves_every, from_start, seed }
    }

    async fn strict(self, times: Times) -> Seen {
        self.progress.until(times.comes).await;
        let mut rng = Rng::new(times.seed);
        let mut follower = Strict::new(self.door.clone(), &self.session, times.from_start);
        let mut may_stop = times.goes_on > times.stops;
        while !follower.has_ended(&self.last) {
            follower.next().await;
            if times.leaves_every > 0 && rng.one_in(times.leaves_every as usize) {
                follower.leave();
            }
            if may_stop && self.progress.now() >= times.stops {
                may_stop = false;
                self.progress.until(times.goes_on).await;
            }
        }
        let end = self.end().await;
        while follower.seq() < end {
            follower.next().await;
        }
        (format!("strict {times:?}"), follower.seq(), follower.snapshot())
    }

    async fn library(self, times: Times) -> Seen {
        self.progress.until(times.comes).await;
        let mut follower = Library::new(&self.door, &self.session, times.from_start);
        let mut may_stop = times.goes_on > times.stops;
        while !follower.has_ended(&self.last) {
            follower.next().await;
            if may_stop && self.progress.now() >= times.stops {
                may_stop = false;
                self.progress.until(times.goes_on).await;
            }
        }
        let end = self.end().await;
        while follower.seq() < end {
            follower.next().await;
        }
        (format!("library {times:?}"), follower.seq(), follower.snapshot())
    }

    /// It compares the views itself, with two folds of its own. It ends with the text of the last task.
    async fn judge(self, times: Times) -> Seen {
        self.progress.until(times.comes).await;
        let Times { seed, leaves_every, .. } = times;
        let manner = Manner { seed, pause_every: leaves_every * 2, reconnect_every: leaves_every };
        let judge = Judge::start(&self.door, &self.session, &self.last, manner);
        if times.goes_on > times.stops {
            self.progress.until(times.stops).await;
            judge.signal(Signal::SIGSTOP);
            self.progress.until(times.goes_on).await;
            judge.signal(Signal::SIGCONT);
        }
        let verdict = judge.verdict().await;
        let seq = verdict["final_seq"].as_u64().unwrap();
        (format!("judge {times:?}"), seq, verdict["text"].clone())
    }
}

/// The text is what the model sent; after a kill it is a beginning of that.
fn holds(answers: &[String], sent: &[String]) {
    assert_eq!(sent.len(), answers.len(), "each request is asked once");
    let (whole, cut) = answers.split_last().unwrap();
    assert_eq!(whole, sent.last().unwrap());
    for (answer, sent) in cut.iter().zip(sent) {
        assert!(!answer.is_empty() && sent.starts_with(answer), "a cut answer is a beginning");
    }
}

/// The answer of each task, which after a kill is in its message as far as it was kept.
async fn answers(wire: &mut Wire, list: &[Value], tasks: &[Value]) -> Vec<String> {
    let mut answers = Vec::new();
    for sent in tasks {
        let of_it = |it: &&Value| it["task"] == sent["task"] && it["role"] == "assistant";
        let mut of_it = list.iter().filter(of_it);
        answers.push(of_it.next().map(said).unwrap_or_default());
        assert!(of_it.next().is_none(), "one answer each");
        let task = wire.ok("task/get", json!({"task": sent["task"]})).await;
        let status = task.get("task").unwrap_or(&task)["status"].clone();
        let wanted = if answers.len() == tasks.len() { "completed" } else { "interrupted" };
        assert_eq!(status, wanted);
    }
    answers
}
