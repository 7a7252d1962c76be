//! Is nothing that was shown ever taken back, and does each block come out as what it is?

use serde_json::{Value, json};

use super::*;

fn kinds(text: &str) -> Vec<String> {
    split(text).into_iter().map(|it| it.kind).collect()
}

fn only(text: &str) -> ResponseBlock {
    let mut blocks = split(text);
    assert_eq!(blocks.len(), 1, "{blocks:#?}");
    blocks.remove(0)
}

/// Whether a reader who was shown `before` can go on to `after` without taking anything back.
fn grows(before: &[ResponseBlock], after: &[ResponseBlock]) -> bool {
    let Some((last, rest)) = before.split_last() else { return true };
    let Some(same) = after.get(rest.len()) else { return false };
    let more = match (&last.content, &same.content) {
        (Value::String(old), Value::String(new)) if is_safe_while_streaming(&last.kind) => {
            new.starts_with(old.as_str())
        }
        (old, new) => old == new,
    };
    after.starts_with(rest) && last.kind == same.kind && last.meta == same.meta && more
}

/// Shows a text at every cut, and proves what is promised of it.
fn shown_at_every_cut(text: &str) {
    let whole = split(text);
    let mut splitter = Splitter::default();
    let mut before = Vec::new();
    for (at, sign) in text.char_indices() {
        splitter.push(sign.encode_utf8(&mut [0; 4]));
        let shown = splitter.shown();
        assert!(grows(&before, &shown), "{text:?} at {at}: {before:#?} became {shown:#?}");
        let cut = at + sign.len_utf8();
        let mut at_once = Splitter::default();
        at_once.push(&text[..cut]);
        assert_eq!(at_once.shown(), shown, "{text:?} cut at {cut}");
        assert!(grows(&shown, &split(&text[..cut])), "{text:?} ends at {cut}");
        before = shown;
    }
    assert!(grows(&before, &whole), "{text:?}: {before:#?} became {whole:#?}");
    assert_eq!(splitter.finish(), whole);
}

const ALL: &str = "Hello **you**\n\nand more\n```rust src/main.rs\nfn main() {}\n\n    x\n```\n\
    | a | b |\n|---|:-:|\n| 1 | 2\\|3 |\n| 4 |\nafter\n```json\n{\"b\": 1, \"a\": [2]}\n```\n\
    ```diff\n--- a/x\n+++ b/x\n-1\n+2\n```\n- [ ] first\n- [x] second\n- third\n\
    ![a cat](https://x.y/cat.png)\n[the site](https://x.y/z)\n<https://x.y>\n\
    <svg width=\"1\">\n<g/>\n</svg>\n~~~svg\n<svg></svg>\n~~~\nthe end\n";

#[test]
fn a_text_is_split_at_what_is_no_text() {
    let found = kinds(ALL);
    let all = [
        "text", "code", "table", "text", "json", "diff", "tasklist", "text", "image", "link",
        "link", "svg", "svg", "text",
    ];
    assert_eq!(found, all);
    let blocks = split(ALL);
    assert_eq!(blocks[0].content, "Hello **you**\n\nand more");
    assert_eq!(blocks[1].content, "fn main() {}\n\n    x");
    assert_eq!(blocks[1].meta["language"], "rust");
    assert_eq!(blocks[1].meta["filename"], "src/main.rs");
    let table = json!({"headers": ["a", "b"], "rows": [["1", "2|3"], ["4", ""]]});
    assert_eq!(blocks[2].content, table);
    assert_eq!(blocks[4].content, "{\"b\": 1, \"a\": [2]}", "its members stay in their order");
    assert_eq!(blocks[5].meta["filename"], "x");
    let tasks = json!({"tasks": [{"id": "1", "title": "first", "status": "pending"},
        {"id": "2", "title": "second", "status": "done"}]});
    assert_eq!(blocks[6].content, tasks);
    assert_eq!(blocks[8].content, json!({"src": "https://x.y/cat.png", "alt": "a cat"}));
    assert_eq!(blocks[9].content, json!({"url": "https://x.y/z", "title": "the site"}));
    assert_eq!(blocks[11].content, "<svg width=\"1\">\n<g/>\n</svg>");
}

