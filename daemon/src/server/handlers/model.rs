//! `model/*`: which models there are, and whether they would answer.

use std::time::Instant;

use sess_protocol::methods as m;
use sess_protocol::methods::{ModelCheckResult, ModelEntry, ModelListResult};

use super::super::params::{bad_cursor, plain_limit};
use super::super::router::{Call, Routed, json_of, later};
use crate::shared::Shared;

pub(in crate::server) fn list(call: Call<'_, m::ModelList>) -> Routed {
    let limit = plain_limit(call.params.limit)? as usize;
    let skip = match call.params.cursor.as_deref() {
        Some(cursor) => cursor.parse().map_err(|_| bad_cursor())?,
        None => 0_usize,
    };
    let shared = call.shared();
    later(async move {
        shared.providers().look().await;
        let all = entries(&shared);
        let more = all.len() > skip.saturating_add(limit);
        let models = all.into_iter().skip(skip).take(limit).collect();
        let next = more.then(|| (skip + limit).to_string());
        Ok(json_of(&ModelListResult { models, next }))
    })
}

pub(in crate::server) fn check(call: Call<'_, m::ModelCheck>) -> Routed {
    let shared = call.shared();
    let (model, name) = shared.model(&call.params.model)?;
    let asked = call.params.model;
    later(async move {
        let begun = Instant::now();
        let answer = model.check(name).await;
        let duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let result = match answer {
            Ok(listed) => ModelCheckResult {
                model: asked,
                available: true,
                reason: None,
                message: None,
                listed,
                duration_ms,
            },
            Err(error) => ModelCheckResult {
                model: asked,
                available: false,
                reason: Some(error.reason),
                message: Some(error.message),
                listed: None,
                duration_ms,
            },
        };
        Ok(json_of(&result))
    })
}

fn entries(shared: &Shared) -> Vec<ModelEntry> {
    let default = shared.default_model();
    let list = shared.providers().list();
    let mut entries: Vec<ModelEntry> = list
        .into_iter()
        .filter_map(|it| {
            let id =
                it.name.or_else(|| it.why_not.as_ref().map(|_| format!("{}/*", it.provider)))?;
            Some(ModelEntry {
                default: id == default,
                id,
                provider: it.provider,
                available: it.why_not.is_none(),
                reason: it.why_not,
            })
        })
        .collect();
    if !entries.iter().any(|it| it.default) {
        let provider = default.split('/').next().unwrap_or_default().to_owned();
        let reason = shared.model(&default).err().map(|it| it.message().to_owned());
        let available = reason.is_none();
        entries.insert(0, ModelEntry { id: default, provider, available, reason, default: true });
    }
    entries
}
