//! What clients do: chosen by dice, sent as any client would.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use sess_protocol::id::SessionId;
use tokio::time::Instant;

use crate::answers::Asked;
use crate::client::{Connection, FollowAsked, Pending, Person, Site};
use crate::follower::Follower;
use crate::rules;

/// Sessions that there are at a time.
const SESSIONS_MAX: usize = 4;
/// Requests that are sent together at times: more than a queue takes.
const BURST: u64 = 30;
/// How long a client that has done all it wants to listens on.
const LISTEN: Duration = Duration::from_secs(86_400);

/// Lives as this person until the daemon ends: acts so many times, then listens.
pub(crate) async fn live(
    person: Arc<Mutex<Person>>,
    site: Site,
    mut acts: u64,
    left: Arc<AtomicUsize>,
) {
    let mut connection: Option<Connection> = None;
    loop {
        let (pause, stalled) = pause(&mut locked(&person), acts);
        if stalled && connection.is_some() {
            locked(&person).follows.values_mut().for_each(|it| it.keeps_up = false);
        }
        listen(&person, &site, &mut connection, Instant::now() + pause, stalled).await;
        let mut person = locked(&person);
        match &mut connection {
            None => {
                let mut new = Connection::open(&site, &mut person);
                again(&site, &mut person, &mut new);
                connection = Some(new);
            }
            Some(open) if acts > 0 => {
                if act(&site, &mut person, open) {
                    site.trace.say(&format!("{} leaves", open.name));
                    lost(&mut person, &mut connection);
                }
            }
            Some(_) => {}
        }
        if acts == 1 {
            if let Some(open) = connection.as_mut().filter(|_| site.calm) {
                set_going(&site, open);
            }
            if left.fetch_sub(1, Ordering::Relaxed) == 1 {
                site.done.cancel();
            }
        }
        acts = acts.saturating_sub(1);
    }
}

fn locked(person: &Mutex<Person>) -> std::sync::MutexGuard<'_, Person> {
    person.lock().expect("nobody panics while holding a person")
}

fn lost(person: &mut Person, connection: &mut Option<Connection>) {
    *connection = None;
    person.follows.values_mut().for_each(Follower::lost);
}

/// How long until the next act, and whether nothing is read until then.
fn pause(person: &mut Person, acts: u64) -> (Duration, bool) {
    let dice = &mut person.dice;
    let ms = match dice.below(10) {
        0..3 => 0,
        3..6 => dice.below(20),
        6..9 => dice.below(600),
        _ => dice.below(8_000),
    };
    let stalled = acts > 0 && dice.percent(12);
    match acts {
        0 => (LISTEN, false),
        _ => (Duration::from_millis(ms), stalled),
    }
}

/// Hears what comes until a moment.
async fn listen(
    person: &Mutex<Person>,
    site: &Site,
    connection: &mut Option<Connection>,
    until: Instant,
    stalled: bool,
) {
    let until = tokio::time::sleep_until(until);
    tokio::pin!(until);
    loop {
        let Some(open) = connection.as_mut().filter(|_| !stalled) else {
            until.await;
            site.world.elapsed_ms();
            return;
        };
        let line = tokio::select! {
            biased;
            line = open.line() => line,
            () = &mut until => {
                site.world.elapsed_ms();
                return;
            }
        };
        site.world.elapsed_ms();
        let mut person = locked(person);
        let Some(line) = line else {
            site.trace.say(&format!("{} is cut off", open.name));
            if site.calm && !site.judge().stopping && open.to.is_some() {
                site.trace.broken(&format!("{} is cut off in a calm", open.name));
            }
            lost(&mut person, connection);
            continue;
        };
        site.trace.say(&format!("{} < {line}", open.name));
        if let Err(wrong) = open.hear(site, &mut person, &line) {
            site.trace.broken(&format!("{}: {wrong}", open.name));
        }
    }
}

fn plain(method: &'static str, params: Value) -> Asked {
    Asked { method, params, key: None, before: None, other: false }
}

fn send(site: &Site, connection: &mut Connection, asked: Asked) {
    let mut params = asked.params.clone();
    if let Some(key) = &asked.key {
        params["idempotency_key"] = key.clone().into();
    }
    site.trace.say(&format!("{} > {} {params}", connection.name, asked.method));
    connection.ask(asked.method, params, Pending::Plain(asked));
}

/// Sends a request that may have a key.
fn keyed(site: &Site, person: &mut Person, connection: &mut Connection, mut asked: Asked) {
    if person.dice.percent(50) {
        person.said += 1;
        asked.key = Some(format!("key{}-{}", person.no, person.said));
        person.keyed.push((asked.clone(), None));
    }
    send(site, connection, asked);
}

/// Asks again for what has no answer, and goes on with what was followed.
fn again(site: &Site, person: &mut Person, connection: &mut Connection) {
    let sessions: Vec<SessionId> = person.follows.keys().copied().collect();
    for session in sessions {
        follow(site, person, connection, session);
    }
    for place in 0..person.keyed.len() {
        if person.keyed[place].1.is_none() && (site.calm || person.dice.percent(50)) {
            retry(site, person, connection, place);
        }
    }
}

fn retry(site: &Site, person: &mut Person, connection: &mut Connection, place: usize) {
    let (asked, before) = person.keyed[place].clone();
    // A pause that comes into effect now would hold up a queue for ever.
    let pauses = asked.params["status"] == "paused";
    let deletes = asked.method == "session/delete";
    if site.calm && before.is_none() && (pauses || deletes) {
        return;
    }
    send(site, connection, Asked { before, ..asked });
}

