//! What came out, beside what it is measured against?

use anyhow::Result;
use serde_json::{Value, json};
use sess_tests::bins;

use crate::measure::Samples;

/// What a figure is held against.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bar {
    AtMost(f64),
    AtLeast(f64),
    /// Only to be read.
    None,
}

/// One row of the table.
#[derive(Debug)]
pub(crate) struct Row {
    what: &'static str,
    unit: &'static str,
    direct: Option<f64>,
    sess: Samples,
    bar: Bar,
}

/// All rows.
#[derive(Debug, Default)]
pub(crate) struct Report(Vec<Row>);

impl Report {
    pub(crate) fn add(
        &mut self,
        (what, unit): (&'static str, &'static str),
        direct: Option<f64>,
        sess: impl Into<Samples>,
        bar: Bar,
    ) {
        let row = Row { what, unit, direct, sess: sess.into(), bar };
        eprintln!("  {}", row.cells().join(" | "));
        self.0.push(row);
    }

    /// The table, as it may stand in a document.
    pub(crate) fn print(&self) {
        println!("| what | direct | sess | min – max | bar | verdict |");
        println!("| --- | --- | --- | --- | --- | --- |");
        for row in &self.0 {
            println!("| {} |", row.cells().join(" | "));
        }
        let judged = self.0.iter().filter_map(Row::ratio);
        let (all, met) =
            judged.fold((0, 0), |(all, met), it| (all + 1, met + usize::from(it <= 1.0)));
        println!("\n{met} of {all} bars met");
    }

    /// Writes `target/bench.json`.
    pub(crate) fn write(&self, quick: bool) -> Result<()> {
        let target = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| bins::workspace().join("target"), Into::into);
        let rows: Vec<Value> = self.0.iter().map(Row::json).collect();
        let text = serde_json::to_string_pretty(&json!({ "quick": quick, "rows": rows }))?;
        std::fs::create_dir_all(&target)?;
        Ok(std::fs::write(target.join("bench.json"), text + "\n")?)
    }
}

impl Row {
    /// How far beyond its bar: 1 is at it, less is better.
    fn ratio(&self) -> Option<f64> {
        let median = self.sess.median();
        match self.bar {
            Bar::AtMost(0.0) if median == 0.0 => Some(1.0),
            Bar::AtMost(bar) => Some(median / bar),
            Bar::AtLeast(bar) => Some(bar / median),
            Bar::None => None,
        }
    }

    fn cells(&self) -> Vec<String> {
        let (min, max) = (self.sess.min(), self.sess.max());
        let what = if self.unit.is_empty() {
            self.what.to_owned()
        } else {
            format!("{}, {}", self.what, self.unit)
        };
        vec![
            what,
            self.direct.map(shown).unwrap_or_default(),
            shown(self.sess.median()),
            if min < max { format!("{} – {}", shown(min), shown(max)) } else { String::new() },
            match self.bar {
                Bar::AtMost(bar) => format!("≤ {}", shown(bar)),
                Bar::AtLeast(bar) => format!("≥ {}", shown(bar)),
                Bar::None => String::new(),
            },
            match self.ratio() {
                Some(ratio) if ratio <= 1.0 => "met".to_owned(),
                Some(ratio) => format!("missed {ratio:.2} ×"),
                None => String::new(),
            },
        ]
    }

    fn json(&self) -> Value {
        json!({
            "what": self.what,
            "unit": self.unit,
            "direct": self.direct,
            "median": self.sess.median(),
            "min": self.sess.min(),
            "max": self.sess.max(),
            "bar": match self.bar {
                Bar::AtMost(bar) => json!({ "at_most": bar }),
                Bar::AtLeast(bar) => json!({ "at_least": bar }),
                Bar::None => Value::Null,
            },
            "met": self.ratio().map(|it| it <= 1.0),
        })
    }
}

/// A number with as many digits as say something.
fn shown(value: f64) -> String {
    match value.abs() {
        it if it >= 100.0 || it.fract() == 0.0 => format!("{value:.0}"),
        it if it >= 10.0 => format!("{value:.1}"),
        it if it >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
