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

/// How many letters to insert, delete or change to make `a` into `b`.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, other) in b.iter().enumerate() {
            let change = diagonal + usize::from(letter != *other);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
