//! Does a conversation with the daemon read as it did before?
//!
//! A transcript is a text file that is both the script and what must come back:
//!
//! | line | says |
//! | --- | --- |
//! | `> {"id":1,"method":...}` | this line is sent, and its answer waited for |
//! | `b> ...` | the same on another connection, opened at its first line |
//! | `< ...` | the answer, or a notification, as it came |
//! | `~ task.completed` | notifications are waited for up to an event of this type |
//! | `# ...` and empty lines | are for people |
//!
//! Ids, times and cursors read `<task 1>`, `<time>`, `<cursor 1>`; in lines that are sent the same names stand
//! for what came before. With `SESS_BLESS=1` files are written anew from what came.

use std::collections::HashMap;
use std::fmt::Write;
use std::path::Path;

use serde_json::Value;

use super::{Daemon, Told, Wire, within};

/// The variable that has transcripts written anew.
pub const BLESS_VARIABLE: &str = "SESS_BLESS";

/// Members whose values are never the same twice, with what is shown in their place.
const VARYING: &[(&str, &str)] = &[
    ("pid", "<pid>"),
    ("version", "<version>"),
    ("ttft_ms", "<ms>"),
    ("duration_ms", "<ms>"),
    ("uptime_ms", "<ms>"),
    ("rss_bytes", "<bytes>"),
    ("history", "<history>"),
    ("endpoint", "<endpoint>"),
    ("capabilities", "<capabilities>"),
    ("limits", "<limits>"),
];
/// Members that are cursors.
const CURSORS: &[&str] = &["cursor", "next"];

/// Plays the conversation in the file at `path` and holds what comes back against it.
///
/// # Panics
/// When it reads differently.
pub async fn hold(daemon: &Daemon, path: &Path) {
    let script = std::fs::read_to_string(path).expect("the transcript is there");
    let seen = Play::new(daemon).all(&script).await;
    if std::env::var_os(BLESS_VARIABLE).is_some_and(|it| it == "1") {
        std::fs::write(path, seen).expect("the transcript can be written");
        return;
    }
    if seen != script {
        panic!("`{}` reads differently:\n{}", path.display(), difference(&script, &seen));
    }
}

struct Play<'a> {
    daemon: &'a Daemon,
    wires: HashMap<String, Wire>,
    names: Names,
    seen: String,
}

impl<'a> Play<'a> {
    fn new(daemon: &'a Daemon) -> Play<'a> {
        Play { daemon, wires: HashMap::new(), names: Names::default(), seen: String::new() }
    }

    async fn all(mut self, script: &str) -> String {
        for line in script.lines().filter(|line| !is_received(line)) {
            writeln!(self.seen, "{line}").expect("a text takes all");
            let words = line.split_once(' ');
            match words {
                Some((who, rest)) if who.ends_with('>') => self.say(who, rest).await,
                Some((who, kind)) if who.ends_with('~') => self.hear(who, kind).await,
                _ => assert!(line.is_empty() || line.starts_with('#'), "what is `{line}`?"),
            }
        }
        self.seen
    }

    async fn say(&mut self, who: &str, line: &str) {
        let who = who.trim_end_matches('>').to_owned();
        let line = self.names.put_back(line);
        let request: Value = serde_json::from_str(&line).expect("a transcript sends JSON");
        let daemon = self.daemon;
        if !self.wires.contains_key(&who) {
            self.wires.insert(who.clone(), daemon.wire().await);
        }
        let wire = self.wires.get_mut(&who).expect("it was just put in");
        let answer = within("an answer", wire.raw_call(&line, &request["id"])).await;
        self.write(&who, answer);
    }

    async fn hear(&mut self, who: &str, kind: &str) {
        let who = who.trim_end_matches('~').to_owned();
        let wire = self.wires.get_mut(&who).expect("one must speak before it hears");
        let all = wire.until(|it| it.kind() == kind).await;
        for told in joined(all) {
            let line = serde_json::json!({"method": told.method, "params": told.params});
            self.write(&who, line);
        }
    }

    fn write(&mut self, who: &str, mut line: Value) {
        line.as_object_mut().expect("a line is an object").remove("jsonrpc");
        self.names.take_in("", &mut line);
        writeln!(self.seen, "{who}< {line}").expect("a text takes all");
    }
}

fn is_received(line: &str) -> bool {
    line.split_once(' ').is_some_and(|(who, _)| who.ends_with('<'))
}

/// How many pieces an answer comes in is left to the daemon: pieces that follow each other are one.
fn joined(all: Vec<Told>) -> Vec<Told> {
    let mut out: Vec<Told> = Vec::new();
    for told in all {
        let same = |a: &Told, b: &Told| {
            a.method == "delta" && b.method == "delta" && a.params["block"] == b.params["block"]
        };
        match out.last_mut() {
            Some(last) if same(last, &told) => {
                let text = [&last.params["text"], &told.params["text"]].map(|it| it.as_str());
                last.params["text"] = text.into_iter().flatten().collect::<String>().into();
            }
            _ => out.push(told),
        }
    }
    out
}

/// What stands for ids and cursors.
#[derive(Default)]
struct Names {
    by_value: HashMap<String, String>,
    counts: HashMap<String, u32>,
}

impl Names {
    fn put_back(&self, line: &str) -> String {
        let mut line = line.to_owned();
        for (value, name) in &self.by_value {
            line = line.replace(name, value);
        }
        line
    }

