//! What can an answer be made of, and how is that written down?

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Steps of one script.
pub const STEPS_MAX: usize = 10_000;
/// Pieces of one `pieces` step.
pub const PIECES_MAX: u64 = 1_000_000;
/// The model name whose scripts answer for every model that has none of its own.
pub const ANY_MODEL: &str = "*";

/// What `POST /control/script` takes: scripts put at the end of a model's queue.
///
/// Each request of the model takes the next script. With `repeat`, which is the default, the last one answers all
/// further requests until more are installed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Install {
    /// The model, or `*` for every one that has no script of its own.
    #[serde(default = "any_model")]
    pub model: String,
    /// One script: a list of steps.
    #[serde(default)]
    pub script: Option<Script>,
    /// Several of them, for one request each.
    #[serde(default)]
    pub scripts: Vec<Script>,
    /// Whether the last one stays.
    #[serde(default = "yes")]
    pub repeat: bool,
}

fn any_model() -> String {
    ANY_MODEL.to_owned()
}

fn yes() -> bool {
    true
}

/// The steps of one answer, checked.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Vec<Value>")]
pub struct Script {
    pub(super) steps: Vec<Step>,
}

/// One step; its JSON is an object with one member that names it.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// `{"text": "..."}`: a piece.
    Text(String),
    /// `{"reasoning": "...", "field"?: "reasoning_content" | "reasoning"}`: a piece of reasoning, in the field that
    /// one or the other family of servers uses.
    Reasoning(String, &'static str),
    /// `{"pieces": N, "text"?: "w{i} ", "every_ms"?: M}`: N pieces, all at once or one each M ms.
    Pieces(u64, String, Option<Duration>),
    /// `{"delay_ms": N}`.
    Delay(Duration),
    /// `{"hold": "name"}`: waits until the hold is released.
    Hold(String),
    /// `{"status": 429, "headers"?: {...}, "body"?: ...}`: an HTTP error instead of an answer.
    Status(u16, Vec<(String, String)>, Option<Value>),
    /// `{"error": {...}}`: an error object in the stream, which ends without `[DONE]`.
    Error(Value),
    /// `{"raw": "..."}` or `{"raw_base64": "..."}`: bytes of the body as they are.
    Raw(Vec<u8>),
    /// `{"cut": true}`: closes the socket.
    Cut,
    /// `{"cut_at_byte": K}`: closes the socket when K bytes of the body are sent; holds for the whole answer.
    CutAtByte(u64),
    /// `{"split": N}`: from here on the body is sent in HTTP chunks of N bytes; 0 ends it.
    Split(usize),
    /// `{"usage": {...}}`: what the usage chunk says.
    Usage(Value),
    /// `{"finish": "stop"}`; `null` leaves out the finishing chunk and the usage.
    Finish(Option<String>),
    /// `{"done": false}` leaves out `[DONE]`.
    Done(bool),
    /// `{"stall": true}`: sends nothing more, and stays.
    Stall,
    /// `{"echo": true}`: the last user message, word by word.
    Echo,
    /// `{"head": true}`: sends the head, which otherwise goes out with the first bytes of the body.
    Head,
}

impl Script {
    /// What a model without a script answers.
    pub(super) fn built_in(model: &str) -> Script {
        let count = model.strip_prefix("pieces-").and_then(|it| it.parse().ok());
        let step = match count {
            Some(count) => Step::Pieces(u64::min(count, PIECES_MAX), "w{i} ".to_owned(), None),
            None => Step::Echo,
        };
        Script { steps: vec![step] }
    }

    /// Where the whole answer is cut.
    pub(super) fn cut_at(&self) -> Option<u64> {
        self.steps.iter().find_map(|step| match step {
            Step::CutAtByte(at) => Some(*at),
            _ => None,
        })
    }
}

impl TryFrom<Vec<Value>> for Script {
    type Error = String;

    fn try_from(values: Vec<Value>) -> Result<Script, String> {
        if values.len() > STEPS_MAX {
            return Err(format!("a script is limited to {STEPS_MAX} steps"));
        }
        let steps = values.into_iter().map(Step::parse).collect::<Result<Vec<_>, _>>()?;
        let sends = steps.iter().position(Step::sends).unwrap_or(steps.len());
        if steps.iter().skip(sends).any(|step| matches!(step, Step::Status(..))) {
            return Err("a `status` cannot come after a step that sends".to_owned());
        }
        Ok(Script { steps })
    }
}

