//! `session/import`: sessions on their way in, whole and once.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;
use sess_protocol::error::{Error, Kind};
use sess_protocol::id::SessionId;
use sess_protocol::methods as m;
use sess_protocol::methods::ExportFormat;
use sess_protocol::things::By;
use sess_protocol::view::Members;

use super::super::router::{Call, Routed, later};
use super::super::views::view_of;
use super::blob::hash_of;
use crate::exchange::import::Lines;
use crate::exchange::rebuild::{Heard, make};
use crate::exchange::spool::failed;
use crate::exchange::{Spool, json as json_file, prose};
use crate::session::command::Origin;
use crate::shared::Shared;
use crate::store::{ImportSource, KeptKey, KeyRecord, NewBlob, StoreError};

/// Bytes of a file that is read at once. Only `jsonl` is read line by line.
const TEXT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Bytes of all that a file names and that comes with it.
const BLOBS_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// A session that was read and is not stored yet.
struct Ready {
    session: SessionId,
    source: Arc<dyn ImportSource>,
    members: Members,
    seq: u64,
}

pub(in crate::server) fn import(call: Call<'_, m::SessionImport>) -> Routed {
    let shared = call.shared();
    let spool = call.router.spool().clone();
    let origin = call.client.origin(call.common);
    let m::SessionImportParams { blob, format } = call.params;
    let format = format.unwrap_or(ExportFormat::Jsonl);
    if format == ExportFormat::Html {
        let message = "`html` is for browsers; `jsonl`, `json` and `markdown` can be read";
        return Err(Error::new(Kind::Unsupported, message).with("param", "format"));
    }
    later(async move {
        if let Some(key) = &origin.key
            && let Some(outcome) = shared.answered_before(key).await
        {
            return outcome;
        }
        let path = spool.find(hash_of(&blob)?).ok_or_else(|| {
            Error::not_found("blob", &blob)
                .hint("put the file with `blob/put` first; it is kept for a day")
        })?;
        let done = match format {
            ExportFormat::Jsonl => log(&shared, path, &origin).await,
            _ => text(&shared, &spool, (path, format), &origin).await,
        };
        match done {
            // Another request with this key was quicker: its answer is the answer.
            Err(Stored::Refused(StoreError::KeyTaken)) => match &origin.key {
                Some(key) => shared
                    .answered_before(key)
                    .await
                    .unwrap_or_else(|| Err(shared.refusal(StoreError::KeyTaken))),
                None => Err(shared.refusal(StoreError::KeyTaken)),
            },
            Err(Stored::Refused(err)) => Err(shared.refusal(err)),
            Err(Stored::Answered(err)) => Err(err),
            Ok(answer) => Ok(answer),
        }
    })
}

/// Why nothing was stored.
enum Stored {
    Answered(Error),
    Refused(StoreError),
}

impl From<Error> for Stored {
    fn from(err: Error) -> Self {
        Self::Answered(err)
    }
}

/// A session by its log, with its ids.
async fn log(shared: &Arc<Shared>, path: PathBuf, origin: &Origin) -> Result<String, Stored> {
    let lines = Lines { path };
    let proving = Lines { path: lines.path.clone() };
    let proved = tokio::task::spawn_blocking(move || proving.prove()).await;
    let proved = proved.map_err(|err| shared.bug(&err.to_string()))??;
    let session = proved.session;
    match shared.store.load(session).await.map_err(Stored::Refused)? {
        Some(here) if here.hash == proved.head => {
            let mut now = view_of(shared, session).await?;
            let own = now.snapshot.remove("session").unwrap_or_default();
            let answer = json!({ "session": own, "seq": now.seq, "imported": false }).to_string();
            if let Some(kept) = key_of(shared, origin, &answer) {
                shared.store.keep_key(session, kept).await.map_err(Stored::Refused)?;
            }
            Ok(answer)
        }
        Some(_) => Err(taken(session).into()),
        None => {
            let (members, seq) = (proved.members, proved.seq);
            store(shared, Ready { session, source: Arc::new(lines), members, seq }, origin).await
        }
    }
}

