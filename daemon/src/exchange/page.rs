//! A session as a page for people: the messages of a path, in Markdown.

use sess_protocol::things::{Block, Message, Role, Session};

/// The top of the page.
#[must_use]
pub fn head(session: &Session, messages: u64) -> String {
    let mut text = format!("# {}\n\n", one_line(&session.title));
    let mut line = |name: &str, value: &str| text.push_str(&format!("**{name}:** {value}\n"));
    line("Session", &session.id.to_string());
    line("Created", &session.created_at.to_string());
    line("Updated", &session.updated_at.to_string());
    line("Model", &session.model);
    if let Some(cost) = &session.usage.cost_usd {
        line("Cost", &format!("{cost} USD"));
    }
    line("Messages", &messages.to_string());
    text.push_str("\n---\n\n");
    text
}

/// One message with all its blocks; texts that were put apart must be whole again.
#[must_use]
pub fn message(message: &Message) -> String {
    let who = match message.role {
        Role::System => "System",
        Role::User => "User",
        Role::Assistant => "Assistant",
        Role::Tool => "Tool",
    };
    let mut text = format!("## {who}\n\n*{}", message.at);
    if let Some(model) = &message.model {
        text.push_str(&format!(" · {model}"));
    }
    if let Some(usage) = &message.usage {
        text.push_str(&format!(" · {} tokens", usage.total_tokens));
        if let Some(cost) = &usage.cost_usd {
            text.push_str(&format!(" · {cost} USD"));
        }
    }
    text.push_str("*\n\n");
    for it in &message.content {
        text.push_str(&block(it));
        text.push_str("\n\n");
    }
    text.push_str("---\n\n");
    text
}

fn block(block: &Block) -> String {
    let name = |it: &Option<String>| it.clone().unwrap_or_default();
    match block {
        Block::Text { text, .. } => text.trim_end().to_owned(),
        Block::Reasoning { text, .. } => {
            let quoted: Vec<String> = text.trim_end().lines().map(|it| format!("> {it}")).collect();
            quoted.join("\n")
        }
        Block::Image { media_type, blob, .. } => format!("![{media_type}]({})", name(blob)),
        Block::File { name: file, text, blob, .. } => match text {
            Some(text) => format!("**File:** `{file}`\n\n{}", fenced("", text)),
            None => format!("**File:** [{}]({})", one_line(file), name(blob)),
        },
        Block::ToolUse { name, input, .. } => {
            let input = serde_json::to_string_pretty(input).unwrap_or_default();
            format!("**Tool Call:** `{name}`\n\n{}", fenced("json", &input))
        }
        Block::ToolResult { content, is_error, .. } => {
            let inner: Vec<String> = content.iter().map(self::block).collect();
            let inner = fenced("", &inner.join("\n\n"));
            format!("**Tool Result** (error={is_error}):\n\n{inner}")
        }
    }
}

/// A fence longer than any in the text, so that nothing in it ends it.
fn fenced(language: &str, text: &str) -> String {
    let (mut longest, mut run) = (0, 0);
    for letter in text.chars() {
        run = if letter == '`' { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    let fence = "`".repeat((longest + 1).max(3));
    format!("{fence}{language}\n{}\n{fence}", text.trim_end_matches('\n'))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_is_longer_than_what_it_holds() {
        assert_eq!(fenced("json", "{}"), "```json\n{}\n```");
        assert_eq!(fenced("", "a\n````\nb\n"), "`````\na\n````\nb\n`````");
    }
}
