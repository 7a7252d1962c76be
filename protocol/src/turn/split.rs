//! Which blocks is a text made of, and which of them are safe to show while more of it comes?
//!
//! By lines: what a line begins is known from its first signs or from all of it, and it waits for no
//! more than that. A text and a streaming block of code grow; anything else comes when it is whole.

use serde_json::{Value, json};

use super::block::{ResponseBlock, TurnBlock, is_safe_while_streaming};
use super::line::{
    Alone, Fence, alone, cells, is_row, is_rule, is_svg, item, may_be_item, may_be_special,
};

/// The blocks of a whole text. Empty lines around blocks are not kept.
#[must_use]
pub fn split(text: &str) -> Vec<ResponseBlock> {
    let mut splitter = Splitter::default();
    splitter.push(text);
    splitter.finish()
}

/// Splits a text that comes in pieces; how it is cut into pieces changes nothing.
#[derive(Debug, Clone, Default)]
pub struct Splitter {
    out: Vec<ResponseBlock>,
    open: Open,
    /// Empty lines behind the text at the end of `out`, kept when it goes on.
    blanks: usize,
    /// The line that is not whole.
    begun: String,
}

/// What the lines so far have begun.
#[derive(Debug, Clone, Default)]
enum Open {
    #[default]
    Nothing,
    /// A block of code that streams; whether it has a line.
    Code(Fence, bool),
    /// A fenced block that waits for its end.
    Held(Fence, &'static str, Vec<String>),
    /// What may be the head of a table.
    Head(String),
    Table(Vec<String>),
    Items(Vec<String>),
    Svg(Vec<String>),
}

impl Splitter {
    /// Takes the next piece.
    pub fn push(&mut self, text: &str) {
        for part in text.split_inclusive('\n') {
            match part.strip_suffix('\n') {
                Some(rest) => {
                    let mut line = std::mem::take(&mut self.begun);
                    line.push_str(rest);
                    self.line(&line);
                }
                None => self.begun.push_str(part),
            }
        }
        // What the line that is coming cannot go on with is whole.
        let over = match &self.open {
            Open::Head(_) | Open::Table(_) => {
                !self.begun.trim_start().is_empty() && !is_row(&self.begun)
            }
            Open::Items(_) => !may_be_item(&self.begun),
            _ => false,
        };
        if over {
            self.close();
        }
    }

    /// What may be shown of the text so far. Whatever comes next, of these blocks only the last grows,
    /// and only at its end.
    #[must_use]
    pub fn shown(&self) -> Vec<ResponseBlock> {
        let mut shown = self.clone();
        let begun = std::mem::take(&mut shown.begun);
        match &shown.open {
            Open::Nothing if !may_be_special(&begun) => shown.text(&begun),
            Open::Code(fence, _) if !fence.may_close(&begun) => shown.line(&begun),
            _ => {}
        }
        shown.out
    }

    /// The blocks of the whole text.
    #[must_use]
    pub fn finish(mut self) -> Vec<ResponseBlock> {
        let last = std::mem::take(&mut self.begun);
        if !last.is_empty() {
            self.line(&last);
        }
        self.close();
        self.out
    }

    fn line(&mut self, line: &str) {
        match &mut self.open {
            Open::Code(fence, has_line) => {
                if fence.closes(line) {
                    self.open = Open::Nothing;
                } else {
                    let more = [if *has_line { "\n" } else { "" }, fence.inner(line)].concat();
                    *has_line = true;
                    grow(&mut self.out, &more);
                }
                return;
            }
            Open::Held(fence, _, lines) => {
                if !fence.closes(line) {
                    lines.push(fence.inner(line).to_owned());
                    return;
                }
                return self.close();
            }
            Open::Svg(lines) if !line.trim().is_empty() => {
                lines.push(line.to_owned());
                return self.end_svg();
            }
            Open::Head(head) if is_rule(line, cells(head).len()) => {
                self.open = Open::Table(vec![std::mem::take(head)]);
                return;
            }
            Open::Table(lines) if is_row(line) => return lines.push(line.to_owned()),
            Open::Items(lines) if item(line).is_some() => return lines.push(line.to_owned()),
            _ => self.close(),
        }
        self.fresh(line);
    }

