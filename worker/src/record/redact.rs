//! What is secret in what pages fetch, taken out: by the names of fields, parameters and form fields, by how a value
//! looks, and by values that are known.
//!
//! Texts in, texts out; everything else stays as it was written, to the last digit of a number. It is read as JSON
//! leniently, so that what only resembles JSON (several values, a call around one) is covered as well.

use std::borrow::Cow;

use url::form_urlencoded;

use crate::glob;

use super::lexical::{JsonText, decode, is_bare, number_end, skip_space, string_end};

/// What stands in place of a secret text; in place of a secret number stands 0. True, false and null stay.
pub const REMOVED: &str = "[removed]";

/// Names whose values are secret, in lower case; `*` is any characters. Names of ids are not among them: without ids
/// nothing maps.
pub const NAMES: [&str; 35] = [
    "*token*",
    "*csrf*",
    "*xsrf*",
    "a_bogus",
    "x-bogus",
    "x_bogus",
    "sessionid",
    "sessionid_*",
    "session_key",
    "sid",
    "sid_*",
    "*secret*",
    "*password*",
    "*passwd*",
    "passcode",
    "pwd",
    "*signature",
    "sign",
    "x-sign",
    "verifyfp",
    "fp",
    "ticket",
    "*_ticket",
    "*authorization*",
    "*cookie*",
    "device_id",
    "webid",
    "web_id",
    "install_id",
    "*phone*",
    "mobile",
    "*email*",
    "api_key",
    "apikey",
    "otp",
];

/// JSON within a text within JSON is followed so deep; what is deeper is taken out whole.
const NESTED_MAX: usize = 6;
/// A longer name is no name, in bytes.
const NAME_BYTES_MAX: usize = 200;
/// The fewest characters of a value after `Bearer`, and of each part of a JSON web token.
const PART_CHARS_MIN: usize = 8;

/// Takes secrets out.
#[derive(Clone)]
pub struct Redactor {
    names: Vec<String>,
    /// Values that are known to be secret, each in the ways in which it may be written.
    literals: Vec<String>,
}

impl Redactor {
    /// With [`NAMES`] and more patterns for names.
    ///
    /// # Errors
    /// One line that names a pattern of which nothing would be left.
    pub fn new(more: &[String]) -> anyhow::Result<Self> {
        for pattern in more {
            anyhow::ensure!(
                pattern.bytes().any(|byte| byte != b'*'),
                "--redact {pattern:?} would remove everything: give a part of a name, such as *key*"
            );
        }
        let names = NAMES.iter().map(|name| (*name).to_owned());
        let names = names.chain(more.iter().map(|pattern| pattern.to_lowercase())).collect();
        Ok(Self { names, literals: Vec::new() })
    }

    /// Takes this value out wherever it stands, however short; an empty one is nothing.
    pub fn add_literal(&mut self, value: &str) {
        let escaped = |text: &str| {
            let quoted = serde_json::Value::from(text).to_string();
            quoted[1..quoted.len() - 1].to_owned()
        };
        let (once, encoded) = (escaped(value), form_urlencoded::byte_serialize(value.as_bytes()).collect());
        for form in [value.to_owned(), escaped(&once), once, encoded] {
            if !form.is_empty() && !self.literals.contains(&form) {
                self.literals.push(form);
            }
        }
        // A value may hold another one: the longest goes first.
        self.literals.sort_by_key(|form| std::cmp::Reverse(form.len()));
    }

    /// Whether a known secret value stands in the text.
    #[must_use]
    pub fn holds_literal(&self, text: &str) -> bool {
        self.literals.iter().any(|form| text.contains(form.as_str()))
    }

    /// Whether what has this name is secret.
    #[must_use]
    pub fn is_secret(&self, name: &str) -> bool {
        let name = name.trim();
        if name.len() > NAME_BYTES_MAX {
            return false;
        }
        let name = name.to_lowercase();
        self.names.iter().any(|pattern| glob::matches(pattern.as_bytes(), name.as_bytes()))
    }

    /// A text without its secrets: JSON, what resembles it, an address, form fields, or anything else.
    #[must_use]
    pub fn text(&self, text: &str) -> String {
        self.nested(text, 0)
    }

