//! Patterns in which `*` stands for any characters, also none.

/// Whether the whole of `text` matches. Costs the product of both lengths at most: where it does not fit, the latest star
/// takes one character more, and no earlier one has to be tried again.
pub(crate) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut taken) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while taken < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, taken));
                at += 1;
            }
            Some(letter) if *letter == text[taken] => (at, taken) = (at + 1, taken + 1),
            _ => {
                let Some((star_at, star_taken)) = star else { return false };
                star = Some((star_at, star_taken + 1));
                (at, taken) = (star_at + 1, star_taken + 1);
            }
        }
    }
    pattern[at..].iter().all(|rest| *rest == b'*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same language by plain recursion.
    fn oracle(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, _) => text.is_empty(),
            (Some((b'*', rest)), _) => (0..=text.len()).any(|n| oracle(rest, &text[n..])),
            (Some((letter, rest)), Some((first, after))) => letter == first && oracle(rest, after),
            (Some(_), None) => false,
        }
    }

    proptest! {
        #[test]
        fn stars_agree_with_plain_recursion(pattern in "[ab.*]{0,8}", text in "[ab.]{0,10}") {
            prop_assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), oracle(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
