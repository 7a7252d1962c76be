//! Is everything that clients were told before a daemon's end still so after the next start?
//!
//! What was told comes from a recorder that cuts the power at any moment, or from [`Witness`]es: clients that
//! remember what they asked and heard.

#![allow(clippy::unwrap_used, reason = "what a judge cannot read is the failure of its test")]

mod reading;
mod trial;
mod witness;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde_json::Value;

use crate::faults::{Answer, Told, ToldSoFar};
use crate::harness::{Daemon, Plan};
pub use reading::Reading;
use trial::Trial;
pub use witness::{Heard, Witness};

/// The errors that say that nothing was changed.
pub const UNCHANGED: [&str; 3] = ["storage", "shutting_down", "overloaded"];
/// The error that says that nobody knows.
pub const UNKNOWN: &str = "outcome_unknown";

/// A request as it was sent.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Connections count from 1.
    pub connection: u32,
    /// Its id.
    pub id: u64,
    /// The method.
    pub method: &'static str,
    /// The params.
    pub params: Value,
    /// The last request on this connection whose answer was awaited before it was sent.
    pub behind: u64,
    /// The unfinished message and the bytes of it that were told before.
    pub seen: Option<(String, usize)>,
}

/// What is wrong after a start; each fault in words.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Acknowledged and not there.
    pub lost: Vec<String>,
    /// Told as an event and not there.
    pub unseen: Vec<String>,
    /// There in part.
    pub half: Vec<String>,
    /// The daemon does not start, or breaks.
    pub broken: Vec<String>,
}

impl Verdict {
    /// Whether anything is wrong.
    pub fn is_bad(&self) -> bool {
        let all = [&self.lost, &self.unseen, &self.half, &self.broken];
        all.iter().any(|it| !it.is_empty())
    }
}

/// What was asked and told in the whole, prepared for judging any moment of it.
#[derive(Debug)]
pub struct Judge {
    asked: HashMap<(u32, u64), Asked>,
    /// Kinds of errors that may be answered.
    refusals: &'static [&'static str],
    /// The cursors of each commit's events, as told until the end.
    commits: Vec<BTreeSet<String>>,
}

impl Judge {
    /// Of what was asked, and all that was told until the end.
    #[must_use]
    pub fn new(asked: Vec<Asked>, told: &Told) -> Judge {
        let mut commits: BTreeMap<(&str, &str), BTreeSet<String>> = BTreeMap::new();
        for event in told.all_events() {
            let mark = event.cursor.rsplit(':').next().unwrap_or_default();
            commits.entry((&event.session, mark)).or_default().insert(event.cursor.clone());
        }
        let commits = commits.into_values().filter(|it| it.len() > 1).collect();
        let asked = asked.into_iter().map(|it| ((it.connection, it.id), it)).collect();
        Judge { asked, refusals: &[], commits }
    }

    /// The same where requests may be refused with these kinds of errors.
    #[must_use]
    pub fn with_refusals(mut self, kinds: &'static [&'static str]) -> Judge {
        self.refusals = kinds;
        self
    }

    /// How many commits of several events can be told apart into whole and half.
    #[must_use]
    pub fn commits(&self) -> usize {
        self.commits.len()
    }

    /// Starts the daemon of `plan` and asks for all that was told.
    ///
    /// # Panics
    /// When a session cannot be read as one.
    pub async fn judge(&self, told: &ToldSoFar, plan: &Plan) -> Verdict {
        let daemon = match plan.try_start().await {
            Ok(daemon) => daemon,
            Err(status) => {
                let broken = vec![format!("it ended with {status}: {}", plan.words())];
                return Verdict { broken, ..Verdict::default() };
            }
        };
        let mut verdict = self.ask(told, &daemon).await;
        let plan = daemon.kill().await;
        if plan.words().contains("panicked") {
            verdict.broken.push(plan.words());
        }
        let code = plan.clone().arg("--check").run().await;
        if code != 0 {
            verdict.half.push(format!("`--check` ended with {code}: {}", plan.words()));
        }
        verdict
    }

    async fn ask(&self, told: &ToldSoFar, daemon: &Daemon) -> Verdict {
        let key = |it: &Answer| (it.connection, it.id.as_u64().unwrap_or_default());
        let mut trial = Trial {
            judge: self,
            told,
            answered: told.answers().iter().map(key).collect(),
            refused: HashSet::new(),
            sessions: BTreeMap::new(),
            verdict: Verdict::default(),
        };
        trial.refusals();
        let mut wire = daemon.wire().await;
        trial.read(&mut wire).await;
        trial.events();
        trial.commits();
        trial.answers(&mut wire).await;
        trial.members();
        trial.documents(&mut wire).await;
        trial.keys(&mut wire).await;
        trial.verdict
    }
}
