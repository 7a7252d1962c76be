//! Is every spelling of a secret taken out, and is nothing else?

use super::*;

const SECRET: &str = "canary/\"0123456789\"+xyz";

fn all_pieces(whole: &str) {
    learn([Zeroizing::new(SECRET.to_owned())]);
    let expected = text(whole).into_owned();
    for cut in (0..whole.len()).filter(|it| whole.is_char_boundary(*it)) {
        let mut pieces = Pieces::default();
        let told = [pieces.take(&whole[..cut]), pieces.take(&whole[cut..]), pieces.end()];
        let told = told.concat();
        assert!(!told.contains(SECRET), "{told}");
        // A begin of less than three bytes may have been told before it was known to be one.
        let gone = told.len().abs_diff(expected.len());
        assert!(gone < BEGIN && told.contains(REDACTED), "cut {cut}: {told} for {expected}");
    }
    let mut pieces = Pieces::default();
    let mut told: String = whole.chars().map(|it| pieces.take(&it.to_string())).collect();
    told.push_str(&pieces.end());
    assert!(told.contains(REDACTED) && !told.contains("0123456789"), "{told}");
}

#[test]
fn known_secrets_are_taken_out_however_they_are_cut_and_written() {
    learn([Zeroizing::new(SECRET.to_owned())]);
    all_pieces(&format!("the key is {SECRET}, isn't it? \u{e9}"));
    all_pieces(SECRET);
    for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
        for before in ["", "a", "ab", "abc"] {
            let encoded = engine.encode(format!("{before}{SECRET} and more"));
            assert!(text(&encoded).contains(REDACTED), "{before}: {encoded}");
            let middle = &engine.encode(SECRET)[8..24];
            assert!(!before.is_empty() || !text(&encoded).contains(middle));
        }
    }
    let json = Value::from(SECRET).to_string();
    assert_eq!(text(&json), format!("\"{REDACTED}\""));
    let half = &SECRET[..12];
    assert_eq!(text(&format!("cut: {half}")), format!("cut: {REDACTED}"));
}

#[test]
fn shapes_of_keys_are_taken_out() {
    for (key, rest) in [
        ("sk-proj-0123456789abcdefghijKLMN", ""),
        ("AIzaSyA-0123456789abcdefghijklmnopqrstu", ","),
        ("ghp_0123456789abcdefghijklmnopqrstuvwxyz", "\n"),
        ("xoxb-123456789012-abcdef", " "),
        ("AKIAIOSFODNN7EXAMPLE", "."),
        ("Bearer abcdefghijklmnopqrstuvwxyz0123456789", "\""),
        (
            "-----BEGIN RSA PRIVATE KEY-----\nMIIE0123456789abc+/=\n-----END RSA PRIVATE KEY-----",
            " x",
        ),
    ] {
        let whole = format!("say {key}{rest}");
        let clean = text(&whole).into_owned();
        let expected = format!("say {REDACTED}{rest}");
        assert!(clean == expected || clean == format!("say {REDACTED}"), "{clean}");
        all_pieces(&whole);
    }
}

#[test]
fn what_is_no_secret_stays_and_is_not_held_back() {
    for plain in [
        "ask-someone-about-the-thing-that-is-there",
        "sk-is a word, Bearer of news, task-0123456789012345678901234567890",
        "-----BEGIN CERTIFICATE-----\nMIIE",
        "gh is a tool; AK and xo are syllables \u{1f600}",
    ] {
        assert!(matches!(text(plain), Cow::Borrowed(_)) || text(plain) == plain, "{plain}");
        let mut pieces = Pieces::default();
        let mut told: String = plain.chars().map(|it| pieces.take(&it.to_string())).collect();
        told.push_str(&pieces.end());
        assert_eq!(told, plain);
    }
    let mut pieces = Pieces::default();
    assert_eq!([pieces.take("words "), pieces.take("words")].concat(), "words words");
}

#[test]
fn names_and_values_of_members_are_looked_at() {
    learn([Zeroizing::new(SECRET.to_owned())]);
    let mut it = serde_json::json!({SECRET: [{"a": format!("x{SECRET}")}, 1, null]});
    value(&mut it);
    assert_eq!(it, serde_json::json!({REDACTED: [{"a": format!("x{REDACTED}")}, 1, null]}));
}