#[test]
fn what_is_not_what_it_looked_like_is_shown_as_it_was_written() {
    assert_eq!(only("```json\n{\"a\": \n```").kind, "code");
    assert_eq!(only("```json\n{\"a\": \n```").content, "{\"a\": ");
    assert_eq!(only("```json\n{\"a\": 1}").kind, "json", "the end of the text closes it");
    assert_eq!(only("```svg\nno drawing\n```").kind, "code");
    assert_eq!(only("<svg is a word\n\nand goes on").content, "<svg is a word\n\nand goes on");
    assert_eq!(only("| one\n| two\nthree").content, "| one\n| two\nthree");
    assert_eq!(only("[x](javascript:alert)").kind, "text");
    assert_eq!(only("![x](file:///etc/passwd)").kind, "text");
    assert_eq!(only("see https://x.y there").kind, "text");
    assert_eq!(only("```a`b``` is code in a line").kind, "text");
    assert_eq!(only("````md\n```\ninner\n```\n````").content, "```\ninner\n```");
    assert_eq!(only("  ```sh\n  ls\n    -l\n  ```").content, "ls\n  -l");
    assert!(split(" \n\n").is_empty());
}

#[test]
fn what_is_shown_is_never_taken_back() {
    shown_at_every_cut(ALL);
    for open in ["```json\n{}", "| a |\n|-|\n| 1 |", "- [ ] a\n- [x]", "<svg>\n\n", "``", "!["] {
        shown_at_every_cut(open);
    }
}

/// Texts of pieces that mean something, in any order: 4,000 of them, the same at each run.
#[test]
fn what_is_shown_of_any_text_is_never_taken_back() {
    let pieces = [
        "\n",
        "\n",
        "\n\n",
        " ",
        "    ",
        "a",
        "é word",
        "|",
        "| a | b |",
        "|---|---|",
        "|-|",
        "- [ ] t",
        "- [x] u",
        "- [",
        "- ",
        "* ",
        "```",
        "```json",
        "```rust",
        "~~~",
        "````",
        "`",
        "```svg",
        "```diff",
        "{\"a\":1}",
        "{",
        "<svg>",
        "</svg>",
        "<svg ",
        "<",
        ">",
        "![a](https://x/y)",
        "![",
        "[t](http://x)",
        "[",
        "](",
        ")",
        "https://",
        "https://x.y",
        "<https://x.y>",
        "m",
        "mailto:a@b",
        "\r\n",
        "\t",
        "+++ b/f",
        "!",
        "--",
    ];
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..4_000 {
        let mut text = String::new();
        for _ in 0..12 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let pick = usize::try_from(seed % pieces.len() as u64).expect("a place is small");
            text.push_str(pieces[pick]);
        }
        shown_at_every_cut(&text);
    }
}

#[test]
fn text_and_code_are_shown_as_they_come_and_the_rest_when_it_is_whole() {
    let shown = |text: &str| {
        let mut splitter = Splitter::default();
        splitter.push(text);
        splitter.shown()
    };
    assert_eq!(shown("Hel")[0].content, "Hel");
    assert_eq!(shown("```rust\nlet a")[0].content, "let a");
    for half in ["```json\n{\"a\": 1}\n", "| a |\n|---|\n| 1 |\n", "- [ ] a\n", "```diff\n+a\n``"] {
        assert!(shown(half).is_empty(), "{half:?}");
    }
    assert_eq!(shown("| a |\n|---|\n| 1 |\nT").len(), 2, "the next line says that it is whole");
    assert_eq!(shown("```json\n{}\n```\n")[0].kind, "json");
    for kind in ["question", "table", "json", "action", "diff", "svg", "link", "my:own"] {
        assert!(!is_safe_while_streaming(kind), "{kind}");
    }
    for kind in ["text", "code", "tool", "status", "error", "image", "reasoning"] {
        assert!(is_safe_while_streaming(kind), "{kind}");
    }
}

fn id(prefix: &str, number: u32) -> String {
    format!("{prefix}_{number:032x}")
}

fn task(status: &str) -> Task {
    serde_json::from_value(json!({
        "id": id("task", 1), "session": id("sess", 1), "status": status, "order": 1,
        "request": {"message": id("msg", 1)}, "model": "echo/echo", "usage": Usage::default(),
        "created_at": "2026-11-21T10:00:00.000Z",
    }))
    .expect("a task")
}

use crate::things::Usage;

fn message(number: u32, role: &str, content: Value) -> Message {
    serde_json::from_value(json!({
        "id": id("msg", number), "thread": "main", "seq": number, "role": role, "content": content,
        "at": "2026-11-21T10:00:00.000Z", "status": "complete", "kind": "text", "task": id("task", 1),
    }))
    .expect("a message")
}

