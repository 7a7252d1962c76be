//! What model calls of a session used, summed up by day, model and agent, so that a question about years of
//! them reads no message.

use rusqlite::types::Type;
use rusqlite::{Connection, Row, params};
use sess_protocol::id::{MessageId, SessionId};
use sess_protocol::methods::SessionUsageResult;
use sess_protocol::money::Money;
use sess_protocol::things::Usage;
use sess_protocol::time::Timestamp;

use super::log;
use super::rows::{Columns, Numbered, Sum, Trouble, count, int};
use crate::store::UsageFilter;
use crate::store::usage::{Call, DAY_MS, Spent, Sums, Whose, day_of};

const COLUMNS: &str = "session, day, model, agent, at, calls, unpriced, cost, input, output, total, \
     cache_read, cache_write, reasoning, crc";
/// Milliseconds between an answer's id, which it gets when it begins, and its end.
const ANSWER_MS_MAX: i64 = DAY_MS;

/// A row: what calls used of this session (by its number), day, model and agent.
struct SpentRow {
    no: i64,
    day: i64,
    model: String,
    agent: String,
    spent: Spent,
}

/// The tokens, in the order of the columns.
fn numbers(spent: &Spent) -> [i64; 6] {
    let it = &spent.usage;
    [
        it.input_tokens,
        it.output_tokens,
        it.total_tokens,
        it.cache_read_tokens,
        it.cache_write_tokens,
        it.reasoning_tokens,
    ]
    .map(int)
}

impl SpentRow {
    fn sum(&self, cost: &str) -> i64 {
        let it = &self.spent;
        let sum = Sum::of("usage").int(self.no).int(self.day).text(&self.model).text(&self.agent);
        let sum = sum.int(it.at).int(int(it.calls)).int(int(it.unpriced)).text(cost);
        numbers(it).into_iter().fold(sum, Sum::int).done()
    }

    /// Reads a row that begins with [`COLUMNS`].
    fn read(row: &Row<'_>) -> Result<Self, Trouble> {
        let no: i64 = row.get(0)?;
        let columns = || -> rusqlite::Result<(Self, String, i64)> {
            let mut it = Columns::of(row);
            let (no, day, model, agent) = (it.take()?, it.take()?, it.take()?, it.take()?);
            let (at, calls, unpriced) = (it.take()?, count(it.take()?), count(it.take()?));
            let text: String = it.take()?;
            let cost: Money = text.parse().map_err(|_| {
                rusqlite::Error::InvalidColumnType(7, "cost".to_owned(), Type::Text)
            })?;
            let usage = Usage {
                input_tokens: count(it.take()?),
                output_tokens: count(it.take()?),
                total_tokens: count(it.take()?),
                cache_read_tokens: count(it.take()?),
                cache_write_tokens: count(it.take()?),
                reasoning_tokens: count(it.take()?),
                cost_usd: None,
            };
            let spent = Spent { at, calls, unpriced, cost, usage };
            Ok((Self { no, day, model, agent, spent }, text, it.take()?))
        };
        match columns() {
            Ok((read, text, crc)) if read.sum(&text) == crc => Ok(read),
            _ => Err(Trouble::Stale(no, "usage")),
        }
    }
}

