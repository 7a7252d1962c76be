//! Whether sessions are found: by list, filter, digits, title, and as the active one.

use std::sync::Arc;

use serde_json::json;
use sess_protocol::id::{LockId, SessionId};
use sess_protocol::things::{Holder, Lock, Scope, SessionPatch, SessionStatus};
use sess_protocol::time::Timestamp;

use super::build::{
    Log, START_MS, Said, completed, message, queued, raw, session, started, task, updated,
    workspace,
};
use crate::store::{SessionFilter, Store};

/// More than a case has.
const MANY: u32 = 500;

/// A filter that keeps all.
pub(crate) fn any() -> SessionFilter {
    SessionFilter { limit: MANY, ..SessionFilter::default() }
}

async fn list(store: &Arc<dyn Store>, filter: SessionFilter) -> Vec<SessionId> {
    let sessions = store.sessions(filter).await.expect("lists");
    let id = |it: &serde_json::Value| it.as_str().expect("an id").parse().expect("an id");
    sessions.iter().map(|it| id(&it["id"])).collect()
}

fn sessions(numbers: impl IntoIterator<Item = u128>) -> Vec<SessionId> {
    numbers.into_iter().map(session).collect()
}

async fn at(store: &Arc<dyn Store>, n: u128, ms: i64) -> Log {
    Log::created_at(store, session(n), START_MS + ms, |_| {}).await
}

fn titled(title: &str) -> Said {
    let title = Some(title.to_owned());
    updated(|it| it.title = title)
}

pub(crate) async fn sessions_come_latest_first(store: Arc<dyn Store>) {
    let mut oldest = at(&store, 3, 0).await;
    at(&store, 1, 10).await;
    at(&store, 2, 10).await;
    assert_eq!(list(&store, any()).await, sessions([2, 1, 3]));
    oldest.at.0 += 11;
    oldest.add(&store, vec![raw("editor:own", json!({}))]).await;
    assert_eq!(list(&store, any()).await, sessions([3, 2, 1]));
    assert_eq!(list(&store, SessionFilter { limit: 2, ..any() }).await, sessions([3, 2]));
    let all = store.sessions(any()).await.expect("lists");
    assert_eq!(&all[0], oldest.view().session(), "a session is listed as its events fold");
    assert!(!all[0].contains_key("followers"));
}

pub(crate) async fn paging_covers_every_session_once(store: Arc<dyn Store>) {
    for n in 1..=17 {
        at(&store, n, i64::try_from(n / 4).expect("small")).await;
    }
    let whole = list(&store, any()).await;
    assert_eq!(whole, sessions((1..=17).rev()));
    for limit in [1, 3, 4, 16, 17, 18] {
        let (mut paged, mut behind) = (Vec::new(), None);
        loop {
            let filter = SessionFilter { limit, behind, ..any() };
            let page = store.sessions(filter.clone()).await.expect("lists");
            let Some(last) = page.last() else { break };
            assert!(page.len() <= limit as usize);
            let moment = last["updated_at"].as_str().expect("text").parse::<Timestamp>();
            let id = last["id"].as_str().expect("text").parse().expect("an id");
            behind = Some((moment.expect("a moment").0, id));
            paged.extend(list(&store, filter).await);
            assert!(paged.len() <= whole.len(), "none comes twice");
        }
        assert_eq!(paged, whole, "in pages of {limit}");
    }
}

/// Makes a session with changed members, and one that is not.
async fn one_that_differs(store: &Arc<dyn Store>, change: impl FnOnce(&mut SessionPatch)) {
    Log::created_at(store, session(1), START_MS, change).await;
    at(store, 2, 1).await;
}

