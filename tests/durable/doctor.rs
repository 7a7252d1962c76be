//! What does the doctor make of a damaged store: is every event there as it was, or named as missing?

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use serde_json::{Value, json};
use sess_tests::faults::{Faults, Rng};
use sess_tests::figures::{figure, rounds};
use sess_tests::harness::{Daemon, Plan, within};
use tokio::process::Command;
use tokio::task::JoinSet;

use crate::Shm;
use crate::damage::{Case, Damage, cases};
use crate::golden::{Golden, copy};
use sess_tests::judge::Reading;

/// Cases at a time.
const AT_ONCE: usize = 4;
const SEED: u64 = 0x5e55_0d0c;
/// Events that a start adds to a session that was cut amid a task.
const SETTLING_MAX: usize = 3;
/// Faults that are shown.
const SHOWN_MAX: usize = 6;

/// What `sessd --doctor` ended with and said.
struct Visit {
    code: Option<i32>,
    report: Value,
    words: String,
}

async fn visit(
    plan: &Plan,
    words: &[&str],
    change: impl FnOnce(&mut std::process::Command),
) -> Visit {
    let mut command = plan.command();
    command.arg("--doctor").args(words);
    change(&mut command);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut command = Command::from(command);
    let done = within("the doctor", command.kill_on_drop(true).output()).await.unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    let report = serde_json::from_str(said.trim()).unwrap_or_default();
    let words = String::from_utf8_lossy(&done.stderr).into_owned();
    Visit { code: done.status.code(), report, words }
}

/// Each session's events, without what names the store.
pub(crate) type Events = BTreeMap<String, Vec<Value>>;

fn plain(mut event: Value) -> Value {
    let cursor = event["cursor"].as_str().unwrap_or_default();
    let mark = cursor.split_once(':').map(|(_, it)| it.to_owned());
    event["cursor"] = json!(mark);
    event
}

/// Reads every session that there is, and says what is wrong with one.
pub(crate) async fn events(daemon: &Daemon) -> Result<Events, String> {
    let mut wire = daemon.wire().await;
    let list = wire.ok("session/list", json!({"limit": 500, "empty": true})).await;
    let listed = list["sessions"].as_array().unwrap().iter();
    let mut ids: BTreeSet<String> =
        listed.map(|it| it["id"].as_str().unwrap().to_owned()).collect();
    ids.insert("global".to_owned());
    let mut all = Events::new();
    for id in ids {
        let reading = Reading::of(&mut daemon.wire().await, &id).await;
        let reading = reading.map_err(|err| format!("{id}: {err}"))?;
        let faults = reading.faults();
        if let Some(fault) = faults.first() {
            return Err(format!("{id}: {fault}"));
        }
        let whole = usize::try_from(reading.seq).unwrap();
        all.insert(id, reading.events.into_iter().take(whole).map(plain).collect());
    }
    Ok(all)
}

/// What came of a case.
#[derive(Debug, Default)]
struct Outcome {
    /// Sessions read, of them whole.
    sessions: usize,
    whole: usize,
    /// Sessions cut or gone, each named.
    named: usize,
    /// Sessions cut or gone of which it was only said that something may be missing.
    said: usize,
    /// Nothing could be saved, and nothing was replaced.
    nothing: bool,
    silent: Vec<String>,
    wrong: Vec<String>,
}

impl Outcome {
    fn compare(&mut self, truth: &Events, there: &Events, visit: &Visit, last_may_be_cut: bool) {
        let named = |id: &str| {
            let listed = visit.report["missing"].as_array();
            // The log of facts of no session has an id of zeros.
            let own = |it: &Value| {
                it["session"] == id
                    || (id == "global"
                        && it["session"].as_str().is_some_and(|it| {
                            !it.trim_start_matches("sess_").bytes().any(|it| it != b'0')
                        }))
            };
            listed.and_then(|it| it.iter().find(|it| own(it) && it["blob"].is_null())).cloned()
        };
        let is_said = visit.report["unknown"].as_array().is_some_and(|it| !it.is_empty());
        for id in there.keys().filter(|it| !truth.contains_key(*it)) {
            self.wrong.push(format!("{id} was never there"));
        }
        for (id, events) in truth {
            self.sessions += 1;
            let there = there.get(id).map_or(&[][..], Vec::as_slice);
            let same = events.iter().zip(there).take_while(|(one, other)| one == other).count();
            let missing = events.len() - same;
            // A task that a cut left at work is settled by the start.
            let added = &there[same..];
            let is_settled = missing > 0
                && added.len() <= SETTLING_MAX
                && added
                    .iter()
                    .all(|it| it["type"].as_str().is_some_and(|it| it.starts_with("task.")));
            if !added.is_empty() && !is_settled {
                self.wrong.push(format!("{id} is not as it was from {} on: {added:?}", same + 1));
                continue;
            }
            let first = same as u64 + 1;
            match named(id) {
                None if missing == 0 => self.whole += 1,
                Some(part) if missing > 0 && part["first"] == first => {
                    let last = part["last"].as_u64();
                    // The last number may itself be of the moment before the last commit.
                    if last
                        .is_some_and(|it| it + 1 < events.len() as u64 || it > events.len() as u64)
                    {
                        self.wrong.push(format!("{id} ends with {}, said {part}", events.len()));
                    }
                    self.named += 1;
                }
                Some(part) => self.wrong.push(format!("{id} misses {missing}, said {part}")),
                None if is_said => self.said += 1,
                None if last_may_be_cut && missing == 1 => self.whole += 1,
                None => self.silent.push(format!("{id} misses {missing} from {first} on")),
            }
        }
    }
}