    fn nested(&self, text: &str, depth: usize) -> String {
        let (bytes, mut out, mut at) = (text.as_bytes(), String::with_capacity(text.len()), 0);
        while at < text.len() {
            let quote = text[at..].find('"').map_or(text.len(), |offset| at + offset);
            self.between(&text[at..quote], depth, &mut out);
            if quote == text.len() {
                break;
            }
            let end = string_end(bytes, quote);
            let raw = &text[quote..end];
            let after = skip_space(bytes, end);
            if bytes.get(after) != Some(&b':') {
                self.string(raw, depth, &mut out);
                at = end;
                continue;
            }
            out.push_str(&self.literally(raw));
            out.push_str(&text[end..=after]);
            at = after + 1;
            if decode(raw).is_none_or(|name| self.is_secret(&name)) {
                at = blank(text, at, &mut out);
            }
        }
        out
    }

    /// What stands between two strings: numbers and punctuation, or text that is no JSON.
    fn between(&self, text: &str, depth: usize, out: &mut String) {
        if !is_bare(text) {
            out.push_str(&self.plain(text, depth));
            return;
        }
        let mut at = 0;
        while at < text.len() {
            let end = number_end(text.as_bytes(), at);
            if end == at {
                // Only ASCII is bare.
                out.push_str(&text[at..=at]);
                at += 1;
                continue;
            }
            let number = &text[at..end];
            out.push_str(if self.holds_literal(number) { "0" } else { number });
            at = end;
        }
    }

    /// One string with its quotes, whose name is not secret.
    fn string(&self, raw: &str, depth: usize, out: &mut String) {
        let Some(value) = decode(raw) else {
            // No string at all, such as an unpaired quote in a text.
            out.push_str(&self.plain(raw, depth));
            return;
        };
        let is_json = value.trim_start().starts_with(['{', '[']) && value.contains('"');
        let clean = match is_json {
            true if depth >= NESTED_MAX => REMOVED.to_owned(),
            true => self.nested(&value, depth + 1),
            false => self.plain(&value, depth),
        };
        if clean == *value {
            out.push_str(raw);
        } else {
            out.push_str(&JsonText(&clean).to_string());
        }
    }

    /// A text that is no JSON.
    fn plain(&self, text: &str, depth: usize) -> String {
        let text = self.pairs(text, depth);
        let text = without_user(&text);
        let text = without_tokens(&text);
        self.literally(&text).into_owned()
    }

    fn literally<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut text = Cow::Borrowed(text);
        for form in &self.literals {
            if text.contains(form.as_str()) {
                text = Cow::Owned(text.replace(form.as_str(), REMOVED));
            }
        }
        text
    }

    /// `name=value` as it stands in addresses, forms and lists of cookies.
    fn pairs<'t>(&self, text: &'t str, depth: usize) -> Cow<'t, str> {
        let (mut out, mut copied) = (String::new(), 0);
        for (equals, _) in text.match_indices('=') {
            if equals < copied {
                continue;
            }
            let is_name = |letter: char| letter.is_ascii_alphanumeric() || "_-.[]%$".contains(letter);
            let name = text[copied..equals].rsplit(|letter| !is_name(letter)).next().unwrap_or_default();
            let rest = &text[equals + 1..];
            let ends = |letter: char| letter.is_whitespace() || "&;#\"'<>,)".contains(letter);
            let value = &rest[..rest.find(ends).unwrap_or(rest.len())];
            if name.is_empty() || value.is_empty() {
                continue;
            }
            let clean = if self.is_secret(&percent_decoded(name)) {
                REMOVED.to_owned()
            } else if value.contains('%') {
                let inner = percent_decoded(value);
                let deeper = depth < NESTED_MAX;
                let clean = if deeper { self.nested(&inner, depth + 1) } else { REMOVED.to_owned() };
                if clean == inner {
                    continue;
                }
                form_urlencoded::byte_serialize(clean.as_bytes()).collect()
            } else {
                continue;
            };
            out.push_str(&text[copied..=equals]);
            out.push_str(&clean);
            copied = equals + 1 + value.len();
        }
        if copied == 0 {
            return Cow::Borrowed(text);
        }
        out.push_str(&text[copied..]);
        Cow::Owned(out)
    }
}

