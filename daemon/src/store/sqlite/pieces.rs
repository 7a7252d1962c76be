//! How an import takes turns with all other commits: it is read and proved beside the thread that writes,
//! which gets it cut into pieces.

use std::sync::Arc;

use sess_protocol::id::SessionId;
use tokio::sync::{mpsc, oneshot};

use super::SqliteStore;
use super::importing::Step;
use super::writer::{Job, Waiting};
use crate::store::{Hash, ImportSource, Imported, KeptKey, StoreError};

/// Bytes of a piece, if it has more than one part: about 10 ms of the thread that writes.
const PIECE_BYTES: usize = 256 << 10;
/// Parts of a piece.
const PIECE_PARTS_MAX: usize = 256;
/// Pieces that are read ahead.
const PIECES_MAX: usize = 1;

/// Blobs and commits that are stored together.
#[derive(Debug, Default)]
pub(super) struct Piece {
    parts: Vec<Imported>,
    bytes: usize,
}

impl Piece {
    /// What is in it, in order.
    pub(super) fn parts(&self) -> &[Imported] {
        &self.parts
    }

    /// Adds a part behind the others.
    pub(super) fn push(&mut self, part: Imported) {
        self.bytes += match &part {
            Imported::Blob(blob) => blob.bytes.len(),
            Imported::Commit(commit) => {
                commit.body.len() + commit.blobs.iter().map(|it| it.bytes.len()).sum::<usize>()
            }
        };
        self.parts.push(part);
    }

    fn is_full(&self) -> bool {
        self.bytes >= PIECE_BYTES || self.parts.len() >= PIECE_PARTS_MAX
    }
}

impl SqliteStore {
    /// Takes in a session from elsewhere. Whoever no longer waits for it leaves nothing that is seen.
    pub(super) async fn take_in(
        &self,
        session: SessionId,
        source: Arc<dyn ImportSource>,
        key: Option<KeptKey>,
    ) -> Result<(), StoreError> {
        // One after the other: of two with one id or key the first wins, and the other finds it there.
        let _one = self.importing.lock().await;
        let _over = Over(self);
        self.write(Job::Import(Step::Begin(session, key.clone()))).await?;
        let (out, mut pieces) = mpsc::channel(PIECES_MAX);
        let reading = tokio::task::spawn_blocking(move || cut(&*source, &out));
        while let Some(piece) = pieces.recv().await {
            self.write(Job::Import(Step::Piece(piece))).await?;
        }
        reading.await.map_err(|err| StoreError::Unavailable(err.to_string()))??;
        self.write(Job::Import(Step::End(key))).await
    }
}

/// Says that nobody goes on with an import, however it went.
struct Over<'a>(&'a SqliteStore);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        let (answer, _) = oneshot::channel();
        // If there is no room for it, the next import says the same by its beginning.
        let _ = self.0.send(Waiting { job: Job::Import(Step::Over), answer, place: None });
    }
}

/// Reads a source to its end and proves each commit, so that the thread that writes need not.
fn cut(source: &dyn ImportSource, out: &mpsc::Sender<Piece>) -> Result<(), StoreError> {
    let send = |piece: Piece| {
        let over = |_| StoreError::Unavailable("the import is over".to_owned());
        out.blocking_send(piece).map_err(over)
    };
    let mut piece = Piece::default();
    source.read(&mut |part| {
        if let Imported::Commit(commit) = &part
            && Hash::chained(commit.before, commit.body.as_bytes()) != commit.hash
        {
            return Err(StoreError::NotNext);
        }
        piece.push(part);
        if piece.is_full() { send(std::mem::take(&mut piece)) } else { Ok(()) }
    })?;
    if piece.parts.is_empty() { Ok(()) } else { send(piece) }
}
