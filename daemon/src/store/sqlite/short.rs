//! How is the JSON of a commit kept in few bytes, so that `sqlite3` can still read it by hand?
//!
//! Most of a commit's JSON is the same in every commit, or stands in it several times. JSON has no control
//! characters but white space, so that they can stand for such parts:
//!
//! ```text
//! 01 I T  ids  times  text
//! ```
//!
//! `I` and `T` are digits: how many ids (32 hex digits each) and times (24 characters each) come before the text.
//! In the text, `02` to `07` stand for these ids and `08`, `0b` for the times; `0e` to `1f` stand for the first
//! [`WORDS`], and `0c` with a printable character for the others. A word may hold ids and times, but no word. So
//! the view `log_json` gets the JSON back by `replace`, with the words in the table `words`.
//!
//! The list is part of what databases are: a word is never changed or removed, for it lies in them.

use std::sync::LazyLock;

/// The first byte of what is kept short. No JSON begins with it.
pub(super) const MARK: u8 = 0x01;
/// What stands for the ids, one after another.
const IDS: &[u8] = &[0x02, 0x03, 0x04, 0x05, 0x06, 0x07];
const ID_BYTES: usize = 32;
/// What stands for the times.
const TIMES: &[u8] = &[0x08, 0x0b];
const TIME_BYTES: usize = 24;
/// Before the character of a word that is not one of the first.
const FURTHER: u8 = 0x0c;
/// What stands for the first words.
const FIRST: std::ops::RangeInclusive<u8> = 0x0e..=0x1f;
/// How many those are.
const FIRST_COUNT: usize = 18;
/// The character of the first further word; they go on to `~`.
const FURTHER_FROM: u8 = b'!';

/// One list for both: what the program knows, and what the database says of itself.
macro_rules! words {
    ($($word:literal),* $(,)?) => {
        /// What commits say again and again, as events are written: see there for why they look like this.
        const WORDS: &[&str] = &[$($word),*];
        /// The table of the words, and the log as JSON.
        pub(super) const TABLE: &str = concat!(
            "CREATE TABLE words(no INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT;",
            $("INSERT INTO words(text) VALUES('", $word, "');",)*
        );
    };
}

