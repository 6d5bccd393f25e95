//! Writes what a fixture gave into it: its `expected` alone, every other byte stays as it is.

use std::fs;
use std::io;
use std::path::Path;

use serde::ser::{SerializeMap, SerializeStruct};
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::fixture::{Expected, Loaded, Outcome};

/// The fixture's text with what it gave.
pub(super) fn rewritten(loaded: &Loaded, outcome: &Outcome) -> String {
    let given = Given { outcome, before: loaded.expected.as_ref() };
    // Strings, numbers and lists of them: there is nothing in it that JSON cannot say.
    let pretty = serde_json::to_string_pretty(&given).unwrap_or_default().replace('\n', "\n  ");
    let text = &loaded.text;
    match &loaded.expected_at {
        Some(at) => format!("{}{pretty}{}", &text[..at.start], &text[at.end..]),
        None => {
            let end = text.rfind('}').unwrap_or(text.len());
            let (before, after) = (text[..end].trim_end(), &text[end..]);
            format!("{before},\n  \"expected\": {pretty}\n{after}")
        }
    }
}

/// Puts a file in another's place, whole or not at all.
pub(super) fn replace(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("json.new");
    fs::write(&new, text).and_then(|()| fs::rename(&new, path)).inspect_err(|_| {
        // What is left of the attempt; the error before counts.
        let _ = fs::remove_file(&new);
    })
}

struct Given<'a> {
    outcome: &'a Outcome,
    before: Option<&'a Expected>,
}

impl Given<'_> {
    /// A part of a reason that somebody chose stays, as long as it holds.
    fn reason(&self, row: usize, reason: &str) -> String {
        let known = self.before.iter().flat_map(|before| &before.refused);
        let kept =
            known.filter(|refusal| refusal.row == row).find(|refusal| reason.contains(&refusal.reason));
        kept.map_or(reason, |refusal| &refusal.reason).to_owned()
    }

    fn error(&self) -> Option<&str> {
        let error = self.outcome.error.as_deref()?;
        let kept = self.before.and_then(|before| before.error.as_deref());
        Some(kept.filter(|kept| error.contains(kept)).unwrap_or(error))
    }
}

impl Serialize for Given<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let outcome = self.outcome;
        let rows = |values: &'_ [Value]| values.iter().cloned().map(KindFirst).collect::<Vec<_>>();
        let refusal =
            |row: usize, reason: &str| serde_json::json!({"row": row, "reason": self.reason(row, reason)});
        let refused: Vec<_> =
            outcome.refused.iter().map(|refused| refusal(refused.row, &refused.reason)).collect();
        let mut given = serializer.serialize_struct("expected", 6)?;
        given.serialize_field("records", &rows(&outcome.records))?;
        if !outcome.complete.is_empty() {
            given.serialize_field("complete", &rows(&outcome.complete))?;
        }
        given.serialize_field("refused", &refused)?;
        if outcome.unknown_times > 0 {
            given.serialize_field("unknown_times", &outcome.unknown_times)?;
        }
        if outcome.cut > 0 {
            given.serialize_field("cut", &outcome.cut)?;
        }
        if let Some(error) = self.error() {
            given.serialize_field("error", error)?;
        }
        given.end()
    }
}

/// A record with what it is before everything else, then its fields by name.
pub(super) struct KindFirst(pub(super) Value);

impl Serialize for KindFirst {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Value::Object(fields) = &self.0 else { return self.0.serialize(serializer) };
        let mut map = serializer.serialize_map(Some(fields.len()))?;
        let (kind, others): (Vec<_>, Vec<_>) = fields.iter().partition(|(name, _)| *name == "kind");
        for (name, value) in kind.into_iter().chain(others) {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}
