//! An answer that is being written: what of it is still to be printed, when nothing can be taken back?

use std::collections::BTreeMap;

use sess_client::unfinished::Unfinished;
use sess_protocol::live::{Delta, DeltaKind, LiveBlockType};

/// What is to be done next on the screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Show {
    /// The answer begins.
    Begin,
    /// Print this.
    Text(String),
    /// Print this as what the model thinks.
    Reasoning(String),
    /// What was printed is no longer so: the model began again, and another text follows.
    Again,
    /// So many bytes that were printed are not part of what was kept.
    Shorter(usize),
}

/// What was printed of an answer that is not a message yet.
///
/// It is compared by text and not by the message's id: a daemon that stops as planned asks the model
/// again under another id, and where the same text comes again none of it is printed again.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    begun: bool,
    printed: BTreeMap<u64, Printed>,
}

#[derive(Debug)]
struct Printed {
    reasoning: bool,
    text: String,
}

impl Answer {
    /// Takes a new piece; `unfinished` holds it already.
    pub(crate) fn piece(&mut self, delta: &Delta, unfinished: &Unfinished) -> Vec<Show> {
        let reasoning = match delta.kind {
            DeltaKind::Text => false,
            DeltaKind::Reasoning => true,
            DeltaKind::ToolInput | DeltaKind::ToolOutput => return Vec::new(),
        };
        let index = delta.block.unwrap_or(0);
        let held = self.printed.get(&index).map_or("", |it| it.text.as_str());
        let known = usize::try_from(delta.offset).ok().and_then(|offset| held.get(offset..));
        let Some(known) = known else { return self.catch_up(unfinished) };
        if let Some(new) = delta.text.strip_prefix(known) {
            let new = new.to_owned();
            let mut shows = Vec::new();
            self.print(index, reasoning, &new, &mut shows);
            return shows;
        }
        if known.starts_with(&delta.text) { Vec::new() } else { self.catch_up(unfinished) }
    }

    /// Takes all that is unfinished at this moment.
    pub(crate) fn catch_up(&mut self, unfinished: &Unfinished) -> Vec<Show> {
        let mut shows = Vec::new();
        let shown = |kind| matches!(kind, LiveBlockType::Text | LiveBlockType::Reasoning);
        let blocks: Vec<_> = unfinished.blocks().filter(|(_, it)| shown(it.kind)).collect();
        let differs = blocks.iter().any(|(index, block)| {
            let held = self.printed.get(index).map_or("", |it| it.text.as_str());
            !block.text.starts_with(held) && !held.starts_with(&block.text)
        });
        if differs {
            self.printed.clear();
            shows.push(Show::Again);
        }
        for (index, block) in blocks {
            let held = self.printed.get(&index).map_or(0, |it| it.text.len());
            if let Some(new) = block.text.get(held..) {
                let reasoning = block.kind == LiveBlockType::Reasoning;
                self.print(index, reasoning, new, &mut shows);
            }
        }
        shows
    }

    /// Takes the message that the answer became: its reasoning and its text.
    pub(crate) fn finish(&mut self, reasoning: &str, text: &str) -> Vec<Show> {
        let mut shows = Vec::new();
        let thought = self.all(true);
        if let Some(new) = reasoning.strip_prefix(&thought) {
            self.print(0, true, new, &mut shows);
        }
        let said = self.all(false);
        if let Some(new) = text.strip_prefix(&said) {
            self.print(u64::MAX, false, new, &mut shows);
        } else if said.starts_with(text) {
            shows.push(Show::Shorter(said.len() - text.len()));
        } else {
            shows.push(Show::Again);
            self.print(u64::MAX, false, text, &mut shows);
        }
        *self = Self::default();
        shows
    }

    /// The task ended without a message for what was printed.
    pub(crate) fn give_up(&mut self) -> Vec<Show> {
        let lost = self.all(false).len();
        *self = Self::default();
        if lost > 0 { vec![Show::Shorter(lost)] } else { Vec::new() }
    }

    fn print(&mut self, index: u64, reasoning: bool, new: &str, shows: &mut Vec<Show>) {
        if new.is_empty() {
            return;
        }
        if !std::mem::replace(&mut self.begun, true) {
            shows.push(Show::Begin);
        }
        let printed = self.printed.entry(index);
        let printed = printed.or_insert_with(|| Printed { reasoning, text: String::new() });
        printed.text.push_str(new);
        let new = new.to_owned();
        shows.push(if reasoning { Show::Reasoning(new) } else { Show::Text(new) });
    }

