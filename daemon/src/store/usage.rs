//! What model calls used, summed up: pure, from the answers that they gave.

use std::collections::HashMap;

use serde::Deserialize;
use sess_protocol::id::{MessageId, SessionId, TaskId};
use sess_protocol::methods::{SessionUsageResult, UsageBy, UsageRow};
use sess_protocol::money::Money;
use sess_protocol::things::Usage;
use sess_protocol::time::Timestamp;

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

/// Sums that grow call by call.
#[derive(Debug)]
pub(super) struct Sums {
    filter: UsageFilter,
    rows: HashMap<String, (UsageRow, Money)>,
    totals: Usage,
    cost: Money,
    calls: u64,
    unpriced: u64,
}

impl Sums {
    pub(super) fn new(filter: UsageFilter) -> Self {
        let rows = HashMap::new();
        Self {
            filter,
            rows,
            totals: Usage::default(),
            cost: Money::default(),
            calls: 0,
            unpriced: 0,
        }
    }

    /// Takes in a message or a call without one, if it is an answer that is asked for.
    pub(super) fn add(&mut self, session: SessionId, agent: &str, message: &str) {
        let Ok(Answer { id, at, task, model, usage: Some(usage) }) = serde_json::from_str(message)
        else {
            return;
        };
        if self.filter.since.is_some_and(|it| at < it) {
            return;
        }
        let model_name = model.clone().unwrap_or_default();
        let key = match self.filter.by {
            UsageBy::Call => id.to_string(),
            UsageBy::Task => task.map(|it| it.to_string()).unwrap_or_default(),
            UsageBy::Session => session.to_string(),
            UsageBy::Model => model_name,
            UsageBy::Day => at.to_string()[..10].to_owned(),
            UsageBy::Agent => agent.to_owned(),
        };
        let cost = usage.cost_usd.as_deref().and_then(|it| it.parse::<Money>().ok());
        let fine = matches!(self.filter.by, UsageBy::Call | UsageBy::Task);
        let is_call = self.filter.by == UsageBy::Call;
        let (row, sum) = self.rows.entry(key.clone()).or_insert_with(|| {
            let row = UsageRow {
                key,
                session: Some(session).filter(|_| fine),
                task: task.filter(|_| fine),
                message: Some(id).filter(|_| is_call),
                model: model.clone(),
                at,
                calls: 0,
                usage: Usage::default(),
                unpriced: 0,
            };
            (row, Money::default())
        });
        if row.model != model {
            row.model = None;
        }
        row.at = row.at.max(at);
        row.calls += 1;
        row.unpriced += u64::from(cost.is_none());
        row.usage = row.usage.plus(&usage);
        *sum = sum.plus(cost.unwrap_or_default());
        self.calls += 1;
        self.unpriced += u64::from(cost.is_none());
        self.totals = self.totals.plus(&usage);
        self.cost = self.cost.plus(cost.unwrap_or_default());
    }

    /// The rows, that of the latest call first.
    pub(super) fn result(self) -> SessionUsageResult {
        let priced = |cost: Money, calls: u64, unpriced: u64| {
            Some(cost.to_string()).filter(|_| unpriced < calls)
        };
        let mut rows: Vec<UsageRow> = self
            .rows
            .into_values()
            .map(|(mut row, cost)| {
                row.usage.cost_usd = priced(cost, row.calls, row.unpriced);
                row
            })
            .collect();
        rows.sort_by(|a, b| b.at.cmp(&a.at).then_with(|| a.key.cmp(&b.key)));
        rows.truncate(self.filter.limit);
        let (calls, unpriced) = (self.calls, self.unpriced);
        let cost_usd = priced(self.cost, calls, unpriced);
        let totals = Usage { cost_usd, ..self.totals };
        SessionUsageResult { rows, totals, calls, unpriced }
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
        sums.add(SessionId(1), "general", &message(1, "\"0.250000000000001\""));
        sums.add(SessionId(1), "general", &message(2, "null"));
        sums.add(SessionId(1), "general", "{\"id\":\"no answer\"}");
        let result = sums.result();
        assert_eq!((result.calls, result.unpriced, result.rows.len()), (2, 1, 1));
        assert_eq!(result.totals.cost_usd.as_deref(), Some("0.250000000000001"));
        assert_eq!(result.totals.total_tokens, 6);
        assert_eq!(result.rows[0].usage, result.totals);
    }
}
