//! The two ends of a client's connection: where the runtime's word on a socket is not enough, the kernel is asked.

use std::io;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, send};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

/// The end of a connection that a client's lines come from.
pub trait ReadEnd: AsyncRead + Unpin + Send + Sync + 'static {
    /// Whether the client has closed both ways, so that nobody is there to read.
    fn is_gone(&self) -> impl Future<Output = bool> + Send;
}

/// The end of a connection that a client's answers go to.
pub trait WriteEnd: AsyncWrite + Unpin + Send + 'static {
    /// Gives away what can be given at this moment, whatever was heard of room for it.
    ///
    /// # Errors
    /// There is no room at all, or the connection broke.
    fn offer(&self, bytes: &[u8]) -> io::Result<usize>;
}

/// A socket to read from.
#[derive(Debug)]
pub(super) struct Incoming(pub(super) OwnedReadHalf);

impl AsyncRead for Incoming {
    /// The runtime takes a short read for the last one, and waits for more to come. But the kernel ends a read
    /// where descriptors were passed with the bytes, which it then throws away: what is behind would never be read.
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream: &UnixStream = self.0.as_ref();
        match recv(stream.as_raw_fd(), buffer.initialize_unfilled(), MsgFlags::MSG_DONTWAIT) {
            Ok(count) => {
                buffer.advance(count);
                Poll::Ready(Ok(()))
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Pin::new(&mut self.0).poll_read(context, buffer),
            Err(err) => Poll::Ready(Err(err.into())),
        }
    }
}

impl ReadEnd for Incoming {
    async fn is_gone(&self) -> bool {
        let stream: &UnixStream = self.0.as_ref();
        stream.ready(Interest::WRITABLE).await.is_ok_and(|it| it.is_write_closed())
    }
}

impl WriteEnd for OwnedWriteHalf {
    fn offer(&self, bytes: &[u8]) -> io::Result<usize> {
        let stream: &UnixStream = self.as_ref();
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        Ok(send(stream.as_raw_fd(), bytes, flags)?)
    }
}
