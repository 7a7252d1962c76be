//! A session out of lines: proved whole before anything is stored, then read once more for that.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use sess_protocol::error::Error;
use sess_protocol::event::Event;
use sess_protocol::id::SessionId;
use sess_protocol::view::{Members, View};

use super::BLOB_PREFIX;
use crate::store::{Commit, Hash, ImportSource, Imported, NewBlob, StoreError};

/// Bytes of a line: a commit has several messages of a line's size at most.
const LINE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Bytes of one blob.
const BLOB_BYTES_MAX: usize = 256 * 1024 * 1024;
/// What stands between the members of a body and its hash.
pub(super) const HASH_MEMBER: &str = ",\"hash\":\"";

/// A file of lines.
#[derive(Debug)]
pub struct Lines {
    /// Where it lies.
    pub path: PathBuf,
}

/// What a proved file holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Proved {
    /// The session.
    pub session: SessionId,
    /// The hash of its last commit.
    pub head: Hash,
    /// Its own members behind its last event.
    pub members: Members,
    /// The number of its last event.
    pub seq: u64,
}

#[derive(Deserialize)]
struct First {
    sess: String,
    version: u64,
    session: SessionId,
}

#[derive(Deserialize)]
struct Piece {
    blob: String,
    offset: u64,
    data: String,
    #[serde(default)]
    last: bool,
}

/// A walk over the lines.
pub(super) struct Walk {
    session: SessionId,
    before: Hash,
    next: u64,
    blob: Option<(Hash, Vec<u8>)>,
}

impl Lines {
    /// Reads all lines, and proves that they are one session, whole from its beginning.
    ///
    /// # Errors
    /// They are not, in the line that is named.
    pub fn prove(&self) -> Result<Proved, Error> {
        let proved = self.open().and_then(prove);
        proved.map_err(|why| Error::invalid("blob", why))
    }

    fn open(&self) -> Result<BufReader<File>, String> {
        File::open(&self.path).map(BufReader::new).map_err(|err| err.to_string())
    }
}

/// The same with lines that lie anywhere.
pub(super) fn prove(lines: impl BufRead) -> Result<Proved, String> {
    let mut view = View::default();
    let walk = walk(lines, &mut |part| {
        if let Imported::Commit(commit) = part {
            commit.events.iter().for_each(|it| fold(&mut view, it));
        }
        Ok(())
    })?;
    let (head, members) = (walk.before, view.session().clone());
    Ok(Proved { session: walk.session, head, members, seq: walk.next - 1 })
}

/// Goes through the lines, and hands on what is in them.
pub(super) fn walk(
    mut lines: impl BufRead,
    each: &mut dyn FnMut(Imported) -> Result<(), StoreError>,
) -> Result<Walk, String> {
    let mut walk: Option<Walk> = None;
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        let limit = LINE_BYTES_MAX + 1;
        let read = lines.by_ref().take(limit).read_until(b'\n', &mut line);
        if read.map_err(|err| err.to_string())? == 0 {
            break;
        }
        let at = |why: String| format!("line {number}: {why}");
        if line.pop() != Some(b'\n') {
            return Err(at("it is cut off, or too long".to_owned()));
        }
        let text = std::str::from_utf8(&line).map_err(|_| at("it is not UTF-8".to_owned()))?;
        match &mut walk {
            None => walk = Some(first(text).map_err(at)?),
            Some(walk) => walk.line(text, each).map_err(at)?,
        }
    }
    let walk = walk.ok_or("the file is empty")?;
    if walk.next == 1 || walk.blob.is_some() {
        return Err("the file ends before the session does".to_owned());
    }
    Ok(walk)
}

impl ImportSource for Lines {
    fn read(
        &self,
        each: &mut dyn FnMut(Imported) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut refused = None;
        let mut each = |it| each(it).inspect_err(|err| refused = Some(err.clone()));
        let walked = self.open().and_then(|it| walk(it, &mut each));
        match (walked, refused) {
            (_, Some(refusal)) => Err(refusal),
            (Err(why), None) => Err(StoreError::Unavailable(format!("the file changed: {why}"))),
            (Ok(_), None) => Ok(()),
        }
    }
}

/// Takes in what an event says of the session itself.
fn fold(view: &mut View, event: &Event) {
    let own = event.data.get("session").filter(|it| it.is_object());
    let data = own.map(|it| ("session".to_owned(), it.clone())).into_iter().collect();
    let (seq, at, kind) = (event.seq, event.at, event.kind.clone());
    view.apply(&Event { seq, at, by: None, task: None, kind, stream: None, data });
}

fn first(text: &str) -> Result<Walk, String> {
    let first: First = serde_json::from_str(text)
        .map_err(|err| format!("it is not the first line of an exported session: {err}"))?;
    if first.sess != "jsonl" || first.version != 1 {
        return Err(format!("`{}` version {} cannot be read", first.sess, first.version));
    }
    if first.session == SessionId::GLOBAL {
        return Err("the log of facts of no session is no session".to_owned());
    }
    Ok(Walk { session: first.session, before: Hash::default(), next: 1, blob: None })
}

impl Walk {
    fn line(
        &mut self,
        text: &str,
        each: &mut dyn FnMut(Imported) -> Result<(), StoreError>,
    ) -> Result<(), String> {
        if text.starts_with("{\"blob\":") {
            return match self.piece(text)? {
                Some(blob) => each(Imported::Blob(blob)).map_err(|err| err.to_string()),
                None => Ok(()),
            };
        }
        if self.blob.is_some() {
            return Err("the blob before it is not whole".to_owned());
        }
        let commit = self.commit(text)?;
        each(Imported::Commit(Box::new(commit))).map_err(|err| err.to_string())
    }

    fn piece(&mut self, text: &str) -> Result<Option<NewBlob>, String> {
        let piece: Piece = serde_json::from_str(text).map_err(|err| err.to_string())?;
        let hash = piece.blob.strip_prefix(BLOB_PREFIX).and_then(Hash::from_hex);
        let hash = hash.ok_or("its blob has no name")?;
        let data = STANDARD.decode(&piece.data).map_err(|err| err.to_string())?;
        let (of, bytes) = self.blob.get_or_insert_with(|| (hash, Vec::new()));
        if *of != hash || piece.offset != bytes.len() as u64 {
            return Err("its piece of a blob does not follow".to_owned());
        }
        if bytes.len() + data.len() > BLOB_BYTES_MAX {
            return Err(format!("its blob has more than {BLOB_BYTES_MAX} bytes"));
        }
        bytes.extend_from_slice(&data);
        if !piece.last {
            return Ok(None);
        }
        let (hash, bytes) = self.blob.take().expect("the blob was just added to");
        if Hash::of(&bytes) != hash {
            return Err("its blob has not the hash that names it".to_owned());
        }
        Ok(Some(NewBlob { hash, bytes }))
    }

    fn commit(&mut self, text: &str) -> Result<Commit, String> {
        let cut = text.rfind(HASH_MEMBER).ok_or("it has no hash")?;
        let hash = text[cut + HASH_MEMBER.len()..].strip_suffix("\"}").and_then(Hash::from_hex);
        let hash = hash.ok_or("its hash cannot be read")?;
        let body = format!("{}}}", &text[..cut]);
        let commit = Commit::read(self.before, body)?;
        if commit.session != self.session {
            return Err("it is of another session".to_owned());
        }
        let skips = commit.hash != hash || commit.first() != self.next;
        if skips && !crate::sabotage::is("import_unproved") {
            return Err("it does not follow the line before it".to_owned());
        }
        (self.before, self.next) = (commit.hash, commit.last() + 1);
        Ok(commit)
    }
}
