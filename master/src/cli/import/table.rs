//! A CSV file of accounts to rows, strictly: every line that is not as it must be is named, and why.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use snapfleet_protocol::AccountId;

/// What a spreadsheet program writes at the beginning of a file in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// The most accounts of a file.
pub(super) const ROWS_MAX: usize = 100_000;

/// A line that says an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// The line of the file, from 1.
    pub(super) line: u64,
    pub(super) id: AccountId,
    pub(super) interval_s: Option<u64>,
    pub(super) paused: Option<bool>,
    /// Of the file's columns; `None` where the cell is empty.
    pub(super) labels: BTreeMap<String, Option<String>>,
    pub(super) settings: BTreeMap<String, Option<String>>,
}

/// A line that does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct BadLine {
    /// The line of the file, from 1.
    pub(super) line: u64,
    /// What is wrong with it.
    pub(super) error: String,
}

/// Counts lines. The reader's own count is one behind after `\r\n`, and does not see empty lines before a record.
struct Lines<'a> {
    bytes: &'a [u8],
    counted: usize,
    line: u64,
}

impl Lines<'_> {
    /// The line of the record that the reader began to look for at `start`; to be asked in the file's order.
    fn at(&mut self, start: usize) -> u64 {
        while let Some(byte) = self.bytes.get(self.counted) {
            let ends = matches!(byte, b'\r' | b'\n');
            if self.counted >= start && !ends {
                break;
            }
            self.counted += 1;
            let pair = *byte == b'\r' && self.bytes.get(self.counted) == Some(&b'\n');
            self.line += u64::from(ends && !pair);
        }
        self.line
    }
}

enum Column {
    Id,
    Interval,
    Paused,
    Label(String),
    Setting(String),
}

/// Reads a whole file; `Err` where its first line is not a header of ours.
pub(super) fn read(bytes: &[u8]) -> Result<(Vec<Row>, Vec<BadLine>), String> {
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(bytes);
    let mut records = reader.byte_records();
    let header = match records.next() {
        Some(Ok(header)) => header,
        Some(Err(error)) => return Err(format!("its first line cannot be read: {error}")),
        None => return Err("it is empty: its first line must name the columns, id among them".to_owned()),
    };
    let columns = columns(&header)?;
    let (mut rows, mut bad): (Vec<Row>, Vec<BadLine>) = (Vec::new(), Vec::new());
    let mut seen: HashMap<AccountId, u64> = HashMap::new();
    let mut lines = Lines { bytes, counted: 0, line: 1 };
    for record in records {
        let record = record.map_err(|error| format!("it cannot be read: {error}"))?;
        let start = record.position().map_or(0, csv::Position::byte);
        let line = lines.at(usize::try_from(start).unwrap_or(usize::MAX));
        if rows.len() + bad.len() == ROWS_MAX {
            return Err(format!("it has more than {ROWS_MAX} accounts: split it"));
        }
        let read = row(line, &columns, &record).and_then(|row| match seen.insert(row.id.clone(), line) {
            Some(first) => Err(format!("account {} is on line {first} already", row.id)),
            None => Ok(row),
        });
        match read {
            Ok(row) => rows.push(row),
            Err(error) => bad.push(BadLine { line, error }),
        }
    }
    Ok((rows, bad))
}

fn columns(header: &csv::ByteRecord) -> Result<Vec<Column>, String> {
    if header.iter().any(|name| name.trim_ascii().contains(&b'\n')) {
        return Err("a column's name goes on over several lines: is a quote not closed?".to_owned());
    }
    let mut columns = Vec::new();
    let mut names: Vec<&str> = Vec::new();
    for name in header {
        let name =
            std::str::from_utf8(name).map_err(|_| "its first line is not UTF-8 text".to_owned())?.trim();
        if names.contains(&name) {
            return Err(format!("column {name:?} is there twice"));
        }
        names.push(name);
        columns.push(match name.split_once('.') {
            None if name == "id" => Column::Id,
            None if name == "interval_s" => Column::Interval,
            None if name == "paused" => Column::Paused,
            Some(("label", name)) => Column::Label(name.to_owned()),
            Some(("setting", name)) => Column::Setting(name.to_owned()),
            _ => {
                let shown: String = name.chars().take(80).collect();
                return Err(format!(
                    "column {shown:?} is not known: use id, interval_s, paused, label.<name> and setting.<name>"
                ));
            }
        });
    }
    if !columns.iter().any(|column| matches!(column, Column::Id)) {
        return Err("it has no column id: its first line must name the columns".to_owned());
    }
    Ok(columns)
}

