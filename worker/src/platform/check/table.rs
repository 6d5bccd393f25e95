//! What a HAR gave, for people.

use std::collections::BTreeMap;
use std::fmt;

use super::accept::KindFirst;
use super::outcome::{HarReport, HarRow};

const ADDRESS_CHARS_MAX: usize = 56;
/// Requests that no rule took, at most this many lines.
const GROUPS_SHOWN_MAX: usize = 60;

impl fmt::Display for HarReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rule_chars = self.rules.iter().map(|rule| rule.rule.chars().count()).max().unwrap_or(0).max(4);
        write_rows(f, self, rule_chars)?;
        write_not_taken(f, self)?;
        writeln!(f, "rules:")?;
        for rule in &self.rules {
            write!(f, "  {:rule_chars$}  ", rule.rule)?;
            match &rule.hint {
                Some(hint) => writeln!(f, "took nothing: {hint}")?,
                None => writeln!(
                    f,
                    "took {}, gave {}, {} refused, {} not read",
                    counted(rule.bodies, "body", "bodies"),
                    counted(rule.records, "record", "records"),
                    rule.refused,
                    rule.failed
                )?,
            }
        }
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        if let Some(reason) = &self.cut_short {
            writeln!(f, "the rest was not read: {reason}")?;
        }
        let sum = |of: fn(&super::RuleCount) -> usize| self.rules.iter().map(of).sum::<usize>();
        let records = if self.records.is_empty() { "no records".into() } else { kinds(&self.records) };
        write!(
            f,
            "platform {}: {} ({}), {} taken: {records}; {} refused, {} not read",
            self.platform,
            counted(self.entries, "request", "requests"),
            size(self.bytes),
            counted(sum(|rule| rule.bodies), "body", "bodies"),
            counted(sum(|rule| rule.refused), "row", "rows"),
            counted(sum(|rule| rule.failed), "body", "bodies"),
        )
    }
}

fn write_rows(f: &mut fmt::Formatter<'_>, report: &HarReport, rule_chars: usize) -> fmt::Result {
    if report.rows.is_empty() {
        return Ok(());
    }
    let (address, rule) = ("address", "rule");
    writeln!(f, "{address:ADDRESS_CHARS_MAX$}  {rule:rule_chars$}  status      size  records")?;
    for row in &report.rows {
        let address = shortened(&row.address, ADDRESS_CHARS_MAX);
        let (rule, status, size) = (&row.rule, row.status, size(row.bytes as u64));
        let given = given(row);
        writeln!(f, "{address:ADDRESS_CHARS_MAX$}  {rule:rule_chars$}  {status:6}  {size:>8}  {given}")?;
        for record in &row.rows {
            let line = serde_json::to_string(&KindFirst(record.clone())).unwrap_or_default();
            writeln!(f, "    {line}")?;
        }
        for (what, reasons) in [("refused", &row.refused), ("not read", &row.errors)] {
            for (reason, times) in reasons {
                write!(f, "    {what} {times}: {reason}")?;
                match row.first_refused.get(reason) {
                    Some(first) => writeln!(f, ", first {first}")?,
                    None => writeln!(f)?,
                }
            }
        }
    }
    if report.rows_left_out > 0 {
        writeln!(f, "and {} more", report.rows_left_out)?;
    }
    if report.not_listed > 0 {
        writeln!(f, "and {} records and refused rows that are not listed", report.not_listed)?;
    }
    writeln!(f)
}

fn given(row: &HarRow) -> String {
    let mut parts = Vec::new();
    if !row.records.is_empty() {
        parts.push(kinds(&row.records));
    }
    let counts = [
        (row.complete, "complete"),
        (row.unknown_times, "times unknown"),
        (row.cut, "cut"),
        (if row.bodies == 1 { 0 } else { row.bodies }, "pushed"),
    ];
    parts
        .extend(counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")));
    if parts.is_empty() { "-".into() } else { parts.join(", ") }
}

fn write_not_taken(f: &mut fmt::Formatter<'_>, report: &HarReport) -> fmt::Result {
    if report.not_taken.is_empty() && report.static_files == 0 {
        return Ok(());
    }
    writeln!(f, "no rule took:")?;
    for group in report.not_taken.iter().take(GROUPS_SHOWN_MAX) {
        let kind = if group.is_json { "JSON" } else { "" };
        let address = shortened(&group.address, 2 * ADDRESS_CHARS_MAX);
        write!(f, "{:6}  {kind:4}  {:6} {address}", group.requests, group.method)?;
        match &group.nearest {
            Some(nearest) => writeln!(f, "  ({nearest})")?,
            None => writeln!(f)?,
        }
    }
    let beyond = report.not_taken.iter().skip(GROUPS_SHOWN_MAX).map(|group| group.requests).sum::<usize>();
    for (requests, what) in [
        (beyond + report.not_taken_left_out, "requests more"),
        (report.static_files, "pictures, fonts, styles and scripts"),
    ] {
        if requests > 0 {
            writeln!(f, "{requests:6}  {what}")?;
        }
    }
    writeln!(f)
}

fn kinds(records: &BTreeMap<String, usize>) -> String {
    records.iter().map(|(kind, count)| format!("{count} {kind}")).collect::<Vec<_>>().join(", ")
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Without its middle, where it is longer.
fn shortened(text: &str, chars_max: usize) -> String {
    let chars: Vec<char> = text.chars().collect();
    if chars.len() <= chars_max {
        return text.to_owned();
    }
    let (before, after) = (chars_max / 2, chars_max - chars_max / 2 - 1);
    let part = |chars: &[char]| chars.iter().collect::<String>();
    format!("{}…{}", part(&chars[..before]), part(&chars[chars.len() - after..]))
}

fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match UNITS.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / *unit as f64),
        None => format!("{bytes} B"),
    }
}
