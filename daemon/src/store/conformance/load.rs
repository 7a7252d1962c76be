//! Whether a session loads as its events fold, with the text that was being written.

use std::sync::Arc;

use serde_json::{Value, json};
use sess_protocol::id::{MessageId, SessionId, TaskId};

use super::build::{
    Log, Said, appended, completed, message, queued, raw, session, started, task, updated,
};
use crate::store::memory::Dice;
use crate::store::{Hash, Loaded, PartialPiece, PartialText, Store};

async fn load(store: &Arc<dyn Store>, session: SessionId) -> Loaded {
    store.load(session).await.expect("loads").expect("is there")
}

/// That what was loaded draws as the fold of all events does.
async fn same_as_folded(store: &Arc<dyn Store>, log: &Log) {
    let loaded = load(store, log.session).await;
    let told = Value::Object(loaded.view.snapshot_without_messages());
    let folded = Value::Object(log.view().snapshot_without_messages());
    assert_eq!(told, folded);
    assert_eq!(loaded.hash, log.hash);
}

fn call(n: u32, status: &str) -> Value {
    let id = format!("call_{n:032x}");
    json!({"id": id, "task": task(1).to_string(), "name": "shell", "input": {"n": n},
        "danger": "low", "status": status})
}

fn approval(n: u32, session: SessionId, status: &str) -> Value {
    json!({"id": format!("appr_{n:032x}"), "kind": "permission", "session": session.to_string(),
        "task": task(1).to_string(), "title": "may it", "options": ["allow", "deny"],
        "status": status, "at": "2026-11-21T10:00:00.000Z"})
}

/// A bit of everything that a session can hold.
fn everything(session: SessionId) -> Vec<Said> {
    let at = "2026-11-21T10:00:00.000Z";
    let goal =
        |n: u32| json!({"goal": {"n": n, "text": "go", "status": "active", "created_at": at}});
    let steps = json!([{"text": "look", "status": "pending"}]);
    let fork = json!({"id": "fork-0a1b2c3d", "parent": "main", "messages": 1, "created_at": at});
    vec![
        queued(session, task(1), 5),
        queued(session, task(2), 4),
        started(task(1)),
        raw("goal.changed", goal(2)),
        raw("goal.changed", goal(1)),
        raw("goal.changed", goal(3)),
        raw("goal.changed", json!({"goal": {"n": 1, "progress": "half", "priority": 3}})),
        raw("goal.changed", json!({"goal": {"n": 3, "removed": true}})),
        raw("goal.changed", json!({"goal": {"n": 1, "priority": null}})),
        raw(
            "plan.changed",
            json!({"plan": {"n": 1, "title": "p", "steps": steps, "status": "pending", "at": at}}),
        ),
        raw("note.added", json!({"note": {"n": 1, "kind": "pivot", "text": "so", "at": at}})),
        raw("thread.forked", json!({"thread": fork})),
        raw("thread.renamed", json!({"thread": {"id": "fork-0a1b2c3d", "label": "try"}})),
        raw("tool.proposed", json!({"tool_call": call(1, "proposed")})),
        raw("tool.proposed", json!({"tool_call": call(2, "waiting")})),
        raw("tool.proposed", json!({"tool_call": call(3, "proposed")})),
        raw(
            "approval.requested",
            json!({"approval": approval(1, session, "pending"), "session": {"approvals": 1}}),
        ),
        raw(
            "approval.requested",
            json!({"approval": approval(2, session, "pending"), "session": {"approvals": 2}}),
        ),
        updated(|it| it.description = Some(Some("words".to_owned()))),
    ]
}

pub(crate) async fn a_session_loads_as_its_events_fold(store: Arc<dyn Store>) {
    let mut log = Log::created(&store, session(1)).await;
    same_as_folded(&store, &log).await;
    for said in everything(log.session) {
        log.at.0 += 1;
        log.add(&store, vec![said]).await;
        same_as_folded(&store, &log).await;
    }
    // The same in one commit, in which things change several times.
    let mut other = Log::created(&store, session(2)).await;
    other.add(&store, everything_of_other_ids(other.session)).await;
    same_as_folded(&store, &other).await;
    same_as_folded(&store, &log).await;
}

