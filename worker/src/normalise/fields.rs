//! The fields of one row, taken one by one, each under its own rule; what is left at the end is unknown.

use std::collections::{BTreeMap, HashSet};

use serde_json::value::RawValue;
use snapfleet_protocol::{Direction, Metrics, RecordId, UnixMs};

use super::wording::{nearest, shape, shown};
use super::{LIST_LEN_MAX, RAW_BYTES_MAX, TEXT_BYTES_MAX, URL_BYTES_MAX, time};

/// The longest type word (`content_type` and the like), in bytes.
const WORD_BYTES_MAX: usize = 64;
/// Whole numbers above this are not exact as floating point.
const FLOAT_EXACT_MAX: f64 = 9_007_199_254_740_992.0;
const CUT_MARK: &str = "…";

/// A row's fields that were not taken yet, and what was given up so far.
pub(super) struct Fields<'a> {
    left: BTreeMap<String, &'a RawValue>,
    known: Vec<&'static str>,
    now: UnixMs,
    unknown_times: usize,
    cut: usize,
}

impl<'a> Fields<'a> {
    pub(super) fn read(row: &'a str, now: UnixMs) -> Result<Self, String> {
        let row = row.trim();
        if !row.starts_with('{') {
            return Err(format!("row is {}, not an object", shape(row)));
        }
        let left = serde_json::from_str(row).map_err(|error| format!("row is not readable: {error}"))?;
        Ok(Self { left, known: Vec::new(), now, unknown_times: 0, cut: 0 })
    }

    /// The counts of unknown times and of cuts, once nothing is left.
    pub(super) fn finish(self, kind: &str) -> Result<(usize, usize), String> {
        match self.left.keys().next() {
            None => Ok((self.unknown_times, self.cut)),
            Some(key) => {
                let hint = match nearest(key, self.known.iter().copied()) {
                    Some(known) => format!(" (is it {known}?)"),
                    None => String::new(),
                };
                Err(format!("{kind} has no field {}{hint}", shown(key)))
            }
        }
    }

