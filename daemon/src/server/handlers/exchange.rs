//! `session/export`: sessions on their way out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sess_protocol::error::Error;
use sess_protocol::id::SessionId;
use sess_protocol::methods as m;
use sess_protocol::methods::{ExportFormat, SessionExportResult};
use sess_protocol::things::{Block, Message, Session};

use super::super::find;
use super::super::router::{Call, Routed, json_of, later};
use super::super::views::{page_of, view_of};
use super::blob::hash_of;
use crate::exchange::spool::{Draft, failed};
use crate::exchange::{export, html, page};
use crate::session::command::ViewNow;
use crate::shared::Shared;
use crate::store::{MessagePage, StoreError};

/// Messages that are read at a time.
const PAGE: u32 = 200;
/// Bytes of a blob that are read at a time.
const BLOB_PIECE: u64 = 1024 * 1024;

pub(in crate::server) async fn export(call: Call<'_, m::SessionExport>) -> Routed {
    let shared = call.shared();
    let spool = call.router.spool().clone();
    let format = call.params.format.unwrap_or(ExportFormat::Jsonl);
    let session = find::session(&shared, &call.params.session).await?;
    let now = view_of(&shared, session).await?;
    later(async move {
        let name = format!("export_{:032x}", shared.world.random());
        let draft = spool.draft(&name).map_err(|err| failed(&err))?;
        let draft = match format {
            ExportFormat::Jsonl => export::write(&shared, session, now.seq, draft).await?,
            _ => write_view(&shared, session, now, (draft, format)).await?,
        };
        // A large file takes seconds to be synced.
        let kept = tokio::task::spawn_blocking(move || spool.keep(draft)).await;
        let kept = kept.map_err(|err| shared.bug(&err.to_string()))?;
        let (hash, bytes) = kept.map_err(|err| failed(&err))?;
        Ok(json_of(&SessionExportResult { blob: format!("sha256:{hash}"), bytes }))
    })
}

/// Writes a session as one JSON value, or as a page.
async fn write_view(
    shared: &Shared,
    session: SessionId,
    now: ViewNow,
    (mut draft, format): (Draft, ExportFormat),
) -> Result<Draft, Error> {
    let mut add = |text: &str| draft.add(text.as_bytes()).map_err(|err| failed(&err));
    let is_json = format == ExportFormat::Json;
    let is_html = format == ExportFormat::Html;
    let path = path_of(&now);
    if is_json {
        let mut view = Value::Object(now.snapshot).to_string();
        view.pop();
        add(&format!("{view},\"messages\":["))?;
    } else {
        let own: Option<Session> =
            now.snapshot.get("session").and_then(|it| serde_json::from_value(it.clone()).ok());
        let own = own.ok_or_else(|| Error::not_found("session", &session.to_string()))?;
        add(&if is_html { html::head(&own, path) } else { page::head(&own, path) })?;
    }
    let mut written = 0;
    for start in starts(shared, session, now.head).await? {
        let page = MessagePage { before: start.1, head: start.0, after: None, limit: PAGE };
        for raw in page_of(shared, session, page).await?.messages {
            if is_json {
                add(if written > 0 { ",\n" } else { "\n" })?;
                add(raw.get())?;
            } else if is_html {
                add(&html::message(
                    &with_pictures(shared, whole(shared, raw.get()).await?).await?,
                ))?;
            } else {
                add(&page::message(&whole(shared, raw.get()).await?))?;
            }
            written += 1;
        }
    }
    if is_json {
        add("\n]}\n")?;
    }
    if is_html {
        add(html::END)?;
    }
    Ok(draft)
}

/// How many messages lie on the path of the current thread.
fn path_of(now: &ViewNow) -> u64 {
    let current = now.snapshot.get("session").and_then(|it| it.get("thread"));
    let threads = now.snapshot.get("threads").and_then(Value::as_array);
    let thread = threads.and_then(|it| it.iter().find(|it| it.get("id") == current));
    thread.and_then(|it| it.get("messages")).and_then(Value::as_u64).unwrap_or(0)
}

type Start = (sess_protocol::id::MessageId, Option<sess_protocol::id::MessageId>);

/// Where the pages of a path begin, oldest first: the path itself can only be walked back.
async fn starts(
    shared: &Shared,
    session: SessionId,
    head: Option<sess_protocol::id::MessageId>,
) -> Result<Vec<Start>, Error> {
    let Some(head) = head else { return Ok(Vec::new()) };
    let (mut starts, mut before) = (vec![(head, None)], None);
    loop {
        let page = MessagePage { head, before, after: None, limit: PAGE };
        let page = page_of(shared, session, page).await?;
        let oldest = page.messages.first().map(|it| super::super::views::id_of(it));
        before = oldest.and_then(|it| it.parse().ok());
        if !page.more || before.is_none() {
            starts.reverse();
            return Ok(starts);
        }
        starts.push((head, before));
    }
}

/// A message whose texts are whole again.
async fn whole(shared: &Shared, raw: &str) -> Result<Message, Error> {
    let mut message: Message = serde_json::from_str(raw)
        .map_err(|err| shared.refusal(StoreError::Damaged(format!("a message: {err}"))))?;
    for block in &mut message.content {
        if let Block::Text { text, blob: Some(blob), .. }
        | Block::Reasoning { text, blob: Some(blob), .. } = block
        {
            *text = blob_text(shared, blob).await?;
        }
    }
    Ok(message)
}

/// A message whose pictures are in it, also those that a tool gave back.
async fn with_pictures(shared: &Shared, mut message: Message) -> Result<Message, Error> {
    let mut blocks: Vec<&mut Block> = Vec::new();
    for block in &mut message.content {
        match block {
            Block::ToolResult { content, .. } => blocks.extend(content),
            block => blocks.push(block),
        }
    }
    for block in blocks {
        if let Block::Image { data, blob: Some(blob), .. } = block {
            *data = Some(STANDARD.encode(blob_bytes(shared, blob).await?));
        }
    }
    Ok(message)
}

async fn blob_text(shared: &Shared, name: &str) -> Result<String, Error> {
    Ok(String::from_utf8_lossy(&blob_bytes(shared, name).await?).into_owned())
}

async fn blob_bytes(shared: &Shared, name: &str) -> Result<Vec<u8>, Error> {
    let hash = hash_of(name)?;
    let mut bytes = Vec::new();
    loop {
        let piece = shared.store.blob(hash, bytes.len() as u64, BLOB_PIECE).await;
        let piece = piece.map_err(|err| shared.refusal(err))?;
        let (piece, total) = piece.ok_or_else(|| Error::not_found("blob", name))?;
        bytes.extend_from_slice(&piece);
        if bytes.len() as u64 >= total || piece.is_empty() {
            return Ok(bytes);
        }
    }
}
