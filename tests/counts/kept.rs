//! Which counts were kept, do new ones fit them, and how do they become the kept ones?

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// How far a count may be from the kept one, where the compiler is the same.
const BAR: f64 = 0.03;
/// The same for a piece, of which the larger part is that SQLite keeps it: now and then a checkpoint falls into the
/// answer that is counted.
const BAR_PIECE: f64 = 0.3;
/// The same for another compiler, or another valgrind: what it makes of the same text differs, and what
/// was made slow by hand still shows.
const BAR_ELSEWHERE: f64 = 0.15;

/// The file `counts.json`.
#[derive(Debug, Default, Serialize, Deserialize, PartialEq)]
pub(crate) struct Kept {
    /// The compiler that built the daemon that was counted.
    rustc: String,
    /// What counted.
    valgrind: String,
    /// Instructions of one operation, by the name of its path.
    instructions: BTreeMap<String, u64>,
}

impl Kept {
    /// These counts, of these tools.
    pub(crate) fn of(instructions: BTreeMap<String, u64>) -> Kept {
        Kept { rustc: version("rustc"), valgrind: version("valgrind"), instructions }
    }

    /// Holds these counts against the kept ones; with `SESS_BLESS` they become them.
    pub(crate) fn judge(&self) {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("counts/counts.json");
        if std::env::var_os("SESS_BLESS").is_some() {
            let text = serde_json::to_string_pretty(self).unwrap() + "\n";
            std::fs::write(&path, text).unwrap();
        }
        let kept = std::fs::read(&path).unwrap_or_default();
        let kept: Kept = serde_json::from_slice(&kept).unwrap_or_default();
        let same = (&kept.rustc, &kept.valgrind) == (&self.rustc, &self.valgrind);
        let bar = if same { BAR } else { BAR_ELSEWHERE };
        let mut faults = Vec::new();
        for (name, count) in &self.instructions {
            let before = kept.instructions.get(name).copied().unwrap_or_default();
            let change = *count as f64 / before as f64 - 1.0;
            println!("{name}: {count} instructions, kept {before}, {:+.2} %", change * 100.0);
            let bar = if name == "piece" { BAR_PIECE } else { bar };
            if change.abs() > bar || before == 0 {
                faults.push(format!("{name} {:+.1} %", change * 100.0));
            }
        }
        let faults = faults.join(", ");
        assert!(
            faults.is_empty(),
            "beyond {} %: {faults}. Where that is meant, or less work: SESS_BLESS=1 cargo test --release \
             -p sess-tests --test counts, without link-time optimisation as in tests/run. Counted with {} and \
             {}, kept for {} and {}",
            bar * 100.0,
            self.rustc,
            self.valgrind,
            kept.rustc,
            kept.valgrind
        );
    }
}

fn version(program: &str) -> String {
    let said = Command::new(program).arg("--version").output();
    let said = said.unwrap_or_else(|err| panic!("`{program}` is needed: {err}"));
    String::from_utf8_lossy(&said.stdout).trim().to_owned()
}
