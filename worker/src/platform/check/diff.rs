//! What a fixture says against what it gives: found record by record, told field by field.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;
use serde_json::Value;

use super::fixture::{Expected, Outcome};

/// The most differences told of one fixture.
const DIFFERENCES_MAX: usize = 60;
/// The longest value that is shown whole, in characters.
const VALUE_CHARS_MAX: usize = 100;
/// How much of what is equal is shown before the first difference in longer ones.
const CONTEXT_CHARS: usize = 24;

/// One thing that differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// What it is about: a record by its kind and id, a refused row, or something else of the run.
    pub place: String,
    /// Which field of the record; `None`: all of it.
    pub field: Option<String>,
    /// What the fixture says; `None`: nothing.
    pub expected: Option<Value>,
    /// What it gave; `None`: nothing.
    pub got: Option<Value>,
}

/// Everything that differs, up to a bound; what is beyond is counted in the last one. A fixture that expects nothing
/// yet differs in all that it gives.
pub(super) fn differences(expected: Option<&Expected>, outcome: &Outcome) -> Vec<Difference> {
    let nothing = Expected::default();
    let expected = expected.unwrap_or(&nothing);
    let mut found = Vec::new();
    records(&expected.records, &outcome.records, &mut found);
    records(&sorted_ids(&expected.complete), &outcome.complete, &mut found);
    refusals(expected, outcome, &mut found);
    for (what, expected, got) in
        [("unknown_times", expected.unknown_times, outcome.unknown_times), ("cut", expected.cut, outcome.cut)]
    {
        if expected != got {
            found.push(whole(what, Some(expected.into()), Some(got.into())));
        }
    }
    match (&expected.error, &outcome.error) {
        (None, None) => {}
        (Some(expected), Some(error)) if error.contains(expected) => {}
        (expected, error) => {
            let value = |error: &Option<String>| error.clone().map(Value::from);
            found.push(whole("error", value(expected), value(error)));
        }
    }
    if found.len() > DIFFERENCES_MAX {
        let more = found.len() - DIFFERENCES_MAX;
        found.truncate(DIFFERENCES_MAX);
        found.push(whole(&format!("and {more} differences more"), None, None));
    }
    found
}

fn whole(place: &str, expected: Option<Value>, got: Option<Value>) -> Difference {
    Difference { place: place.to_owned(), field: None, expected, got }
}

/// In which order the ids of a complete list are written does not matter.
fn sorted_ids(lists: &[Value]) -> Vec<Value> {
    let mut lists = lists.to_vec();
    for ids in lists.iter_mut().filter_map(|list| list.get_mut("ids")?.as_array_mut()) {
        ids.sort_by(|one, other| one.as_str().cmp(&other.as_str()));
    }
    lists
}

/// What tells a record from others.
fn key(record: &Value) -> (&str, &str) {
    let word = |name: &str| record.get(name).and_then(Value::as_str);
    (word("kind").unwrap_or("record"), word("id").or_else(|| word("content_id")).unwrap_or("without id"))
}

fn place(record: &Value) -> String {
    let (kind, id) = key(record);
    format!("{kind} {id}")
}

/// Pairs records by kind and id, then what is left by its place in the list.
fn records(expected: &[Value], got: &[Value], found: &mut Vec<Difference>) {
    let mut pair_of: Vec<Option<usize>> = vec![None; expected.len()];
    let mut is_taken = vec![false; got.len()];
    let mut by_key: std::collections::BTreeMap<_, Vec<usize>> = std::collections::BTreeMap::new();
    for (at, record) in got.iter().enumerate().rev() {
        by_key.entry(key(record)).or_default().push(at);
    }
    for (record, pair) in expected.iter().zip(&mut pair_of) {
        *pair = by_key.get_mut(&key(record)).and_then(Vec::pop);
        if let Some(at) = *pair {
            is_taken[at] = true;
        }
    }
    let is_ordered = pair_of.iter().flatten().is_sorted();
    for (at, pair) in pair_of.iter_mut().enumerate() {
        let is_free = pair.is_none() && is_taken.get(at) == Some(&false);
        if is_free && key(&got[at]).0 == key(&expected[at]).0 {
            *pair = Some(at);
            is_taken[at] = true;
        }
    }
    for (record, pair) in expected.iter().zip(&pair_of) {
        match pair {
            Some(at) => fields(record, &got[*at], found),
            None => found.push(whole(&place(record), Some(record.clone()), None)),
        }
    }
    for (record, _) in got.iter().zip(is_taken).filter(|(_, is_taken)| !is_taken) {
        found.push(whole(&place(record), None, Some(record.clone())));
    }
    if !is_ordered {
        let order = |records: &[Value]| Some(records.iter().map(place).collect());
        found.push(whole("order of the records", order(expected), order(got)));
    }
}

