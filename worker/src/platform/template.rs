//! Text with `{setting}` in it; `{{` and `}}` stand for braces.

use super::Settings;

/// A text to fill in for an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Setting(String),
}

impl Template {
    /// Reads a template; the error says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (mut parts, mut plain, mut rest) = (Vec::new(), String::new(), text);
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            let (brace, after) = rest[at..].split_at(1);
            if let Some(after) = after.strip_prefix(brace) {
                plain.push_str(brace);
                rest = after;
                continue;
            }
            let name = match after.split_once('}') {
                Some((name, _)) if brace == "{" => name,
                _ => {
                    return Err(format!(
                        "has a {brace} without its other half: for a brace itself write {brace}{brace}"
                    ));
                }
            };
            if !is_name(name) {
                return Err(format!(
                    "has {{{name}}}, which is no setting's name: for braces write {{{{ and }}}}"
                ));
            }
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(Part::Setting(name.to_owned()));
            rest = &after[name.len() + 1..];
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self(parts))
    }

    /// The settings that it takes.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Setting(name) => Some(name.as_str()),
            Part::Text(_) => None,
        })
    }

    /// The text for these settings, or the name of one that is missing.
    pub(super) fn fill(&self, settings: &Settings) -> Result<String, &str> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(plain) => text.push_str(plain),
                Part::Setting(name) => text.push_str(settings.get(name).ok_or(name.as_str())?),
            }
        }
        Ok(text)
    }
}

/// Whether it can name a setting: lower-case letters, digits and `_`, a letter first.
pub(super) fn is_name(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_filled_in_and_double_braces_are_braces() {
        let settings = Settings::from([("host".into(), "h".into()), ("n".into(), "{x}".into())]);
        for (text, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("http://{host}/a?n={n}", "http://h/a?n={x}"),
            ("{{host}} {host}}}{{", "{host} h}{"),
            ("é{host}é", "éhé"),
        ] {
            assert_eq!(Template::parse(text).unwrap().fill(&settings), Ok(expected.to_owned()), "{text}");
        }
        assert_eq!(Template::parse("{host}{other}").unwrap().fill(&settings), Err("other"));
    }

    #[test]
    fn a_lone_brace_and_a_bad_name_are_refused() {
        for bad in ["{", "}", "a{b", "a}b", "{}", "{a b}", "{A}", "{{}", "{a{b}}"] {
            assert!(Template::parse(bad).is_err(), "{bad:?} was accepted");
        }
    }
}
