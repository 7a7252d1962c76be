//! Whether what model calls used is summed up alike by all that it can be summed up by.

use std::sync::Arc;

use serde_json::json;
use sess_protocol::id::{MessageId, SessionId};
use sess_protocol::methods::{SessionUsageResult, UsageBy};
use sess_protocol::time::Timestamp;

use super::build::{Log, raw, session, task};
use crate::store::{Store, UsageFilter};

/// 2026-11-21T00:00:00Z and the length of a day.
const FIRST_DAY_MS: i64 = 1_795_219_200_000;
const DAY_MS: i64 = 86_400_000;
/// More rows than a case has.
const MANY: usize = 100;
const EACH: [UsageBy; 6] =
    [UsageBy::Call, UsageBy::Task, UsageBy::Session, UsageBy::Model, UsageBy::Day, UsageBy::Agent];

/// An hour of a day, from the first on.
fn at(day: i64, hour: i64) -> Timestamp {
    Timestamp(FIRST_DAY_MS + day * DAY_MS + hour * DAY_MS / 24)
}

/// Calls of a session and what they used so far.
struct Calls {
    log: Log,
    tokens: u64,
    made: u64,
}

impl Calls {
    async fn of(store: &Arc<dyn Store>, number: u128) -> Calls {
        Calls { log: Log::created(store, session(number)).await, tokens: 0, made: 0 }
    }

    /// A call of so many tokens.
    async fn add(
        &mut self,
        store: &Arc<dyn Store>,
        at: Timestamp,
        used: (&str, u64),
        cost: Option<&str>,
    ) {
        let (model, tokens) = used;
        self.told(store, at, ("message", model, tokens), cost).await;
    }

    /// The same, with what becomes of it: a message or a call that gave none.
    async fn told(
        &mut self,
        store: &Arc<dyn Store>,
        at: Timestamp,
        (kind, model, tokens): (&str, &str, u64),
        cost: Option<&str>,
    ) {
        let usage = |tokens: u64, cost: Option<&str>| {
            json!({"input_tokens": tokens, "output_tokens": 1, "total_tokens": tokens + 1,
                "cache_read_tokens": 0, "cache_write_tokens": 0, "reasoning_tokens": 0,
                "cost_usd": cost})
        };
        self.tokens += tokens;
        self.made += 1;
        let members = json!({"usage": usage(self.tokens, None), "iterations": self.made});
        let begun = u128::try_from(at.0).expect("after 1970") << 80;
        let id = MessageId(begun | u128::from(self.made) << 8 | self.log.session.0 & 0xff);
        let mut thing = json!({"id": id, "at": at, "task": task(self.made.into()), "model": model,
            "usage": usage(tokens, cost)});
        let mut event = "usage.recorded";
        if kind == "message" {
            event = "message.appended";
            thing["role"] = "assistant".into();
            thing["thread"] = "main".into();
            thing["content"] = json!([]);
        }
        let said = raw(event, json!({ kind: thing, "session": members }));
        self.log.add(store, vec![said]).await;
    }
}

async fn usage(
    store: &Arc<dyn Store>,
    by: UsageBy,
    session: Option<SessionId>,
    since: Option<Timestamp>,
) -> SessionUsageResult {
    store.usage(UsageFilter { session, since, by, limit: MANY }).await.expect("answers")
}

fn tokens(sums: &SessionUsageResult) -> u64 {
    sums.rows.iter().map(|it| it.usage.input_tokens).sum()
}

pub(crate) async fn calls_are_summed_up_by_all_alike(store: Arc<dyn Store>) {
    let (mut one, mut two) = (Calls::of(&store, 1).await, Calls::of(&store, 2).await);
    one.add(&store, at(0, 9), ("a/x", 10), Some("0.1")).await;
    one.add(&store, at(0, 23), ("a/y", 20), None).await;
    two.add(&store, at(1, 0), ("a/x", 40), Some("0.000000000000001")).await;
    one.add(&store, at(1, 12), ("a/x", 80), Some("0.2")).await;
    two.add(&store, at(2, 1), ("a/z", 160), Some("0")).await;
    for by in EACH {
        let all = usage(&store, by, None, None).await;
        let of_totals = (all.totals.input_tokens, all.totals.output_tokens, all.calls);
        assert_eq!((of_totals, all.unpriced), ((310, 5, 5), 1), "{by:?}");
        assert_eq!(all.totals.cost_usd.as_deref(), Some("0.300000000000001"), "{by:?}");
        assert_eq!(tokens(&all), 310, "{by:?}");
        let own = usage(&store, by, Some(session(1)), None).await;
        assert_eq!((own.totals.input_tokens, tokens(&own)), (110, 110), "{by:?}");
        for (since, left) in [
            (at(0, 0), 310),
            (at(0, 10), 300),
            (at(1, 0), 280),
            (at(1, 1), 240),
            (at(2, 0), 160),
            (at(3, 0), 0),
        ] {
            let some = usage(&store, by, None, Some(since)).await;
            assert_eq!((some.totals.input_tokens, tokens(&some)), (left, left), "{by:?} {since}");
        }
        let gone = usage(&store, by, Some(session(9)), None).await;
        assert_eq!((gone.calls, gone.rows), (0, vec![]), "{by:?}");
    }
    let keys = |sums: SessionUsageResult| -> Vec<String> {
        sums.rows.into_iter().map(|it| it.key).collect()
    };
    assert_eq!(keys(usage(&store, UsageBy::Model, None, None).await), ["a/z", "a/x", "a/y"]);
    let days = usage(&store, UsageBy::Day, None, None).await;
    assert_eq!(keys(days), ["2026-11-23", "2026-11-22", "2026-11-21"]);
}

/// A call that gave no answer is in all sums, and in the row of its task.
pub(crate) async fn a_call_without_an_answer_counts(store: Arc<dyn Store>) {
    let mut one = Calls::of(&store, 1).await;
    one.add(&store, at(0, 9), ("a/x", 10), Some("0.1")).await;
    one.told(&store, at(0, 10), ("call", "a/x", 7), None).await;
    for by in EACH {
        for since in [None, Some(at(0, 9))] {
            let all = usage(&store, by, None, since).await;
            assert_eq!((all.calls, all.unpriced, tokens(&all)), (2, 1, 17), "{by:?} {since:?}");
        }
        assert_eq!(usage(&store, by, None, Some(at(0, 10))).await.calls, 1, "{by:?}");
    }
}

/// What only copies an answer, as a fork does, is no call.
pub(crate) async fn an_answer_that_changes_no_sum_is_no_call(store: Arc<dyn Store>) {
    let mut log = Log::created(&store, session(1)).await;
    let message = json!({"id": MessageId(1), "at": at(0, 1), "role": "assistant", "thread": "main",
        "model": "a/x", "content": [], "usage": {"input_tokens": 5, "output_tokens": 5,
        "total_tokens": 10, "cache_read_tokens": 0, "cache_write_tokens": 0,
        "reasoning_tokens": 0, "cost_usd": null}});
    log.add(&store, vec![raw("message.appended", json!({ "message": message }))]).await;
    for by in EACH {
        let all = usage(&store, by, None, None).await;
        assert_eq!((all.calls, all.rows), (0, vec![]), "{by:?}");
        assert_eq!(usage(&store, by, None, Some(at(0, 0))).await.calls, 0, "{by:?}");
    }
}
