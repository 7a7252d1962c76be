//! A session out of the Markdown that an export wrote for people: each message as one text.

use sess_protocol::id::{MessageId, SessionId, TaskId, ThreadId};
use sess_protocol::things::{Block, Message, Mode, Role, Scope, Session, SessionStatus, Usage};
use sess_protocol::time::Timestamp;

use super::rebuild::Heard;
use crate::world::World;

/// What separates messages.
const RULE: &str = "---";

/// One message as it lies in the file.
struct Section {
    role: Role,
    at: Timestamp,
    model: Option<String>,
    text: String,
}

/// Reads a file; the session is a new one, with new ids.
///
/// # Errors
/// It is no such file, and in which line.
pub fn read(text: &str, world: &dyn World, model: &str) -> Result<Heard, String> {
    // All returns before a line's end, so that what is written again and read again is the same.
    let lines: Vec<&str> = text.split('\n').map(|it| it.trim_end_matches('\r')).collect();
    let title = lines.first().and_then(|it| it.strip_prefix("# "));
    let title = title.ok_or("line 1: it is not the `# ` title of an exported session")?;
    let begin = lines.iter().position(|it| *it == RULE);
    let begin = begin.ok_or("no line is the `---` behind the head")?;
    let member = |name: &str| {
        let head = lines[..begin].iter();
        head.filter_map(|it| it.strip_prefix("**")?.strip_prefix(name)?.strip_prefix(":** ")).next()
    };
    let created = member("Created").ok_or("the head has no line `**Created:** `")?;
    let created = created.parse().map_err(|_| format!("`{created}` is no moment"))?;
    let sections = sections(&lines, begin)?;
    let count = member("Messages").and_then(|it| it.parse().ok());
    if count != Some(sections.len()) {
        let says = member("Messages").unwrap_or("nothing");
        let found = sections.len();
        return Err(format!("{found} messages are there, and the head says {says}"));
    }
    let model = member("Model").unwrap_or(model).to_owned();
    let session = session(world, title, model, created);
    Ok(Heard { session, messages: messages(sections, world), blobs: Vec::new() })
}

/// Where a message begins: a rule before it, then who speaks, then when.
fn opening(lines: &[&str], rule: usize) -> Option<(Role, Timestamp, Option<String>)> {
    let [RULE, "", who, "", when, ..] = lines.get(rule..)? else { return None };
    let role = match who.strip_prefix("## ")? {
        "System" => Role::System,
        "User" => Role::User,
        "Assistant" => Role::Assistant,
        "Tool" => Role::Tool,
        _ => return None,
    };
    let mut about = when.strip_prefix('*')?.strip_suffix('*')?.split(" · ");
    let at = about.next()?.parse().ok()?;
    let model = about.next().filter(|it| it.contains('/')).map(str::to_owned);
    Some((role, at, model))
}

fn sections(lines: &[&str], begin: usize) -> Result<Vec<Section>, String> {
    let (mut found, mut rule) = (Vec::new(), begin);
    while lines[rule + 1..].iter().any(|it| !it.trim().is_empty()) {
        let (role, at, model) = opening(lines, rule)
            .ok_or_else(|| format!("line {}: no message begins behind it", rule + 1))?;
        let body = rule + 5;
        // A rule in the text is the text's; one before a message, or the last of all, is ours.
        let is_end = |at: &usize| {
            lines[*at] == RULE
                && (opening(lines, *at).is_some()
                    || lines[at + 1..].iter().all(|it| it.trim().is_empty()))
        };
        let end = (body..lines.len()).find(is_end);
        let end = end.ok_or_else(|| format!("line {}: the message has no end", rule + 3))?;
        let text = lines[body..end].join("\n").trim_matches('\n').to_owned();
        found.push(Section { role, at, model, text });
        rule = end;
    }
    Ok(found)
}

fn session(world: &dyn World, title: &str, model: String, at: Timestamp) -> Session {
    Session {
        id: SessionId(world.random()),
        title: title.to_owned(),
        status: SessionStatus::Active,
        model,
        mode: Mode::Ask,
        scope: Scope::Global,
        agent: "general".to_owned(),
        thread: ThreadId::main(),
        created_at: at,
        updated_at: at,
        active_at: at,
        messages: 0,
        tasks: 0,
        usage: Usage::default(),
        iterations: 0,
        queued: 0,
        approvals: 0,
        followers: 0,
        seq: 0,
        metadata: Default::default(),
        tags: Vec::new(),
        preview: None,
        description: None,
        system: None,
        workspace: None,
        running: None,
        lock: None,
        budget: None,
        ephemeral: None,
        parent: None,
    }
}

/// The messages: each request begins a task. What a tool gave back joins the answer before it, since
/// as a text it is no result that a model could be shown.
fn messages(sections: Vec<Section>, world: &dyn World) -> Vec<Message> {
    let mut messages: Vec<Message> = Vec::new();
    let mut task = None;
    for Section { role, at, model, text } in sections {
        if text.is_empty() {
            continue;
        }
        let role = if role == Role::Tool { Role::Assistant } else { role };
        if role == Role::User {
            task = Some(TaskId(world.ordered()));
        }
        if role == Role::Assistant
            && let Some(last) = messages.last_mut().filter(|it| it.role == role)
            && let Some(Block::Text { text: before, .. }) = last.content.first_mut()
        {
            before.push_str("\n\n");
            before.push_str(&text);
            last.at = at;
            continue;
        }
        let id = MessageId(world.ordered());
        let mut message = Message::empty(id, &ThreadId::main(), 0, role, at);
        (message.content, message.task, message.model) = (vec![Block::text(text)], task, model);
        messages.push(message);
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::RealWorld;

    const PAGE: &str = "# a title\n\n**Session:** sess_1\n**Created:** 2026-11-21T10:00:00.000Z\n\
        **Model:** echo/echo\n**Messages:** 2\n\n---\n\n## User\n\n*2026-11-21T10:00:00.000Z*\n\n\
        hi\n\n---\n\n## User\n\nno moment\n\n---\n\n## Assistant\n\n\
        *2026-11-21T10:00:01.000Z · echo/echo · 3 tokens*\n\nho\n\n---\n\n";

    fn refused(page: &str) -> String {
        read(page, &RealWorld::default(), "echo/echo").map(|_| ()).expect_err("refused")
    }

    #[test]
    fn a_rule_in_a_text_stays_in_it() {
        let heard = read(PAGE, &RealWorld::default(), "a/b").expect("read");
        let texts: Vec<&Block> = heard.messages.iter().flat_map(|it| &it.content).collect();
        let first = Block::text("hi\n\n---\n\n## User\n\nno moment");
        assert_eq!(texts, [&first, &Block::text("ho")]);
        assert_eq!(heard.messages[1].model.as_deref(), Some("echo/echo"));
        assert_eq!(heard.messages[0].task, heard.messages[1].task);
    }

    #[test]
    fn what_is_no_page_is_refused_with_its_place() {
        assert!(refused("hello").contains("line 1"));
        assert!(refused("# a\n\nb\n").contains("`---`"));
        assert!(
            refused(&PAGE.replace("**Messages:** 2", "**Messages:** 3")).contains("head says 3")
        );
        let cut = PAGE.len() - "ho\n\n---\n\n".len();
        assert!(refused(&PAGE[..cut]).contains("has no end"), "{}", refused(&PAGE[..cut]));
        let odd = PAGE.replacen("## User", "## Nobody", 1);
        assert!(refused(&odd).contains("line 8"), "{}", refused(&odd));
    }
}
