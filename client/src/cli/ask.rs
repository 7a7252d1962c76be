//! How is a method called so that `--json` prints its result as it came?

use serde_json::value::RawValue;
use serde_json::{Map, Value};
use sess_client::{CallError, Caller};
use sess_protocol::methods::Method;
use sess_protocol::view::Members;

use super::output::{Output, Stop};

/// Calls a method; with `--json` prints its result as it came and answers none.
pub(crate) async fn ask<M: Method>(
    output: &mut Output,
    caller: &mut Caller,
    params: &M::Params,
) -> Result<Option<M::Result>, Stop> {
    if !output.json {
        return Ok(Some(caller.call::<M>(params).await?));
    }
    let raw = caller.call_raw(M::NAME, members_of(params)).await?;
    output.result(&raw)?;
    Ok(None)
}

/// The same by the method's name, for results that are only shown.
pub(crate) async fn ask_raw(
    output: &mut Output,
    caller: &mut Caller,
    method: &str,
    params: Map<String, Value>,
) -> Result<Option<Members>, Stop> {
    let raw = caller.call_raw(method, params).await?;
    if output.json {
        output.result(&raw)?;
        return Ok(None);
    }
    Ok(Some(object(method, &raw)?))
}

/// A result that must be an object.
pub(crate) fn object(method: &str, raw: &RawValue) -> Result<Members, Stop> {
    serde_json::from_str(raw.get()).map_err(|err| {
        CallError::Strange { method: method.to_owned(), what: err.to_string() }.into()
    })
}

/// The members of params.
pub(crate) fn members_of(params: &impl serde::Serialize) -> Map<String, Value> {
    match serde_json::to_value(params) {
        Ok(Value::Object(params)) => params,
        _ => Map::new(),
    }
}

/// Members from names and values; an absent value is left out.
pub(crate) fn members<const N: usize>(pairs: [(&str, Option<Value>); N]) -> Map<String, Value> {
    let set = pairs.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    set.collect()
}