fn row(line: u64, columns: &[Column], record: &csv::ByteRecord) -> Result<Row, String> {
    // No cell may hold one. It is the first thing to say: everything up to the next quote is in that cell.
    if record.iter().any(|cell| cell.trim_ascii().contains(&b'\n')) {
        return Err("one of its cells goes on over several lines: is a quote not closed?".to_owned());
    }
    if record.len() != columns.len() {
        return Err(format!("it has {} columns, and the first line has {}", record.len(), columns.len()));
    }
    let (mut id, mut interval_s, mut paused) = (None, None, None);
    let (mut labels, mut settings) = (BTreeMap::new(), BTreeMap::new());
    for (column, cell) in columns.iter().zip(record) {
        let cell = std::str::from_utf8(cell).map_err(|_| "it is not UTF-8 text".to_owned())?.trim();
        let given = (!cell.is_empty()).then(|| cell.to_owned());
        match column {
            Column::Id => id = Some(AccountId::parse(cell).map_err(|error| error.to_string())?),
            Column::Interval => {
                let number = given.map(|text| {
                    let shown: String = text.chars().take(80).collect();
                    text.parse().map_err(|_| format!("interval_s {shown:?} is not a number of seconds"))
                });
                interval_s = number.transpose()?;
            }
            Column::Paused => paused = given.map(|text| truth(&text)).transpose()?,
            Column::Label(name) => drop(labels.insert(name.clone(), given)),
            Column::Setting(name) => drop(settings.insert(name.clone(), given)),
        }
    }
    let id = id.ok_or_else(|| "it has no id".to_owned())?;
    Ok(Row { line, id, interval_s, paused, labels, settings })
}

fn truth(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "1" => Ok(true),
        "false" | "no" | "0" => Ok(false),
        _ => {
            let shown: String = text.chars().take(80).collect();
            Err(format!("paused {shown:?} is not valid: use true or false"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_line_by_line_and_bad_lines_are_named() {
        let file = "\u{feff}id, interval_s,paused,label.region,setting.user\r\n\
            demo.a,60,true,eu,\"Smith, \"\"J\"\"\"\r\n\
            \r\n\
            demo.b,,,,\n\
            demo.b,,,,\n\
            demo..c,,,,\n\
            demo.d,soon,,,\n\
            demo.e,,perhaps,,\n\
            demo.f,1\n";
        let (rows, bad) = read(file.as_bytes()).unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0].interval_s, rows[0].paused), (Some(60), Some(true)));
        assert_eq!(rows[0].labels["region"].as_deref(), Some("eu"));
        assert_eq!(rows[0].settings["user"].as_deref(), Some("Smith, \"J\""));
        assert_eq!((rows[1].interval_s, rows[1].settings["user"].as_deref()), (None, None));
        let lines: Vec<u64> = bad.iter().map(|bad| bad.line).collect();
        assert_eq!(lines, [5, 6, 7, 8, 9]);
        for (bad, named) in bad.iter().zip(["line 4", "demo..c", "\"soon\"", "\"perhaps\"", "2 columns"]) {
            assert!(bad.error.contains(named), "{bad:?}");
        }
    }

    #[test]
    fn a_quote_that_is_not_closed_is_named_where_it_opens() {
        let file = "id,setting.user\ndemo.a,x\ndemo.b,\"y\ndemo.c,z\ndemo.d,z\n";
        let (rows, bad) = read(file.as_bytes()).unwrap();
        assert_eq!((rows.len(), bad.len(), bad[0].line), (1, 1, 3));
        assert!(bad[0].error.contains("is a quote not closed?"), "{bad:?}");
        let error = read(b"id,\"setting.user\ndemo.a,x\n").unwrap_err();
        assert!(error.contains("is a quote not closed?"), "{error}");
    }

    #[test]
    fn a_header_that_is_not_ours_is_refused() {
        for (file, named) in [
            ("", "empty"),
            ("demo.a,60\n", "demo.a"),
            ("interval_s\n60\n", "no column id"),
            ("id,password\n", "password"),
            ("id,id\n", "twice"),
            ("id,\u{0}x\n", "not known"),
        ] {
            let error = read(file.as_bytes()).unwrap_err();
            assert!(error.contains(named), "{file:?}: {error}");
        }
        assert!(read(b"id,\xff\n").is_err());
        assert_eq!(read(b"id\n\xff\xfe\n").unwrap().1[0].line, 2);
    }
}