words! {
    "[{\"seq\":",
    ",\"at\":\"\x08\",\"by\":{\"client\":\"",
    "\",\"pid\":",
    "},\"task\":\"task_\x02\",\"type\":\"task.started\",\"data\":{\"message\":{\"at\":\"\x08\",\"by\":{\"client\":\"",
    "},\"content\":[{\"text\":\"",
    "\",\"type\":\"text\"}],\"id\":\"msg_\x03\",\"kind\":\"text\",\"parent\":\"msg_\x04\",\"role\":\"user\",\"seq\":",
    ",\"status\":\"complete\",\"task\":\"task_\x02\",\"thread\":\"main\"},\"session\":{\"active_at\":\"\x08\",\"messages\":",
    ",\"preview\":\"",
    "\",\"running\":\"task_\x02\",\"tasks\":",
    "},\"task\":{\"created_at\":\"\x08\",\"id\":\"task_\x02\",\"model\":\"",
    ",\"request\":{\"message\":\"msg_\x03\"},\"session\":\"sess_\x05\",\"started_at\":\"\x08\",\"status\":\"running\",\"thread\":\"main\",\"usage\":{\"cache_read_tokens\":0,\"cache_write_tokens\":0,\"cost_usd\":null,\"input_tokens\":0,\"output_tokens\":0,\"reasoning_tokens\":0,\"total_tokens\":0}},\"thread\":{\"head\":\"msg_\x03\",\"id\":\"main\",\"messages\":",
    ",\"at\":\"\x08\",\"task\":\"task_\x02\",\"type\":\"task.completed\",\"data\":{\"message\":{\"at\":\"\x08\",\"attempt\":1,\"content\":[{\"text\":\"",
    "\",\"parent\":\"msg_\x04\",\"prompt\":{\"messages\":",
    ",\"status\":\"complete\",\"stop_reason\":\"stop\",\"task\":\"task_\x02\",\"thread\":\"main\",\"ttft_ms\":",
    ",\"output_tokens\":",
    ",\"reasoning_tokens\":0,\"total_tokens\":",
    ",\"running\":null,\"usage\":{\"cache_read_tokens\":0,\"cache_write_tokens\":0,\"cost_usd\":null,\"input_tokens\":",
    "}},\"task\":{\"ended_at\":\"\x08\",\"id\":\"task_\x02\",\"status\":\"completed\",\"usage\":{\"cache_read_tokens\":0,\"cache_write_tokens\":0,\"cost_usd\":null,\"input_tokens\":",
    // Those of two bytes from here on. First what else a turn says.
    "\",\"type\":\"text\"}],\"duration_ms\":",
    ",\"endpoint\":\"",
    "\",\"id\":\"msg_\x03\",\"kind\":\"text\",\"model\":\"",
    ",\"id\":\"msg_\x03\",\"kind\":\"text\",\"model\":\"",
    "},\"role\":\"assistant\",\"seq\":",
    "\",\"parent\":\"msg_\x04\",\"role\":\"assistant\",\"seq\":",
    ",\"usage\":{\"cache_read_tokens\":0,\"cache_write_tokens\":0,\"cost_usd\":null,\"input_tokens\":",
    "}},\"session\":{\"iterations\":",
    "}},\"thread\":{\"head\":\"msg_\x03\",\"id\":\"main\",\"messages\":",
    ",\"messages\":",
    ",\"used\":",
    "\",\"order\":",
    "\",\"title\":\"",
    "\"},\"task\":{\"created_at\":\"\x08\",\"id\":\"task_\x02\",\"model\":\"",
    "}}}]",
    "\",\"type\":\"text\"}],\"id\":\"msg_\x03\",\"kind\":\"text\",\"role\":\"user\",\"seq\":",
    ",\"request\":{\"message\":\"msg_\x03\"},\"session\":\"sess_\x04\",\"started_at\":\"\x08\",\"status\":\"running\",\"thread\":\"main\",\"usage\":{\"cache_read_tokens\":0,\"cache_write_tokens\":0,\"cost_usd\":null,\"input_tokens\":0,\"output_tokens\":0,\"reasoning_tokens\":0,\"total_tokens\":0}},\"thread\":{\"head\":\"msg_\x03\",\"id\":\"main\",\"messages\":",
    ",\"status\":\"complete\",\"task\":\"task_\x02\",\"thread\":\"main\"},\"session\":{\"active_at\":\"\x08\",\"ephemeral\":null,\"messages\":",
    ",\"at\":\"\x08\",\"task\":\"task_\x02\",\"type\":\"task.completed\",\"data\":{\"message\":{\"at\":\"\x08\",\"attempt\":",
    ",\"content\":[{\"text\":\"",
    ",\"cache_write_tokens\":",
    ",\"cost_usd\":",
    ",\"input_tokens\":",
    ",\"reasoning_tokens\":",
    ",\"total_tokens\":",
    ",\"usage\":{\"cache_read_tokens\":",
    ",\"running\":null,\"usage\":{\"cache_read_tokens\":",
    "}},\"task\":{\"ended_at\":\"\x08\",\"id\":\"task_\x02\",\"status\":\"completed\",\"usage\":{\"cache_read_tokens\":",
    ",\"status\":\"complete\",\"stop_reason\":\"",
    "\",\"task\":\"task_\x02\",\"thread\":\"main\",\"ttft_ms\":",
    "}},{\"seq\":",
    "}}},{\"seq\":",
    // Waiting, and ends of another kind.
    "},\"task\":\"task_\x02\",\"type\":\"task.queued\",\"data\":{\"session\":{\"active_at\":\"\x08\",\"queued\":",
    ",\"request\":{\"by\":{\"client\":\"",
    "\",\"type\":\"text\"}],\"message\":\"msg_\x03\"},\"session\":\"sess_\x04\",\"status\":\"queued\",\"thread\":\"main\",\"usage\":{\"cache_read_tokens\":0,\"cache_write_tokens\":0,\"cost_usd\":null,\"input_tokens\":0,\"output_tokens\":0,\"reasoning_tokens\":0,\"total_tokens\":0}}}}]",
    "\",\"queued\":",
    ",\"at\":\"\x08\",\"task\":\"task_\x02\",\"type\":\"",
    "},\"task\":\"task_\x02\",\"type\":\"task.cancelled\",\"data\":{\"session\":{\"running\":null},\"task\":{\"ended_at\":\"\x08\",\"id\":\"task_\x02\",\"reason\":\"user\",\"status\":\"cancelled\"",
    "task.failed\",\"data\":{\"session\":{\"running\":null,\"status\":\"error\"},\"task\":{\"ended_at\":\"\x08\",\"error\":{\"message\":\"",
    "},\"id\":\"task_\x02\",\"reason\":\"model\",\"status\":\"failed\"",
    "\",\"reason\":\"",
    "\"started_at\":\"\x08\",\"status\":\"running\"",
    ",\"status\":\"partial\",\"stop_reason\":\"",
    // Sessions.
    "},\"type\":\"session.created\",\"data\":{\"session\":{\"active_at\":\"\x08\",\"agent\":\"",
    "\",\"approvals\":0,\"created_at\":\"\x08\",",
    "\"ephemeral\":true,",
    "\"id\":\"sess_\x02\",\"iterations\":0,\"messages\":0,\"metadata\":{},\"mode\":\"",
    "\",\"queued\":0,\"scope\":\"project\",\"status\":\"active\",\"tags\":[],\"tasks\":0,\"thread\":\"main\",\"title\":\"",
    "\",\"usage\":{\"cache_read_tokens\":0,\"cache_write_tokens\":0,\"cost_usd\":null,\"input_tokens\":0,\"output_tokens\":0,\"reasoning_tokens\":0,\"total_tokens\":0}",
    ",\"workspace\":{\"name\":\"",
    "\",\"path\":\"",
    "\"}},\"thread\":{\"created_at\":\"\x08\",\"id\":\"main\",\"messages\":0}}}",
    "},\"type\":\"session.updated\",\"data\":{\"session\":{",
    "},\"type\":\"session.locked\",\"data\":{\"session\":{\"lock\":{\"holder\":{\"client\":\"",
    ",\"since\":\"\x08\"},\"id\":\"lock_\x02\"}}}}]",
    "\"type\":\"session.released\",\"data\":{\"session\":{\"lock\":null},\"why\":\"",
    "\"status\":\"active\",",
    "\"model\":\"",
    "\"data\":{\"session\":{",
}

