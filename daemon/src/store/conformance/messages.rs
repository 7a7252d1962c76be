//! Whether messages come in the pages of their paths.

use std::sync::Arc;

use serde_json::Value;
use sess_protocol::id::MessageId;

use super::build::{Log, appended, completed, message, queued, session, started, task};
use crate::store::{MessagePage, Messages, Place, Store};

/// A page without bounds.
fn newest(head: u128, limit: u32) -> MessagePage {
    MessagePage { head: message(head), before: None, after: None, limit }
}

async fn page(store: &Arc<dyn Store>, log: &Log, page: MessagePage) -> Messages {
    store.messages(log.session, page).await.expect("answers").expect("all is known")
}

fn ids(page: &Messages) -> Vec<MessageId> {
    let id = |json: &str| {
        let message: Value = serde_json::from_str(json).expect("is JSON");
        message["id"].as_str().expect("an id").parse().expect("an id")
    };
    page.messages.iter().map(|it| id(it.get())).collect()
}

fn numbered(numbers: impl IntoIterator<Item = u128>) -> Vec<MessageId> {
    numbers.into_iter().map(message).collect()
}

/// Messages 1 to 9 in a line, and 11, 12 beside it from 4 on.
async fn forked(store: &Arc<dyn Store>) -> Log {
    let mut log = Log::created(store, session(1)).await;
    log.add(store, vec![appended(message(1), None, "first")]).await;
    for n in 2..=9 {
        log.add(store, vec![appended(message(n), Some(message(n - 1)), &n.to_string())]).await;
    }
    let beside = vec![
        appended(message(11), Some(message(4)), "beside"),
        appended(message(12), Some(message(11)), "further"),
    ];
    log.add(store, beside).await;
    log
}

pub(crate) async fn the_newest_of_a_path_come_oldest_first(store: Arc<dyn Store>) {
    let log = forked(&store).await;
    let three = page(&store, &log, newest(9, 3)).await;
    assert_eq!((ids(&three), three.more), (numbered(7..=9), true));
    let nine = page(&store, &log, newest(9, 9)).await;
    assert_eq!((ids(&nine), nine.more), (numbered(1..=9), false));
    let many = page(&store, &log, newest(9, 500)).await;
    assert_eq!((ids(&many), many.more), (numbered(1..=9), false));
    let inner = page(&store, &log, newest(2, 1)).await;
    assert_eq!((ids(&inner), inner.more), (numbered([2]), true));
}

pub(crate) async fn pages_backward_and_forward_cover_the_path_once(store: Arc<dyn Store>) {
    let log = forked(&store).await;
    for limit in [1, 2, 4, 9] {
        let mut back = page(&store, &log, newest(9, limit)).await;
        let mut all = ids(&back);
        while back.more {
            let bounds = MessagePage { before: all.first().copied(), ..newest(9, limit) };
            back = page(&store, &log, bounds).await;
            assert!(!back.messages.is_empty(), "more means that more comes");
            all.splice(0..0, ids(&back));
            assert!(all.len() <= 9, "none comes twice");
        }
        assert_eq!(all, numbered(1..=9));
        let mut all = numbered([1]);
        loop {
            let bounds = MessagePage { after: all.last().copied(), ..newest(9, limit) };
            let forth = page(&store, &log, bounds).await;
            all.extend(ids(&forth));
            assert!(all.len() <= 9, "none comes twice");
            if !forth.more {
                break;
            }
        }
        assert_eq!(all, numbered(1..=9));
    }
    let first = MessagePage { before: Some(message(1)), ..newest(9, 5) };
    let first = page(&store, &log, first).await;
    assert_eq!((ids(&first), first.more), (vec![], false));
    let last = MessagePage { after: Some(message(9)), ..newest(9, 5) };
    let last = page(&store, &log, last).await;
    assert_eq!((ids(&last), last.more), (vec![], false));
}

pub(crate) async fn a_forked_path_follows_its_parents(store: Arc<dyn Store>) {
    let log = forked(&store).await;
    let fork = page(&store, &log, newest(12, 500)).await;
    assert_eq!((ids(&fork), fork.more), (numbered([1, 2, 3, 4, 11, 12]), false));
    let older = MessagePage { before: Some(message(11)), ..newest(12, 2) };
    let older = page(&store, &log, older).await;
    assert_eq!((ids(&older), older.more), (numbered([3, 4]), true));
    let newer = MessagePage { after: Some(message(3)), ..newest(12, 2) };
    let newer = page(&store, &log, newer).await;
    assert_eq!((ids(&newer), newer.more), (numbered([4, 11]), true));
}

pub(crate) async fn an_unknown_bound_answers_nothing(store: Arc<dyn Store>) {
    let log = forked(&store).await;
    let mut other = Log::created(&store, session(2)).await;
    other.add(&store, vec![appended(message(50), None, "elsewhere")]).await;
    let unknown = [
        newest(40, 5),
        newest(50, 5),
        MessagePage { before: Some(message(40)), ..newest(9, 5) },
        MessagePage { before: Some(message(50)), ..newest(9, 5) },
        MessagePage { after: Some(message(40)), ..newest(9, 5) },
        MessagePage { after: Some(message(50)), ..newest(9, 5) },
    ];
    for bounds in unknown {
        let page = store.messages(log.session, bounds).await.expect("answers");
        assert!(page.is_none(), "{bounds:?}");
    }
    let page = store.messages(session(3), newest(9, 5)).await.expect("answers");
    assert!(page.is_none(), "an unknown session has no messages");
}

pub(crate) async fn a_message_is_answered_as_it_lies_in_its_event(store: Arc<dyn Store>) {
    let mut log = Log::created(&store, session(1)).await;
    log.add(&store, vec![queued(log.session, task(1), 1)]).await;
    let request = MessageId(task(1).0);
    assert!(store.message(log.session, request).await.expect("answers").is_none());
    log.add(&store, vec![started(task(1))]).await;
    let quoted = "\u{0} \u{2028} \"\\ \u{1f9e6}";
    log.add(&store, vec![appended(message(2), Some(request), quoted)]).await;
    log.add(&store, vec![completed(task(1), message(3))]).await;
    let all = page(&store, &log, MessagePage { after: None, ..newest(2, 9) }).await;
    assert_eq!(ids(&all), [request, message(2)]);
    for event in log.events().filter(|it| it.data.contains_key("message")) {
        let json = event.data["message"].to_string();
        let id = event.data["message"]["id"].as_str().expect("an id").parse().expect("an id");
        let found = store.message(log.session, id).await.expect("answers").expect("is there");
        assert_eq!(found.get(), json);
    }
    let answer = store.message(log.session, message(3)).await.expect("answers").expect("is there");
    assert!(answer.get().contains("\"role\":\"assistant\""));
    assert!(store.message(session(2), message(3)).await.expect("answers").is_none());
}

pub(crate) async fn an_id_tells_where_it_lies(store: Arc<dyn Store>) {
    let mut log = Log::created(&store, session(1)).await;
    log.add(&store, vec![queued(log.session, task(1), 1), started(task(1))]).await;
    log.add(&store, vec![appended(message(5), None, "here")]).await;
    let here = |id: &str| store.place(id);
    assert_eq!(here(&task(1).to_string()).await, Ok(Some(Place::Task(log.session))));
    assert_eq!(here(&message(5).to_string()).await, Ok(Some(Place::Message(log.session))));
    for unknown in [task(2).to_string(), message(6).to_string(), "task_".into(), "plain".into()] {
        assert_eq!(here(&unknown).await, Ok(None), "{unknown}");
    }
}
