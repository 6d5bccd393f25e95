//! How messages show what a file or a filter said, without quoting what people wrote.

/// What sort of JSON value a text is, told by its first character.
pub(crate) fn shape(value: &str) -> &'static str {
    match value.bytes().next() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        Some(b'-' | b'0'..=b'9') => "a number",
        _ => "no JSON value",
    }
}

/// A word of a filter as a message shows it: quoted and short.
pub(crate) fn shown(word: &str) -> String {
    format!("{:?}", word.chars().take(40).collect::<String>())
}

/// The one of `known` that `word` was probably meant to be.
pub(crate) fn nearest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    const WORD_CHARS_MAX: usize = 64;
    if word.len() > WORD_CHARS_MAX {
        return None;
    }
    let (distance, found) = known.map(|known| (edits(word, known), known)).min()?;
    (distance <= 1 + word.chars().count() / 4).then_some(found)
}

/// How many letters to insert, delete, change or swap with the next one to make `a` into `b`.
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = change.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_mistyped_is_known_again_and_another_is_not() {
        let known = ["name", "url", "refresh_s", "refresh_jitter", "scroll"];
        for (word, expected) in [
            ("ulr", Some("url")),
            ("ur", Some("url")),
            ("nmae", Some("name")),
            ("Name", Some("name")),
            ("refersh_s", Some("refresh_s")),
            ("scrol", Some("scroll")),
            ("", None),
            ("title", None),
            ("zzz", None),
        ] {
            assert_eq!(nearest(word, known.into_iter()), expected, "{word}");
        }
        assert_eq!(
            (edits("", "abc"), edits("abc", ""), edits("ab", "ba"), edits("kitten", "sitting")),
            (3, 3, 1, 3)
        );
    }
}
