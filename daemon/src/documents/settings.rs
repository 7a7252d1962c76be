//! Which settings there are: name, meaning, default and rule of each, and their typed reader.

use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use sess_protocol::methods::IfBusy;
use sess_protocol::things::Mode;

/// Tasks that run at once, where nothing else is set.
pub const TASKS_RUNNING_DEFAULT: u64 = 64;
/// The most that `tasks.max_running` may be.
const TASKS_RUNNING_MAX: u64 = 1_024;
/// The most that `task.max_model_calls` may be.
const MODEL_CALLS_MAX: u64 = 1_000_000;
/// The longest wait for an answer that can be set: a year.
const APPROVAL_WAIT_MS_MAX: u64 = 365 * 24 * 3600 * 1000;
/// The longest retention that can be set: a century.
const RETENTION_DAYS_MAX: u64 = 36_500;
/// The longest text of a setting.
const TEXT_BYTES_MAX: usize = 4_096;
/// The most rules in `permission.rules`.
const RULES_MAX: usize = 1_024;

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// Its key: words with dots.
    pub name: &'static str,
    /// What it does, for a person.
    pub meaning: &'static str,
    /// What holds where it is not set.
    pub default: Default,
    rule: Rule,
}

/// What holds where a setting is not set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Default {
    /// Nothing; the meaning says what that is.
    Null,
    /// A text.
    Text(&'static str),
    /// A number.
    Number(u64),
}

impl Default {
    /// As JSON.
    #[must_use]
    pub fn value(self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Text(text) => text.into(),
            Self::Number(number) => number.into(),
        }
    }
}

/// What a value must be. Null is always allowed and is the same as not set.
#[derive(Debug, Clone, Copy)]
enum Rule {
    Text,
    Model,
    OneOf(&'static [&'static str]),
    Number { least: u64, most: u64 },
    Rules,
}

/// Every setting, in the order in which people are shown them.
pub const SETTINGS: &[Setting] = &[
    Setting {
        name: "model",
        meaning: "the model of new sessions, as `provider/name`; without it the best that is found",
        default: Default::Null,
        rule: Rule::Model,
    },
    Setting {
        name: "mode",
        meaning: "what tools of new sessions may do without asking",
        default: Default::Text("ask"),
        rule: Rule::OneOf(&["plan", "ask", "auto", "full"]),
    },
    Setting {
        name: "if_busy",
        meaning: "what happens to a request when its session is busy",
        default: Default::Text("queue"),
        rule: Rule::OneOf(&["queue", "reject", "steer", "interrupt", "rollback"]),
    },
    Setting {
        name: "theme",
        meaning: "the colours of the full-screen front end; without it those of the terminal",
        default: Default::Null,
        rule: Rule::Text,
    },
    Setting {
        name: "editor",
        meaning: "the command that opens a text; without it `$VISUAL`, else `$EDITOR`",
        default: Default::Null,
        rule: Rule::Text,
    },
    Setting {
        name: "tasks.max_running",
        meaning: "how many tasks run at once; more wait in their queues",
        default: Default::Number(TASKS_RUNNING_DEFAULT),
        rule: Rule::Number { least: 1, most: TASKS_RUNNING_MAX },
    },
    Setting {
        name: "task.max_model_calls",
        meaning: "how many model calls one task may make; without it as many as it needs",
        default: Default::Null,
        rule: Rule::Number { least: 1, most: MODEL_CALLS_MAX },
    },
    Setting {
        name: "approval.timeout_ms",
        meaning: "how long a question waits before it counts as denied; without it for ever",
        default: Default::Null,
        rule: Rule::Number { least: 1, most: APPROVAL_WAIT_MS_MAX },
    },
    Setting {
        name: "permission.rules",
        meaning: "what tools may do or may not, asked before any mode; a list of objects",
        default: Default::Null,
        rule: Rule::Rules,
    },
    Setting {
        name: "credentials.key_command",
        meaning: "the command that says the passphrase for credentials; without it a file has the key",
        default: Default::Null,
        rule: Rule::Text,
    },
    Setting {
        name: "store.kind",
        meaning: "where sessions are kept; holds from the next start on",
        default: Default::Text("sqlite"),
        rule: Rule::OneOf(&["sqlite"]),
    },
    Setting {
        name: "store.url",
        meaning: "the address of a store on a server; holds from the next start on",
        default: Default::Null,
        rule: Rule::Text,
    },
    Setting {
        name: "retention.days",
        meaning: "how long a session is kept after its last use; without it for ever",
        default: Default::Null,
        rule: Rule::Number { least: 1, most: RETENTION_DAYS_MAX },
    },
];

