//! Is a database of every earlier schema read as it was, whole or not at all brought to the newest, and one that is
//! not ours left alone?
//!
//! `schemas/1` to `schemas/4` were made by the daemons of these schemas ([`a_store_of_an_older_daemon`]); what they
//! answered lies beside each.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sess_tests::bins;
use sess_tests::faults::Faults;
use sess_tests::figures::{figure, rounds};
use sess_tests::harness::Plan;
use sha2::{Digest, Sha256};

use crate::Shm;
use crate::doctor::{Events, events};

/// The schemas of which there is a store.
const OLDER: [u32; 4] = [1, 2, 3, 4];
/// The first schema that nobody knows.
const NEWER: u32 = 7;
/// Where the number of the schema and the kind of the database lie in SQLite's header.
const VERSION_AT: u64 = 60;
const KIND_AT: u64 = 68;
/// Bytes of a text that does not stay in an event.
const LONG_BYTES: usize = 70 * 1024;

fn schemas(number: u32) -> PathBuf {
    bins::workspace().join("tests/durable/schemas").join(number.to_string())
}

fn truth(number: u32) -> Events {
    serde_json::from_slice(&unpacked(&schemas(number).join("truth.json.gz"))).unwrap()
}

fn unpacked(path: &Path) -> Vec<u8> {
    let done = std::process::Command::new("gzip").arg("-dc").arg(path).output().unwrap();
    assert!(done.status.success(), "{}", path.display());
    done.stdout
}

/// A copy of a store, without what was answered of it.
fn store(number: u32, folder: &Path) -> Plan {
    let _ = std::fs::remove_dir_all(folder);
    std::fs::create_dir_all(folder).unwrap();
    for name in ["sess.db", "store.json"] {
        let packed = schemas(number).join(format!("{name}.gz"));
        std::fs::write(folder.join(name), unpacked(&packed)).unwrap();
    }
    Plan::new().env("SESS_DATA_DIR", folder)
}

fn version(folder: &Path) -> u32 {
    let mut bytes = [0; 4];
    let file = std::fs::File::open(folder.join("sess.db")).unwrap();
    file.read_exact_at(&mut bytes, VERSION_AT).unwrap();
    u32::from_be_bytes(bytes)
}

/// Makes the stores of an older schema, with the daemon that `SESS_OLDER` names, in the folder `SESS_OLDER_STORE`.
#[tokio::test]
#[ignore = "run by hand, with a daemon of that schema"]
async fn a_store_of_an_older_daemon() {
    let variable = |name: &str| PathBuf::from(std::env::var_os(name).expect("it is set"));
    let plan = Plan::new().program(&variable("SESS_OLDER"));
    let daemon = plan.start().await;
    let mut wire = daemon.wire().await;
    let mut sessions = Vec::new();
    for n in 0..3 {
        let create =
            json!({"title": format!("session {n}"), "idempotency_key": format!("key {n}")});
        let session = wire.ok("session/create", create).await["id"].as_str().unwrap().to_owned();
        for turn in 0..6 {
            wire.turn(&session, &format!("question {turn} of {n}")).await;
        }
        sessions.push(session);
    }
    wire.turn(&sessions[0], &"long ".repeat(LONG_BYTES / 5)).await;
    wire.ok("session/update", json!({"session": sessions[1], "tags": ["a", "b"]})).await;
    wire.ok("session/delete", json!({"session": sessions[2]})).await;
    let truth = events(&daemon).await.unwrap();
    assert_eq!(daemon.terminate().await, 0);
    let folder = variable("SESS_OLDER_STORE");
    std::fs::create_dir_all(&folder).unwrap();
    for name in ["sess.db", "store.json"] {
        std::fs::copy(plan.data_folder().join(name), folder.join(name)).unwrap();
    }
    std::fs::write(folder.join("truth.json"), serde_json::to_vec(&truth).unwrap()).unwrap();
    let names = ["sess.db", "store.json", "truth.json"];
    let packed =
        std::process::Command::new("gzip").arg("-fn9").args(names).current_dir(&folder).status();
    assert!(packed.unwrap().success());
}

