//! What lies in one page of a tree: its rows, taken apart by SQLite's file format, and whether they are all.

use std::collections::HashSet;

use super::pages::{Pages, half, word};

/// Bytes of one row; a longer one was not written by us.
const ROW_BYTES_MAX: usize = 256 << 20;

/// A value of a row.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    Null,
    Int(i64),
    Blob(Vec<u8>),
    Text(String),
    /// A number that no table of ours has, or a text that is not UTF-8.
    Other,
}

/// The rows of a page.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// Each with its rowid, which rows of a table have.
    pub(super) rows: Vec<(Option<i64>, Vec<Cell>)>,
    /// Whether the page is one of a tree and nothing in it contradicts that these are all.
    pub(super) whole: bool,
    /// Pages that go on with rows too long for it.
    pub(super) beside: HashSet<u32>,
}

fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0_u64;
    for n in 0..9 {
        let byte = *bytes.get(*at)?;
        *at += 1;
        if n == 8 {
            return Some((value << 8) | u64::from(byte));
        }
        value = (value << 7) | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Takes a page apart.
pub(super) fn rows(pages: &Pages, no: u32, page: &[u8]) -> Rows {
    let start = if no == 1 { 100 } else { 0 };
    let mut rows = Rows::default();
    let (head, is_table) = match page[start] {
        0x0d => (8, true),
        0x0a => (8, false),
        0x02 => (12, false),
        // Inner pages of a table hold no row.
        0x05 => {
            rows.whole = true;
            return rows;
        }
        _ => return rows,
    };
    rows.whole = true;
    let count = half(page, start + 3);
    let mut used = 0;
    for n in 0..count {
        let pointer = start + head + 2 * n;
        if pointer + 2 > page.len() {
            rows.whole = false;
            break;
        }
        let from = half(page, pointer) + if page[start] == 0x02 { 4 } else { 0 };
        match cell(pages, page, from, is_table, &mut rows.beside) {
            Some((rowid, cells, bytes)) => {
                used += (bytes + if page[start] == 0x02 { 4 } else { 0 }).max(4);
                rows.rows.push((rowid, cells));
            }
            None => rows.whole = false,
        }
    }
    rows.whole &= is_accounted_for(page, start, head + 2 * count, used);
    rows
}

/// Whether rows and gaps fill the page: a wrong count would hide rows.
fn is_accounted_for(page: &[u8], start: usize, head: usize, used: usize) -> bool {
    let said = half(page, start + 5);
    let content = if said == 0 { 65_536 } else { said };
    let (mut gaps, mut free) = (usize::from(page[start + 7]), half(page, start + 1));
    let mut steps = 0;
    while free != 0 && free + 4 <= page.len() && steps < page.len() {
        gaps += half(page, free + 2);
        free = half(page, free);
        steps += 1;
    }
    content >= start + head && content <= page.len() && page.len() - content == used + gaps
}

type Parsed = (Option<i64>, Vec<Cell>, usize);

fn cell(
    pages: &Pages,
    page: &[u8],
    from: usize,
    is_table: bool,
    beside: &mut HashSet<u32>,
) -> Option<Parsed> {
    let mut at = from;
    let length = usize::try_from(varint(page, &mut at)?).ok()?;
    let rowid = if is_table { Some(varint(page, &mut at)?.cast_signed()) } else { None };
    if length > ROW_BYTES_MAX {
        return None;
    }
    let usable = page.len();
    let most = if is_table { usable - 35 } else { (usable - 12) * 64 / 255 - 23 };
    if length <= most {
        let payload = page.get(at..at + length)?;
        return Some((rowid, record(payload)?, at + length - from));
    }
    let least = (usable - 12) * 32 / 255 - 23;
    let wanted = least + (length - least) % (usable - 4);
    let local = if wanted <= most { wanted } else { least };
    let mut payload = page.get(at..at + local)?.to_vec();
    let end = at + local + 4;
    let mut next = word(page.get(at + local..end)?, 0);
    while payload.len() < length {
        let more = pages.page(next).filter(|_| next > 0 && beside.insert(next))?;
        let take = (length - payload.len()).min(usable - 4);
        payload.extend_from_slice(&more[4..4 + take]);
        next = word(&more, 0);
    }
    Some((rowid, record(&payload)?, end - from))
}

fn record(payload: &[u8]) -> Option<Vec<Cell>> {
    let mut at = 0;
    let head = usize::try_from(varint(payload, &mut at)?).ok()?;
    let (mut body, mut cells) = (head, Vec::new());
    while at < head {
        let kind = varint(payload, &mut at)?;
        let length = match kind {
            0 | 8 | 9 => 0,
            1..=4 => kind as usize,
            5 => 6,
            6 | 7 => 8,
            10 | 11 => return None,
            _ => usize::try_from((kind - 12) / 2).ok()?,
        };
        let bytes = payload.get(body..body.checked_add(length)?)?;
        body += length;
        cells.push(match kind {
            0 => Cell::Null,
            1..=6 => Cell::Int(signed(bytes)),
            8 => Cell::Int(0),
            9 => Cell::Int(1),
            7 => Cell::Other,
            _ if kind % 2 == 0 => Cell::Blob(bytes.to_vec()),
            _ => String::from_utf8(bytes.to_vec()).map_or(Cell::Other, Cell::Text),
        });
    }
    (at == head && body == payload.len()).then_some(cells)
}

fn signed(bytes: &[u8]) -> i64 {
    let first = if bytes.first().is_some_and(|it| it & 0x80 != 0) { -1 } else { 0 };
    bytes.iter().fold(first, |value, byte| (value << 8) | i64::from(*byte))
}
