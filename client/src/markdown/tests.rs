//! Is markdown shown alike however it comes, and nothing of it lost?

use super::*;

fn render(text: &str) -> String {
    let mut markdown = Markdown::default();
    let mut out = markdown.piece(text);
    out.push_str(&markdown.finish());
    out
}

/// The codes as words, so that a failure can be read.
fn named(text: &str) -> String {
    let rendered = render(text);
    [
        (RESET, "<>"),
        (BOLD, "<b>"),
        (DIM, "<dim>"),
        (CODE, "<code>"),
        ("\x1b[3m", "<i>"),
        ("\x1b[4m", "<u>"),
        ("\x1b[9m", "<s>"),
    ]
    .iter()
    .fold(rendered, |text, (code, name)| text.replace(code, name))
}

/// The text without its codes.
fn bare(text: &str) -> String {
    let mut out = String::new();
    let mut codes = text.split("\x1b[");
    out.push_str(codes.next().unwrap_or(""));
    for part in codes {
        out.push_str(part.split_once('m').map_or("", |(_, rest)| rest));
    }
    out
}

#[test]
fn each_form_has_its_look() {
    for (text, look) in [
        ("plain", "plain"),
        ("# A *b*\nx", "<b>A <i>b<><b><>\nx"),
        ("#tag", "#tag"),
        ("a **bold** b", "a <b>bold<> b"),
        ("__bold__ _it_ ***both***", "<b>bold<> <i>it<> <b><i>both<>"),
        ("~~old~~", "<s>old<>"),
        ("`a * b` and ``x ` y``", "<code>a * b<> and <code>x ` y<>"),
        ("- one\n  * two\n+ three", "• one\n  • two\n• three"),
        ("1. one\n2. two", "1. one\n2. two"),
        ("> said\n>> twice", "<dim>│ <>said\n<dim>│ │ <>twice"),
        ("[a](http://x/y) [b] [c]d", "<u>a<><dim> (http://x/y)<> [b] [c]d"),
        ("a\n\n---\n", "a\n\n<dim>────────<>\n"),
        (
            "```rust\nlet a = **b;\n```\nx",
            "<dim>╭─ rust<>\n<dim>│ <><code>let a = **b;<>\n<dim>╰─<>\nx",
        ),
        ("~~~\n```\n~~~", "<dim>╭─<>\n<dim>│ <><code>```<>\n<dim>╰─<>"),
        ("**see `x`**", "<b>see <code>x<><b><>"),
        (r"\*no\* \a", r"*no* \a"),
        (r"2*3 \* 4", r"2*3 * 4"),
        ("a\tb 日本語 **太字**", "a\tb 日本語 <b>太字<>"),
    ] {
        assert_eq!(named(text), look, "{text:?}");
    }
}

#[test]
fn what_is_no_markdown_stays_as_it_was_written() {
    for text in [
        "2 * 3 * 4",
        "snake_case_name and __init__x",
        "a ** b",
        "an open **end",
        "an open `end",
        "[open",
        "[open](end",
        "-5 and +1 and *",
        "####### seven",
        "a\\",
        "x~y~z",
    ] {
        assert_eq!(bare(&render(text)), text, "{text:?}");
    }
}

/// A text is cut where the network likes it. Whatever the cut, the screen ends alike.
#[test]
fn the_look_does_not_depend_on_the_pieces() {
    let text = "# Title *it*\n\n- **a** `b` [c](d)\n- x_y _z_\n\n```sh\n# no **bold**\n``\n```\n> **q**\n---\n***all*** 2*3 ~~s~~ \\* 日本 **語**\n* * *\n####\n#";
    let joined = |out: &str| out.replace(&format!("{RESET}{CODE}"), "");
    let whole = joined(&render(text));
    let signs: Vec<char> = text.chars().collect();
    for size in 1..=7 {
        let mut markdown = Markdown::default();
        let mut out = String::new();
        for piece in signs.chunks(size) {
            out.push_str(&markdown.piece(&piece.iter().collect::<String>()));
        }
        out.push_str(&markdown.finish());
        assert_eq!(joined(&out), whole, "pieces of {size}");
    }
}

#[test]
fn text_is_shown_as_it_comes() {
    let mut markdown = Markdown::default();
    assert_eq!(markdown.piece("Hel"), "Hel");
    assert_eq!(markdown.piece("lo **wor"), "lo ");
    assert_eq!(markdown.piece("ld** and"), format!("{BOLD}world{RESET} and"));
    let long = markdown.piece(&" *x".repeat(400));
    assert!(!long.is_empty(), "no span waits for ever");
}

#[test]
fn control_codes_of_a_model_stay_visible() {
    let out = render("**a\x1b[31m** \x1b]0;title\x07");
    assert_eq!(bare(&out), "a␛[31m ␛]0;title␇");
}