async fn is_whole(plan: &Plan, folder: &Path, truth: &Events) -> Result<(), String> {
    let daemon = plan.try_start().await.map_err(|it| format!("{it}: {}", plan.words()))?;
    let there = events(&daemon).await?;
    if &there != truth {
        return Err("it answers something else".to_owned());
    }
    let key = json!({"title": "session 0", "idempotency_key": "key 0"});
    let again = daemon.wire().await.call("session/create", key).await;
    let is_same = |it: &Value| truth.contains_key(it["id"].as_str().unwrap_or_default());
    if !again.as_ref().is_ok_and(is_same) {
        return Err(format!("the key is not what it was: {again:?}"));
    }
    if daemon.terminate().await != 0 || version(folder) + 1 != NEWER {
        return Err(format!("it ended with schema {}", version(folder)));
    }
    match plan.clone().arg("--check").run().await {
        // Every projection is what its log says.
        0 => Ok(()),
        code => Err(format!("`--check` ended with {code}: {}", plan.words())),
    }
}

#[tokio::test]
async fn a_store_of_each_schema_answers_as_it_did() {
    let shm = Shm::new("schemas");
    for number in OLDER {
        let folder = shm.0.join(number.to_string());
        let plan = store(number, &folder);
        assert_eq!(version(&folder), number);
        is_whole(&plan, &folder, &truth(number)).await.unwrap();
        let kept = std::fs::read_dir(folder.join("backups")).unwrap().count();
        assert_eq!(kept, 1, "the old store is kept as a backup");
    }
    figure("R18", "stores of an older schema that answer something else", 0, OLDER.len());
}

#[tokio::test]
async fn a_start_killed_amid_the_steps_leaves_none_half() {
    let shm = Shm::new("schemas-killed");
    let folder = shm.0.join("data");
    let mut kills = 0;
    for number in OLDER {
        let truth = truth(number);
        for call in ["pwrite", "fsync", "ftruncate", "open", "rename", "unlink"] {
            let step = match call {
                "pwrite" => rounds(23, 1),
                "open" | "fsync" => rounds(5, 1),
                _ => rounds(2, 1),
            };
            for nth in (0..).map(|it| 1 + it * step) {
                let plan = store(number, &folder);
                let faults = Faults::new(&plan.folder().join("fired"));
                let faults = faults.rule(&format!("{call}:{}:{nth}:KILL", folder.display()));
                let killed = plan.clone().hook({
                    let faults = faults.clone();
                    move |command| faults.command(command).unwrap()
                });
                let started = killed.try_start().await;
                let has_fired = !faults.fired().unwrap().is_empty();
                if let Ok(daemon) = started {
                    daemon.kill().await;
                }
                if !has_fired {
                    break;
                }
                kills += 1;
                let whole = is_whole(&plan, &folder, &truth).await;
                whole.unwrap_or_else(|err| panic!("schema {number}, {call} {nth}: {err}"));
            }
        }
    }
    figure("R18", "stores left between two schemas by a kill", 0, kills);
}

fn sums(folder: &Path) -> Vec<(PathBuf, String)> {
    let files = std::fs::read_dir(folder).unwrap().map(|it| it.unwrap().path());
    let files =
        files.filter(|it| it.is_file() && it.file_name().is_some_and(|it| it != "sessd.lock"));
    let mut sums: Vec<_> = files
        .map(|path| {
            let sum = Sha256::digest(std::fs::read(&path).unwrap());
            (path, sum.iter().map(|it| format!("{it:02x}")).collect())
        })
        .collect();
    sums.sort();
    sums
}

#[tokio::test]
async fn what_is_newer_or_another_programs_is_refused_with_every_byte_as_it_was() {
    let shm = Shm::new("schemas-newer");
    let mut refused = 0;
    for (at, value, marked, code) in [
        (VERSION_AT, NEWER, true, 78),
        (VERSION_AT, 9_999, true, 78),
        (KIND_AT, 0x1234_5678, true, 65),
        (KIND_AT, 0x1234_5678, false, 65),
        (KIND_AT, 0, true, 65),
        (KIND_AT, 0, false, 65),
    ] {
        let folder = shm.0.join("data");
        let plan = store(4, &folder);
        let file = std::fs::File::options().write(true).open(folder.join("sess.db")).unwrap();
        file.write_all_at(&value.to_be_bytes(), at).unwrap();
        if !marked {
            std::fs::remove_file(folder.join("store.json")).unwrap();
        }
        let before = sums(&folder);
        assert_eq!(plan.run().await, code, "{value:x} at {at}: {}", plan.words());
        assert_eq!(before, sums(&folder), "{value:x} at {at}");
        if code == 78 {
            assert_eq!(plan.clone().arg("--doctor").run().await, code, "{}", plan.words());
            assert_eq!(before, sums(&folder), "{value:x} at {at}");
        }
        refused += 1;
    }
    figure("R18", "refused databases that were changed", 0, refused);
}