/// The setting of this key.
#[must_use]
pub fn setting(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|it| it.name == key)
}

/// All settings for people: what each means, may be, and is by default.
pub(super) fn described() -> Map<String, Value> {
    let entry = |it: &Setting| {
        let (meaning, default, rule) = (it.meaning, it.default.value(), it.rule.to_string());
        (it.name.to_owned(), json!({"meaning": meaning, "default": default, "type": rule}))
    };
    SETTINGS.iter().map(entry).collect()
}

impl Setting {
    /// Says what a value must be, if it is something else.
    pub fn check(&self, value: &Value) -> Result<(), String> {
        let good = value.is_null()
            || match self.rule {
                Rule::Text => value.as_str().is_some_and(is_text),
                Rule::Model => value.as_str().is_some_and(is_model),
                Rule::OneOf(words) => value.as_str().is_some_and(|it| words.contains(&it)),
                Rule::Number { least, most } => {
                    value.as_u64().is_some_and(|it| (least..=most).contains(&it))
                }
                Rule::Rules => value
                    .as_array()
                    .is_some_and(|it| it.len() <= RULES_MAX && it.iter().all(Value::is_object)),
            };
        if good { Ok(()) } else { Err(format!("`{}` must be {}", self.name, self.rule)) }
    }
}

fn is_text(text: &str) -> bool {
    !text.is_empty() && text.len() <= TEXT_BYTES_MAX && !text.contains(char::is_control)
}

fn is_model(text: &str) -> bool {
    is_text(text)
        && text.split_once('/').is_some_and(|(name, model)| !name.is_empty() && !model.is_empty())
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text => write!(f, "a text of 1 to {TEXT_BYTES_MAX} bytes without control codes"),
            Self::Model => write!(f, "a model as `provider/name`"),
            Self::OneOf(words) => write!(f, "one of `{}`", words.join("`, `")),
            Self::Number { least, most } => write!(f, "a whole number from {least} to {most}"),
            Self::Rules => write!(f, "a list of at most {RULES_MAX} objects"),
        }
    }
}

/// The settings of one moment: what is set, else what holds by default.
#[derive(Debug, Clone)]
pub struct Settings(Arc<Value>);

impl Settings {
    pub(super) fn new(document: Arc<Value>) -> Self {
        Self(document)
    }

    /// The value of a setting. Panics on a key that is not in [`SETTINGS`].
    #[must_use]
    pub fn value(&self, key: &str) -> Value {
        let setting = setting(key).expect("settings are asked for by a name of the table");
        match self.0.get(key) {
            None | Some(Value::Null) => setting.default.value(),
            Some(value) => value.clone(),
        }
    }

    fn word<T: DeserializeOwned>(&self, key: &str) -> T {
        serde_json::from_value(self.value(key)).expect("a word of the table is one of the type")
    }

    fn text(&self, key: &str) -> Option<String> {
        self.value(key).as_str().map(str::to_owned)
    }

    fn number(&self, key: &str) -> Option<u64> {
        self.value(key).as_u64()
    }

    /// The model of new sessions.
    #[must_use]
    pub fn model(&self) -> Option<String> {
        self.text("model")
    }