/// Another request with a key that has its answer.
fn misuse(site: &Site, person: &mut Person, connection: &mut Connection, place: usize) {
    let (asked, before) = person.keyed[place].clone();
    if before.is_some() && asked.method == "chat/send" {
        let mut params = asked.params.clone();
        params["content"] = "queue another".into();
        send(site, connection, Asked { params, other: true, before: None, ..asked });
    }
}

fn follow(site: &Site, person: &mut Person, connection: &mut Connection, session: SessionId) {
    let under_way = |it: &Pending| matches!(it, Pending::Follow(it) if it.session == session);
    if connection.pending.values().any(under_way) {
        return;
    }
    let known = person.follows.get(&session).cloned();
    let deltas = person.dice.percent(85);
    let count = [0, 1, 5, 50][usize::try_from(person.dice.below(4)).expect("a small number")];
    let mut params = json!({"session": session, "deltas": deltas});
    let from = match (known, person.dice.below(10)) {
        (Some(known), 0..7) if known.cursor.is_some() => {
            params["after"] = known.cursor.clone().into();
            Some(Box::new(known))
        }
        (_, 9) => {
            params["after"] = "start".into();
            Some(Box::new(Follower::new(session, deltas)))
        }
        _ => {
            params["messages"] = count.into();
            None
        }
    };
    site.trace.say(&format!("{} > session/follow {params}", connection.name));
    let asked = FollowAsked { session, from, deltas, count };
    connection.ask("session/follow", params, Pending::Follow(asked));
}

/// Says something new.
fn say(
    site: &Site,
    person: &mut Person,
    connection: &mut Connection,
    session: SessionId,
    burst: bool,
) {
    let mode = match person.dice.below(20) {
        _ if burst => "queue",
        0..12 => "queue",
        12..15 => "reject",
        15..18 => "interrupt",
        18 => "steer",
        _ => "rollback",
    };
    person.said += 1;
    let content = format!("{mode} {}-{} please", person.no, person.said);
    let mut params = json!({"session": session, "content": content, "if_busy": mode});
    if person.dice.percent(4) {
        params["expect_seq"] = person.dice.below(12).into();
    }
    keyed(site, person, connection, plain("chat/send", params));
}

/// Does one thing; answers whether it leaves.
fn act(site: &Site, person: &mut Person, connection: &mut Connection) -> bool {
    let sessions = site.oracle.sessions();
    let roll = person.dice.below(100);
    let Some(session) = person
        .dice
        .pick(&sessions)
        .copied()
        .filter(|_| roll < 96 || sessions.len() >= SESSIONS_MAX)
    else {
        let ephemeral = person.dice.percent(20);
        let params = json!({"model": "sim/player", "ephemeral": ephemeral});
        keyed(site, person, connection, plain("session/create", params));
        return false;
    };
    let name = json!({"session": session});
    match roll {
        0..34 => say(site, person, connection, session, false),
        34..36 => (0..BURST).for_each(|_| say(site, person, connection, session, true)),
        36..44 => on_task(site, person, connection, "task/cancel"),
        44..52 => on_task(site, person, connection, "task/wait"),
        52..58 => update(site, person, connection, session),
        58..63 if !site.calm => lock(site, person, connection, session),
        63..67 => {
            let force = person.dice.percent(25);
            send(
                site,
                connection,
                plain("session/release", json!({"session": session, "force": force})),
            );
        }
        67..70 => keyed(site, person, connection, plain("session/persist", name)),
        70..72 if !site.calm => {
            let params = json!({"session": session, "force": person.dice.percent(60)});
            keyed(site, person, connection, plain("session/delete", params));
        }
        72..82 => follow(site, person, connection, session),
        82..84 => send(site, connection, plain("session/unfollow", name)),
        84..87 => send(site, connection, plain("session/resume", name)),
        87..92 if !person.keyed.is_empty() => {
            let place = usize::try_from(person.dice.below(person.keyed.len() as u64));
            let place = place.expect("a place in a list");
            match person.dice.percent(30) {
                true => misuse(site, person, connection, place),
                false => retry(site, person, connection, place),
            }
        }
        92..95 if !site.calm => return true,
        95 if !site.calm => connection.to = None,
        _ => {}
    }
    false
}

fn on_task(site: &Site, person: &mut Person, connection: &mut Connection, method: &'static str) {
    let Some(task) = person.dice.pick(&person.tasks).cloned() else { return };
    let mut params = json!({"task": task});
    if method == "task/wait" {
        if person.dice.percent(40) {
            params["timeout_ms"] = person.dice.below(3000).into();
        }
        send(site, connection, plain(method, params));
    } else {
        keyed(site, person, connection, plain(method, params));
    }
}

fn update(site: &Site, person: &mut Person, connection: &mut Connection, session: SessionId) {
    person.said += 1;
    let params = match person.dice.below(4) {
        0 if !site.calm => json!({"session": session, "status": "paused"}),
        1 | 2 => json!({"session": session, "status": "active"}),
        _ => json!({"session": session, "title": format!("title {}-{}", person.no, person.said)}),
    };
    keyed(site, person, connection, plain("session/update", params));
}

fn lock(site: &Site, person: &mut Person, connection: &mut Connection, session: SessionId) {
    let mut params = json!({"session": session});
    if person.dice.percent(60) {
        params["wait_ms"] = person.dice.below(20_000).into();
    }
    send(site, connection, plain("session/lock", params));
}

/// The last act of a calm life: every queue may go on.
fn set_going(site: &Site, connection: &mut Connection) {
    for session in site.oracle.sessions() {
        let status = |it: &crate::oracle::Log| rules::text(it.view.session(), "status").to_owned();
        if site.oracle.with_log(session, status).as_deref() == Some("paused") {
            let params = json!({"session": session, "status": "active"});
            send(site, connection, plain("session/update", params));
        }
    }
}
