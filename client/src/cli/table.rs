//! Rows under headings: how do they fit the terminal?

use sess_client::visible;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Columns between two columns.
const GAP: usize = 2;
/// What the flexible column is not made narrower than, as long as others can go instead.
const FLEXIBLE_MIN: usize = 16;

/// A column: how it is headed and how it behaves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    pub(crate) heading: &'static str,
    /// Numbers stand to the right.
    pub(crate) right: bool,
    /// Takes the room that is left, cut with `…`.
    pub(crate) flexible: bool,
    /// Goes first where there is no room: the highest of all.
    pub(crate) dispensable: u8,
}

/// The lines of a table, headings first; as wide as it needs without a `width`.
pub(crate) fn lines(columns: &[Column], rows: &[Vec<String>], width: Option<usize>) -> Vec<String> {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| visible::line(cell).into_owned()).collect())
        .collect();
    let mut widths: Vec<usize> = columns.iter().map(|it| it.heading.width()).collect();
    for row in &rows {
        for (widest, cell) in widths.iter_mut().zip(row) {
            *widest = (*widest).max(cell.width());
        }
    }
    let shown =
        width.map_or_else(|| (0..columns.len()).collect(), |it| fit(columns, &mut widths, it));
    let headings = columns.iter().map(|it| it.heading.to_owned()).collect();
    std::iter::once(&headings)
        .chain(&rows)
        .map(|row| {
            let cells = shown.iter().map(|at| cell(&row[*at], widths[*at], columns[*at].right));
            cells.collect::<Vec<_>>().join(&" ".repeat(GAP)).trim_end().to_owned()
        })
        .collect()
}

/// Which columns are shown, the flexible one made as narrow as it must be.
fn fit(columns: &[Column], widths: &mut [usize], width: usize) -> Vec<usize> {
    let mut shown: Vec<usize> = (0..columns.len()).collect();
    loop {
        let gaps = GAP * shown.len().saturating_sub(1);
        let all: usize = shown.iter().map(|at| widths[*at]).sum::<usize>() + gaps;
        if all <= width {
            return shown;
        }
        let flexible = shown.iter().copied().find(|at| columns[*at].flexible);
        let room = flexible.map_or(0, |at| width.saturating_sub(all - widths[at]));
        let goes = shown.iter().copied().max_by_key(|at| columns[*at].dispensable);
        match (flexible, goes) {
            (Some(at), _) if room >= FLEXIBLE_MIN => {
                widths[at] = room;
                return shown;
            }
            (_, Some(goes)) if columns[goes].dispensable > 0 => shown.retain(|at| *at != goes),
            (Some(at), _) => {
                widths[at] = room.max(1);
                return shown;
            }
            (None, _) => return shown,
        }
    }
}

fn cell(text: &str, width: usize, right: bool) -> String {
    let text = cut(text, width);
    let room = " ".repeat(width.saturating_sub(text.width()));
    if right { room + &text } else { text + &room }
}

/// A text of at most so many columns; what is cut ends with `…`.
fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut used = 1;
    for it in text.chars() {
        used += it.width().unwrap_or(0);
        if used > width {
            break;
        }
        kept.push(it);
    }
    kept + "…"
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 3] = [
        Column { heading: "ID", right: false, flexible: false, dispensable: 0 },
        Column { heading: "TITLE", right: false, flexible: true, dispensable: 0 },
        Column { heading: "N", right: true, flexible: false, dispensable: 1 },
    ];

    fn rows() -> Vec<Vec<String>> {
        let row = |cells: [&str; 3]| cells.map(ToOwned::to_owned).to_vec();
        vec![
            row(["1f2e", "日本語のとても長いタイトルです", "7"]),
            row(["9a", "plain\u{1b}[2J\nx", "12"]),
        ]
    }

    #[test]
    fn a_table_is_as_wide_as_the_terminal_at_most() {
        for width in 24..60 {
            for line in lines(&COLUMNS, &rows(), Some(width)) {
                assert!(line.width() <= width, "{width}: {line}");
            }
        }
        assert_eq!(
            lines(&COLUMNS, &rows(), Some(28)),
            [
                "ID    TITLE                N",
                "1f2e  日本語のとても長…    7",
                "9a    plain␛[2J␊x         12",
            ]
        );
        let narrow = lines(&COLUMNS, &rows(), Some(23));
        assert_eq!(narrow[0], "ID    TITLE");
        assert_eq!(narrow[1], "1f2e  日本語のとても長…");
        let wide = lines(&COLUMNS, &rows(), None);
        assert!(wide[1].contains("タイトルです"), "{wide:?}");
    }

    #[test]
    fn a_cut_text_keeps_whole_signs() {
        assert_eq!(cut("日本語", 4), "日…");
        assert_eq!(cut("日本語", 6), "日本語");
        assert_eq!(cut("abc", 1), "…");
    }
}
