//! What must hold for the answer that a provider gives, whatever it is and however it comes?

use std::collections::VecDeque;

use super::dialect::Dialect;
use super::reader::{Flaw, Reader};
use super::{Finish, Piece};

/// Whose answer it is.
pub use super::settings::Kind;

/// Reads an answer: its pieces and its end are the same wherever it is cut, and nothing comes behind the end.
/// The first byte says where it is cut.
///
/// # Panics
/// When that does not hold, or the kind is none that is asked over HTTP.
pub fn answer(kind: Kind, data: &[u8]) {
    let dialect = Dialect::of(kind).expect("it is asked over HTTP");
    let Some((cut, bytes)) = data.split_first() else { return };
    let whole = read(dialect, std::iter::once(bytes));
    let size = 1 + usize::from(cut % 64);
    assert_eq!(whole, read(dialect, bytes.chunks(size)), "cut every {size} bytes");
    // What came of half of an answer that is whole is the beginning of it.
    if whole.2.is_ok() {
        let half = read(dialect, std::iter::once(&bytes[..bytes.len() / 2]));
        let begins = whole.1.starts_with(&half.1) && whole.0.starts_with(&half.0);
        assert!(begins, "{half:?} of {whole:?}");
    }
}

/// Reasoning, text, and how it ended.
fn read<'a>(
    dialect: Dialect,
    parts: impl Iterator<Item = &'a [u8]>,
) -> (String, String, Result<Finish, Flaw>) {
    let mut pieces = VecDeque::new();
    let mut reader = Reader::new(dialect.answer(), dialect.objects());
    let mut result = Ok(());
    for part in parts.filter(|it| !it.is_empty()) {
        result = result.and_then(|()| reader.read(part, &mut pieces));
    }
    let finish = result.and_then(|()| reader.end(&mut pieces));
    let (mut reasoning, mut text) = (String::new(), String::new());
    for piece in pieces {
        match piece {
            Piece::Text(it) => text.push_str(&it),
            Piece::Reasoning(it) => reasoning.push_str(&it),
            Piece::Restart | Piece::Finish(_) => panic!("a reader neither restarts nor finishes"),
        }
    }
    (reasoning, text, finish)
}
