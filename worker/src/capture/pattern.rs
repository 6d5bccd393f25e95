//! Patterns for the path of a URL.
//!
//! `*` stands for any characters within one segment, `**` for any across segments (`/**/` also for a single `/`).
//! A trailing slash does not matter on either side. A pattern that does not begin with `/` may match from any
//! segment on, so that a prefix before it does not matter.

use std::fmt;
use std::str::FromStr;

use url::Url;

/// The longest pattern, in bytes: matching costs its length times that of the path.
pub const PATTERN_BYTES_MAX: usize = 512;
/// A longer path matches nothing.
const PATH_BYTES_MAX: usize = 8192;

/// Why a pattern was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Nothing in it.
    #[error("path pattern is empty: write the path to capture, for example \"/api/comments\"")]
    Empty,
    /// Longer than [`PATTERN_BYTES_MAX`].
    #[error("path pattern of {0} bytes is too long: at most {PATTERN_BYTES_MAX}")]
    TooLong(usize),
    /// A character that no path holds.
    #[error(
        "path pattern {pattern:?} holds {found:?}: write the path alone, without host, query or fragment"
    )]
    NotAPath {
        /// What was given.
        pattern: String,
        /// What is wrong in it.
        found: String,
    },
    /// Three or more stars in a row.
    #[error("path pattern {0:?} holds \"***\": use '*' within a segment or '**' across segments")]
    Stars(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Byte(u8),
    /// Any characters but `/`.
    Star,
    /// Any characters.
    Across,
    /// `/`, or `/` and anything up to another `/`.
    Segments,
    /// Nothing, or `/` and anything.
    Below,
}

/// A pattern for the path of a URL; see the module's description for its language.
#[derive(Clone, PartialEq, Eq)]
pub struct PathPattern {
    text: String,
    tokens: Vec<Token>,
}