    fn take(&mut self, name: &'static str) -> Option<&'a str> {
        self.known.push(name);
        let value = self.left.remove(name)?.get();
        (value != "null").then_some(value)
    }

    pub(super) fn id(&mut self, name: &'static str) -> Result<Option<RecordId>, String> {
        let Some(value) = self.take(name) else { return Ok(None) };
        id(name, value).map(Some)
    }

    /// A list of ids, none of them unknown. Neither list nor ids may be missing.
    pub(super) fn ids(&mut self, name: &'static str, len_max: usize) -> Result<HashSet<RecordId>, String> {
        let Some(value) = self.take(name) else { return Err(format!("{name} is missing")) };
        let values: Vec<&RawValue> = serde_json::from_str(value)
            .map_err(|_| format!("{name} must be a list of ids, not {}", shape(value)))?;
        if values.len() > len_max {
            return Err(format!("{name} has more than {len_max}"));
        }
        values.into_iter().map(|value| id(name, value.get())).collect()
    }

    pub(super) fn required_id(&mut self, name: &'static str) -> Result<RecordId, String> {
        self.id(name)?.ok_or_else(|| format!("{name} is missing"))
    }

    pub(super) fn direction(&mut self) -> Result<Direction, String> {
        match self.word("direction")?.as_deref() {
            Some("inbound") => Ok(Direction::Inbound),
            Some("outbound") => Ok(Direction::Outbound),
            Some(other) => Err(format!("direction {} is not known: use inbound or outbound", shown(other))),
            None => Err("direction is missing: use inbound or outbound".into()),
        }
    }

    /// A short text of the platform's own vocabulary.
    pub(super) fn word(&mut self, name: &'static str) -> Result<Option<String>, String> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let word = string(name, value)?;
        if word.len() > WORD_BYTES_MAX {
            return Err(format!("{name} is longer than {WORD_BYTES_MAX} bytes"));
        }
        Ok(Some(word))
    }

    pub(super) fn text(&mut self, name: &'static str) -> Result<Option<String>, String> {
        self.cut_text(name, TEXT_BYTES_MAX)
    }

    /// What the platform wrote, kept for somebody to look at.
    pub(super) fn raw(&mut self, name: &'static str) -> Result<Option<String>, String> {
        self.cut_text(name, RAW_BYTES_MAX)
    }

    fn cut_text(&mut self, name: &'static str, bytes_max: usize) -> Result<Option<String>, String> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let mut text = string(name, value)?;
        if text.len() > bytes_max {
            text.truncate(text.floor_char_boundary(bytes_max - CUT_MARK.len()));
            text.push_str(CUT_MARK);
            self.cut += 1;
        }
        Ok(Some(text))
    }

    /// Figures by name; one that is null is unknown.
    pub(super) fn metrics(&mut self, name: &'static str) -> Result<Metrics, String> {
        let mut metrics = Metrics::default();
        let Some(value) = self.take(name) else { return Ok(metrics) };
        let figures: BTreeMap<String, &RawValue> = serde_json::from_str(value)
            .map_err(|_| format!("{name} must be an object of numbers, not {}", shape(value)))?;
        for (key, figure) in figures {
            let figure = figure.get();
            if figure == "null" {
                continue;
            }
            let number =
                figure.parse::<f64>().ok().filter(|_| shape(figure) == "a number").ok_or_else(|| {
                    format!("{name}.{} must be a number, not {}", shown(&key), shape(figure))
                })?;
            let place = shown(&key);
            metrics.insert(key, number).map_err(|error| format!("{name}.{place}: {error}"))?;
        }
        Ok(metrics)
    }

    pub(super) fn url(&mut self, name: &'static str) -> Result<Option<String>, String> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let url = string(name, value)?;
        let fits = url.len() <= URL_BYTES_MAX;
        self.cut += usize::from(!fits);
        Ok(fits.then_some(url))
    }

    pub(super) fn urls(&mut self, name: &'static str) -> Result<Vec<String>, String> {
        let Some(value) = self.take(name) else { return Ok(Vec::new()) };
        let mut urls: Vec<String> =
            serde_json::from_str(value).map_err(|_| format!("{name} must be a list of strings"))?;
        let before = urls.len();
        urls.retain(|url| url.len() <= URL_BYTES_MAX);
        self.cut += before - urls.len();
        if urls.len() > LIST_LEN_MAX {
            urls.truncate(LIST_LEN_MAX);
            self.cut += 1;
        }
        Ok(urls)
    }

    /// A whole number; one that a filter's arithmetic wrote as `3.0` is one too.
    pub(super) fn number(&mut self, name: &'static str) -> Result<Option<i64>, String> {
        let Some(value) = self.take(name) else { return Ok(None) };
        if let Ok(number) = value.parse::<i64>() {
            return Ok(Some(number));
        }
        match value.parse::<f64>() {
            Ok(number) if number.fract() == 0.0 && number.abs() <= FLOAT_EXACT_MAX && !is_integer(value) => {
                Ok(Some(number as i64))
            }
            Ok(_) => Err(format!("{name} must be a whole number of 64 bits")),
            Err(_) => Err(format!("{name} must be a whole number, not {}", shape(value))),
        }
    }

    pub(super) fn flag(&mut self, name: &'static str) -> Result<bool, String> {
        match self.take(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(value) => Err(format!("{name} must be true or false, not {}", shape(value))),
        }
    }

    /// Never refuses: a time that cannot be told is unknown, and the record is worth having without it.
    pub(super) fn time(&mut self, name: &'static str) -> Option<UnixMs> {
        let value = self.take(name)?;
        let time = time::parse(value, self.now);
        self.unknown_times += usize::from(time.is_none());
        time
    }
}

fn id(name: &str, value: &str) -> Result<RecordId, String> {
    let id = if value.starts_with('"') {
        RecordId::parse(&string(name, value)?)
    } else if is_integer(value) {
        RecordId::parse(value)
    } else {
        let what =
            if shape(value) == "a number" { "a number with a fraction or exponent" } else { shape(value) };
        return Err(format!("{name} must be a string or an integer, not {what}"));
    };
    id.map_err(|error| format!("{name}: {error}; write null where there is none"))
}

fn string(name: &str, value: &str) -> Result<String, String> {
    if !value.starts_with('"') {
        return Err(format!("{name} must be a string, not {}", shape(value)));
    }
    serde_json::from_str(value).map_err(|error| format!("{name} is not readable: {error}"))
}

fn is_integer(value: &str) -> bool {
    let digits = value.strip_prefix('-').unwrap_or(value);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}
