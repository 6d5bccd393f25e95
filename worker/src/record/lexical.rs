//! The words of JSON, found in a text without reading it as a whole: it may be no JSON, and numbers stay as written.

use std::fmt;

use crate::escapes::with_whole_letters;

/// A text as JSON writes it.
pub(super) struct JsonText<'t>(pub(super) &'t str);

impl fmt::Display for JsonText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", serde_json::Value::from(self.0))
    }
}

/// Behind the string whose opening quote is at `at`; the text's end where it is not closed.
pub(super) fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut at = at + 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The first byte from `at` on that is no white space.
pub(super) fn skip_space(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|byte| !byte.is_ascii_whitespace()).map_or(bytes.len(), |length| at + length)
}

/// Behind the number that begins at `at`; `at` itself where none does.
pub(super) fn number_end(bytes: &[u8], at: usize) -> usize {
    if !matches!(bytes.get(at), Some(b'-' | b'0'..=b'9')) {
        return at;
    }
    let is_number = |byte: &u8| byte.is_ascii_digit() || b"-+.eE".contains(byte);
    bytes[at..].iter().position(|byte| !is_number(byte)).map_or(bytes.len(), |length| at + length)
}

/// Whether a text holds nothing but what JSON has outside of its strings.
pub(super) fn is_bare(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_whitespace() || b"{}[]:,-+.eE0123456789truefalsnul".contains(&byte))
}

/// What a string with its quotes holds; `None` for what is no string. A half of a character becomes U+FFFD.
pub(super) fn decode(raw: &str) -> Option<String> {
    serde_json::from_slice(&with_whole_letters(raw.as_bytes())).ok()
}

/// JSON on lines of their own, two spaces for each level. Everything between stays as it is written.
pub(crate) fn indented(text: &str) -> String {
    let (bytes, mut out, mut at, mut level) = (text.as_bytes(), String::new(), 0, 0_usize);
    let line = |out: &mut String, level: usize| {
        out.push('\n');
        (0..level).for_each(|_| out.push_str("  "));
    };
    loop {
        at = skip_space(bytes, at);
        let Some(byte) = bytes.get(at) else { break };
        let end = match byte {
            b'"' => string_end(bytes, at),
            b'{' | b'[' | b'}' | b']' | b',' | b':' => at + 1,
            _ => {
                let ends = |byte: &u8| byte.is_ascii_whitespace() || b"{}[],:\"".contains(byte);
                bytes[at..].iter().position(ends).map_or(text.len(), |length| at + length)
            }
        };
        let word = &text[at..end];
        match byte {
            b'{' | b'[' => {
                out.push_str(word);
                let after = skip_space(bytes, end);
                if let Some(b'}' | b']') = bytes.get(after) {
                    out.push_str(&text[after..=after]);
                    at = after + 1;
                    continue;
                }
                level += 1;
                line(&mut out, level);
            }
            b'}' | b']' => {
                level = level.saturating_sub(1);
                line(&mut out, level);
                out.push_str(word);
            }
            b',' => {
                out.push(',');
                line(&mut out, level);
            }
            b':' => out.push_str(": "),
            _ => out.push_str(word),
        }
        at = end;
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_indented_and_stays_what_it_is() {
        let text = r#"{"a":[1,{"b":"x, {y}"},[],{ }],"n":7351234567890123456789,"c":null}"#;
        let indented = indented(text);
        assert!(
            indented.starts_with("{\n  \"a\": [\n    1,\n    {\n      \"b\": \"x, {y}\"\n"),
            "{indented}"
        );
        assert!(indented.contains("7351234567890123456789") && indented.contains("[],\n    {}\n"));
        let value = |text| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(value(&indented), value(text));
    }
}
