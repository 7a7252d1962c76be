//! What model calls used, summed up: pure, from the events that count them.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;
use sess_protocol::event::Event;
use sess_protocol::id::{MessageId, SessionId, TaskId};
use sess_protocol::methods::{SessionUsageResult, UsageBy, UsageRow};
use sess_protocol::money::Money;
use sess_protocol::things::Usage;
use sess_protocol::time::Timestamp;
use sess_protocol::view::Members;

/// Milliseconds of a day.
pub(super) const DAY_MS: i64 = 86_400_000;

/// Which calls are asked for.
#[derive(Debug, Clone, Copy)]
pub struct UsageFilter {
    /// Of this session.
    pub session: Option<SessionId>,
    /// From this moment on.
    pub since: Option<Timestamp>,
    /// What a row is.
    pub by: UsageBy,
    /// The most rows.
    pub limit: usize,
}

/// A call of a model, as the event that counts it tells it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call {
    /// When it was over.
    pub(super) at: Timestamp,
    /// Its task.
    pub(super) task: Option<TaskId>,
    /// Its answer, or what that would have been.
    pub(super) message: Option<MessageId>,
    /// The model that was asked.
    pub(super) model: Option<String>,
    /// What it used.
    usage: Usage,
}

/// An answer, or a call that gave none, as far as it says what was used.
#[derive(Debug, Deserialize)]
struct Answer {
    id: MessageId,
    at: Timestamp,
    #[serde(default)]
    task: Option<TaskId>,
    #[serde(default)]
    model: Option<String>,
    usage: Option<Usage>,
}

impl Call {
    /// What an answer says, if it is one, or a call that gave none.
    pub(super) fn of_answer(message: &str) -> Option<Self> {
        let Answer { id, at, task, model, usage } = serde_json::from_str(message).ok()?;
        Some(Self { at, task, message: Some(id), model, usage: usage? })
    }

    /// The call that an event counts, with or without an answer. Only what changes the sums of the
    /// session, whose members before it are given, is a call of this session.
    pub(super) fn of_event(event: &Event, before: &Members) -> Option<Self> {
        let iterations = |it: Option<&Value>| it.and_then(Value::as_u64).unwrap_or(0);
        let now = iterations(event.data.get("session")?.get("iterations"));
        if event.is_foreign() || now <= iterations(before.get("iterations")) {
            return None;
        }
        let used = event.data.get("message").or_else(|| event.data.get("call"))?;
        Self::of_answer(&used.to_string())
    }
}

/// What some calls used together.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Spent {
    /// When the last of them was over, in milliseconds since 1970.
    pub(super) at: i64,
    /// How many they are.
    pub(super) calls: u64,
    /// Those of them whose price is not known.
    pub(super) unpriced: u64,
    /// What those cost whose price is known.
    pub(super) cost: Money,
    /// Their tokens; the cost is not in it.
    pub(super) usage: Usage,
}

impl Spent {
    /// What one call used.
    pub(super) fn of(call: &Call) -> Self {
        let cost = call.usage.cost_usd.as_deref().and_then(|it| it.parse::<Money>().ok());
        Self {
            at: call.at.0,
            calls: 1,
            unpriced: u64::from(cost.is_none()),
            cost: cost.unwrap_or_default(),
            usage: Usage { cost_usd: None, ..call.usage.clone() },
        }
    }

    /// With what others used.
    pub(super) fn add(&mut self, more: &Self) {
        self.at = self.at.max(more.at);
        self.calls += more.calls;
        self.unpriced += more.unpriced;
        self.cost = self.cost.plus(more.cost);
        self.usage = Usage { cost_usd: None, ..self.usage.plus(&more.usage) };
    }

    /// The tokens, with the cost of those calls whose price is known.
    fn priced(self) -> Usage {
        let cost_usd = Some(self.cost.to_string()).filter(|_| self.unpriced < self.calls);
        Usage { cost_usd, ..self.usage }
    }
}

/// Whose and when calls were, as far as sums of them are kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Whose {
    /// The session.
    pub(super) session: SessionId,
    /// The day in UTC, in days since 1970.
    pub(super) day: i64,
    /// The model, empty where it is not known.
    pub(super) model: String,
    /// The agent.
    pub(super) agent: String,
}

/// The day of a moment.
pub(super) fn day_of(at: Timestamp) -> i64 {
    at.0.div_euclid(DAY_MS)
}

/// Sums that grow.
#[derive(Debug)]
pub(super) struct Sums {
    filter: UsageFilter,
    rows: HashMap<String, (UsageRow, Spent)>,
    all: Spent,
}

