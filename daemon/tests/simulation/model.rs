//! A model that plays scripts: what it says to a request, and how, follows from seed and request.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use sess_daemon::model::{Finish, Model, ModelError, Piece, Prompt, PromptMessage, Reason};

use crate::dice::Dice;
use crate::oracle::Oracle;

/// The longest that a script holds its breath, in milliseconds.
const HOLD_MS_MAX: u64 = 12_000;

/// One step of a script.
#[derive(Debug, Clone)]
enum Step {
    Say(Piece),
    Yield,
    Wait(u64),
    Fail,
}

/// An answer as blocks: whether reasoning, and the text.
pub(crate) type Blocks = Vec<(bool, String)>;

/// What a model does with one request.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    steps: Vec<Step>,
    /// The texts of each attempt; the last is the answer if it is whole.
    pub(crate) attempts: Vec<Blocks>,
    /// Whether the answer comes to its end.
    pub(crate) whole: bool,
}

impl Script {
    /// The script of a request.
    pub(crate) fn of(seed: u64, request: &str) -> Self {
        let mixed = request.bytes().fold(seed, |it, byte| {
            (it ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3).rotate_left(7)
        });
        let mut dice = Dice::new(mixed);
        let mut script = Self { steps: Vec::new(), attempts: vec![Vec::new()], whole: false };
        let attempts = 1 + u64::from(dice.percent(15)) + u64::from(dice.percent(5));
        for attempt in 0..attempts {
            if attempt > 0 {
                script.steps.push(Step::Say(Piece::Restart));
                script.attempts.push(Vec::new());
            }
            script.attempt(&mut dice);
        }
        script.whole = dice.percent(85);
        if script.whole {
            let finish = Finish {
                input_tokens: dice.below(100),
                output_tokens: dice.below(100),
                stop_reason: "stop".to_owned(),
                attempt: u32::try_from(attempts).expect("few attempts"),
                ..Finish::default()
            };
            script.steps.push(Step::Say(Piece::Finish(finish)));
        } else if dice.percent(70) {
            script.steps.push(Step::Fail);
        }
        script
    }

    fn attempt(&mut self, dice: &mut Dice) {
        let slow = dice.percent(40);
        for n in 0..dice.below(14) {
            match dice.below(10) {
                0..4 => self.steps.push(Step::Yield),
                4..6 if slow => self.steps.push(Step::Wait(dice.below(400))),
                6 if slow && dice.percent(20) => {
                    self.steps.push(Step::Wait(dice.below(HOLD_MS_MAX)))
                }
                _ => {}
            }
            let reasoning = dice.percent(15);
            let text = if dice.percent(4) {
                String::new()
            } else {
                format!("wörd{n}-{} ", dice.below(1000))
            };
            self.say(reasoning, text);
        }
    }

    fn say(&mut self, reasoning: bool, text: String) {
        let blocks = self.attempts.last_mut().expect("there is an attempt");
        match blocks.last_mut() {
            _ if text.is_empty() => {}
            Some(last) if last.0 == reasoning => last.1.push_str(&text),
            _ => blocks.push((reasoning, text.clone())),
        }
        let piece = if reasoning { Piece::Reasoning(text) } else { Piece::Text(text) };
        self.steps.push(Step::Say(piece));
    }

    /// Whether some attempt begins like this.
    pub(crate) fn begins(&self, blocks: &Blocks) -> bool {
        self.attempts.iter().any(|it| is_prefix(blocks, it))
    }
}

/// Whether an answer is the beginning of another one.
pub(crate) fn is_prefix(short: &Blocks, long: &Blocks) -> bool {
    let whole = short.len().saturating_sub(1);
    short.len() <= long.len()
        && short[..whole] == long[..whole]
        && short.last().is_none_or(|it| it.0 == long[whole].0 && long[whole].1.starts_with(&it.1))
}

/// The model that plays them.
#[derive(Debug)]
pub(crate) struct Player {
    pub(crate) seed: u64,
    pub(crate) oracle: Arc<Oracle>,
}

impl Model for Player {
    fn ask(&self, prompt: Prompt) -> BoxStream<'static, Result<Piece, ModelError>> {
        self.oracle.prompted(&prompt);
        let request = prompt.messages.last().map(PromptMessage::said).unwrap_or_default();
        let steps = Script::of(self.seed, &request).steps;
        stream::iter(steps).filter_map(play).boxed()
    }

    fn takes(&self, _model: &str, _media_type: &str) -> bool {
        false
    }
}

async fn play(step: Step) -> Option<Result<Piece, ModelError>> {
    match step {
        Step::Say(piece) => return Some(Ok(piece)),
        Step::Yield => tokio::task::yield_now().await,
        Step::Wait(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
        Step::Fail => {
            let (reason, message) = (Reason::Unavailable, "the script ends here".to_owned());
            return Some(Err(ModelError { reason, message, retry_after_ms: None }));
        }
    }
    None
}
