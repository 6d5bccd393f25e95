//! Requests that no rule took, grouped by what they probably are: one line for each address, whatever its ids.

use std::collections::BTreeMap;

use serde::Serialize;
use url::Url;

use crate::har::HarEntry;

/// The most groups; the requests beyond them are only counted.
const GROUPS_MAX: usize = 2000;
/// The longest address that is kept whole.
const ADDRESS_CHARS_MAX: usize = 300;
/// From this length on, a segment with digits in it is taken for an id.
const ID_CHARS_MIN: usize = 16;

/// Requests of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Group {
    /// The request's method.
    pub method: String,
    /// Host and path, with `*` for what seems to be an id; never the query.
    pub address: String,
    /// How many there were.
    pub requests: usize,
    /// Whether an answer was JSON.
    pub is_json: bool,
    /// Which rule came nearest to one of them, and what did not fit.
    pub nearest: Option<String>,
}

/// All groups.
#[derive(Debug, Default)]
pub(super) struct Groups {
    by_address: BTreeMap<(String, String), Group>,
    /// Files that belong to the page itself: pictures, fonts, styles and scripts.
    pub(super) static_files: usize,
    /// Requests beyond [`GROUPS_MAX`] groups.
    pub(super) left_out: usize,
}

impl Groups {
    /// Counts a request; `nearest` is the rule that came nearest to it, and what did not fit.
    pub(super) fn add(&mut self, entry: &HarEntry, url: Option<&Url>, nearest: Option<String>) {
        if is_static(entry) {
            self.static_files += 1;
            return;
        }
        let key = (entry.method.clone(), url.map_or_else(|| "(no address)".into(), pattern));
        if self.by_address.len() == GROUPS_MAX && !self.by_address.contains_key(&key) {
            self.left_out += 1;
            return;
        }
        let group = self.by_address.entry(key).or_insert_with_key(|(method, address)| Group {
            method: method.clone(),
            address: address.clone(),
            requests: 0,
            is_json: false,
            nearest: None,
        });
        group.requests += 1;
        group.is_json |= looks_like_json(entry);
        if group.nearest.is_none() {
            group.nearest = nearest;
        }
    }

    /// JSON first, then those of which there are most.
    pub(super) fn list(&self) -> Vec<Group> {
        let mut list: Vec<Group> = self.by_address.values().cloned().collect();
        list.sort_by_key(|group| (!group.is_json, std::cmp::Reverse(group.requests)));
        list
    }
}

fn is_static(entry: &HarEntry) -> bool {
    const KINDS: [&str; 6] = ["image", "font", "stylesheet", "script", "media", "manifest"];
    const TYPES: [&str; 6] = ["image/", "font/", "audio/", "video/", "text/css", "application/font"];
    let mime_type = entry.mime_type.to_ascii_lowercase();
    entry.resource_type.as_deref().is_some_and(|kind| KINDS.contains(&kind))
        || TYPES.iter().any(|kind| mime_type.starts_with(kind))
        || mime_type.contains("javascript")
}

fn looks_like_json(entry: &HarEntry) -> bool {
    entry.mime_type.to_ascii_lowercase().contains("json")
        || entry.body.bytes().is_ok_and(|body| matches!(body.trim_ascii_start().first(), Some(b'{' | b'[')))
}

/// Host and path without user, query and fragment, which may hold secrets; of a long one the beginning.
pub(super) fn address(url: &Url) -> String {
    // `data:` and the like, whose path is what they hold.
    if url.cannot_be_a_base() {
        return format!("{}:…", url.scheme());
    }
    let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
    let mut address = format!("{}{port}{}", url.host_str().unwrap_or_default(), url.path());
    if let Some((end, _)) = address.char_indices().nth(ADDRESS_CHARS_MAX) {
        address.truncate(end);
        address.push('…');
    }
    address
}

fn pattern(url: &Url) -> String {
    let address = address(url);
    let Some((host, path)) = address.split_once('/') else { return address };
    let mut pattern = host.to_owned();
    for segment in path.trim_end_matches('/').split('/') {
        pattern.push('/');
        pattern.push_str(if is_id(segment) { "*" } else { segment });
    }
    pattern
}

fn is_id(segment: &str) -> bool {
    let digits = segment.bytes().filter(u8::is_ascii_digit).count();
    let is_hex = segment.len() >= 8 && segment.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    digits > 0 && (digits == segment.len() || is_hex || segment.len() >= ID_CHARS_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_in_paths_do_not_make_groups_of_their_own() {
        for (url, expected) in [
            ("https://u:p@h.example:8443/a/7123/b?token=s#f", "h.example:8443/a/*/b"),
            ("https://h/api/v1/comment/list/", "h/api/v1/comment/list"),
            ("https://h/x/0f8fad5b-d9cb-469f-a165-70867728950e", "h/x/*"),
            ("https://h/x/MS4wLjABAAAA6ZLI2wFhu9Nrh348", "h/x/*"),
            ("https://h/decade/web2", "h/decade/web2"),
            ("data:application/json,{\"text\":\"private\"}", "data:…"),
            ("blob:https://h/0f8fad5b-d9cb-469f-a165-70867728950e", "blob:…"),
        ] {
            assert_eq!(pattern(&Url::parse(url).unwrap()), expected);
        }
    }
}
