//! What happens to those who do not read, and to the daemon because of them?

use serde_json::{Value, json};

use crate::stage::Stage;
use crate::strict::Strict;
use crate::{alone, difference, full_or_tenth, normal};

/// Pieces that pass unread.
const PIECES: u64 = 20_000;
/// They come in so many bursts, since pieces that come together are told together.
const BURSTS: u64 = 1_000;
/// Bytes of a burst, so that all of them are far more than the kernel keeps for one who does not read.
const BURST_BYTES: usize = 1_500;
/// Changes that pass unread, each with so many bytes: far more than all that waits for one who does not read,
/// here and in the kernel, in lines and in bytes.
const CHANGES: u64 = 3_000;
const CHANGE_BYTES: usize = 8 * 1024;
/// Followers that read nothing.
const DEAF: usize = 16;
/// What each of them may cost while it does not read: a queue of lines of its own, and what the
/// kernel holds is not ours.
const DEAF_BYTES_MAX: u64 = 1024 * 1024;
/// What an answer of this length and the memory that comes with a first use may cost.
const ANSWER_BYTES_MAX: u64 = 12 * 1024 * 1024;

/// A script of bursts, and the text that they make.
fn bursts(bursts: u64) -> (Vec<Value>, String) {
    let pieces = full_or_tenth(PIECES) / BURSTS;
    let text = "wörd ".repeat(BURST_BYTES / 5 / pieces as usize);
    let burst = [json!({"pieces": pieces, "text": text}), json!({"delay_ms": 1})];
    let steps = burst.iter().cycle().take(2 * bursts as usize).cloned().collect();
    (steps, text.repeat((bursts * pieces) as usize))
}

/// Followers that have begun, and read no more.
async fn deaf(stage: &Stage) -> Vec<Strict> {
    let mut all = Vec::new();
    for number in 0..DEAF {
        let mut follower = Strict::new(stage.door(false), &stage.session, number % 2 == 0);
        follower.next().await;
        all.push(follower);
    }
    all
}

async fn memory(stage: &Stage) -> u64 {
    let status = stage.daemon().wire().await.ok("daemon/status", json!({})).await;
    status["rss_bytes"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_nothing_while_a_long_answer_passes_wakes_to_the_whole_of_it() {
    let _alone = alone().await;
    let pieces = full_or_tenth(PIECES);
    // In two halves, so that the memory is looked at in the middle of it.
    let (half, _) = bursts(BURSTS / 2);
    let script = [&half[..], &[json!({"hold": "middle"})], &half[..]].concat();
    let stage = Stage::new(script.into()).await;
    let mut followers = deaf(&stage).await;
    let before = memory(&stage).await;
    let mut wire = stage.daemon().wire().await;
    let sent = wire.say(&stage.session, "go on").await;
    stage.progress.until(pieces / 2).await;
    let middle = memory(&stage).await;
    stage.stub.release("middle").await.unwrap();
    let done = wire.wait(&sent).await;
    assert_eq!(done["task"]["status"], "completed", "nobody waits for them");
    let after = memory(&stage).await;
    let bound = before + ANSWER_BYTES_MAX + DEAF as u64 * DEAF_BYTES_MAX;
    assert!(middle.max(after) <= bound, "{before} bytes before, {middle} amid, {after} after");

    let task = sent["task"].as_str().unwrap();
    for follower in &mut followers {
        while !follower.has_ended(task) {
            follower.next().await;
        }
    }
    let truth = normal(&stage.truth(50).await.0);
    for follower in &mut followers {
        while follower.seq() < truth["session"]["seq"].as_u64().unwrap() {
            follower.next().await;
        }
        let ours = normal(&follower.snapshot());
        assert!(ours == truth, "{}", difference(&ours, &truth));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_wakes_in_the_middle_of_an_answer_is_told_where_it_stands_and_goes_on_live() {
    let _alone = alone().await;
    let pieces = full_or_tenth(PIECES);
    let (mut script, text) = bursts(BURSTS);
    script.extend([json!({"hold": "end"}), json!({"text": "the end"})]);
    let stage = Stage::new(script.into()).await;
    let mut followers = deaf(&stage).await;
    let mut wire = stage.daemon().wire().await;
    let sent = wire.say(&stage.session, "go on").await;
    stage.progress.until(pieces).await;
    for follower in &mut followers {
        while follower.unfinished_bytes() < text.len() {
            follower.next().await;
        }
        assert!(follower.unfinished() == text, "all of it, while it goes on");
    }
    stage.stub.release("end").await.unwrap();
    for follower in &mut followers {
        while !follower.has_ended(sent["task"].as_str().unwrap()) {
            follower.next().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_nothing_while_much_changes_wakes_to_every_change_and_goes_on_live() {
    let _alone = alone().await;
    let stage = Stage::new(json!([{"echo": true}])).await;
    let mut followers = deaf(&stage).await;
    let mut wire = stage.daemon().wire().await;
    let system = "ö".repeat(CHANGE_BYTES / 2);
    let update = json!({"session": stage.session, "system": system});
    for _ in 0..full_or_tenth(CHANGES) {
        wire.ok("session/update", update.clone()).await;
    }
    for follower in &mut followers {
        follower.next().await;
    }
    // They have begun to read: this one comes to a follower that has room for it.
    let last = wire.ok("session/update", json!({"session": stage.session, "system": ""})).await;
    for follower in &mut followers {
        while follower.seq() < last["seq"].as_u64().unwrap() {
            follower.next().await;
        }
    }
}