impl Sums {
    pub(super) fn new(filter: UsageFilter) -> Self {
        Self { filter, rows: HashMap::new(), all: Spent::default() }
    }

    /// Whether a row is a call or a task, so that sums over a day do not do.
    pub(super) fn is_fine(&self) -> bool {
        matches!(self.filter.by, UsageBy::Call | UsageBy::Task)
    }

    /// Whether there are as many rows as are asked for.
    pub(super) fn is_full(&self) -> bool {
        self.rows.len() >= self.filter.limit
    }

    /// Takes in calls that were summed up before. Where a row is finer than that, each of them has to be
    /// told as well.
    pub(super) fn add(&mut self, whose: &Whose, spent: &Spent) {
        self.all.add(spent);
        let key = match self.filter.by {
            UsageBy::Call | UsageBy::Task => return,
            UsageBy::Session => whose.session.to_string(),
            UsageBy::Model => whose.model.clone(),
            UsageBy::Day => Timestamp(whose.day * DAY_MS).to_string()[..10].to_owned(),
            UsageBy::Agent => whose.agent.clone(),
        };
        let model = Some(&whose.model).filter(|it| !it.is_empty()).cloned();
        self.row(key, model, (None, None, None), spent);
    }

    /// Takes in a call for a row of its own or of its task.
    pub(super) fn add_fine(&mut self, session: SessionId, call: &Call) {
        if self.filter.since.is_some_and(|it| call.at < it) {
            return;
        }
        let (task, message) = (call.task, call.message);
        let (key, message) = match self.filter.by {
            UsageBy::Call => (message.map(|it| it.to_string()), message),
            UsageBy::Task => (task.map(|it| it.to_string()), None),
            _ => return,
        };
        let Some(key) = key else { return };
        self.row(key, call.model.clone(), (Some(session), task, message), &Spent::of(call));
    }

    fn row(
        &mut self,
        key: String,
        model: Option<String>,
        (session, task, message): (Option<SessionId>, Option<TaskId>, Option<MessageId>),
        spent: &Spent,
    ) {
        let (row, sum) = self.rows.entry(key.clone()).or_insert_with(|| {
            let at = Timestamp(spent.at);
            let (calls, unpriced, usage) = (0, 0, Usage::default());
            let model = model.clone();
            let row = UsageRow { key, session, task, message, model, at, calls, usage, unpriced };
            (row, Spent::default())
        });
        if row.model != model {
            row.model = None;
        }
        sum.add(spent);
    }

    /// The rows, that of the latest call first.
    pub(super) fn result(self) -> SessionUsageResult {
        let finish = |(row, sum): (UsageRow, Spent)| UsageRow {
            at: Timestamp(sum.at),
            calls: sum.calls,
            unpriced: sum.unpriced,
            usage: sum.priced(),
            ..row
        };
        let mut rows: Vec<UsageRow> = self.rows.into_values().map(finish).collect();
        rows.sort_by(|a, b| b.at.cmp(&a.at).then_with(|| a.key.cmp(&b.key)));
        rows.truncate(self.filter.limit);
        let (calls, unpriced) = (self.all.calls, self.all.unpriced);
        SessionUsageResult { rows, totals: self.all.priced(), calls, unpriced }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cost_that_is_not_known_is_counted_and_not_summed() {
        let filter = UsageFilter { session: None, since: None, by: UsageBy::Model, limit: 10 };
        let mut sums = Sums::new(filter);
        let message = |id: u32, cost: &str| {
            format!(
                "{{\"id\":\"msg_{id:032x}\",\"at\":\"2026-11-21T10:00:00.000Z\",\"model\":\"a/b\",\
                 \"usage\":{{\"input_tokens\":2,\"output_tokens\":1,\"total_tokens\":3,\
                 \"cache_read_tokens\":0,\"cache_write_tokens\":0,\"reasoning_tokens\":0,\
                 \"cost_usd\":{cost}}}}}"
            )
        };
        let (model, agent) = ("a/b".to_owned(), "general".to_owned());
        let whose = Whose { session: SessionId(1), day: 20_778, model, agent };
        for text in [message(1, "\"0.25\""), message(2, "null")] {
            sums.add(&whose, &Spent::of(&Call::of_answer(&text).expect("an answer")));
        }
        assert_eq!(Call::of_answer("{\"id\":\"no answer\"}"), None);
        let result = sums.result();
        assert_eq!((result.calls, result.unpriced, result.rows.len()), (2, 1, 1));
        assert_eq!(result.totals.cost_usd.as_deref(), Some("0.25"));
        assert_eq!(result.totals.total_tokens, 6);
        assert_eq!(result.rows[0].usage, result.totals);
    }
}
