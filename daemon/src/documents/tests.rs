//! Is what was answered on disk, and is nothing of a person's lost?

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;
use std::process::Command;

use futures_util::FutureExt;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::*;
use crate::config::Exit;

/// Set for a child of a test: the folder with the documents.
const CHILD: &str = "SESS_TEST_DOCUMENTS_CHILD";

fn check(providers: &Value) -> Result<(), String> {
    match providers.get("bad") {
        None => Ok(()),
        Some(_) => Err("`bad` has no kind".to_owned()),
    }
}

fn open(temp: &TempDir) -> Documents {
    Documents::open(temp.path(), check).unwrap()
}

fn start() -> (TempDir, Documents) {
    let temp = tempfile::tempdir().unwrap();
    let documents = open(&temp);
    (temp, documents)
}

fn at(document: &str, key: Option<&str>) -> StateParams {
    StateParams { document: document.into(), key: key.map(Into::into), workspace: None }
}

fn whole(document: &str) -> StateDocumentParams {
    StateDocumentParams { document: document.into(), workspace: None }
}

async fn get(documents: &Documents, document: &str, key: &str) -> Value {
    documents.get(&at(document, Some(key))).await.unwrap().value
}

async fn set(
    documents: &Documents,
    document: &str,
    key: Option<&str>,
    value: Value,
) -> Result<Value, Error> {
    let (document, key) = (document.into(), key.map(Into::into));
    let params = StateSetParams { document, key, value, workspace: None };
    documents.set(params).await.map(|it| it.value)
}

fn on_disk(temp: &TempDir, document: &str) -> Value {
    let text = fs::read(temp.path().join(format!("{document}.json"))).unwrap();
    serde_json::from_slice(&text).unwrap()
}

fn names(temp: &TempDir) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(temp.path())
        .unwrap()
        .map(|it| it.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn assert_refused<T: std::fmt::Debug>(result: Result<T, Error>, kind: ErrorKind, words: &str) {
    let err = result.unwrap_err();
    assert_eq!(err.kind(), kind, "{err}");
    assert!(err.message().contains(words), "{err}");
}

#[tokio::test]
async fn what_is_set_is_on_disk_for_the_owner_only_and_there_after_a_restart() {
    let (temp, documents) = start();
    set(&documents, "settings", Some("model"), json!("a/b")).await.unwrap();
    set(&documents, "providers", Some("a"), json!({"kind": "openai"})).await.unwrap();

    assert_eq!(on_disk(&temp, "settings"), json!({"model": "a/b"}));
    assert_eq!(names(&temp), ["providers.json", "settings.json"]);
    let meta = fs::metadata(temp.path().join("providers.json")).unwrap();
    assert_eq!(meta.mode() & 0o7777, 0o600);

    let again = open(&temp);
    assert_eq!(again.settings().model().as_deref(), Some("a/b"));
    assert_eq!(*again.providers(), json!({"a": {"kind": "openai"}}));
    assert_eq!(again.all(&StateAllParams::default()).await.unwrap().documents.len(), 8);
    assert!(again.notices().is_empty());
}

#[tokio::test]
async fn what_is_not_set_is_null_and_its_default_is_read_by_type() {
    let (temp, documents) = start();
    assert_eq!(get(&documents, "settings", "tasks.max_running").await, Value::Null);
    assert_eq!(documents.settings().tasks_running_max(), 64);

    set(&documents, "settings", Some("tasks.max_running"), json!(2)).await.unwrap();
    assert_eq!(documents.settings().tasks_running_max(), 2);
    set(&documents, "settings", Some("tasks.max_running"), Value::Null).await.unwrap();
    assert_eq!(on_disk(&temp, "settings"), json!({}));

    set(&documents, "settings", None, json!({"mode": "plan", "theme": null})).await.unwrap();
    assert_eq!(on_disk(&temp, "settings"), json!({"mode": "plan"}));
    documents.delete(at("settings", Some("mode"))).await.unwrap();
    documents.delete(at("settings", Some("mode"))).await.unwrap();
    assert_eq!(on_disk(&temp, "settings"), json!({}));
}

#[tokio::test]
async fn what_is_wrong_is_refused_and_changes_nothing() {
    let (temp, documents) = start();
    let invalid = ErrorKind::InvalidParams;
    assert_refused(documents.get(&at("setings", None)).await, ErrorKind::NotFound, "`setings`");
    let err = documents.get(&at("setings", None)).await.unwrap_err();
    assert_eq!(err.member("nearest"), Some(&json!("settings")));
    for (document, key, value, words) in [
        ("settings", Some("modle"), json!("a/b"), "is `model` meant"),
        ("settings", Some("mode"), json!("fast"), "one of `plan`"),
        ("settings", None, json!({"mode": "ask", "zzz": 1}), "no setting `zzz`"),
        ("settings", None, json!([]), "must be an object"),
        ("providers", Some("a"), json!("x"), "`a` in `providers` must be an object"),
        ("providers", Some("a/b"), json!({}), "no slash"),
        ("providers", Some("bad"), json!({}), "has no kind"),
        ("providers", Some("k".repeat(257).as_str()), json!({}), "257 bytes"),
        ("providers", Some("a"), json!({"x": "y".repeat(DOCUMENT_BYTES_MAX)}), "would have"),
    ] {
        assert_refused(set(&documents, document, key, value).await, invalid, words);
    }
    let many: Map<String, Value> = (0..=KEYS_MAX).map(|it| (it.to_string(), json!({}))).collect();
    assert_refused(set(&documents, "providers", None, many.into()).await, invalid, "4097 keys");
    assert_refused(documents.get(&at("settings", Some("modle"))).await, invalid, "`model`");
    assert_refused(documents.delete(at("settings", Some("modle"))).await, invalid, "`model`");
    let mut params = at("settings", None);
    params.workspace = Some(Some("w".to_owned()));
    assert_refused(documents.get(&params).await, invalid, "absolute");
    assert!(names(&temp).is_empty());
}

#[tokio::test]
async fn a_damaged_file_is_set_aside_with_a_notice() {
    for bytes in
        [&b"{\"model\": \"a/b\""[..], b"", b"[]", b"\xff{}", &[b' '; DOCUMENT_BYTES_MAX + 1]]
    {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("settings.json"), bytes).unwrap();
        let err = Documents::check(temp.path(), check).unwrap_err();
        assert_eq!(err.exit, Exit::Settings, "{err}");
        assert_eq!(names(&temp), ["settings.json"]);

        let documents = open(&temp);
        set(&documents, "settings", Some("mode"), json!("plan")).await.unwrap();

        let [_, kept] = names(&temp).try_into().unwrap();
        assert!(kept.starts_with("settings.json.damaged-"), "{kept}");
        assert_eq!(fs::read(temp.path().join(&kept)).unwrap(), bytes);
        let [notice] = documents.notices().try_into().unwrap();
        assert!(notice.message.contains(&kept), "{notice:?}");
    }
}