/// The log with its commits as JSON, for people with `sqlite3`: first the words, then the ids and times in them. The
/// other views read it.
pub(super) const VIEWS: &str = "
CREATE VIEW log_json AS
SELECT id, session, first, last, CASE WHEN substr(body, 1, 1) <> char(1) THEN body ELSE (
  WITH RECURSIVE opened(no, text) AS (
    SELECT 0, substr(body, 4 + 32 * substr(body, 2, 1) + 24 * substr(body, 3, 1))
    UNION ALL
    SELECT words.no, replace(opened.text,
      CASE WHEN words.no <= 18 THEN char(13 + words.no) ELSE char(12, 14 + words.no) END, words.text)
    FROM opened JOIN words ON words.no = opened.no + 1)
  SELECT replace(replace(replace(replace(replace(replace(replace(replace(text,
      char(2), substr(body, 4, 32)), char(3), substr(body, 36, 32)), char(4), substr(body, 68, 32)),
      char(5), substr(body, 100, 32)), char(6), substr(body, 132, 32)), char(7), substr(body, 164, 32)),
    char(8), substr(body, 4 + 32 * substr(body, 2, 1), 24)),
    char(11), substr(body, 28 + 32 * substr(body, 2, 1), 24))
  FROM opened WHERE no = (SELECT max(no) FROM words)) END AS body
