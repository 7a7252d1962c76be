//! What is read of answers in each dialect, wherever they are cut.

use std::collections::VecDeque;

use super::super::reader::{Flaw, Reader};
use super::super::{Finish, Part, Piece, PromptMessage, Reason, Speaker};
use super::*;
use serde_json::{Value, json};

const ALL: [Dialect; 5] =
    [Dialect::Completions, Dialect::Responses, Dialect::Messages, Dialect::Gemini, Dialect::Ollama];

/// The events of an answer as this dialect puts them on the wire.
fn wire(dialect: Dialect, events: &[Value]) -> String {
    let line = |event: &Value| match (dialect, event["type"].as_str()) {
        (Dialect::Ollama, _) => format!("{event}\n"),
        (Dialect::Gemini, _) => format!("data: {event}\r\n\r\n"),
        (_, Some(name)) => format!("event: {name}\ndata: {event}\n\n"),
        (_, None) => format!("data: {event}\n\n"),
    };
    events.iter().map(line).collect()
}

/// What stands at the end: reasoning, text, and how it ended.
fn read(dialect: Dialect, parts: &[&[u8]]) -> (String, String, Result<Finish, Flaw>) {
    let mut pieces = VecDeque::new();
    let mut reader = Reader::new(dialect.answer(), dialect.objects());
    let mut result = Ok(());
    for part in parts {
        result = result.and_then(|()| reader.read(part, &mut pieces));
    }
    let finish = result.and_then(|()| reader.end(&mut pieces));
    let (mut reasoning, mut text) = (String::new(), String::new());
    for piece in pieces {
        match piece {
            Piece::Text(it) => text.push_str(&it),
            Piece::Reasoning(it) => reasoning.push_str(&it),
            other => panic!("{other:?}"),
        }
    }
    (reasoning, text, finish)
}

fn whole(dialect: Dialect, events: &[Value]) -> (String, String, Result<Finish, Flaw>) {
    read(dialect, &[wire(dialect, events).as_bytes()])
}

/// An answer with reasoning and text in two pieces each, and its usage.
fn example(dialect: Dialect) -> Vec<Value> {
    match dialect {
        Dialect::Completions => vec![
            json!({"choices": [{"index": 0, "delta": {"reasoning_content": "hm"}}]}),
            json!({"choices": [{"index": 0, "delta": {"content": "ä"}}]}),
            json!({"choices": [{"index": 0, "delta": {"content": "🦀"}}]}),
            json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}),
            json!({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 7}}),
        ],
        Dialect::Responses => vec![
            json!({"type": "response.created", "response": {"status": "in_progress", "usage": null}}),
            json!({"type": "response.reasoning_summary_part.added", "part": {}}),
            json!({"type": "response.reasoning_summary_text.delta", "delta": "hm"}),
            json!({"type": "response.output_text.delta", "delta": "ä"}),
            json!({"type": "response.output_text.delta", "delta": "🦀"}),
            json!({"type": "response.completed", "response": {"status": "completed",
                "usage": {"input_tokens": 9, "output_tokens": 7}}}),
        ],
        Dialect::Messages => vec![
            json!({"type": "message_start", "message": {"usage": {"input_tokens": 5,
                "cache_read_input_tokens": 3, "cache_creation_input_tokens": 1, "output_tokens": 1}}}),
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}}),
            json!({"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "hm"}}),
            json!({"type": "content_block_delta", "delta": {"type": "signature_delta", "signature": "x"}}),
            json!({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "ä"}}),
            json!({"type": "ping"}),
            json!({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "🦀"}}),
            json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 7}}),
            json!({"type": "message_stop"}),
        ],
        Dialect::Gemini => vec![
            json!({"candidates": [{"content": {"parts": [{"text": "hm", "thought": true}]}}]}),
            json!({"candidates": [{"content": {"parts": [{"text": "ä"}]}}]}),
            json!({"candidates": [{"content": {"parts": [{"text": "🦀"}]}, "finishReason": "STOP"}],
                "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 5, "thoughtsTokenCount": 2}}),
        ],
        Dialect::Ollama => vec![
            json!({"message": {"content": "", "thinking": "hm"}, "done": false}),
            json!({"message": {"content": "ä"}, "done": false}),
            json!({"message": {"content": "🦀"}, "done": false}),
            json!({"message": {"content": ""}, "done": true, "done_reason": "stop",
                "prompt_eval_count": 9, "eval_count": 7}),
        ],
    }
}

#[test]
fn each_dialect_says_the_same() {
    for dialect in ALL {
        let (reasoning, text, finish) = whole(dialect, &example(dialect));
        let finish = finish.unwrap();
        assert_eq!((reasoning.as_str(), text.as_str()), ("hm", "ä🦀"), "{dialect:?}");
        assert_eq!((finish.input_tokens, finish.output_tokens), (9, 7), "{dialect:?}");
        assert!(!finish.stop_reason.is_empty(), "{dialect:?}");
    }
}

