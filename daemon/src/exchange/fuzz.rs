//! What must hold for any file that is taken for a session?

use sess_protocol::things::By;

use super::import::{HASH_MEMBER, Proved, prove, walk};
use super::rebuild::{Heard, make};
use super::{export, json, page, prose};
use crate::store::{Commit, Hash, ImportSource, Imported, StoreError};
use crate::world::RealWorld;

/// Reads a file. One that is taken can be written again and is then the same session. The first byte says which
/// format it is in.
///
/// # Panics
/// When that does not hold.
pub fn file(data: &[u8]) {
    let Some((format, bytes)) = data.split_first() else { return };
    match (format % 3, std::str::from_utf8(bytes)) {
        (0, _) => log(&chained(bytes)),
        (1, Ok(text)) => {
            if let Ok(heard) = json::read(text)
                && json::blobs(&heard).is_ok()
            {
                rebuilt(heard);
            }
        }
        (2, Ok(text)) => {
            if let Ok(heard) = prose::read(text, &RealWorld::default(), "echo/echo") {
                written_for_people(&heard);
                rebuilt(heard);
            }
        }
        _ => {}
    }
}

/// The same lines with hashes that are right: no chance finds one.
fn chained(bytes: &[u8]) -> Vec<u8> {
    let mut before = Hash::default();
    let mut all = Vec::new();
    for (number, line) in bytes.split_inclusive(|it| *it == b'\n').enumerate() {
        let text = std::str::from_utf8(line).ok().and_then(|it| it.strip_suffix('\n'));
        let body = text.filter(|it| number > 0 && !it.starts_with("{\"blob\":"));
        let members = body.and_then(|it| it.get(..it.rfind(HASH_MEMBER)?));
        match members {
            Some(members) => {
                before = Hash::chained(before, format!("{members}}}").as_bytes());
                all.extend_from_slice(format!("{members}{HASH_MEMBER}{before}\"}}\n").as_bytes());
            }
            None => all.extend_from_slice(line),
        }
    }
    all
}

fn log(bytes: &[u8]) {
    let Ok(proved) = prove(bytes) else { return };
    let mut commits = Vec::new();
    let walked = walk(bytes, &mut |part| {
        if let Imported::Commit(commit) = part {
            commits.push(*commit);
        }
        Ok(())
    });
    assert!(walked.is_ok(), "what is proved can be read");
    // Blobs are named by what is in them, and are not looked at here.
    assert_eq!(prove(&lines(&commits)[..]), Ok(proved));
}

/// What an export writes of these.
fn lines(commits: &[Commit]) -> Vec<u8> {
    let mut text = export::first_line(commits[0].session);
    commits.iter().for_each(|it| text.push_str(&export::line(&it.body, &it.hash)));
    text.into_bytes()
}

fn rebuilt(heard: Heard) {
    let (id, messages) = (heard.session.id, heard.messages.len() as u64);
    let made = make(heard, &By { client: "a test".to_owned(), pid: 1 });
    let mut commits = Vec::new();
    let read = made.read(&mut |part| {
        if let Imported::Commit(commit) = part {
            commits.push(*commit);
        }
        Ok::<_, StoreError>(())
    });
    assert!(read.is_ok(), "it lies in memory");
    let Proved { session, seq, members, .. } =
        prove(&lines(&commits)[..]).expect("what is made is a log");
    assert_eq!((session, seq), (id, made.seq));
    assert_eq!(members.get("messages").and_then(serde_json::Value::as_u64), Some(messages));
}

/// A page of what was read says the same.
fn written_for_people(heard: &Heard) {
    let mut text = page::head(&heard.session, heard.messages.len() as u64);
    heard.messages.iter().for_each(|it| text.push_str(&page::message(it)));
    let again = prose::read(&text, &RealWorld::default(), "echo/echo").expect("a page can be read");
    let said = |of: &Heard| -> Vec<String> { of.messages.iter().map(page::message).collect() };
    assert_eq!(said(&again), said(heard));
}
