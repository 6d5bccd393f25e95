//! What a group's bodies look like: paths as jq writes them, with types, lengths of arrays and a sample of each value.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// The most paths that are kept of one group, the deepest, and the most rows of one array that are looked into.
const PATHS_MAX: usize = 600;
const DEPTH_MAX: usize = 14;
const ROWS_MAX: usize = 30;
/// The longest sample, in characters.
const SAMPLE_CHARS_MAX: usize = 48;
/// The most numbers of one place that are kept.
const NUMBERS_MAX: usize = 12;

/// What stands at a path.
#[derive(Debug, Clone, Default)]
pub(super) struct Place {
    pub(super) types: BTreeSet<&'static str>,
    /// The fewest and the most rows, where it is an array or an object whose keys are ids.
    pub(super) rows: Option<(usize, usize)>,
    /// A value that says something, shortened.
    pub(super) sample: Option<String>,
    /// Some of its numbers, as written: codes, if they are few.
    pub(super) numbers: BTreeSet<String>,
}

/// Paths in the order in which they were found.
#[derive(Debug, Clone, Default)]
pub(super) struct Shape {
    places: BTreeMap<String, Place>,
    order: Vec<String>,
}

/// An array of objects.
pub(super) struct Table<'s> {
    /// Its path, with `[]` at its end.
    pub(super) path: &'s str,
    pub(super) rows: (usize, usize),
    /// The fields of its rows: their paths within a row, such as `.user.nickname`.
    pub(super) fields: Vec<(&'s str, &'s Place)>,
}

impl Shape {
    /// Takes another body in.
    pub(super) fn add(&mut self, body: &Value) {
        self.walk(body, String::new(), 0);
    }

    fn walk(&mut self, value: &Value, path: String, depth: usize) {
        let Some(place) = self.place(&path) else { return };
        match value {
            Value::Object(fields) if is_keyed(fields) => {
                place.note_rows("object", fields.len());
                let rows = fields.values();
                self.rows(rows, &path, depth);
            }
            Value::Object(fields) => {
                place.types.insert("object");
                if depth < DEPTH_MAX {
                    for (name, value) in fields {
                        self.walk(value, format!("{path}{}", step(name)), depth + 1);
                    }
                }
            }
            Value::Array(rows) => {
                place.note_rows("array", rows.len());
                self.rows(rows.iter(), &path, depth);
            }
            Value::String(text) => {
                place.types.insert("text");
                place.note(text);
                if let Some(inner) = json_within(text).filter(|_| depth < DEPTH_MAX) {
                    self.walk(&inner, format!("{path}|fromjson|"), depth + 1);
                }
            }
            Value::Number(number) => {
                place.types.insert("number");
                place.note(&number.to_string());
                place.note_number(number.to_string());
            }
            Value::Bool(flag) => {
                place.types.insert("boolean");
                place.note(if *flag { "true" } else { "false" });
            }
            Value::Null => drop(place.types.insert("null")),
        }
    }

    fn rows<'v>(&mut self, rows: impl Iterator<Item = &'v Value>, path: &str, depth: usize) {
        if depth < DEPTH_MAX {
            for row in rows.take(ROWS_MAX) {
                self.walk(row, format!("{path}[]"), depth + 1);
            }
        }
    }

    fn place(&mut self, path: &str) -> Option<&mut Place> {
        if !self.places.contains_key(path) {
            if self.places.len() >= PATHS_MAX {
                return None;
            }
            self.order.push(path.to_owned());
        }
        Some(self.places.entry(path.to_owned()).or_default())
    }

    /// Takes in what another one has.
    pub(super) fn take_in(&mut self, other: &Self) {
        for path in &other.order {
            let Some(place) = self.place(path) else { return };
            let theirs = &other.places[path];
            place.types.extend(&theirs.types);
            if let Some((fewest, most)) = theirs.rows {
                let ours = place.rows.unwrap_or((fewest, most));
                place.rows = Some((ours.0.min(fewest), ours.1.max(most)));
            }
            if let Some(sample) = &theirs.sample {
                place.note(sample);
            }
            theirs.numbers.iter().cloned().for_each(|number| place.note_number(number));
        }
    }

    /// Every path, in the order in which they were found.
    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        self.order.iter().map(String::as_str)
    }

    pub(super) fn has(&self, path: &str) -> bool {
        self.places.contains_key(path)
    }

    /// The arrays whose rows are objects, in the order in which they were found.
    pub(super) fn tables(&self) -> Vec<Table<'_>> {
        let mut tables = Vec::new();
        for path in self.order.iter().filter(|path| path.ends_with("[]")) {
            let holder = &path[..path.len() - 2];
            let rows = self.places.get(holder).and_then(|place| place.rows);
            let (Some(rows), true) = (rows, self.places[path].types.contains("object")) else { continue };
            let within = |field: &'_ String| field.strip_prefix(path.as_str()).is_some_and(is_field);
            let fields: Vec<_> = self
                .order
                .iter()
                .filter(|field| within(field))
                .map(|field| (&field[path.len()..], &self.places[field]))
                .collect();
            if !fields.is_empty() {
                tables.push(Table { path, rows, fields });
            }
        }
        tables
    }

    /// All arrays, whatever their rows are, with the fewest and the most of them.
    pub(super) fn arrays(&self) -> impl Iterator<Item = (&str, (usize, usize))> {
        self.order.iter().filter_map(|path| Some((path.as_str(), self.places[path].rows?)))
    }

    /// The fields of the body itself, outside of every array.
    pub(super) fn top(&self) -> impl Iterator<Item = (&str, &Place)> {
        self.order.iter().filter(|path| is_field(path)).map(|path| (path.as_str(), &self.places[path]))
    }
}