#[test]
fn an_answer_is_the_same_wherever_the_network_cuts_it_and_never_whole_when_it_is_not() {
    for dialect in ALL {
        let bytes = wire(dialect, &example(dialect)).into_bytes();
        for at in 0..bytes.len() {
            let (_, text, finish) = read(dialect, &[&bytes[..at], &bytes[at..]]);
            assert!(finish.is_ok(), "{dialect:?} in two at {at}: {finish:?}");
            assert_eq!(text, "ä🦀", "{dialect:?} in two at {at}");
            let (_, text, finish) = read(dialect, &[&bytes[..at]]);
            match finish {
                Ok(_) => assert_eq!(text, "ä🦀", "{dialect:?} cut at {at}"),
                Err(flaw) => {
                    assert_eq!(flaw, Flaw::Cut, "{dialect:?} cut at {at}");
                    assert!("ä🦀".starts_with(&text), "{dialect:?} cut at {at}: {text}");
                }
            }
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert!(read(dialect, &single).2.is_ok(), "{dialect:?}");
    }
}

#[test]
fn what_a_provider_says_of_its_failure_is_its_reason() {
    let boom = json!({"type": "overloaded_error", "message": "boom"});
    let cases = [
        (Dialect::Messages, json!({"type": "error", "error": boom}), Reason::Unavailable),
        (
            Dialect::Responses,
            json!({"type": "error", "code": "rate_limit_exceeded", "message": "boom"}),
            Reason::RateLimit,
        ),
        (
            Dialect::Responses,
            json!({"type": "response.failed", "response": {"status": "failed",
                "error": {"code": "context_length_exceeded", "message": "boom"}}}),
            Reason::ContextTooLong,
        ),
        (
            Dialect::Gemini,
            json!({"error": {"code": 503, "message": "boom", "status": "UNAVAILABLE"}}),
            Reason::Unavailable,
        ),
        (Dialect::Gemini, json!({"promptFeedback": {"blockReason": "SAFETY"}}), Reason::Refused),
        (Dialect::Gemini, json!({"candidates": [{"finishReason": "SAFETY"}]}), Reason::Refused),
        (Dialect::Ollama, json!({"error": "boom"}), Reason::Unavailable),
        (
            Dialect::Messages,
            json!({"type": "message_delta", "delta": {"stop_reason": "refusal"}}),
            Reason::Refused,
        ),
        (
            Dialect::Responses,
            json!({"type": "response.incomplete", "response": {
                "incomplete_details": {"reason": "content_filter"}}}),
            Reason::Refused,
        ),
    ];
    for (dialect, event, reason) in cases {
        let (_, _, finish) = whole(dialect, std::slice::from_ref(&event));
        let Err(Flaw::Said(fault)) = finish else { panic!("{dialect:?} {event}: {finish:?}") };
        assert_eq!(fault.reason, reason, "{event}");
        let unended = wire(dialect, std::slice::from_ref(&event));
        let (_, _, finish) = read(dialect, &[unended.trim_end().as_bytes()]);
        assert_eq!(finish, Err(Flaw::Said(fault)), "{event}, its line not ended");
    }
}

#[test]
fn limits_and_further_summaries_are_told() {
    let cut = json!({"type": "response.incomplete", "response": {"status": "incomplete",
        "incomplete_details": {"reason": "max_output_tokens"}}});
    let text = json!({"type": "response.output_text.delta", "delta": "x"});
    let (_, _, finish) = whole(Dialect::Responses, &[text, cut]);
    assert_eq!(finish.unwrap().stop_reason, "max_output_tokens");
    let added = json!({"type": "response.reasoning_summary_part.added"});
    let delta =
        |text: &str| json!({"type": "response.reasoning_summary_text.delta", "delta": text});
    let events = [added.clone(), delta("one"), added, delta("two")];
    assert_eq!(whole(Dialect::Responses, &events).0, "one\n\ntwo");
}

#[test]
fn requests_hold_the_whole_prompt() {
    for dialect in ALL {
        let prompt = Prompt {
            model: "gemini-2.5-pro".to_owned(),
            system: Some("be brief".to_owned()),
            messages: vec![
                PromptMessage::text(Speaker::User, "first"),
                PromptMessage::text(Speaker::Assistant, "second"),
                PromptMessage {
                    role: Speaker::User,
                    parts: vec![
                        Part::Text("third".to_owned()),
                        Part::Image { media_type: "image/png".into(), data: (*b"png").into() },
                    ],
                },
            ],
        };
        let body = String::from_utf8(dialect.body(&prompt)).unwrap();
        let mut rest = body.as_str();
        for part in ["first", "second", "third", "cG5n"] {
            let at = rest.find(part).unwrap_or_else(|| panic!("{dialect:?}: {part} in {body}"));
            rest = &rest[at..];
        }
        assert!(body.contains("be brief"), "{dialect:?}");
        assert_eq!(body.contains("max_tokens"), dialect == Dialect::Messages, "{dialect:?}");
        assert_eq!(body.contains("includeThoughts"), dialect == Dialect::Gemini, "{dialect:?}");
    }
}