/// Adds a call to the sums of its session.
pub(super) fn add(conn: &Connection, no: i64, agent: &str, call: &Call) -> Result<(), Trouble> {
    let (day, model) = (day_of(call.at), call.model.clone().unwrap_or_default());
    let sql = format!(
        "SELECT {COLUMNS} FROM usage WHERE session = ? AND day = ? AND model = ? AND agent = ?"
    );
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query(params![no, day, model, agent])?;
    let mut row = match rows.next()? {
        Some(row) => SpentRow::read(row)?,
        None => SpentRow { no, day, model, agent: agent.to_owned(), spent: Spent::default() },
    };
    drop(rows);
    row.spent.add(&Spent::of(call));
    let cost = row.spent.cost.to_string();
    let (crc, it) = (row.sum(&cost), &row.spent);
    let [input, output, total, cache_read, cache_write, reasoning] = numbers(it);
    conn.prepare_cached(&format!(
        "INSERT OR REPLACE INTO usage({COLUMNS}) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    ))?
    .execute(params![
        no,
        day,
        row.model,
        row.agent,
        it.at,
        int(it.calls),
        int(it.unpriced),
        cost,
        input,
        output,
        total,
        cache_read,
        cache_write,
        reasoning,
        crc
    ])?;
    Ok(())
}

/// What model calls used: whole days out of their sums, the day on which it begins call by call.
pub(super) fn usage(conn: &Connection, filter: UsageFilter) -> Result<SessionUsageResult, Trouble> {
    let one = match filter.session {
        Some(id) => match super::query_session::known(conn, id)? {
            Some(session) => Some(session),
            None => return Ok(Sums::new(filter).result()),
        },
        None => None,
    };
    let mut sums = Sums::new(filter);
    let from = filter.since.map_or(i64::MIN, |it| day_of(it) + 1);
    whole_days(conn, one, from, &mut sums)?;
    if let Some(since) = filter.since {
        let end = from.saturating_mul(DAY_MS);
        calls(conn, one, since, |session, agent, call| {
            if call.at >= since && call.at.0 < end {
                let (day, model) = (day_of(call.at), call.model.clone().unwrap_or_default());
                let whose = Whose { session, day, model, agent: agent.to_owned() };
                sums.add(&whose, &Spent::of(call));
            }
            true
        })?;
    }
    if sums.is_fine() {
        let since = filter.since.unwrap_or(Timestamp(i64::MIN));
        calls(conn, one, since, |session, _, call| {
            sums.add_fine(session, call);
            !sums.is_full()
        })?;
    }
    Ok(sums.result())
}

fn whole_days(
    conn: &Connection,
    one: Option<Numbered>,
    from: i64,
    sums: &mut Sums,
) -> Result<(), Trouble> {
    let own = if one.is_some() { "u.session = ?2 AND" } else { "" };
    let columns: Vec<String> = COLUMNS.split(", ").map(|it| format!("u.{}", it.trim())).collect();
    let sql = format!(
        "SELECT {}, s.id FROM usage u JOIN sessions s ON s.no = u.session WHERE {own} u.day >= ?1",
        columns.join(", ")
    );
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = match one {
        Some(session) => statement.query(params![from, session.no])?,
        None => statement.query([from])?,
    };
    while let Some(row) = rows.next()? {
        let SpentRow { day, model, agent, spent, .. } = SpentRow::read(row)?;
        let session = SessionId::from_bytes(row.get(columns.len())?);
        sums.add(&Whose { session, day, model, agent }, &spent);
    }
    Ok(())
}

/// Calls, those first that gave no answer, until one is not taken.
fn calls(
    conn: &Connection,
    one: Option<Numbered>,
    since: Timestamp,
    mut take: impl FnMut(SessionId, &str, &Call) -> bool,
) -> Result<(), Trouble> {
    let own = if one.is_some() { "t.session = ?1 AND" } else { "" };
    let sql = format!(
        "SELECT t.first, t.session, s.id, s.agent FROM things t JOIN sessions s \
         ON s.no = t.session WHERE {own} t.kind = 'call'"
    );
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query(rusqlite::params_from_iter(one.map(|it| it.no)))?;
    while let Some(row) = rows.next()? {
        let session = Numbered { no: row.get(1)?, id: SessionId::from_bytes(row.get(2)?) };
        let (seq, agent): (i64, String) = (row.get(0)?, row.get(3)?);
        let used = log::held(conn, session, count(seq))?.thing(session, count(seq), "call")?;
        if let Some(call) = Call::of_answer(used.get())
            && !take(session.id, &agent, &call)
        {
            return Ok(());
        }
    }
    answers(conn, one, since, take)
}

/// Answers that were begun at most a day before `since`, or later, newest first, until one is not
/// taken; each with its session and that session's agent.
fn answers(
    conn: &Connection,
    one: Option<Numbered>,
    since: Timestamp,
    mut take: impl FnMut(SessionId, &str, &Call) -> bool,
) -> Result<(), Trouble> {
    // Ids begin with the moment at which they were made, in 48 bits of milliseconds.
    let begun = u128::try_from(since.0.saturating_sub(ANSWER_MS_MAX)).unwrap_or(0);
    let bound = MessageId(begun.min((1 << 48) - 1) << 80);
    let own = if one.is_some() { "m.session = ?2 AND" } else { "" };
    let sql = format!(
        "SELECT m.session, m.seq, s.id, s.agent FROM message_rows m JOIN sessions s \
         ON s.no = m.session WHERE {own} m.id >= ?1 ORDER BY m.id DESC"
    );
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = match one {
        Some(session) => statement.query(params![bound.bytes(), session.no])?,
        None => statement.query([bound.bytes()])?,
    };
    while let Some(row) = rows.next()? {
        let session = Numbered { no: row.get(0)?, id: SessionId::from_bytes(row.get(2)?) };
        let (seq, agent): (i64, String) = (row.get(1)?, row.get(3)?);
        let seq = count(seq);
        let entry = log::held(conn, session, seq)?;
        // A copy of an answer, as a fork has it, is no call.
        let members = entry.thing_if_any(session, seq, "session")?;
        let counts = members.is_some_and(|it| it.get().contains("\"iterations\":"));
        let message = entry.thing(session, seq, "message")?;
        if counts
            && let Some(call) = Call::of_answer(message.get())
            && !take(session.id, &agent, &call)
        {
            break;
        }
    }
    Ok(())
}