#[test]
fn a_turn_has_request_and_response_with_tools_and_their_results() {
    let call = id("call", 1);
    let image =
        json!({"type": "image", "media_type": "image/png", "blob": "sha256:00", "bytes": 3});
    let messages = [
        message(1, "user", json!([{"type": "text", "text": "```x``` look"}, image])),
        message(
            2,
            "assistant",
            json!([{"type": "reasoning", "text": "hm"}, {"type": "text", "text": "so:"},
            {"type": "tool_use", "id": call, "name": "shell", "input": {"command": "ls  -l"}}]),
        ),
        message(
            3,
            "tool",
            json!([{"type": "tool_result", "tool_use_id": call, "is_error": false,
            "content": [{"type": "text", "text": "x".repeat(4_000)}, image]}]),
        ),
        message(4, "user", json!([{"type": "text", "text": "faster"}])),
        message(5, "assistant", json!([{"type": "text", "text": "done"}])),
    ];
    let turn = Turn::new(&task("completed"), &messages, None);
    assert_eq!(turn.status, TurnStatus::Done);
    let asked: Vec<&str> = turn.request.iter().map(|it| it.kind.as_str()).collect();
    assert_eq!(asked, ["text", "image", "text"]);
    assert_eq!(turn.request[0].content, "```x``` look");
    assert_eq!(turn.request[2].meta["behind"], 4, "said behind the tool and its picture");
    let answered: Vec<&str> = turn.response.iter().map(|it| it.kind.as_str()).collect();
    assert_eq!(answered, ["reasoning", "text", "tool", "image", "text"]);
    let tool = &turn.response[2];
    assert_eq!((&tool.content["state"], &tool.content["title"]), (&json!("done"), &json!("ls -l")));
    assert_eq!(tool.content["result"].as_str().map(str::len), Some(3_003), "cut, with a sign");
    assert_eq!(tool.meta["message"], json!(id("msg", 2)));
}

#[test]
fn a_turn_says_how_its_task_stands() {
    let request = [message(1, "user", json!([{"type": "text", "text": "hi"}]))];
    let mut failed = task("failed");
    failed.error =
        Some(serde_json::from_value(json!({"message": "no key", "reason": "auth"})).expect("one"));
    let turn = Turn::new(&failed, &request, None);
    assert_eq!((turn.status, turn.response.len()), (TurnStatus::Error, 1));
    assert_eq!(
        (turn.response[0].kind.as_str(), &turn.response[0].meta["reason"]),
        ("error", &json!("auth"))
    );
    let turn = Turn::new(&task("cancelled"), &request, None);
    assert_eq!(turn.response[0].content["state"], "cancelled");
    let mut queued = task("queued");
    queued.request.content = Some(vec![Block::text("later")]);
    let turn = Turn::new(&queued, &[], None);
    assert_eq!((turn.status, &turn.request[0].content), (TurnStatus::Pending, &json!("later")));
}

#[test]
fn a_turn_at_work_has_what_is_safe_of_the_unfinished() {
    let live: Live = serde_json::from_value(json!({
        "session": id("sess", 1), "task": id("task", 1), "message": id("msg", 2), "tools": [],
        "blocks": [{"index": 0, "type": "reasoning", "text": "hm"},
            {"index": 1, "type": "text", "text": "see\n```json\n{\"a\": 1"}],
    }))
    .expect("the unfinished");
    let request = [message(1, "user", json!([{"type": "text", "text": "hi"}]))];
    let turn = Turn::new(&task("running"), &request, Some(&live));
    assert_eq!(turn.status, TurnStatus::Streaming);
    let shown: Vec<&Value> = turn.response.iter().map(|it| &it.content).collect();
    assert_eq!(shown, ["hm", "see"]);
}

#[test]
fn a_side_that_is_too_large_says_what_is_left_out() {
    let text = json!([{"type": "text", "text": "x".repeat(60_000)}]);
    let messages: Vec<Message> = (2..20).map(|it| message(it, "assistant", text.clone())).collect();
    let turn = Turn::new(&task("completed"), &messages, None);
    let left_out = turn.response[0].meta["left_out"].as_u64().expect("a count");
    assert_eq!(left_out as usize + turn.response.len(), 18);
    assert_eq!(
        turn.response.last().map(|it| it.meta["message"].clone()),
        Some(json!(id("msg", 19)))
    );
    assert!(serde_json::to_string(&turn).expect("JSON").len() < SIDE_BYTES_MAX + 4_096);
}