FROM log;
DROP VIEW message_things;
CREATE VIEW message_things AS
  SELECT s.id AS session_id, m.seq AS seq,
    json_extract(l.body, iif(substr(l.body, 1, 1) = '[', '$[', '$.events[') || (m.seq - l.first)
      || '].data.message') AS message
  FROM message_rows m JOIN sessions s ON s.no = m.session
  JOIN log_json l ON l.session = m.session AND l.first =
    (SELECT max(first) FROM log WHERE session = m.session AND first <= m.seq);
DROP VIEW thing_members;
CREATE VIEW thing_members AS
  SELECT 'sess_' || lower(hex(s.id)) AS session, t.kind AS kind, t.key AS key, t.status AS status,
    n.value AS seq,
    json_extract(l.body, iif(substr(l.body, 1, 1) = '[', '$[', '$.events[') || (n.value - l.first)
      || '].data.' || t.kind) AS members
  FROM things t JOIN sessions s ON s.no = t.session, json_each(t.seqs) n
  JOIN log_json l ON l.session = t.session AND l.first =
    (SELECT max(first) FROM log WHERE session = t.session AND first <= n.value);
";

/// Bytes by which a word is looked up: each has as many.
const KEY_BYTES: usize = 4;

/// A word, with its place in the list.
type Numbered = (&'static [u8], usize);

/// The words by their first bytes, of several the longest first.
static SORTED: LazyLock<Vec<Numbered>> = LazyLock::new(|| {
    let mut sorted: Vec<Numbered> = (0..).zip(WORDS).map(|(no, it)| (it.as_bytes(), no)).collect();
    sorted.sort_by_key(|(word, _)| (key(word), std::cmp::Reverse(word.len())));
    sorted
});

/// The first bytes of a word.
fn key(bytes: &[u8]) -> &[u8] {
    &bytes[..KEY_BYTES]
}

/// The longest word with which this begins.
fn word_at(bytes: &[u8]) -> Option<Numbered> {
    // What is said, and it is nearly all of a long commit, has few of these.
    if !matches!(bytes.first()?, b'"' | b',' | b'}' | b'[' | b't') || bytes.len() < KEY_BYTES {
        return None;
    }
    let from = SORTED.partition_point(|it| key(it.0) < key(bytes));
    let same = SORTED[from..].iter().take_while(|it| key(it.0) == key(bytes));
    same.copied().find(|it| bytes.starts_with(it.0))
}

/// What is kept instead of this JSON, if that is less and the same comes back of it.
pub(super) fn shortened(json: &str) -> Option<String> {
    if json.bytes().any(|it| it < b' ') {
        return None;
    }
    let (ids, times, text) = without_ids(json.as_bytes());
    let mut short = Vec::with_capacity(json.len() / 2);
    short.extend([MARK, b'0' + ids.len() as u8, b'0' + times.len() as u8]);
    ids.iter().chain(&times).for_each(|it| short.extend(*it));
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        if let Some((word, no)) = word_at(&text[at..]) {
            match no.checked_sub(FIRST_COUNT) {
                None => short.push(FIRST.start() + no as u8),
                Some(further) => short.extend([FURTHER, FURTHER_FROM + further as u8]),
            }
            at += word.len();
        } else {
            short.push(*byte);
            at += 1;
        }
    }
    let short = String::from_utf8(short).ok().filter(|it| it.len() < json.len())?;
    // It is the only copy: whatever is wrong above must not cost a session.
    expanded(&short).is_some_and(|it| it == json).then_some(short)
}

