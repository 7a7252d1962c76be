//! Does each package depend only on what its place in the house allows?

use crate::hold;
use crate::repository::text;

/// All that the words on the wire may need.
const PROTOCOL_NEEDS: [&str; 3] = ["serde", "serde_json", "schemars"];

/// The packages that a manifest depends on, for whatever purpose.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut inside = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
            let (before, last) = header.rsplit_once('.').unwrap_or(("", header));
            inside = last.ends_with("dependencies");
            if before.ends_with("dependencies") {
                found.push(last.trim_matches('"').to_owned());
            }
        } else if inside && !line.starts_with('#') {
            let name = line.split(['=', '.', ' ']).next().unwrap_or_default();
            found.extend((!name.is_empty()).then(|| name.trim_matches('"').to_owned()));
        }
    }
    found
}

fn of(package: &str) -> Vec<String> {
    let path = format!("{package}/Cargo.toml");
    let found = dependencies(text(&path).unwrap_or_else(|| panic!("there is no {path}")));
    assert!(!found.is_empty(), "{path} names no dependency");
    found
}

#[test]
fn daemon_and_client_meet_only_in_the_protocol() {
    let mut faults = Vec::new();
    for (package, forbidden) in
        [("daemon", ["sess-client", "sess-tests"]), ("client", ["sess-daemon", "sess-tests"])]
    {
        let found = of(package).into_iter().filter(|it| forbidden.contains(&it.as_str()));
        faults.extend(found.map(|it| format!("{package} depends on {it}")));
    }
    let more = of("protocol").into_iter().filter(|it| !PROTOCOL_NEEDS.contains(&it.as_str()));
    faults.extend(more.map(|it| format!("protocol depends on {it}")));
    hold("a package depends only on what it may", &faults);
}

#[test]
fn dependencies_are_found_however_they_are_written() {
    let manifest = "[package]\nname = \"x\"\n[dependencies]\n# no = 1\na = { workspace = true }\nb.workspace = true\n\n[dev-dependencies.c]\nversion = \"1\"\n[target.'cfg(unix)'.build-dependencies]\nd = \"1\"\n[features]\ne = []\n";
    assert_eq!(dependencies(manifest), ["a", "b", "c", "d"]);
}
