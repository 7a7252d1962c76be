//! What does the daemon do by itself as time goes by?

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sess_tests::bins;
use sess_tests::harness::{Daemon, Plan, Wire, stub, until_held, within};

/// Longer than a daemon with the shortest setting waits for anybody.
const LONGER: Duration = Duration::from_millis(1_600);

fn backups(plan: &Plan) -> Vec<String> {
    let folder = plan.data_folder().join("backups");
    let names = std::fs::read_dir(folder).into_iter().flatten();
    let names = names.map(|it| it.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|it| it.starts_with("sess-")).collect();
    names.sort();
    names
}

async fn set(wire: &mut Wire, key: &str, value: Value) {
    wire.ok("state/set", json!({"document": "settings", "key": key, "value": value})).await;
}

#[tokio::test]
async fn a_copy_is_made_when_the_newest_is_a_day_old_and_as_many_stay_as_are_set() {
    let daemon = Daemon::start().await;
    let mut wire = daemon.wire().await;
    wire.session().await;
    let made = wire.ok("daemon/backup", json!({})).await["backup"]["path"].clone();
    let folder = daemon.plan().data_folder().join("backups");
    let old = folder.join("sess-2001-01-01T10-00-00.000Z.db");
    std::fs::rename(made.as_str().unwrap(), &old).unwrap();
    set(&mut wire, "backup.keep", json!(1)).await;
    assert_eq!(backups(daemon.plan()).len(), 1, "nothing is made as long as it is off");
    set(&mut wire, "backup.daily", json!(true)).await;
    let news = async {
        while old.exists() {
            wire.ok("daemon/status", json!({})).await;
        }
    };
    within("the copy of the day", news).await;
    let left = backups(daemon.plan());
    assert_eq!(left.len(), 1, "{left:?}");
    // It is a whole one, and the next is not due.
    let plan = daemon.plan().clone();
    assert_eq!(daemon.terminate().await, 0);
    let daemon = plan.start().await;
    set(&mut daemon.wire().await, "theme", json!("dark")).await;
    assert_eq!(backups(&plan), left);
    assert_eq!(daemon.terminate().await, 0);
    let restore = plan.clone().arg("--restore").arg(folder.join(&left[0]));
    assert_eq!(restore.run().await, 0, "{}", restore.words());
    let daemon = plan.start().await;
    let list = daemon.wire().await.ok("session/list", json!({"empty": true})).await;
    assert_eq!(list["sessions"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_daemon_that_nobody_needs_ends_by_itself_and_the_client_starts_it_again() {
    let plan = Plan::new().document("settings", &json!({"daemon.idle_exit_s": 1}));
    let daemon = plan.start().await;
    let begun = Instant::now();
    let mut wire = daemon.wire().await;
    let session = wire.session().await;
    drop(wire);
    assert_eq!(daemon.exit_code().await, 0);
    assert!(begun.elapsed().as_millis() >= 1_000, "not before its time: {:?}", begun.elapsed());
    let mut command = tokio::process::Command::new(bins::bin("sess"));
    command.args(["ls", "--json"]).envs(environment(&plan)).current_dir(plan.folder());
    let output = within("sess", command.kill_on_drop(true).output()).await.unwrap();
    let listed = String::from_utf8(output.stdout).unwrap();
    assert!(listed.contains(&session), "{listed} {}", String::from_utf8_lossy(&output.stderr));
    let mut last = Wire::connect(&plan.socket()).await;
    last.ok("daemon/shutdown", json!({})).await;
    last.rest().await;
}

/// The environment in which `sess` finds the daemon of a plan, and starts one like it.
fn environment(plan: &Plan) -> Vec<(String, std::ffi::OsString)> {
    let command = plan.command();
    let set = command
        .get_envs()
        .filter_map(|(name, value)| Some((name.to_str()?.to_owned(), value?.to_owned())));
    set.collect()
}

#[tokio::test]
async fn a_daemon_with_a_client_or_a_task_stays() {
    let stub = stub().await;
    stub.script("stub", json!([{"text": "begun "}, {"hold": "h"}, {"text": "done"}]))
        .await
        .unwrap();
    let daemon = Daemon::with_stub(&stub).await;
    let mut wire = daemon.wire().await;
    set(&mut wire, "daemon.idle_exit_s", json!(1)).await;
    // A client that says nothing is there all the same: longer than the daemon would wait.
    assert!(wire.notification_within(LONGER).await.is_none());
    let sent = wire.ok("chat/send", json!({"content": "hello"})).await;
    until_held(&stub, "h").await;
    let pid = daemon.pid();
    drop(wire);
    // So is a task that nobody watches.
    let after = stub.wait_for(|_| false);
    assert!(tokio::time::timeout(LONGER, after).await.is_err());
    let mut wire = daemon.wire().await;
    assert_eq!(wire.ok("daemon/status", json!({})).await["pid"], pid);
    stub.release("h").await.unwrap();
    assert_eq!(wire.wait(&sent).await["task"]["status"], "completed");
    drop(wire);
    assert_eq!(daemon.exit_code().await, 0);
}
