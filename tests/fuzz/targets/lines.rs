//! What must hold for any line of a client?
#![no_main]

use libfuzzer_sys::fuzz_target;
use sess_daemon::server::fuzz::lines;
use sess_protocol::envelope::{Outgoing, error_line, result_line};
use sess_protocol::line::{Incoming, decode, find_id};

fuzz_target!(|data: &[u8]| lines(data).iter().for_each(|it| line(it)));

fn line(line: &[u8]) {
    let found = find_id(line);
    let (id, answer) = match decode(line) {
        Ok(Incoming::Notification) => return,
        Ok(Incoming::Request(request)) => {
            assert!(found.is_none_or(|it| it == request.id), "its id is the one that is found");
            let answer = result_line(&request.id, "{}");
            (Some(request.id), answer)
        }
        Err(bad) => {
            // An error under an id is one of the line with this id.
            assert!(bad.id.is_none() || found.is_none() || bad.id == found, "{:?} {found:?}", bad.id);
            let answer = error_line(bad.id.as_ref(), &bad.error);
            (bad.id, answer)
        }
    };
    // Each is answered by one line, under its id.
    assert_eq!(answer.find('\n'), Some(answer.len() - 1));
    let read: Outgoing = serde_json::from_str(&answer).expect("an answer is JSON");
    assert_eq!(read.id, id);
}
