//! How does a message look on the screen?
//!
//! Read as plain JSON: a role or a block that this client does not know is shown as well as it can be.

use serde_json::Value;
use sess_client::{Caller, Failure, blob};
use sess_protocol::view::Members;

use super::CLIENT;
use super::answer::Show;
use super::output::{Output, Stop};

/// Digits of an id that tell it from the others of one person.
const SHORT_DIGITS: usize = 8;

/// The digits of an id that a person types.
pub(crate) fn short(id: &str) -> String {
    let digits = id.split_once('_').map_or(id, |(_, digits)| digits);
    digits.chars().take(SHORT_DIGITS).collect()
}

/// A member that is a string, else nothing.
pub(crate) fn word<'a>(members: &'a Members, name: &str) -> &'a str {
    members.get(name).and_then(Value::as_str).unwrap_or("")
}

/// A word of the protocol as it is written there.
pub(crate) fn wire_word(word: &impl serde::Serialize) -> String {
    let value = serde_json::to_value(word).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}

/// Prints a message with its heading; `live` when it is said at this moment.
pub(crate) async fn message(
    output: &mut Output,
    caller: &mut Caller,
    message: &Members,
    live: bool,
) -> Result<(), Stop> {
    heading(output, message, live)?;
    let blocks = message.get("content").and_then(Value::as_array);
    for block in blocks.into_iter().flatten().filter_map(Value::as_object) {
        print_block(output, caller, block, word(message, "role") == "assistant").await?;
    }
    if word(message, "status") == "partial" {
        output.line("[cut off here]")?;
    }
    Ok(())
}

/// Who speaks: the line above a message.
pub(crate) fn heading(output: &mut Output, message: &Members, live: bool) -> Result<(), Stop> {
    let by = message.get("by").and_then(Value::as_object).and_then(|it| stranger(it, live));
    let who = match (word(message, "role"), word(message, "model"), by) {
        (role, "", None) => role.to_owned(),
        (role, "", Some(by)) => format!("{role} (by {by})"),
        (role, model, _) => format!("{role} ({model})"),
    };
    output.end_line()?;
    output.heading(&format!("── {who}"))
}

/// Who said it, when it was another program. Of those that bear our name only one that speaks at this
/// moment is another: what was said before by `sess` is not worth a word.
fn stranger(by: &Members, live: bool) -> Option<String> {
    let (client, pid) = (word(by, "client"), by.get("pid").and_then(Value::as_u64)?);
    let other = client != CLIENT || (live && pid != u64::from(std::process::id()));
    other.then(|| format!("{client} {pid}"))
}

async fn print_block(
    output: &mut Output,
    caller: &mut Caller,
    block: &Members,
    answers: bool,
) -> Result<(), Stop> {
    match word(block, "type") {
        "text" => {
            let text = whole_text(caller, block).await?;
            if answers {
                output.answer(&text)?
            } else {
                output.text(&text)?
            };
            output.end_line()
        }
        "reasoning" => {
            let bytes = size(block);
            output.line(&format!("[thought: {bytes} bytes]"))
        }
        "tool_use" => {
            let input = block.get("input").map(ToString::to_string).unwrap_or_default();
            output.line(&format!("[tool {}: {input}]", word(block, "name")))
        }
        "tool_result" => {
            let inner = block.get("content").and_then(Value::as_array);
            for text in inner.into_iter().flatten().filter_map(Value::as_object) {
                output.text(&whole_text(caller, text).await?)?;
                output.end_line()?;
            }
            Ok(())
        }
        kind => {
            let name = [word(block, "name"), word(block, "media_type")].join(" ");
            output.line(&format!("[{kind} {}: {} bytes]", name.trim(), size(block)))
        }
    }
}

fn size(block: &Members) -> u64 {
    let text = word(block, "text").len() as u64;
    block.get("bytes").and_then(Value::as_u64).unwrap_or(text)
}

/// The whole text of a block, also where the event holds only its beginning.
async fn whole_text(caller: &mut Caller, block: &Members) -> Result<String, Failure> {
    match block.get("blob").and_then(Value::as_str) {
        Some(blob) if block.contains_key("text") => blob::text(caller, blob).await,
        _ => Ok(word(block, "text").to_owned()),
    }
}

/// The reasoning and the text of a message, each in one piece.
pub(crate) async fn texts(
    caller: &mut Caller,
    message: &Members,
) -> Result<(String, String), Failure> {
    let (mut reasoning, mut text) = (String::new(), String::new());
    let blocks = message.get("content").and_then(Value::as_array);
    for block in blocks.into_iter().flatten().filter_map(Value::as_object) {
        match word(block, "type") {
            "text" => text.push_str(&whole_text(caller, block).await?),
            "reasoning" => reasoning.push_str(&whole_text(caller, block).await?),
            _ => {}
        }
    }
    Ok((reasoning, text))
}

/// Does on the screen what an answer asks for.
pub(crate) fn show(output: &mut Output, shows: Vec<Show>) -> Result<(), Stop> {
    for show in shows {
        match show {
            Show::Begin => {}
            Show::Text(text) => output.answer(&text)?,
            Show::Reasoning(text) => output.reasoning(&text)?,
            Show::Again => {
                output.end_line()?;
                output.note("the model began its answer again")?;
            }
            Show::Shorter(bytes) => {
                output.end_line()?;
                output
                    .note(&format!("the last {bytes} bytes shown are not part of what was kept"))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_short_id_is_its_first_digits() {
        assert_eq!(super::short("sess_1f2e3d4c5b6a49788796a5b4c3d2e1f0"), "1f2e3d4c");
        assert_eq!(super::short("global"), "global");
    }
}