async fn outcome(truth: &Events, case: &Case, folder: &Path) -> Outcome {
    copy(&case.base, folder);
    case.damage.apply(folder);
    let damaged = std::fs::read(folder.join("sess.db")).ok();
    let plan = Plan::new().env("SESS_DATA_DIR", folder);
    let mut outcome = Outcome::default();
    let visit = visit(&plan, &[], |_| {}).await;
    let status = visit.report["status"].as_str().unwrap_or_default().to_owned();
    let expected = match status.as_str() {
        "healthy" | "saved" => Some(0),
        "missing" | "nothing" => Some(1),
        // A version that a flipped bit made newer is left alone.
        _ if visit.code == Some(78) => return Outcome { nothing: true, ..outcome },
        _ => None,
    };
    if expected != visit.code || visit.words.contains("panicked") {
        outcome
            .wrong
            .push(format!("ended with {:?}: {} {}", visit.code, visit.report, visit.words));
        return outcome;
    }
    let aside = visit.report["aside"].as_str().map(|it| PathBuf::from(it).join("sess.db"));
    let kept = aside.unwrap_or_else(|| folder.join("sess.db"));
    if status != "healthy" && std::fs::read(kept).ok() != damaged {
        outcome.wrong.push("the damaged file is not kept as it was".to_owned());
    }
    if status == "nothing" {
        outcome.nothing = true;
        return outcome;
    }
    match plan.try_start().await {
        Err(status) => outcome.wrong.push(format!("no start: {status}, {}", plan.words())),
        Ok(daemon) => {
            match events(&daemon).await {
                Ok(there) => outcome.compare(truth, &there, &visit, case.base.ends_with("unclean")),
                Err(err) => outcome.wrong.push(err),
            }
            daemon.kill().await;
        }
    }
    if plan.clone().arg("--check").run().await != 0 || plan.words().contains("panicked") {
        outcome.wrong.push(format!("`--check`: {}", plan.words()));
    }
    outcome
}

