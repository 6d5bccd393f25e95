//! Patterns for the host of a URL: `*` stands for any characters, also none and also dots; capitals do not matter.
//!
//! `*.example.com` is every host below `example.com`, but not that one itself.

use std::fmt;
use std::str::FromStr;

use url::Url;

use crate::glob;

/// The longest pattern, in bytes: as long as a host name can be.
pub const HOST_BYTES_MAX: usize = 253;

/// Why a pattern was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Nothing in it.
    #[error(
        "host pattern is empty: write a host such as \"*.example.com\", or leave the line out for any host"
    )]
    Empty,
    /// Longer than [`HOST_BYTES_MAX`].
    #[error("host pattern of {0} bytes is too long: at most {HOST_BYTES_MAX}")]
    TooLong(usize),
    /// A character that no host holds.
    #[error("host pattern {pattern:?} holds {found:?}: {remedy}")]
    NotAHost {
        /// What was given.
        pattern: String,
        /// What is wrong in it.
        found: char,
        /// What would be right.
        remedy: &'static str,
    },
}

/// A pattern for the host of a URL; see the module's description for its language.
#[derive(Clone, PartialEq, Eq)]
pub struct HostPattern(String);

impl HostPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`HostError`], naming the pattern and what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        if text.is_empty() {
            return Err(HostError::Empty);
        }
        if text.len() > HOST_BYTES_MAX {
            return Err(HostError::TooLong(text.len()));
        }
        // An address of IPv6 stands in brackets, and nothing behind them.
        let address_end = text.find(']').filter(|_| text.starts_with('['));
        let wrong = text.char_indices().find(|(at, letter)| match letter {
            '[' => *at > 0 || address_end.is_none(),
            ':' | ']' => address_end.is_none_or(|end| *at > end),
            _ if address_end.is_some_and(|end| *at > end) => true,
            '*' | '.' | '-' | '_' => false,
            letter => !letter.is_ascii_alphanumeric(),
        });
        if let Some((_, found)) = wrong {
            let remedy = if found.is_ascii() {
                "write the host alone, without scheme, port or path"
            } else {
                "write such a host as browsers send it, beginning with \"xn--\""
            };
            return Err(HostError::NotAHost { pattern: text.into(), found, remedy });
        }
        Ok(Self(text.to_ascii_lowercase()))
    }

    /// Whether the host of `url` matches; a URL without host does not.
    #[must_use]
    pub fn matches_url(&self, url: &Url) -> bool {
        // Whoever parses a URL writes its host in small letters.
        url.host_str().is_some_and(|host| glob::matches(self.0.as_bytes(), host.as_bytes()))
    }

    /// The pattern, in small letters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostPattern({:?})", self.0)
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for HostPattern {
    type Err = HostError;
    fn from_str(text: &str) -> Result<Self, HostError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hit(pattern: &str, url: &str) -> bool {
        HostPattern::parse(pattern).unwrap().matches_url(&Url::parse(url).unwrap())
    }

    #[test]
    fn a_star_is_any_characters_and_capitals_do_not_matter() {
        assert!(hit("*.Example.com", "https://WWW.example.COM/x"));
        assert!(hit("*.example.com", "wss://a.b.example.com:8443/x"));
        assert!(!hit("*.example.com", "https://example.com/"));
        assert!(!hit("*.example.com", "https://www.example.com.evil.net/"));
        assert!(!hit("*.example.com", "https://evil.net/www.example.com"));
        assert!(hit("api-*.example.*", "https://api-7.example.org"));
        assert!(hit("*", "http://127.0.0.1:9/"));
        assert!(hit("127.0.0.*", "http://127.0.0.1:9/"));
        assert!(hit("[::1]", "http://[::1]:9/"));
        assert!(hit("xn--bcher-kva.example", "https://bücher.example/"));
        assert!(!hit("*", "data:text/plain,x"));
    }

    #[test]
    fn what_is_no_host_is_refused_by_name() {
        for (text, part) in [
            ("", "empty"),
            ("https://a.example", "without scheme"),
            ("a.example:443", "without scheme"),
            ("a.example/x", "\"a.example/x\""),
            ("[::1]:443", "without scheme, port"),
            ("[::1", "'['"),
            ("::1", "':'"),
            ("bücher.example", "xn--"),
            ("a b", "' '"),
        ] {
            let error = HostPattern::parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text:?}: {error}");
        }
        assert!(HostPattern::parse(&"a".repeat(HOST_BYTES_MAX + 1)).is_err());
    }
}