    fn all(&self, reasoning: bool) -> String {
        let texts = self.printed.values().filter(|it| it.reasoning == reasoning);
        texts.map(|it| it.text.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const SESSION: &str = "sess_1f2e3d4c5b6a49788796a5b4c3d2e1f0";
    const TASK: &str = "task_01998f2e4c0070008000000000000001";

    /// A screen: the text that stands on it, and what was said beside it.
    #[derive(Default)]
    struct Screen {
        answer: Answer,
        unfinished: Unfinished,
        text: String,
        said: Vec<Show>,
    }

    impl Screen {
        fn draw(&mut self, shows: Vec<Show>) {
            for show in shows {
                match show {
                    Show::Text(text) => self.text.push_str(&text),
                    Show::Begin => {}
                    other => self.said.push(other),
                }
            }
        }

        fn piece(&mut self, offset: u64, text: &str) {
            let delta = json!({
                "session": SESSION, "task": TASK, "message": "msg_01998f2e4c0070008000000000000003",
                "block": 0, "kind": "text", "offset": offset, "text": text,
            });
            let delta = serde_json::from_value(delta).unwrap();
            if let Some(new) = self.unfinished.add(delta).unwrap() {
                let shows = self.answer.piece(&new, &self.unfinished);
                self.draw(shows);
            }
        }

        fn live(&mut self, blocks: Value) {
            let live = json!({"session": SESSION, "task": TASK, "blocks": blocks, "tools": [],
                "message": "msg_01998f2e4c0070008000000000000003"});
            self.unfinished.replace(serde_json::from_value(live).unwrap());
            let shows = self.answer.catch_up(&self.unfinished);
            self.draw(shows);
        }

        fn live_text(&mut self, text: &str) {
            self.live(json!([{"index": 0, "type": "text", "text": text}]));
        }

        fn finish(&mut self, text: &str) {
            let shows = self.answer.finish("", text);
            self.draw(shows);
        }
    }

    #[test]
    fn pieces_a_live_and_the_message_make_one_text() {
        let mut screen = Screen::default();
        screen.piece(0, "hel");
        screen.live_text("hello w");
        screen.piece(7, "or");
        screen.finish("hello world");
        assert_eq!((screen.text.as_str(), screen.said), ("hello world", vec![]));
    }

    #[test]
    fn the_same_answer_asked_for_again_is_not_printed_again() {
        let mut screen = Screen::default();
        screen.live_text("hello wo");
        screen.live(json!([]));
        screen.piece(0, "hello");
        screen.piece(5, " wonder");
        screen.finish("hello wonder");
        assert_eq!((screen.text.as_str(), screen.said), ("hello wonder", vec![]));
    }

    #[test]
    fn another_answer_is_printed_whole_and_said_to_be_another() {
        let mut screen = Screen::default();
        screen.live_text("hello");
        screen.live(json!([]));
        screen.piece(0, "he");
        screen.piece(2, "y you");
        assert_eq!((screen.text.as_str(), &screen.said[..]), ("hellohey you", &[Show::Again][..]));
        screen.finish("something else");
        assert_eq!(screen.text, "hellohey yousomething else");
    }

    #[test]
    fn a_shorter_message_is_said_to_be_shorter() {
        let mut screen = Screen::default();
        screen.piece(0, "hello world");
        screen.finish("hello");
        assert_eq!((screen.text.as_str(), screen.said), ("hello world", vec![Show::Shorter(6)]));
        let mut screen = Screen::default();
        screen.piece(0, "gone");
        let shows = screen.answer.give_up();
        screen.draw(shows);
        assert_eq!(screen.said, [Show::Shorter(4)]);
    }

    #[test]
    fn thoughts_are_kept_apart_from_the_text() {
        let mut screen = Screen::default();
        screen.live(json!([
            {"index": 0, "type": "reasoning", "text": "hm"},
            {"index": 1, "type": "text", "text": "yes"},
        ]));
        let shows = screen.answer.finish("hmm", "yes!");
        screen.draw(shows);
        assert_eq!(screen.text, "yes!");
        let thoughts = ["hm", "m"].map(|it| Show::Reasoning(it.to_owned()));
        assert_eq!(screen.said, thoughts);
    }
}