#[test]
fn two_damaged_files_of_one_moment_are_both_kept() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("settings.json");
    for text in ["first", "second"] {
        fs::write(&path, text).unwrap();
        file::set_aside(&path, 7).unwrap();
    }
    let read = |name: &str| fs::read_to_string(temp.path().join(name)).unwrap();
    assert_eq!(read("settings.json.damaged-7"), "first");
    assert_eq!(read("settings.json.damaged-8"), "second");
}

#[test]
fn a_wrong_value_refuses_the_start_and_stays_for_its_writer() {
    for (document, text, words) in [
        ("settings", r#"{"mode": "fast"}"#, "one of `plan`"),
        ("providers", r#"{"bad": {}}"#, "has no kind"),
        ("providers", r#"{"a": 1}"#, "must be an object"),
    ] {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join(format!("{document}.json"));
        fs::write(&path, text).unwrap();
        for err in [
            Documents::check(temp.path(), check).unwrap_err(),
            Documents::open(temp.path(), check).unwrap_err(),
        ] {
            assert_eq!(err.exit, Exit::Settings);
            assert!(err.to_string().contains(words), "{err}");
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
}

#[tokio::test]
async fn unknown_keys_written_by_hand_are_kept_and_warned_of() {
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("settings.json"), r#"{"modle": "a/b", "my": 1}"#).unwrap();
    let documents = open(&temp);

    assert!(documents.notices()[0].message.contains("is `model` meant"));
    assert_eq!(documents.notices().len(), 2);
    set(&documents, "settings", Some("mode"), json!("plan")).await.unwrap();
    assert_eq!(on_disk(&temp, "settings"), json!({"modle": "a/b", "my": 1, "mode": "plan"}));
    assert_eq!(get(&documents, "settings", "my").await, json!(1));
    documents.delete(at("settings", Some("my"))).await.unwrap();
    assert_eq!(on_disk(&temp, "settings"), json!({"modle": "a/b", "mode": "plan"}));
}

#[tokio::test]
async fn an_edit_by_hand_is_taken_over_before_the_next_change_and_by_load() {
    let (temp, documents) = start();
    let path = temp.path().join("settings.json");
    set(&documents, "settings", Some("mode"), json!("plan")).await.unwrap();
    fs::write(&path, r#"{"theme": "dark"}"#).unwrap();

    set(&documents, "settings", Some("model"), json!("a/b")).await.unwrap();
    assert_eq!(on_disk(&temp, "settings"), json!({"theme": "dark", "model": "a/b"}));

    fs::write(&path, r#"{"theme": "light"}"#).unwrap();
    let loaded = documents.load(&whole("settings")).await.unwrap();
    assert_eq!(loaded.value, json!({"theme": "light"}));
    documents.save(&whole("settings")).await.unwrap();
    fs::remove_file(&path).unwrap();
    assert_eq!(documents.load(&whole("settings")).await.unwrap().value, json!({}));
}

#[tokio::test]
async fn a_wrong_value_written_by_hand_is_left_to_its_writer() {
    let (temp, documents) = start();
    let path = temp.path().join("settings.json");
    set(&documents, "settings", Some("mode"), json!("plan")).await.unwrap();
    let text = r#"{"mode": 1}"#;
    fs::write(&path, text).unwrap();
    let kind = ErrorKind::InvalidParams;
    assert_refused(documents.load(&whole("settings")).await, kind, "settings.json");
    let changed = set(&documents, "settings", Some("theme"), json!("x")).await;
    assert_refused(changed, kind, "settings.json");
    assert_eq!(get(&documents, "settings", "mode").await, json!("plan"));
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    assert!(documents.notices()[0].message.contains("what held before stands"));
}

#[tokio::test]
async fn a_file_damaged_by_hand_is_set_aside_and_what_held_before_stands() {
    for by_load in [true, false] {
        let (temp, documents) = start();
        set(&documents, "settings", Some("mode"), json!("plan")).await.unwrap();
        fs::write(temp.path().join("settings.json"), "{half").unwrap();

        // Looking alone changes no file.
        assert_eq!(get(&documents, "settings", "mode").await, json!("plan"));
        assert_eq!(names(&temp), ["settings.json"]);
        let theme = ("settings", Some("theme"), json!("x"));
        let refused = match by_load {
            true => documents.load(&whole("settings")).await.map(|it| it.value),
            false => set(&documents, theme.0, theme.1, theme.2.clone()).await,
        };
        assert_refused(refused, ErrorKind::Storage, "settings.json.damaged-");

        let [_, kept] = names(&temp).try_into().unwrap();
        assert_eq!(fs::read_to_string(temp.path().join(kept)).unwrap(), "{half");
        assert_eq!(on_disk(&temp, "settings"), json!({"mode": "plan"}));
        set(&documents, theme.0, theme.1, theme.2).await.unwrap();
        assert_eq!(on_disk(&temp, "settings"), json!({"mode": "plan", "theme": "x"}));
    }
}

#[tokio::test]
async fn an_edit_by_hand_is_seen_by_the_next_who_reads() {
    let (temp, documents) = start();
    set(&documents, "settings", Some("mode"), json!("plan")).await.unwrap();
    fs::write(temp.path().join("settings.json"), r#"{"mode": "full"}"#).unwrap();
    assert_eq!(get(&documents, "settings", "mode").await, json!("full"));
}

#[tokio::test]
async fn a_workspace_has_documents_of_its_own() {
    let (temp, documents) = start();
    let theme = |workspace: Option<&str>, value: &str| StateSetParams {
        document: "settings".into(),
        key: Some("theme".into()),
        value: value.into(),
        workspace: Some(workspace.map(Into::into)),
    };
    documents.set(theme(None, "mine")).await.unwrap();
    for path in ["/a/w", "/b/w"] {
        documents.set(theme(Some(path), path)).await.unwrap();
    }
    let again = open(&temp);
    for (workspace, value) in [(None, "mine"), (Some("/a/w"), "/a/w"), (Some("/b/w"), "/b/w")] {
        let mut params = at("settings", Some("theme"));
        params.workspace = Some(workspace.map(Into::into));
        assert_eq!(again.get(&params).await.unwrap().value, json!(value));
    }
    assert_eq!(fs::read_dir(temp.path().join("workspaces")).unwrap().count(), 2);
}

#[tokio::test]
async fn a_follower_hears_each_change_and_a_slow_one_the_whole() {
    let (temp, documents) = start();
    set(&documents, "settings", Some("mode"), json!("plan")).await.unwrap();
    let (value, mut follow) = documents.subscribe(&whole("settings")).await.unwrap();
    assert_eq!(value.value, json!({"mode": "plan"}));

    set(&documents, "providers", Some("a"), json!({})).await.unwrap();
    set(&documents, "settings", Some("mode"), json!("plan")).await.unwrap();
    set(&documents, "settings", Some("theme"), json!("x")).await.unwrap();
    documents.delete(at("settings", Some("theme"))).await.unwrap();
    fs::write(temp.path().join("settings.json"), r#"{"theme": "y"}"#).unwrap();
    documents.load(&whole("settings")).await.unwrap();
    for expected in [
        json!({"document": "settings", "key": "theme", "value": "x"}),
        json!({"document": "settings", "key": "theme", "value": null}),
        json!({"document": "settings", "value": {"theme": "y"}}),
    ] {
        assert_eq!(json!(*follow.next().await), expected);
    }

    let last = follow::CHANGES_MAX + 1;
    for number in 0..=last {
        set(&documents, "settings", Some("theme"), json!(number.to_string())).await.unwrap();
    }
    let whole = json!({"document": "settings", "value": {"theme": last.to_string()}});
    assert_eq!(json!(*follow.next().await), whole);
    set(&documents, "settings", Some("theme"), json!("z")).await.unwrap();
    assert_eq!(json!(*follow.next().await)["value"], json!("z"));
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_at_once_are_all_kept_also_of_those_who_left() {
    let (temp, documents) = start();
    let jobs: Vec<_> = (0..32)
        .map(|number| {
            let documents = documents.clone();
            tokio::spawn(async move {
                let key = format!("p{number}");
                set(&documents, "providers", Some(&key), json!({})).await.unwrap();
            })
        })
        .collect();
    for job in jobs {
        job.await.unwrap();
    }
    assert_eq!(on_disk(&temp, "providers").as_object().unwrap().len(), 32);

    // Polled once, it has its turn and its work is begun; then nobody waits for it.
    let (_, mut follow) = documents.subscribe(&whole("providers")).await.unwrap();
    let asked = set(&documents, "providers", Some("left"), json!({}));
    drop(asked.now_or_never());
    assert_eq!(follow.next().await.key.as_deref(), Some("left"));
    set(&documents, "providers", Some("later"), json!({})).await.unwrap();
    assert_eq!(on_disk(&temp, "providers").as_object().unwrap().len(), 34);
}

#[tokio::test]
async fn a_link_stays_a_link_and_leftovers_go() {
    let (temp, _) = start();
    let elsewhere = tempfile::tempdir().unwrap();
    let target = elsewhere.path().join("mine.json");
    fs::write(&target, "{}").unwrap();
    symlink(&target, temp.path().join("settings.json")).unwrap();
    // The pid of a process that has ended.
    let mut ended = Command::new("true").spawn().unwrap();
    ended.wait().unwrap();
    fs::write(temp.path().join(format!(".settings.json.{}.tmp", ended.id())), "{").unwrap();
    fs::write(temp.path().join(".settings.json.1.tmp"), "{").unwrap();

    let documents = open(&temp);
    set(&documents, "settings", Some("mode"), json!("plan")).await.unwrap();

    assert_eq!(fs::read_link(temp.path().join("settings.json")).unwrap(), target);
    assert!(fs::read_to_string(&target).unwrap().contains("plan"));
    assert_eq!(names(&temp), [".settings.json.1.tmp", "settings.json"]);
}

#[tokio::test]
#[ignore = "run by another test as a process of its own, with a limit on the size of files"]
async fn child_with_little_room() {
    let folder = PathBuf::from(std::env::var_os(CHILD).expect("only run by another test"));
    let documents = Documents::open(&folder, check).unwrap();
    set(&documents, "providers", Some("small"), json!({})).await.unwrap();
    let large = json!({"x": "y".repeat(64 * 1024)});
    let refused = set(&documents, "providers", Some("large"), large).await;
    assert_refused(refused, ErrorKind::Storage, "nothing was changed");
    assert_eq!(*documents.providers(), json!({"small": {}}));
    set(&documents, "providers", Some("second"), json!({})).await.unwrap();
}

#[test]
fn without_room_on_disk_the_old_document_stands() {
    let temp = tempfile::tempdir().unwrap();
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "documents::tests::child_with_little_room", "--ignored"])
        .env(CHILD, temp.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(on_disk(&temp, "providers"), json!({"small": {}, "second": {}}));
    assert_eq!(names(&temp), ["providers.json"]);
}