    /// A line with nothing open before it.
    fn fresh(&mut self, line: &str) {
        if line.trim().is_empty() {
            self.blanks += 1;
        } else if let Some(fence) = Fence::of(line) {
            self.fence(fence);
        } else if is_row(line) {
            self.open = Open::Head(line.to_owned());
        } else if item(line).is_some() {
            self.open = Open::Items(vec![line.to_owned()]);
        } else if is_svg(line) {
            self.open = Open::Svg(vec![line.to_owned()]);
            self.end_svg();
        } else {
            match alone(line) {
                Alone::Link(title, url) => {
                    let mut content = json!({ "url": url });
                    if !title.is_empty() {
                        content["title"] = title.into();
                    }
                    self.block("link", content);
                }
                Alone::Picture(alt, src) => {
                    let mut content = json!({ "src": src });
                    if !alt.is_empty() {
                        content["alt"] = alt.into();
                    }
                    self.block("image", content);
                }
                Alone::No | Alone::Begun => self.text(line),
            }
        }
    }

    fn fence(&mut self, fence: Fence) {
        let kind = match fence.language.to_ascii_lowercase().as_str() {
            "json" => "json",
            "svg" => "svg",
            "diff" | "patch" => "diff",
            _ => "code",
        };
        if is_safe_while_streaming(kind) {
            self.blanks = 0;
            self.out.push(code(&fence, String::new()));
            self.open = Open::Code(fence, false);
        } else {
            self.open = Open::Held(fence, kind, Vec::new());
        }
    }

    fn block(&mut self, kind: &str, content: Value) {
        self.blanks = 0;
        self.out.push(TurnBlock::new(kind, content));
    }

    fn text(&mut self, line: &str) {
        let blanks = std::mem::take(&mut self.blanks);
        match self.out.last() {
            Some(last) if last.kind == "text" => {
                let more = ["\n".repeat(blanks + 1).as_str(), line].concat();
                grow(&mut self.out, &more);
            }
            _ => self.out.push(TurnBlock::new("text", line.into())),
        }
    }

    fn end_svg(&mut self) {
        if let Open::Svg(lines) = &self.open
            && lines.last().is_some_and(|it| it.trim_end().ends_with("</svg>"))
        {
            let drawing = lines.join("\n");
            self.open = Open::Nothing;
            self.block("svg", drawing.trim().into());
        }
    }

    /// What is open ends here: as the block that it is, else as it was written.
    fn close(&mut self) {
        match std::mem::take(&mut self.open) {
            Open::Nothing | Open::Code(..) => {}
            Open::Held(fence, kind, lines) => {
                self.blanks = 0;
                self.out.push(whole(&fence, kind, lines.join("\n")));
            }
            Open::Head(line) => self.text(&line),
            Open::Table(lines) => {
                let mut rows: Vec<Vec<String>> = lines.iter().map(|it| cells(it)).collect();
                let headers = rows.remove(0);
                rows.iter_mut().for_each(|it| it.resize(headers.len(), String::new()));
                self.block("table", json!({ "headers": headers, "rows": rows }));
            }
            Open::Items(lines) => {
                let items = (1..).zip(lines.iter().filter_map(|it| item(it)));
                let tasks: Vec<Value> = items
                    .map(|(id, (done, title))| {
                        let status = if done { "done" } else { "pending" };
                        json!({ "id": id.to_string(), "title": title, "status": status })
                    })
                    .collect();
                self.block("tasklist", json!({ "tasks": tasks }));
            }
            Open::Svg(lines) => lines.iter().for_each(|it| self.text(it)),
        }
    }
}

fn grow(out: &mut [ResponseBlock], more: &str) {
    if let Some(Value::String(text)) = out.last_mut().map(|it| &mut it.content) {
        text.push_str(more);
    }
}

fn code(fence: &Fence, text: String) -> ResponseBlock {
    let said = |it: &str| (!it.is_empty()).then(|| Value::from(it));
    let code = TurnBlock::new("code", text.into());
    code.with("language", said(&fence.language)).with("filename", said(&fence.rest))
}

/// A held block that is whole; one that is not what its fence says is code.
fn whole(fence: &Fence, kind: &str, text: String) -> ResponseBlock {
    let is_it = match kind {
        "json" => serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok(),
        "svg" => is_svg(&text) && text.trim_end().ends_with("</svg>"),
        _ => !text.trim().is_empty(),
    };
    if !is_it {
        return code(fence, text);
    }
    let names = text.lines().find_map(|it| it.strip_prefix("+++ ")).filter(|_| kind == "diff");
    let name = names.map(|it| it.split('\t').next().unwrap_or(it));
    let name = name.map(|it| it.strip_prefix("b/").unwrap_or(it)).map(Value::from);
    TurnBlock::new(kind, text.into()).with("filename", name)
}
