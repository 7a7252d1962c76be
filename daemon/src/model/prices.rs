//! What does a call cost?
//!
//! By the prices of the provider's document, else by a dated table of what the makers ask at their own
//! address. What is in neither has no price: it is not known, which is not the same as nothing.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::Deserialize;
use serde_json::{Map, Value};
use sess_protocol::money::Money;

use super::Finish;
use super::settings::Provider;

/// The table, with its date in it.
const TABLE: &str = include_str!("prices.json");
/// In a provider's document, the price of every model that has none of its own there.
const ANY_MODEL: &str = "*";
/// What a wrong cost is rounded to, in a build that breaks this on purpose: a millionth of a dollar.
const ROUND: u128 = 1_000_000_000;
/// Prices are for so many tokens.
const TOKENS: u128 = 1_000_000;

/// What a model's tokens cost, a million each.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Price {
    input: Dollars,
    output: Dollars,
    /// Of the input, what came from the cache; as other input where there is no such price.
    #[serde(default)]
    cache_read: Option<Dollars>,
    #[serde(default)]
    cache_write: Option<Dollars>,
    /// The prices of calls that read more than so many tokens.
    #[serde(default)]
    above: Option<Box<Above>>,
    /// The first day on which this price does not hold any more, as `2027-01-01`.
    #[serde(default)]
    until: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Above {
    tokens: u64,
    input: Dollars,
    output: Dollars,
    #[serde(default)]
    cache_read: Option<Dollars>,
    #[serde(default)]
    cache_write: Option<Dollars>,
}

/// A price as people write it: text, or a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Value")]
struct Dollars(Money);

impl TryFrom<Value> for Dollars {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let text = match &value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            other => return Err(format!("`{other}` is no price")),
        };
        let money: Money = text.parse().map_err(|_| format!("`{text}` is no price in dollars"))?;
        // So that a single token's share of it is exact.
        if !money.units().is_multiple_of(TOKENS) {
            return Err(format!("`{text}` has more than 9 decimals"));
        }
        Ok(Dollars(money))
    }
}

impl Price {
    /// The cost of a call that ended like this on this day.
    fn of(&self, finish: &Finish, today: &str) -> Option<Money> {
        if self.until.as_deref().is_some_and(|it| today >= it) {
            return None;
        }
        let usual = (self.input, self.output, self.cache_read, self.cache_write);
        let (input, output, cache_read, cache_write) = match &self.above {
            Some(it) if finish.input_tokens > it.tokens => {
                (it.input, it.output, it.cache_read, it.cache_write)
            }
            _ => usual,
        };
        let cached = finish.cache_read_tokens + finish.cache_write_tokens;
        let parts = [
            (finish.input_tokens.saturating_sub(cached), input),
            (finish.cache_read_tokens, cache_read.unwrap_or(input)),
            (finish.cache_write_tokens, cache_write.unwrap_or(input)),
            (finish.output_tokens, output),
        ];
        let units = parts
            .iter()
            .map(|(tokens, price)| u128::from(*tokens).saturating_mul(price.0.units() / TOKENS));
        let units = units.fold(0, u128::saturating_add);
        if crate::sabotage::is("rounded_cost") {
            return Some(Money::from_units(units / ROUND * ROUND));
        }
        Some(Money::from_units(units))
    }
}

/// The prices of one provider's models.
#[derive(Debug, Clone, Default)]
pub(crate) struct Prices {
    own: BTreeMap<String, Price>,
    /// The maker's table, where the provider is the maker.
    maker: Option<&'static BTreeMap<String, Price>>,
}

impl Prices {
    /// The prices that hold for this provider.
    pub(crate) fn new(provider: &Provider) -> Prices {
        let own = parse(&provider.prices).unwrap_or_default();
        Prices { own, maker: provider.maker().and_then(|it| table().get(it)) }
    }

    /// What a call of this model cost, if that is known. `today` is written as `2026-11-21`.
    pub(crate) fn cost(&self, model: &str, finish: &Finish, today: &str) -> Option<Money> {
        let own = self.own.get(model).or_else(|| self.own.get(ANY_MODEL));
        let price = own.or_else(|| {
            let maker = self.maker?;
            by_name(|it| maker.get(it), model)
        })?;
        price.of(finish, today)
    }
}

/// Reads the prices in a provider's document.
pub(crate) fn parse(prices: &Map<String, Value>) -> Result<BTreeMap<String, Price>, String> {
    let read = |(model, price): (&String, &Value)| match Price::deserialize(price) {
        Ok(price) => Ok((model.clone(), price)),
        Err(err) => Err(format!("`prices` of `{model}`: {err}")),
    };
    prices.iter().map(read).collect()
}