impl Place {
    fn note_rows(&mut self, kind: &'static str, rows: usize) {
        self.types.insert(kind);
        let (fewest, most) = self.rows.unwrap_or((rows, rows));
        self.rows = Some((fewest.min(rows), most.max(rows)));
    }

    /// The first value that says something is kept.
    fn note(&mut self, text: &str) {
        let says_nothing = |text: &str| matches!(text, "" | "0" | "false");
        if self.sample.as_deref().is_none_or(says_nothing) {
            self.sample = Some(shown(text));
        }
    }

    fn note_number(&mut self, number: String) {
        if self.numbers.len() < NUMBERS_MAX {
            self.numbers.insert(number);
        }
    }

    /// The types for people.
    pub(super) fn type_names(&self) -> String {
        self.types.iter().copied().collect::<Vec<_>>().join(" or ")
    }
}

/// A path within a row that leads to a value that is no row of another array.
fn is_field(path: &str) -> bool {
    !path.is_empty() && !path.contains("[]")
}

/// A step to a field, as jq writes it.
fn step(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let is_plain = name.bytes().all(plain) && name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
    if is_plain { format!(".{name}") } else { format!(".{}", Value::from(name)) }
}

/// Whether an object's keys are ids rather than names: jq's `[]` goes through its values all the same.
fn is_keyed(fields: &serde_json::Map<String, Value>) -> bool {
    !fields.is_empty() && fields.keys().all(|key| super::gather::is_variable(key))
}

fn json_within(text: &str) -> Option<Value> {
    text.trim_start().starts_with(['{', '[']).then(|| serde_json::from_str(text).ok()).flatten()
}

/// A value for people: short, on one line, without an address of electronic mail.
fn shown(text: &str) -> String {
    let is_mail =
        |word: &str| word.split_once('@').is_some_and(|(name, host)| !name.is_empty() && host.contains('.'));
    let mut shown = String::new();
    for (count, word) in text.split_whitespace().take(SAMPLE_CHARS_MAX).enumerate() {
        if count > 0 {
            shown.push(' ');
        }
        shown.push_str(if is_mail(word) { "[mail]" } else { word });
    }
    shown.retain(|letter| !letter.is_control());
    match shown.char_indices().nth(SAMPLE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &shown[..end]),
        None => shown,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn arrays_fields_and_json_within_json_are_found() {
        let mut shape = Shape::default();
        shape.add(&json!({ "data": { "list": [
            { "id": 7_351_234_567_890_123_456_i64, "user": { "nick name": "Ann" }, "content": "{\"text\":\"hi\"}", "tags": ["a"] },
            { "id": 0, "user": null, "mail": "write to ann@a.example now" },
        ] }, "by_id": { "7351234567": { "n": 1 }, "7351234568": { "n": 2 } } }));
        shape.add(&json!({ "data": { "list": [] }, "has_more": true }));
        let tables = shape.tables();
        let paths: Vec<_> = tables.iter().map(|table| (table.path, table.rows)).collect();
        assert_eq!(paths, [(".by_id[]", (2, 2)), (".data.list[]", (0, 2))]);
        let field = |wanted: &str| tables[1].fields.iter().find(|(path, _)| *path == wanted).unwrap().1;
        assert_eq!(field(".id").sample.as_deref(), Some("7351234567890123456"));
        assert_eq!(field(".user.\"nick name\"").type_names(), "text");
        assert_eq!(field(".content|fromjson|.text").sample.as_deref(), Some("hi"));
        assert_eq!(field(".mail").sample.as_deref(), Some("write to [mail] now"));
        assert_eq!(field(".user").type_names(), "null or object");
        let arrays: Vec<_> = shape.arrays().map(|(path, _)| path).collect();
        assert_eq!(arrays, [".by_id", ".data.list", ".data.list[].tags"]);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let wide: serde_json::Map<_, _> =
            (0..2_000).map(|n| (format!("field{n}x"), json!("x".repeat(500)))).collect();
        let mut deep = json!(1);
        for _ in 0..100 {
            deep = json!([deep]);
        }
        let mut shape = Shape::default();
        shape.add(&deep);
        shape.add(&wide.into());
        assert!(shape.places.len() <= PATHS_MAX && shape.order.len() == shape.places.len());
        assert!(shape.places.values().flat_map(|place| &place.sample).all(|text| text.chars().count() < 60));
    }
}