/// The same things with ids of their own, as an id is never used in two sessions.
fn everything_of_other_ids(session: SessionId) -> Vec<Said> {
    let text = serde_json::to_string(&everything(session)).expect("is plain JSON");
    let text = text.replace("task_0199", "task_0299").replace("msg_0199", "msg_0299");
    let text = text.replace("call_00", "call_ff").replace("appr_00", "appr_ff");
    serde_json::from_str(&text).expect("is plain JSON")
}

pub(crate) async fn what_is_settled_and_said_is_not_loaded(store: Arc<dyn Store>) {
    let mut log = Log::created(&store, session(1)).await;
    log.add(&store, everything(log.session)).await;
    let settled = vec![
        raw("tool.finished", json!({"tool_call": call(1, "done")})),
        raw("tool.finished", json!({"tool_call": call(2, "denied")})),
        raw(
            "approval.answered",
            json!({"approval": {"id": format!("appr_{:032x}", 1), "status": "answered"}}),
        ),
        appended(message(70), None, "said"),
        completed(task(1), message(71)),
    ];
    log.add(&store, settled).await;
    same_as_folded(&store, &log).await;
    let view = load(&store, log.session).await.view;
    assert_eq!(view.things("message").count(), 0, "messages are not loaded");
    let ids = |kind: &str| -> Vec<String> {
        view.things(kind).filter_map(|it| Some(it.get("id")?.as_str()?.to_owned())).collect()
    };
    assert_eq!(ids("task"), [task(2).to_string()]);
    assert_eq!(ids("tool_call"), [format!("call_{:032x}", 3)]);
    assert_eq!(ids("approval"), [format!("appr_{:032x}", 2)]);
    assert!(!view.session().contains_key("running"));
    assert_eq!(view.session()["seq"], log.seq());
}

/// Patches by dice of a few things, so that they meet again and again. Tasks and calls are not
/// touched once they are final, as nothing follows there.
fn random(dice: &mut Dice, session: SessionId, n: u32, ended: &mut [bool; 5]) -> Said {
    let few = dice.below(5);
    let place = usize::try_from(few).expect("a small number");
    match dice.below(8) {
        0 => raw(
            "goal.changed",
            json!({"goal": {"n": few, "text": format!("goal {n}"), "status": "active"}}),
        ),
        1 => raw("goal.changed", json!({"goal": {"n": few, "progress": n.to_string()}})),
        2 => raw("goal.changed", json!({"goal": {"n": few, "progress": null}})),
        3 => raw("note.added", json!({"note": {"n": n, "kind": "pivot", "text": "turn"}})),
        4 => raw(
            "later.kind",
            json!({"session": {"title": n.to_string()},
                "plan": {"n": few, "title": n.to_string()}}),
        ),
        5 => updated(|it| it.preview = Some((few > 2).then(|| n.to_string()))),
        6 => raw("mine:own", json!({"session": {"title": "no"}, "goal": {"n": few, "text": "no"}})),
        _ if ended[place] => raw("notice", json!({"text": "nothing follows"})),
        _ => {
            let id = task(100 + u128::from(few));
            let status = ["queued", "running", "waiting", "failed"]
                [usize::try_from(dice.below(4)).expect("small")];
            ended[place] = status == "failed";
            raw(
                "task.updated",
                json!({"task": {"id": id.to_string(), "session": session.to_string(),
                "status": status, "order": n, "created_at": "2026-11-21T10:00:00.000Z",
                "model": "echo/echo", "request": {"message": MessageId(id.0).to_string()}}}),
            )
        }
    }
}