/// The ids and times of this JSON, and the JSON with what stands for them.
fn without_ids(json: &[u8]) -> (Vec<&[u8]>, Vec<&[u8]>, Vec<u8>) {
    let (mut ids, mut times, mut text) = (Vec::new(), Vec::new(), Vec::with_capacity(json.len()));
    let mut at = 0;
    while let Some(byte) = json.get(at) {
        text.push(*byte);
        at += 1;
        let (found, codes, bytes) = match byte {
            b'_' if is_id(&json[at..]) => (&mut ids, IDS, ID_BYTES),
            b'"' if is_time(&json[at..]) => (&mut times, TIMES, TIME_BYTES),
            _ => continue,
        };
        let part = &json[at..at + bytes];
        let known = found.iter().position(|it| *it == part).or_else(|| {
            let free = found.len() < codes.len();
            free.then(|| found.push(part)).map(|()| found.len() - 1)
        });
        if let Some(no) = known {
            text.push(codes[no]);
            at += bytes;
        }
    }
    (ids, times, text)
}

fn is_id(bytes: &[u8]) -> bool {
    let hex = |it: &u8| it.is_ascii_digit() || matches!(it, b'a'..=b'f');
    bytes.get(ID_BYTES) == Some(&b'"') && bytes[..ID_BYTES].iter().all(hex)
}

fn is_time(bytes: &[u8]) -> bool {
    bytes.get(TIME_BYTES) == Some(&b'"')
        && bytes[TIME_BYTES - 1] == b'Z'
        && bytes[..TIME_BYTES].iter().all(|it| it.is_ascii_digit() || b"-T:.Z".contains(it))
}

/// About what is saved of a long commit, in bytes.
const SAVED_BYTES: usize = 8 * 1024;
/// Bytes that are looked at together: as many as a processor takes at once.
const AT_ONCE: usize = 32;

/// The JSON that was kept like this, or nothing where nobody can have kept it.
pub(super) fn expanded(short: &str) -> Option<String> {
    let [MARK, ids, times, rest @ ..] = short.as_bytes() else { return None };
    let count = |digit: u8, most: &[u8]| {
        Some(usize::from(digit.checked_sub(b'0')?)).filter(|it| *it <= most.len())
    };
    let (ids, rest) = rest.split_at_checked(count(*ids, IDS)? * ID_BYTES)?;
    let (times, text) = rest.split_at_checked(count(*times, TIMES)? * TIME_BYTES)?;
    // What is said in few words is mostly ours, and four times as long; long texts are people's own.
    let mut json = Vec::with_capacity(short.len() + (3 * short.len()).min(SAVED_BYTES));
    let mut rest = text;
    loop {
        let plain = until_code(rest);
        json.extend_from_slice(&rest[..plain]);
        let (no, behind) = match &rest[plain..] {
            [] => break,
            [FURTHER, no, behind @ ..] => {
                (usize::from(no.checked_sub(FURTHER_FROM)?) + FIRST_COUNT, behind)
            }
            [no, behind @ ..] if FIRST.contains(no) => (usize::from(no - FIRST.start()), behind),
            [code, behind @ ..] => {
                put(&mut json, *code, ids, times)?;
                rest = behind;
                continue;
            }
        };
        let mut word = WORDS.get(no)?.as_bytes();
        loop {
            let plain = until_code(word);
            json.extend_from_slice(&word[..plain]);
            let Some(code) = word.get(plain) else { break };
            put(&mut json, *code, ids, times)?;
            word = &word[plain + 1..];
        }
        rest = behind;
    }
    String::from_utf8(json).ok()
}

/// How many bytes come before the next that stands for something.
fn until_code(bytes: &[u8]) -> usize {
    let has_code = |piece: &&[u8]| piece.iter().fold(false, |any, it| any | (*it < b' '));
    let whole = bytes.chunks_exact(AT_ONCE).take_while(|it| !has_code(it)).count() * AT_ONCE;
    let rest = &bytes[whole..];
    whole + rest.iter().position(|it| *it < b' ').unwrap_or(rest.len())
}

