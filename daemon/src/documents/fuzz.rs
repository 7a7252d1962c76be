//! What must hold for any document that is taken?

use std::sync::Arc;

use serde_json::{Map, Value};

use super::file;
use super::kind::kinds;
use super::settings::{SETTINGS, Settings, Whose};
use crate::model::providers::parse;

/// Judges a document as it would be read from its file. One that is taken is the same when it is written and
/// read again, may be set as it is, and everybody can read it. The first byte says which document it is.
///
/// # Panics
/// When that does not hold.
pub fn document(data: &[u8]) {
    let Some((which, text)) = data.split_first() else { return };
    let kinds = kinds(providers);
    let kind = &kinds[usize::from(*which) % kinds.len()];
    let whose = if *which < 128 || !kind.of_workspaces() { Whose::User } else { Whose::Workspace };
    let Ok(Value::Object(members)) = serde_json::from_slice(text) else { return };
    if file::beyond_limits(&members).is_some() {
        return;
    }
    let Ok(warnings) = kind.check_file(whose, &members) else { return };
    let written = file::text(&members);
    let again: Map<String, Value> =
        serde_json::from_slice(&written).expect("what is written is JSON");
    assert_eq!(again, members, "a document is what was written");
    assert_eq!(kind.check_file(whose, &again).as_ref(), Ok(&warnings));
    let set = kind.check_change(whose, &Map::new(), &members);
    assert_eq!(set.is_ok(), warnings.is_empty(), "{set:?}, where a file is told of {warnings:?}");
    match kind.name {
        "settings" => read_settings(whose, members),
        "providers" => {
            let read = parse(&Value::Object(members)).expect("it was judged before");
            let shown = serde_json::to_value(&read).expect("providers are JSON");
            assert_eq!(parse(&shown), Ok(read));
        }
        _ => {}
    }
}

fn providers(document: &Value) -> Result<(), String> {
    parse(document).map(drop).map_err(|err| err.to_string())
}

/// Each reader has a value for what was taken. What a workspace's document says of a setting that is the user's is kept
/// as it is, and has no effect.
fn read_settings(whose: Whose, members: Map<String, Value>) {
    let members = Arc::new(Value::Object(members));
    let settings = match whose {
        Whose::User => Settings::new(members),
        Whose::Workspace => Settings::default().under(members),
    };
    SETTINGS.iter().for_each(|it| drop(settings.value(it.name)));
    let _ = (settings.mode(), settings.if_busy(), settings.store_kind(), settings.backs_up_daily());
    let _ = (settings.tasks_running_max(), settings.backups_kept(), settings.approval_timeout());
    let _ = (settings.model(), settings.model_calls_max(), settings.permission_rules());
    let _ = settings.idle_exit();
}
