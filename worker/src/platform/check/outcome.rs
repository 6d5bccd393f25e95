//! What a HAR gave, as programs read it: what each rule took, and what nobody took.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::groups::Group;

/// The most different reasons that are told of one request.
const REASONS_MAX: usize = 20;

/// What became of a HAR file.
#[derive(Debug, Default, Serialize)]
pub struct HarReport {
    /// The platform's name.
    pub platform: String,
    /// The account for which was mapped.
    pub account: String,
    /// Entries of the file.
    pub entries: usize,
    /// Bytes of the file that were read.
    pub bytes: u64,
    /// How many records of each kind all rules gave.
    pub records: BTreeMap<String, usize>,
    /// What rules took, in the file's order: one for each request and rule.
    pub rows: Vec<HarRow>,
    /// Rows beyond the bound of the list; they count everywhere else.
    pub rows_left_out: usize,
    /// Records and refused rows beyond the bound of what is listed one by one.
    pub not_listed: usize,
    /// Requests that no rule took.
    pub not_taken: Vec<Group>,
    /// Requests that no rule took, beyond the bound of that list.
    pub not_taken_left_out: usize,
    /// Pictures, fonts, styles and scripts that no rule took.
    pub static_files: usize,
    /// Each rule.
    pub rules: Vec<RuleCount>,
    /// What keeps the result from being what a worker would give.
    pub warnings: Vec<String>,
    /// Why the rest of the file was not read.
    pub cut_short: Option<String>,
}

impl HarReport {
    /// Whether everything that rules took was mapped, to the last row and the file's end.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.cut_short.is_none() && self.rules.iter().all(|rule| rule.failed == 0 && rule.refused == 0)
    }
}

/// What one rule made of one request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct HarRow {
    /// The request's place in the file, from 1 on.
    pub entry: usize,
    /// Its host and path, without the query, which may hold secrets.
    pub address: String,
    /// The rule's name.
    pub rule: String,
    /// The answer's status; 0 if there was none.
    pub status: u16,
    /// The bodies: one, or the frames or events that were pushed.
    pub bodies: usize,
    /// Their bytes together.
    pub bytes: usize,
    /// How many records of each kind.
    pub records: BTreeMap<String, usize>,
    /// How many complete lists.
    pub complete: usize,
    /// How many rows were refused for each reason.
    pub refused: BTreeMap<String, usize>,
    /// What the filter said on the first row on which it failed, by the same reasons: with the row's number.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub first_refused: BTreeMap<String, String>,
    /// Where they are asked for: the records, then each refused row as `{"refused": reason, "row": number}`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<Value>,
    /// How many bodies, or the rest of them, were not read for each reason.
    pub errors: BTreeMap<String, usize>,
    /// Times that could not be told.
    pub unknown_times: usize,
    /// Texts and lists that were cut.
    pub cut: usize,
}

/// What one rule took of all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RuleCount {
    /// The rule's name.
    pub rule: String,
    /// Bodies that it took.
    pub bodies: usize,
    /// Records that they gave.
    pub records: usize,
    /// Rows that were refused.
    pub refused: usize,
    /// Bodies that were not read, or not to their end.
    pub failed: usize,
    /// Where it took none: what came nearest.
    pub hint: Option<String>,
}

/// Counts a reason; beyond a bound they are counted together.
pub(super) fn count(reasons: &mut BTreeMap<String, usize>, reason: &str) {
    let is_full = reasons.len() >= REASONS_MAX && !reasons.contains_key(reason);
    let reason = if is_full { "other reasons" } else { reason };
    *reasons.entry(reason.to_owned()).or_default() += 1;
}