/// Adds the id or the time for which this stands.
fn put(json: &mut Vec<u8>, code: u8, ids: &[u8], times: &[u8]) -> Option<()> {
    let (part, codes, bytes) =
        if TIMES.contains(&code) { (times, TIMES, TIME_BYTES) } else { (ids, IDS, ID_BYTES) };
    let from = codes.iter().position(|it| *it == code)? * bytes;
    json.extend(part.get(from..from + bytes)?);
    Some(())
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    /// A turn's two commits, as they are written.
    const TURN: [&str; 2] = [
        r#"[{"seq":4,"at":"2026-11-21T19:48:50.379Z","by":{"client":"sess","pid":15150},"task":"task_01a1ffa7824b72f2a5f9a028ee36fad7","type":"task.started","data":{"message":{"at":"2026-11-21T19:48:50.379Z","by":{"client":"sess","pid":15150},"content":[{"text":"hello number 1","type":"text"}],"id":"msg_01a1ffa7824b72f2a5f9a029e5ddbb51","kind":"text","parent":"msg_01a1ffa7824571a39befa2eec8171142","role":"user","seq":4,"status":"complete","task":"task_01a1ffa7824b72f2a5f9a028ee36fad7","thread":"main"},"session":{"active_at":"2026-11-21T19:48:50.379Z","messages":3,"preview":"hello number 1","running":"task_01a1ffa7824b72f2a5f9a028ee36fad7","tasks":2},"task":{"created_at":"2026-11-21T19:48:50.379Z","id":"task_01a1ffa7824b72f2a5f9a028ee36fad7","model":"local/llama","order":1,"request":{"message":"msg_01a1ffa7824b72f2a5f9a029e5ddbb51"},"session":"sess_74a57ba1985f48ca9269dcd09f4df171","started_at":"2026-11-21T19:48:50.379Z","status":"running","thread":"main","usage":{"cache_read_tokens":0,"cache_write_tokens":0,"cost_usd":null,"input_tokens":0,"output_tokens":0,"reasoning_tokens":0,"total_tokens":0}},"thread":{"head":"msg_01a1ffa7824b72f2a5f9a029e5ddbb51","id":"main","messages":3}}}]"#,
        r#"[{"seq":5,"at":"2026-11-21T19:48:50.380Z","task":"task_01a1ffa7824b72f2a5f9a028ee36fad7","type":"task.completed","data":{"message":{"at":"2026-11-21T19:48:50.380Z","attempt":1,"content":[{"text":"hello number 1","type":"text"}],"duration_ms":0,"endpoint":"http://127.0.0.1:34367","id":"msg_01a1ffa7824c760cb5212e291d18088f","kind":"text","model":"local/llama","parent":"msg_01a1ffa7824b72f2a5f9a029e5ddbb51","prompt":{"messages":7,"used":7},"role":"assistant","seq":5,"status":"complete","stop_reason":"stop","task":"task_01a1ffa7824b72f2a5f9a028ee36fad7","thread":"main","ttft_ms":0,"usage":{"cache_read_tokens":0,"cache_write_tokens":0,"cost_usd":null,"input_tokens":7,"output_tokens":3,"reasoning_tokens":0,"total_tokens":10}},"session":{"iterations":2,"messages":4,"running":null,"usage":{"cache_read_tokens":0,"cache_write_tokens":0,"cost_usd":null,"input_tokens":9,"output_tokens":5,"reasoning_tokens":0,"total_tokens":14}},"task":{"ended_at":"2026-11-21T19:48:50.380Z","id":"task_01a1ffa7824b72f2a5f9a028ee36fad7","status":"completed","usage":{"cache_read_tokens":0,"cache_write_tokens":0,"cost_usd":null,"input_tokens":7,"output_tokens":3,"reasoning_tokens":0,"total_tokens":10}},"thread":{"head":"msg_01a1ffa7824c760cb5212e291d18088f","id":"main","messages":4}}}]"#,
    ];

    /// JSON that tempts: ids and times of its own, too many of them, half ones, and parts of words.
    fn tempting() -> Vec<String> {
        let id = |no: u32| format!("msg_{no:032x}");
        let ids: Vec<String> = (0..40).map(|it| id(it % 13)).collect();
        let times: Vec<String> =
            (0..9).map(|it| format!("2026-11-21T19:48:50.{:03}Z", it % 4)).collect();
        let mut all: Vec<String> = TURN.map(str::to_owned).to_vec();
        all.push(serde_json::to_string(&ids).unwrap());
        all.push(serde_json::to_string(&times).unwrap());
        all.push(format!(
            "[\"_{}\",\"{}Z\",\"---------------------- -Z\"]",
            "a".repeat(32),
            "-".repeat(23)
        ));
        all.push(format!(
            "[\"_{}\",\"_{}\",\"ä_{}\"]",
            "A".repeat(32),
            "a".repeat(31),
            "b".repeat(33)
        ));
        // Each word by itself, cut in the middle, and at the very end.
        for word in WORDS {
            let plain: String = word.chars().filter(|it| *it >= ' ').collect();
            all.push(format!("[{plain}{plain}"));
            all.push(format!("{plain}{}", &plain[..plain.len() / 2]));
        }
        all
    }

    #[test]
    fn a_turn_takes_a_fifth_of_its_json() {
        let json: usize = TURN.iter().map(|it| it.len()).sum();
        let short: usize = TURN.iter().map(|it| shortened(it).unwrap().len()).sum();
        assert!(5 * short <= json, "{short} of {json} bytes");
    }

    #[test]
    fn what_was_kept_short_comes_back_byte_for_byte() {
        for json in tempting() {
            let (ids, times, text) = without_ids(json.as_bytes());
            assert!(
                ids.len() <= IDS.len() && times.len() <= TIMES.len() && text.len() <= json.len()
            );
            if let Some(short) = shortened(&json) {
                assert_eq!(expanded(&short).as_deref(), Some(json.as_str()));
            }
        }
        assert_eq!(shortened("[\"white\n\tspace\"]"), None);
    }

    #[test]
    fn the_database_opens_it_as_the_program_does() {
        let conn = Connection::open_in_memory().unwrap();
        let log = "CREATE TABLE log(id INTEGER PRIMARY KEY, session, first, last, body TEXT);
            CREATE VIEW message_things AS SELECT 1; CREATE VIEW thing_members AS SELECT 1;";
        conn.execute_batch(&[log, TABLE, VIEWS].concat()).unwrap();
        for json in tempting() {
            let kept = shortened(&json).unwrap_or_else(|| json.clone());
            conn.execute("INSERT INTO log(body) VALUES(?)", [&kept]).unwrap();
            let sql = "SELECT body FROM log_json ORDER BY id DESC LIMIT 1";
            let opened: String = conn.query_row(sql, (), |row| row.get(0)).unwrap();
            assert_eq!(opened, json);
        }
    }

    #[test]
    fn what_nobody_kept_is_not_opened() {
        let short = shortened(TURN[0]).unwrap();
        for cut in (0..short.len()).filter(|it| short.is_char_boundary(*it)) {
            assert_ne!(expanded(&short[..cut]).as_deref(), Some(TURN[0]));
        }
        for wrong in [
            "",
            "[",
            "\x01",
            "\x01\x31",
            "\x0170",
            "\x0100\x02",
            "\x0100\x0c",
            "\x0100\x0c~",
            "\x01/0",
        ] {
            assert_eq!(expanded(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn each_word_can_be_told_apart_and_found() {
        assert!(WORDS.len() <= FIRST_COUNT + usize::from(b'~' - FURTHER_FROM) + 1);
        for (no, word) in WORDS.iter().enumerate() {
            assert_eq!(word_at(word.as_bytes()).map(|it| it.1), Some(no), "{word:?}");
            assert!(!word.contains('\''), "{word:?} stands in SQL");
        }
    }
}