impl Step {
    fn sends(&self) -> bool {
        use Step::{Echo, Error, Head, Pieces, Raw, Reasoning, Text};
        matches!(self, Text(_) | Reasoning(..) | Pieces(..) | Error(_) | Raw(_) | Echo | Head)
    }

    fn parse(value: Value) -> Result<Step, String> {
        let Value::Object(mut members) = value else {
            return Err(format!("a step is an object, not `{value}`"));
        };
        let shown = Value::Object(members.clone());
        let step = Step::take(&mut members).map_err(|err| format!("step `{shown}`: {err}"))?;
        match members.keys().next() {
            Some(name) => Err(format!("step `{shown}`: unknown member `{name}`")),
            None => Ok(step),
        }
    }

    fn take(members: &mut Map<String, Value>) -> Result<Step, String> {
        // `pieces` comes first because it has a `text` too.
        const NAMES: [&str; 18] = [
            "pieces",
            "text",
            "reasoning",
            "delay_ms",
            "hold",
            "status",
            "error",
            "raw",
            "raw_base64",
            "cut",
            "cut_at_byte",
            "split",
            "usage",
            "finish",
            "done",
            "stall",
            "echo",
            "head",
        ];
        let name = NAMES
            .into_iter()
            .find(|name| members.contains_key(*name))
            .ok_or_else(|| format!("it has none of {}", NAMES.join(", ")))?;
        let main = members.remove(name).expect("it was just found");
        match name {
            "pieces" => pieces(main, members),
            "text" => Ok(Step::Text(read(main)?)),
            "reasoning" => {
                match members.remove("field").map(read::<String>).transpose()?.as_deref() {
                    None | Some("reasoning_content") => {
                        Ok(Step::Reasoning(read(main)?, "reasoning_content"))
                    }
                    Some("reasoning") => Ok(Step::Reasoning(read(main)?, "reasoning")),
                    Some(other) => Err(format!("`{other}` is no field of reasoning")),
                }
            }
            "delay_ms" => Ok(Step::Delay(Duration::from_millis(read(main)?))),
            "hold" => Ok(Step::Hold(read(main)?)),
            "status" => status(main, members),
            "error" => Ok(Step::Error(main)),
            "raw" => Ok(Step::Raw(read::<String>(main)?.into_bytes())),
            "raw_base64" => {
                let text: String = read(main)?;
                STANDARD.decode(text).map(Step::Raw).map_err(|err| err.to_string())
            }
            "cut" => set(main, Step::Cut),
            "cut_at_byte" => Ok(Step::CutAtByte(read(main)?)),
            "split" => Ok(Step::Split(read(main)?)),
            "usage" => Ok(Step::Usage(main)),
            "finish" => Ok(Step::Finish(read(main)?)),
            "done" => Ok(Step::Done(read(main)?)),
            "stall" => set(main, Step::Stall),
            "echo" => set(main, Step::Echo),
            _ => set(main, Step::Head),
        }
    }
}

fn pieces(count: Value, members: &mut Map<String, Value>) -> Result<Step, String> {
    let count = read(count)?;
    if count > PIECES_MAX {
        return Err(format!("pieces are limited to {PIECES_MAX}"));
    }
    let text = match members.remove("text") {
        Some(text) => read(text)?,
        None => "w{i} ".to_owned(),
    };
    let every = members.remove("every_ms").map(read).transpose()?.map(Duration::from_millis);
    Ok(Step::Pieces(count, text, every))
}

fn status(status: Value, members: &mut Map<String, Value>) -> Result<Step, String> {
    let headers: Map<String, Value> =
        members.remove("headers").map(read).transpose()?.unwrap_or_default();
    let headers = headers
        .into_iter()
        .map(|(name, value)| Ok((name, read::<String>(value)?)))
        .collect::<Result<_, String>>()?;
    Ok(Step::Status(read(status)?, headers, members.remove("body")))
}

fn set(value: Value, step: Step) -> Result<Step, String> {
    if value == Value::Bool(true) { Ok(step) } else { Err(format!("`{value}` is not `true`")) }
}

fn read<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|err| err.to_string())
}
