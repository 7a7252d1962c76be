//! The terminal between two lines: how is a key noticed without taking it?

use std::io::{self, Stdin, Write};

use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Ends the mode in which a terminal marks what is pasted.
const PASTE_MARKS_OFF: &[u8] = b"\x1b[?2004l";

/// The terminal as it was found; left as it was found, wherever the program ends.
pub(super) struct Terminal {
    found: Termios,
    styled: bool,
}

impl Terminal {
    pub(super) fn take(styled: bool) -> io::Result<Self> {
        Ok(Self { found: tcgetattr(io::stdin())?, styled })
    }

    /// Keys are neither shown nor wait for their line's end; ctrl-c still is a signal. So it is between
    /// two lines, that what is typed ahead is there when the next one opens.
    pub(super) fn quiet(&self) -> io::Result<()> {
        let mut modes = self.found.clone();
        modes.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
        // A read returns as soon as there is a byte.
        modes.special_codes[SpecialCodeIndex::VMIN] = 1;
        modes.special_codes[SpecialCodeIndex::VTIME] = 0;
        Ok(tcsetattr(io::stdin(), OptionalActions::Now, &modes)?)
    }

    /// Notices the next key.
    pub(super) fn watch(&self) -> io::Result<Watch> {
        Ok(Watch(stdin_ready()?))
    }

    /// As it was found.
    pub(super) fn restore(&self) -> io::Result<()> {
        Ok(tcsetattr(io::stdin(), OptionalActions::Now, &self.found)?)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The editor's thread may still be in the middle of a line.
        let _ = self.restore();
        if self.styled {
            let _ = io::stdout().write_all(PASTE_MARKS_OFF).and_then(|()| io::stdout().flush());
        }
    }
}

/// Waits for a key that the editor will take.
pub(super) struct Watch(AsyncFd<Stdin>);

impl Watch {
    /// Returns once a key waits. Can be dropped at any moment.
    pub(super) async fn key(&self) -> io::Result<()> {
        self.0.readable().await.map(|mut it| it.retain_ready())
    }
}

/// Tells when a byte waits.
#[expect(
    deprecated,
    reason = "its heir is unsafe and asks that the descriptor stays open: stdin does, as long as the program"
)]
fn stdin_ready() -> io::Result<AsyncFd<Stdin>> {
    AsyncFd::with_interest(io::stdin(), Interest::READABLE)
}
