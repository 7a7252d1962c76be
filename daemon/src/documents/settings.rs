//! Which settings there are: name, meaning, default and rule of each, and their typed reader.

use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use sess_protocol::error::Error;
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
/// Copies of the store that stay where nothing else is set.
pub const BACKUPS_KEPT_DEFAULT: u64 = 7;
/// The most that `backup.keep` may be.
pub const BACKUPS_KEPT_MAX: u64 = 1_000;
/// The longest that the daemon may wait for anybody: a year.
const IDLE_EXIT_S_MAX: u64 = 365 * 24 * 3600;
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
    whose: Whose,
}

/// Whose a document is, and whose document may have a setting: what only the user may set holds for
/// all folders alike, or names what a folder must not choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// The user's alone.
    User,
    /// A workspace's; where a setting is meant, it may be the user's too.
    Workspace,
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
    /// Yes or no.
    Flag(bool),
}

impl Default {
    /// As JSON.
    #[must_use]
    pub fn value(self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Text(text) => text.into(),
            Self::Number(number) => number.into(),
            Self::Flag(flag) => flag.into(),
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
    Flag,
    Rules,
    Agents,
}

/// Every setting, in the order in which people are shown them.
pub const SETTINGS: &[Setting] = &[
    Setting {
        name: "model",
        meaning: "the model of new sessions, as `provider/name`; without it the best that is found",
        default: Default::Null,
        rule: Rule::Model,
        whose: Whose::Workspace,
    },
    Setting {
        name: "mode",
        meaning: "what tools of new sessions may do without asking",
        default: Default::Text("ask"),
        rule: Rule::OneOf(&["plan", "ask", "auto", "full"]),
        whose: Whose::Workspace,
    },
    Setting {
        name: "agents",
        meaning: "who can answer beside the built-in agents (`agent/list`), and what else these do",
        default: Default::Null,
        rule: Rule::Agents,
        whose: Whose::Workspace,
    },
    Setting {
        name: "if_busy",
        meaning: "what happens to a request when its session is busy",
        default: Default::Text("queue"),
        rule: Rule::OneOf(&["queue", "reject", "steer", "interrupt", "rollback"]),
        whose: Whose::Workspace,
    },
    Setting {
        name: "theme",
        meaning: "the colours of the full-screen front end; without it those of the terminal",
        default: Default::Null,
        rule: Rule::Text,
        whose: Whose::Workspace,
    },
    Setting {
        name: "editor",
        meaning: "the command that opens a text; without it `$VISUAL`, else `$EDITOR`",
        default: Default::Null,
        rule: Rule::Text,
        whose: Whose::Workspace,
    },
    Setting {
        name: "tasks.max_running",
        meaning: "how many tasks run at once; more wait in their queues",
        default: Default::Number(TASKS_RUNNING_DEFAULT),
        rule: Rule::Number { least: 1, most: TASKS_RUNNING_MAX },
        whose: Whose::User,
    },
    Setting {
        name: "task.max_model_calls",
        meaning: "how many model calls one task may make; without it as many as it needs",
        default: Default::Null,
        rule: Rule::Number { least: 1, most: MODEL_CALLS_MAX },
        whose: Whose::Workspace,
    },
    Setting {
        name: "approval.timeout_ms",
        meaning: "how long a question waits before it counts as denied; without it for ever",
        default: Default::Null,
        rule: Rule::Number { least: 1, most: APPROVAL_WAIT_MS_MAX },
        whose: Whose::Workspace,
    },
    Setting {
        name: "permission.rules",
        meaning: "what tools may do or may not, asked before any mode; a list of objects",
        default: Default::Null,
        rule: Rule::Rules,
        whose: Whose::Workspace,
    },
    Setting {
        name: "credentials.key_command",
        meaning: "the command that says the passphrase for credentials; without it a file has the key",
        default: Default::Null,
        rule: Rule::Text,
        whose: Whose::User,
    },
    Setting {
        name: "store.kind",
        meaning: "where sessions are kept; holds from the next start on",
        default: Default::Text("sqlite"),
        rule: Rule::OneOf(&["sqlite"]),
        whose: Whose::User,
    },
    Setting {
        name: "store.url",
        meaning: "the address of a store on a server; holds from the next start on",
        default: Default::Null,
        rule: Rule::Text,
        whose: Whose::User,
    },
    Setting {
        name: "retention.days",
        meaning: "how long a session is kept after its last use; without it for ever",
        default: Default::Null,
        rule: Rule::Number { least: 1, most: RETENTION_DAYS_MAX },
        whose: Whose::User,
    },
    Setting {
        name: "backup.daily",
        meaning: "whether a copy of all sessions is made once a day, as `sess backup` does",
        default: Default::Flag(false),
        rule: Rule::Flag,
        whose: Whose::User,
    },
    Setting {
        name: "backup.keep",
        meaning: "how many of the newest copies stay",
        default: Default::Number(BACKUPS_KEPT_DEFAULT),
        rule: Rule::Number { least: 1, most: BACKUPS_KEPT_MAX },
        whose: Whose::User,
    },
    Setting {
        name: "daemon.idle_exit_s",
        meaning: "after how many seconds without client and task the daemon ends; 0 for never",
        default: Default::Number(0),
        rule: Rule::Number { least: 0, most: IDLE_EXIT_S_MAX },
        whose: Whose::User,
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
        let workspace = it.whose == Whose::Workspace;
        let about =
            json!({"meaning": meaning, "default": default, "type": rule, "workspace": workspace});
        (it.name.to_owned(), about)
    };
    SETTINGS.iter().map(entry).collect()
}

impl Setting {
    /// Refuses a setting that is not for documents of this kind of owner.
    pub(super) fn check_whose(&self, whose: Whose) -> Result<(), Error> {
        if whose == Whose::User || self.whose == Whose::Workspace {
            return Ok(());
        }
        let message = format!("`{}` is a setting of the user, not of a workspace", self.name);
        Err(Error::invalid("key", message)
            .hint("set it without a workspace; on a connection with one say `\"workspace\": null`"))
    }