/// The golden store's events.
async fn truth(golden: &Golden, shm: &Shm) -> Events {
    let folder = shm.0.join("truth");
    copy(&golden.clean, &folder);
    let daemon = Plan::new().env("SESS_DATA_DIR", &folder).start().await;
    let truth = events(&daemon).await.unwrap();
    daemon.kill().await;
    truth
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_doctor_leaves_is_as_it_was_or_named_as_missing() {
    let shm = Shm::new("doctor");
    let golden = Arc::new(Golden::new(&shm).await);
    let truth = Arc::new(truth(&golden, &shm).await);
    let mut all = cases(&golden, usize::try_from(rounds(24, 400)).unwrap(), SEED);
    all.extend(with_more_damage(&golden));
    let count = all.len();
    let (mut jobs, mut outcomes) = (JoinSet::new(), Vec::new());
    for (n, case) in all.into_iter().enumerate() {
        if jobs.len() == AT_ONCE {
            outcomes.push(jobs.join_next().await.unwrap().unwrap());
        }
        let (truth, folder) = (Arc::clone(&truth), shm.0.join(format!("case-{n}")));
        jobs.spawn(async move {
            let outcome = outcome(&truth, &case, &folder).await;
            let _ = std::fs::remove_dir_all(folder);
            (case.name, outcome)
        });
    }
    outcomes.extend(jobs.join_all().await);
    let sum = |part: fn(&Outcome) -> usize| outcomes.iter().map(|(_, it)| part(it)).sum::<usize>();
    let sessions = sum(|it| it.sessions);
    figure(
        "R17",
        "stores damaged, then left to the doctor: wrong answers",
        sum(|it| it.wrong.len()),
        count,
    );
    figure("R17", "sessions cut or gone and not named", sum(|it| it.silent.len()), sessions);
    figure("R17", "sessions whole again", sum(|it| it.whole), sessions);
    figure(
        "R17",
        "sessions cut or gone and named with their numbers",
        sum(|it| it.named),
        sessions,
    );
    figure(
        "R17",
        "sessions of which it is only said that they may be cut",
        sum(|it| it.said),
        sessions,
    );
    figure(
        "R17",
        "stores of which nothing can be saved, left as they are",
        sum(|it| usize::from(it.nothing)),
        count,
    );
    let bad: Vec<_> =
        outcomes.iter().filter(|(_, it)| !(it.silent.is_empty() && it.wrong.is_empty())).collect();
    let shown: Vec<String> = bad
        .iter()
        .take(SHOWN_MAX)
        .map(|(name, it)| {
            format!("{name}: {:?} {:?}", it.silent, it.wrong).chars().take(900).collect()
        })
        .collect();
    assert!(bad.is_empty(), "{} cases: {shown:#?}", bad.len());
}

/// Pages zeroed in a row, as a bad disk takes them.
fn with_more_damage(golden: &Golden) -> Vec<Case> {
    let mut rng = Rng::new(SEED);
    let bases = [("clean", &golden.clean), ("unclean", &golden.unclean)];
    (0..rounds(8, 60))
        .map(|n| {
            let (name, base) = bases[usize::try_from(n % 2).unwrap()];
            let pages = std::fs::metadata(base.join("sess.db")).unwrap().len() / 4096;
            let (page, count) = (1 + rng.next_u64() % (pages - 1), 2 + rng.next_u64() % 12);
            let count = count.min(pages - page);
            Case {
                name: format!("{name}: {count} pages from {page} on zeroed"),
                base: base.clone(),
                damage: Damage::ZeroPages { file: "sess.db", page, count },
                is_fatal: false,
            }
        })
        .collect()
}

/// A store with a commit that is not as it was, so that something is missing.
fn damaged(golden: &Golden, folder: &Path) {
    copy(&golden.clean, folder);
    spoil(folder, b"late question 5 of session 2");
}

/// Changes a word of a commit.
fn spoil(folder: &Path, words: &[u8]) {
    let bytes = std::fs::read(folder.join("sess.db")).unwrap();
    let at = bytes.windows(words.len()).position(|it| it == words).unwrap();
    Damage::Flip { file: "sess.db", bit: at as u64 * 8 }.apply(folder);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_doctor_that_is_killed_anywhere_loses_nothing() {
    let shm = Shm::new("doctor-killed");
    let golden = Golden::new(&shm).await;
    let whole = shm.0.join("whole");
    damaged(&golden, &whole);
    let plan = Plan::new().env("SESS_DATA_DIR", &whole);
    let before = std::fs::read(whole.join("sess.db")).unwrap();
    let first = visit(&plan, &[], |_| {}).await;
    assert_eq!(first.report["status"], "missing", "{}", first.report);
    let mut kills = 0;
    for (call, most) in
        [("open", 40), ("pwrite", 12), ("fsync", 40), ("rename", 10), ("unlink", 10), ("mkdir", 3)]
    {
        let step = if call == "pwrite" { rounds(97, 17) } else { rounds(3, 1) };
        for nth in (0..most).map(|it| 1 + it * step) {
            let folder = shm.0.join("killed");
            let _ = std::fs::remove_dir_all(&folder);
            damaged(&golden, &folder);
            let plan = Plan::new().env("SESS_DATA_DIR", &folder);
            let faults = Faults::new(&plan.folder().join("fired"));
            let faults = faults.rule(&format!("{call}:{}:{nth}:KILL", folder.display()));
            let killed = visit(&plan, &[], |it| faults.command(it).unwrap()).await;
            if faults.fired().unwrap().is_empty() {
                break;
            }
            kills += 1;
            assert_eq!(killed.code, None, "{call} {nth}");
            let again = visit(&plan, &[], |_| {}).await;
            let status = again.report["status"].as_str().unwrap_or_default();
            // Killed behind the change of stores the second one finds a healthy one.
            assert!(
                ["missing", "healthy"].contains(&status),
                "{call} {nth}: {} {}",
                again.report,
                again.words
            );
            if status == "missing" {
                assert_eq!(again.report["missing"], first.report["missing"], "{call} {nth}");
            }
            let kept = std::fs::read_dir(&folder)
                .unwrap()
                .filter_map(|it| std::fs::read(it.unwrap().path().join("sess.db")).ok());
            assert_eq!(
                kept.filter(|it| *it == before).count(),
                1,
                "{call} {nth}: the damaged store is kept"
            );
            plan.start().await.kill().await;
        }
    }
    figure("R17", "doctors killed, and the store lost or left half", 0, kills);
}

#[tokio::test]
async fn a_dry_run_changes_no_byte_and_a_backup_fills_what_is_missing() {
    let shm = Shm::new("doctor-backup");
    let folder = shm.0.join("data");
    let plan = Plan::new().env("SESS_DATA_DIR", &folder);
    let daemon = plan.start().await;
    let mut wire = daemon.wire().await;
    let session = wire.session().await;
    for n in 0..20 {
        wire.turn(&session, &format!("question {n} {}", "x".repeat(2000))).await;
    }
    wire.ok("daemon/backup", json!({})).await;
    wire.turn(&session, "behind the backup").await;
    let truth = events(&daemon).await.unwrap();
    let running = visit(&plan, &[], |_| {}).await;
    assert_eq!(
        (running.code, &running.report["running"]),
        (Some(0), &json!(true)),
        "{}",
        running.report
    );
    assert_eq!(daemon.terminate().await, 0);
    spoil(&folder, b"question 5 x");
    let all = || {
        let files = std::fs::read_dir(&folder).unwrap().map(|it| it.unwrap().path());
        let mut files: Vec<_> =
            files.filter_map(|it| Some((it.clone(), std::fs::read(it).ok()?))).collect();
        // SQLite makes files of its own for who only looks, with nothing in them that matters.
        files.retain(|(path, bytes)| {
            path.extension().is_none_or(|it| it != "db-shm" && it != "lock") && !bytes.is_empty()
        });
        files.sort();
        files
    };
    let before = all();
    let dry = visit(&plan, &["-n"], |_| {}).await;
    let names = |files: &[(PathBuf, Vec<u8>)]| -> Vec<_> {
        files.iter().map(|it| (it.0.clone(), it.1.len())).collect()
    };
    let after = all();
    assert!(before == after, "a dry run changes nothing: {:?} {:?}", names(&before), names(&after));
    let done = visit(&plan, &[], |_| {}).await;
    assert_eq!(dry.report["saved"], done.report["saved"]);
    assert_eq!(done.report["missing"], json!([]), "{}", done.report);
    assert_eq!(done.report["saved"]["from_backup"], json!([session]), "{}", done.report);
    let daemon = plan.start().await;
    assert!(truth == events(&daemon).await.unwrap(), "all is there again");
    daemon.kill().await;
}

#[tokio::test]
async fn a_database_that_is_gone_comes_back_out_of_its_backup() {
    let shm = Shm::new("doctor-gone");
    let folder = shm.0.join("data");
    let plan = Plan::new().env("SESS_DATA_DIR", &folder);
    let daemon = plan.start().await;
    let mut wire = daemon.wire().await;
    let session = wire.session().await;
    wire.turn(&session, "kept").await;
    let kept = events(&daemon).await.unwrap();
    wire.ok("daemon/backup", json!({})).await;
    wire.turn(&session, "not kept").await;
    assert_eq!(daemon.terminate().await, 0);
    std::fs::remove_file(folder.join("sess.db")).unwrap();
    assert_eq!(plan.run().await, 65);
    assert!(plan.words().contains("`sess doctor`"), "the way out is said: {}", plan.words());
    assert!(!folder.join("sess.db").exists(), "none is made in its place");
    let done = visit(&plan, &[], |_| {}).await;
    assert_eq!(
        (done.code, &done.report["status"]),
        (Some(1), &json!("missing")),
        "{}",
        done.report
    );
    let daemon = plan.start().await;
    assert!(kept == events(&daemon).await.unwrap());
    daemon.kill().await;
    std::fs::remove_file(folder.join("sess.db")).unwrap();
    std::fs::remove_dir_all(folder.join("backups")).unwrap();
    for name in ["sess.db-wal", "sess.db-shm"] {
        let _ = std::fs::remove_file(folder.join(name));
    }
    let done = visit(&plan, &[], |_| {}).await;
    assert_eq!(
        (done.code, &done.report["status"]),
        (Some(1), &json!("nothing")),
        "{}",
        done.report
    );
    assert!(!folder.join("sess.db").exists(), "nothing is put in the place of what may come back");
}