pub(crate) async fn each_filter_keeps_what_it_names(store: Arc<dyn Store>) {
    one_that_differs(&store, |it| {
        it.status = Some(SessionStatus::Paused);
        it.workspace = workspace("/home/ada/project");
        it.scope = Some(Scope::Project);
        it.agent = Some("coder".to_owned());
        it.tags = Some(vec!["red".to_owned(), "a b".to_owned()]);
        it.title = Some("Fix the ENGINE".to_owned());
    })
    .await;
    let filters = [
        SessionFilter { status: Some(SessionStatus::Paused), ..any() },
        SessionFilter { workspace: Some("/home/ada/project".to_owned()), ..any() },
        SessionFilter { scope: Some(Scope::Project), ..any() },
        SessionFilter { agent: Some("coder".to_owned()), ..any() },
        SessionFilter { tag: Some("red".to_owned()), ..any() },
        SessionFilter { tag: Some("a b".to_owned()), ..any() },
        SessionFilter { text: Some("the engine".to_owned()), ..any() },
    ];
    for filter in &filters {
        assert_eq!(list(&store, filter.clone()).await, sessions([1]), "{filter:?}");
    }
    let nothing = [
        SessionFilter { status: Some(SessionStatus::Error), ..any() },
        SessionFilter { workspace: Some("/home/ada".to_owned()), ..any() },
        SessionFilter { tag: Some("re".to_owned()), ..any() },
        SessionFilter { tag: Some("RED".to_owned()), ..any() },
        SessionFilter { agent: Some("general".to_owned()), tag: Some("red".to_owned()), ..any() },
    ];
    for filter in &nothing {
        assert_eq!(list(&store, filter.clone()).await, [], "{filter:?}");
    }
    // A filter sees the session as it stands.
    let mut changed = at(&store, 3, 2).await;
    changed.add(&store, vec![updated(|it| it.tags = Some(vec!["red".to_owned()]))]).await;
    assert_eq!(list(&store, filters[4].clone()).await, sessions([3, 1]));
    changed.add(&store, vec![updated(|it| it.tags = Some(Vec::new()))]).await;
    assert_eq!(list(&store, filters[4].clone()).await, sessions([1]));
}

pub(crate) async fn text_is_looked_for_as_it_is_typed(store: Arc<dyn Store>) {
    let mut log = at(&store, 1, 0).await;
    let words = Some(Some("Über 100% of a_b".to_owned()));
    log.add(&store, vec![titled("Plan \"B\""), updated(|it| it.description = words)]).await;
    at(&store, 2, 1).await;
    let text = |it: &str| SessionFilter { text: Some(it.to_owned()), ..any() };
    for wanted in ["plan \"b", "0% OF", "A_B", "über", "ÜBER", "100%"] {
        assert_eq!(list(&store, text(wanted)).await, sessions([1]), "{wanted}");
    }
    for wanted in ["%lan%", "a__", "0%%", "plan \"b\" über"] {
        assert_eq!(list(&store, text(wanted)).await, [], "{wanted}");
    }
}

pub(crate) async fn empty_sessions_hide_by_age(store: Arc<dyn Store>) {
    at(&store, 1, 0).await;
    at(&store, 2, 10).await;
    let mut spoken = at(&store, 3, 0).await;
    spoken.add(&store, vec![queued(spoken.session, task(1), 1), started(task(1))]).await;
    let mut waits = at(&store, 4, 0).await;
    waits.add(&store, vec![queued(waits.session, task(2), 1)]).await;
    let before = |ms: i64| SessionFilter { hide_empty_before: Some(START_MS + ms), ..any() };
    assert_eq!(list(&store, before(0)).await, sessions([2, 4, 3, 1]));
    assert_eq!(list(&store, before(1)).await, sessions([2, 4, 3]));
    assert_eq!(list(&store, before(11)).await, sessions([4, 3]));
}

pub(crate) async fn unsettled_ones_are_found(store: Arc<dyn Store>) {
    let unsettled = SessionFilter { unsettled: true, ..any() };
    at(&store, 1, 0).await;
    let mut locked = at(&store, 2, 0).await;
    let holder = Holder { client: "sess".to_owned(), pid: 1, since: Timestamp(START_MS) };
    let lock = Some(Some(Lock { id: LockId(1), holder }));
    locked.add(&store, vec![updated(|it| it.lock = lock)]).await;
    let mut busy = at(&store, 3, 0).await;
    busy.add(&store, vec![queued(busy.session, task(1), 1)]).await;
    let mut brief = at(&store, 4, 0).await;
    brief.add(&store, vec![updated(|it| it.ephemeral = Some(Some(true)))]).await;
    assert_eq!(list(&store, unsettled.clone()).await, sessions([4, 3, 2]));
    busy.add(&store, vec![started(task(1))]).await;
    assert_eq!(list(&store, unsettled.clone()).await, sessions([4, 3, 2]));
    busy.add(&store, vec![completed(task(1), message(1))]).await;
    locked.add(&store, vec![updated(|it| it.lock = Some(None))]).await;
    brief.add(&store, vec![updated(|it| it.ephemeral = Some(None))]).await;
    assert_eq!(list(&store, unsettled).await, []);
}

