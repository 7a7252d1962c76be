//! A session as one file for a browser: everything escaped, no script, nothing loaded from elsewhere.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sess_protocol::things::{Block, Message, Role, Session};
use sess_protocol::turn::{TurnBlock, split};

/// What a browser is told of the page. The policy is for what escaping may have missed.
const TOP: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
"#;

const STYLE: &str = r#"<style>
:root { color-scheme: light dark; --line: #8886; --soft: #8882; --faint: #777; }
body { max-width: 50rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif; }
header { border-bottom: 1px solid var(--line); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 1rem; font-size: .9rem; }
dt, .at { color: var(--faint); }
dd { margin: 0; overflow-wrap: anywhere; }
article { border-bottom: 1px solid var(--line); padding: 1rem 0; }
article.user { background: var(--soft); padding: 1rem; }
h2 { font-size: 1rem; margin: 0; }
.at { font-size: .85rem; margin: 0; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; margin: .75rem 0; }
pre { background: var(--soft); border: 1px solid var(--line); padding: .75rem; overflow-x: auto; }
blockquote, details { color: var(--faint); margin: .75rem 0; }
img { max-width: 100%; height: auto; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
td, th { border: 1px solid var(--line); padding: .25rem .5rem; text-align: left; }
ul.tasks { list-style: none; padding-left: 0; }
</style>
"#;

/// The end of the page.
pub const END: &str = "</main>\n</body>\n</html>\n";

/// The top of the page.
#[must_use]
pub fn head(session: &Session, messages: u64) -> String {
    let title = escaped(&session.title.split_whitespace().collect::<Vec<_>>().join(" "));
    let mut text = format!("{TOP}<title>{title}</title>\n{STYLE}</head>\n<body>\n<header>\n");
    text.push_str(&format!("<h1>{title}</h1>\n<dl>\n"));
    let mut row = |name: &str, value: &str| {
        text.push_str(&format!("<dt>{name}</dt><dd>{}</dd>\n", escaped(value)));
    };
    row("Session", &session.id.to_string());
    row("Created", &session.created_at.to_string());
    row("Updated", &session.updated_at.to_string());
    row("Model", &session.model);
    if let Some(cost) = &session.usage.cost_usd {
        row("Cost", &format!("{cost} USD"));
    }
    row("Messages", &messages.to_string());
    text.push_str("</dl>\n</header>\n<main>\n");
    text
}

/// One message with all its blocks; texts and pictures that were put apart must be whole again.
#[must_use]
pub fn message(message: &Message) -> String {
    let (class, who) = match message.role {
        Role::System => ("system", "System"),
        Role::User => ("user", "User"),
        Role::Assistant => ("assistant", "Assistant"),
        Role::Tool => ("tool", "Tool"),
    };
    let mut about = vec![message.at.to_string()];
    about.extend(message.model.clone());
    if let Some(usage) = &message.usage {
        about.push(format!("{} tokens", usage.total_tokens));
        about.extend(usage.cost_usd.as_ref().map(|it| format!("{it} USD")));
    }
    let about = escaped(&about.join(" · "));
    let mut text = format!("<article class=\"{class}\" id=\"{}\">\n", message.id);
    text.push_str(&format!("<h2>{who}</h2>\n<p class=\"at\">{about}</p>\n"));
    for it in &message.content {
        text.push_str(&block(it, message.role == Role::Assistant));
    }
    text.push_str("</article>\n");
    text
}

/// One block; a text is taken apart only where the model wrote it.
fn block(block: &Block, is_answer: bool) -> String {
    match block {
        Block::Text { text, .. } if is_answer => split(text).iter().map(drawn).collect(),
        Block::Text { text, .. } => plain(text),
        Block::Reasoning { text, .. } => {
            format!("<details>\n<summary>Thought</summary>\n{}</details>\n", plain(text))
        }
        Block::Image { media_type, data, .. } => match data {
            Some(data) if is_picture(media_type) => {
                picture(&format!("data:{media_type};base64,{data}"), "")
            }
            _ => plain(&format!("[{media_type}]")),
        },
        Block::File { name, text, bytes, .. } => {
            let size = bytes.map(|it| format!(", {it} bytes")).unwrap_or_default();
            let content = text.as_deref().map(code).unwrap_or_default();
            format!("{}{content}", plain(&format!("File: {name}{size}")))
        }
        Block::ToolUse { name, input, .. } => {
            let input = serde_json::to_string_pretty(input).unwrap_or_default();
            format!("<p>Tool call: <code>{}</code></p>\n{}", escaped(name), code(&input))
        }
        Block::ToolResult { content, is_error, .. } => {
            let how = if *is_error { "Tool result, an error" } else { "Tool result" };
            let inner: String = content.iter().map(|it| self::block(it, false)).collect();
            format!("<details open>\n<summary>{how}</summary>\n{inner}</details>\n")
        }
    }
}

/// One block of an answer.
fn drawn(block: &TurnBlock) -> String {
    let content = &block.content;
    let member = |name: &str| content.get(name).and_then(Value::as_str).unwrap_or("");
    let text = content.as_str().unwrap_or("");
    match block.kind.as_str() {
        "text" => plain(text),
        // As a picture: there nothing in it runs or loads.
        "svg" => picture(&format!("data:image/svg+xml;base64,{}", STANDARD.encode(text)), ""),
        "image" if member("src").starts_with("data:") => picture(member("src"), member("alt")),
        "image" => link(member("src"), member("alt")),
        "link" => link(member("url"), member("title")),
        "table" => table(content),
        "tasklist" => tasks(content),
        _ => code(text),
    }
}

fn plain(text: &str) -> String {
    format!("<div class=\"text\">{}</div>\n", escaped(text.trim_end()))
}

fn code(text: &str) -> String {
    // The first line end behind the tag is not shown: without one, an empty first line would be lost.
    format!("<pre><code>\n{}</code></pre>\n", escaped(text))
}

fn picture(src: &str, alt: &str) -> String {
    format!("<p><img src=\"{}\" alt=\"{}\"></p>\n", escaped(src), escaped(alt))
}

fn link(address: &str, title: &str) -> String {
    let title = if title.is_empty() { address } else { title };
    let address = escaped(address);
    format!("<p><a href=\"{address}\" rel=\"noreferrer noopener\">{}</a></p>\n", escaped(title))
}

fn table(content: &Value) -> String {
    let row = |cells: &Value, tag: &str| {
        let cells = cells.as_array().into_iter().flatten().filter_map(Value::as_str);
        let cells: String = cells.map(|it| format!("<{tag}>{}</{tag}>", escaped(it))).collect();
        format!("<tr>{cells}</tr>\n")
    };
    let rows = content["rows"].as_array().into_iter().flatten();
    let rows: String = rows.map(|it| row(it, "td")).collect();
    format!("<table>\n{}{rows}</table>\n", row(&content["headers"], "th"))
}

fn tasks(content: &Value) -> String {
    let items = content["tasks"].as_array().into_iter().flatten().map(|it| {
        let sign = if it["status"] == "done" { "☑" } else { "☐" };
        format!("<li>{sign} {}</li>\n", escaped(it["title"].as_str().unwrap_or("")))
    });
    format!("<ul class=\"tasks\">\n{}</ul>\n", items.collect::<String>())
}

/// Whether this is a media type of pictures, and nothing that could end an attribute.
fn is_picture(media_type: &str) -> bool {
    let plain = |it: u8| it.is_ascii_alphanumeric() || b".+-".contains(&it);
    media_type.strip_prefix("image/").is_some_and(|it| !it.is_empty() && it.bytes().all(plain))
}

/// A text that means nothing to a browser, between tags and in attributes alike.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 16);
    for sign in text.chars() {
        match sign {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // No page may hold it.
            '\0' => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_was_said_means_anything_to_a_browser() {
        let evil = "<script>alert(1)</script><img src=x onerror='a'>\"&";
        let blocks = [
            Block::text(evil),
            Block::reasoning(evil),
            Block::text(format!(
                "```html\n{evil}\n```\n| {evil} |\n|-|\n| {evil} |\n- [ ] {evil}\n"
            )),
            Block::text(
                "[\"><script>](https://x.y/\"onclick=\"a)\n<svg onload=\"a\"><script/></svg>",
            ),
            Block::Image {
                media_type: "image/png\" onerror=\"a".to_owned(),
                data: Some("AA==".to_owned()),
                blob: None,
                bytes: None,
            },
        ];
        for it in &blocks {
            for is_answer in [true, false] {
                let page = block(it, is_answer);
                for bad in ["<script", "<img src=x", "\"onclick", "<svg", " onerror=\"a\""] {
                    assert!(!page.contains(bad), "{bad} in {page}");
                }
            }
        }
        assert_eq!(escaped("a<'\0"), "a&lt;&#39;\u{fffd}");
    }
}
