//! How was the window of a call spent: on the system text, and on what was said?
//!
//! Only the provider counts tokens as its model does, and it says one number for all that was read. How
//! that falls apart is guessed by bytes: good enough to see what fills a window.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde_json::{Map, Value};
use sess_protocol::things::PromptSize;

use super::prices::by_name;
use super::settings::Provider;
use super::{Part, Prompt};

/// The windows of the makers' models, with their date.
const TABLE: &str = include_str!("windows.json");
/// In a provider's document, the window of every model that has none of its own there.
const ANY_MODEL: &str = "*";
/// Bytes of text that are guessed to be a token.
const TOKEN_BYTES: u64 = 4;
/// Tokens that a picture or a file is guessed to be, that is not shown as text.
const ATTACHED_TOKENS: u64 = 1_000;

/// What a prompt is made of, in tokens as they are guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Guess {
    system: u64,
    messages: u64,
}

impl Guess {
    /// Looks at a prompt as it is sent.
    pub(crate) fn of(prompt: &Prompt) -> Self {
        let text = |bytes: usize| (bytes as u64).div_ceil(TOKEN_BYTES);
        let part = |it: &Part| match it.media_type() {
            None => text(it.bytes()),
            Some(_) => ATTACHED_TOKENS,
        };
        Self {
            system: text(prompt.system.as_ref().map_or(0, String::len)),
            messages: prompt.messages.iter().flat_map(|it| &it.parts).map(part).sum(),
        }
    }

    /// How the window was spent when the provider counted `used` in all; the parts sum up to that. One
    /// that counts nothing leaves the guess.
    pub(crate) fn spent(self, used: u64, budget: Option<u64>) -> PromptSize {
        let guessed = self.system + self.messages;
        let used = if used == 0 { guessed } else { used };
        let share = u128::from(used) * u128::from(self.system) / u128::from(guessed.max(1));
        let system = u64::try_from(share).unwrap_or(used);
        PromptSize { budget, used, system, messages: used - system, ..PromptSize::default() }
    }
}

/// The windows of one provider's models.
#[derive(Debug, Clone, Default)]
pub(crate) struct Windows {
    own: BTreeMap<String, u64>,
    /// The maker's table, where the provider is the maker.
    maker: Option<&'static Map<String, Value>>,
}

impl Windows {
    /// The windows that hold for this provider.
    pub(crate) fn new(provider: &Provider) -> Self {
        let maker = provider.maker().and_then(|it| table().get(it)?.as_object());
        Self { own: provider.windows.clone(), maker }
    }

    /// How many tokens a model can read, if that is known.
    pub(crate) fn of(&self, model: &str) -> Option<u64> {
        let own = self.own.get(model).or_else(|| self.own.get(ANY_MODEL));
        own.copied().or_else(|| {
            let maker = self.maker?;
            by_name(|it| maker.get(it), model)?.as_u64()
        })
    }
}

fn table() -> &'static Map<String, Value> {
    static READ: OnceLock<Map<String, Value>> = OnceLock::new();
    READ.get_or_init(|| serde_json::from_str(TABLE).expect("the table is read by a test"))
}

#[cfg(test)]
mod tests {
    use super::super::{PromptMessage, Speaker, settings};
    use super::*;
    use serde_json::json;

    fn prompt(system: &str, said: &str) -> Prompt {
        Prompt {
            model: "m".to_owned(),
            system: Some(system.to_owned()).filter(|it| !it.is_empty()),
            messages: vec![PromptMessage::text(Speaker::User, said)],
        }
    }

    #[test]
    fn the_parts_sum_up_to_what_the_provider_counted() {
        for (system, said, used) in [
            ("", "x", 7),
            ("s", "", 3),
            ("ssss ssss", "hello you", 1),
            ("abc", "d", 0),
            ("", "", 9),
        ] {
            let size = Guess::of(&prompt(system, said)).spent(used, None);
            assert_eq!(size.system + size.messages, size.used, "{size:?}");
            assert!(used == 0 || size.used == used);
            assert!(!system.is_empty() || size.system == 0);
        }
        let half = Guess::of(&prompt(&"s".repeat(400), &"m".repeat(400))).spent(60, Some(9));
        assert_eq!((half.system, half.messages, half.budget), (30, 30, Some(9)));
        let huge = Guess { system: u64::MAX / 2, messages: 1 }.spent(u64::MAX, None);
        assert_eq!(huge.system + huge.messages, u64::MAX);
    }

    #[test]
    fn a_picture_counts_as_a_picture_and_not_by_its_bytes() {
        let mut shown = prompt(&"s".repeat(4_000), "");
        let picture =
            Part::Image { media_type: "image/png".to_owned(), data: vec![0; 4 << 20].into() };
        shown.messages[0].parts = vec![picture];
        let size = Guess::of(&shown).spent(2_000, None);
        assert_eq!((size.system, size.messages), (1_000, 1_000));
    }

    #[test]
    fn a_window_is_the_documents_else_the_makers_at_its_own_address() {
        let windows =
            |provider: Value| Windows::new(&settings::parse(&json!({"a": provider})).unwrap()["a"]);
        let claude = windows(json!({"kind": "anthropic", "windows": {"mine": 5}}));
        assert_eq!(claude.of("claude-3-haiku"), Some(200_000));
        assert_eq!(claude.of("claude-3-haiku-20240307"), Some(200_000));
        assert_eq!((claude.of("mine"), claude.of("other")), (Some(5), None));
        let elsewhere = json!({"kind": "anthropic", "base_url": "http://h/", "windows": {"*": 9}});
        assert_eq!(windows(elsewhere).of("claude-3-haiku"), Some(9));
        assert_eq!(windows(json!({"kind": "openai", "base_url": "http://h/"})).of("gpt-5"), None);
        let wrong = json!({"a": {"kind": "openai", "windows": {"m": 0}}});
        assert!(settings::parse(&wrong).unwrap_err().to_string().contains("`m`"));
        for maker in ["anthropic", "openai", "gemini"] {
            let models = table()[maker].as_object().unwrap();
            assert!(!models.is_empty() && models.values().all(|it| it.as_u64() > Some(0)));
        }
    }
}