/// A session by what was said in it.
async fn text(
    shared: &Arc<Shared>,
    spool: &Spool,
    (path, format): (PathBuf, ExportFormat),
    origin: &Origin,
) -> Result<String, Stored> {
    let for_reading = Arc::clone(shared);
    let reading = move || read(&for_reading, &path, format);
    let read = tokio::task::spawn_blocking(reading).await;
    let mut heard = read.map_err(|err| shared.bug(&err.to_string()))??;
    let id = heard.session.id;
    if shared.store.load(id).await.map_err(Stored::Refused)?.is_some() {
        json_file::renamed(&mut heard, &*shared.world);
    }
    heard.blobs = blobs_of(shared, spool, &heard).await?;
    let by: By = origin.by.clone();
    let made = tokio::task::spawn_blocking(move || (heard.session.id, make(heard, &by))).await;
    let (session, made) = made.map_err(|err| shared.bug(&err.to_string()))?;
    let (members, seq) = (made.session.clone(), made.seq);
    store(shared, Ready { session, source: Arc::new(made), members, seq }, origin).await
}

fn read(shared: &Shared, path: &Path, format: ExportFormat) -> Result<Heard, Error> {
    let bytes = std::fs::metadata(path).map_err(|err| failed(&err))?.len();
    if bytes > TEXT_BYTES_MAX {
        let message = format!("such a file has at most {TEXT_BYTES_MAX} bytes; use `jsonl`");
        return Err(Error::invalid("blob", message).with("limit_bytes", TEXT_BYTES_MAX));
    }
    let bytes = std::fs::read(path).map_err(|err| failed(&err))?;
    let text = String::from_utf8(bytes).map_err(|err| {
        let at = err.utf8_error().valid_up_to();
        Error::invalid("blob", format!("byte {at}: the file is not UTF-8"))
    })?;
    let heard = match format {
        ExportFormat::Json => json_file::read(&text),
        _ => prose::read(&text, &*shared.world, &shared.default_model()),
    };
    heard.map_err(|why| Error::invalid("blob", why))
}

/// The bytes that a file names and that are not stored yet: they were put before it.
async fn blobs_of(shared: &Shared, spool: &Spool, heard: &Heard) -> Result<Vec<NewBlob>, Error> {
    let named = json_file::blobs(heard).map_err(|why| Error::invalid("blob", why))?;
    let (mut blobs, mut whole) = (Vec::<NewBlob>::new(), 0);
    for (place, name) in named {
        let invalid = |why: &str| Error::invalid("blob", format!("`{place}`: {why}"));
        let hash = hash_of(&name).map_err(|_| invalid("it is no name of a blob"))?;
        let stored = shared.store.blob(hash, 0, 1).await.map_err(|err| shared.refusal(err))?;
        if stored.is_some() || blobs.iter().any(|it| it.hash == hash) {
            continue;
        }
        let path = spool.find(hash).ok_or_else(|| {
            invalid("its bytes are not here").hint("put them with `blob/put` first, or use `jsonl`")
        })?;
        // Looked at before it is read: a file that was put may be larger than all memory.
        whole += tokio::fs::metadata(&path).await.map_err(|err| failed(&err))?.len();
        if whole > BLOBS_BYTES_MAX {
            let error = invalid("the bytes that the file names are too many; use `jsonl`");
            return Err(error.with("limit_bytes", BLOBS_BYTES_MAX));
        }
        let bytes = tokio::fs::read(path).await.map_err(|err| failed(&err))?;
        blobs.push(NewBlob { hash, bytes });
    }
    Ok(blobs)
}

async fn store(shared: &Arc<Shared>, ready: Ready, origin: &Origin) -> Result<String, Stored> {
    let Ready { session, source, mut members, seq } = ready;
    members.insert("followers".to_owned(), 0.into());
    let answer = json!({ "session": members, "seq": seq, "imported": true }).to_string();
    let key = key_of(shared, origin, &answer);
    let stored = shared.store.import(session, source, key).await;
    stored.map_err(|err| match err {
        StoreError::NotNext => Stored::Answered(taken(session)),
        err => Stored::Refused(err),
    })?;
    shared.changed(session);
    Ok(answer)
}

/// The key of the request, with its answer.
fn key_of(shared: &Shared, origin: &Origin, answer: &str) -> Option<KeptKey> {
    let (key, digest) = origin.key.clone()?;
    let record = KeyRecord { key, digest, answer: answer.to_owned() };
    Some(KeptKey { record, at: shared.world.now() })
}

fn taken(session: SessionId) -> Error {
    let message = format!("there is another {session} here");
    Error::new(Kind::Conflict, message).with("session", session.to_string())
}
