//! Addresses of records that are not absolute: nobody but the platform's own pages can follow them.

use serde_json::Value;
use url::Url;

/// The longest address that is shown whole, in characters.
const SHOWN_CHARS_MAX: usize = 80;

/// How many there were.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    relative: usize,
    first: String,
}

impl Addresses {
    /// Looks at the addresses of a record, as the protocol writes it.
    pub(super) fn look_at(&mut self, record: &Value) {
        let fields = record.as_object().into_iter().flatten();
        let is_address = |name: &str| name == "url" || name.ends_with("_url") || name.ends_with("_urls");
        for (_, value) in fields.filter(|(name, _)| is_address(name)) {
            let list = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
            list.iter().filter_map(Value::as_str).for_each(|address| self.note(address));
        }
    }

    fn note(&mut self, address: &str) {
        if address.is_empty() || Url::parse(address).is_ok() {
            return;
        }
        if self.relative == 0 {
            self.first = address.chars().take(SHOWN_CHARS_MAX).collect();
        }
        self.relative += 1;
    }

    /// What is to be said of them, if there were any.
    pub(super) fn warning(&self) -> Option<String> {
        let what = match self.relative {
            0 => return None,
            1 => "1 address is not absolute: ".to_owned(),
            many => format!("{many} addresses are not absolute, such as "),
        };
        Some(format!("{what}{}; absolute($request.url) of snapfleet.jq makes them so", self.first))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn addresses_are_told_that_lead_nowhere_from_elsewhere() {
        let mut addresses = Addresses::default();
        addresses
            .look_at(&json!({ "kind": "content", "title": "/a", "url": "https://h/a", "cover_url": "" }));
        assert_eq!(addresses.warning(), None);
        addresses.look_at(&json!({ "kind": "content", "media_urls": ["/a/b", "data:image/png;base64,x"] }));
        assert_eq!(addresses.warning().unwrap().split(';').next(), Some("1 address is not absolute: /a/b"));
        addresses.look_at(&json!({ "kind": "comment", "author_avatar_url": "//h/a" }));
        let told = addresses.warning().unwrap();
        assert!(told.starts_with("2 addresses are not absolute, such as /a/b;"), "{told}");
    }
}
