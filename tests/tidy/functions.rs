//! Where does each function begin and end?

use crate::rust::{block_end, line_of, places_of};

/// A function with a body.
#[derive(Debug, PartialEq)]
pub(crate) struct Function {
    /// Its name.
    pub(crate) name: String,
    /// The line of its `fn`, from 1.
    pub(crate) line: usize,
    /// Lines from there to its last brace.
    pub(crate) lines: usize,
}

/// Every function with a body in what runs of a file.
pub(crate) fn functions(code: &str) -> Vec<Function> {
    places_of(code, "fn").filter_map(|at| function(code, at)).collect()
}

fn function(code: &str, at: usize) -> Option<Function> {
    let behind = &code[at + 2..];
    let name: String = behind
        .trim_start()
        .chars()
        .take_while(|it| it.is_alphanumeric() || matches!(it, '_' | '$' | '#'))
        .collect();
    if name.is_empty() {
        return None;
    }
    let open = body_start(code, at)?;
    let end = block_end(code, open)?;
    let line = line_of(code, at);
    Some(Function { name, line, lines: line_of(code, end - 1) - line + 1 })
}

/// The brace that opens the body: the first outside of all brackets, before any semicolon there.
fn body_start(code: &str, at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (place, byte) in code.bytes().enumerate().skip(at) {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth = depth.checked_sub(1)?,
            b'{' if depth == 0 => return Some(place),
            b';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

#[test]
fn functions_are_found_with_their_length() {
    let code = "fn one() {}\ntrait T { fn none(&self, a: [u8; 3]); }\npub async fn two<F: Fn(u8) -> u8>(\n    f: F,\n) -> [u8; 2]\n{\n    if x { }\n}\ntype P = fn(u8);\nfn outer() { fn inner() {\n} }";
    let found: Vec<_> =
        functions(code).into_iter().map(|it| (it.name, it.line, it.lines)).collect();
    let expected = [("one", 1, 1), ("two", 3, 6), ("outer", 10, 2), ("inner", 10, 2)];
    assert_eq!(found, expected.map(|(name, line, lines)| (name.to_owned(), line, lines)));
}