pub(crate) async fn a_prefix_finds_sessions_by_their_digits(store: Arc<dyn Store>) {
    let id = |hex: &str| format!("sess_{hex:0<32}").parse::<SessionId>().expect("an id");
    for hex in ["1f2e3d", "1f2e4d", "00001", "ffff"] {
        Log::created(&store, id(hex)).await;
    }
    Log::of(SessionId::GLOBAL).add(&store, vec![raw("notice", json!({"text": "so"}))]).await;
    let find = async |digits: &str, limit: u32| {
        let mut found = store.sessions_by_prefix(digits, limit).await.expect("finds");
        found.sort();
        found
    };
    assert_eq!(find("1f2e", 6).await, [id("1f2e3d"), id("1f2e4d")]);
    assert_eq!(find("1f2e", 1).await.len(), 1);
    assert_eq!(find("1f2e3", 6).await, [id("1f2e3d")]);
    assert_eq!(find(&format!("{:0<32}", "1f2e3d"), 6).await, [id("1f2e3d")]);
    assert_eq!(find("ffff", 6).await, [id("ffff")]);
    assert_eq!(find("0000", 6).await, [id("00001")], "the global log is no session");
    assert_eq!(find("1f2f", 6).await, []);
}

pub(crate) async fn a_title_finds_sessions_latest_first(store: Arc<dyn Store>) {
    for n in 1..=3 {
        let mut log = at(&store, n, 10 - i64::try_from(n).expect("small")).await;
        log.add(&store, vec![titled("the same")]).await;
    }
    at(&store, 4, 20).await.add(&store, vec![titled("The same")]).await;
    assert_eq!(store.sessions_by_title("the same", 9).await, Ok(sessions([1, 2, 3])));
    assert_eq!(store.sessions_by_title("the same", 2).await, Ok(sessions([1, 2])));
    assert_eq!(store.sessions_by_title("the sam", 9).await, Ok(vec![]));
}

fn activated(ms: i64) -> Said {
    updated(|it| it.active_at = Some(Timestamp(START_MS + ms)))
}

pub(crate) async fn the_active_one_is_the_latest_made_active(store: Arc<dyn Store>) {
    assert_eq!(store.active(None).await, Ok(None));
    let mut logs = Vec::new();
    for (n, path) in [(1, "/a"), (2, "/a"), (3, "/b")] {
        let ms = i64::try_from(n).expect("small");
        let change = |it: &mut SessionPatch| it.workspace = workspace(path);
        logs.push(Log::created_at(&store, session(n), START_MS + ms, change).await);
    }
    assert_eq!(store.active(None).await, Ok(Some(session(3))));
    assert_eq!(store.active(Some("/a")).await, Ok(Some(session(2))));
    assert_eq!(store.active(Some("/c")).await, Ok(None));
    // A later change is not a later activation.
    logs[1].at.0 += 50;
    logs[1].add(&store, vec![titled("changed")]).await;
    logs[0].add(&store, vec![activated(40)]).await;
    assert_eq!(store.active(None).await, Ok(Some(session(1))));
    assert_eq!(store.active(Some("/a")).await, Ok(Some(session(1))));
    assert_eq!(store.active(Some("/b")).await, Ok(Some(session(3))));
}

pub(crate) async fn a_clear_holds_until_one_is_made_active(store: Arc<dyn Store>) {
    let change = |it: &mut SessionPatch| it.workspace = workspace("/a");
    let mut log = Log::created_at(&store, session(1), START_MS, change).await;
    let mut global = Log::of(SessionId::GLOBAL);
    // The clear of a workspace is not one over all.
    global.at = Timestamp(START_MS + 10);
    global.add(&store, vec![raw("session.cleared", json!({"workspace": "/a"}))]).await;
    assert_eq!(store.active(Some("/a")).await, Ok(None));
    assert_eq!(store.active(None).await, Ok(Some(session(1))));
    log.add(&store, vec![activated(20)]).await;
    assert_eq!(store.active(Some("/a")).await, Ok(Some(session(1))));
    // Nor is the clear over all one of each workspace.
    global.at = Timestamp(START_MS + 30);
    global.add(&store, vec![raw("session.cleared", json!({}))]).await;
    assert_eq!(store.active(None).await, Ok(None));
    assert_eq!(store.active(Some("/a")).await, Ok(Some(session(1))));
    log.add(&store, vec![activated(31)]).await;
    assert_eq!(store.active(None).await, Ok(Some(session(1))));
    global.at = Timestamp(START_MS + 31);
    global.add(&store, vec![raw("session.cleared", json!({}))]).await;
    assert_eq!(store.active(None).await, Ok(None), "active is what is later than the clear");
}