    fn take_in(&mut self, member: &str, value: &mut Value) {
        if let Some((_, shown)) = VARYING.iter().find(|(name, _)| *name == member)
            && !value.is_null()
        {
            *value = (*shown).into();
            return;
        }
        match value {
            Value::Array(items) => items.iter_mut().for_each(|it| self.take_in(member, it)),
            Value::Object(members) => {
                members.iter_mut().for_each(|(name, it)| self.take_in(name, it));
            }
            Value::String(text) => *text = self.shown(member, text),
            _ => {}
        }
    }

    fn shown(&mut self, member: &str, text: &str) -> String {
        if CURSORS.contains(&member) {
            return self.name("cursor", text);
        }
        // Ids, times and this process may also stand inside a message for a person.
        let text = without_times(text);
        let process = format!("process {}", std::process::id());
        let text = text.replace(&process, "process <pid>");
        let mut shown = String::new();
        let mut rest = text.as_str();
        while let Some((before, kind, id)) = first_id(rest) {
            shown.push_str(&rest[..before]);
            shown.push_str(&self.name(kind, id));
            rest = &rest[before + id.len()..];
        }
        shown + rest
    }

    fn name(&mut self, kind: &str, value: &str) -> String {
        if let Some(name) = self.by_value.get(value) {
            return name.clone();
        }
        let count = self.counts.entry(kind.to_owned()).or_default();
        *count += 1;
        let name = format!("<{kind} {count}>");
        self.by_value.insert(value.to_owned(), name.clone());
        name
    }
}

fn without_times(text: &str) -> String {
    const SHAPE: &str = "dddd-dd-ddTdd:dd:dd.dddZ";
    let is_time = |text: &str| {
        text.bytes().zip(SHAPE.bytes()).all(|(byte, wanted)| match wanted {
            b'd' => byte.is_ascii_digit(),
            _ => byte == wanted,
        })
    };
    let (mut shown, mut rest) = (String::new(), text);
    while let Some(sign) = rest.chars().next() {
        if rest.get(..SHAPE.len()).is_some_and(is_time) {
            shown.push_str("<time>");
            rest = &rest[SHAPE.len()..];
        } else {
            shown.push(sign);
            rest = &rest[sign.len_utf8()..];
        }
    }
    shown
}

/// The first id in a text: where it begins, what kind of thing it names, and the id.
fn first_id(text: &str) -> Option<(usize, &'static str, &str)> {
    const KINDS: [(&str, &str); 5] = [
        ("sess_", "session"),
        ("task_", "task"),
        ("msg_", "message"),
        ("lock_", "lock"),
        ("cp_", "checkpoint"),
    ];
    let found = KINDS.iter().filter_map(|(prefix, kind)| {
        text.match_indices(prefix).find_map(|(at, _)| {
            let id = text.get(at..at + prefix.len() + 32)?;
            let hex = &id[prefix.len()..];
            hex.bytes().all(|it| it.is_ascii_hexdigit()).then_some((at, *kind, id))
        })
    });
    found.min_by_key(|(at, ..)| *at)
}

fn difference(script: &str, seen: &str) -> String {
    let (old, new): (Vec<_>, Vec<_>) = (script.lines().collect(), seen.lines().collect());
    let same = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let show = |lines: &[&str], sign: char| -> String {
        lines.iter().skip(same).take(3).map(|it| format!("{sign} {it}\n")).collect()
    };
    format!("from line {}\n{}{}", same + 1, show(&old, '-'), show(&new, '+'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_varies_gets_a_name_and_the_name_can_be_sent() {
        let mut names = Names::default();
        let id = format!("task_{}", "0".repeat(32));
        let mut line = json!({"a": id, "at": "2026-11-21T10:00:00.000Z", "cursor": "x:1:y",
            "why": format!("`{id}` of `{id}` is busy since 2026-11-21T10:00:00.000Z"), "pid": 7});
        names.take_in("", &mut line);
        assert_eq!(
            line,
            json!({"a": "<task 1>", "at": "<time>", "cursor": "<cursor 1>",
                "why": "`<task 1>` of `<task 1>` is busy since <time>", "pid": "<pid>"})
        );
        assert_eq!(names.put_back("{<cursor 1>, <task 1>}"), format!("{{x:1:y, {id}}}"));
    }
}
