//! Do the documents name what is there, all of it and nothing else?

use std::path::Path;

use sess_protocol::error::Kind;
use sess_protocol::event::Fact;
use sess_protocol::methods::METHODS;

use crate::hold;
use crate::repository::{root, text};

const MANUAL: &str = "protocol/PROTOCOL.md";
const MAP: &str = "ARCHITECTURE.md";

#[test]
fn the_manual_names_every_method_event_and_error() {
    let manual = text(MANUAL).unwrap_or_else(|| panic!("there is no {MANUAL}"));
    let kinds = Kind::ALL.iter().map(|it| it.text());
    let methods = METHODS.iter().map(|it| it.name);
    let events = Fact::TABLE.iter().map(|(kind, _)| *kind);
    let faults: Vec<String> = kinds
        .chain(methods)
        .chain(events)
        .filter(|it| !manual.contains(&format!("`{it}`")))
        .map(str::to_owned)
        .collect();
    hold(&format!("{MANUAL} does not name these"), &faults);
}

/// The map is not written yet in a young repository; once it is, it is right.
#[test]
fn the_map_names_only_what_is_there() {
    let Some(map) = text(MAP) else { return };
    let named = trees(map);
    assert!(
        !named.is_empty(),
        "{MAP} has no block of a tree: a folder, and what lies in it indented"
    );
    let missing = named.into_iter().filter(|it| !root().join(it).exists()).collect::<Vec<_>>();
    hold(&format!("{MAP} names what is not there"), &missing);
}

/// Every path that the trees of a document name.
///
/// A tree is a fenced block whose first line begins with a folder, as `daemon/src/`. A line's first
/// word is a name; what is further in lies in the folder above it; a further word is a remark.
fn trees(document: &str) -> Vec<String> {
    let mut found = Vec::new();
    for block in document.split("\n```").skip(1).step_by(2) {
        let lines = block.lines().skip(1).filter(|it| !it.trim().is_empty());
        if lines
            .clone()
            .next()
            .and_then(|it| it.split_whitespace().next())
            .is_some_and(|it| it.ends_with('/'))
        {
            found.extend(tree(lines));
        }
    }
    found
}

fn tree<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    let is_drawing = |it: char| it.is_whitespace() || "│├└─".contains(it);
    let mut folders: Vec<(usize, String)> = Vec::new();
    let mut found = Vec::new();
    for line in lines {
        let name = line.trim_start_matches(is_drawing);
        let depth = line.chars().count() - name.chars().count();
        let name = name.split_whitespace().next().unwrap_or_default().trim_end_matches([',', ':']);
        while folders.last().is_some_and(|(above, _)| *above >= depth) {
            folders.pop();
        }
        let path = folders.last().map_or_else(|| name.to_owned(), |(_, it)| format!("{it}{name}"));
        if name.ends_with('/') {
            folders.push((depth, path.clone()));
        }
        found.push(path);
    }
    found
}

#[test]
fn a_tree_is_read_however_it_is_drawn() {
    let document = "a\n\n```\ndaemon/src/   the daemon\n  lib.rs   read this\n  store/\n    mod.rs\n  main.rs\ntests/\n├── a/\n│   └── b.rs\n└── c.rs\n```\n\n```sh\ncargo test\n```\n";
    let expected = [
        "daemon/src/",
        "daemon/src/lib.rs",
        "daemon/src/store/",
        "daemon/src/store/mod.rs",
        "daemon/src/main.rs",
        "tests/",
        "tests/a/",
        "tests/a/b.rs",
        "tests/c.rs",
    ];
    assert_eq!(trees(document), expected);
    assert!(Path::new(&root()).join("tests/tidy/main.rs").exists());
}