pub(crate) async fn any_history_loads_as_it_folds(store: Arc<dyn Store>) {
    let mut dice = Dice::new(7);
    let mut ended = [false; 5];
    let mut log = Log::created(&store, session(1)).await;
    for n in 0..60 {
        let count = 1 + dice.below(4);
        let said =
            (0..count).map(|_| random(&mut dice, log.session, n, &mut ended)).collect::<Vec<_>>();
        log.at.0 += 1;
        log.add(&store, said).await;
        same_as_folded(&store, &log).await;
    }
}

pub(crate) async fn unknown_types_fold_and_a_front_ends_own_do_not(store: Arc<dyn Store>) {
    let mut log = Log::created(&store, session(1)).await;
    log.add(&store, everything(log.session)).await;
    let later = json!({"session": {"title": "from later", "mood": "fine"},
        "gadget": {"id": "g1", "size": 3}});
    log.add(&store, vec![raw("gadget.made", later)]).await;
    same_as_folded(&store, &log).await;
    log.at.0 += 1;
    let own = json!({"session": {"title": "mine"},
        "task": {"id": task(2).to_string(), "status": "failed"},
        "message": {"id": message(80).to_string(), "content": []},
        "goal": {"n": 2, "removed": true}});
    log.add(&store, vec![raw("editor:cursor", own)]).await;
    same_as_folded(&store, &log).await;
    let loaded = load(&store, log.session).await;
    assert_eq!(loaded.view.session()["title"], "from later");
    assert_eq!(loaded.view.session()["mood"], "fine");
    assert_eq!(loaded.view.session()["updated_at"], log.at.to_string());
    assert!(store.message(log.session, message(80)).await.expect("answers").is_none());
    let (_, queued) = store.task(task(2)).await.expect("answers").expect("is there");
    assert_eq!(queued["status"], "queued");
}

pub(crate) async fn the_global_log_is_always_there(store: Arc<dyn Store>) {
    let empty = load(&store, SessionId::GLOBAL).await;
    assert_eq!((empty.view.seq(), empty.hash, empty.partial), (0, Hash::default(), None));
    let mut log = Log::of(SessionId::GLOBAL);
    log.add(&store, vec![raw("session.cleared", json!({}))]).await;
    log.add(&store, vec![raw("notice", json!({"text": "so"}))]).await;
    let loaded = load(&store, SessionId::GLOBAL).await;
    assert_eq!((loaded.view.seq(), loaded.hash), (2, log.hash));
    let events = store.events(SessionId::GLOBAL, 0, 9, 1 << 20).await.expect("are read");
    assert!(events.iter().map(|it| it.json.get()).eq(log.json()));
    assert!(store.sessions(super::sessions::any()).await.expect("lists").is_empty());
}

fn piece(
    session: SessionId,
    of: (TaskId, MessageId),
    pieces: &[(u32, bool, &str)],
) -> PartialPiece {
    let pieces = pieces.iter().map(|(place, kind, text)| (*place, *kind, (*text).to_owned()));
    let (task, message) = of;
    PartialPiece { session, task, message, reset: false, pieces: pieces.collect() }
}

fn partial(of: (TaskId, MessageId), blocks: &[(bool, &str)]) -> Option<PartialText> {
    let blocks = blocks.iter().map(|(kind, text)| (*kind, (*text).to_owned())).collect();
    Some(PartialText { task: of.0, message: of.1, blocks })
}

async fn running(store: &Arc<dyn Store>, n: u128) -> Log {
    let mut log = Log::created(store, session(n)).await;
    log.add(store, vec![queued(log.session, task(n), 1), started(task(n))]).await;
    log
}