    /// Says what a value must be, if it is something else.
    pub fn check(&self, value: &Value) -> Result<(), String> {
        let good = value.is_null()
            || match self.rule {
                Rule::Agents => return crate::agents::check(value),
                Rule::Text => value.as_str().is_some_and(is_text),
                Rule::Model => value.as_str().is_some_and(is_model),
                Rule::OneOf(words) => value.as_str().is_some_and(|it| words.contains(&it)),
                Rule::Number { least, most } => {
                    value.as_u64().is_some_and(|it| (least..=most).contains(&it))
                }
                Rule::Flag => value.is_boolean(),
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
            Self::Flag => write!(f, "true or false"),
            Self::Rules => write!(f, "a list of at most {RULES_MAX} objects"),
            Self::Agents => write!(
                f,
                "an object: each name with `scope`, `model`, `system`, `mode`, `description`"
            ),
        }
    }
}

/// The settings of one moment: what the workspace has, else the user, else what holds by default.
#[derive(Debug, Clone, std::default::Default)]
pub struct Settings {
    user: Arc<Value>,
    workspace: Option<Arc<Value>>,
}

impl Settings {
    pub(super) fn new(user: Arc<Value>) -> Self {
        Self { user, workspace: None }
    }

    /// These with a workspace's over them.
    pub(super) fn under(self, workspace: Arc<Value>) -> Self {
        Self { workspace: Some(workspace), ..self }
    }

    /// What the two documents say of a setting: the user's, then the workspace's.
    fn layers(&self, setting: &Setting) -> [Option<&Value>; 2] {
        // What a person wrote by hand into a workspace's file and belongs to the user has no effect.
        let workspace = self.workspace.as_deref().filter(|_| setting.whose == Whose::Workspace);
        [Some(&*self.user), workspace].map(|it| it?.get(setting.name).filter(|it| !it.is_null()))
    }

    /// The value of a setting. Panics on a key that is not in [`SETTINGS`].
    #[must_use]
    pub fn value(&self, key: &str) -> Value {
        let setting = setting(key).expect("settings are asked for by a name of the table");
        let [user, workspace] = self.layers(setting);
        workspace.or(user).cloned().unwrap_or_else(|| setting.default.value())
    }

    /// What is set, the user's before the workspace's, for a setting of which each says a part.
    pub(crate) fn layered(&self, key: &str) -> Vec<&Value> {
        let setting = setting(key).expect("settings are asked for by a name of the table");
        self.layers(setting).into_iter().flatten().collect()
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

    /// Whether a copy of the store is made once a day.
    #[must_use]
    pub fn backs_up_daily(&self) -> bool {
        self.word("backup.daily")
    }

    /// How many copies of the store stay.
    #[must_use]
    pub fn backups_kept(&self) -> usize {
        let number = self.number("backup.keep").unwrap_or(BACKUPS_KEPT_DEFAULT);
        usize::try_from(number).expect("the rule keeps it small")
    }

    /// How long the daemon waits for anybody; zero for ever.
    #[must_use]
    pub fn idle_exit(&self) -> Duration {
        Duration::from_secs(self.number("daemon.idle_exit_s").unwrap_or(0))
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
                    let settings = Settings::new(Arc::new(json!({setting.name: word})));
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
        let none = Settings::new(Arc::new(json!({"approval.timeout_ms": null})));
        assert_eq!((none.mode(), none.if_busy()), (Mode::Ask, IfBusy::Queue));
        assert_eq!((none.tasks_running_max(), none.model()), (64, None));
        assert_eq!((none.approval_timeout(), none.store_kind()), (None, "sqlite".to_owned()));
        assert!(none.permission_rules().is_empty());

        let some = Settings::new(Arc::new(json!({
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
