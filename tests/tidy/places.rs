//! Does the top level hold only what a reader looks for there?

use crate::hold;
use crate::repository::{files, text};

/// What may stand at the top level beside files that begin with a dot.
const TOP_LEVEL: [&str; 12] = [
    "Cargo.toml",
    "Cargo.lock",
    "deny.toml",
    "daemon",
    "client",
    "protocol",
    "tests",
    "systemd",
    "README.md",
    "RELIABILITY.md",
    "ARCHITECTURE.md",
    "LICENSE",
];

#[test]
fn the_top_level_holds_only_what_belongs_there() {
    let top = |path: &str| path.split('/').next().unwrap_or_default().to_owned();
    let mut faults: Vec<String> = files()
        .iter()
        .map(|it| top(&it.path))
        .filter(|it| !it.starts_with('.') && !TOP_LEVEL.contains(&it.as_str()))
        .collect();
    faults.dedup();
    hold("this has no place at the top level", &faults);
}

#[test]
fn both_licences_are_there_whole() {
    let licence = text("LICENSE").expect("there is a LICENSE");
    for part in ["Permission is hereby granted, free of charge", "END OF TERMS AND CONDITIONS"] {
        assert!(licence.contains(part), "LICENSE has no `{part}`");
    }
}
