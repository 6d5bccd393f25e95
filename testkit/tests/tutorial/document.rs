//! docs/platforms.md as a test reads it.

use std::collections::BTreeSet;

use snapfleet_testkit::workspace;

pub(crate) const ENGLISH: &str = "docs/platforms.md";
pub(crate) const CHINESE: &str = "docs/platforms.zh-CN.md";

pub(crate) fn text(file: &str) -> String {
    std::fs::read_to_string(workspace().join(file)).unwrap()
}

/// The fenced blocks, each with its language.
pub(crate) fn blocks(text: &str) -> Vec<(String, String)> {
    let fenced = text.split("```").skip(1).step_by(2);
    fenced.map(|block| block.split_once('\n').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap()).collect()
}

/// What stands as code within sentences and tables.
pub(crate) fn spans(text: &str) -> BTreeSet<String> {
    let outside: String = text.split("```").step_by(2).collect();
    let lines = outside.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
    lines.map(|span| span.replace("\\|", "|")).collect()
}

/// The first line of `wanted` that `said` does not have in its place. `...` stands for lines, `…` for letters.
pub(crate) fn difference<'w>(wanted: &'w str, said: &str) -> Option<&'w str> {
    let mut left = said.lines();
    let lines = wanted.lines().map(str::trim).filter(|line| !matches!(*line, "..." | ""));
    lines.into_iter().find(|line| !left.any(|said| fits(line, said.trim())))
}

fn fits(wanted: &str, said: &str) -> bool {
    let pieces: Vec<&str> = wanted.split('…').collect();
    let [first, middle @ .., last] = pieces.as_slice() else { return wanted == said };
    let Some(mut rest) = said.strip_prefix(first.trim_end()) else { return false };
    for piece in middle {
        let Some((_, after)) = rest.split_once(piece.trim()) else { return false };
        rest = after;
    }
    rest.ends_with(last.trim_start())
}

#[test]
fn what_is_printed_is_compared_line_by_line() {
    let said = "first\n  a long…line 12\nsecond\nlast\n";
    for wanted in ["first\nlast", "a long…12\n...\nlast", "…line 12", "a…", ""] {
        assert_eq!(difference(wanted, said), None, "{wanted:?}");
    }
    for (wanted, missing) in
        [("last\nfirst", "first"), ("firs", "firs"), ("a…13", "a…13"), ("a long", "a long")]
    {
        assert_eq!(difference(wanted, said), Some(missing), "{wanted:?}");
    }
}

#[test]
fn both_languages_show_the_same() {
    let (english, chinese) = (text(ENGLISH), text(CHINESE));
    let (shown, translated) = (blocks(&english), blocks(&chinese));
    assert_eq!(shown.len(), translated.len());
    shown.iter().zip(&translated).for_each(|(one, other)| assert_eq!(one, other));
    let only = |one: &str, other: &str| spans(one).difference(&spans(other)).cloned().collect::<Vec<_>>();
    assert_eq!(only(&english, &chinese), Vec::<String>::new(), "in English alone");
    assert_eq!(only(&chinese, &english), Vec::<String>::new(), "in Chinese alone");
    let shape = |text: &str| {
        let kind =
            |line: &str| line.chars().take_while(|letter| matches!(letter, '#' | '|')).collect::<String>();
        text.lines().map(kind).filter(|kind| !kind.is_empty()).collect::<Vec<_>>()
    };
    assert_eq!(shape(&english), shape(&chinese), "headings and rows of tables");
}