/// Copies the value that begins at `at` with its scalars taken out; returns where it ends.
fn blank(text: &str, at: usize, out: &mut String) -> usize {
    let bytes = text.as_bytes();
    let (mut at, mut depth) = (at, 0_usize);
    loop {
        let start = skip_space(bytes, at);
        out.push_str(&text[at..start]);
        let Some(byte) = bytes.get(start) else { return start };
        at = match byte {
            b'"' => {
                let end = string_end(bytes, start);
                let raw = &text[start..end];
                let is_key = depth > 0 && bytes.get(skip_space(bytes, end)) == Some(&b':');
                let keep = is_key || raw == "\"\"";
                out.push_str(if keep { raw } else { "\"[removed]\"" });
                end
            }
            b'-' | b'0'..=b'9' => {
                out.push('0');
                number_end(bytes, start)
            }
            b'{' | b'[' | b'}' | b']' | b',' | b':' => {
                match byte {
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' if depth > 0 => depth -= 1,
                    _ if depth > 0 => {}
                    // The end of what holds the value, which was not there.
                    _ => return start,
                }
                out.push(char::from(*byte));
                start + 1
            }
            // True, false and null; and words that are no JSON, of which nothing is known.
            _ => {
                let word = |byte: &u8| byte.is_ascii_whitespace() || b",:{}[]\"".contains(byte);
                let end = bytes[start..].iter().position(word).map_or(text.len(), |length| start + length);
                let known = matches!(&text[start..end], "true" | "false" | "null" | "undefined");
                out.push_str(if known { &text[start..end] } else { REMOVED });
                end
            }
        };
        if depth == 0 {
            return at;
        }
    }
}

/// `https://user:password@host` without the part before the `@`.
fn without_user(text: &str) -> Cow<'_, str> {
    let (mut out, mut copied) = (String::new(), 0);
    for (at, mark) in text.match_indices("://") {
        let from = at + mark.len();
        let rest = &text[from..];
        let ends = |letter: char| letter.is_whitespace() || "/?#\"'<>\\".contains(letter);
        let authority = &rest[..rest.find(ends).unwrap_or(rest.len())];
        if let Some(sign) = authority.rfind('@') {
            out.push_str(&text[copied..from]);
            copied = from + sign + 1;
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[copied..]);
    Cow::Owned(out)
}

/// Without JSON web tokens, and without what stands after `Bearer`.
fn without_tokens(text: &str) -> Cow<'_, str> {
    let (mut out, mut copied) = (String::new(), 0);
    let (bytes, mut at) = (text.as_bytes(), 0);
    while at < bytes.len() {
        let found = match bytes[at] {
            // Within a word none begins.
            b'e' if at == 0 || !is_token_byte(bytes[at - 1]) => {
                web_token(&text[at..]).map(|length| (0, length))
            }
            b'B' | b'b' => bearer(&text[at..]),
            _ => None,
        };
        let Some((kept, length)) = found else {
            at += 1;
            continue;
        };
        out.push_str(&text[copied..at + kept]);
        out.push_str(REMOVED);
        (copied, at) = (at + length, at + length);
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[copied..]);
    Cow::Owned(out)
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// The length of the JSON web token that the text begins with.
fn web_token(text: &str) -> Option<usize> {
    if !text.starts_with("eyJ") {
        return None;
    }
    let length = text.bytes().take_while(|byte| is_token_byte(*byte) || *byte == b'.').count();
    let mut parts = text[..length].split('.');
    let long = |part: Option<&str>| part.is_some_and(|part| part.len() >= PART_CHARS_MIN);
    (long(parts.next()) && long(parts.next())).then_some(length)
}

/// What stands after the `Bearer` that the text begins with: from where to where.
fn bearer(text: &str) -> Option<(usize, usize)> {
    const WORD: &str = "bearer ";
    text.get(..WORD.len()).filter(|word| word.eq_ignore_ascii_case(WORD))?;
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"._~+/=-".contains(&byte);
    let length = text[WORD.len()..].bytes().take_while(|byte| is_token(*byte)).count();
    (length >= PART_CHARS_MIN).then_some((WORD.len(), WORD.len() + length))
}

fn percent_decoded(text: &str) -> String {
    let pair = [b"x=", text.as_bytes()].concat();
    form_urlencoded::parse(&pair).next().map_or_else(String::new, |(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests;
