//! One endpoint whose addresses hold a name where others hold an id, such as `/t/which-pot/701.json` and
//! `/t/opening-hours/702.json`: groups that are alike, put together. No name alone is told from a word of the address;
//! only that the answers look the same.

use std::collections::BTreeMap;

use super::gather::{Address, Group};

/// The most names for which a `*` stands that are kept to be shown.
const NAMES_MAX: usize = 4;
/// Bodies with fewer fields in common are not taken for alike.
const SHARED_MIN: usize = 3;

/// Puts groups together that differ in one segment beside a variable one, and whose bodies look alike.
pub(super) fn merged(groups: BTreeMap<Address, Group>) -> BTreeMap<Address, Group> {
    let mut list: Vec<(Address, Group)> = Vec::new();
    for (address, group) in groups {
        let near = list.iter_mut().find_map(|(known, before)| {
            let at = differing(known, &address).filter(|_| are_alike(before, &group))?;
            Some((known, before, at))
        });
        match near {
            Some((known, before, at)) => {
                for path in [&known.path, &address.path] {
                    note(&mut before.names, path.split('/').nth(at).unwrap_or_default());
                }
                known.path = with_any(&known.path, at);
                before.take_in(group);
            }
            None => list.push((address, group)),
        }
    }
    list.into_iter().collect()
}

/// The one segment in which two addresses differ, if there is a variable one beside it.
fn differing(one: &Address, other: &Address) -> Option<usize> {
    if (one.source, &one.method, &one.host) != (other.source, &other.method, &other.host) {
        return None;
    }
    let segments = |address: &Address| address.path.split('/').map(str::to_owned).collect::<Vec<_>>();
    let (one, other) = (segments(one), segments(other));
    if one.len() != other.len() {
        return None;
    }
    let mut differ = (0..one.len()).filter(|at| one[*at] != other[*at]);
    let (Some(at), None) = (differ.next(), differ.next()) else { return None };
    let is_variable =
        |at: Option<usize>| at.and_then(|at| one.get(at)).is_some_and(|one| one.starts_with('*'));
    (is_variable(at.checked_sub(1)) || is_variable(Some(at + 1))).then_some(at)
}

/// Whether half of the names in one of both, at the top and in all, are in the other as well.
fn are_alike(one: &Group, other: &Group) -> bool {
    let overlap = |is_counted: fn(&str) -> bool| {
        let paths = |group: &Group| group.shape.paths().filter(|path| is_counted(path)).count();
        let shared = one.shape.paths().filter(|path| is_counted(path) && other.shape.has(path)).count();
        (shared, paths(one).min(paths(other)))
    };
    let (top, all) = (overlap(is_top), overlap(|path| !path.is_empty()));
    all.0 >= SHARED_MIN && [top, all].iter().all(|(shared, fewest)| shared * 2 >= *fewest)
}

/// A path of one step.
fn is_top(path: &str) -> bool {
    let path = path.trim_start_matches("[]");
    path.starts_with('.') && !path[1..].contains(['.', '[', '|'])
}

fn with_any(path: &str, at: usize) -> String {
    let segments = path.split('/').enumerate();
    segments.map(|(number, segment)| if number == at { "*" } else { segment }).collect::<Vec<_>>().join("/")
}

fn note(names: &mut Vec<String>, name: &str) {
    if name != "*" && names.len() < NAMES_MAX {
        names.push(name.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::gather::SourceKind;
    use super::*;

    fn paths(groups: &[(&str, Value)]) -> Vec<String> {
        let all = groups.len();
        let groups = groups.iter().map(|(path, body)| {
            let mut group = Group { count: 1, ..Group::default() };
            group.shape.add(body);
            let (method, host) = ("GET".to_owned(), "h".to_owned());
            let path = (*path).to_owned();
            (Address { source: SourceKind::Response, method, host, path }, group)
        });
        let merged = merged(groups.collect());
        assert_eq!(merged.values().map(|group| group.count).sum::<usize>(), all);
        merged.into_keys().map(|address| address.path).collect()
    }

    #[test]
    fn names_beside_an_id_become_any_and_other_endpoints_stay() {
        let thread = json!({ "posts": [{ "id": 1, "text": "x" }], "title": "t", "views": 1 });
        let talk = json!({ "posts": [{ "id": 1, "text": "x" }], "title": "t", "members": [1] });
        let likes = json!({ "users": [{ "uid": 1, "name": "x" }], "total": 1, "more": false });
        assert_eq!(
            paths(&[
                ("/t/pots/*.json", thread.clone()),
                ("/t/refund/*.json", talk),
                ("/t/hours/*.json", thread.clone()),
                ("/t/likes/*.json", likes.clone()),
            ]),
            ["/t/*/*.json", "/t/likes/*.json"]
        );
        for other in ["/t/pots/x", "/a/pots/*.json", "/t/pots/more/*.json"] {
            let both = paths(&[("/t/hours/*.json", thread.clone()), (other, thread.clone())]);
            assert_eq!(both.len(), 2, "{both:?}");
        }
        // Lists that are empty say too little.
        let empty = json!({ "data": [], "total": 0 });
        assert_eq!(paths(&[("/u/*/likes", empty.clone()), ("/u/*/posts", empty)]).len(), 2);
    }
}