fn fields(expected: &Value, got: &Value, found: &mut Vec<Difference>) {
    let name = place(expected);
    let (Value::Object(expected), Value::Object(got)) = (expected, got) else {
        if expected != got {
            found.push(whole(&name, Some(expected.clone()), Some(got.clone())));
        }
        return;
    };
    let names: BTreeSet<_> = expected.keys().chain(got.keys()).collect();
    for field in names {
        let (expected, got) = (expected.get(field), got.get(field));
        if expected != got {
            let (expected, got) = (expected.cloned(), got.cloned());
            found.push(Difference { place: name.clone(), field: Some(field.clone()), expected, got });
        }
    }
}

fn refusals(expected: &Expected, outcome: &Outcome, found: &mut Vec<Difference>) {
    let place = |row: usize| format!("refused row {row}");
    for refusal in &expected.refused {
        let got = outcome.refused.iter().find(|refused| refused.row == refusal.row);
        if got.is_none_or(|refused| !refused.reason.contains(&refusal.reason)) {
            let got = got.map(|refused| refused.reason.clone().into());
            found.push(whole(&place(refusal.row), Some(refusal.reason.clone().into()), got));
        }
    }
    for refused in &outcome.refused {
        if !expected.refused.iter().any(|refusal| refusal.row == refused.row) {
            found.push(whole(&place(refused.row), None, Some(refused.reason.clone().into())));
        }
    }
}

/// Writes them for people: `-` is what the fixture says, `+` what it gave.
pub(super) fn write(f: &mut fmt::Formatter<'_>, differences: &[Difference]) -> fmt::Result {
    for about in differences.chunk_by(|one, next| one.place == next.place) {
        let hint = match &about[0] {
            Difference { field: Some(_), .. } | Difference { expected: None, got: None, .. } => "",
            Difference { got: None, .. } => ": missing",
            Difference { expected: None, .. } => ": not expected",
            _ => "",
        };
        writeln!(f, "  {}{hint}", about[0].place)?;
        let width = about.iter().filter_map(|one| Some(one.field.as_ref()?.chars().count() + 2)).max();
        for Difference { field, expected, got, .. } in about {
            let field = field.as_ref().map_or_else(String::new, |field| format!("{field}:"));
            let (expected, got) = shown(expected.as_ref(), got.as_ref());
            for (sign, value) in [('-', expected), ('+', got)] {
                if let Some(value) = value {
                    writeln!(f, "    {sign} {field:width$}{value}", width = width.unwrap_or(0))?;
                }
            }
        }
    }
    Ok(())
}

/// Both values, of long ones the part in which they begin to differ.
fn shown(expected: Option<&Value>, got: Option<&Value>) -> (Option<String>, Option<String>) {
    let text = |value: &Value| value.to_string().chars().collect::<Vec<_>>();
    let (expected, got) = (expected.map(text), got.map(text));
    let start = match (&expected, &got) {
        (Some(expected), Some(got)) => {
            let equal = expected.iter().zip(got).take_while(|(one, other)| one == other).count();
            let is_short = expected.len().max(got.len()) <= VALUE_CHARS_MAX;
            if is_short { 0 } else { equal.saturating_sub(CONTEXT_CHARS) }
        }
        _ => 0,
    };
    let cut = |text: Vec<char>| {
        let end = text.len().min(start + VALUE_CHARS_MAX);
        let part: String = text[start.min(end)..end].iter().collect();
        let before = if start > 0 { "…" } else { "" };
        let after = if end < text.len() { "…" } else { "" };
        format!("{before}{part}{after}")
    };
    (expected.map(cut), got.map(cut))
}
