//! `echo/echo`: which pieces answer a prompt when nobody is asked?
//!
//! The text of the last user message comes back word by word, at once, so that everything else can be
//! tried without a network or a key.

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};

use super::{Finish, Model, ModelError, Piece, Prompt, Speaker};

/// The built-in model that needs nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Echo;

impl Model for Echo {
    fn ask(&self, prompt: Prompt) -> BoxStream<'static, Result<Piece, ModelError>> {
        // What it is told to be does not change what it says: it does not read the system text.
        let input = prompt.messages.iter().map(|it| words(&it.said())).sum::<u64>();
        let said = prompt.messages.into_iter().rev().find(|it| it.role == Speaker::User);
        let text = said.map(|it| it.said()).unwrap_or_default();
        let finish = Finish {
            input_tokens: input,
            output_tokens: words(&text),
            stop_reason: "stop".to_owned(),
            attempt: 1,
            ..Finish::default()
        };
        let pieces = Words { text, at: 0 }.map(Piece::Text);
        stream::iter(pieces.chain([Piece::Finish(finish)]).map(Ok)).boxed()
    }

    fn takes(&self, _model: &str, _media_type: &str) -> bool {
        false
    }
}

/// A text cut into words, each with the space behind it; together they are the text.
struct Words {
    text: String,
    at: usize,
}

impl Iterator for Words {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let rest = &self.text[self.at..];
        let mut spaced = false;
        let end = rest.char_indices().find(|(_, it)| {
            let begins_next = spaced && !it.is_whitespace();
            spaced |= it.is_whitespace();
            begins_next
        });
        let word = &rest[..end.map_or(rest.len(), |(at, _)| at)];
        self.at += word.len();
        (!word.is_empty()).then(|| word.to_owned())
    }
}

fn words(text: &str) -> u64 {
    text.split_whitespace().count() as u64
}

#[cfg(test)]
mod tests {
    use super::super::PromptMessage;
    use super::*;

    fn echoed(text: &str) -> Vec<Piece> {
        let said = |role, text: &str| PromptMessage::text(role, text);
        let prompt = Prompt {
            model: "echo".to_owned(),
            system: Some("be brief".to_owned()),
            messages: vec![said(Speaker::User, text), said(Speaker::Assistant, "yes sir")],
        };
        futures_util::FutureExt::now_or_never(Echo.ask(prompt).map(Result::unwrap).collect())
            .expect("an echo never waits")
    }

    #[test]
    fn pieces_are_words_and_together_the_text() {
        for text in ["", " ", "one", "a b", "  lead", "tail \n", "héllo\u{2003}wörld  🦀 x\n\ny "]
        {
            let pieces = echoed(text);
            let (Some(Piece::Finish(finish)), rest) = (pieces.last(), &pieces[..pieces.len() - 1])
            else {
                panic!("the last piece is the finish: {pieces:?}")
            };
            let parts = rest.iter().map(|it| match it {
                Piece::Text(text) => text.as_str(),
                other => panic!("only text is echoed: {other:?}"),
            });
            assert_eq!(parts.collect::<String>(), text);
            assert_eq!(finish.output_tokens, words(text));
            assert_eq!(finish.input_tokens, 2 + words(text));
        }
        assert_eq!(echoed("one two  three").len(), 4);
    }
}
