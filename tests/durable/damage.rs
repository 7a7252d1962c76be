//! Is damage seen, whatever it does to the files: everything answered is right, or an error?

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sess_tests::faults::Rng;
use sess_tests::figures::{figure, sized};
use sess_tests::harness::Plan;
use tokio::task::JoinSet;

use crate::Shm;
use crate::golden::{Golden, copy};

/// Bits that are flipped, one a case.
const FLIPS: usize = 300;
/// Cases of each other kind.
const CUTS: usize = 12;
const ZEROED_PAGES: usize = 12;
/// Cases at a time.
const AT_ONCE: usize = 4;
const PAGE_BYTES: u64 = 4096;
const SEED: u64 = 0x5e55_0005;
/// Faults that are shown.
const SHOWN_MAX: usize = 8;
const DATABASE: &str = "sess.db";
const LOG: &str = "sess.db-wal";
const MARKER: &str = "store.json";
/// Exit codes with which a start over damage is refused: damaged, I/O error, bad or newer.
const REFUSALS: [i32; 3] = [65, 74, 78];

/// What is done to a copy of the golden store.
#[derive(Clone)]
pub(crate) enum Damage {
    Flip { file: &'static str, bit: u64 },
    Cut { file: &'static str, bytes: u64 },
    ZeroPages { file: &'static str, page: u64, count: u64 },
    LogOf(PathBuf),
    Missing(&'static str),
}

/// A store and what is done to it.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) base: PathBuf,
    pub(crate) damage: Damage,
    /// Whether it must be met with an error.
    pub(crate) is_fatal: bool,
}

impl Damage {
    pub(crate) fn apply(&self, folder: &Path) {
        match self {
            Damage::Flip { file, bit } => change(&folder.join(file), |bytes| {
                bytes[usize::try_from(bit / 8).unwrap()] ^= 1 << (bit % 8);
            }),
            Damage::Cut { file, bytes: left } => change(&folder.join(file), |bytes| {
                bytes.truncate(usize::try_from(*left).unwrap());
            }),
            Damage::ZeroPages { file, page, count } => change(&folder.join(file), |bytes| {
                let start = usize::try_from(page * PAGE_BYTES).unwrap();
                bytes[start..][..usize::try_from(count * PAGE_BYTES).unwrap()].fill(0);
            }),
            Damage::LogOf(other) => {
                std::fs::copy(other.join(LOG), folder.join(LOG)).unwrap();
            }
            Damage::Missing(file) => std::fs::remove_file(folder.join(file)).unwrap(),
        }
    }
}

/// Changes a file as a bad disk does: its time stays.
fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let time = std::fs::metadata(path).unwrap().modified().unwrap();
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
    std::fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

fn length(folder: &Path, file: &str) -> u64 {
    std::fs::metadata(folder.join(file)).map_or(0, |it| it.len())
}

/// Draws a file of a store, each byte of all as likely as any other, and a place in it.
fn place(folder: &Path, rng: &mut Rng) -> (&'static str, u64) {
    let files = [DATABASE, LOG, MARKER];
    let sum: u64 = files.iter().map(|it| length(folder, it)).sum();
    let mut at = rng.next_u64() % sum;
    for file in files {
        let length = length(folder, file);
        if at < length {
            return (file, at);
        }
        at -= length;
    }
    unreachable!("the place lies in one of the files")
}

/// So many bits flipped, and a few of each other kind of damage.
pub(crate) fn cases(golden: &Golden, flips: usize, seed: u64) -> Vec<Case> {
    let mut rng = Rng::new(seed);
    let mut cases = Vec::new();
    let bases = [("clean", &golden.clean), ("unclean", &golden.unclean)];
    let mut add = |which: usize, what: String, damage, is_fatal| {
        let (name, base) = bases[which % 2];
        cases.push(Case { name: format!("{name}: {what}"), base: base.clone(), damage, is_fatal });
    };
    for n in 0..flips {
        // Some in the marker, which is too small to be met by chance.
        let (file, at) = match n % 20 {
            0 => (MARKER, rng.next_u64() % length(bases[n / 20 % 2].1, MARKER)),
            _ => place(bases[n % 2].1, &mut rng),
        };
        let which = if n % 20 == 0 { n / 20 } else { n };
        let bit = at * 8 + rng.next_u64() % 8;
        add(which, format!("bit {bit} of {file}"), Damage::Flip { file, bit }, false);
    }
    for n in 0..CUTS {
        let bytes = rng.next_u64() % length(bases[n % 2].1, DATABASE);
        let cut = Damage::Cut { file: DATABASE, bytes };
        add(n, format!("database cut to {bytes} bytes"), cut, n % 2 == 0);
    }
    for bytes in [0, 20, 32] {
        let cut = Damage::Cut { file: LOG, bytes };
        add(1, format!("log cut to {bytes} bytes"), cut, true);
    }
    for n in 0..ZEROED_PAGES {
        let pages = length(bases[n % 2].1, DATABASE) / PAGE_BYTES;
        let page = if n < 2 { 0 } else { rng.next_u64() % pages };
        let zero = Damage::ZeroPages { file: DATABASE, page, count: 1 };
        add(n, format!("page {page} zeroed"), zero, page == 0 && n % 2 == 0);
    }
    for which in 0..2 {
        for (whose, folder) in [("another's", &golden.other), ("an older", &golden.older)] {
            add(which, format!("{whose} log"), Damage::LogOf(folder.clone()), true);
        }
        add(which, "no database".to_owned(), Damage::Missing(DATABASE), true);
    }
    add(1, "no log".to_owned(), Damage::Missing(LOG), true);
    cases
}

/// How a case went.
#[derive(Debug, Default)]
struct Outcome {
    refused: bool,
    /// Questions that were answered with an error.
    errors: usize,
    /// `--check` found something.
    checked: bool,
    /// Wrong answers, and whatever else must not be.
    faults: Vec<String>,
}

async fn outcome(golden: Arc<Golden>, case: &Case, folder: &Path) -> Outcome {
    copy(&case.base, folder);
    case.damage.apply(folder);
    let plan = Plan::new().env("SESS_DATA_DIR", folder);
    let mut outcome = Outcome::default();
    let code = plan.clone().arg("--check").run().await;
    let (found, mut told) = (plan.words(), Vec::new());
    outcome.checked = code != 0;
    match plan.try_start().await {
        Err(status) => {
            outcome.refused = true;
            if status.code().is_none_or(|it| !REFUSALS.contains(&it)) {
                outcome.faults.push(format!("the start ended with {status}"));
            }
        }
        Ok(daemon) => {
            for (question, answer) in golden.read(&daemon).await {
                let is_right =
                    [&golden.truth, &golden.before].iter().any(|it| it[&question] == answer);
                match answer {
                    _ if is_right => {}
                    Err((kind, text)) if ["storage", "ended"].contains(&kind.as_str()) => {
                        outcome.errors += 1;
                        told.push(format!("{question}: {text}"));
                    }
                    wrong => outcome.faults.push(format!("{question}: {wrong:?}")),
                }
            }
            daemon.kill().await;
        }
    }
    if plan.words().contains("panicked") {
        outcome.faults.push(plan.words());
    }
    let is_seen = outcome.refused || outcome.errors > 0;
    if case.is_fatal && !is_seen {
        outcome.faults.push("nothing was seen of it".to_owned());
    }
    if is_seen && !outcome.checked {
        outcome
            .faults
            .push(format!("`--check` found nothing, the daemon told {told:?}\n{}", plan.words()));
    }
    if let Some(session) =
        told.iter().find_map(|it| damaged_session(it)).filter(|it| !found.contains(it))
    {
        outcome.faults.push(format!("`--check` does not name `{session}`: {found}"));
    }
    outcome
}

/// The session that an error says is damaged.
fn damaged_session(told: &str) -> Option<&str> {
    let (before, _) = told.split_once("` is damaged at seq")?;
    before.rsplit_once('`').map(|(_, session)| session)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_is_answered_with_an_error_or_not_at_all() {
    let shm = Shm::new("damage");
    let golden = Arc::new(Golden::new(&shm).await);
    let cases = cases(&golden, sized(FLIPS), SEED);
    let count = cases.len();
    let (mut jobs, mut outcomes) = (JoinSet::new(), Vec::new());
    for (n, case) in cases.into_iter().enumerate() {
        if jobs.len() == AT_ONCE {
            outcomes.push(jobs.join_next().await.unwrap().unwrap());
        }
        let (golden, folder) = (Arc::clone(&golden), shm.0.join(format!("case-{n}")));
        jobs.spawn(async move {
            let name = case.name.clone();
            let copied = folder.clone();
            let job = tokio::spawn(async move { outcome(golden, &case, &copied).await });
            let outcome = job.await.unwrap_or_else(|err| {
                let faults = vec![format!("it broke: {err}")];
                Outcome { faults, ..Outcome::default() }
            });
            let _ = std::fs::remove_dir_all(folder);
            (name, outcome)
        });
    }
    outcomes.extend(jobs.join_all().await);
    let refused = outcomes.iter().filter(|(_, it)| it.refused).count();
    let errors = outcomes.iter().filter(|(_, it)| it.errors > 0).count();
    let checked = outcomes.iter().filter(|(_, it)| it.checked).count();
    let wrong: Vec<_> = outcomes.iter().filter(|(_, it)| !it.faults.is_empty()).collect();
    println!(
        "damage {count}: {refused} refused, {errors} answered with errors, {} read right; \
         `--check` found {checked}; wrong {}",
        count - refused - errors,
        wrong.len()
    );
    figure("R6", "damages read wrongly or met with a panic", wrong.len(), count);
    let show = |(name, it): &&(String, Outcome)| {
        let first: String = it.faults[0].chars().take(700).collect();
        format!("{name}: {} faults, as {first}", it.faults.len())
    };
    let shown: Vec<_> = wrong.iter().take(SHOWN_MAX).map(show).collect();
    assert!(wrong.is_empty(), "{shown:#?}");
}