    /// The mode of new sessions.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.word("mode")
    }

    /// What happens to a request when its session is busy.
    #[must_use]
    pub fn if_busy(&self) -> IfBusy {
        self.word("if_busy")
    }

    /// How many tasks run at once.
    #[must_use]
    pub fn tasks_running_max(&self) -> usize {
        let number = self.number("tasks.max_running").unwrap_or(TASKS_RUNNING_DEFAULT);
        usize::try_from(number).expect("the rule keeps it small")
    }

    /// How many model calls one task may make.
    #[must_use]
    pub fn model_calls_max(&self) -> Option<u64> {
        self.number("task.max_model_calls")
    }

    /// How long a question waits; for ever without.
    #[must_use]
    pub fn approval_timeout(&self) -> Option<Duration> {
        self.number("approval.timeout_ms").map(Duration::from_millis)
    }

    /// The rules of what tools may do.
    #[must_use]
    pub fn permission_rules(&self) -> Vec<Value> {
        self.value("permission.rules").as_array().cloned().unwrap_or_default()
    }

    /// The command that says the passphrase for credentials.
    #[must_use]
    pub fn key_command(&self) -> Option<String> {
        self.text("credentials.key_command")
    }

    /// Where sessions are kept.
    #[must_use]
    pub fn store_kind(&self) -> String {
        self.word("store.kind")
    }

    /// The address of a store on a server.
    #[must_use]
    pub fn store_url(&self) -> Option<String> {
        self.text("store.url")
    }

    /// How long a session is kept after its last use, in days.
    #[must_use]
    pub fn retention_days(&self) -> Option<u64> {
        self.number("retention.days")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_fits_its_rule_and_every_word_its_type() {
        for setting in SETTINGS {
            setting.check(&setting.default.value()).unwrap();
            if let Rule::OneOf(words) = setting.rule {
                for word in words {
                    let settings = Settings(Arc::new(json!({setting.name: word})));
                    match setting.name {
                        "mode" => drop(json!(settings.mode())),
                        "if_busy" => drop(json!(settings.if_busy())),
                        "store.kind" => drop(settings.store_kind()),
                        name => panic!("`{name}` has no typed reader here"),
                    }
                }
            }
        }
    }

    #[test]
    fn values_are_checked_by_the_rule_of_their_key() {
        for (key, good, bad) in [
            ("model", json!("a/b/c"), vec![json!("a"), json!("/b"), json!("a/"), json!(1)]),
            ("mode", json!("plan"), vec![json!("fast"), json!(true)]),
            ("theme", json!("dark"), vec![json!(""), json!("a\u{1b}[m"), json!({})]),
            ("tasks.max_running", json!(1), vec![json!(0), json!(1025), json!(1.5), json!("1")]),
            ("permission.rules", json!([{}]), vec![json!({}), json!(["x"])]),
            ("store.kind", json!("sqlite"), vec![json!("mysql")]),
        ] {
            let setting = setting(key).unwrap();
            setting.check(&good).unwrap();
            setting.check(&Value::Null).unwrap();
            for value in bad {
                let message = setting.check(&value).unwrap_err();
                assert!(message.starts_with(&format!("`{key}` must be ")), "{message}");
            }
        }
    }

    #[test]
    fn the_reader_answers_what_is_set_else_the_default() {
        let none = Settings(Arc::new(json!({"approval.timeout_ms": null})));
        assert_eq!((none.mode(), none.if_busy()), (Mode::Ask, IfBusy::Queue));
        assert_eq!((none.tasks_running_max(), none.model()), (64, None));
        assert_eq!((none.approval_timeout(), none.store_kind()), (None, "sqlite".to_owned()));
        assert!(none.permission_rules().is_empty());

        let some = Settings(Arc::new(json!({
            "mode": "full", "tasks.max_running": 2, "approval.timeout_ms": 5, "model": "echo/echo",
            "if_busy": "interrupt", "task.max_model_calls": 9, "retention.days": 30,
            "store.url": "postgres://x", "permission.rules": [{"tool": "shell"}],
        })));
        assert_eq!((some.mode(), some.if_busy()), (Mode::Full, IfBusy::Interrupt));
        assert_eq!((some.tasks_running_max(), some.model().unwrap().as_str()), (2, "echo/echo"));
        assert_eq!(some.approval_timeout(), Some(Duration::from_millis(5)));
        assert_eq!((some.model_calls_max(), some.retention_days()), (Some(9), Some(30)));
        assert_eq!(
            (some.store_url().unwrap().as_str(), some.permission_rules().len()),
            ("postgres://x", 1)
        );
    }
}