pub(crate) async fn partial_text_grows_and_starts_over(store: Arc<dyn Store>) {
    let mut log = running(&store, 1).await;
    assert_eq!(load(&store, log.session).await.partial, None);
    let first = (task(1), message(50));
    for text in ["th", "in", "k \u{1f9e6}"] {
        store.keep_partial(piece(log.session, first, &[(0, true, text)])).await.expect("is kept");
    }
    let two = [(0, true, "."), (2, false, "Hel")];
    store.keep_partial(piece(log.session, first, &two)).await.expect("is kept");
    store.keep_partial(piece(log.session, first, &[(2, false, "lo")])).await.expect("is kept");
    let expected = partial(first, &[(true, "think \u{1f9e6}."), (false, "Hello")]);
    assert_eq!(load(&store, log.session).await.partial, expected);
    // A commit that ends nothing leaves it.
    log.add(&store, vec![updated(|it| it.title = Some("named".to_owned()))]).await;
    assert_eq!(load(&store, log.session).await.partial, expected);
    let mut again = piece(log.session, first, &[(0, false, "anew")]);
    again.reset = true;
    store.keep_partial(again).await.expect("is kept");
    assert_eq!(load(&store, log.session).await.partial, partial(first, &[(false, "anew")]));
    // One message is unfinished at a time: the next one takes the place of one never finished.
    let second = (task(1), message(51));
    store.keep_partial(piece(log.session, second, &[(0, true, "next")])).await.expect("is kept");
    assert_eq!(load(&store, log.session).await.partial, partial(second, &[(true, "next")]));
}

pub(crate) async fn partial_text_ends_with_its_message(store: Arc<dyn Store>) {
    let mut log = running(&store, 1).await;
    let (first, second) = ((task(1), message(50)), (task(1), message(51)));
    store.keep_partial(piece(log.session, first, &[(0, false, "one")])).await.expect("is kept");
    log.add(&store, vec![appended(first.1, None, "one whole")]).await;
    assert_eq!(load(&store, log.session).await.partial, None);
    store.keep_partial(piece(log.session, second, &[(0, false, "two")])).await.expect("is kept");
    assert_eq!(load(&store, log.session).await.partial, partial(second, &[(false, "two")]));
}

pub(crate) async fn partial_text_ends_with_its_task(store: Arc<dyn Store>) {
    let mut log = running(&store, 1).await;
    let other = running(&store, 2).await;
    let (mine, others) = ((task(1), message(50)), (task(2), message(60)));
    store.keep_partial(piece(log.session, mine, &[(0, false, "mi")])).await.expect("is kept");
    store.keep_partial(piece(other.session, others, &[(0, false, "ot")])).await.expect("is kept");
    // Kept and ended without a wait in between: the order of the calls holds.
    let late = store.keep_partial(piece(log.session, mine, &[(0, false, "ne")]));
    let end = json!({"task": {"id": task(1).to_string(), "status": "failed"},
        "session": {"running": null}});
    let commit = log.next(vec![raw("task.failed", end)]);
    let (kept, ended) = futures_util::join!(late, log.try_add(&store, commit));
    kept.expect("is kept");
    ended.expect("is stored");
    assert_eq!(load(&store, log.session).await.partial, None);
    assert_eq!(load(&store, other.session).await.partial, partial(others, &[(false, "ot")]));
}

pub(crate) async fn the_newest_id_is_that_of_a_task_a_message_or_an_answer_amid_its_writing(
    store: Arc<dyn Store>,
) {
    let all = u128::MAX;
    assert_eq!(store.newest_id(all).await, Ok(None));
    let first = running(&store, 1).await;
    let mut second = running(&store, 2).await;
    let asked = store.newest_id(all).await.expect("answers").expect("is there");
    assert!(asked >= task(2).0);
    let answer = (task(1), message(50));
    store.keep_partial(piece(first.session, answer, &[(0, false, "so")])).await.expect("is kept");
    assert_eq!(store.newest_id(all).await, Ok(Some(message(50).0)));
    second.add(&store, vec![completed(task(2), message(70))]).await;
    assert_eq!(store.newest_id(all).await, Ok(Some(message(70).0)));
    assert_eq!(store.newest_id(message(70).0 - 1).await, Ok(Some(message(50).0)));
    assert_eq!(store.newest_id(message(50).0 - 1).await, Ok(Some(asked)));
    assert_eq!(store.newest_id(1).await, Ok(None));
}
