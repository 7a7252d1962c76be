//! Which examples of JSON stand in which document?

use std::path::Path;

/// A fenced block of JSON.
pub(crate) struct Example {
    /// The document.
    pub(crate) path: String,
    /// Its JSON texts, each with the line on which it begins.
    pub(crate) texts: Vec<(usize, String)>,
}

/// Every Markdown file of the repository: its path from the root, and what it says.
pub(crate) fn documents() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package has a parent");
    let mut found = Vec::new();
    collect(root, root, &mut found);
    found
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<(String, String)>) {
    let entries = std::fs::read_dir(folder).expect("a folder of the repository can be read");
    for entry in entries {
        let path = entry.expect("an entry can be read").path();
        let name = path.file_name().and_then(|it| it.to_str()).unwrap_or_default();
        let is_ours = !name.starts_with('.') && name != "target";
        if path.is_dir() && !path.is_symlink() && is_ours {
            collect(root, &path, found);
        } else if name.ends_with(".md") {
            let text = std::fs::read_to_string(&path).expect("a document is UTF-8");
            let place = path.strip_prefix(root).expect("it lies below the root");
            found.push((place.to_string_lossy().into_owned(), text));
        }
    }
}

/// The examples of a document: one text in a `json` block, one a line in a `jsonl` block.
pub(crate) fn examples(path: &str, document: &str) -> Vec<Example> {
    let mut found = Vec::new();
    let mut open: Option<(&str, usize, Vec<&str>)> = None;
    for (number, line) in (1..).zip(document.lines()) {
        let fence = line.trim().strip_prefix("```");
        match (&mut open, fence) {
            (None, Some(language)) => open = Some((language.trim(), number + 1, Vec::new())),
            (Some((language, first, lines)), Some(_)) => {
                let texts = texts(language, *first, lines);
                found.extend(texts.map(|texts| Example { path: path.to_owned(), texts }));
                open = None;
            }
            (Some((_, _, lines)), None) => lines.push(line),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "{path} ends inside of a fenced block");
    found
}

fn texts(language: &str, first: usize, lines: &[&str]) -> Option<Vec<(usize, String)>> {
    match language {
        "json" => Some(vec![(first, lines.join("\n"))]),
        "jsonl" => Some((first..).zip(lines.iter().map(|it| (*it).to_owned())).collect()),
        _ => None,
    }
}