impl PathPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`PatternError`], naming the pattern and what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        if text.len() > PATTERN_BYTES_MAX {
            return Err(PatternError::TooLong(text.len()));
        }
        let not_a_path = |found: &str| PatternError::NotAPath { pattern: text.into(), found: found.into() };
        if text.contains("://") {
            return Err(not_a_path("://"));
        }
        if let Some(found) = text.chars().find(|letter| {
            matches!(letter, '?' | '#' | '\\') || letter.is_whitespace() || letter.is_control()
        }) {
            return Err(not_a_path(&found.to_string()));
        }
        if text.contains("***") {
            return Err(PatternError::Stars(text.into()));
        }
        let tokens = tokenise(text);
        Ok(Self { text: text.to_owned(), tokens })
    }

    /// The one that every path matches.
    #[must_use]
    pub fn any() -> Self {
        Self { text: "/**".to_owned(), tokens: vec![Token::Below] }
    }

    /// Whether the path of `url` matches; an unreadable URL does not.
    #[must_use]
    pub fn matches_url(&self, url: &str) -> bool {
        Url::parse(url).is_ok_and(|url| self.matches_path(url.path()))
    }

    /// Whether `path`, as it stands in a URL, matches.
    #[must_use]
    pub fn matches_path(&self, path: &str) -> bool {
        path.len() <= PATH_BYTES_MAX && matches(&self.tokens, trim(path).as_bytes())
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PathPattern({:?})", self.text)
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for PathPattern {
    type Err = PatternError;
    fn from_str(text: &str) -> Result<Self, PatternError> {
        Self::parse(text)
    }
}

/// `/a/` is `/a`, and `/` is nothing at all.
fn trim(path: &str) -> &str {
    path.strip_suffix('/').unwrap_or(path)
}

fn tokenise(text: &str) -> Vec<Token> {
    let mut rest = trim(text).as_bytes();
    let mut tokens = Vec::with_capacity(rest.len() + 1);
    if !text.starts_with('/') {
        tokens.push(Token::Segments);
        rest = skip_repeats(rest);
    }
    while let Some((&first, after)) = rest.split_first() {
        if rest == b"/**" {
            tokens.push(Token::Below);
            break;
        }
        rest = if let Some(after) = rest.strip_prefix(b"/**/") {
            tokens.push(Token::Segments);
            skip_repeats(after)
        } else if let Some(after) = rest.strip_prefix(b"**") {
            tokens.push(Token::Across);
            after
        } else {
            tokens.push(if first == b'*' { Token::Star } else { Token::Byte(first) });
            after
        };
    }
    tokens
}

/// `/**/**/` says no more than `/**/`.
fn skip_repeats(mut rest: &[u8]) -> &[u8] {
    while let Some(after) = rest.strip_prefix(b"**/") {
        rest = after;
    }
    rest
}

/// Which lengths of the path the tokens so far can have taken, token by token: cost is the product of both lengths,
/// whatever the pattern.
fn matches(tokens: &[Token], path: &[u8]) -> bool {
    let mut reached = vec![false; path.len() + 1];
    reached[0] = true;
    for token in tokens {
        let mut next = vec![false; path.len() + 1];
        // Whether an open-ended token begun earlier still runs here.
        let mut running = false;
        for at in 0..=path.len() {
            match token {
                Token::Byte(byte) => {
                    next[at] = at > 0 && reached[at - 1] && path[at - 1] == *byte;
                }
                Token::Star => {
                    running = reached[at] || (running && at > 0 && path[at - 1] != b'/');
                    next[at] = running;
                }
                Token::Across => {
                    running |= reached[at];
                    next[at] = running;
                }
                Token::Segments => {
                    // Begins with a slash right after what was reached, ends just behind any slash from there on.
                    running |= at > 0 && reached[at - 1] && path[at - 1] == b'/';
                    next[at] = running && path[at - 1] == b'/';
                }
                Token::Below => {
                    running |= at > 0 && reached[at - 1] && path[at - 1] == b'/';
                    next[at] = running || reached[at];
                }
            }
        }
        reached = next;
    }
    reached[path.len()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hit(pattern: &str, path: &str) -> bool {
        PathPattern::parse(pattern).unwrap().matches_path(path)
    }

    #[test]
    fn a_star_stays_within_its_segment() {
        assert!(hit("/api/*/comments", "/api/v1/comments"));
        assert!(hit("/api/c*s", "/api/comments"));
        assert!(hit("/api/v*", "/api/v"));
        assert!(!hit("/api/*/comments", "/api/v1/x/comments"));
        assert!(!hit("/api/*", "/api/v1/comments"));
        assert!(!hit("/api/comments", "/api/comments2"));
        assert!(!hit("/api/comments", "/v2/api/comments"));
    }

    #[test]
    fn two_stars_cross_segments() {
        assert!(hit("/api/**/comments", "/api/comments"));
        assert!(hit("/api/**/comments", "/api/v1/x/comments"));
        assert!(!hit("/api/**/comments", "/api/v1/xcomments"));
        assert!(hit("/api/**", "/api/v1/comments"));
        assert!(hit("/api/**", "/api/"));
        assert!(hit("/api/**", "/api"));
        assert!(!hit("/api/**", "/api2"));
        assert!(hit("/api**", "/api2/x"));
        assert!(hit("/**.json", "/a/b.json"));
        assert!(hit("/**", "/"));
        assert!(hit("/**", "/a/b"));
        assert_eq!(PathPattern::parse("/**").unwrap(), PathPattern::any());
        assert!(hit("/a/**/**/b", "/a/b"));
        assert!(hit("**/b", "/b"));
        assert!(hit("**/b", "/a/b"));
    }

    #[test]
    fn a_trailing_slash_does_not_matter() {
        assert!(hit("/api/comments", "/api/comments/"));
        assert!(hit("/api/comments/", "/api/comments"));
        assert!(hit("/", "/"));
    }

    #[test]
    fn without_a_leading_slash_it_matches_from_any_segment_on() {
        assert!(hit("api/comments", "/api/comments"));
        assert!(hit("api/comments", "/x/y/api/comments"));
        assert!(!hit("api/comments", "/xapi/comments"));
        assert!(hit("*/list", "/a/b/list"));
    }

    #[test]
    fn only_the_path_of_a_url_counts() {
        let pattern = PathPattern::parse("/api/comments").unwrap();
        assert!(pattern.matches_url("https://a.example/api/comments?page=2#x"));
        assert!(pattern.matches_url("ws://127.0.0.1:9/api/comments"));
        assert!(!pattern.matches_url("https://a.example/other?path=/api/comments"));
        assert!(!pattern.matches_url("not a url"));
    }

    #[test]
    fn what_is_no_path_is_refused_by_name() {
        for (text, part) in [
            ("", "empty"),
            ("/a?b=1", "'?'"),
            ("/a#b", "#"),
            ("https://a/b", "://"),
            ("/a b", "without host"),
            ("/a/***", "***"),
        ] {
            let error = PathPattern::parse(text).unwrap_err().to_string();
            assert!(error.contains(part.trim_matches('\'')), "{text:?}: {error}");
        }
        assert!(PathPattern::parse(&"a".repeat(PATTERN_BYTES_MAX + 1)).is_err());
    }

    /// The same language by plain recursion.
    fn oracle(pattern: &[u8], path: &[u8]) -> bool {
        if let Some(rest) = pattern.strip_prefix(b"**") {
            return (0..=path.len()).any(|n| oracle(rest, &path[n..]));
        }
        match (pattern.split_first(), path.split_first()) {
            (None, _) => path.is_empty(),
            (Some((b'*', rest)), _) => {
                (0..=path.len()).take_while(|n| !path[..*n].contains(&b'/')).any(|n| oracle(rest, &path[n..]))
            }
            (Some((byte, rest)), Some((first, after))) => byte == first && oracle(rest, after),
            (Some(_), None) => false,
        }
    }

    proptest! {
        #[test]
        fn stars_agree_with_plain_recursion(pattern in "/[ab*]{0,3}(/[ab]{0,2}\\*{0,2}[ab]{1,2}){0,2}",
                                            path in "/[ab/]{0,8}") {
            prop_assume!(!pattern.contains("***") && !pattern.contains("/**/") && !pattern.ends_with("/**"));
            let parsed = PathPattern::parse(&pattern).unwrap();
            prop_assert_eq!(parsed.matches_path(&path), oracle(trim(&pattern).as_bytes(), trim(&path).as_bytes()));
        }

        #[test]
        fn no_input_panics(pattern in ".{0,40}", path in ".{0,40}") {
            if let (Ok(parsed), Ok(slashed)) = (PathPattern::parse(&pattern), PathPattern::parse(&format!("{pattern}/"))) {
                let agree = parsed.matches_path(&path) == slashed.matches_path(&path);
                prop_assert!(agree || pattern.ends_with('/'));
            }
        }
    }
}
