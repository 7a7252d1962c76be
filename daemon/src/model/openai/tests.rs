//! What is read from answers of many servers, each a case.

use super::super::reader::{Objects, Reader};
use super::*;

fn read(parts: &[&str]) -> (Vec<Piece>, Result<Finish, Flaw>) {
    let mut pieces = VecDeque::new();
    let mut reader = Reader::new(Box::<Completion>::default(), Objects::One);
    let mut result = Ok(());
    for part in parts {
        result = result.and_then(|()| reader.read(part.as_bytes(), &mut pieces));
    }
    let finish = result.and_then(|()| reader.end(&mut pieces));
    (pieces.into(), finish)
}

fn text(text: &str) -> Piece {
    Piece::Text(text.to_owned())
}

fn delta(delta: &str) -> String {
    format!("data: {{\"id\":\"c\",\"choices\":[{{\"index\":0,\"delta\":{delta}}}]}}\n\n")
}

const STOP: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
const DONE: &str = "data: [DONE]\n\n";

#[test]
fn a_request_holds_the_whole_prompt() {
    let said = |role, text: &str| PromptMessage::text(role, text);
    let body = request_body(&Prompt {
        model: "m/1".to_owned(),
        system: Some("be \"brief\"".to_owned()),
        messages: vec![said(Speaker::User, "a"), said(Speaker::Assistant, "b")],
    });
    let want = serde_json::json!({
        "model": "m/1", "stream": true, "stream_options": {"include_usage": true},
        "messages": [{"role": "system", "content": "be \"brief\""},
            {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
    });
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), want);
}

#[test]
fn text_reasoning_and_usage_are_read() {
    let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":7,\"total_tokens\":16,\
        \"prompt_tokens_details\":{\"cached_tokens\":4},\"completion_tokens_details\":{\"reasoning_tokens\":3}}}\n\n";
    let parts = [
        &delta("{\"role\":\"assistant\",\"content\":\"\"}"),
        &delta("{\"reasoning_content\":\"hm\",\"reasoning\":\"hm\",\"content\":null}"),
        &delta("{\"reasoning\":\" yes\"}"),
        &delta("{\"content\":\"H\\u00e9\\n\"}"),
        &delta("{\"content\":\"🦀\",\"tool_calls\":[{\"index\":0}]}"),
        STOP,
        usage,
        DONE,
    ];
    let (pieces, finish) = read(&parts);
    let reasoning = |text: &str| Piece::Reasoning(text.to_owned());
    assert_eq!(pieces, [reasoning("hm"), reasoning(" yes"), text("Hé\n"), text("🦀")]);
    let want = Finish {
        input_tokens: 9,
        output_tokens: 7,
        cache_read_tokens: 4,
        reasoning_tokens: 3,
        stop_reason: "stop".to_owned(),
        ..Finish::default()
    };
    assert_eq!(finish.unwrap(), want);
}

#[test]
fn an_end_may_lack_done_or_finish_reason_but_not_both() {
    let hi = delta("{\"content\":\"hi\"}");
    for ends in [&[STOP][..], &[DONE], &[STOP, DONE], &["data: [DONE]"], &[STOP, "data: {\"ch"]] {
        let parts: Vec<&str> = std::iter::once(hi.as_str()).chain(ends.iter().copied()).collect();
        let (pieces, finish) = read(&parts);
        assert_eq!((pieces, finish.unwrap().stop_reason), (vec![text("hi")], "stop".to_owned()));
    }
    for cut in ["", "data: {\"choices\":[{", "data: [DO", "data: "] {
        assert_eq!(read(&[&hi, cut]), (vec![text("hi")], Err(Flaw::Cut)), "{cut}");
    }
    assert_eq!(read(&[]), (vec![], Err(Flaw::Cut)));
}

#[test]
fn an_answer_in_one_object_is_read() {
    let whole = "\n {\"choices\":[{\"index\":0,\"finish_reason\":\"length\",\"message\":{\"role\":\"assistant\",\
        \"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"thinking\",\"thinking\":[]},\"b\"]}}],\
        \"usage\":{\"prompt_tokens\":1,\"completion_tokens\":null,\"prompt_tokens_details\":null}}";
    for cut in 2..whole.len() {
        let (pieces, finish) = read(&[&whole[..cut], &whole[cut..]]);
        let finish = finish.unwrap();
        assert_eq!((pieces, finish.stop_reason.as_str()), (vec![text("ab")], "length"));
        assert_eq!((finish.input_tokens, finish.output_tokens), (1, 0));
        assert_eq!(read(&[&whole[..cut]]).1, Err(Flaw::Cut));
    }
}

#[test]
fn errors_in_the_stream_are_the_providers_word() {
    let hi = delta("{\"content\":\"hi\"}");
    let said = |line: &str| match read(&[&hi, line, DONE]) {
        (pieces, Err(Flaw::Said(fault))) if pieces == [text("hi")] => fault,
        other => panic!("{line}: {other:?}"),
    };
    let fault = said("data: {\"error\":{\"code\":503,\"message\":\"full\"}}\n\n");
    assert_eq!((fault.reason, fault.words.as_str()), (Reason::Unavailable, "full"));
    assert_eq!(said("data: {\"error\":\"odd\"}\n\n").words, "odd");
    let with_choices = "data: {\"choices\":[{\"finish_reason\":\"error\"}],\"error\":{\"code\":429,\"message\":\"m\"}}\n\n";
    assert_eq!(said(with_choices).reason, Reason::RateLimit);
    let nameless = "data: {\"choices\":[{\"finish_reason\":\"error\"}]}\n\n";
    assert_eq!(said(nameless).reason, Reason::Unavailable);
}

#[test]
fn a_filter_that_leaves_nothing_is_a_refusal() {
    let filter = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"content_filter\"}]}\n\n";
    let (_, finish) = read(&[filter, DONE]);
    assert!(matches!(finish, Err(Flaw::Said(Fault { reason: Reason::Refused, .. }))));
    let (_, finish) = read(&[&delta("{\"content\":\"some\"}"), filter]);
    assert_eq!(finish.unwrap().stop_reason, "content_filter");
    let (pieces, finish) = read(&[&delta("{\"refusal\":\"I will not\"}"), STOP]);
    assert_eq!((pieces, finish.unwrap().stop_reason), (vec![text("I will not")], "refusal".into()));
}

#[test]
fn what_the_protocol_does_not_allow_is_a_bad_answer() {
    let bad = |parts: &[&str]| matches!(read(parts).1, Err(Flaw::Bad(_)));
    assert!(bad(&["data: {\"choices\":7}\n\n"]));
    assert!(bad(&["data: nonsense\n\n"]));
    assert!(bad(&["data: {\"choices\":[{\"delta\":{\"content\":4}}]}\n\n"]));
    let long = delta(&format!("{{\"content\":\"{}\"}}", "x".repeat(1_000_000)));
    assert!(bad(&vec![long.as_str(); 17]));
    assert!(!bad(&vec![long.as_str(); 16]));
}

#[test]
fn other_choices_and_unknown_members_are_passed_over() {
    let other =
        "data: {\"choices\":[{\"index\":1,\"delta\":{\"content\":\"no\"}}],\"x\":{\"y\":[1]}}\n\n";
    let (pieces, finish) = read(&[": ping\n\n", "event: message\n", other, "\r\n", STOP]);
    assert_eq!((pieces, finish.is_ok()), (vec![], true));
}