/// What a maker's table says of a model by its name, with or without the date of a version behind it.
pub(super) fn by_name<'a, T>(table: impl Fn(&str) -> Option<&'a T>, model: &str) -> Option<&'a T> {
    let mut name = model.strip_prefix("models/").unwrap_or(model);
    loop {
        if let Some(found) = table(name) {
            return Some(found);
        }
        let (rest, last) = name.rsplit_once('-')?;
        let dated =
            last == "latest" || last.len() > 1 && last.bytes().all(|it| it.is_ascii_digit());
        name = dated.then_some(rest)?;
    }
}

fn table() -> &'static BTreeMap<String, BTreeMap<String, Price>> {
    static READ: OnceLock<BTreeMap<String, BTreeMap<String, Price>>> = OnceLock::new();
    READ.get_or_init(|| {
        let whole: Map<String, Value> =
            serde_json::from_str(TABLE).expect("the table is read by a test");
        let makers = whole.into_iter().filter_map(|(maker, prices)| {
            Some((maker, parse(prices.as_object()?).expect("the table is read by a test")))
        });
        makers.collect()
    })
}

#[cfg(test)]
mod tests {
    use super::super::settings;
    use super::*;
    use serde_json::json;

    fn prices(provider: Value) -> Prices {
        Prices::new(&settings::parse(&json!({"a": provider})).unwrap()["a"])
    }

    fn finish(input: u64, output: u64, read: u64, write: u64) -> Finish {
        Finish {
            input_tokens: input,
            output_tokens: output,
            cache_read_tokens: read,
            cache_write_tokens: write,
            ..Finish::default()
        }
    }

    fn cost(prices: &Prices, model: &str, finish: &Finish) -> Option<String> {
        prices.cost(model, finish, "2026-11-21").map(|it| it.to_string())
    }

    #[test]
    fn the_table_is_whole_and_dated() {
        let whole: Value = serde_json::from_str(TABLE).unwrap();
        assert!(whole["date"].as_str().is_some_and(|it| it.len() == "2026-11-21".len()));
        for maker in ["anthropic", "openai", "gemini"] {
            assert!(!table()[maker].is_empty(), "{maker}");
        }
    }

    #[test]
    fn a_call_costs_the_exact_sum_of_its_tokens() {
        let claude = prices(json!({"kind": "anthropic"}));
        let call = finish(1_000, 200, 300, 100);
        // 600 * 3 + 300 * 0.3 + 100 * 3.75 + 200 * 15, a millionth each
        assert_eq!(cost(&claude, "claude-sonnet-4-5-20250929", &call).unwrap(), "0.005265");
        assert_eq!(cost(&claude, "claude-sonnet-4-5", &finish(1, 0, 1, 0)).unwrap(), "0.0000003");
        // The whole of a long call has the higher price.
        let long = finish(300_000, 0, 0, 0);
        assert_eq!(cost(&claude, "claude-sonnet-4-5", &long).unwrap(), "1.8");
    }

    #[test]
    fn what_has_no_price_has_no_cost() {
        let call = finish(10, 10, 0, 0);
        assert_eq!(cost(&prices(json!({"kind": "openai"})), "gpt-99", &call), None);
        assert_eq!(cost(&prices(json!({"kind": "ollama"})), "llama", &call), None);
        let elsewhere = json!({"kind": "openai", "base_url": "http://h/v1"});
        assert_eq!(cost(&prices(elsewhere), "gpt-5", &call), None);
        let gemini = prices(json!({"kind": "gemini"}));
        assert!(cost(&gemini, "gemini-3.8-flash", &call).is_some());
        assert_eq!(gemini.cost("gemini-3.8-flash", &call, "2027-01-01"), None);
        assert_eq!(cost(&gemini, "gemini-2.5-pro-tts", &call), None, "no other model's price");
    }

    #[test]
    fn a_documents_prices_win() {
        let own = prices(json!({"kind": "openai", "prices": {
            "gpt-5": {"input": 1, "output": "2.5"}, "*": {"input": "0", "output": "0"}}}));
        assert_eq!(cost(&own, "gpt-5", &finish(3, 2, 1, 0)).unwrap(), "0.000008");
        assert_eq!(cost(&own, "mine", &finish(3, 2, 0, 0)).unwrap(), "0");
        for wrong in [
            json!({"input": 1}),
            json!({"input": -1, "output": 1}),
            json!({"input": "x", "output": 1}),
            json!({"input": "0.0000000001", "output": 1}),
            json!(3),
        ] {
            let document = json!({"a": {"kind": "openai", "prices": {"m": wrong}}});
            assert!(settings::parse(&document).unwrap_err().to_string().contains("`m`"), "{wrong}");
        }
    }
}
