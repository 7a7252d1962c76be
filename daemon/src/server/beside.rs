//! What takes its time is done beside those who serve, so that nobody waits for another one's long line.

/// Bytes up to which work on a text is done at once: it takes about as long as to wake a thread.
const SHORT_BYTES: usize = 64 * 1024;

/// Does work on a text of so many bytes. Never comes back when the daemon ends meanwhile.
pub(super) async fn beside<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    if bytes <= SHORT_BYTES {
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        // It breaks whoever asked for it, as it would have without a thread of its own.
        Err(err) if err.is_panic() => std::panic::resume_unwind(err.into_panic()),
        Err(_) => std::future::pending().await,
    }
}
